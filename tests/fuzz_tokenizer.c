/* fuzz_tokenizer: any bytes as a tokenizer.json or, where they begin like one, as a
 * GGUF file. What opens must encode and decode, and decoding as tokens arrive must
 * give what decoding at once gives. */
#include "runtime/tokenizer_parts.h"
#include "runtime/unicode.h"
#include "tests/support_fuzz.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

#define REQUIRE(condition) do { if (!(condition)) abort(); } while (0)

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

static void check_stream(const struct tokenizer *tokenizer, const int32_t *ids, uint32_t count,
                         const struct text *expected) {
    struct text streamed;
    text_init(&streamed);
    struct token_stream *stream = token_stream_new(tokenizer, NULL, 0, true);
    REQUIRE(stream);
    for (uint32_t i = 0; i < count; i++)
        REQUIRE(token_stream_feed(stream, ids[i], &streamed, NULL));
    REQUIRE(token_stream_end(stream, &streamed, NULL));
    REQUIRE(streamed.length == expected->length && memcmp(streamed.bytes, expected->bytes, streamed.length) == 0);
    token_stream_free(stream);
    text_release(&streamed);
}

static void check_text(const struct tokenizer *tokenizer, const char *text, size_t size, unsigned flags) {
    struct error err = { 0 };
    int32_t *ids;
    uint32_t count;
    if (!tokenizer_encode(tokenizer, text, size, flags, &ids, &count, &err)) {
        REQUIRE(err.text[0]);
        return;
    }
    for (uint32_t i = 0; i < count; i++)
        REQUIRE(tokenizer_piece(tokenizer, ids[i]));
    struct text decoded;
    text_init(&decoded);
    REQUIRE(tokenizer_decode(tokenizer, ids, count, true, &decoded, &err));
    REQUIRE(utf8_valid_prefix(decoded.bytes, decoded.length) == decoded.length);
    check_stream(tokenizer, ids, count, &decoded);
    text_release(&decoded);
    free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    static const char sample[] = "Hello  world<s> I'll\n\n\xc3\xa9\xe2\x96\x81 12345 <|end|> \xff\xf0\x9f a</s>b\t";
    struct error err = { 0 };
    struct tokenizer *tokenizer = open_bytes(bytes, size, &err);
    if (!tokenizer) {
        REQUIRE(err.kind != ERROR_NONE && err.text[0]);
        return 0;
    }
    check_text(tokenizer, sample, sizeof sample - 1, TOKENIZE_DEFAULT);
    check_text(tokenizer, sample, sizeof sample - 1, TOKENIZE_SPLIT_SPECIAL);
    check_text(tokenizer, (const char *)bytes, size < 256 ? size : 256, TOKENIZE_DEFAULT);
    tokenizer_close(tokenizer);
    return 0;
}
