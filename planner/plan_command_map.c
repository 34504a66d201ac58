/* phiplan MODEL, export and import: where device maps come in and go out. */
#include "planner/plan_commands.h"

#include "common/file_map.h"
#include "planner/accelerate_map.h"
#include "planner/fixed_placement.h"
#include "planner/plan_report.h"

#include <stdio.h>
#include <stdlib.h>

#define MAP_FILE_LIMIT ((size_t)64 << 20)

bool command_accelerate_text(const struct plan *plan, struct text *text, struct error *err) {
    struct device_map map;
    if (!device_map_from_plan(plan, &map, err))
        return false;
    device_map_print(&map, text);
    text_append_char(text, '\n');
    device_map_release(&map);
    return true;
}

/* ---- maps for devices that are not here ---- */

/* Does the answer depend on nothing but the model and the numbers given? */
static bool is_offline(const struct plan_options *options) {
    return options->dry_run && options->format == FORMAT_ACCELERATE && options->request.max_memory[0] &&
           accelerate_is_policy(options->request.policy);
}

static bool print_offline(const struct command *command, struct error *err) {
    const struct plan_request *request = &command->options->request;
    struct accelerate_memory memory;
    struct device_map map = { 0 };
    struct model *model = NULL;
    struct text notes, text;
    text_init(&notes);
    text_init(&text);
    bool ok = true;
    if (request->devices[0] || request->exclude[0] || request->pins[0] || request->forbids[0])
        ok = error_set(err, ERROR_USAGE, "--devices, --exclude, --pin and --forbid mean nothing for the map that policy %s "
                       "makes of --max-memory alone; leave them out", request->policy);
    ok = ok && accelerate_memory_parse(request->max_memory, &memory, &notes, err);
    ok = ok && (model = command_open_model(command, command->options->subject, err)) &&
         accelerate_policy_map(model, request->policy, request->dtype, &memory, &map, err);
    command_say_lines(&notes);
    device_map_print(&map, &text);
    text_append_char(&text, '\n');
    ok = ok && command_print(&text, err);
    device_map_release(&map);
    model_close(model);
    text_release(&notes);
    text_release(&text);
    return ok;
}

bool plan_command_plan(const struct command *command, struct error *err) {
    if (is_offline(command->options))
        return print_offline(command, err);
    return command_make_plan(command, &command->options->request, NULL, err);
}

/* ---- export and import ---- */

bool plan_command_export(const struct command *command, struct error *err) {
    if (command->options->format == FORMAT_DOT || command->options->format == FORMAT_SVG)
        return command_export_picture(command, err);
    struct plan_extra extra = { 0 };
    struct text text;
    text_init(&text);
    struct plan_store *store = command_open_store(command, STORE_EXISTING, err);
    struct plan *plan = store ? command_find_plan(command, store, err) : NULL;
    bool ok = plan && plan_store_superseded(store, plan->id, &extra.is_superseded, &extra.superseded_by, err);
    if (ok && command->options->format == FORMAT_ACCELERATE)
        ok = command_accelerate_text(plan, &text, err);
    else if (ok)
        ok = plan_report_json(plan, &extra, &text, err);
    ok = ok && command_print(&text, err);
    plan_free(plan);
    plan_store_close(store);
    text_release(&text);
    return ok;
}

bool plan_command_import(const struct command *command, struct error *err) {
    const struct plan_options *options = command->options;
    struct plan_request request = options->request;
    struct device_map map = { 0 };
    struct text notes;
    text_init(&notes);
    size_t size;
    char *bytes = file_read_all(options->file, MAP_FILE_LIMIT, &size, err);
    bool ok = bytes && device_map_read(bytes, size, options->file, &map, err) &&
              device_map_read_request(bytes, size, options->file, !options->kv_given, &request, &notes, err);
    free(bytes);
    command_say_lines(&notes);
    text_release(&notes);
    snprintf(request.policy, sizeof request.policy, "%s", POLICY_IMPORT);
    ok = ok && command_make_plan(command, &request, &map, err);
    device_map_release(&map);
    return ok;
}
