/* Numbers between bounds, digit by digit. */
#include "runtime/json_schema_parts.h"

#include <math.h>
#include <string.h>

#define USUAL 999999999999999ll          /* 15 digits: exact in a double, too */
#define FARTHEST 999999999999999999ll    /* 18 digits: whole in 64 bits */
#define MOST_WITH_FRACTION 999999999ll   /* so that six digits more are exact */


/* The digits of numbers as long as `digits`, at least as large. */
static void digits_from(struct text *to, const char *digits) {
    size_t length = strlen(digits);
    if (!length)
        return;
    if (strspn(digits, "0") == length) {
        text_append_format(to, " [0-9]{%zu}", length);
        return;
    }
    text_append_format(to, " (\"%c\"", digits[0]);
    digits_from(to, digits + 1);
    if (digits[0] < '9')
        text_append_format(to, " | [%c-9] [0-9]{%zu}", digits[0] + 1, length - 1);
    text_append(to, ")");
}

static void digits_up_to(struct text *to, const char *digits) {
    size_t length = strlen(digits);
    if (!length)
        return;
    if (strspn(digits, "9") == length) {
        text_append_format(to, " [0-9]{%zu}", length);
        return;
    }
    text_append_format(to, " (\"%c\"", digits[0]);
    digits_up_to(to, digits + 1);
    if (digits[0] > '0')
        text_append_format(to, " | [0-%c] [0-9]{%zu}", digits[0] - 1, length - 1);
    text_append(to, ")");
}

/* Numbers of one length. */
static void write_length(struct text *to, const char *low, const char *high) {
    for (; *low && *low == *high; low++, high++)
        text_append_format(to, " \"%c\"", *low);
    if (!*low)
        return;
    text_append_format(to, " (\"%c\"", *low);
    digits_from(to, low + 1);
    if (*low + 1 < *high)
        text_append_format(to, " | [%c-%c] [0-9]{%zu}", *low + 1, *high - 1, strlen(low + 1));
    text_append_format(to, " | \"%c\"", *high);
    digits_up_to(to, high + 1);
    text_append(to, ")");
}

/* From low to high, both at least 0; nothing where there is none. */
static void write_range(struct text *to, long long low, long long high, const char *before, const char *after,
                        bool *is_first) {
    long long end = 9;
    for (long long from = low; from <= high; end = end * 10 + 9) {
        char low_digits[24], high_digits[24];
        if (from > end)
            continue;
        long long last = high < end ? high : end;
        snprintf(low_digits, sizeof low_digits, "%lld", from);
        snprintf(high_digits, sizeof high_digits, "%lld", last);
        text_append_format(to, "%s%s", *is_first ? "" : " | ", before);
        write_length(to, low_digits, high_digits);
        text_append(to, after);
        *is_first = false;
        from = last + 1;
    }
}

struct bound {
    bool is_given, is_exclusive;
    double value;
    long long whole;          /* the value, where it is one */
    bool is_whole;
};

static bool read_bound(struct schema_translator *translator, const json_t *schema, const char *key, bool is_exclusive,
                       bool is_lower, struct bound *bound) {
    const json_t *value = json_object_get(schema, key);
    if (!value)
        return true;
    if (!json_is_number(value))
        return schema_refuse(translator, "'%s' is no number", key);
    double number = json_number_value(value);
    if (!(fabs(number) <= 9e17))
        return schema_refuse(translator, "'%s' is too large", key);
    /* Of two lower bounds the higher counts; of two equal ones the exclusive one. */
    if (bound->is_given && ((is_lower ? number < bound->value : number > bound->value)
                            || (number == bound->value && bound->is_exclusive)))
        return true;
    *bound = (struct bound){ .is_given = true, .is_exclusive = is_exclusive, .value = number,
                             .is_whole = json_is_integer(value) || floor(number) == number };
    if (bound->is_whole)
        bound->whole = json_is_integer(value) ? json_integer_value(value) : (long long)number;
    return true;
}

bool schema_write_number(struct schema_translator *translator, const json_t *schema, bool is_integer,
                         struct text *to) {
    struct bound low = { 0 }, high = { 0 };
    const json_t *multiple = json_object_get(schema, "multipleOf");
    if (multiple && !(is_integer && json_number_value(multiple) == 1))
        return schema_unsupported(translator, "multipleOf");
    if (!read_bound(translator, schema, "minimum", false, true, &low)
        || !read_bound(translator, schema, "exclusiveMinimum", true, true, &low)
        || !read_bound(translator, schema, "maximum", false, false, &high)
        || !read_bound(translator, schema, "exclusiveMaximum", true, false, &high))
        return false;
    if (!low.is_given && !high.is_given) {
        text_append(to, is_integer ? " integer" : " number");
        return true;
    }
    /* The whole numbers between the bounds, and the bounds for n and n + 1 of a fraction. */
    long long from = low.is_whole ? low.whole : (long long)ceil(low.value), outer_from = from;
    long long until = high.is_whole ? high.whole : (long long)floor(high.value), outer_until = until;
    from += low.is_whole && low.is_exclusive;
    until -= high.is_whole && high.is_exclusive;
    if (!low.is_given)
        outer_from = from = until > -USUAL ? -USUAL : -FARTHEST;
    if (!high.is_given)
        outer_until = until = from < USUAL ? USUAL : FARTHEST;
    bool is_first = true;
    text_append(to, " (");
    if (from < 0)
        write_range(to, until < 0 ? -until : 1, -from, "\"-\"", "", &is_first);
    write_range(to, from > 0 ? from : 0, until, "", "", &is_first);
    if (!is_integer) {
        /* n + fraction lies between n and n + 1, and is neither */
        static const char fraction[] = " \".\" [0-9]{0,5} [1-9]";
        long long most = outer_until - 1, negative_most = -outer_from - 1;
        write_range(to, outer_from > 0 ? outer_from : 0, most < MOST_WITH_FRACTION ? most : MOST_WITH_FRACTION, "",
                    fraction, &is_first);
        write_range(to, outer_until < 0 ? -outer_until : 0,
                    negative_most < MOST_WITH_FRACTION ? negative_most : MOST_WITH_FRACTION, "\"-\"", fraction,
                    &is_first);
    }
    text_append(to, ")");
    return !is_first || schema_refuse(translator, "there is no number between its bounds that the grammar could write");
}
