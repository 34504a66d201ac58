#include "planner/size_text.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const struct {
    const char *name;
    double factor;
    bool is_decimal;
} size_units[] = {
    { "TiB", 1099511627776.0, false }, { "GiB", 1073741824.0, false },
    { "MiB", 1048576.0, false },       { "KiB", 1024.0, false },
    { "TB", 1e12, true },              { "GB", 1e9, true },
    { "MB", 1e6, true },               { "KB", 1e3, true },
};

static bool refuse(const char *text, struct error *err) {
    return error_set(err, ERROR_USAGE, "'%s' is no amount of memory; write for example 8GiB, 500MB, "
                     "a whole number of bytes or 80%%", text);
}

static bool plain_bytes(const char *text, const char *digits, uint64_t *bytes, struct error *err) {
    uint64_t total = 0;
    for (const char *c = digits; isdigit((unsigned char)*c); c++) {
        if (__builtin_mul_overflow(total, 10u, &total) ||
            __builtin_add_overflow(total, (uint64_t)(*c - '0'), &total))
            return refuse(text, err);
    }
    *bytes = total;
    return true;
}

bool size_parse(const char *text, struct size_value *value, struct error *err) {
    *value = (struct size_value){ 0 };
    const char *number = text;
    while (isspace((unsigned char)*number))
        number++;
    /* Only digits and one point: strtod alone would take "inf", "0x8" and "1e9". */
    size_t digits = strspn(number, "0123456789");
    size_t length = digits;
    if (number[length] == '.')
        length += 1 + strspn(number + length + 1, "0123456789");
    if (!digits || length > 32)
        return refuse(text, err);
    const char *unit = number + length;
    while (isspace((unsigned char)*unit))
        unit++;
    size_t unit_length = strlen(unit);
    while (unit_length && isspace((unsigned char)unit[unit_length - 1]))
        unit_length--;

    value->is_bare = !unit_length;
    if (!unit_length)
        return length == digits ? plain_bytes(text, number, &value->bytes, err) : refuse(text, err);
    double amount = strtod(number, NULL);
    if (unit_length == 1 && *unit == '%') {
        value->is_percent = true;
        value->percent = amount;
        return amount <= 100 || refuse(text, err);
    }
    for (size_t i = 0; i < sizeof size_units / sizeof *size_units; i++) {
        if (strlen(size_units[i].name) != unit_length ||
            strncasecmp(unit, size_units[i].name, unit_length) != 0)
            continue;
        double bytes = amount * size_units[i].factor;
        value->was_bits = size_units[i].is_decimal && unit[unit_length - 1] == 'b';
        if (value->was_bits)
            bytes = floor(bytes) / 8;
        if (!(bytes < 9.2e18))
            return refuse(text, err);
        value->bytes = (uint64_t)bytes;
        return true;
    }
    return refuse(text, err);
}

bool size_parse_limit(const char *option, const char *word, struct size_value *value, struct text *notes,
                      struct error *err) {
    const char *equals = strchr(word, '=');
    const char *amount = equals ? equals + 1 : word;
    if (!size_parse(amount, value, err))
        return error_prefix(err, "%s", option);
    if (value->was_bits)
        text_append_format(notes, "%s: '%s' counts bits, as Accelerate reads it; write GB, MB or KB for bytes\n", option,
                           amount);
    if (value->is_bare && value->bytes && value->bytes < (1u << 20)) {
        const unsigned long long bytes = value->bytes;
        const char *unit = bytes < 128 ? "GiB" : "MiB";
        text_append_format(notes, "%s: '%s' is %llu bytes; for %llu %s write %llu%s\n", option, word, bytes, bytes, unit,
                           bytes, unit);
    }
    return true;
}

void size_print(uint64_t bytes, char text[24]) {
    static const char *const names[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
    double amount = (double)bytes;
    size_t step = 0;
    /* 1023.6 would be printed as 1024: go to the next unit before that. */
    while (amount >= 1023.5 && step + 1 < sizeof names / sizeof *names) {
        amount /= 1024;
        step++;
    }
    int decimals = step == 0 || amount >= 99.95 ? 0 : amount >= 9.995 ? 1 : 2;
    char number[16];
    snprintf(number, sizeof number, "%.*f", decimals, amount);
    if (decimals) {
        size_t length = strlen(number);
        while (number[length - 1] == '0')
            number[--length] = '\0';
        if (number[length - 1] == '.')
            number[--length] = '\0';
    }
    snprintf(text, 24, "%s %s", number, names[step]);
}
