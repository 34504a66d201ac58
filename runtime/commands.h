/* commands: what phirun's subcommands do. Each returns false with the sentence
 * for main() to print; results go to standard output. */
#ifndef RUNTIME_COMMANDS_H
#define RUNTIME_COMMANDS_H

#include "common/error.h"
#include "runtime/run_options.h"

bool command_generate(const struct run_options *options, struct error *err);
bool command_bench(const struct run_options *options, struct error *err);
bool command_tokenize(const struct run_options *options, struct error *err);
bool command_template(const struct run_options *options, struct error *err);
bool command_chat(const struct run_options *options, struct error *err);
bool command_perplexity(const struct run_options *options, struct error *err);
bool command_compare(const struct run_options *options, struct error *err);
bool command_batch(const struct run_options *options, struct error *err);
bool command_logits(const struct run_options *options, struct error *err);

/* The error that errno says of a write to standard output; false. A closed pipe counts as SIGPIPE. */
bool output_failed(struct error *err);

/* Flush standard output; a full disk or a closed pipe is an error (output_failed()). */
bool finish_output(struct error *err);

/* Text on its way to standard output, at once. */
bool write_output(const char *bytes, size_t size, struct error *err);

#endif
