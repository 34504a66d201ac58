/* line_input: lines from the user; the door to libedit.
 *
 * Where standard input and standard error are a terminal, lines can be edited and those
 * of this run come back with the arrow keys (nothing is kept on disk); a line that ends
 * in a backslash goes on in the next one. Else they are read as they come. */
#ifndef RUNTIME_LINE_INPUT_H
#define RUNTIME_LINE_INPUT_H

#include "common/error.h"
#include "common/text.h"

#include <signal.h>

struct line_input;
enum line_result { LINE_READ, LINE_END, LINE_INTERRUPTED, LINE_FAILED };

/* `interrupted`: set by the program's signal handlers. */
struct line_input *line_input_new(const char *program, const volatile sig_atomic_t *interrupted,
                                  struct error *err);
void line_input_free(struct line_input *input);   /* gives the terminal back as it was; NULL is fine */

bool line_input_is_terminal(const struct line_input *input);

/* One line into `line`, without its newline. `prompt` is shown on a terminal, bold where
 * `colour`, but for its last character. LINE_FAILED sets `err`. */
enum line_result line_input_read(struct line_input *input, const char *prompt, bool colour, struct text *line,
                                 struct error *err);

#endif
