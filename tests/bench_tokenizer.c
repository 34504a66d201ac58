/* bench_tokenizer: megabytes of text a second, encoded and decoded, as CSV: model,
 * direction, bytes, tokens, MB/s. The best of several rounds.
 *
 * usage: bench_tokenizer MODEL [TEXT-FILE]     a text repeated up to 4 MiB; default: the
 *                                              GPL, which every Debian has */
#include "common/file_map.h"
#include "runtime/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define TEXT_BYTES ((size_t)4 << 20)
#define FILE_BYTES ((size_t)1 << 20)
#define ROUNDS 5

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void check(bool fine, const struct error *err) {
    if (!fine) {
        fprintf(stderr, "bench_tokenizer: %s\n", err->text);
        exit(1);
    }
}

static void repeat(struct text *text, const char *path) {
    struct error err = { 0 };
    size_t size;
    char *bytes = file_read_all(path, FILE_BYTES, &size, &err);
    check(bytes, &err);
    check(size || error_set(&err, ERROR_FAILED, "'%s' is empty", path), &err);
    text_init(text);
    while (text->length < TEXT_BYTES)
        text_append_bytes(text, bytes, size);
    check(!text->failed || error_set(&err, ERROR_FAILED, "out of memory"), &err);
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
    check(model_source_resolve(&source, arguments[1], &err), &err);
    struct tokenizer *tokenizer = tokenizer_open(&source, &err);
    check(tokenizer, &err);
    double encoding = 1e9, decoding = 1e9;
    uint32_t token_count = 0;
    for (int round = 0; round < ROUNDS; round++) {
        int32_t *ids;
        double start = now();
        check(tokenizer_encode(tokenizer, text.bytes, text.length, TOKENIZE_DEFAULT, &ids, &token_count, &err), &err);
        double middle = now();
        text_clear(&decoded);
        check(tokenizer_decode(tokenizer, ids, token_count, false, &decoded, &err), &err);
        double end = now();
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
