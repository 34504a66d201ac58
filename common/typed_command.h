/* typed_command: the command that a sentence proposes, as a shell takes it. */
#ifndef COMMON_TYPED_COMMAND_H
#define COMMON_TYPED_COMMAND_H

#include "common/text.h"

#include <stdint.h>

#define TYPED_COMMAND_SIZE 640

/* One more word, in quotes where a shell would take it for something else. */
void text_append_word(struct text *text, const char *word);

/* "phiplan MODEL --ctx 512 --name fast --db FILE": without what is 0, NULL, "" or the name "default".
 * Cut where it is longer than its room. Returns `command`. */
const char *typed_phiplan(char command[TYPED_COMMAND_SIZE], const char *model, uint64_t context, const char *name,
                          const char *db);

/* The same of "phiplan import FILE MODEL", FILE being the reader's to fill in. */
const char *typed_import(char command[TYPED_COMMAND_SIZE], const char *model, const char *name, const char *db);

/* The same of "phirun bench MODEL". */
const char *typed_bench(char command[TYPED_COMMAND_SIZE], const char *model, const char *name, const char *db);

#endif
