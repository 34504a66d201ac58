/* fuzz_gguf: any bytes as a GGUF file; every name and value that it yields is read. */
#include "common/gguf.h"
#include "tests/support_fuzz.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* An answer that depends on every byte of a string, so that each is touched. */
static unsigned sum(const struct gguf_string *string) {
    unsigned total = 0;
    for (uint64_t i = 0; i < string->length; i++)
        total += (unsigned char)string->bytes[i];
    return total;
}

static unsigned read_key(const struct gguf *gguf, const char *key) {
    uint64_t whole = 0;
    float number = 0;
    bool truth = false;
    int64_t element = 0;
    struct gguf_string string;
    unsigned total = gguf_u64(gguf, key, &whole) + gguf_f32(gguf, key, &number) + gguf_bool(gguf, key, &truth);
    if (gguf_str(gguf, key, &string))
        total += sum(&string);
    const struct gguf_string *strings = gguf_array_strings(gguf, key);
    for (uint64_t i = 0; i < gguf_array_length(gguf, key); i++) {
        total += gguf_array_f32(gguf, key, i, &number) + gguf_array_i64(gguf, key, i, &element);
        if (strings)
            total += sum(&strings[i]);
    }
    return total;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    static const char *const keys[] = { "general.alignment", "general.architecture", "a", "b", "c", "d", "" };
    struct error err = { 0 };
    struct gguf *gguf = gguf_open(fuzz_file(bytes, size), &err);
    if (!gguf) {
        if (err.kind != ERROR_FAILED || !err.text[0])
            abort();
        return 0;
    }
    unsigned total = 0;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        total += read_key(gguf, keys[i]);
    for (uint32_t i = 0; i < gguf_tensor_count(gguf); i++) {
        const struct gguf_tensor *tensor = gguf_tensor(gguf, i);
        total += sum(&tensor->name);
        if (tensor->offset > size || tensor->size_bytes > size - tensor->offset)
            abort();
    }
    volatile unsigned keep = total;
    (void)keep;
    gguf_close(gguf);
    return 0;
}
