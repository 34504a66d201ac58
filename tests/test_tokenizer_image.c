/* Tokenizers from images: the same as those that were read, and no file can harm. */
#include "tests/support.h"

#include "common/model.h"
#include "runtime/tokenizer_image.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct model_hashes some_hashes = {
    .weights = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
    .text = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100",
};

static const char *const models[] = {
    "models/phi3-tiny", "models/llama-tiny", "models/qwen2-tiny", "models/gguf/quantizable-tiny-Q4_1.gguf",
    "models/gguf/qwen2-tiny-BF16.gguf", "models/phi3-vocab", "models/llama3-vocab", "models/qwen2-vocab",
};

static const char *const texts[] = {
    "", " ", "Hello, world! It's 12345 o'clock.", "<|user|>\nWhy?<|end|>\n<|assistant|>\n", "  two  spaces\n\n\ttab ",
    "\xe5\x8f\xb0\xe5\x8c\x97 \xf0\x9f\x98\x80 caf\xc3\xa9 \xe2\x96\x81 \xff\xc3", "<s>a</s><|endoftext|><|im_end|> b",
};

static struct tokenizer *open_model(const char *name, struct error *err) {
    const char *path = test_data(name);
    struct model_source source = { 0 };
    struct tokenizer *tokenizer = NULL;
    if (path && model_source_resolve(&source, path, err))
        tokenizer = tokenizer_open(&source, err);
    model_source_release(&source);
    return tokenizer;
}

static char *image_path(void) {
    static char path[PATH_MAX];
    snprintf(path, sizeof path, "%.4000s/image", test_folder());
    return path;
}

static bool same_text(const char *a, const char *b) {
    return (!a && !b) || (a && b && strcmp(a, b) == 0);
}

static void assert_same(const char *name, const struct tokenizer *a, const struct tokenizer *b) {
    struct error err = { 0 };
    if (tokenizer_size(a) != tokenizer_size(b) || tokenizer_bos_id(a) != tokenizer_bos_id(b) ||
        strcmp(tokenizer_bos_text(a), tokenizer_bos_text(b)) || strcmp(tokenizer_eos_text(a), tokenizer_eos_text(b)) ||
        !same_text(tokenizer_chat_template(a), tokenizer_chat_template(b)) ||
        !tokenizer_named_texts(a) != !tokenizer_named_texts(b) ||
        (tokenizer_named_texts(a) && !json_equal(tokenizer_named_texts(a), tokenizer_named_texts(b))))
        fail_msg("%s: another tokenizer", name);
    int32_t eos[2][16];
    uint32_t eos_count = tokenizer_eos_ids(a, eos[0], 16);
    assert_int_equal(eos_count, tokenizer_eos_ids(b, eos[1], 16));
    assert_memory_equal(eos[0], eos[1], eos_count * sizeof **eos);
    for (uint32_t id = 0; id <= tokenizer_size(a); id++)
        if (!same_text(tokenizer_piece(a, (int32_t)id), tokenizer_piece(b, (int32_t)id)) ||
            tokenizer_is_special(a, (int32_t)id) != tokenizer_is_special(b, (int32_t)id))
            fail_msg("%s: piece %u is another", name, id);
    for (size_t i = 0; i < 2 * sizeof texts / sizeof *texts; i++) {
        int32_t *ids[2];
        uint32_t counts[2];
        struct text decoded[2];
        for (int t = 0; t < 2; t++) {
            const struct tokenizer *tokenizer = t ? b : a;
            text_init(&decoded[t]);
            ASSERT_OK(tokenizer_encode(tokenizer, texts[i / 2], strlen(texts[i / 2]), i % 2 ? TOKENIZE_ADD_SPECIAL : 0,
                                       &ids[t], &counts[t], &err), err);
            ASSERT_OK(tokenizer_decode(tokenizer, ids[t], counts[t], i % 2, &decoded[t], &err), err);
        }
        if (counts[0] != counts[1] || (counts[0] && memcmp(ids[0], ids[1], counts[0] * sizeof **ids)) ||
            strcmp(decoded[0].bytes, decoded[1].bytes))
            fail_msg("%s: '%s' is tokenized otherwise", name, texts[i / 2]);
        for (int t = 0; t < 2; t++) {
            text_release(&decoded[t]);
            free(ids[t]);
        }
    }
}

static void an_image_is_the_tokenizer_that_was_read(void **state) {
    (void)state;
    uint32_t compared = 0;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        struct error err = { 0 };
        struct tokenizer *read = open_model(models[i], &err);
        if (!read)
            continue;
        ASSERT_OK(tokenizer_image_write(read, image_path(), &some_hashes, &err), err);
        struct tokenizer *image = tokenizer_image_read(image_path(), &some_hashes, &err);
        ASSERT_OK(image, err);
        assert_same(models[i], read, image);
        /* An image of the image is the same file. */
        char again[PATH_MAX];
        snprintf(again, sizeof again, "%.4000s/again", test_folder());
        ASSERT_OK(tokenizer_image_write(image, again, &some_hashes, &err), err);
        struct tokenizer *second = tokenizer_image_read(again, &some_hashes, &err);
        ASSERT_OK(second, err);
        assert_same(models[i], read, second);
        tokenizer_close(second);
        tokenizer_close(image);
        tokenizer_close(read);
        compared++;
    }
    assert_true(compared > 0);
}

/* Everything needed is in the image: the model's own files may be gone. */
static void an_open_with_an_image_reads_no_tokenizer_file(void **state) {
    (void)state;
    char folder[PATH_MAX], command[2 * PATH_MAX + 64], cache[PATH_MAX];
    struct error err = { 0 };
    bool from_image;
    if (!test_data(models[0]))
        SKIP_BECAUSE("no %s", models[0]);
    snprintf(folder, sizeof folder, "%.4000s/model", test_folder());
    snprintf(cache, sizeof cache, "%.4000s/cache", test_folder());
    setenv("XDG_CACHE_HOME", cache, 1);
    snprintf(command, sizeof command, "cp -rL '%s' '%s'", test_data(models[0]), folder);
    assert_int_equal(system(command), 0);
    struct model_source source = { .kind = SOURCE_DIRECTORY, .path = folder };
    char *path = tokenizer_image_path(&some_hashes);
    assert_non_null(path);
    struct tokenizer *first = tokenizer_open_image(&source, &some_hashes, path, &from_image, &err);
    ASSERT_OK(first, err);
    assert_false(from_image);
    snprintf(command, sizeof command, "rm '%s'/*token* '%s'/config.json", folder, folder);
    assert_int_equal(system(command), 0);
    struct tokenizer *second = tokenizer_open_image(&source, &some_hashes, path, &from_image, &err);
    ASSERT_OK(second, err);
    assert_true(from_image);
    assert_same(models[0], first, second);
    tokenizer_close(second);
    /* That of other files is no use. */
    struct model_hashes other = some_hashes;
    other.text[0] = '0';
    char *other_path = tokenizer_image_path(&other);
    assert_null(tokenizer_open_image(&source, &other, other_path, &from_image, &err));
    free(other_path);
    /* Nor is a damaged one, which is not even an error where the files are there. */
    assert_int_equal(truncate(path, 100), 0);
    source.path = (char *)(uintptr_t)test_data(models[0]);
    second = tokenizer_open_image(&source, &some_hashes, path, &from_image, &err);
    ASSERT_OK(second, err);
    assert_false(from_image);
    tokenizer_close(second);
    second = tokenizer_open_image(&source, &some_hashes, path, &from_image, &err);
    assert_true(second && from_image);
    tokenizer_close(second);
    tokenizer_close(first);
    free(path);
}

static uint8_t *load(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    struct stat status;
    assert_non_null(file);
    assert_int_equal(fstat(fileno(file), &status), 0);
    *size = (size_t)status.st_size;
    uint8_t *bytes = malloc(*size);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, *size, file), *size);
    fclose(file);
    return bytes;
}

static struct tokenizer *read_bytes(const uint8_t *bytes, size_t size) {
    struct error err = { 0 };
    FILE *file = fopen(image_path(), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    fclose(file);
    return tokenizer_image_read(image_path(), &some_hashes, &err);
}

static void use(const struct tokenizer *tokenizer) {
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct error err = { 0 };
        struct text text;
        int32_t *ids;
        uint32_t count;
        text_init(&text);
        if (tokenizer_encode(tokenizer, texts[i], strlen(texts[i]), TOKENIZE_ADD_SPECIAL, &ids, &count, &err)) {
            tokenizer_decode(tokenizer, ids, count, i % 2, &text, &err);
            free(ids);
        }
        text_release(&text);
    }
    for (uint32_t id = 0; id < tokenizer_size(tokenizer); id += 7)
        tokenizer_is_special(tokenizer, (int32_t)id);
}

/* Both an accident and somebody who knows where the checksum lies: at byte 16, over all that
 * follows it. */
static void a_damaged_image_is_refused_and_a_forged_one_does_no_harm(void **state) {
    (void)state;
    struct error err = { 0 };
    struct tokenizer *tokenizer = open_model(models[0], &err);
    if (!tokenizer)
        SKIP_BECAUSE("no %s", models[0]);
    ASSERT_OK(tokenizer_image_write(tokenizer, image_path(), &some_hashes, &err), err);
    tokenizer_close(tokenizer);
    size_t size, accepted = 0;
    uint8_t *bytes = load(image_path(), &size), *damaged = malloc(size);
    uint32_t random = 1;
    assert_non_null(damaged);
    for (size_t cut = 0; cut < size; cut = cut * 3 + 1)
        assert_null(read_bytes(bytes, cut));
    for (int i = 0; i < 400; i++) {
        memcpy(damaged, bytes, size);
        random = random * 1664525u + 1013904223u;
        size_t at = i % 2 ? (random >> 4) % 4096 : (random >> 4) % size;   /* the header has its turn, too */
        static const uint8_t values[] = { 0xff, 0x00, 0x7f, 0x80, 0x01 };
        memset(damaged + at, values[random >> 3 & 3], at + 4 <= size ? i % 4 + 1 : 1);
        if (memcmp(damaged, bytes, size) == 0)
            continue;
        assert_null(read_bytes(damaged, size));
        char hex[65];
        sha256_hex(damaged + 80, size - 80, hex);
        memcpy(damaged + 16, hex, 64);
        struct tokenizer *forged = read_bytes(damaged, size);
        if (forged) {
            use(forged);
            accepted++;
        }
        tokenizer_close(forged);
    }
    assert_true(accepted > 0);   /* or the checksum was not the one that counts */
    free(bytes);
    free(damaged);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_image_is_the_tokenizer_that_was_read),
        cmocka_unit_test(an_open_with_an_image_reads_no_tokenizer_file),
        cmocka_unit_test(a_damaged_image_is_refused_and_a_forged_one_does_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
