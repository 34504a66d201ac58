/* jinja_tests: what stands after `is`. */
#include "runtime/jinja_library.h"
#include "runtime/jinja_syntax.h"

#include "runtime/unicode.h"

#define TEST(name) \
    static bool name(struct jinja *run, const struct jinja_call *call, struct jinja_value *out)

/* Tests that ask no more than of what kind the value is. */
#define KIND_TEST(name, condition) \
    TEST(name) { \
        const struct jinja_value *self = call->self; \
        (void)run; \
        *out = jinja_bool(condition); \
        return true; \
    }

KIND_TEST(is_defined, self->kind != JINJA_UNDEFINED)
KIND_TEST(is_undefined, self->kind == JINJA_UNDEFINED)
KIND_TEST(is_none, self->kind == JINJA_NONE)
KIND_TEST(is_boolean, self->kind == JINJA_BOOL)
KIND_TEST(is_true, self->kind == JINJA_BOOL && self->truth)
KIND_TEST(is_false, self->kind == JINJA_BOOL && !self->truth)
KIND_TEST(is_integer, self->kind == JINJA_INTEGER)
KIND_TEST(is_float, self->kind == JINJA_FLOAT)
KIND_TEST(is_number, jinja_is_number(self))
KIND_TEST(is_string, self->kind == JINJA_STRING)
KIND_TEST(is_mapping, self->kind == JINJA_DICT)
KIND_TEST(is_iterable, self->kind == JINJA_STRING || jinja_is_sequence(self) || self->kind == JINJA_DICT
                       || self->kind == JINJA_UNDEFINED || self->kind == JINJA_LOOP)
KIND_TEST(is_sequence, self->kind == JINJA_STRING || jinja_is_sequence(self) || self->kind == JINJA_DICT
                       || self->kind == JINJA_UNDEFINED)
KIND_TEST(is_callable, self->kind >= JINJA_MACRO || self->kind == JINJA_LOOP || self->kind == JINJA_UNDEFINED)
KIND_TEST(is_escaped, self->kind == JINJA_ABSENT)
KIND_TEST(is_filter, self->kind == JINJA_STRING && jinja_find_filter(self->string))
KIND_TEST(is_test, self->kind == JINJA_STRING && jinja_find_test(self->string))

static bool has_remainder(struct jinja *run, const struct jinja_value *value, const struct jinja_value *divisor,
                          int64_t remainder, struct jinja_value *out) {
    struct jinja_value found, wanted = jinja_integer(remainder);
    bool equal;
    if (value->kind == JINJA_STRING)
        return jinja_fail(run, "a string has no remainder");
    if (!jinja_binary(run, '%', value, divisor, &found) || !jinja_equal(run, &found, &wanted, &equal))
        return false;
    *out = jinja_bool(equal);
    return true;
}

TEST(is_odd) {
    struct jinja_value two = jinja_integer(2);
    return has_remainder(run, call->self, &two, 1, out);
}

TEST(is_even) {
    struct jinja_value two = jinja_integer(2);
    return has_remainder(run, call->self, &two, 0, out);
}

TEST(is_divisible) {
    return has_remainder(run, call->self, &call->given[0], 0, out);
}

TEST(is_equal) {
    bool equal;
    if (!jinja_equal(run, call->self, &call->given[0], &equal))
        return false;
    *out = jinja_bool(equal);
    return true;
}

TEST(is_different) {
    if (!is_equal(run, call, out))
        return false;
    out->truth = !out->truth;
    return true;
}

static bool compare(struct jinja *run, const struct jinja_call *call, const char *operation, int *order) {
    return jinja_compare(run, call->self, &call->given[0], operation, order);
}

TEST(is_less) {
    int order;
    bool good = compare(run, call, "<", &order);
    *out = jinja_bool(good && order < 0);
    return good;
}

TEST(is_at_most) {
    int order;
    bool good = compare(run, call, "<=", &order);
    *out = jinja_bool(good && order <= 0);
    return good;
}

TEST(is_greater) {
    int order;
    bool good = compare(run, call, ">", &order);
    *out = jinja_bool(good && order > 0);
    return good;
}

TEST(is_at_least) {
    int order;
    bool good = compare(run, call, ">=", &order);
    *out = jinja_bool(good && order >= 0);
    return good;
}

TEST(is_in) {
    bool contained;
    if (!jinja_contains(run, &call->given[0], call->self, &contained))
        return false;
    *out = jinja_bool(contained);
    return true;
}

/* The same one, not only an equal one; of numbers and strings equality decides. */
TEST(is_same) {
    const struct jinja_value *a = call->self, *b = &call->given[0];
    if (a->kind != b->kind)
        return *out = jinja_bool(false), true;
    if (jinja_is_sequence(a) || a->kind >= JINJA_DICT)
        return *out = jinja_bool(a->dict == b->dict), true;
    return is_equal(run, call, out);
}

/* Letters there are, and all of them are of that case. */
static bool has_case(struct jinja *run, const struct jinja_value *value, bool upper, struct jinja_value *out) {
    struct jinja_string text;
    bool is_cased = false, good = true;
    if (!jinja_to_string(run, value, &text) || !jinja_spend(run, text.size / 2))
        return false;
    for (size_t i = 0; i < text.size;) {
        struct utf8_unit unit = utf8_next(text.bytes + i, text.size - i);
        bool is_lower = unicode_upper(unit.codepoint) != unit.codepoint;
        bool is_upper = unicode_lower(unit.codepoint) != unit.codepoint;
        is_cased |= is_lower || is_upper;
        good &= upper ? !is_lower : !is_upper;
        i += unit.length;
    }
    *out = jinja_bool(is_cased && good);
    return true;
}

TEST(is_lower) {
    return has_case(run, call->self, false, out);
}

TEST(is_upper) {
    return has_case(run, call->self, true, out);
}

const struct jinja_builtin jinja_tests[] = {
    { "defined", "", is_defined }, { "undefined", "", is_undefined }, { "none", "", is_none },
    { "boolean", "", is_boolean }, { "true", "", is_true }, { "false", "", is_false },
    { "integer", "", is_integer }, { "float", "", is_float }, { "number", "", is_number },
    { "string", "", is_string }, { "mapping", "", is_mapping }, { "iterable", "", is_iterable },
    { "sequence", "", is_sequence }, { "callable", "", is_callable }, { "escaped", "", is_escaped },
    { "filter", "", is_filter }, { "test", "", is_test }, { "odd", "", is_odd }, { "even", "", is_even },
    { "divisibleby", "num", is_divisible }, { "equalto", "other", is_equal }, { "eq", "other", is_equal },
    { "==", "other", is_equal }, { "ne", "other", is_different }, { "!=", "other", is_different },
    { "lt", "other", is_less }, { "lessthan", "other", is_less }, { "<", "other", is_less },
    { "le", "other", is_at_most }, { "<=", "other", is_at_most }, { "gt", "other", is_greater },
    { "greaterthan", "other", is_greater }, { ">", "other", is_greater }, { "ge", "other", is_at_least },
    { ">=", "other", is_at_least }, { "in", "seq", is_in }, { "sameas", "other", is_same },
    { "lower", "", is_lower }, { "upper", "", is_upper }, { 0 },
};
