/* phiplan list, show, rm: what the store holds. */
#include "planner/plan_commands.h"

#include "common/typed_command.h"
#include "common/weight_choice.h"

#include "planner/plan_report.h"

#include <stdlib.h>
#include <string.h>

bool plan_command_list(const struct command *command, struct error *err) {
    struct plan **plans = NULL;
    uint32_t count = 0;
    struct text text;
    text_init(&text);
    struct error missing = { 0 };
    struct plan_store *store = command_open_store(command, STORE_EXISTING, &missing);
    bool ok = store ? plan_store_list_plans(store, false, &plans, &count, err)
                    : missing.kind == ERROR_NO_PLAN || error_set(err, missing.kind, "%s", missing.text);
    if (ok && command->options->json)
        ok = plan_list_json(plans, count, &text, err);
    else if (ok)
        plan_list_table(plans, count, &text);
    if (ok && !count && !command->options->json)
        command_say("no plan is stored yet; make one with phiplan MODEL");
    ok = ok && command_print(&text, err);
    plan_store_free_plans(plans, count);
    plan_store_close(store);
    text_release(&text);
    return ok;
}

/* The newest plan of a MODEL under --name, whatever the hardware. */
static struct plan *find_by_model(const struct command *command, struct plan_store *store, const char *argument,
                                  struct error *err) {
    const char *name = command->options->name ? command->options->name : "default";
    struct model_hashes hashes;
    struct plan **plans = NULL, *found = NULL;
    uint32_t count = 0;
    struct model *model = command_open_model(command, argument, err);
    if (model && command_hash_model(command, model, store, &hashes, err) &&
        plan_store_find_plans(store, hashes.weights, name, &plans, &count, err)) {
        if (count && plan_validate(plans[0], err)) {
            found = plans[0];
            plans[0] = NULL;
        }
        char typed[TYPED_COMMAND_SIZE];
        if (!count)
            error_set(err, ERROR_NO_PLAN, "no plan '%s' is stored for '%s'; make one: %s", name, model->name,
                      typed_phiplan(typed, argument, NULL, 0, name, command->options->database));
    }
    plan_store_free_plans(plans, count);
    model_close(model);
    return found;
}

/* The one current plan of that name, of whatever model. NULL: there is none (ERROR_NO_PLAN), or there
 * are several (ERROR_USAGE). */
static struct plan *find_by_name(struct plan_store *store, const char *name, struct error *err) {
    struct plan **plans = NULL, *found = NULL;
    struct text known;
    uint32_t count = 0, named = 0, last = 0;
    if (!plan_store_list_plans(store, false, &plans, &count, err))
        return NULL;
    text_init(&known);
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(plans[i]->name, name) != 0)
            continue;
        last = i;
        text_append_format(&known, "%s%lld (%s)", named ? ", " : "", (long long)plans[i]->id, plans[i]->model_name);
        named++;
    }
    if (!named) {
        error_set(err, ERROR_NO_PLAN, "no plan is called '%s'", name);
    } else if (named > 1) {
        error_set(err, ERROR_USAGE, "%u plans are called '%s': %.600s; give one of these numbers", named, name,
                  known.bytes);
    } else if (plan_validate(plans[last], err)) {
        found = plans[last];
        plans[last] = NULL;
    }
    text_release(&known);
    plan_store_free_plans(plans, count);
    return found;
}

static bool is_model(const char *argument, struct error *err) {
    struct model_source source = { 0 };
    bool ok = model_source_resolve(&source, argument, err);
    model_source_release(&source);
    return ok;
}

struct plan *command_find_plan_named(const struct command *command, struct plan_store *store, const char *argument,
                                     struct error *err) {
    struct error missing = { 0 }, unnamed = { 0 };
    struct plan *plan = NULL;
    int64_t id;
    if (!argument)
        return plan_store_newest_plan(store, err);
    const bool is_number = plan_id_read(argument, &id);
    if (is_number)
        plan = plan_store_load_plan(store, id, &missing);
    else if (is_model(argument, &missing))
        return find_by_model(command, store, argument, err);
    else
        error_prefix(&missing, "no plan is called so, and as a model");
    if (!plan && (!is_number || missing.kind == ERROR_NO_PLAN)) {
        plan = find_by_name(store, argument, &unnamed);
        if (!plan && unnamed.kind != ERROR_NO_PLAN)
            missing = unnamed;
    }
    if (!plan)
        error_set(err, missing.kind, "%s", missing.text);
    return plan;
}

struct plan *command_find_plan(const struct command *command, struct plan_store *store, struct error *err) {
    return command_find_plan_named(command, store, command->options->subject, err);
}

bool plan_command_show(const struct command *command, struct error *err) {
    uint64_t stored[TENSOR_TYPE_COUNT];
    struct plan_extra extra = { 0 };
    struct text text;
    text_init(&text);
    struct plan_store *store = command_open_store(command, STORE_EXISTING, err);
    struct plan *plan = store ? command_find_plan(command, store, err) : NULL;
    bool ok = plan && plan_store_superseded(store, plan->id, &extra.is_superseded, &extra.superseded_by, err) &&
              plan_store_stored_bytes(store, plan->weights_hash, stored, err);
    extra.weight_type = ok ? main_weight_type(plan, stored) : NULL;
    if (ok && command->options->json)
        ok = plan_report_json(plan, &extra, &text, err);
    else if (ok)
        plan_report_table(plan, &extra, &text);
    ok = ok && command_print(&text, err);
    plan_free(plan);
    plan_store_close(store);
    text_release(&text);
    return ok;
}

bool plan_command_remove(const struct command *command, struct error *err) {
    struct error unsound = { 0 };
    int64_t id = 0;
    struct plan_store *store = command_open_store(command, STORE_EXISTING, &unsound);
    struct plan *plan = store ? command_find_plan(command, store, &unsound) : NULL;
    /* A plan that nobody can follow any more must not be there for ever. */
    bool is_broken = store && !plan && unsound.kind == ERROR_FAILED &&
                     plan_id_read(command->options->subject, &id);
    bool ok = plan || is_broken ? plan_store_remove_plan(store, plan ? plan->id : id, err)
                                : error_set(err, unsound.kind, "%s", unsound.text);
    if (ok && plan)
        command_say("removed plan %lld '%s' of %s", (long long)plan->id, plan->name, plan->model_name);
    else if (ok)
        command_say("removed plan %lld, of which this was wrong: %s", (long long)id, unsound.text);
    plan_free(plan);
    plan_store_close(store);
    return ok;
}
