#include "runtime/unicode.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* Sorting combining marks is quadratic in the length of a run of them. Text that
 * people write has fewer than ten in a row. */
enum { MARK_RUN_LIMIT = 4096 };

size_t utf8_last(const char *bytes, size_t size) {
    size_t at = size - 1;
    while (at && ((unsigned char)bytes[at] & 0xc0) == 0x80)
        at--;
    return at;
}

size_t utf8_valid_prefix(const char *bytes, size_t size) {
    size_t position = 0;
    while (position < size) {
        uint64_t eight;
        if (size - position >= sizeof eight) {
            memcpy(&eight, bytes + position, sizeof eight);
            if (!(eight & 0x8080808080808080u)) {
                position += sizeof eight;
                continue;
            }
        }
        struct utf8_unit unit = utf8_next(bytes + position, size - position);
        if (unit.state != UTF8_VALID)
            break;
        position += unit.length;
    }
    return position;
}

void utf8_append_repaired(struct text *text, const char *bytes, size_t size) {
    while (size) {
        size_t valid = utf8_valid_prefix(bytes, size);
        text_append_bytes(text, bytes, valid);
        bytes += valid;
        size -= valid;
        if (!size)
            return;
        unsigned length = utf8_next(bytes, size).length;
        text_append_utf8(text, 0xfffd);
        bytes += length;
        size -= length;
    }
}

bool unicode_is_space(uint32_t c) {
    return (c >= 0x09 && c <= 0x0d) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680
        || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f
        || c == 0x3000;
}

bool unicode_is_word(uint32_t codepoint) {
    switch (utf8proc_category((utf8proc_int32_t)codepoint)) {
    case UTF8PROC_CATEGORY_LU: case UTF8PROC_CATEGORY_LL: case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM: case UTF8PROC_CATEGORY_LO: case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC: case UTF8PROC_CATEGORY_ME: case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL: case UTF8PROC_CATEGORY_PC:
        return true;
    default:
        return codepoint == 0x200c || codepoint == 0x200d;
    }
}

bool unicode_is_printable(uint32_t codepoint) {
    switch (utf8proc_category((utf8proc_int32_t)codepoint)) {
    case UTF8PROC_CATEGORY_CN: case UTF8PROC_CATEGORY_CC: case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS: case UTF8PROC_CATEGORY_CO: case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return false;
    case UTF8PROC_CATEGORY_ZS:
        return codepoint == ' ';
    default:
        return true;
    }
}

int hex_digit(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10
         : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

uint32_t unicode_lower(uint32_t codepoint) {
    return (uint32_t)utf8proc_tolower((utf8proc_int32_t)codepoint);
}

uint32_t unicode_upper(uint32_t codepoint) {
    return (uint32_t)utf8proc_toupper((utf8proc_int32_t)codepoint);
}

/* U+0F73 and its like are starters by their class but decompose to marks. */
static bool is_mark(uint32_t codepoint) {
    const utf8proc_property_t *property = utf8proc_get_property((utf8proc_int32_t)codepoint);
    return property->combining_class || property->category == UTF8PROC_CATEGORY_MN;
}

static bool marks_are_bounded(const char *bytes, size_t size) {
    unsigned run = 0;
    for (size_t i = 0; i < size;) {
        if ((unsigned char)bytes[i] < 0x80) {
            run = 0;
            i++;
            continue;
        }
        struct utf8_unit unit = utf8_next(bytes + i, size - i);
        run = is_mark(unit.codepoint) ? run + 1 : 0;
        if (run > MARK_RUN_LIMIT)
            return false;
        i += unit.length;
    }
    return true;
}

bool unicode_append_normalized(struct text *text, enum unicode_form form, const char *bytes,
                               size_t size, struct error *err) {
    static const int options[] = {
        [UNICODE_NFC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE,
        [UNICODE_NFD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE,
        [UNICODE_NFKC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
        [UNICODE_NFKD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT,
    };
    bool ascii = true;
    for (size_t i = 0; i < size && ascii; i++)
        ascii = (unsigned char)bytes[i] < 0x80;
    if (ascii) {   /* already in every form */
        text_append_bytes(text, bytes, size);
        return true;
    }
    if (!marks_are_bounded(bytes, size))
        return error_set(err, ERROR_FAILED, "cannot normalize the text: it has more than %d combining marks "
                         "in a row; remove them", MARK_RUN_LIMIT);
    utf8proc_uint8_t *normal = NULL;
    utf8proc_ssize_t length = utf8proc_map((const utf8proc_uint8_t *)bytes, (utf8proc_ssize_t)size, &normal,
                                           (utf8proc_option_t)options[form]);
    if (length < 0)
        return error_set(err, ERROR_FAILED, "cannot normalize the text: %s", utf8proc_errmsg(length));
    text_append_bytes(text, normal, (size_t)length);
    free(normal);
    return true;
}
