#include "tests/support.h"

#include "runtime/jinja.h"

#include <stdlib.h>
#include <string.h>

/* What the templates of these tests can use. */
static const char variables[] =
    "{\"s\": \"abc\", \"u\": \"\\u00e9\\ud83e\\udd99 x\", \"e\": \"\", \"z\": 0, \"nul\": null, \"t\": true,"
    " \"d\": {\"a\": 1, \"b\": [1, 2.5, null, true, \"x'y\"], \"n\": {\"k\": \"v\"}},"
    " \"items\": [{\"n\": \"B\", \"v\": 2}, {\"n\": \"a\", \"v\": 1}, {\"n\": \"a\", \"v\": 3}],"
    " \"lines\": \"a\\n\\nb\\r\\nc\\n\"}";

static bool render_bytes(const char *source, size_t size, struct text *out, struct error *err) {
    json_t *given = json_loads(variables, 0, NULL);
    assert_non_null(given);
    text_init(out);
    *err = (struct error){ 0 };
    bool ok = jinja_render(source, size, "m", given, out, err);
    json_decref(given);
    return ok;
}

static void renders(const char *source, const char *expected) {
    struct error err;
    struct text out;
    if (!render_bytes(source, strlen(source), &out, &err))
        fail_msg("'%s': %s", source, err.text);
    if (strcmp(out.bytes, expected) != 0)
        fail_msg("'%s' gave\n'%s', expected\n'%s'", source, out.bytes, expected);
    text_release(&out);
}

/* Fails with a sentence that holds `part` and leaves nothing behind. */
static void fails(const char *source, const char *part) {
    struct error err;
    struct text out;
    if (render_bytes(source, strlen(source), &out, &err))
        fail_msg("'%s' gave '%s'", source, out.bytes);
    if (!strstr(err.text, part) || !strstr(err.text, "the chat template of 'm' "))
        fail_msg("'%s' is not in '%s'", part, err.text);
    if (err.kind == ERROR_FAILED && !strstr(err.text, "with --template or give the whole prompt with --raw"))
        fail_msg("no next step in '%s'", err.text);
    assert_int_equal(out.length, 0);
    text_release(&out);
}

/* The expected texts in this file are what jinja2 3.1.6 prints, set up as transformers does. */

static void white_space_round_tags(void **state) {
    (void)state;
    renders("a\n{%- if 1 %}\n  b\n{% endif %}\nc\n\n", "a  b\nc\n");
    renders("a\n  {% if true %}\nb\n  {% endif %}\nc\n", "a\nb\nc");
    renders("  {% if 1 %}x{% endif %}  \n  {{ 1 }}\n", "x  \n  1");
    renders("  {%+ if 1 %}x{% endif +%}\n y", "  x\n y");
    renders("a {# c #}\n b", "a  b");
    renders("  {# c #}\nb", "b");
    renders("a{#- -#}\n  b{#-#}x", "abx");
    renders("{% raw %}\n {{ x }} {% endraw %}\n z", "\n {{ x }}  z");
    renders("a  {%- raw -%}  {{ x }}  {%- endraw -%}  b", "a{{ x }}b");
    renders("  {% raw %}\n  a\n  {% endraw %}\n\n", "\n  a\n");
    renders("a\r\nb\rc{{ 'x\r\ny' }}", "a\nb\ncx\ny");
    renders("\t {% if 1 %}\t {% endif %}\n b", "\t  b");
    renders("\xc2\xa0{%- if 1 -%}\xe3\x80\x80x\xe2\x80\xa8{%- endif %}", "x");
    renders("{{ '{{' }}{{ {'a':{'b':1}} }}{{ 1 -}}  \n x", "{{{'a': {'b': 1}}1x");
    renders("", "");
    renders("x\n\n", "x\n");
}

static void values_print_as_in_python(void **state) {
    (void)state;
    renders("{{ d }} {{ (1,) }} {{ () }} {{ [[]] }} {{ nul }} {{ t }} {{ missing }}",
            "{'a': 1, 'b': [1, 2.5, None, True, \"x'y\"], 'n': {'k': 'v'}} (1,) () [[]] None True ");
    renders("{{ 1e20 }} {{ 1/3 }} {{ 10/2 }} {{ 1e16 }} {{ 1e15 }} {{ 0.0001 }} {{ 0.00001 }} {{ 5e-324 }} {{ 1e400 }}",
            "1e+20 0.3333333333333333 5.0 1e+16 1000000000000000.0 0.0001 1e-05 5e-324 inf");
    renders("{{ ['\\x00\\x7f\\xe9\\u200b\\U0001f999\\\\\\n'] }} {{ ['\\'\"'] }}",
            "['\\x00\\x7f\xc3\xa9\\u200b\xf0\x9f\xa6\x99\\\\\\n'] ['\\'\"']");
    renders("{{ namespace(a=1) }}{{ dict(d.n, y=2) }}", "<Namespace {'a': 1}>{'k': 'v', 'y': 2}");
}

static void json_is_what_the_reference_writes(void **state) {
    (void)state;
    renders("{{ d | tojson }}", "{\"a\": 1, \"b\": [1, 2.5, null, true, \"x'y\"], \"n\": {\"k\": \"v\"}}");
    renders("{{ {'b':[],'a':{'d':1,'c':{}}}|tojson(indent=2) }}",
            "{\n  \"b\": [],\n  \"a\": {\n    \"d\": 1,\n    \"c\": {}\n  }\n}");
    renders("{{ \"\xc3\xa9\\u2028\\x7f\\x01<&'>\" | tojson }} {{ u | tojson(ensure_ascii=true) }}",
            "\"\xc3\xa9\xe2\x80\xa8\x7f\\u0001<&'>\" \"\\u00e9\\ud83e\\udd99 x\"");
    renders("{{ {'b':1,'a':2}|tojson(sort_keys=true, separators=(',',':')) }} {{ {1:2,none:3,true:4,false:5}|tojson }}",
            "{\"a\":2,\"b\":1} {\"1\": 4, \"null\": 3, \"false\": 5}");
    fails("{{ missing|tojson }}", "Object of type Undefined is not JSON serializable");
}

static void operators_follow_the_reference(void **state) {
    (void)state;
    renders("{{ 2**3**2 }} {{ -2**2 }} {{ 7//-2 }} {{ -7 % 3 }} {{ 2**-1 }} {{ -7.5//2 }} {{ -7.5 % 2 }}",
            "64 4 -4 2 0.5 -4.0 0.5");
    renders("{{ 1 < 2 < 3 }} {{ 3 > 2 > 2 }} {{ 1 == 1.0 == true }} {{ 1 in [1] not in [2] }} {{ not 1 in [2] }}",
            "True False True True True");
    renders("{{ 'x' ~ 1 + 2 ~ 'y' }} {{ 10 - 2 - 3 }} {{ - 1|abs }} {{ 'a' ~ 'b' == 'ab' }} {{ 1 + 1 in [2] }}",
            "x12y 5 1 True True");
    fails("{{ 'x' ~ (1 + none) }}", "unsupported operand types for +: 'int' and 'NoneType'");
    renders("{{ 0 or 'a' }}{{ '' and 1 }}{{ [] or 'x' }}{{ 1 if e else 2 }}{{ 1 if false }}{{ 'a' 'b' }}", "ax2ab");
    renders("{{ [1] + [2] }} {{ (1,) + (2,) }} {{ 'ab' * 2 }} {{ 2 * [0] }} {{ [1,[2]] == [1.0,[2]] }} {{ (1,) == [1] }}",
            "[1, 2] (1, 2) abab [0, 0] True False");
    renders("{{ '%s is %d %.2f %5s|%-5s|%05d|%x' % ('x', 3, 2.555, 'a', 'b', 42, 255) }}", "x is 3 2.56     a|b    |00042|ff");
    renders("{{ 1_000 }} {{ 0x1F }} {{ 0b11 }} {{ 1.5e3 }} {{ '\\x41\\u00e9\\101\\q' }}", "1000 31 3 1500.0 A\xc3\xa9" "A\\q");
}

static void what_is_inside_a_value_is_found(void **state) {
    (void)state;
    renders("{{ d.a }}{{ d['a'] }}{{ d.n.k }}{{ d.b[-1] }}{{ s.0 }}{{ u[0] }}{{ u[1] }}{{ d.get('q', 'w') }}",
            "11vx'ya\xc3\xa9\xf0\x9f\xa6\x99w");
    renders("{{ s[::-1] }} {{ u[::-1] }} {{ s[1:] }} {{ s[-1:] }} {{ [1,2,3,4,5][4:1:-1] }} {{ [1,2,3][-9:2] }} {{ s[9:] }}|",
            "cba x \xf0\x9f\xa6\x99\xc3\xa9 bc c [5, 4, 3] [1, 2] |");
    renders("{{ {'items': 1}['items'] }}{{ {'items': 1}.items()|list }}{{ {1: 'x'}[1] }}", "1[('items', 1)]x");
    renders("{{ 'b' in s }}{{ 'a' in d }}{{ none in [none] }}{{ 'a' in missing }}{{ u|length }}{{ missing|length }}",
            "TrueTrueTrueFalse40");
    renders("{{ nul.x }}|{{ [][3] }}|{{ d.q is defined }}|{{ s.upper is defined }}", "||False|True");
    fails("{{ missing.x }}", "line 1: 'missing' is undefined");
    fails("a\nb {{ d.foo.bar }}", "line 2: 'dict object' has no attribute 'foo'");
    fails("{{ d.b[9] + 1 }}", "list object has no element 9");
    fails("{{ s + none }}", "can only concatenate str (not \"NoneType\") to str");
    fails("{{ 1 in s }}", "'in <string>' requires string as left operand, not int");
}

static void variables_live_in_their_scopes(void **state) {
    (void)state;
    renders("{% set x = 1 %}{% for i in [1,2] %}{{ x }}{% set x = i+5 %}{{ x }} {% endfor %}{{ x }}", "16 17 1");
    renders("{% if t %}{% set y = 2 %}{% endif %}{{ y }}{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a }}", "212");
    renders("{% set n = namespace(k=0) %}{% for m in items %}{% set n.k = n.k + m.v %}{% endfor %}{{ n.k }}", "6");
    renders("{% set a, b = 1, 2 %}{{ a }}{{ b }}{% for (a, (b, c)) in [(1,(2,3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}", "12123");
    renders("{% set x %} hi {% endset %}[{{ x }}]{% set y | upper %}a{{ s }}{% endset %}{{ y }}", "[ hi ]AABC");
    fails("{% set d.b = 1 %}", "cannot assign attribute on non-namespace object");
    fails("{% for a, b in [(1,2,3)] %}{% endfor %}", "too many values to unpack (expected 2)");
}

static void loops_know_where_they_are(void **state) {
    (void)state;
    renders("{% for x in items if x.n == 'a' %}{{ loop.index }}{{ loop.length }}{{ x.v }}{{ loop.last }} {% endfor %}",
            "121False 223True ");
    renders("{% for x in 'ab' %}{{ loop.previtem }}{{ x }}{{ loop.nextitem }}{{ loop.revindex }}{{ loop.cycle(1,2) }} {% endfor %}",
            "ab21 ab12 ");
    renders("{% for i in range(6) %}{% if i == 2 %}{% continue %}{% endif %}{{ i }}{% if i == 3 %}{% break %}{% endif %}{% endfor %}",
            "013");
    renders("{% for x in [] %}{% else %}empty{% endfor %}{% for x in missing %}{% else %}undefined{% endfor %}", "emptyundefined");
    renders("{% for n in [{'c':[{'c':[]}]}] recursive %}<{{ loop.depth }}{{ loop(n.c) }}>{% endfor %}", "<1<2>>");
    renders("{% for k, v in d.n.items() %}{{ k }}={{ v }}{% endfor %}{% for k in d %}{{ k }}{% endfor %}", "k=vabn");
    fails("{% for x in 5 %}{% endfor %}", "'int' object is not iterable");
    fails("{% break %}", "outside of a loop");
}

static void macros_take_arguments(void **state) {
    (void)state;
    renders("{% macro m(a, b=2) %}{{ a }}{{ b }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1) }} {{ m(1,b=3) }} {{ m(1,2,3,k=4) }}",
            "12(){} 13(){} 12(3,){'k': 4}");
    renders("{% macro a(n) %}{{ n }}{% if n > 0 %}{{ a(n-1) }}{% endif %}{% endmacro %}{{ a(5) }}", "543210");
    renders("{% macro m(t) %}<{{ t }}>{{ caller('u') }}{% endmacro %}{% call(x) m('a') %}{{ x }}{{ s }}{% endcall %}", "<a>uabc");
    renders("{% set x = 9 %}{% macro b() %}{{ x }}{% endmacro %}{{ b() }}{% set x = 10 %}{{ b() }}", "910");
    renders("{% filter upper|replace('B','x') %}abc{% endfilter %}{% generation %} {{ s }} {% endgeneration %}", "AxC abc ");
}

static void filters_and_tests_follow_the_reference(void **state) {
    (void)state;
    renders("{{ items|selectattr('n','equalto','a')|map(attribute='v')|list }}{{ items|rejectattr('v','gt',1)|list|length }}",
            "[1, 3]1");
    renders("{{ items|map(attribute='q.r', default='-')|list }}{{ [0,1]|select|list }}{{ ['a']|map('upper')|list }}",
            "['-', '-', '-'][1]['A']");
    renders("{{ items|sort(attribute='n')|map(attribute='v')|list }}{{ items|sort(attribute='n',reverse=true)|map(attribute='v')|list }}",
            "[1, 3, 2][2, 1, 3]");
    renders("{{ ['b','A','B']|unique|list }}{{ ['b','A']|max }}{{ {'b':1,'A':2}|dictsort }}{{ items|sum(attribute='v') }}",
            "['b', 'A']b[('A', 2), ('b', 1)]6");
    renders("{{ lines|indent }}|{{ lines|trim|indent(2,true) }}|{{ lines.splitlines() }}",
            "a\n\n    b\n    c\n|  a\n\n  b\n  c|['a', '', 'b', 'c']");
    renders("{{ missing|default('q') }}{{ e|default('q') }}{{ e|d('q', true) }}{{ '12'|int + 1 }}{{ 'x'|int(5) }}{{ 2.5|round }}{{ 42|round }}",
            "qq1352.042");
    renders("{{ \"they're x-y\"|title }} {{ 'stra\xc3\x9f" "e \xc3\xa9'|upper }} {{ 'aB'|capitalize }} {{ [1,2,3]|batch(2)|list }}",
            "They're X-Y STRASSE \xc3\x89 Ab [[1, 2], [3]]");
    renders("{{ s is string }}{{ d is mapping }}{{ d is iterable }}{{ s is sequence }}{{ t is number }}{{ t is integer }}{{ 3 is odd }}",
            "TrueTrueTrueTrueTrueFalseTrue");
    renders("{{ nul is none }}{{ missing is iterable }}{{ 3 is divisibleby 3 }}{{ 1 is in [1] }}{{ s is not defined }}{{ 1 is sameas true }}",
            "TrueTrueTrueTrueFalseFalse");
}

static void strings_have_their_methods(void **state) {
    (void)state;
    renders("{{ 'a<x>b'.split('<x>')[-1] }}{{ ' a  b '.split() }}{{ 'a,b,c'.split(',',1) }}{{ 'a b c'.rsplit(' ',1) }}",
            "b['a', 'b']['a', 'b,c']['a b', 'c']");
    renders("{{ 'xxaxx'.strip('x') }}{{ 'xa'.lstrip('x') }}{{ ' a\\u3000'.rstrip() }}|{{ 'abc'.replace('','-') }}{{ 'aXbX'.replace('X','',1) }}",
            "aa a|-a-b-c-abX");
    renders("{{ 'abc'.startswith(('q','b')) }}{{ 'abc'.endswith('c') }}{{ 'abc'.find('z') }}{{ u.rfind('x') }}{{ 'aa'.count('a') }}",
            "FalseTrue-132");
    renders("{{ 'a-b-c'.rpartition('-') }}{{ '{} {1}'.replace('1','') }}{{ '{1} {0} {{x}} {k}'.format(1,2,k='z') }}{{ ','.join(['a','b']) }}",
            "('a-b', '-', 'c'){} {}2 1 {x} za,b");
    fails("{{ 'a'.split('') }}", "empty separator");
}

static void what_is_not_known_is_named(void **state) {
    (void)state;
    fails("{{ s | xmlattr }}", "uses the filter 'xmlattr' in line 1, which phirun does not know");
    fails("\n{% include 'x' %}", "uses the tag 'include' in line 2");
    fails("{% if s is magic %}{% endif %}", "uses the test 'magic'");
    fails("{{ s.encode() }}", "uses the method 'encode'");
    fails("{{ items.append(1) }}", "uses the method 'append'");
    fails("{{ lipsum() }}", "uses the function 'lipsum'");
    renders("{% if false %}{{ s | xmlattr }}{{ lipsum() }}{% endif %}ok", "ok");
}

static void what_is_no_template_is_told_with_its_line(void **state) {
    (void)state;
    fails("{% if 1 %}a", "{% if %} has no end");
    fails("a\n\n{% endfor %}", "fails in line 3: {% endfor %} has nothing that it belongs to");
    fails("{{ 1 ", "the template ends inside a tag");
    fails("{# a", "a comment has no end");
    fails("{% raw %}x", "{% raw %} has no end");
    fails("{{ 'a }}", "a string has no end");
    fails("{{ a b }}", "'}}' is missing before 'b'");
    fails("{% if %}x{% endif %}", "an expression is missing before the end of a tag");
    fails("{{ 1 ! 2 }}", "means nothing there: '!'");
    fails("{{ 99999999999999999999 }}", "a number is too large");
    fails("{% for x of y %}{% endfor %}", "'in' is missing before 'of'");
}

static void a_template_can_refuse(void **state) {
    (void)state;
    struct error err;
    struct text out;
    const char *source = "x{{ raise_exception('no ' ~ s ~ '\n\\x07!') }}";
    assert_false(render_bytes(source, strlen(source), &out, &err));
    assert_int_equal(err.kind, ERROR_USAGE);
    assert_string_equal(err.text, "the chat template of 'm' refuses these messages: no abc  !");
}

static void time_is_told_as_asked(void **state) {
    (void)state;
    struct error err;
    struct text out;
    const char *source = "{{ strftime_now('%Y-%m-%d') }}";
    ASSERT_OK(render_bytes(source, strlen(source), &out, &err), err);
    assert_int_equal(out.length, 10);
    assert_memory_equal(out.bytes, "20", 2);
    text_release(&out);
}

static void bytes_that_are_no_text_are_replaced(void **state) {
    (void)state;
    struct error err;
    struct text out;
    ASSERT_OK(render_bytes("a\0b{{ '\xff' }}", 12, &out, &err), err);
    assert_int_equal(out.length, 6);
    assert_memory_equal(out.bytes, "a\0b\xef\xbf\xbd", 6);
    text_release(&out);
}

/* `count` times `piece` between `before` and `after`. */
static void fails_repeated(const char *before, const char *piece, size_t count, const char *after, const char *part) {
    struct text source;
    text_init(&source);
    text_append(&source, before);
    for (size_t i = 0; i < count; i++)
        text_append(&source, piece);
    text_append(&source, after);
    fails(source.bytes, part);
    text_release(&source);
}

static void nesting_has_an_end(void **state) {
    (void)state;
    static const char deep[] = "it is nested more than 500 deep";
    fails_repeated("{{ ", "(", 100000, "", deep);
    fails_repeated("{{ ", "[", 100000, "", deep);
    fails_repeated("{{ ", "not ", 100000, "1 }}", deep);
    fails_repeated("{{ ", "-", 100000, "1 }}", deep);
    fails_repeated("{{ 1", "+1", 100000, " }}", deep);
    fails_repeated("{{ s", ".a", 100000, " }}", deep);
    fails_repeated("{{ s", "|upper", 60000, " }}", deep);
    fails_repeated("", "{% if 1 %}", 30000, "", deep);
    fails("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", deep);
    fails("{% for x in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}", deep);
    fails("{% set n = namespace() %}{% set n.x = n %}{{ n }}", deep);
    fails("{% set n = namespace(x=[]) %}{% for i in range(9999) %}{% set n.x = [n.x] %}{% endfor %}{{ n.x|tojson }}", deep);
}

static void work_has_an_end(void **state) {
    (void)state;
    static const char slow[] = "it takes more than 4194304 steps", wide[] = "it needs more than 128 MiB of memory";
    fails("{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x|tojson }}", slow);
    fails("{% set l = 'a'*1000000 %}{% for i in range(100000) %}{{ 'b' in l }}{% endfor %}", slow);
    fails("{% set l = 'a'*1000000 %}{{ l.strip('b'*100000 ~ 'a') }}", slow);
    fails("{% set l = 'a'*1000000 %}{% for i in range(9999) %}{% if l|title %}{% endif %}{% endfor %}", slow);
    fails("{% set l = 'a'*1000000 %}{% for i in range(9999) %}{% if l.rfind('ba') %}{% endif %}{% endfor %}", slow);
    fails("{{ 'a' * 9000000000000000000 }}", slow);
    fails("{{ [1] * 9000000000000000000 }}", slow);
    fails("{% for a in range(99999) %}{% for b in range(99999) %}{% set c = [a, b] %}{% endfor %}{% endfor %}", "it ");
    fails("{% set n = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}", "it prints more than 32 MiB");
    fails("{% for i in range(99) %}{% set c = range(99999) %}{% endfor %}", wide);
    fails("{{ range(100001) }}", "a range has more than 100000 numbers");
    fails("{{ '%999999999d' % 1 }}", "a format asks for more than 200 characters");
    fails("{{ 9**9**9 }}", "a number is too large");
    fails_repeated("", "a", JINJA_SOURCE_LIMIT + 1, "", "it is larger than 512 KiB");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(white_space_round_tags),
        cmocka_unit_test(values_print_as_in_python),
        cmocka_unit_test(json_is_what_the_reference_writes),
        cmocka_unit_test(operators_follow_the_reference),
        cmocka_unit_test(what_is_inside_a_value_is_found),
        cmocka_unit_test(variables_live_in_their_scopes),
        cmocka_unit_test(loops_know_where_they_are),
        cmocka_unit_test(macros_take_arguments),
        cmocka_unit_test(filters_and_tests_follow_the_reference),
        cmocka_unit_test(strings_have_their_methods),
        cmocka_unit_test(what_is_not_known_is_named),
        cmocka_unit_test(what_is_no_template_is_told_with_its_line),
        cmocka_unit_test(a_template_can_refuse),
        cmocka_unit_test(time_is_told_as_asked),
        cmocka_unit_test(bytes_that_are_no_text_are_replaced),
        cmocka_unit_test(nesting_has_an_end),
        cmocka_unit_test(work_has_an_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
