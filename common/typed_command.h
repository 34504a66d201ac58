/* typed_command: the command that a sentence proposes, as a shell takes it. */
#ifndef COMMON_TYPED_COMMAND_H
#define COMMON_TYPED_COMMAND_H

#include "common/plan.h"
#include "common/text.h"

#include <stdint.h>

#define TYPED_COMMAND_SIZE 640

/* One more word, in quotes where a shell would take it for something else. */
void text_append_word(struct text *text, const char *word);

/* "phiplan MODEL --name fast --db FILE --ctx 512 --weights q8_0": with what a stored plan was asked for
 * (`request`; NULL: there is none), another `context` (0: the same), and without what is NULL, "" or the
 * name "default". For a plan by a map "phiplan import FILE MODEL", FILE being the reader's to fill in.
 * Where it is longer than its room, " ..." takes the place of the last options: no program takes that.
 * Returns `command`. */
const char *typed_phiplan(char command[TYPED_COMMAND_SIZE], const char *model, const struct plan_request *request,
                          uint64_t context, const char *name, const char *db);

/* "phirun bench MODEL --plan fast --db FILE". */
const char *typed_bench(char command[TYPED_COMMAND_SIZE], const char *model, const char *name, const char *db);

#endif
