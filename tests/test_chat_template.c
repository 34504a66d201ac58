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

/* Renders every conversation of a golden template with `source`; an error there
 * must be an error here. */
static void check_renderings(const json_t *root, const json_t *item, const char *source) {
    const json_t *rendered;
    size_t i;
    json_array_foreach(golden_get(item, "rendered"), i, rendered) {
        struct chat_message messages[32];
        const char *conversation = string_of(rendered, "conversation");
        size_t count = read_messages(golden_get(find_named(golden_get(root, "conversations"), conversation),
                                                "messages"), messages, 32);
        struct chat_context context = { string_of(item, "bos_token"), string_of(item, "eos_token"),
                                        json_is_true(golden_get(rendered, "add_generation_prompt")) };
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
        check_renderings(golden.root, item, string_of(item, "template"));
    assert_true(i > 10);
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
        check_renderings(golden.root, find_named(golden_get(golden.root, "templates"), pairs[i].published), source);
    }
    assert_null(chat_template_builtin("chatml2"));
    golden_release(&golden);
}

static const struct chat_message talk[] = {
    { "system", "Be brief." }, { "user", " Hi \n" }, { "assistant", "Hello" }, { "user", "Bye" },
};

static bool render(const char *source, struct text *out, struct error *err) {
    struct chat_context context = { "<s>", "</s>", true };
    text_init(out);
    return chat_template_render(source, "m", talk, 4, &context, out, err);
}

static void assert_renders(const char *source, const char *expected) {
    struct error err = { 0 };
    struct text out;
    ASSERT_OK(render(source, &out, &err), err);
    assert_string_equal(out.bytes, expected);
    text_release(&out);
}

static void assert_refused(const char *source, const char *part) {
    struct error err = { 0 };
    struct text out;
    if (render(source, &out, &err))
        fail_msg("'%s' gave '%s'", source, out.bytes);
    if (!strstr(err.text, part))
        fail_msg("'%s' is not in '%s'", part, err.text);
    assert_int_equal(out.length, 0);
    text_release(&out);
}

static void white_space_round_tags_follows_the_reference(void **state) {
    (void)state;
    assert_renders("a\n  {% if true %}\nb\n  {% endif %}\nc\n", "a\nb\nc");
    assert_renders("a \n {%- if true -%} \n b \n {%- endif %} c", "ab c");
    assert_renders("a {{ 1 }}\n b {{- 2 -}} \n c", "a 1\n b2c");
    assert_renders("  {%+ if true %}x{% endif +%}\n", "  x");
    assert_renders("x\r\n{# note #}\r\ny", "x\ny");
    assert_renders("a{% if true %}\n\nb{% endif %}", "a\nb");
}

static void expressions_follow_the_reference(void **state) {
    (void)state;
    assert_renders("{{ 7 % 3 }} {{ -7 % 3 }} {{ 2 + 3 * 4 - 1 }} {{ 7 // 2 }}", "1 2 13 3");
    assert_renders("{{ 'a' 'b' + \"c\\n\" ~ 1 ~ none }}", "abc\n1None");
    assert_renders("{{ messages|length - 1 }} {{ messages[-1].content }} {{ messages[1].content | trim }}", "3 Bye Hi");
    assert_renders("{% for m in messages[::-1] %}{{ m.role[0:0] if false else m['role'] ~ loop.index }} {% endfor %}",
                   "user1 assistant2 user3 system4 ");
    assert_renders("{{ 'x' if false }}{{ 1 if 2 > 1 else oops() }}{{ true and 'y' or 'z' }}", "1y");
}

static void variables_live_as_long_as_their_loop(void **state) {
    (void)state;
    assert_renders("{% set a = 1 %}{% for m in messages %}{{ a }}{% set a = 2 %}{{ a }} {% endfor %}{{ a }}",
                   "12 12 12 12 1");
    assert_renders("{% set n = namespace(k=0) %}{% for m in messages %}{% set n.k = n.k + 2 %}{% endfor %}{{ n.k }}",
                   "8");
    assert_renders("{% for m in [] %}x{% else %}none{% endfor %}", "none");
    assert_renders("{% if not x is defined and 'He' in messages[2].content %}y{% elif crash() %}{% endif %}", "y");
}

static void what_is_not_supported_is_named(void **state) {
    (void)state;
    assert_refused("{% macro f() %}{% endmacro %}", "'macro'");
    assert_refused("{{ messages | tojson }}", "'tojson'");
    assert_refused("{{ messages[0].content.title() }}", "'title'");
    assert_refused("{{ range(3) }}", "'range'");
    assert_refused("{{ pad_token }}", "'pad_token'");
    assert_refused("{{ raise_exception('no way') }}", "no way");
    assert_refused("{{ nothing.at_all }}", "undefined");
    assert_refused("{{ 'x' + 1 }}", "a sum");
    assert_refused("{{ 'open", "without an end");
    assert_refused("{% if true %}x", "not understood");
    assert_refused("x{% endif %}", "not understood");
    assert_refused("{{ 1 1 }}", "not understood");
    assert_refused("{% for m in messages if m.role == 'user' %}{% endfor %}", "not understood");
    assert_refused("{{ 1 < 2 < 3 }}", "not understood");
}

static void hostile_templates_end_with_a_sentence(void **state) {
    (void)state;
    struct text deep, wide;
    text_init(&deep);
    text_init(&wide);
    for (int i = 0; i < 100000; i++)
        text_append(&deep, "{{ ((((");
    for (int i = 0; i < 20; i++)
        text_append(&wide, "{% for m in messages %}");
    for (int i = 0; i < 20; i++)
        text_append(&wide, "{% endfor %}");
    assert_refused(deep.bytes, "");
    assert_refused(wide.bytes, "too many steps");
    assert_refused("{% set n = namespace(s='xxxxxxxx') %}{% for a in messages %}{% for b in messages %}"
                   "{% for c in messages %}{% set n.s = n.s + n.s %}{% endfor %}{% endfor %}{% endfor %}", "memory");
    text_release(&deep);
    text_release(&wide);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_templates_render_like_the_reference),
        cmocka_unit_test(built_in_templates_render_like_the_published_ones),
        cmocka_unit_test(white_space_round_tags_follows_the_reference),
        cmocka_unit_test(expressions_follow_the_reference),
        cmocka_unit_test(variables_live_as_long_as_their_loop),
        cmocka_unit_test(what_is_not_supported_is_named),
        cmocka_unit_test(hostile_templates_end_with_a_sentence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
