/* phiplan: plans a model onto the OpenCL devices of this machine and keeps the plan. */
#include "common/interruption.h"
#include "planner/plan_commands.h"
#include "planner/probe_child.h"

#include <stdlib.h>
#include <string.h>

static bool say(const char *words, struct error *err) {
    struct text text;
    text_init(&text);
    text_append(&text, words);
    bool ok = command_print(&text, err);
    text_release(&text);
    return ok;
}

static bool run(const struct plan_options *options, struct error *err) {
    const struct command command = { options, &interrupted_by };
    switch (options->verb) {
    case VERB_PLAN: return plan_command_plan(&command, err);
    case VERB_DEVICES: return plan_command_devices(&command, err);
    case VERB_LIST: return plan_command_list(&command, err);
    case VERB_SHOW: return plan_command_show(&command, err);
    case VERB_REMOVE: return plan_command_remove(&command, err);
    case VERB_EXPORT: return plan_command_export(&command, err);
    case VERB_IMPORT: return plan_command_import(&command, err);
    case VERB_CHECK: return plan_command_check(&command, err);
    case VERB_COLLECT: return plan_command_collect(&command, err);
    case VERB_WHY: return plan_command_why(&command, err);
    case VERB_DIFF: return plan_command_diff(&command, err);
    case VERB_HELP: return say(plan_options_help, err);
    case VERB_VERSION: return say(plan_options_version, err) && say("\n", err);
    }
    return false;
}

int main(int argc, char **argv) {
    struct plan_options options;
    struct error err = { 0 };
    if (argc > 1 && strcmp(argv[1], "__probe") == 0)
        return probe_child_main(argc, argv);
    interruption_catch();
    if (plan_options_parse(argc, argv, &options, &err) && run(&options, &err))
        return 0;
    if (err.text[0])
        command_say("%s", err.text);
    if (interrupted_by && err.kind != ERROR_USAGE)
        return 128 + interrupted_by;
    return err.kind == ERROR_NONE ? 1 : error_exit_code(err.kind);
}
