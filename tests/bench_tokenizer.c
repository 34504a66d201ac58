/* bench_tokenizer: megabytes of text a second, encoded and decoded, as CSV: model,
 * direction, bytes, tokens, MB/s. The best of several rounds.
 *
 * usage: bench_tokenizer MODEL [TEXT-FILE]     a text repeated up to 4 MiB; default: the
 *                                              GPL, which every Debian has */
#include "common/file_map.h"
#include "runtime/tokenizer.h"
#include "tests/support_bench.h"

#include <stdio.h>
#include <stdlib.h>

#define TEXT_BYTES ((size_t)4 << 20)
#define FILE_BYTES ((size_t)1 << 20)
#define ROUNDS 5

static void repeat(struct text *text, const char *path) {
    struct error err = { 0 };
    size_t size;
    char *bytes = file_read_all(path, FILE_BYTES, &size, &err);
    bench_check(bytes, &err);
    bench_check(size || error_set(&err, ERROR_FAILED, "'%s' is empty", path), &err);
    text_init(text);
    while (text->length < TEXT_BYTES)
        text_append_bytes(text, bytes, size);
    bench_check(!text->failed || error_set(&err, ERROR_FAILED, "out of memory"), &err);
    free(bytes);
}

int main(int count, char **arguments) {
    if (count < 2) {
        fprintf(stderr, "usage: bench_tokenizer MODEL [TEXT-FILE]\n");
        return 2;
    }
    struct error err = { 0 };
    struct model_source source;
    struct text text, decoded;
    repeat(&text, count > 2 ? arguments[2] : "/usr/share/common-licenses/GPL-3");
    text_init(&decoded);
    bench_check(model_source_resolve(&source, arguments[1], &err), &err);
    struct tokenizer *tokenizer = tokenizer_open(&source, &err);
    bench_check(tokenizer, &err);
    double encoding = 1e9, decoding = 1e9;
    uint32_t token_count = 0;
    for (int round = 0; round < ROUNDS; round++) {
        int32_t *ids;
        double start = bench_now(CLOCK_MONOTONIC);
        bench_check(tokenizer_encode(tokenizer, text.bytes, text.length, TOKENIZE_DEFAULT, &ids, &token_count, &err), &err);
        double middle = bench_now(CLOCK_MONOTONIC);
        text_clear(&decoded);
        bench_check(tokenizer_decode(tokenizer, ids, token_count, false, &decoded, &err), &err);
        double end = bench_now(CLOCK_MONOTONIC);
        free(ids);
        encoding = middle - start < encoding ? middle - start : encoding;
        decoding = end - middle < decoding ? end - middle : decoding;
    }
    double megabytes = (double)text.length / 1e6;
    printf("%s,encode,%zu,%u,%.2f\n", arguments[1], text.length, token_count, megabytes / encoding);
    printf("%s,decode,%zu,%u,%.2f\n", arguments[1], decoded.length, token_count, megabytes / decoding);
    tokenizer_close(tokenizer);
    model_source_release(&source);
    text_release(&text);
    text_release(&decoded);
    return 0;
}
