/* Every option of generation changes what is generated: one that is not listed here, or that is
 * ignored somewhere between the command line and the sampler, fails. */
#include "tests/support.h"
#include "tests/support_generate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MODEL "models/phi3-tiny"
#define CYCLE "--logit-bias 17=50 --logit-bias 17,18=99 --logit-bias 18,19=99 --logit-bias 19,17=99"
#define WILD "--do-sample --seed 3 --temperature 4 --top-k 0"
#define ENDS "--num-beams 3 -n 12 --eos %E"

/* In `arguments`: %F the first token of the plain text, %W a word of it as one token, %T some of
 * its text, %E its tokens, %G and %J a grammar's and a schema's file. */
static const struct effect { const char *option, *value, *arguments; } effects[] = {
    { "max-new-tokens", "3", "" },
    { "min-new-tokens", "5", "--eos %F" },
    { "max-time", "0.000001", "" },
    { "stop", "%T", "" },
    { "stop-strings", "%T", "" },
    { "keep-stop", NULL, "--stop %T" },
    { "logit-bias", "5=100", "" },
    { "repetition-penalty", "0.01", "" },
    { "no-repeat-ngram-size", "2", CYCLE },
    { "bad-words", "%W", "" },
    { "bad-words-ids", "%F", "" },
    { "do-sample", NULL, "" },
    { "temperature", "0.01", "--do-sample --seed 3 --top-k 0" },
    { "top-k", "1", "--do-sample --seed 3 --temperature 4" },
    { "top-p", "0.01", WILD },
    { "min-p", "0.9", WILD },
    { "typical-p", "0.01", WILD },
    { "epsilon-cutoff", "0.02", "--do-sample --seed 3 --top-k 0" },
    { "eta-cutoff", "0.02", "--do-sample --seed 3 --top-k 0" },
    { "seed", "4", "--do-sample --temperature 4" },
    { "greedy", NULL, "" },
    { "num-beams", "3", "" },
    { "early-stopping", "true", ENDS },
    { "length-penalty", "5", ENDS },
    { "num-return-sequences", "3", "--do-sample" },
    { "grammar", "%G", "" },
    { "json-schema", "%J", "" },
    { "speculate", "ngram", CYCLE },
};
#define EFFECTS (sizeof effects / sizeof *effects)

static const int32_t prompt[] = { 29, 441, 12, 300, 77, 5, 9, 640 };
static struct writer writer;
static struct model *sampling_model;   /* the same, where generation_config.json says do_sample */
static char first_id[16], word[64], piece[64], ends[512], grammar_path[600], schema_path[600];

static void write_file(char path[600], const char *folder, const char *name, const char *text) {
    snprintf(path, 600, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static const char *filled(const char *argument) {
    switch (argument[0] == '%' ? argument[1] : 0) {
    case 'F': return first_id;
    case 'W': return word;
    case 'T': return piece;
    case 'E': return ends;
    case 'G': return grammar_path;
    case 'J': return schema_path;
    default: return argument;
    }
}

/* What the arguments generate, as text to compare; the result is the writer's until the next. */
static char *generated(const struct model *model, const char *arguments, const char *option, const char *value) {
    char copy[512], name[64], *argv[48] = { (char *)(uintptr_t)"phirun", (char *)(uintptr_t)"model" };
    int argc = 2;
    snprintf(copy, sizeof copy, "%s", arguments);
    for (char *next = strtok(copy, " "); next; next = strtok(NULL, " "))
        argv[argc++] = (char *)(uintptr_t)filled(next);
    if (!strstr(arguments, "-n ")) {
        argv[argc++] = (char *)(uintptr_t)"-n";
        argv[argc++] = (char *)(uintptr_t)"40";
    }
    snprintf(name, sizeof name, "--%s", option ? option : "");
    if (option)
        argv[argc++] = name;
    if (option && value)
        argv[argc++] = (char *)(uintptr_t)filled(value);
    struct run_options options;
    struct error err = { 0 };
    ASSERT_OK(run_options_parse(&options, argc, argv, &err), err);
    generation_release(&writer.result);
    generation_settings_release(&writer.settings);
    ASSERT_OK(generation_settings_make(&writer.settings, model, writer.tokenizer, &options, &err), err);
    run_options_release(&options);
    struct generate_request request = {
        .session = writer.session, .engine = writer.rig.engine, .tokenizer = writer.tokenizer,
        .settings = &writer.settings, .prompt = prompt, .count = sizeof prompt / sizeof *prompt,
    };
    ASSERT_OK(generate(&request, &writer.result, &err), err);
    struct text text;
    text_init(&text);
    for (uint32_t i = 0; i < writer.result.sequence_count; i++) {
        const struct generated *sequence = &writer.result.sequences[i];
        for (uint32_t j = 0; j < sequence->count; j++)
            text_append_format(&text, " %d", (int)sequence->ids[j]);
        text_append_format(&text, " %s %g '%s'\n", finish_reason_name(sequence->finish), (double)sequence->score,
                           sequence->text.bytes);
    }
    text_append(&text, writer.result.guessed ? "guessed" : "");
    return text_take(&text);
}

/* A token that the text has and that is the whole of its own text. */
static void find_word(void) {
    const struct generated *plain = &writer.result.sequences[0];
    for (uint32_t i = 0; i < plain->count && !word[0]; i++) {
        struct text text;
        int32_t *ids = NULL;
        uint32_t count = 0;
        text_init(&text);
        if (tokenizer_decode(writer.tokenizer, &plain->ids[i], 1, true, &text, NULL) && text.length > 2
            && strlen(text.bytes) == text.length && text.length < sizeof word
            && tokenizer_encode(writer.tokenizer, text.bytes, text.length, TOKENIZE_DEFAULT, &ids, &count, NULL)
            && count == 1 && ids[0] == plain->ids[i])
            strcpy(word, text.bytes);
        free(ids);
        text_release(&text);
    }
}

static int open_writer(void **state) {
    (void)state;
    if (!writer_open(&writer, MODEL, 8))
        return 0;
    char path[600];
    struct error err = { 0 };
    struct model_source source;
    const char *folder = support_relinked(test_data(MODEL), "generation_config.json", "generation_config.json");
    snprintf(path, sizeof path, "%s/generation_config.json", folder);
    unlink(path);
    write_file(path, folder, "generation_config.json", "{\"do_sample\": true, \"temperature\": 4.0}");
    ASSERT_OK(model_source_resolve(&source, folder, &err), err);
    sampling_model = model_open(&source, NULL, &err);
    model_source_release(&source);
    ASSERT_OK(sampling_model, err);
    write_file(grammar_path, test_folder(), "grammar.gbnf", "root ::= \"abc\" [0-9]+");
    write_file(schema_path, test_folder(), "schema.json", "{\"enum\": [\"one\", \"two\"]}");
    free(generated(writer.rig.model, "", NULL, NULL));
    const struct generated *plain = &writer.result.sequences[0];
    for (uint32_t i = 0, used = 0; i < plain->count; i++)
        used += (uint32_t)snprintf(ends + used, sizeof ends - used, "%s%d", i ? "," : "", (int)plain->ids[i]);
    snprintf(first_id, sizeof first_id, "%d", plain->ids[0]);
    find_word();
    /* The first letters after the beginning. */
    for (size_t i = 3; i + 3 < plain->text.length && !piece[0]; i++)
        if (strspn(plain->text.bytes + i, "abcdefghijklmnopqrstuvwxyz") >= 3)
            snprintf(piece, sizeof piece, "%.3s", plain->text.bytes + i);
    assert_true(word[0] && piece[0]);
    return 0;
}

static int close_writer(void **state) {
    (void)state;
    if (writer.rig.engine)
        writer_close(&writer);
    model_close(sampling_model);
    return 0;
}

static void every_option_changes_what_is_generated(void **state) {
    (void)state;
    if (!writer.rig.engine)
        SKIP_BECAUSE("no PoCL device, or no " MODEL);
    unsigned ignored = 0;
    for (size_t i = 0; i < EFFECTS; i++) {
        const struct effect *effect = &effects[i];
        const struct model *model = strcmp(effect->option, "greedy") ? writer.rig.model : sampling_model;
        char *without = generated(model, effect->arguments, NULL, NULL);
        char *with = generated(model, effect->arguments, effect->option, effect->value);
        if (strcmp(without, with) == 0) {
            print_message("# --%s changes nothing:\n# %s\n", effect->option, with);
            ignored++;
        }
        free(without);
        free(with);
    }
    assert_int_equal(ignored, 0);
}

/* The options of --help are those of the table above. */
static void every_option_is_listed_here(void **state) {
    (void)state;
    char path[600], line[256];
    write_file(path, test_folder(), "help", "");
    fflush(stdout);
    int kept = dup(STDOUT_FILENO);
    assert_non_null(freopen(path, "w", stdout));
    run_options_help(COMMAND_GENERATE, false);
    fflush(stdout);
    dup2(kept, STDOUT_FILENO);
    close(kept);
    FILE *help = fopen(path, "r");
    assert_non_null(help);
    bool is_generation = false, is_listed[EFFECTS] = { false };
    unsigned listed = 0, unknown = 0;
    while (fgets(line, sizeof line, help)) {
        is_generation |= strncmp(line, "How to generate", 15) == 0;
        char *name = strstr(line, " --");
        if (!is_generation || !name || strspn(line, " ") > 6)
            continue;
        name += 3;
        name[strcspn(name, " \n")] = '\0';
        size_t i = 0;
        while (i < EFFECTS && strcmp(effects[i].option, name))
            i++;
        if (i == EFFECTS)
            print_message("# --%s has no test here\n", name);
        else
            is_listed[i] = true;
        unknown += i == EFFECTS;
        listed++;
    }
    fclose(help);
    assert_int_equal(unknown, 0);
    assert_int_equal(listed, EFFECTS);
    for (size_t i = 0; i < EFFECTS; i++)
        assert_true(is_listed[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_option_changes_what_is_generated),
        cmocka_unit_test(every_option_is_listed_here),
    };
    return cmocka_run_group_tests(tests, open_writer, close_writer);
}
