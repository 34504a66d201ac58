#include "runtime/line_input.h"

#include "common/interruption.h"

#include <errno.h>
#include <histedit.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>
#include <wchar.h>

#define HISTORY_LINES 1000
#define LINE_LIMIT ((size_t)16 << 20)

struct line_input {
    EditLine *edit;                /* NULL: no terminal */
    History *history;
    const volatile sig_atomic_t *interrupted;
    char prompt[64];               /* with \1 around what takes no room */
    char bytes[4096];              /* read ahead where there is no terminal: [at, filled) */
    size_t at, filled;
};

/* The window changed, or the program was stopped and goes on. */
static volatile sig_atomic_t must_redraw;

static void on_redraw(int number) {
    must_redraw = number;
}

static char *show_prompt(EditLine *edit) {
    struct line_input *input = NULL;
    el_get(edit, EL_CLIENTDATA, &input);
    return input->prompt;
}

/* One character for libedit: 1, 0 at the end, -1 after a signal that asks for an end. */
static int read_character(EditLine *edit, wchar_t *character) {
    struct line_input *input = NULL;
    el_get(edit, EL_CLIENTDATA, &input);
    mbstate_t state = { 0 };
    for (;;) {
        char byte;
        ssize_t got = interruptible_read(STDIN_FILENO, &byte, 1, input->interrupted);
        if (*input->interrupted)
            return -1;
        if (got == 0)
            return 0;
        if (got < 0 && errno != EINTR)
            return -1;
        if (got < 0) {
            if (must_redraw == SIGCONT)
                el_set(edit, EL_PREP_TERM, 1);
            if (must_redraw == SIGWINCH)
                el_resize(edit);
            must_redraw = 0;
            el_set(edit, EL_REFRESH);
            continue;
        }
        size_t used = mbrtowc(character, &byte, 1, &state);
        if (used == (size_t)-1) {
            *character = 0xFFFD;
            return 1;
        }
        if (used != (size_t)-2)
            return 1;
    }
}

static bool start_editing(struct line_input *input, const char *program, struct error *err) {
    /* How characters are spelled; libedit asks the locale. Numbers stay as they are. */
    if (!setlocale(LC_CTYPE, "") || MB_CUR_MAX == 1)
        setlocale(LC_CTYPE, "C.UTF-8");
    input->edit = el_init(program, stdin, stderr, stderr);
    input->history = history_init();
    if (!input->edit || !input->history)
        return error_set(err, ERROR_FAILED, "cannot edit lines: out of memory");
    HistEvent event;
    history(input->history, &event, H_SETSIZE, HISTORY_LINES);
    history(input->history, &event, H_SETUNIQUE, 1);
    el_set(input->edit, EL_CLIENTDATA, input);
    el_set(input->edit, EL_PROMPT_ESC, show_prompt, '\1');
    el_set(input->edit, EL_EDITOR, "emacs");
    el_set(input->edit, EL_HIST, history, input->history);
    el_source(input->edit, NULL);
    el_set(input->edit, EL_GETCFN, read_character);
    /* Ctrl-C would else drop what was typed, also between poll() and the read() that then waits for
     * more, and lets nobody look at the signal: read_edited() drops it. */
    el_set(input->edit, EL_SETTY, "-d", "+noflsh", NULL);
    struct sigaction action = { .sa_handler = on_redraw, .sa_flags = SA_RESTART };
    sigemptyset(&action.sa_mask);
    sigaction(SIGWINCH, &action, NULL);
    sigaction(SIGCONT, &action, NULL);
    return true;
}

struct line_input *line_input_new(const char *program, const volatile sig_atomic_t *interrupted,
                                  struct error *err) {
    struct line_input *input = calloc(1, sizeof *input);
    if (!input) {
        error_set(err, ERROR_FAILED, "cannot read lines: out of memory");
        return NULL;
    }
    input->interrupted = interrupted;
    if (isatty(STDIN_FILENO) && isatty(STDERR_FILENO) && !start_editing(input, program, err)) {
        line_input_free(input);
        return NULL;
    }
    return input;
}

void line_input_free(struct line_input *input) {
    if (!input)
        return;
    if (input->history)
        history_end(input->history);
    if (input->edit)
        el_end(input->edit);
    free(input);
}

bool line_input_is_terminal(const struct line_input *input) {
    return input->edit != NULL;
}

/* 1 and the next byte; 0 at the end; -1 where reading failed or a signal asks for an end. */
static int next_byte(struct line_input *input, char *byte) {
    if (input->at == input->filled) {
        ssize_t got;
        do
            got = interruptible_read(STDIN_FILENO, input->bytes, sizeof input->bytes, input->interrupted);
        while (got < 0 && errno == EINTR && !*input->interrupted);
        if (got <= 0)
            return (int)got;
        input->at = 0;
        input->filled = (size_t)got;
    }
    *byte = input->bytes[input->at++];
    return 1;
}

static enum line_result read_plain(struct line_input *input, struct text *line, struct error *err) {
    char byte = '\0';
    int got;
    while ((got = next_byte(input, &byte)) > 0 && byte != '\n') {
        text_append_char(line, byte);
        if (line->length > LINE_LIMIT) {
            error_set(err, ERROR_USAGE, "a line of standard input is longer than %zu bytes", LINE_LIMIT);
            return LINE_FAILED;
        }
    }
    if (*input->interrupted)
        return LINE_INTERRUPTED;
    if (got < 0) {
        error_set(err, ERROR_FAILED, "cannot read standard input: %s", strerror(errno));
        return LINE_FAILED;
    }
    if (line->length && line->bytes[line->length - 1] == '\r')
        line->bytes[--line->length] = '\0';
    return !got && !line->length ? LINE_END : LINE_READ;
}

static enum line_result read_edited(struct line_input *input, struct text *line) {
    HistEvent event;
    for (;;) {
        int count = 0;
        const char *typed = el_gets(input->edit, &count);
        if (*input->interrupted) {
            tcflush(STDIN_FILENO, TCIFLUSH);
            fputc('\n', stderr);
            return LINE_INTERRUPTED;
        }
        if (!typed || count <= 0) {
            fputc('\n', stderr);
            return LINE_END;
        }
        size_t length = strcspn(typed, "\n");
        bool goes_on = length && typed[length - 1] == '\\';
        text_append_bytes(line, typed, length - goes_on);
        if (!goes_on)
            break;
        text_append_char(line, '\n');
        snprintf(input->prompt, sizeof input->prompt, "  ");
    }
    /* A line of history is one line on the screen. */
    if (line->length && !strchr(line->bytes, '\n'))
        history(input->history, &event, H_ENTER, line->bytes);
    return LINE_READ;
}

enum line_result line_input_read(struct line_input *input, const char *prompt, bool colour, struct text *line,
                                 struct error *err) {
    text_clear(line);
    /* libedit drops an escape at the end: the colour ends before the last character, a space. */
    int coloured = *prompt ? (int)strlen(prompt) - 1 : 0;
    if (colour)
        snprintf(input->prompt, sizeof input->prompt, "\1\033[1;32m\1%.*s\1\033[0m\1%s", coloured, prompt,
                 prompt + coloured);
    else
        snprintf(input->prompt, sizeof input->prompt, "%s", prompt);
    enum line_result result = input->edit ? read_edited(input, line) : read_plain(input, line, err);
    if (line->failed && result == LINE_READ) {
        error_set(err, ERROR_FAILED, "cannot read a line: out of memory");
        return LINE_FAILED;
    }
    return result;
}
