#include "runtime/json_text.h"

#include "runtime/unicode.h"

json_t *json_text(const char *bytes, size_t size) {
    json_t *value = json_stringn(bytes, size);
    if (value)
        return value;
    struct text repaired;
    text_init(&repaired);
    utf8_append_repaired(&repaired, bytes, size);
    if (!repaired.failed)
        value = json_stringn(repaired.bytes, repaired.length);
    text_release(&repaired);
    return value;
}
