/* support_fuzz_tokenizer: what every tokenizer must do, whatever file it came from. */
#ifndef TESTS_SUPPORT_FUZZ_TOKENIZER_H
#define TESTS_SUPPORT_FUZZ_TOKENIZER_H

#include "runtime/tokenizer.h"

#include <stdlib.h>

#define REQUIRE(condition) do { if (!(condition)) abort(); } while (0)

/* Encodes and decodes a sample and the first of `bytes`; decoding as tokens arrive must
 * give what decoding at once gives. Aborts where that is not so. */
void fuzz_check_tokenizer(const struct tokenizer *tokenizer, const void *bytes, size_t size);

#endif
