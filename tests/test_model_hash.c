#include "tests/support.h"

#include "common/model.h"
#include "tests/support_checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct model *open_path(const char *path, const struct model_options *options, struct error *err) {
    struct model_source source;
    if (!model_source_resolve(&source, path, err))
        return NULL;
    struct model *model = model_open(&source, options, err);
    model_source_release(&source);
    return model;
}

/* What a shell command prints first; the independent reference. */
static void shell(char hex[65], const char *format, const char *path) {
    char command[8192];
    snprintf(command, sizeof command, format, path);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    assert_int_equal(fread(hex, 1, 64, pipe), 64);
    hex[64] = '\0';
    pclose(pipe);
}

static void memory_has_the_published_digest(void **state) {
    (void)state;
    char hex[65];
    sha256_hex("abc", 3, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    sha256_hex("", 0, hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

static void one_file_has_the_hash_that_sha256sum_prints(void **state) {
    (void)state;
    const char *path = test_data("models/gguf/quantizable-tiny-Q4_1.gguf");
    struct error err = { 0 };
    struct model_hashes hashes;
    char expected[65];
    if (!path)
        SKIP_BECAUSE("no models/gguf/quantizable-tiny-Q4_1.gguf");
    struct model *model = open_path(path, NULL, &err);
    ASSERT_OK(model, err);
    ASSERT_OK(model_hash(model, NULL, NULL, NULL, &hashes, &err), err);
    shell(expected, "sha256sum '%s'", path);
    assert_string_equal(hashes.weights, expected);
    assert_string_equal(hashes.text, expected);
    model_close(model);
}

static void a_directory_hashes_its_sorted_lines(void **state) {
    (void)state;
    const char *path = test_data("models/phi3-tiny-longrope");
    struct error err = { 0 };
    struct model_hashes hashes;
    char expected[65];
    if (!path)
        SKIP_BECAUSE("no models/phi3-tiny-longrope");
    struct model *model = open_path(path, NULL, &err);
    ASSERT_OK(model, err);
    ASSERT_OK(model_hash(model, NULL, NULL, NULL, &hashes, &err), err);
    shell(expected, "cd '%s' && sha256sum config.json *.safetensors | LC_ALL=C sort | sha256sum", path);
    assert_string_equal(hashes.weights, expected);
    shell(expected, "cd '%s' && sha256sum $(ls added_tokens.json chat_template.jinja generation_config.json "
          "special_tokens_map.json tokenizer.json tokenizer.model tokenizer_config.json 2>/dev/null) "
          "| LC_ALL=C sort | sha256sum", path);
    assert_string_equal(hashes.text, expected);
    model_close(model);
}

static struct model *copy_of_phi3_tiny(const char *name, const char **directory, struct error *err) {
    static const char *const files[] = { "config.json", "model.safetensors", "tokenizer.json" };
    const char *original = test_data("models/phi3-tiny");
    if (!original)
        return NULL;
    *directory = support_directory(name);
    for (int i = 0; i < 3; i++)
        support_link(support_path(original, files[i]), support_path(*directory, files[i]));
    struct model *model = open_path(*directory, NULL, err);
    ASSERT_OK(model, *err);
    return model;
}

static void editing_a_template_leaves_the_weights_hash(void **state) {
    (void)state;
    struct error err = { 0 };
    struct model_hashes before, after;
    const char *directory;
    struct model *model = copy_of_phi3_tiny("edited", &directory, &err);
    if (!model)
        SKIP_BECAUSE("no models/phi3-tiny");
    ASSERT_OK(model_hash(model, NULL, NULL, NULL, &before, &err), err);
    support_write_text(support_path(directory, "chat_template.jinja"), "{{ x }}");
    ASSERT_OK(model_hash(model, NULL, NULL, NULL, &after, &err), err);
    assert_string_equal(before.weights, after.weights);
    assert_string_not_equal(before.text, after.text);
    model_close(model);
}

/* ---- progress and cache ---- */

struct seen {
    uint64_t done, total, stop_at;
    unsigned calls, found, stored;
    char path[4][4096], hex[4][65];
};

static bool watch(void *context, uint64_t done, uint64_t total) {
    struct seen *seen = context;
    assert_true(done >= seen->done && done <= total);
    assert_true(!seen->total || seen->total == total);
    seen->done = done;
    seen->total = total;
    seen->calls++;
    return done < seen->stop_at;
}

static void store(void *context, const char *path, const struct stat *status, const char *hex) {
    struct seen *seen = context;
    assert_true(seen->stored < 4 && status->st_size > 0);
    strcpy(seen->path[seen->stored], path);
    strcpy(seen->hex[seen->stored++], hex);
}

static bool find(void *context, const char *path, char hex[65]) {
    struct seen *seen = context;
    for (unsigned i = 0; i < seen->stored; i++)
        if (strcmp(seen->path[i], path) == 0) {
            strcpy(hex, seen->hex[i]);
            seen->found++;
            return true;
        }
    return false;
}

static void digests_come_from_the_cache_where_it_knows_them(void **state) {
    (void)state;
    struct error err = { 0 };
    struct seen seen = { .stop_at = UINT64_MAX };
    const struct hash_cache cache = { &seen, find, store };
    struct model_hashes first, second;
    const char *directory;
    struct model *model = copy_of_phi3_tiny("cached", &directory, &err);
    if (!model)
        SKIP_BECAUSE("no models/phi3-tiny");
    ASSERT_OK(model_hash(model, &cache, watch, &seen, &first, &err), err);
    assert_int_equal(seen.stored, 3);
    assert_int_equal(seen.done, seen.total);
    assert_true(seen.total > model->files[0].size_bytes);
    unsigned calls = seen.calls;
    assert_true(calls >= 5);   /* the weights are read in pieces */
    seen.done = 0;
    ASSERT_OK(model_hash(model, &cache, watch, &seen, &second, &err), err);
    assert_int_equal(seen.found, 3);
    assert_int_equal(seen.stored, 3);
    assert_int_equal(seen.done, seen.total);
    assert_string_equal(first.weights, second.weights);
    assert_string_equal(first.text, second.text);
    /* What the cache says is believed. */
    seen.hex[0][0] = seen.hex[0][0] == 'a' ? 'b' : 'a';
    ASSERT_OK(model_hash(model, &cache, NULL, NULL, &second, &err), err);
    assert_string_not_equal(first.weights, second.weights);
    model_close(model);
}

static void hashing_can_be_interrupted(void **state) {
    (void)state;
    struct error err = { 0 };
    struct seen seen = { .stop_at = 2 << 20 };
    const struct hash_cache cache = { &seen, find, store };
    struct model_hashes hashes;
    const char *directory;
    struct model *model = copy_of_phi3_tiny("interrupted", &directory, &err);
    if (!model)
        SKIP_BECAUSE("no models/phi3-tiny");
    assert_false(model_hash(model, &cache, watch, &seen, &hashes, &err));
    assert_int_equal(err.kind, ERROR_INTERRUPTED);
    assert_int_equal(seen.stored, 0);
    model_close(model);
}

/* As a download that goes on does. */
static bool write_meanwhile(void *context, uint64_t done, uint64_t total) {
    FILE *file = fopen(context, "r+");
    assert_non_null(file);
    assert_true(done <= total && fseek(file, -1, SEEK_END) == 0 && fputc(done % 251, file) != EOF);
    assert_int_equal(fclose(file), 0);
    return true;
}

static void a_file_that_changes_while_it_is_read_has_no_hash(void **state) {
    (void)state;
    struct error err = { 0 };
    struct seen seen = { .stop_at = UINT64_MAX };
    const struct hash_cache cache = { &seen, find, store };
    struct model_hashes hashes;
    const char *original = test_data("models/phi3-tiny"), *directory = support_directory("changing");
    if (!original)
        SKIP_BECAUSE("no models/phi3-tiny");
    char command[9000], weights[4200];
    snprintf(weights, sizeof weights, "%s/model.safetensors", directory);
    snprintf(command, sizeof command, "cp '%s'/config.json '%s'/model.safetensors '%s' && touch -d @1 '%s'", original,
             original, directory, weights);
    assert_int_equal(system(command), 0);
    struct model *model = open_path(directory, NULL, &err);
    ASSERT_OK(model, err);
    assert_false(model_hash(model, &cache, write_meanwhile, weights, &hashes, &err));
    assert_non_null(strstr(err.text, "model.safetensors' changed while it was hashed"));
    assert_int_equal(seen.stored, 0);
    ASSERT_OK(model_hash(model, &cache, NULL, NULL, &hashes, &err), err);
    model_close(model);
}

static void a_model_without_weights_has_no_hash(void **state) {
    (void)state;
    struct error err = { 0 };
    struct model_hashes hashes;
    const struct model_options dry = { .headers_optional = true };
    const char *directory = support_directory("dry");
    support_phi3_mini_config(directory, "");
    struct model *model = open_path(directory, &dry, &err);
    ASSERT_OK(model, err);
    assert_false(model_hash(model, NULL, NULL, NULL, &hashes, &err));
    assert_non_null(strstr(err.text, "dry run"));
    model_close(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_has_the_published_digest),
        cmocka_unit_test(one_file_has_the_hash_that_sha256sum_prints),
        cmocka_unit_test(a_directory_hashes_its_sorted_lines),
        cmocka_unit_test(editing_a_template_leaves_the_weights_hash),
        cmocka_unit_test(digests_come_from_the_cache_where_it_knows_them),
        cmocka_unit_test(hashing_can_be_interrupted),
        cmocka_unit_test(a_file_that_changes_while_it_is_read_has_no_hash),
        cmocka_unit_test(a_model_without_weights_has_no_hash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
