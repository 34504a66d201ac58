/* jinja_operators: arithmetic and what else stands between two values. */
#include "runtime/jinja_library.h"
#include "runtime/jinja_syntax.h"

#include <math.h>
#include <string.h>

static bool fail_operands(struct jinja *run, int operation, const struct jinja_value *a, const struct jinja_value *b) {
    const char plain[2] = { (char)operation, '\0' };
    const char *shown = operation == JINJA_POWER ? "**" : operation == JINJA_FLOOR ? "//" : plain;
    if (a->kind == JINJA_UNDEFINED || b->kind == JINJA_UNDEFINED)
        return jinja_fail_undefined(run, a->kind == JINJA_UNDEFINED ? a : b);
    if (operation == '+' && (a->kind == JINJA_STRING || jinja_is_sequence(a)))
        return jinja_fail(run, "can only concatenate %s (not \"%s\") to %s", jinja_kind_name(a), jinja_kind_name(b),
                          jinja_kind_name(a));
    return jinja_fail(run, "unsupported operand types for %s: '%s' and '%s'", shown, jinja_kind_name(a),
                      jinja_kind_name(b));
}

static bool concatenate(struct jinja *run, const struct jinja_value *a, const struct jinja_value *b,
                        struct jinja_value *out) {
    if (a->kind == JINJA_STRING) {
        size_t mark = jinja_mark(run);
        return jinja_put_string(run, a->string) && jinja_put_string(run, b->string) && jinja_capture(run, mark, out);
    }
    if (!jinja_list_new(run, a->kind, a->list->count + b->list->count, out))
        return false;
    for (size_t i = 0; i < a->list->count; i++)
        if (!jinja_list_push(run, out->list, a->list->items[i]))
            return false;
    for (size_t i = 0; i < b->list->count; i++)
        if (!jinja_list_push(run, out->list, b->list->items[i]))
            return false;
    return true;
}

/* 'ab' * 3 and [x] * 3 */
static bool repeat(struct jinja *run, const struct jinja_value *value, int64_t times, struct jinja_value *out) {
    size_t mark = jinja_mark(run);
    bool is_string = value->kind == JINJA_STRING;
    if (is_string ? value->string.size == 0 : value->list->count == 0)
        times = 0;
    if (!is_string && !jinja_list_new(run, value->kind, 0, out))
        return false;
    for (int64_t i = 0; i < times; i++) {
        if (!jinja_spend(run, 1))
            return false;
        if (is_string && !jinja_put_string(run, value->string))
            return false;
        for (size_t k = 0; !is_string && k < value->list->count; k++)
            if (!jinja_list_push(run, out->list, value->list->items[k]))
                return false;
    }
    return !is_string || jinja_capture(run, mark, out);
}

/* Division as Python has it: the quotient is rounded down, the remainder has b's sign. */
static bool divide_whole(struct jinja *run, int operation, int64_t a, int64_t b, struct jinja_value *out) {
    if (b == 0)
        return jinja_fail(run, "integer division or modulo by zero");
    if (b == -1) {
        int64_t negated;
        if (operation == '%')
            return *out = jinja_integer(0), true;
        if (__builtin_sub_overflow((int64_t)0, a, &negated))
            return jinja_fail(run, "a number is too large");
        return *out = jinja_integer(negated), true;
    }
    int64_t quotient = a / b, remainder = a % b;
    if (remainder != 0 && (remainder < 0) != (b < 0)) {
        quotient--;
        remainder += b;
    }
    *out = jinja_integer(operation == '%' ? remainder : quotient);
    return true;
}

static bool raise_whole(struct jinja *run, int64_t base, int64_t exponent, struct jinja_value *out) {
    int64_t result = 1;
    while (exponent > 0) {
        if ((exponent & 1) && __builtin_mul_overflow(result, base, &result))
            return jinja_fail(run, "a number is too large");
        exponent >>= 1;
        if (exponent && __builtin_mul_overflow(base, base, &base))
            return jinja_fail(run, "a number is too large");
    }
    *out = jinja_integer(result);
    return true;
}

static bool compute_whole(struct jinja *run, int operation, int64_t a, int64_t b, struct jinja_value *out) {
    int64_t result;
    bool is_large = false;
    switch (operation) {
    case '+': is_large = __builtin_add_overflow(a, b, &result); break;
    case '-': is_large = __builtin_sub_overflow(a, b, &result); break;
    case '*': is_large = __builtin_mul_overflow(a, b, &result); break;
    case JINJA_POWER: return raise_whole(run, a, b, out);
    default: return divide_whole(run, operation, a, b, out);
    }
    if (is_large)
        return jinja_fail(run, "a number is too large");
    *out = jinja_integer(result);
    return true;
}

static bool compute_real(struct jinja *run, int operation, double a, double b, struct jinja_value *out) {
    double result;
    if ((operation == '/' || operation == '%' || operation == JINJA_FLOOR) && b == 0)
        return jinja_fail(run, "division by zero");
    switch (operation) {
    case '+': result = a + b; break;
    case '-': result = a - b; break;
    case '*': result = a * b; break;
    case '/': result = a / b; break;
    case JINJA_POWER:
        result = pow(a, b);
        if (isnan(result) && !isnan(a) && !isnan(b))
            return jinja_fail(run, "a power is not a real number");
        break;
    default: {
        double remainder = fmod(a, b);
        if (remainder != 0 && (remainder < 0) != (b < 0))
            remainder += b;
        result = operation == '%' ? remainder : round((a - remainder) / b);
    }
    }
    *out = jinja_real(result);
    return true;
}

bool jinja_binary(struct jinja *run, int operation, const struct jinja_value *a, const struct jinja_value *b,
                  struct jinja_value *out) {
    if (!jinja_spend(run, 1))
        return false;
    if (jinja_is_number(a) && jinja_is_number(b)) {
        bool is_whole = jinja_is_whole(a) && jinja_is_whole(b) && operation != '/'
            && !(operation == JINJA_POWER && jinja_whole(b) < 0);
        return is_whole ? compute_whole(run, operation, jinja_whole(a), jinja_whole(b), out)
                        : compute_real(run, operation, jinja_number(a), jinja_number(b), out);
    }
    bool a_repeats = a->kind == JINJA_STRING || jinja_is_sequence(a);
    bool b_repeats = b->kind == JINJA_STRING || jinja_is_sequence(b);
    if (operation == '+' && a_repeats && a->kind == b->kind)
        return concatenate(run, a, b, out);
    if (operation == '*' && a_repeats && jinja_is_whole(b))
        return repeat(run, a, jinja_whole(b), out);
    if (operation == '*' && b_repeats && jinja_is_whole(a))
        return repeat(run, b, jinja_whole(a), out);
    if (operation == '%' && a->kind == JINJA_STRING)
        return jinja_format(run, a->string, b, out);
    return fail_operands(run, operation, a, b);
}
