#include "common/utf8.h"

struct utf8_unit utf8_next(const char *bytes, size_t size) {
    const unsigned char *s = (const unsigned char *)bytes;
    if (s[0] < 0x80)
        return (struct utf8_unit){ UTF8_VALID, 1, s[0] };
    unsigned length;
    uint32_t codepoint;
    unsigned char low = 0x80, high = 0xbf;   /* bounds of the second byte */
    if (s[0] >= 0xc2 && s[0] <= 0xdf) {
        length = 2;
        codepoint = s[0] & 0x1f;
    } else if (s[0] >= 0xe0 && s[0] <= 0xef) {
        length = 3;
        codepoint = s[0] & 0x0f;
        low = s[0] == 0xe0 ? 0xa0 : low;     /* no overlong forms */
        high = s[0] == 0xed ? 0x9f : high;   /* no surrogates */
    } else if (s[0] >= 0xf0 && s[0] <= 0xf4) {
        length = 4;
        codepoint = s[0] & 0x07;
        low = s[0] == 0xf0 ? 0x90 : low;
        high = s[0] == 0xf4 ? 0x8f : high;   /* nothing above U+10FFFF */
    } else {
        return (struct utf8_unit){ UTF8_INVALID, 1, 0xfffd };
    }
    for (unsigned i = 1; i < length; i++) {
        if (i == size)
            return (struct utf8_unit){ UTF8_CUT, i, 0xfffd };
        if (s[i] < low || s[i] > high)
            return (struct utf8_unit){ UTF8_INVALID, i, 0xfffd };
        codepoint = codepoint << 6 | (s[i] & 0x3f);
        low = 0x80;
        high = 0xbf;
    }
    return (struct utf8_unit){ UTF8_VALID, length, codepoint };
}
