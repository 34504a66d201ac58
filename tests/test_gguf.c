#include "tests/support.h"

#include "common/file_map.h"
#include "common/gguf.h"
#include "common/text.h"
#include "tests/support_fuzz.h"

#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Kinds of values, as the format numbers them. */
enum { U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 };

static void put_u32(struct text *file, uint32_t value) {
    text_append_bytes(file, &value, sizeof value);
}

static void put_u64(struct text *file, uint64_t value) {
    text_append_bytes(file, &value, sizeof value);
}

static void put_string(struct text *file, const char *string) {
    put_u64(file, strlen(string));
    text_append(file, string);
}

static void put_head(struct text *file, uint32_t version, uint64_t tensors, uint64_t keys) {
    text_init(file);
    text_append(file, "GGUF");
    put_u32(file, version);
    put_u64(file, tensors);
    put_u64(file, keys);
}

static void put_value(struct text *file, const char *key, uint32_t kind, const void *value, size_t size) {
    put_string(file, key);
    put_u32(file, kind);
    text_append_bytes(file, value, size);
}

static void put_array(struct text *file, const char *key, uint32_t kind, uint64_t length) {
    put_string(file, key);
    put_u32(file, ARRAY);
    put_u32(file, kind);
    put_u64(file, length);
}

static void put_tensor(struct text *file, const char *name, uint32_t rank, const uint64_t *shape, uint32_t type,
                       uint64_t offset) {
    put_string(file, name);
    put_u32(file, rank);
    text_append_bytes(file, shape, rank * sizeof *shape);
    put_u32(file, type);
    put_u64(file, offset);
}

static void put_data(struct text *file, size_t alignment, size_t size) {
    while (file->length % alignment)
        text_append_char(file, 0);
    while (size-- > 0)
        text_append_char(file, 0);
}

/* Both release the bytes. */
static struct gguf *open_bytes(struct text *file) {
    struct error err = { 0 };
    assert_false(file->failed);
    struct gguf *gguf = gguf_open(fuzz_file(file->bytes, file->length), &err);
    ASSERT_OK(gguf, err);
    text_release(file);
    return gguf;
}

static void assert_refused(struct text *file, const char *part) {
    struct error err = { 0 };
    assert_false(file->failed);
    struct gguf *gguf = gguf_open(fuzz_file(file->bytes, file->length), &err);
    if (gguf)
        fail_msg("accepted, though '%s' was expected", part);
    if (!strstr(err.text, part))
        fail_msg("'%s' does not say '%s'", err.text, part);
    assert_int_equal(err.kind, ERROR_FAILED);
    text_release(file);
}

static void scalars_of_every_kind_are_read(void **state) {
    (void)state;
    struct text file;
    const float quarter = 0.25f;
    const double third = 1.0 / 3;
    put_head(&file, 3, 0, 13);
    put_value(&file, "u8", U8, "\xc8", 1);
    put_value(&file, "i8", I8, "\xc8", 1);
    put_value(&file, "u16", U16, "\1\2", 2);
    put_value(&file, "i16", I16, "\xff\xff", 2);
    put_value(&file, "u32", U32, "\xff\xff\xff\xff", 4);
    put_value(&file, "i32", I32, "\1\0\0\0", 4);
    put_value(&file, "f32", F32, &quarter, 4);
    put_value(&file, "bool", BOOL, "\1", 1);
    put_value(&file, "string", STRING, "\3\0\0\0\0\0\0\0a\0b", 11);
    put_value(&file, "u64", U64, "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
    put_value(&file, "i64", I64, "\xff\xff\xff\xff\xff\xff\xff\x7f", 8);
    put_value(&file, "f64", F64, &third, 8);
    put_value(&file, "", U8, "\7", 1);
    struct gguf *gguf = open_bytes(&file);

    uint64_t whole = 0;
    float number = 0;
    bool truth = false;
    struct gguf_string string;
    const struct { const char *key; uint64_t value; } wholes[] = {
        { "u8", 200 }, { "u16", 513 }, { "u32", UINT32_MAX }, { "i32", 1 }, { "u64", UINT64_MAX },
        { "i64", INT64_MAX }, { "", 7 },
    };
    for (size_t i = 0; i < sizeof wholes / sizeof *wholes; i++) {
        assert_true(gguf_has(gguf, wholes[i].key));
        assert_true(gguf_u64(gguf, wholes[i].key, &whole));
        assert_true(whole == wholes[i].value);
    }
    const struct { const char *key; float value; } numbers[] = {
        { "i8", -56.0f }, { "i16", -1.0f }, { "f32", 0.25f }, { "f64", 1.0f / 3 }, { "u8", 200.0f },
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        assert_true(gguf_f32(gguf, numbers[i].key, &number));
        assert_true(number == numbers[i].value);
    }
    assert_true(gguf_bool(gguf, "bool", &truth) && truth);
    assert_true(gguf_str(gguf, "string", &string));
    assert_int_equal(string.length, 3);
    assert_memory_equal(string.bytes, "a\0b", 3);

    const char *not_whole[] = { "i8", "i16", "f32", "bool", "string", "f64", "absent" };
    for (size_t i = 0; i < sizeof not_whole / sizeof *not_whole; i++)
        assert_false(gguf_u64(gguf, not_whole[i], &whole));
    assert_false(gguf_f32(gguf, "bool", &number));
    assert_false(gguf_f32(gguf, "string", &number));
    assert_false(gguf_bool(gguf, "u8", &truth));
    assert_false(gguf_str(gguf, "u8", &string));
    assert_false(gguf_has(gguf, "absent"));
    assert_int_equal(gguf_array_length(gguf, "u8"), 0);
    gguf_close(gguf);
}

static void a_brief_head_has_all_but_the_elements_of_arrays(void **state) {
    (void)state;
    struct text file;
    const uint64_t shape[] = { 8, 2 };
    const uint32_t answer = 42;
    struct error err = { 0 };
    put_head(&file, 3, 1, 6);
    put_array(&file, "words", STRING, 2);
    put_string(&file, "one");
    put_string(&file, "three");
    put_array(&file, "numbers", U64, 2);
    put_u64(&file, 5), put_u64(&file, 6);
    put_array(&file, "truths", BOOL, 3);
    text_append_bytes(&file, "\1\0\1", 3);
    put_array(&file, "nested", ARRAY, 1);
    put_u32(&file, STRING), put_u64(&file, 1), put_string(&file, "inner");
    put_value(&file, "answer", U32, &answer, sizeof answer);
    put_array(&file, "empty", STRING, 0);
    put_tensor(&file, "last", 2, shape, 0, 0);
    put_data(&file, 32, 64);
    assert_false(file.failed);
    struct gguf *whole = gguf_open(fuzz_file(file.bytes, file.length), &err);
    ASSERT_OK(whole, err);
    struct gguf *brief = gguf_open_brief(fuzz_file(file.bytes, file.length), &err);
    ASSERT_OK(brief, err);
    uint64_t number;
    int64_t element;
    assert_true(gguf_u64(brief, "answer", &number));
    assert_int_equal(number, 42);
    assert_int_equal(gguf_array_length(brief, "words"), 2);
    assert_int_equal(gguf_array_length(brief, "numbers"), 2);
    assert_int_equal(gguf_array_length(brief, "truths"), 3);
    assert_null(gguf_array_strings(brief, "words"));
    assert_false(gguf_array_i64(brief, "numbers", 1, &element));
    assert_true(gguf_array_i64(whole, "numbers", 1, &element));
    assert_int_equal(gguf_tensor_count(brief), 1);
    assert_true(gguf_tensor(brief, 0)->offset == gguf_tensor(whole, 0)->offset);
    gguf_close(whole);
    gguf_close(brief);
    text_release(&file);

    put_head(&file, 3, 0, 1);
    put_array(&file, "words", STRING, 1);
    put_u64(&file, 1000);   /* of the string, which ends before */
    assert_null(gguf_open_brief(fuzz_file(file.bytes, file.length), &err));
    assert_non_null(strstr(err.text, "truncated"));
    text_release(&file);
}

static void arrays_are_read_by_index(void **state) {
    (void)state;
    struct text file;
    const float floats[] = { 1.5f, -INFINITY };
    const int32_t ints[] = { 3, -4, INT32_MIN };
    const uint64_t wide[] = { 1ull << 63, INT64_MAX };
    put_head(&file, 2, 0, 7);
    put_array(&file, "words", STRING, 3);
    put_string(&file, "one");
    put_string(&file, "");
    put_string(&file, "three");
    put_array(&file, "floats", F32, 2);
    text_append_bytes(&file, floats, sizeof floats);
    put_array(&file, "ints", I32, 3);
    text_append_bytes(&file, ints, sizeof ints);
    put_array(&file, "wide", U64, 2);
    text_append_bytes(&file, wide, sizeof wide);
    put_array(&file, "low", I64, 1);
    put_u64(&file, 1ull << 63);
    put_array(&file, "empty", STRING, 0);
    put_array(&file, "nested", ARRAY, 2);
    put_u32(&file, U8), put_u64(&file, 3), text_append(&file, "abc");
    put_u32(&file, STRING), put_u64(&file, 1), put_string(&file, "inner");
    struct gguf *gguf = open_bytes(&file);

    const struct gguf_string *words = gguf_array_strings(gguf, "words");
    float number;
    int64_t whole;
    struct gguf_string string;
    assert_int_equal(gguf_array_length(gguf, "words"), 3);
    assert_non_null(words);
    assert_memory_equal(words[0].bytes, "one", 3);
    assert_int_equal(words[1].length, 0);
    assert_int_equal(words[2].length, 5);
    assert_memory_equal(words[2].bytes, "three", 5);
    assert_true(gguf_array_f32(gguf, "floats", 0, &number) && number == 1.5f);
    assert_true(gguf_array_f32(gguf, "floats", 1, &number) && number == -INFINITY);
    assert_false(gguf_array_f32(gguf, "floats", 2, &number));
    assert_false(gguf_array_i64(gguf, "floats", 0, &whole));
    assert_true(gguf_array_i64(gguf, "ints", 1, &whole) && whole == -4);
    assert_true(gguf_array_i64(gguf, "ints", 2, &whole) && whole == INT32_MIN);
    assert_true(gguf_array_f32(gguf, "ints", 1, &number) && number == -4.0f);
    assert_false(gguf_array_i64(gguf, "ints", 3, &whole));
    assert_false(gguf_array_i64(gguf, "wide", 0, &whole));
    assert_true(gguf_array_i64(gguf, "wide", 1, &whole) && whole == INT64_MAX);
    assert_true(gguf_array_i64(gguf, "low", 0, &whole) && whole == INT64_MIN);
    assert_null(gguf_array_strings(gguf, "empty"));
    assert_int_equal(gguf_array_length(gguf, "nested"), 2);
    assert_null(gguf_array_strings(gguf, "nested"));
    assert_false(gguf_array_i64(gguf, "nested", 0, &whole));
    assert_null(gguf_array_strings(gguf, "floats"));
    assert_false(gguf_str(gguf, "words", &string));
    gguf_close(gguf);
}

static void tensors_have_absolute_offsets_and_sizes(void **state) {
    (void)state;
    struct text file;
    put_head(&file, 3, 3, 1);
    put_value(&file, "general.alignment", U32, "\x40\0\0\0", 4);
    put_tensor(&file, "f", 2, (uint64_t[]){ 3, 5 }, 0, 0);
    put_tensor(&file, "q", 3, (uint64_t[]){ 64, 2, 2 }, 3, 64);
    put_tensor(&file, "s", 0, NULL, 30, 256);
    put_data(&file, 64, 258);
    uint64_t data = file.length - 258, size = file.length;
    struct gguf *gguf = open_bytes(&file);
    assert_int_equal(gguf_file_size(gguf), size);
    assert_int_equal(gguf_tensor_count(gguf), 3);
    const struct gguf_tensor *tensor = gguf_tensor(gguf, 1);
    assert_int_equal(tensor->type, TENSOR_Q4_1);
    assert_int_equal(tensor->rank, 3);
    assert_int_equal(tensor->shape[0], 64);
    assert_int_equal(tensor->shape[3], 1);
    assert_int_equal(tensor->offset, data + 64);
    assert_int_equal(tensor->size_bytes, 160);
    assert_int_equal(gguf_tensor(gguf, 0)->size_bytes, 60);
    assert_int_equal(gguf_tensor(gguf, 2)->size_bytes, 2);
    assert_null(gguf_tensor(gguf, 3));
    gguf_close(gguf);
}

static void a_tensor_that_cannot_be_is_refused(void **state) {
    (void)state;
    static const struct { uint32_t rank; uint64_t shape[4]; uint32_t type; uint64_t offset; const char *says; } bad[] = {
        { 5, { 1, 1, 1, 1 }, 0, 0, "four dimensions" },
        { 1, { 33 }, 2, 0, "a shape that its type cannot have" },
        { 2, { 32, 0 }, 2, 0, "length 0" },
        { 1, { 64 }, 10, 0, "stored as Q2_K, which is not supported" },
        { 1, { 64 }, 4, 0, "stored as type 4, which" },
        { 1, { 64 }, UINT32_MAX, 0, "stored as type 4294967295" },
        { 1, { 65 }, 0, 0, "truncated" },
        { 1, { 64 }, 0, 32, "truncated" },
        { 1, { 1 }, 0, 8, "multiple of general.alignment" },
        { 1, { 1 }, 0, UINT64_MAX - 31, "truncated" },
        { 1, { UINT64_MAX }, 0, 0, "a shape that its type cannot have" },
        { 3, { 1, UINT64_MAX, 2 }, 0, 0, "more values than can be counted" },
        { 4, { 1 << 20, 1 << 20, 1 << 20, 8 }, 0, 0, "a shape that its type cannot have" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct text file;
        put_head(&file, 3, 1, 0);
        put_string(&file, "blk.0.weight");
        put_u32(&file, bad[i].rank);
        text_append_bytes(&file, bad[i].shape, (bad[i].rank < 4 ? bad[i].rank : 4) * 8);
        put_u32(&file, bad[i].type);
        put_u64(&file, bad[i].offset);
        put_data(&file, 32, 256);
        assert_refused(&file, bad[i].says);
    }
}

static void the_same_name_twice_is_refused(void **state) {
    (void)state;
    struct text file;
    put_head(&file, 3, 0, 3);
    put_value(&file, "twin", U8, "\1", 1);
    put_value(&file, "other", U8, "\1", 1);
    put_value(&file, "twin", U8, "\1", 1);
    assert_refused(&file, "key 'twin' is there twice");
    put_head(&file, 3, 3, 0);
    put_tensor(&file, "twin", 1, (uint64_t[]){ 1 }, 0, 0);
    put_tensor(&file, "other", 1, (uint64_t[]){ 1 }, 0, 0);
    put_tensor(&file, "twin", 1, (uint64_t[]){ 1 }, 0, 32);
    put_data(&file, 32, 64);
    assert_refused(&file, "tensor 'twin' is there twice");
}

static void heads_of_other_formats_are_refused(void **state) {
    (void)state;
    struct text file;
    put_head(&file, 1, 0, 0);
    assert_refused(&file, "version 1");
    put_head(&file, 3u << 24, 0, 0);
    assert_refused(&file, "big-endian");
    put_head(&file, 4, 0, 0);
    assert_refused(&file, "version 4");
    text_init(&file);
    assert_refused(&file, "no GGUF file");
    text_append(&file, "PK\3\4 something else");
    assert_refused(&file, "no GGUF file");
    put_head(&file, 3, 0, 1);
    put_value(&file, "k", 13, "\1", 1);
    assert_refused(&file, "unknown kind");
    put_head(&file, 3, 0, 1);
    put_value(&file, "k", BOOL, "\2", 1);
    assert_refused(&file, "neither 0 nor 1");
    const char *alignments[] = { "\0\0\0\0", "\x30\0\0\0", "\0\0\0\x80" };
    for (int i = 0; i < 3; i++) {
        put_head(&file, 3, 0, 1);
        put_value(&file, "general.alignment", U32, alignments[i], 4);
        assert_refused(&file, "general.alignment");
    }
}

static void claims_beyond_the_file_fail_quickly(void **state) {
    (void)state;
    const uint64_t claims[] = { 1000, 1000000000, 1ull << 61, UINT64_MAX };
    clock_t started = clock();
    for (size_t i = 0; i < sizeof claims / sizeof *claims; i++) {
        struct text file;
        for (uint32_t kind = U8; kind <= F64; kind++) {
            put_head(&file, 3, 0, 1);
            put_array(&file, "tokens", kind, claims[i]);
            put_data(&file, 1, 900);
            assert_refused(&file, "'tokens' claims");
        }
        put_head(&file, 3, claims[i], 0);
        assert_refused(&file, claims[i] == 1000 ? "truncated" : "claims");
        put_head(&file, 3, 0, claims[i]);
        assert_refused(&file, claims[i] == 1000 ? "truncated" : "claims");
        put_head(&file, 3, 0, 1);
        put_u64(&file, claims[i]);
        put_data(&file, 1, 900);
        assert_refused(&file, "truncated");
    }
    const struct { uint32_t kind; uint64_t length; } almost[] = { { U64, 113 }, { STRING, 113 }, { U16, 451 } };
    for (size_t i = 0; i < sizeof almost / sizeof *almost; i++) {
        struct text file;
        put_head(&file, 3, 0, 1);
        put_array(&file, "tokens", almost[i].kind, almost[i].length);
        put_data(&file, 1, 900);
        assert_refused(&file, "'tokens' claims");
    }
    assert_true(clock() - started < CLOCKS_PER_SEC);
}

static void arrays_nested_too_deeply_are_refused(void **state) {
    (void)state;
    struct text file;
    put_head(&file, 3, 0, 1);
    put_array(&file, "deep", ARRAY, 1);
    for (int i = 0; i < 1000; i++) {
        put_u32(&file, ARRAY);
        put_u64(&file, 1);
    }
    assert_refused(&file, "too deeply");
}

static void a_head_cut_anywhere_is_refused(void **state) {
    (void)state;
    static const char *const seeds[] = { "kinds", "arrays", "tensors" };
    for (size_t i = 0; i < 3; i++) {
        char name[64];
        struct error err = { 0 };
        snprintf(name, sizeof name, "fuzz/fuzz_gguf/%s", seeds[i]);
        const char *path = test_data(name);
        assert_non_null(path);
        size_t size;
        char *bytes = file_read_all(path, 4096, &size, &err);
        ASSERT_OK(bytes, err);
        struct gguf *gguf = gguf_open(path, &err);
        ASSERT_OK(gguf, err);
        gguf_close(gguf);
        for (size_t cut = 0; cut < size; cut++) {
            err = (struct error){ 0 };
            assert_null(gguf_open(fuzz_file(bytes, cut), &err));
            assert_null(gguf_open_brief(fuzz_file(bytes, cut), &err));
            assert_int_equal(err.kind, ERROR_FAILED);
        }
        free(bytes);
    }
}

static void a_real_vocabulary_is_read(void **state) {
    (void)state;
    struct error err = { 0 };
    const char *path = test_data("models/phi3-vocab/ggml-vocab-phi-3.gguf");
    if (!path)
        SKIP_BECAUSE("models/phi3-vocab is not here");
    struct gguf *gguf = gguf_open(path, &err);
    ASSERT_OK(gguf, err);
    uint64_t whole;
    float score;
    int64_t type;
    struct gguf_string string;
    assert_int_equal(gguf_tensor_count(gguf), 0);
    assert_true(gguf_str(gguf, "general.architecture", &string));
    assert_int_equal(string.length, 4);
    assert_memory_equal(string.bytes, "phi3", 4);
    assert_true(gguf_u64(gguf, "phi3.embedding_length", &whole));
    assert_int_equal(whole, 3072);
    const struct gguf_string *tokens = gguf_array_strings(gguf, "tokenizer.ggml.tokens");
    assert_int_equal(gguf_array_length(gguf, "tokenizer.ggml.tokens"), 32064);
    assert_memory_equal(tokens[15043].bytes, "\xe2\x96\x81Hello", 8);
    assert_true(gguf_array_f32(gguf, "tokenizer.ggml.scores", 259 + 100, &score) && score == -100.0f);
    assert_true(gguf_array_i64(gguf, "tokenizer.ggml.token_type", 3, &type) && type == 6);
    gguf_close(gguf);
}

/* A model of 7.6 GB described in 256 MiB of address space: nothing maps the file. */
static void a_large_sparse_file_opens_in_a_small_address_space(void **state) {
    (void)state;
#if defined(__SANITIZE_ADDRESS__)
    SKIP_BECAUSE("the address sanitizer needs a large address space");
#endif
    enum { LAYERS = 32 };
    struct text file;
    const uint64_t matrix = 7600000000ull / LAYERS / 2 / 3072 / 32 * 32;
    uint64_t end = matrix * 3072 * 2 * LAYERS;
    char path[PATH_MAX], name[32];
    put_head(&file, 3, LAYERS, 2);
    put_array(&file, "tokens", STRING, 100000);
    for (int i = 0; i < 100000; i++)
        put_string(&file, "a vocabulary entry");
    put_array(&file, "scores", F32, 1);
    put_u32(&file, 0);
    for (uint64_t i = 0; i < LAYERS; i++) {
        snprintf(name, sizeof name, "blk.%d.weight", (int)i);
        put_tensor(&file, name, 2, (uint64_t[]){ matrix, 3072 }, 1, i * matrix * 3072 * 2);
    }
    put_data(&file, 32, 0);
    snprintf(path, sizeof path, "%s/sparse.gguf", test_folder());
    int descriptor = open(path, O_CREAT | O_WRONLY, 0600);
    assert_true(descriptor >= 0);
    assert_int_equal(write(descriptor, file.bytes, file.length), file.length);
    if (ftruncate(descriptor, (off_t)(file.length + end)) != 0) {
        close(descriptor);
        text_release(&file);
        SKIP_BECAUSE("no sparse file of 7.6 GB can be made in %s", test_folder());
    }
    close(descriptor);
    text_release(&file);

    pid_t child = fork();
    if (child == 0) {
        struct rlimit limit = { 256 << 20, 256 << 20 };
        struct error err = { 0 };
        if (setrlimit(RLIMIT_AS, &limit) != 0)
            _exit(2);
        struct gguf *gguf = gguf_open(path, &err);
        if (!gguf)
            fprintf(stderr, "# %s\n", err.text);
        _exit(gguf && gguf_tensor_count(gguf) == LAYERS && gguf_array_length(gguf, "tokens") == 100000 ? 0 : 1);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* A file of zeros is full of empty strings: the ceiling on heads bounds the work. */
static void a_large_file_of_nothing_ends_at_the_ceiling(void **state) {
    (void)state;
    struct text file;
    char path[PATH_MAX];
    put_head(&file, 3, 0, 1);
    put_array(&file, "tokens", STRING, 900000000);
    snprintf(path, sizeof path, "%s/zeros.gguf", test_folder());
    int descriptor = open(path, O_CREAT | O_WRONLY, 0600);
    assert_true(descriptor >= 0);
    assert_int_equal(write(descriptor, file.bytes, file.length), file.length);
    text_release(&file);
    if (ftruncate(descriptor, (off_t)8 << 30) != 0) {
        close(descriptor);
        SKIP_BECAUSE("no sparse file of 8 GiB can be made in %s", test_folder());
    }
    close(descriptor);
    struct error err = { 0 };
    assert_null(gguf_open(path, &err));
    assert_non_null(strstr(err.text, "'tokens' claims"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scalars_of_every_kind_are_read),
        cmocka_unit_test(arrays_are_read_by_index),
        cmocka_unit_test(a_brief_head_has_all_but_the_elements_of_arrays),
        cmocka_unit_test(tensors_have_absolute_offsets_and_sizes),
        cmocka_unit_test(a_tensor_that_cannot_be_is_refused),
        cmocka_unit_test(the_same_name_twice_is_refused),
        cmocka_unit_test(heads_of_other_formats_are_refused),
        cmocka_unit_test(claims_beyond_the_file_fail_quickly),
        cmocka_unit_test(arrays_nested_too_deeply_are_refused),
        cmocka_unit_test(a_head_cut_anywhere_is_refused),
        cmocka_unit_test(a_real_vocabulary_is_read),
        cmocka_unit_test(a_large_sparse_file_opens_in_a_small_address_space),
        cmocka_unit_test(a_large_file_of_nothing_ends_at_the_ceiling),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
