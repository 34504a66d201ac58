/* phiplan check: predictions against the runs that phirun recorded, and constants
 * fitted to them. */
#include "common/json.h"
#include "common/typed_command.h"
#include "planner/calibrate.h"
#include "planner/plan_context.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RUNS_COMPARED 40u
#define WORTH_PLANNING_AGAIN 0.03       /* of the workload's time */

static const char *const phase_names[RUN_PHASES] = { "prefill", "decode" };

struct check {
    struct plan_context context;
    struct device_rates rates[PLAN_MAX_DEVICES];
    struct calibrated result;
    uint32_t run_count;
    char better[256];                    /* devices of a plan that the new constants favour; "" for none */
    double better_gain;                  /* of the workload's time */
};

static const char *rate_text(double rate, char text[24]) {
    snprintf(text, 24, rate >= 100 ? "%.0f" : rate >= 10 ? "%.1f" : "%.2f", rate);
    return text;
}

static void add_line(struct text *text, const char *phase, const char *device, const struct comparison *comparison) {
    char predicted[24], measured[24];
    if (!comparison->run_count)
        return;
    text_append_format(text, "%-8s %-7s %5u  %9s  %9s  %+6.1f %%  %+6.1f %%\n", phase, device, comparison->run_count,
                       rate_text(comparison->predicted, predicted), rate_text(comparison->measured, measured),
                       100 * comparison->error, 100 * comparison->error_after);
}

static void print_table(const struct check *check, const char *database, struct text *text) {
    const struct plan *plan = check->context.plan;
    text_append_format(text, "plan %lld '%s' of %s, the last %u runs\n\n", (long long)plan->id, plan->name,
                       plan->model_name, check->run_count);
    text_append(text, "phase    device   runs  predicted   measured     error     after   (medians, tok/s)\n");
    for (unsigned phase = 0; phase < RUN_PHASES; phase++) {
        add_line(text, phase_names[phase], "all", &check->result.all[phase]);
        for (uint32_t d = 0; d < plan->device_count; d++)
            add_line(text, phase_names[phase], plan->devices[d].device.short_name, &check->result.devices[d][phase]);
    }
    char prefill[24], decode[24], end[24];
    text_append_format(text, "\nnow predicted  prefill %s tok/s, decode %s tok/s (%s where the context ends)\n",
                       rate_text(plan->predicted_prefill_tokens_per_s, prefill),
                       rate_text(plan->predicted_decode_tokens_per_s, decode),
                       rate_text(plan->predicted_decode_tokens_per_s_end, end));
    char typed[TYPED_COMMAND_SIZE];
    if (check->better[0])
        text_append_format(text, "better         with what is known now, %s would take %.0f %% less time; plan again: "
                           "%s\n", check->better, 100 * check->better_gain,
                           typed_phiplan(typed, plan->model_path, &plan->request, 0, plan->name, database));
}

static json_t *comparison_entry(const char *phase, const char *device, const struct comparison *comparison) {
    return json_pack("{s:s, s:s, s:i, s:f, s:f, s:f, s:f}", "phase", phase, "device", device, "runs",
                     (int)comparison->run_count, "predicted_tokens_per_s", comparison->predicted,
                     "measured_tokens_per_s", comparison->measured, "error", comparison->error,
                     "error_after", comparison->error_after);
}

static bool print_json(const struct check *check, struct text *text, struct error *err) {
    const struct plan *plan = check->context.plan;
    json_t *list = json_array();
    for (unsigned phase = 0; phase < RUN_PHASES; phase++) {
        if (check->result.all[phase].run_count)
            json_array_append_new(list, comparison_entry(phase_names[phase], "all", &check->result.all[phase]));
        for (uint32_t d = 0; d < plan->device_count; d++)
            if (check->result.devices[d][phase].run_count)
                json_array_append_new(list, comparison_entry(phase_names[phase], plan->devices[d].device.short_name,
                                                             &check->result.devices[d][phase]));
    }
    json_t *root = json_pack("{s:I, s:i, s:o, s:{s:f, s:f, s:f}, s:s?}", "plan", (json_int_t)plan->id, "runs",
                             (int)check->run_count, "comparisons", list, "predicted", "prefill_tokens_per_s",
                             plan->predicted_prefill_tokens_per_s, "decode_tokens_per_s",
                             plan->predicted_decode_tokens_per_s, "decode_tokens_per_s_end",
                             plan->predicted_decode_tokens_per_s_end, "better",
                             check->better[0] ? check->better : NULL);
    char *bytes = root ? json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(7)) : NULL;
    if (bytes)
        text_append_format(text, "%s\n", bytes);
    free(bytes);
    json_decref(root);
    return bytes || error_set(err, ERROR_FAILED, "cannot write JSON: out of memory");
}

static bool keep(const struct check *check, struct error *err) {
    const struct plan_context *context = &check->context;
    const struct plan *plan = context->plan;
    struct probe_value values[4] = {
        { .what = "fit.decode", .unit = "x" }, { .what = "fit.keys", .unit = "x" },
        { .what = "fit.prefill", .unit = "x" }, { .what = "fit.start", .unit = "s" },
    };
    for (uint32_t d = 0; d < plan->device_count; d++) {
        const struct calibration *fit = &check->result.fit[d];
        const double constants[4] = { fit->decode, fit->keys, fit->prefill, fit->start_s > 0 ? fit->start_s : 1e-12 };
        for (int i = 0; i < 4; i++) {
            snprintf(values[i].format, sizeof values[i].format, "%s",
                     tensor_type_info(cost_token_type(context->model))->name);
            values[i].working_set_bytes = cost_token_bytes(context->model);
            values[i].value = constants[i];
        }
        if (check->result.is_fitted[d] &&
            !plan_store_save_probe(context->store, &plan->devices[d].device, values, 4, err))
            return false;
    }
    return plan_store_save_predictions(context->store, plan, err);
}

static bool is_same_placement(const struct plan *a, const struct plan *b) {
    bool same = a->shard_count == b->shard_count;
    for (uint32_t i = 0; same && i < a->shard_count; i++) {
        const struct shard *one = &a->shards[i], *other = &b->shards[i];
        same = one->unit == other->unit && one->part_end == other->part_end && (one->device < 0) == (other->device < 0) &&
               (one->device < 0 || strcmp(a->devices[one->device].device.short_name,
                                          b->devices[other->device].device.short_name) == 0);
    }
    return same;
}

/* Whether the same request would now be answered by a clearly faster plan. */
static void look_for_better(struct check *check) {
    struct made_plan made = { 0 };
    const struct plan *plan = check->context.plan;
    machine_release(&check->context.machine);   /* the store knows more now */
    if (!machine_of_plan(check->context.store, check->context.model, plan, &check->context.machine, NULL) ||
        !plan_context_make(&check->context, &plan->request, NULL, &made, NULL))
        return;
    double gain = 1 - made.plan->predicted_total_s / plan->predicted_total_s;
    if (gain > WORTH_PLANNING_AGAIN && !is_same_placement(made.plan, plan)) {
        plan_device_names(made.plan, check->better, sizeof check->better);
        check->better_gain = gain;
    }
    made_plan_release(&made);
}

bool plan_command_check(const struct command *command, struct error *err) {
    struct check *check = calloc(1, sizeof *check);
    struct run_record *runs = NULL;
    char typed[TYPED_COMMAND_SIZE];
    struct text text;
    text_init(&text);
    bool ok = check || error_set(err, ERROR_FAILED, "cannot check the plan: out of memory");
    ok = ok && plan_context_open(&check->context, command, command->options->subject, err) &&
         plan_store_runs(check->context.store, check->context.plan->id, RUNS_COMPARED, &runs, &check->run_count, err);
    if (!ok)
        goto cleanup;
    const struct plan *plan = check->context.plan;
    plan_context_rates(&check->context, check->rates);
    struct calibrate_input input = { check->context.model, plan, check->rates, runs, check->run_count };
    ok = calibrate(&input, &check->result, err);
    if (ok && !check->result.all[RUN_PREFILL].run_count && !check->result.all[RUN_DECODE].run_count)
        ok = error_set(err, ERROR_FAILED, "plan %lld has no run to compare with yet; measure some: %s",
                       (long long)plan->id,
                       typed_bench(typed, plan->model_path, plan->name, command->options->database));
    if (!ok)
        goto cleanup;
    ok = plan_context_predict(&check->context, check->result.fit, err) &&
         (command->options->dry_run || keep(check, err));
    if (ok && !command->options->dry_run)
        look_for_better(check);
    ok = ok && (!command->options->json || print_json(check, &text, err));
    if (ok && !command->options->json)
        print_table(check, command->options->database, &text);
    ok = ok && command_print(&text, err);
    if (ok && !command->options->dry_run)
        command_say("plan %lld and the next plans of '%s' use the fitted constants", (long long)plan->id,
                    plan->model_name);

cleanup:
    if (check)
        plan_context_release(&check->context);
    free(runs);
    free(check);
    text_release(&text);
    return ok;
}
