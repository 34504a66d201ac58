#include "tests/support.h"
#include "tests/support_golden.h"

#include "runtime/chat_template.h"

#include <stdlib.h>
#include <string.h>

static const char *string_of(const json_t *object, const char *key) {
    return json_string_value(golden_get(object, key));
}

static size_t read_messages(const json_t *list, struct chat_message *messages, size_t capacity) {
    size_t count = json_array_size(list);
    assert_true(count <= capacity);
    for (size_t i = 0; i < count; i++)
        messages[i] = (struct chat_message){ string_of(json_array_get(list, i), "role"),
                                             string_of(json_array_get(list, i), "content") };
    return count;
}

static const json_t *find_named(const json_t *list, const char *name) {
    const json_t *item;
    size_t i;
    json_array_foreach(list, i, item)
        if (strcmp(string_of(item, "name"), name) == 0)
            return item;
    fail_msg("no '%s'", name);
    return NULL;
}

/* An error of the reference is one here, too, in the template's own words. */
static void check_refusal(const json_t *expected, const struct error *err) {
    const char *words = string_of(expected, "message");
    assert_int_equal(err->kind, ERROR_USAGE);
    if (strlen(err->text) < strlen(words) || strcmp(err->text + strlen(err->text) - strlen(words), words) != 0)
        fail_msg("'%s' does not end with '%s'", err->text, words);
}

/* Renders every conversation of a golden template with `source`; `has_words` where that
 * refuses in the same words. */
static void check_renderings(const json_t *root, const json_t *item, const char *source, bool has_words) {
    const json_t *rendered;
    size_t i;
    json_array_foreach(golden_get(item, "rendered"), i, rendered) {
        struct chat_message messages[32];
        const char *conversation = string_of(rendered, "conversation");
        size_t count = read_messages(golden_get(find_named(golden_get(root, "conversations"), conversation),
                                                "messages"), messages, 32);
        struct chat_context context = { string_of(item, "bos_token"), string_of(item, "eos_token"),
                                        json_is_true(golden_get(rendered, "add_generation_prompt")), NULL };
        struct error err = { 0 };
        struct text prompt;
        text_init(&prompt);
        bool ok = chat_template_render(source, "golden", messages, count, &context, &prompt, &err);
        const json_t *expected = json_object_get(rendered, "text");
        if (ok != (expected != NULL))
            fail_msg("%s, %s: %s", string_of(item, "name"), conversation, ok ? "no error" : err.text);
        if (ok && strcmp(prompt.bytes, json_string_value(expected)) != 0)
            fail_msg("%s, %s:\n'%s', expected\n'%s'", string_of(item, "name"), conversation, prompt.bytes,
                     json_string_value(expected));
        if (!ok && has_words)
            check_refusal(golden_get(rendered, "error"), &err);
        text_release(&prompt);
    }
    assert_int_equal(i, 34);
}

static void published_templates_render_like_the_reference(void **state) {
    (void)state;
    struct golden golden;
    if (!golden_load(&golden, "goldens/chat/chat.json"))
        SKIP_BECAUSE("no goldens/chat/chat.json");
    const json_t *item;
    size_t i;
    json_array_foreach(golden_get(golden.root, "templates"), i, item)
        check_renderings(golden.root, item, string_of(item, "template"), true);
    assert_int_equal(i, 21);
    golden_release(&golden);
}

static void built_in_templates_render_like_the_published_ones(void **state) {
    (void)state;
    static const struct { const char *builtin, *published; } pairs[] = {
        { "phi3", "phi3-mini" }, { "chatml", "chatml" }, { "llama2", "llama2" },
    };
    struct golden golden;
    if (!golden_load(&golden, "goldens/chat/chat.json"))
        SKIP_BECAUSE("no goldens/chat/chat.json");
    for (size_t i = 0; i < 3; i++) {
        const char *source = chat_template_builtin(pairs[i].builtin);
        assert_non_null(source);
        check_renderings(golden.root, find_named(golden_get(golden.root, "templates"), pairs[i].published), source, false);
    }
    assert_null(chat_template_builtin("chatml2"));
    golden_release(&golden);
}

static const struct chat_message talk[] = {
    { "system", "Be brief." }, { "user", " Hi \n" }, { "assistant", "Hello" }, { "user", "Bye" },
};

static bool render(const char *source, struct text *out, struct error *err) {
    struct chat_context context = { "<s>", "</s>", true, NULL };
    text_init(out);
    return chat_template_render(source, "m", talk, 4, &context, out, err);
}

static void bytes_that_are_no_text_become_replacement_characters(void **state) {
    (void)state;
    const struct chat_message message = { "user", "a\xff\xc3" };
    struct chat_context context = { "", "", true, NULL };
    struct error err = { 0 };
    struct text out;
    text_init(&out);
    ASSERT_OK(chat_template_render("{{ messages[0].content }}|{{ bos_token is defined }}", "m", &message, 1, &context,
                                   &out, &err), err);
    assert_string_equal(out.bytes, "a\xef\xbf\xbd\xef\xbf\xbd|False");
    text_release(&out);
}

static void messages_keep_what_else_they_hold(void **state) {
    (void)state;
    static const char source[] =
        "{% for m in messages %}{{ m.role }}:{{ m.content if m.content is string else m.content|tojson }};"
        "{% for call in m.tool_calls %}{{ call.function.name }}({{ call.function.arguments|tojson }});{% endfor %}"
        "{% endfor %}{{ tools|map(attribute='name')|join(',') }}{{ documents }}{{ enable_thinking }}";
    json_t *root = json_loads(
        "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"h\u00e9\"}]},"
        " {\"role\": \"assistant\", \"content\": null, \"tool_calls\": [{\"function\": {\"name\": \"f\","
        " \"arguments\": {\"z\": 1, \"a\": [true, 2.50]}}}]}], \"tools\": [{\"name\": \"f\"}, {\"name\": \"g\"}],"
        " \"enable_thinking\": false}", 0, NULL);
    struct chat_context context = { "<s>", "</s>", true, NULL };
    struct error err = { 0 };
    struct text out;
    text_init(&out);
    ASSERT_OK(chat_template_render_json(source, "m", json_object_get(root, "messages"), root, &context, &out, &err), err);
    assert_string_equal(out.bytes, "user:[{\"type\": \"text\", \"text\": \"h\xc3\xa9\"}];assistant:null;"
                                   "f({\"z\": 1, \"a\": [true, 2.5]});f,gNoneFalse");
    text_release(&out);
    json_decref(root);
}

static void a_failure_leaves_the_prompt_as_it_was(void **state) {
    (void)state;
    struct error err = { 0 };
    struct text out;
    assert_false(render("x{{ raise_exception('no way') }}", &out, &err));
    assert_int_equal(err.kind, ERROR_USAGE);
    assert_string_equal(err.text, "the chat template of 'm' refuses these messages: no way");
    assert_int_equal(out.length, 0);
    assert_false(render("{{ messages|pprint }}", &out, &err));
    assert_int_equal(err.kind, ERROR_FAILED);
    assert_string_equal(err.text, "the chat template of 'm' uses the filter 'pprint' in line 1, which phirun does not "
                                  "know; choose another template with --template or give the whole prompt with --raw");
    text_release(&out);
}

/* A hole in the prompt would go unseen: what the model does not name is refused. */
static void special_tokens_are_printed_or_refused(void **state) {
    (void)state;
    struct error err = { 0 };
    struct text out;
    json_t *named = json_pack("{s:s}", "unk_token", "<?>");
    struct chat_context context = { "", "", true, named };
    text_init(&out);
    ASSERT_OK(chat_template_render("{{ unk_token ~ bos_token }}{% if pad_token is defined %}{{ pad_token }}{% endif %}", "m",
                                   talk, 4, &context, &out, &err), err);
    assert_string_equal(out.bytes, "<?>");
    assert_false(chat_template_render("{{ unk_token }}{{ 'x' ~ pad_token }}", "m", talk, 4, &context, &out, &err));
    assert_string_equal(err.text, "the chat template of 'm' uses the special token 'pad_token' in line 1, which phirun "
                                  "does not know; choose another template with --template or give the whole prompt "
                                  "with --raw");
    text_release(&out);
    json_decref(named);
}

static void a_template_that_is_not_there_says_which_there_are(void **state) {
    (void)state;
    struct error err = { 0 };
    char *source = chat_template_read("chatml", &err);
    assert_string_equal(source, chat_template_builtin("chatml"));
    free(source);
    assert_null(chat_template_read("no/chatml", &err));
    assert_non_null(strstr(err.text, "--template takes phi3, chatml, llama2 or a file: "));
    assert_non_null(strstr(err.text, "'no/chatml'"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(special_tokens_are_printed_or_refused),
        cmocka_unit_test(published_templates_render_like_the_reference),
        cmocka_unit_test(built_in_templates_render_like_the_published_ones),
        cmocka_unit_test(bytes_that_are_no_text_become_replacement_characters),
        cmocka_unit_test(messages_keep_what_else_they_hold),
        cmocka_unit_test(a_failure_leaves_the_prompt_as_it_was),
        cmocka_unit_test(a_template_that_is_not_there_says_which_there_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
