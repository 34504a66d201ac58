/* size_text: amounts of memory as people write and read them. */
#ifndef PLANNER_SIZE_TEXT_H
#define PLANNER_SIZE_TEXT_H

#include "common/error.h"
#include "common/text.h"

#include <stdint.h>

struct size_value {
    uint64_t bytes;       /* 0 where is_percent */
    double percent;       /* of whatever the caller measures it against */
    bool is_percent;
    bool is_bare;         /* a number without a unit: bytes */
    bool was_bits;        /* a decimal unit with a small b: taken as bits; worth a warning */
};

/* Accelerate's spelling: "8GiB" "512 MiB" "1.5KiB" (powers of two), "3GB" "500MB"
 * "10KB" (powers of ten), upper or lower case; a decimal unit that ends in a
 * small 'b' counts bits ("3gb" = 375,000,000 bytes). Besides that TiB and TB, a plain
 * whole number of bytes, and "80%". ERROR_USAGE otherwise. */
bool size_parse(const char *text, struct size_value *value, struct error *err);

/* One word of an option, such as "gpu0=8GiB" of "--max-memory": its amount, after '=' where there is
 * one. What is probably not meant (bits, or 8 bytes) gets a line in `notes`. ERROR_USAGE names the
 * option. */
bool size_parse_limit(const char *option, const char *word, struct size_value *value, struct text *notes,
                      struct error *err);

/* "512 B", "61 MiB", "1.5 GiB", "7.12 GiB": three significant digits. */
void size_print(uint64_t bytes, char text[24]);

#endif
