#include "tests/support_fuzz_tokenizer.h"

#include "runtime/unicode.h"

#include <string.h>

static void check_stream(const struct tokenizer *tokenizer, const int32_t *ids, uint32_t count,
                         const struct text *expected) {
    struct text streamed;
    text_init(&streamed);
    struct token_stream *stream = token_stream_new(tokenizer, NULL, 0);
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

void fuzz_check_tokenizer(const struct tokenizer *tokenizer, const void *bytes, size_t size) {
    static const char sample[] = "Hello  world<s> I'll\n\n\xc3\xa9\xe2\x96\x81 12345 <|end|> \xff\xf0\x9f a</s>b\t";
    check_text(tokenizer, sample, sizeof sample - 1, TOKENIZE_DEFAULT);
    check_text(tokenizer, sample, sizeof sample - 1, TOKENIZE_SPLIT_SPECIAL);
    check_text(tokenizer, bytes, size < 256 ? size : 256, TOKENIZE_DEFAULT);
}
