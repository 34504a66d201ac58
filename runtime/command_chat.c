/* A conversation in the terminal. Answers go to standard output, all else to standard
 * error; one line is one turn, and lines that begin with / are commands. */
#include "runtime/chat_session.h"
#include "runtime/commands.h"
#include "runtime/line_input.h"
#include "runtime/prompt_cache.h"
#include "runtime/typed_options.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct chat_command {
    struct loaded_model loaded;
    struct run_options options;              /* as typed, then as /set */
    struct generation_settings settings;
    struct chat_session *chat;
    struct line_input *input;
    bool colour, is_terminal;
    bool ends_line;                          /* the answer so far ends with a newline */
    uint64_t seed;                           /* of the first answer; each further one has the next */
    uint32_t answers, answers_of_seed;
    uint32_t sequences;                      /* that the engine was opened for */
    struct chat_answer last;
    struct prompt_cache cache;
    struct run_record total;
};

static void __attribute__((format(printf, 2, 3)))
notice(const struct chat_command *command, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs(command->colour ? "\033[2m(" : "(", stderr);
    vfprintf(stderr, format, arguments);
    fputs(command->colour ? ")\033[0m\n" : ")\n", stderr);
    va_end(arguments);
}

static void complain(const struct chat_command *command, const struct error *err) {
    fprintf(stderr, command->colour ? "\033[31mphirun: %s\033[0m\n" : "phirun: %s\n", err->text);
}

/* ---- answers ---- */

static bool show_text(void *context, const char *bytes, size_t size, struct error *err) {
    struct chat_command *command = context;
    command->ends_line = bytes[size - 1] == '\n';
    return write_output(bytes, size, err);
}

static void show_dropped(void *context, uint32_t messages) {
    const struct chat_command *command = context;
    notice(command, "the context of %u tokens is full: the oldest %u messages are left behind%s",
           engine_context(command->loaded.engine), messages,
           chat_session_system(command->chat) ? ", the system message stays" : "");
}

/* A question (or NULL: the last one again). False ends the program. */
static bool answer(struct chat_command *command, const char *question, struct error *err) {
    const struct chat_listener listener = { show_text, show_dropped, command };
    struct generation_settings settings = command->settings;
    struct error problem = { 0 };
    settings.sampling.seed = command->seed + command->answers_of_seed;
    command->ends_line = true;
    bool ok = question ? chat_session_ask(command->chat, question, &settings, &listener, &command->last, &problem)
                       : chat_session_regenerate(command->chat, &settings, &listener, &command->last, &problem);
    if (!command->ends_line && !write_output("\n", 1, err))
        return false;
    /* On a terminal Ctrl-C has done its work; other signals, and it in a script, end. */
    bool stopped = interrupted_by == SIGINT && command->is_terminal;
    if (stopped)
        interrupted_by = 0;
    if (!ok && problem.kind == ERROR_USAGE) {
        complain(command, &problem);
        return true;
    }
    if (!ok) {
        *err = problem;
        return false;
    }
    const struct chat_answer *last = &command->last;
    command->answers++;
    command->answers_of_seed++;
    command->total.prompt_tokens += last->run_tokens;
    command->total.new_tokens += last->new_tokens;
    command->total.prefill_s += last->prefill_s;
    command->total.decode_s += last->decode_s;
    if (last->taken_back)
        notice(command, "stopped; nothing was answered, the conversation is as before");
    else if (stopped)
        notice(command, "stopped");
    else if (last->context_full)
        notice(command, "the answer ends here: the context of %u tokens is full; the oldest messages will be "
               "left behind with the next one", engine_context(command->loaded.engine));
    else if (last->finish == FINISH_LENGTH)
        notice(command, "the answer ends here: %u tokens were asked for", last->new_tokens);
    if (last->is_cut && !last->taken_back)
        notice(command, "the grammar wanted more: the answer is not whole");
    return true;
}

/* ---- commands ---- */

/* The settings that follow from the options, if this engine can do them. */
static bool settings_of(struct chat_command *command, struct generation_settings *settings, struct error *err) {
    bool ok = generation_settings_make(settings, command->loaded.model, command->loaded.tokenizer,
                                       &command->options, err);
    if (ok && settings->num_beams > 1 && generation_settings_sequences(settings) > command->sequences)
        ok = error_set(err, ERROR_USAGE, "the engine was opened for fewer beams; start again with --num-beams %u",
                       settings->num_beams);
    if (ok && settings->num_return_sequences > 1)
        ok = error_set(err, ERROR_USAGE, "a conversation goes on from one answer: num-return-sequences has to be 1");
    return ok;
}

/* After it, the generation settings follow the options. A failure changes nothing. */
static bool set_option(struct chat_command *command, char *argument, struct error *err) {
    char *name = strtok(argument, " \t"), *value = strtok(NULL, "");
    struct generation_settings settings = { 0 };
    char text[512];
    if (value)
        value += strspn(value, " \t");
    json_t *before = command->options.typed;
    command->options.typed = json_deep_copy(before);
    bool ok = (command->options.typed || error_set(err, ERROR_FAILED, "cannot keep the options: out of memory"))
              && (!name || typed_options_set(command->options.typed, name, value && *value ? value : NULL, err))
              && settings_of(command, &settings, err);
    if (ok) {
        generation_settings_release(&command->settings);
        command->settings = settings;
        if (json_object_get(command->options.typed, "seed") && name && strcmp(name, "seed") == 0) {
            command->seed = settings.sampling.seed;
            command->answers_of_seed = 0;
        }
        command->settings.sampling.seed = command->seed;
        generation_settings_text(&command->settings, text, sizeof text);
        notice(command, "%s", text);
        json_decref(before);
    } else {
        generation_settings_release(&settings);
        json_decref(command->options.typed);
        command->options.typed = before;
    }
    return ok;
}

static void show_stats(const struct chat_command *command) {
    const struct chat_answer *last = &command->last;
    notice(command, "%u messages, %u of %u tokens in the context; plan %" PRId64 " '%s'",
           chat_session_message_count(command->chat), chat_session_tokens(command->chat),
           engine_context(command->loaded.engine), command->loaded.plan->id, command->loaded.plan->name);
    if (command->answers)
        notice(command, "last answer: %u prompt tokens, %u of them new in %.2f s; %u tokens in %.2f s, %.1f tok/s",
               last->prompt_tokens, last->run_tokens, last->prefill_s, last->new_tokens, last->decode_s,
               last->decode_s > 0 && last->new_tokens > 1 ? (last->new_tokens - 1) / last->decode_s : 0);
}

static void show_help(void) {
    fputs("/reset          forget the conversation; the system message stays\n"
          "/save FILE      write the conversation as JSON\n"
          "/load FILE      go on with a saved one\n"
          "/regen          answer the last question again\n"
          "/undo           take the last question and its answer back\n"
          "/system [TEXT]  set the system message; without TEXT: show it; /system none: remove it\n"
          "/set [OPT VAL]  a generation option as on the command line: /set temperature 0.7;\n"
          "                VAL default takes it back; alone: show all\n"
          "/stats          tokens and times\n"
          "/help           this text\n"
          "/exit           end; Ctrl-D, too. Ctrl-C stops an answer\n"
          "A question that begins with / is typed as //. A line that ends in \\ goes on.\n", stderr);
}

static bool need(const char *argument, const char *command, struct error *err) {
    return argument[0] || error_set(err, ERROR_USAGE, "%s needs a file: %s FILE", command, command);
}

static bool system_message(struct chat_command *command, const char *argument, struct error *err) {
    const char *now = chat_session_system(command->chat);
    bool removes = strcmp(argument, "none") == 0;
    if (argument[0] && !chat_session_set_system(command->chat, removes ? "" : argument, err))
        return false;
    if (argument[0] && !removes)
        notice(command, "the system message is set");
    else if (now && !removes)
        notice(command, "%s", now);
    else
        notice(command, "there is no system message");
    return true;
}

/* A line that begins with /. False with `problem`: it did not work, which is told. False
 * with `err`: end. *ends: /exit. */
static bool run_command(struct chat_command *command, char *line, bool *ends, struct error *problem,
                        struct error *err) {
    size_t length = strcspn(line, " \t");
    char *argument = line + length + strspn(line + length, " \t");
    line[length] = '\0';
    for (size_t end = strlen(argument); end && strchr(" \t", argument[end - 1]); end--)
        argument[end - 1] = '\0';
    struct chat_session *chat = command->chat;
    if (!strcmp(line, "/exit") || !strcmp(line, "/quit")) {
        *ends = true;
    } else if (!strcmp(line, "/help")) {
        show_help();
    } else if (!strcmp(line, "/reset")) {
        chat_session_reset(chat);
        notice(command, "a new conversation");
    } else if (!strcmp(line, "/undo")) {
        if (!chat_session_undo(chat, problem))
            return false;
        notice(command, "taken back; %u messages are left", chat_session_message_count(chat));
    } else if (!strcmp(line, "/save")) {
        if (!need(argument, line, problem) || !chat_session_save(chat, argument, problem))
            return false;
        notice(command, "%u messages saved in '%s'", chat_session_message_count(chat), argument);
    } else if (!strcmp(line, "/load")) {
        if (!need(argument, line, problem) || !chat_session_load(chat, argument, problem))
            return false;
        notice(command, "%u messages loaded from '%s'", chat_session_message_count(chat), argument);
    } else if (!strcmp(line, "/regen")) {
        return answer(command, NULL, err);
    } else if (!strcmp(line, "/system")) {
        return system_message(command, argument, problem);
    } else if (!strcmp(line, "/set")) {
        return set_option(command, argument, problem);
    } else if (!strcmp(line, "/stats")) {
        show_stats(command);
    } else {
        return error_set(problem, ERROR_USAGE, "there is no command '%s'; /help lists them", line);
    }
    return true;
}

static bool talk(struct chat_command *command, struct error *err) {
    struct text line;
    text_init(&line);
    bool ok = true, ends = false;
    while (ok && !ends) {
        switch (line_input_read(command->input, "> ", command->colour, &line, err)) {
        case LINE_FAILED: ok = false; continue;
        case LINE_END: ends = true; continue;
        case LINE_INTERRUPTED:
            ends = interrupted_by != SIGINT || !command->is_terminal;
            if (!ends) {
                interrupted_by = 0;
                notice(command, "Ctrl-D or /exit ends");
            }
            continue;
        case LINE_READ: break;
        }
        if (strlen(line.bytes) != line.length) {
            notice(command, "a line with a NUL byte was left out");
            continue;
        }
        if (!line.bytes[strspn(line.bytes, " \t")])
            continue;
        struct error problem = { 0 };
        if (line.bytes[0] == '/' && line.bytes[1] != '/')
            ok = run_command(command, line.bytes, &ends, &problem, err);
        else
            ok = answer(command, line.bytes + (line.bytes[0] == '/'), err);
        if (!ok && err->kind == ERROR_NONE) {
            complain(command, &problem);
            ok = true;
        }
        ends |= interrupted_by != 0;
    }
    text_release(&line);
    return ok;
}

/* Stops the answer; main()'s handler would end the program at the second one. */
static void on_interrupt(int number) {
    if (!interrupted_by)
        interrupted_by = number;
}

static bool wants_colour(void) {
    const char *off = getenv("NO_COLOR"), *terminal = getenv("TERM");
    return isatty(STDERR_FILENO) && !(off && off[0]) && terminal && strcmp(terminal, "dumb");
}

bool command_chat(const struct run_options *options, struct error *err) {
    struct chat_command command = { .options = *options, .colour = wants_colour(),
                                    .total = { .kind = "chat" } };
    struct load_request request = { .needs_tokenizer = true, .settings = &command.settings };
    /* The options are the caller's; /set changes a copy. */
    command.options.typed = json_deep_copy(options->typed);
    bool ok = (command.options.typed || error_set(err, ERROR_FAILED, "cannot keep the options: out of memory"))
              && loaded_model_open(&command.loaded, options, &request, err)
              && (command.chat = chat_session_new(&command.loaded, options, err))
              && (command.input = line_input_new("phirun", &interrupted_by, err));
    command.sequences = ok ? generation_settings_sequences(&command.settings) : 0;
    if (ok && command.settings.num_return_sequences > 1)
        ok = error_set(err, ERROR_USAGE, "a conversation goes on from one answer: drop --num-return-sequences");
    if (ok) {
        prompt_cache_init(&command.cache, options->prompt_cache, &command.loaded);
        prompt_cache_restore(&command.cache, chat_session_timeline(command.chat), NULL, 0);
        command.seed = command.settings.sampling.seed;
        command.is_terminal = line_input_is_terminal(command.input);
        if (command.is_terminal) {
            struct sigaction action = { .sa_handler = on_interrupt, .sa_flags = SA_RESTART };
            sigemptyset(&action.sa_mask);
            sigaction(SIGINT, &action, NULL);
            notice(&command, "%s, a context of %u tokens; /help lists the commands",
                   command.loaded.model->name, engine_context(command.loaded.engine));
        }
        ok = talk(&command, err);
    }
    if (command.answers) {
        uint32_t count;
        struct session *timeline = chat_session_timeline(command.chat);
        const int32_t *tokens = session_tokens(timeline, &count);
        prompt_cache_save(&command.cache, timeline, tokens, count);
        command.total.load_s = command.loaded.load_seconds;
        generation_settings_text(&command.settings, command.total.settings, sizeof command.total.settings);
        loaded_model_add_run(&command.loaded, &command.total);
        if (options->verbose)
            loaded_model_report(&command.loaded);
    }
    line_input_free(command.input);
    chat_session_free(command.chat);
    loaded_model_close(&command.loaded);
    generation_settings_release(&command.settings);
    json_decref(command.options.typed);
    return ok;
}
