/* Grammars on their own: which texts they take, and which grammars are refused. */
#include "tests/support.h"

#include "common/text.h"
#include "runtime/grammar_automaton.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MEMORY ((size_t)64 << 20)

struct reader {
    struct grammar *grammar;
    struct automaton *automaton;
};

static bool open_reader(struct reader *reader, const char *text, struct error *err) {
    *reader = (struct reader){ .grammar = grammar_parse(text, strlen(text), "the test", err) };
    if (reader->grammar)
        reader->automaton = automaton_new(reader->grammar, MEMORY, err);
    return reader->automaton;
}

static void close_reader(struct reader *reader) {
    automaton_free(reader->automaton);
    grammar_free(reader->grammar);
}

/* 'y': a whole text, 'p': the beginning of one, 'n': neither. */
static char judge(struct reader *reader, const char *text, size_t size) {
    automaton_allow(reader->automaton, 1u << 24);
    uint32_t state = automaton_read(reader->automaton, reader->automaton->start, text, size);
    assert_int_not_equal(state, AUTOMATON_FAILED);
    return automaton_can_end(reader->automaton, state) ? 'y' : automaton_can_go_on(reader->automaton, state) ? 'p' : 'n';
}

/* `texts`: each begins with its verdict; NULL ends the list. */
static void check(const char *grammar, const char *const *texts) {
    struct reader reader;
    struct error err = { 0 };
    if (!open_reader(&reader, grammar, &err))
        fail_msg("%s\n%s", grammar, err.text);
    for (; *texts; texts++)
        if (judge(&reader, *texts + 1, strlen(*texts + 1)) != (*texts)[0])
            fail_msg("'%s' is not '%c' under %s", *texts + 1, (*texts)[0], grammar);
    close_reader(&reader);
}
#define CHECK(grammar, ...) check(grammar, (const char *const[]){ __VA_ARGS__, NULL })

static void literals_and_alternatives_are_read(void **state) {
    (void)state;
    CHECK("root ::= \"yes\" | \"no\"", "yyes", "yno", "pye", "pn", "p", "nyesno", "nx", "nYes");
    CHECK("root ::= \"a\" \"b\" | \"ac\"", "yab", "yac", "pa", "nabc", "nb");
    CHECK("root ::= \"a\" | ", "y", "ya", "naa");
    CHECK("root ::= a b a # twice\na ::= \"x\" | \"xx\"\nb ::= \"-\"", "yx-x", "yxx-xx", "px-", "nx--x", "nxxx");
    CHECK("root ::= \"\"", "y", "na");
    CHECK("# only a comment\r\n\r\nroot  ::=\n  \"a\"\r\n  | \"b\"\n\n", "ya", "yb", "nab");
    CHECK("root::=(\"a\"\n  # inside of a group lines mean nothing\n \"b\" |\n\"c\")d\nd::=\"!\"", "yab!", "yc!", "pc", "nb!");
    CHECK("root ::= one-2 | a_b\none-2 ::= \"1\"\na_b ::= \"2\"", "y1", "y2", "n3");
}

static void escapes_mean_characters(void **state) {
    (void)state;
    CHECK("root ::= \"\\\"\\\\\\n\\t\\r\\x41\\u00e9\\U0001F999\"", "y\"\\\n\t\rA\xc3\xa9\xf0\x9f\xa6\x99",
          "p\"\\\n\t\rA\xc3", "n\"\\\nt");
    CHECK("root ::= [\\]\\[\\-\\^\\\\]+", "y]", "y[-^\\", "n/", "p");
    CHECK("root ::= \"\\xe9\"", "y\xc3\xa9", "n\xe9");   /* a character, not a byte */
}

static void classes_take_one_character(void **state) {
    (void)state;
    CHECK("root ::= [a-cx]", "ya", "yc", "yx", "nd", "nab", "p");
    CHECK("root ::= [^a-c]", "yd", "na", "nb", "y\xc3\xa9", "y\xf0\x9f\xa6\x99", "y\n", "ndd");
    CHECK("root ::= [a-]", "ya", "y-", "nb");
    CHECK("root ::= [-a]", "ya", "y-", "nb");
    CHECK("root ::= .", "ya", "y\n", "y\xc3\xa9", "p\xc3", "p\xf0\x9f\xa6", "n\xff", "naa");
    CHECK("root ::= [\\u0080-\\u07ff]", "y\xc2\x80", "y\xdf\xbf", "n\xe0\xa0\x80", "na", "n\xc1\xbf");
    CHECK("root ::= [à-ü]+", "yéè", "ná!", "na");
    CHECK("root ::= [\\U00010000-\\U0010FFFF]", "y\xf0\x90\x80\x80", "y\xf4\x8f\xbf\xbf", "n\xf4\x90", "n\xf0\x8f");
    CHECK("root ::= [あ-ん]{2}", "yあん", "pあ", "p\xe3\x81", "nア");
}

/* Each code point, once as it is and once negated, against what the ranges say. */
static void ranges_are_exact(void **state) {
    (void)state;
    static const struct { uint32_t from, to; } cases[] = {
        { 0x20, 0x7e }, { 0x41, 0x41 }, { 0x7f, 0x80 }, { 0x3ff, 0x2345 }, { 0xd7ff, 0xe000 }, { 0xfffe, 0x10001 },
        { 0x1f600, 0x10f123 }, { 0x801, 0x801 }, { 0, 0x10ffff } };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[64];
        struct reader reader[2];
        struct error err = { 0 };
        bool whole = cases[i].from == 0;
        snprintf(text, sizeof text, "root ::= [\\U%08X-\\U%08X]", (unsigned)cases[i].from, (unsigned)cases[i].to);
        ASSERT_OK(open_reader(&reader[0], text, &err), err);
        snprintf(text, sizeof text, "root ::= [^\\U%08X-\\U%08X]", (unsigned)cases[i].from, (unsigned)cases[i].to);
        assert_int_equal(open_reader(&reader[1], text, &err), !whole);
        for (uint32_t code = 0; code < 0x110000; code += code % 0x400 < 3 || code < 0x3000 ? 1 : 61) {
            struct text spelled;
            if (code >= 0xd800 && code < 0xe000)
                continue;
            text_init(&spelled);
            text_append_utf8(&spelled, code);
            bool inside = code >= cases[i].from && code <= cases[i].to;
            for (int negated = 0; negated < 2 - whole; negated++)
                if ((judge(&reader[negated], spelled.bytes, spelled.length) == 'y') != (inside != negated))
                    fail_msg("U+%04X in %s", (unsigned)code, text);
            text_release(&spelled);
        }
        close_reader(&reader[0]);
        close_reader(&reader[1]);
    }
}

static void repetitions_count(void **state) {
    (void)state;
    CHECK("root ::= \"ab\"?", "y", "yab", "pa", "nabab");
    CHECK("root ::= \"ab\"*", "y", "yab", "yababab", "paba", "nb");
    CHECK("root ::= \"ab\"+", "p", "yab", "yabab", "nabb");
    CHECK("root ::= [0-9]{3}", "p12", "y123", "n1234");
    CHECK("root ::= [0-9]{2,}", "p1", "y12", "y12345678901234567890");
    CHECK("root ::= [0-9]{0,2} \".\"", "y.", "y1.", "y12.", "n123.", "p12");
    CHECK("root ::= (\"a\" | \"bc\" [0-9]){2,3} \"!\"", "yaa!", "ybc1a!", "yaaa!", "pbc1", "na!", "naaaa!");
    CHECK("root ::= (\"a\"? )*", "y", "yaaaa", "nb");
    CHECK("root ::= ((\"a\"*)*)+ \"b\"", "yb", "yaaab", "paaa");
    CHECK("root ::= \"a\"{0} \"b\"", "yb", "nab");
    CHECK("root ::= \"x\"{2}{2}", "yxxxx", "pxx", "nxxxxx");
    CHECK("root ::= x{ 1 , 2 }\nx ::= \"q\"", "yq", "yqq", "nqqq");
}

static void rules_call_themselves(void **state) {
    (void)state;
    CHECK("root ::= \"(\" root \")\" | \"x\"", "yx", "y((x))", "p((x", "n(x))", "n()");
    CHECK("root ::= list\nlist ::= item | item \",\" list\nitem ::= [a-z]+ | \"[\" list \"]\"",
          "ya", "ya,b,cd", "y[a,[b,c],d]", "p[a,[b", "pa,", "n[a]]", "n,a");
    CHECK("root ::= pal\npal ::= \"a\" pal \"a\" | \"b\" pal \"b\" | \"c\"", "yc", "yabacaba", "pabac", "nabacabb");
    CHECK("root ::= (\"if \" name \" then \" root (\" else \" root)? | name \"=\" name)\nname ::= [a-z]{1,8}",
          "ya=b", "yif a then b=c", "yif a then if b then c=d else e=f", "pif a then ", "nif then a=b");
}

/* A list that calls itself at its end needs no deeper stack; so its states repeat. */
static void lists_come_back_to_the_same_state(void **state) {
    (void)state;
    struct reader reader;
    struct error err = { 0 };
    ASSERT_OK(open_reader(&reader, "root ::= \"x\" | \"x,\" root", &err), err);
    uint32_t one = automaton_read(reader.automaton, reader.automaton->start, "x,", 2);
    assert_int_equal(automaton_read(reader.automaton, one, "x,x,x,", 6), one);
    assert_true(reader.automaton->state_count < 8);
    close_reader(&reader);
}

static void a_token_may_end_within_a_character(void **state) {
    (void)state;
    struct reader reader;
    struct error err = { 0 };
    ASSERT_OK(open_reader(&reader, "root ::= \"é\" [^a] \"é\"", &err), err);
    const char *text = "\xc3\xa9\xf0\x9f\xa6\x99\xc3\xa9";
    uint32_t at = reader.automaton->start;
    for (size_t i = 0; i < strlen(text); i++) {
        assert_false(automaton_can_end(reader.automaton, at));
        at = automaton_step(reader.automaton, at, (uint8_t)text[i]);
        assert_true(at != AUTOMATON_DEAD && at != AUTOMATON_FAILED);
    }
    assert_true(automaton_can_end(reader.automaton, at) && !automaton_can_go_on(reader.automaton, at));
    close_reader(&reader);
}

static void forgetting_keeps_what_is_held(void **state) {
    (void)state;
    struct reader reader;
    struct error err = { 0 };
    ASSERT_OK(open_reader(&reader, "root ::= \"(\" root \")\" root | \"\"", &err), err);
    uint32_t held[2] = { automaton_read(reader.automaton, reader.automaton->start, "((()(", 5), AUTOMATON_DEAD };
    for (int i = 0; i < 2000; i++)
        automaton_read(reader.automaton, held[0], "(((((((((", 1 + (size_t)i % 9);
    size_t before = automaton_bytes(reader.automaton);
    ASSERT_OK(automaton_trim(reader.automaton, held, 2, &err), err);
    assert_true(automaton_bytes(reader.automaton) < before);
    assert_int_equal(held[1], AUTOMATON_DEAD);
    automaton_allow(reader.automaton, 10000);
    uint32_t end = automaton_read(reader.automaton, held[0], ")))", 3);
    assert_int_equal(automaton_read(reader.automaton, held[0], "))))", 4), AUTOMATON_DEAD);
    assert_true(automaton_can_end(reader.automaton, end));
    close_reader(&reader);
}

static void mistakes_are_named(void **state) {
    (void)state;
    static const struct { const char *grammar, *part; } cases[] = {
        { "", "no rule 'root'" },
        { "start ::= \"a\"", "no rule 'root'" },
        { "root ::= missing", "'missing' is not defined" },
        { "root ::= \"a\"\nroot ::= \"b\"", "defined twice" },
        { "root ::= \"a", "no end" },
        { "root ::= [a", "no ]" },
        { "root ::= []", "has none" },
        { "root ::= [^\\x00-\\U0010ffff]", "has none" },
        { "root ::= [z-a]", "before it begins" },
        { "root ::= (\"a\"", "expected )" },
        { "root ::= \"a\")", "not ')'" },
        { "root ::= \"\\q\"", "escape" },
        { "root ::= \"\\u12\"", "hexadecimal" },
        { "root ::= \"\\ud800\"", "Unicode" },
        { "root ::= \"\\U00110000\"", "Unicode" },
        { "root ::= \"a\"{", "number" },
        { "root ::= \"a\"{3,2}", "before it begins" },
        { "root ::= \"a\"{3", "expected }" },
        { "root ::= \"a\"{999999999999}", "more than" },
        { "root ::= *", "not '*'" },
        { "root = \"a\"", "::=" },
        { "\nroot ::= \"a\"\n!", "line 3" },
        { "root ::= <think>", "tokens" },
        { "root ::= \"\xff\"", "UTF-8" },
        { "root ::= root \"a\" | \"b\"", "'root' begins with itself" },
        { "root ::= a\na ::= b? c\nb ::= \"x\"\nc ::= a \"y\" | \"z\"", "begins with itself" },
        { "root ::= (\"\" | root)*", "begins with itself" },
        { "root ::= \"a\" root", "'root' can never end" },
        { "root ::= \"a\" | \"b\" deep\ndeep ::= \"x\" (deep | \"y\" deep)", "'deep' can never end" },
        { "root ::= [a-z]{100000} [^a]{100000}", "too large" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error err = { 0 };
        struct grammar *grammar = grammar_parse(cases[i].grammar, strlen(cases[i].grammar), "the test", &err);
        if (grammar)
            fail_msg("accepted: %s", cases[i].grammar);
        if (err.kind != ERROR_USAGE || !strstr(err.text, cases[i].part))
            fail_msg("%s gave: %s", cases[i].grammar, err.text);
    }
}

/* Repetitions in repetitions, and groups in groups, stay small or are refused. */
static void hostile_grammars_are_bounded(void **state) {
    (void)state;
    struct reader reader;
    struct error err = { 0 };
    ASSERT_OK(open_reader(&reader, "root ::= (((\"ab\" \"cd\" \"ef\"){1,1000}){1,1000}){1,1000}", &err), err);
    assert_true(reader.grammar->node_count < 20000);
    assert_int_equal(judge(&reader, "abcdefabcdefab", 14), 'p');
    close_reader(&reader);

    char *deep = malloc(1 << 20);
    assert_non_null(deep);
    memset(deep, '(', 1 << 20);
    memcpy(deep, "root ::= ", 9);
    assert_null(grammar_parse(deep, 1 << 20, "the test", &err));
    assert_non_null(strstr(err.text, "too deeply"));
    memset(deep, '?', 1 << 20);
    memcpy(deep, "root ::= \"a\"", 12);
    assert_null(grammar_parse(deep, 1 << 20, "the test", &err));
    assert_non_null(strstr(err.text, "too deeply"));
    free(deep);

    /* Two ways at each step make 2^n stacks: refused in a sentence, not followed. */
    ASSERT_OK(open_reader(&reader, "root ::= \"(\" root \"a\" | \"(\" root \"b\" | \"x\"", &err), err);
    uint32_t at = reader.automaton->start;
    automaton_allow(reader.automaton, 1u << 24);
    for (int i = 0; i < 64 && at != AUTOMATON_FAILED; i++)
        at = automaton_step(reader.automaton, at, '(');
    assert_int_equal(at, AUTOMATON_FAILED);
    assert_false(automaton_error(reader.automaton, &err));
    assert_non_null(strstr(err.text, "too many ways"));
    /* and it goes on after all is forgotten */
    ASSERT_OK(automaton_trim(reader.automaton, NULL, 0, &err), err);
    automaton_allow(reader.automaton, 10000);
    assert_int_equal(judge(&reader, "((xab", 5), 'y');
    close_reader(&reader);
}

static void a_whole_language_is_read(void **state) {
    (void)state;
    CHECK("root ::= ws value\n"
          "value ::= (object | array | string | number | \"true\" | \"false\" | \"null\") ws\n"
          "object ::= \"{\" ws ( string ws \":\" ws value (\",\" ws string ws \":\" ws value)* )? \"}\"\n"
          "array ::= \"[\" ws ( value (\",\" ws value)* )? \"]\"\n"
          "string ::= \"\\\"\" ( [^\"\\\\\\x00-\\x1f] | \"\\\\\" ([\"\\\\/bfnrt] | \"u\" [0-9a-fA-F]{4}) )* \"\\\"\"\n"
          "number ::= \"-\"? (\"0\" | [1-9] [0-9]*) (\".\" [0-9]+)? ([eE] [-+]? [0-9]+)?\n"
          "ws ::= [ \\t\\n\\r]*\n",
          "y{}", "y [1, 2.5e-3, {\"a\": \"b\\u00e9\\n\", \"\": [ ]}, null ] ", "p{\"a\": [tru", "n{a: 1}", "n[1,]",
          "n01", "y0", "y-0.5", "p-", "y\"\xc3\xa9\"", "p\"\xc3", "n\"\n\"", "p\"\\u12", "n[1]]");
    CHECK("root ::= expr\nexpr ::= term (ws [-+] ws term)*\nterm ::= factor (ws [*/] ws factor)*\n"
          "factor ::= [0-9]+ | \"(\" ws expr ws \")\"\nws ::= \" \"?\n",
          "y1", "y1 + 2 * (3-4)", "p1 +", "n1 + )", "n1  + 2", "p(1", "y((1))");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(literals_and_alternatives_are_read),
        cmocka_unit_test(escapes_mean_characters),
        cmocka_unit_test(classes_take_one_character),
        cmocka_unit_test(ranges_are_exact),
        cmocka_unit_test(repetitions_count),
        cmocka_unit_test(rules_call_themselves),
        cmocka_unit_test(lists_come_back_to_the_same_state),
        cmocka_unit_test(a_token_may_end_within_a_character),
        cmocka_unit_test(forgetting_keeps_what_is_held),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(hostile_grammars_are_bounded),
        cmocka_unit_test(a_whole_language_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
