/* fuzz_tokenizer: any bytes as a tokenizer.json or, where they begin like one, as a
 * GGUF file. What opens must encode and decode, and decoding as tokens arrive must
 * give what decoding at once gives. */
#include "runtime/tokenizer_parts.h"
#include "tests/support_fuzz.h"
#include "tests/support_fuzz_tokenizer.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static struct tokenizer *open_bytes(const uint8_t *bytes, size_t size, struct error *err) {
    if (size >= 4 && memcmp(bytes, "GGUF", 4) == 0) {
        struct model_source source = { .kind = SOURCE_GGUF, .path = (char *)fuzz_file(bytes, size) };
        return tokenizer_open(&source, err);
    }
    json_t *root = json_read_text((const char *)bytes, size, "fuzz", err);
    struct tokenizer *tokenizer = root ? tokenizer_new(err) : NULL;
    if (tokenizer && !(tokenizer_read_json(tokenizer, root, "fuzz", err) && tokenizer_finish(tokenizer, err))) {
        tokenizer_close(tokenizer);
        tokenizer = NULL;
    }
    json_decref(root);
    return tokenizer;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    struct error err = { 0 };
    struct tokenizer *tokenizer = open_bytes(bytes, size, &err);
    if (tokenizer)
        fuzz_check_tokenizer(tokenizer, bytes, size);
    else
        REQUIRE(err.kind != ERROR_NONE && err.text[0]);
    tokenizer_close(tokenizer);
    return 0;
}
