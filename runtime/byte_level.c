#include "runtime/byte_level.h"

#include "runtime/unicode.h"

enum { ALPHABET_END = 0x144 };   /* 0x100 + the 68 bytes that do not stand for themselves */

static bool stands_for_itself(unsigned byte) {
    return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
}

/* The others in order: 0x00-0x20, 0x7f-0xa0, 0xad. */
static unsigned to_codepoint(unsigned byte) {
    if (stands_for_itself(byte))
        return byte;
    return 0x100 + (byte <= 0x20 ? byte : byte <= 0xa0 ? byte - 0x7f + 0x21 : 0x43);
}

static int to_byte(unsigned codepoint) {
    if (codepoint < 0x100)
        return stands_for_itself(codepoint) ? (int)codepoint : -1;
    if (codepoint >= ALPHABET_END)
        return -1;
    unsigned index = codepoint - 0x100;
    return (int)(index <= 0x20 ? index : index <= 0x42 ? index - 0x21 + 0x7f : 0xad);
}

void byte_level_append(struct text *text, const char *bytes, size_t size) {
    char block[512];
    size_t used = 0;
    for (size_t i = 0; i < size; i++) {
        unsigned codepoint = to_codepoint((unsigned char)bytes[i]);
        if (codepoint < 0x80) {
            block[used++] = (char)codepoint;
        } else {
            block[used++] = (char)(0xc0 | codepoint >> 6);
            block[used++] = (char)(0x80 | (codepoint & 0x3f));
        }
        if (used >= sizeof block - 1) {
            text_append_bytes(text, block, used);
            used = 0;
        }
    }
    text_append_bytes(text, block, used);
}

bool byte_level_append_decoded(struct text *text, const char *piece, size_t size) {
    size_t before = text->length;
    for (size_t i = 0; i < size;) {
        struct utf8_unit unit = utf8_next(piece + i, size - i);
        int byte = unit.state == UTF8_VALID ? to_byte(unit.codepoint) : -1;
        if (byte < 0) {
            text->length = before;
            if (text->capacity)
                text->bytes[before] = '\0';
            return false;
        }
        text_append_char(text, (char)byte);
        i += unit.length;
    }
    return true;
}
