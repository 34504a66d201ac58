/* plan_commands: what each verb of phiplan does. Results go to stdout, talk to stderr. */
#ifndef PLANNER_PLAN_COMMANDS_H
#define PLANNER_PLAN_COMMANDS_H

#include "common/text.h"
#include "db/plan_store.h"
#include "planner/device_map.h"
#include "planner/plan_options.h"

#include <signal.h>

struct command {
    const struct plan_options *options;
    const volatile sig_atomic_t *interrupted;
};

bool plan_command_plan(const struct command *command, struct error *err);
bool plan_command_devices(const struct command *command, struct error *err);
bool plan_command_list(const struct command *command, struct error *err);
bool plan_command_show(const struct command *command, struct error *err);
bool plan_command_remove(const struct command *command, struct error *err);
bool plan_command_export(const struct command *command, struct error *err);
bool plan_command_import(const struct command *command, struct error *err);
bool plan_command_check(const struct command *command, struct error *err);
bool plan_command_why(const struct command *command, struct error *err);
bool plan_command_diff(const struct command *command, struct error *err);
bool plan_command_collect(const struct command *command, struct error *err);

/* ---- shared by them ---- */

/* Open the store that the options name. NULL on failure. */
struct plan_store *command_open_store(const struct command *command, enum store_mode mode, struct error *err);

/* Resolve and open MODEL; says on stderr what a hub name stands for. NULL on failure. */
struct model *command_open_model(const struct command *command, const char *argument, struct error *err);

/* Its hashes, by the store's cache of file digests; a progress bar on a terminal. */
bool command_hash_model(const struct command *command, const struct model *model, struct plan_store *store,
                        struct model_hashes *hashes, struct error *err);

/* The plan that the options name, as below. NULL on failure. */
struct plan *command_find_plan(const struct command *command, struct plan_store *store, struct error *err);

/* Plan the model that the options name; `map` (NULL: the policy decides) says where units go. */
bool command_make_plan(const struct command *command, const struct plan_request *wanted,
                       const struct device_map *map, struct error *err);

/* A plan as a drawing (or a Graphviz graph). A model of NULL: hops without their cost. */
struct machine;
void command_picture_text(const struct plan *plan, const struct model *model, const struct machine *machine,
                          bool is_dot, struct text *text);
bool command_export_picture(const struct command *command, struct error *err);

/* A plan as an Accelerate map and a newline. */
bool command_accelerate_text(const struct plan *plan, struct text *text, struct error *err);

/* An id, a MODEL (its plan --name), a name that only one plan has, or NULL for the newest plan; a number is an
 * id where a plan has it, and a path that is a model is no name. NULL on failure. */
struct plan *command_find_plan_named(const struct command *command, struct plan_store *store, const char *argument,
                                     struct error *err);

/* Write to stdout, defused (common/text.h); a closed pipe or a full disk is an error. */
bool command_print(struct text *text, struct error *err);

/* A sentence to stderr after "phiplan: ", defused: for those with names from stores and models. */
void command_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same of each line. */
void command_say_lines(const struct text *lines);

#endif
