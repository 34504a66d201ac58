/* jinja_print: values as text, as Python's str(), repr() and json.dumps() write them. */
#include "runtime/jinja_value.h"

#include "runtime/unicode.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool put(struct jinja *run, const char *text) {
    return jinja_put_bytes(run, text, strlen(text));
}

/* The fewest digits that give the same number again; an exponent only for large and small ones. */
static bool put_real(struct jinja *run, double real) {
    char digits[32], shown[64];
    if (isnan(real))
        return put(run, "nan");
    if (isinf(real))
        return put(run, real < 0 ? "-inf" : "inf");
    int precision = 0;
    do
        snprintf(digits, sizeof digits, "%.*e", precision, real);
    while (strtod(digits, NULL) != real && ++precision < 17);
    int exponent = atoi(strchr(digits, 'e') + 1);
    if (exponent < -4 || exponent >= 16)
        return put(run, digits);
    int decimals = precision - exponent;
    snprintf(shown, sizeof shown, "%.*f", decimals > 1 ? decimals : 1, real);
    return put(run, shown);
}

static bool put_escaped_code(struct jinja *run, uint32_t code) {
    char shown[16];
    snprintf(shown, sizeof shown, code < 0x100 ? "\\x%02x" : code < 0x10000 ? "\\u%04x" : "\\U%08x", (unsigned)code);
    return put(run, shown);
}

static bool put_quoted(struct jinja *run, struct jinja_string text) {
    bool has_single = text.size && memchr(text.bytes, '\'', text.size);
    bool has_double = text.size && memchr(text.bytes, '"', text.size);
    char quote = has_single && !has_double ? '"' : '\'';
    if (!jinja_put_bytes(run, &quote, 1))
        return false;
    for (size_t i = 0; i < text.size;) {
        struct utf8_unit unit = utf8_next(text.bytes + i, text.size - i);
        char c = text.bytes[i];
        bool good;
        if (c == quote || c == '\\')
            good = jinja_put_bytes(run, "\\", 1) && jinja_put_bytes(run, &c, 1);
        else if (c == '\n' || c == '\r' || c == '\t')
            good = put(run, c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t");
        else if (!unicode_is_printable(unit.codepoint))
            good = put_escaped_code(run, unit.codepoint);
        else
            good = jinja_put_bytes(run, text.bytes + i, unit.length);
        if (!good)
            return false;
        i += unit.length;
    }
    return jinja_put_bytes(run, &quote, 1);
}

static bool put_list(struct jinja *run, const struct jinja_value *value) {
    const struct jinja_list *list = value->list;
    bool is_tuple = value->kind == JINJA_TUPLE;
    if (!put(run, is_tuple ? "(" : "["))
        return false;
    for (size_t i = 0; i < list->count; i++)
        if ((i && !put(run, ", ")) || !jinja_put_repr(run, &list->items[i]))
            return false;
    return put(run, is_tuple && list->count == 1 ? ",)" : is_tuple ? ")" : "]");
}

static bool put_dict(struct jinja *run, const struct jinja_dict *dict) {
    if (!put(run, "{"))
        return false;
    for (size_t i = 0; i < dict->count; i++)
        if ((i && !put(run, ", ")) || !jinja_put_repr(run, &dict->entries[i].key) || !put(run, ": ")
            || !jinja_put_repr(run, &dict->entries[i].value))
            return false;
    return put(run, "}");
}

static bool put_plain(struct jinja *run, const struct jinja_value *value) {
    char shown[32];
    switch (value->kind) {
    case JINJA_ABSENT: return true;
    case JINJA_UNDEFINED: return put(run, "Undefined");
    case JINJA_NONE: return put(run, "None");
    case JINJA_BOOL: return put(run, value->truth ? "True" : "False");
    case JINJA_INTEGER:
        snprintf(shown, sizeof shown, "%lld", (long long)value->integer);
        return put(run, shown);
    case JINJA_FLOAT: return put_real(run, value->real);
    case JINJA_STRING: return put_quoted(run, value->string);
    case JINJA_LIST: case JINJA_TUPLE: return put_list(run, value);
    case JINJA_DICT: return put_dict(run, value->dict);
    case JINJA_NAMESPACE: return put(run, "<Namespace ") && put_dict(run, value->dict) && put(run, ">");
    default: return put(run, "<") && put(run, jinja_kind_name(value)) && put(run, ">");
    }
}

bool jinja_put_repr(struct jinja *run, const struct jinja_value *value) {
    bool good = jinja_enter(run) && jinja_spend(run, 1) && put_plain(run, value);
    jinja_leave(run);
    return good;
}

/* Nothing is printed for what is undefined. Of a special token that would be a silent hole in
 * the prompt; bos_token and eos_token are known to be missing where they are. */
static bool check_undefined(struct jinja *run, const struct jinja_value *value) {
    static const char *const tokens[] = { "unk_token", "pad_token", "sep_token", "cls_token", "mask_token" };
    const struct jinja_missing *missing = value->missing;
    if (!missing || missing->owner != JINJA_ABSENT || missing->key.kind != JINJA_STRING)
        return true;
    struct jinja_string name = missing->key.string;
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++)
        if (jinja_string_is(name, tokens[i]))
            return jinja_unsupported(run, "the special token", name);
    return true;
}

bool jinja_put(struct jinja *run, const struct jinja_value *value) {
    if (value->kind == JINJA_STRING)
        return jinja_put_string(run, value->string);
    return value->kind == JINJA_UNDEFINED ? check_undefined(run, value) : jinja_put_repr(run, value);
}

bool jinja_to_string(struct jinja *run, const struct jinja_value *value, struct jinja_string *out) {
    struct jinja_value text = *value;
    size_t mark = jinja_mark(run);
    if (value->kind != JINJA_STRING && (!jinja_put(run, value) || !jinja_capture(run, mark, &text)))
        return false;
    *out = text.string;
    return true;
}

static bool put_json_code(struct jinja *run, uint32_t code) {
    char shown[16];
    if (code >= 0x10000)
        snprintf(shown, sizeof shown, "\\u%04x\\u%04x", (unsigned)(0xd7c0 + (code >> 10)), (unsigned)(0xdc00 + (code & 0x3ff)));
    else
        snprintf(shown, sizeof shown, "\\u%04x", (unsigned)code);
    return put(run, shown);
}

static bool put_json_string(struct jinja *run, struct jinja_string text, bool ascii) {
    static const char letters[] = "\"\\\n\r\t\f\b", escapes[] = "\"\\nrtfb";
    if (!put(run, "\""))
        return false;
    for (size_t i = 0; i < text.size;) {
        struct utf8_unit unit = utf8_next(text.bytes + i, text.size - i);
        const char *letter = text.bytes[i] ? strchr(letters, text.bytes[i]) : NULL;
        bool good;
        if (letter)
            good = put(run, "\\") && jinja_put_bytes(run, &escapes[letter - letters], 1);
        else if (unit.codepoint < ' ' || (ascii && unit.codepoint > '~' + 1))
            good = put_json_code(run, unit.codepoint);
        else
            good = jinja_put_bytes(run, text.bytes + i, unit.length);
        if (!good)
            return false;
        i += unit.length;
    }
    return put(run, "\"");
}

static bool put_json(struct jinja *run, const struct jinja_value *value, const struct jinja_json *style, unsigned level);

/* The start of an item, or of the closing bracket, in a line of its own where there is an indent. */
static bool put_break(struct jinja *run, const struct jinja_json *style, unsigned level) {
    if (!style->indent.bytes)
        return true;
    bool good = put(run, "\n");
    while (good && level--)
        good = jinja_put_string(run, style->indent);
    return good;
}

static bool put_json_key(struct jinja *run, const struct jinja_value *key, const struct jinja_json *style) {
    if (key->kind == JINJA_STRING)
        return put_json_string(run, key->string, style->ascii);
    if (!jinja_is_number(key) && key->kind != JINJA_NONE)
        return jinja_fail(run, "keys must be str, int, float, bool or None, not %s", jinja_kind_name(key));
    return put(run, "\"") && put_json(run, key, style, 0) && put(run, "\"");
}

static int order_keys(const void *a, const void *b) {
    const struct jinja_entry *left = a, *right = b;
    return jinja_string_order(left->key.string, right->key.string);
}

static bool sorted_copy(struct jinja *run, const struct jinja_dict *dict, struct jinja_dict *out) {
    *out = (struct jinja_dict){ jinja_alloc_array(run, dict->count, sizeof *dict->entries), dict->count, dict->count };
    if (!out->entries || !jinja_spend(run, dict->count))
        return false;
    for (size_t i = 0; i < dict->count; i++) {
        if (dict->entries[i].key.kind != JINJA_STRING)
            return jinja_fail(run, "only keys that are strings can be sorted");
        out->entries[i] = dict->entries[i];
    }
    qsort(out->entries, out->count, sizeof *out->entries, order_keys);
    return true;
}

static bool put_json_dict(struct jinja *run, const struct jinja_dict *dict, const struct jinja_json *style,
                          unsigned level) {
    struct jinja_dict sorted;
    if (style->sort_keys && dict->count > 1) {
        if (!sorted_copy(run, dict, &sorted))
            return false;
        dict = &sorted;
    }
    if (!put(run, "{"))
        return false;
    for (size_t i = 0; i < dict->count; i++)
        if ((i && !jinja_put_string(run, style->comma)) || !put_break(run, style, level + 1)
            || !put_json_key(run, &dict->entries[i].key, style) || !jinja_put_string(run, style->colon)
            || !put_json(run, &dict->entries[i].value, style, level + 1))
            return false;
    return (!dict->count || put_break(run, style, level)) && put(run, "}");
}

static bool put_json_list(struct jinja *run, const struct jinja_list *list, const struct jinja_json *style,
                          unsigned level) {
    if (!put(run, "["))
        return false;
    for (size_t i = 0; i < list->count; i++)
        if ((i && !jinja_put_string(run, style->comma)) || !put_break(run, style, level + 1)
            || !put_json(run, &list->items[i], style, level + 1))
            return false;
    return (!list->count || put_break(run, style, level)) && put(run, "]");
}

static bool put_json_plain(struct jinja *run, const struct jinja_value *value, const struct jinja_json *style,
                           unsigned level) {
    switch (value->kind) {
    case JINJA_NONE: return put(run, "null");
    case JINJA_BOOL: return put(run, value->truth ? "true" : "false");
    case JINJA_FLOAT:
        if (!isfinite(value->real))
            return put(run, isnan(value->real) ? "NaN" : value->real < 0 ? "-Infinity" : "Infinity");
        return put_real(run, value->real);
    case JINJA_INTEGER: return jinja_put_repr(run, value);
    case JINJA_STRING: return put_json_string(run, value->string, style->ascii);
    case JINJA_LIST: case JINJA_TUPLE: return put_json_list(run, value->list, style, level);
    case JINJA_DICT: return put_json_dict(run, value->dict, style, level);
    default:
        return jinja_fail(run, "Object of type %s is not JSON serializable", jinja_kind_name(value));
    }
}

static bool put_json(struct jinja *run, const struct jinja_value *value, const struct jinja_json *style,
                     unsigned level) {
    bool good = jinja_enter(run) && jinja_spend(run, 1) && put_json_plain(run, value, style, level);
    jinja_leave(run);
    return good;
}

bool jinja_put_json(struct jinja *run, const struct jinja_value *value, const struct jinja_json *style) {
    return put_json(run, value, style, 0);
}
