#include "tests/support.h"

#include "common/model_source.h"
#include "tests/support_checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const variables[] = { "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME" };

static void clear_environment(void) {
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
        unsetenv(variables[i]);
}

static void make_directories(const char *path) {
    char part[4096];
    for (size_t i = 1; path[i - 1]; i++)
        if (path[i] == '/' || !path[i]) {
            snprintf(part, sizeof part, "%.*s", (int)i, path);
            mkdir(part, 0700);
        }
}

/* A cache with one model: revision main is commit "aaa1", the pull request 7 is
 * "bbb2"; a third snapshot is named by its full sha. */
#define FULL_SHA "0123456789abcdef0123456789abcdef01234567"
static void make_cache(const char *root) {
    static const char *const commits[] = { "aaa1", "bbb2", FULL_SHA };
    char path[4096];
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/models--org--tiny.model-1/snapshots/%s", root, commits[i]);
        make_directories(path);
        support_write_text(support_path(path, "config.json"), "{}");
    }
    snprintf(path, sizeof path, "%s/models--org--tiny.model-1/refs/pr", root);
    make_directories(path);
    snprintf(path, sizeof path, "%s/models--org--tiny.model-1/refs", root);
    support_write_text(support_path(path, "main"), "aaa1");
    support_write_text(support_path(path, "pr/7"), "bbb2\n");
    support_write_text(support_path(path, "gone"), "ccc3");
    support_write_text(support_path(path, "evil"), "../../../..");
    /* A ref of that name must not be asked for a full sha. */
    support_write_text(support_path(path, FULL_SHA), "aaa1");
}

static void expect_snapshot(const char *argument, const char *commit) {
    struct error err = { 0 };
    struct model_source source;
    ASSERT_OK(model_source_resolve(&source, argument, &err), err);
    assert_true(source.from_hub);
    assert_int_equal(source.kind, SOURCE_DIRECTORY);
    assert_string_equal(source.argument, argument);
    assert_string_equal(strrchr(source.path, '/') + 1, commit);
    assert_int_equal(source.path[0], '/');
    char *file = model_source_file(&source, "config.json");
    assert_int_equal(access(file, R_OK), 0);
    free(file);
    model_source_release(&source);
}

static void expect_refusal(const char *argument, const char *says) {
    struct error err = { 0 };
    struct model_source source;
    bool found = model_source_resolve(&source, argument, &err);
    if (found || !strstr(err.text, says))
        fail_msg("'%s' should be refused with '%s': %s", argument, says, found ? "accepted" : err.text);
    assert_null(source.path);
}

static void revisions_lead_to_their_snapshots(void **state) {
    (void)state;
    const char *root = support_directory("cache");
    clear_environment();
    make_cache(root);
    setenv("HF_HUB_CACHE", root, 1);
    expect_snapshot("org/tiny.model-1", "aaa1");
    expect_snapshot("org/tiny.model-1@main", "aaa1");
    expect_snapshot("org/tiny.model-1@pr/7", "bbb2");
    expect_snapshot("org/tiny.model-1@bbb2", "bbb2");
    expect_snapshot("org/tiny.model-1@" FULL_SHA, FULL_SHA);
}

static void an_unknown_revision_is_never_another_one(void **state) {
    (void)state;
    const char *root = support_directory("unknown");
    clear_environment();
    make_cache(root);
    setenv("HF_HUB_CACHE", root, 1);
    expect_refusal("org/tiny.model-1@v2", "not its revision 'v2'");
    expect_refusal("org/tiny.model-1@gone", "not its revision 'gone'");
    expect_refusal("org/tiny.model-1@evil", "not its revision 'evil'");
    expect_refusal("org/tiny.model-1@ffffffffffffffffffffffffffffffffffffffff", "not its revision");
    expect_refusal("org/other", "neither a path nor in the Hugging Face cache");
    expect_refusal("org/other", "nothing is downloaded");
    expect_refusal("org/tiny.model-1@../main", "there is no");
    expect_refusal("org/tiny.model-1@", "there is no");
    expect_refusal("../org", "there is no");
    expect_refusal("org", "there is no");
    expect_refusal("a/b/c", "there is no");
}

static void the_first_variable_that_is_set_names_the_cache(void **state) {
    (void)state;
    const char *home = support_directory("home");
    char path[4096];
    clear_environment();
    setenv("HOME", home, 1);
    snprintf(path, sizeof path, "%s/.cache/huggingface/hub", home);
    make_directories(path);
    make_cache(path);
    expect_snapshot("org/tiny.model-1", "aaa1");
    setenv("XDG_CACHE_HOME", "~/xdg", 1);
    expect_refusal("org/tiny.model-1", "/xdg/huggingface/hub'");
    setenv("HF_HOME", "$HOME/hf", 1);
    expect_refusal("org/tiny.model-1", "/hf/hub'");
    setenv("HUGGINGFACE_HUB_CACHE", "${HOME}/old", 1);
    expect_refusal("org/tiny.model-1", "/old'");
    setenv("HF_HUB_CACHE", "~/.cache/huggingface/hub", 1);
    expect_snapshot("org/tiny.model-1", "aaa1");
    setenv("HF_HUB_CACHE", "", 1);
    expect_refusal("org/tiny.model-1", "/old'");
    clear_environment();
}

static void a_path_that_exists_wins_over_a_hub_name(void **state) {
    (void)state;
    struct error err = { 0 };
    struct model_source source;
    char before[4096], path[4096];
    const char *folder = support_directory("paths");
    assert_non_null(getcwd(before, sizeof before));
    snprintf(path, sizeof path, "%s/org/name", folder);
    make_directories(path);
    support_write_text(support_path(path, "config.json"), "{}");
    assert_int_equal(chdir(folder), 0);
    bool found = model_source_resolve(&source, "org/name", &err);
    assert_int_equal(chdir(before), 0);
    ASSERT_OK(found, err);
    assert_false(source.from_hub);
    assert_int_equal(source.path[0], '/');
    assert_non_null(strstr(source.path, "/paths/org/name"));
    model_source_release(&source);
}

static void a_directory_with_one_gguf_is_that_file(void **state) {
    (void)state;
    struct error err = { 0 };
    struct model_source source;
    const char *folder = support_directory("ggufs");
    expect_refusal(folder, "neither a config.json nor a .gguf");
    support_write_text(support_path(folder, "a.gguf"), "GGUF");
    ASSERT_OK(model_source_resolve(&source, folder, &err), err);
    assert_int_equal(source.kind, SOURCE_GGUF);
    assert_non_null(strstr(source.path, "/ggufs/a.gguf"));
    char *beside = model_source_file(&source, "x.json");
    assert_non_null(strstr(beside, "/ggufs/x.json"));
    free(beside);
    model_source_release(&source);
    support_write_text(support_path(folder, "b.gguf"), "GGUF");
    expect_refusal(folder, "name one of the files");
    support_write_text(support_path(folder, "config.json"), "{}");
    ASSERT_OK(model_source_resolve(&source, folder, &err), err);
    assert_int_equal(source.kind, SOURCE_DIRECTORY);
    model_source_release(&source);
}

static void a_link_keeps_its_name(void **state) {
    (void)state;
    struct error err = { 0 };
    struct model_source source;
    const char *folder = support_directory("links");
    const char *blob = support_path(folder, "0f3a"), *link = support_path(folder, "m.gguf");
    support_write_text(blob, "GGUF");
    support_link(blob, link);
    ASSERT_OK(model_source_resolve(&source, link, &err), err);
    assert_string_equal(strrchr(source.path, '/') + 1, "m.gguf");
    model_source_release(&source);
    /* A blob by itself is known by its first bytes. */
    ASSERT_OK(model_source_resolve(&source, blob, &err), err);
    assert_int_equal(source.kind, SOURCE_GGUF);
    model_source_release(&source);
    const char *weights = support_path(folder, "model.safetensors");
    support_write_text(weights, "x");
    expect_refusal(weights, "name its directory");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(revisions_lead_to_their_snapshots),
        cmocka_unit_test(an_unknown_revision_is_never_another_one),
        cmocka_unit_test(the_first_variable_that_is_set_names_the_cache),
        cmocka_unit_test(a_path_that_exists_wins_over_a_hub_name),
        cmocka_unit_test(a_directory_with_one_gguf_is_that_file),
        cmocka_unit_test(a_link_keeps_its_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
