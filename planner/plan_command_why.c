/* phiplan why [PLAN] DEVICE: what a device has and would need, and what the workload
 * would take with it or without it. */
#include "common/json.h"
#include "planner/plan_context.h"
#include "planner/plan_report.h"
#include "planner/size_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct why {
    struct plan_context context;
    const char *device;             /* short name */
    uint32_t index;                 /* of the plan's devices */
    bool holds;
    uint64_t need_bytes;            /* one block more, or the first one with its scratch; 0: unknown */
    uint64_t have_bytes;            /* budget, less what it holds */
    struct made_plan other;         /* with it where it holds nothing, else without it */
    struct error refused;           /* why there is no such plan */
};

static bool find_device(struct why *why, struct error *err) {
    const struct plan *plan = why->context.plan;
    char known[300] = "";
    size_t used = 0;
    for (uint32_t d = 0; d < plan->device_count; d++) {
        const char *name = plan->devices[d].device.short_name;
        if (strcmp(name, why->device) == 0) {
            why->index = d;
            why->holds = plan_device_holds(plan, (int32_t)d);
            return true;
        }
        if (used < sizeof known)
            used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "", name);
    }
    return error_set(err, ERROR_USAGE, "plan %lld knows no device '%s'; it knows %s", (long long)plan->id, why->device,
                     known);
}

/* ---- memory ---- */

/* What one more block takes there; the first one brings its scratch. */
static void measure_need(struct why *why) {
    const struct plan *plan = why->context.plan;
    const struct plan_device *device = &plan->devices[why->index];
    const struct buffer_options options = {
        .context = plan->request.context, .micro_batch = plan->request.micro_batch, .sequence_count = 1,
        .logit_rows = 1, .kv_type = plan->request.kv_type, .numeric = plan->numeric,
        .alignment = device->device.alignment,
        .max_buffer_bytes = device->max_buffer_bytes ? device->max_buffer_bytes : device->device.max_buffer_bytes };
    struct buffer_list list = { 0 };
    bool *held = calloc(plan->unit_count, sizeof *held);
    struct model *model = why->context.model;
    uint64_t used = device->weight_bytes + device->kv_bytes + device->scratch_bytes + device->staging_bytes +
                    device->slack_bytes;
    why->have_bytes = device->budget_bytes > used ? device->budget_bytes - used : 0;
    if (held && plan->unit_count >= 4) {
        held[1] = held[2] = !why->holds;
        bool ok = unit_buffers(model, unit_at(model, 1), &options, &list, NULL) &&
                  unit_buffers(model, unit_at(model, 2), &options, &list, NULL) &&
                  (why->holds || device_buffers(model, held, &options, &list, NULL));
        for (unsigned kind = 0; ok && kind < BUFFER_KINDS; kind++)
            why->need_bytes += list.total_bytes[kind];
    }
    buffer_list_release(&list);
    free(held);
}

/* ---- the other plan ---- */

static void add_name(char *list, size_t size, const char *name) {
    size_t used = strlen(list);
    if (used + strlen(name) + 2 < size)
        snprintf(list + used, size - used, "%s%s", used ? "," : "", name);
}

static void make_other(struct why *why) {
    struct plan *plan = why->context.plan;
    struct plan_request request = plan->request;
    snprintf(request.policy, sizeof request.policy, "fastest");
    if (why->holds) {
        /* Everything else that took part. */
        request.devices[0] = request.exclude[0] = '\0';
        for (uint32_t d = 0; d < plan->device_count; d++)
            if (d != why->index && plan->devices[d].budget_bytes)
                add_name(request.devices, sizeof request.devices, plan->devices[d].device.short_name);
        if (!request.devices[0]) {
            error_set(&why->refused, ERROR_FAILED, "there is no other device");
            return;
        }
    } else if (!plan->devices[why->index].budget_bytes) {
        /* Left out: name it along with those that took part. */
        request.devices[0] = request.exclude[0] = '\0';
        for (uint32_t d = 0; d < plan->device_count; d++)
            if (d == why->index || plan->devices[d].budget_bytes)
                add_name(request.devices, sizeof request.devices, plan->devices[d].device.short_name);
    }
    if (plan_context_make(&why->context, &request, why->holds ? NULL : why->device, &why->other, &why->refused) &&
        why->other.plan && !why->have_bytes && !why->holds)
        for (uint32_t d = 0; d < why->other.plan->device_count; d++)
            if (strcmp(why->other.plan->devices[d].device.short_name, why->device) == 0)
                why->have_bytes = why->other.plan->devices[d].budget_bytes;
}

/* ---- reports ---- */

static double change(const struct why *why) {
    return why->other.plan->predicted_total_s / why->context.plan->predicted_total_s - 1;
}

static void print_other(const struct why *why, struct text *text) {
    const char *label = why->holds ? "without it" : "if used";
    const struct plan *now = why->context.plan, *other = why->other.plan;
    if (!other) {
        text_append_format(text, "%-12s%s\n", label, why->refused.text);
        return;
    }
    char devices[256];
    struct text held;
    text_init(&held);
    plan_device_names(other, devices, sizeof devices);
    for (uint32_t d = 0; d < other->device_count && !why->holds; d++)
        if (strcmp(other->devices[d].device.short_name, why->device) == 0)
            plan_report_units(other, (int32_t)d, &held);
    if (held.length)
        text_append_format(text, "%-12sit would hold %s (%s)\n", label, held.bytes, devices);
    else
        text_append_format(text, "%-12s%s would hold everything\n", label, devices);
    double share = change(why);
    char totals[2][24], rates[2][24], firsts[2][24];
    text_append_format(text, "%-12sworkload %s instead of %s (%.1f %% %s), decode %s instead of %s tok/s, "
                       "first token %s instead of %s\n", "", plan_seconds_text(other->predicted_total_s, totals[0]),
                       plan_seconds_text(now->predicted_total_s, totals[1]),
                       100 * (share < 0 ? -share : share), share < 0 ? "less" : "more",
                       plan_rate_text(other->predicted_decode_tokens_per_s, rates[0]),
                       plan_rate_text(now->predicted_decode_tokens_per_s, rates[1]),
                       plan_seconds_text(other->predicted_first_token_s, firsts[0]),
                       plan_seconds_text(now->predicted_first_token_s, firsts[1]));
    text_release(&held);
}

static void print_table(const struct why *why, struct text *text) {
    const struct plan *plan = why->context.plan;
    const struct plan_device *device = &plan->devices[why->index];
    char need[24], have[24], short_by[24];
    struct text held;
    text_init(&held);
    plan_report_units(plan, (int32_t)why->index, &held);
    text_append_format(text, "%s in plan %lld '%s': %s\n", why->device, (long long)plan->id, plan->name,
                       why->holds ? held.bytes : "nothing");
    text_release(&held);
    if (plan_streams(plan, (int32_t)why->index)) {
        text_init(&held);
        plan_report_streamed(plan, (int32_t)why->index, &held);
        text_append_format(text, "%-12s%s\n%-12s%s\n", "streams", held.bytes, "", plan->binding);
        text_release(&held);
    }
    if (!why->holds && device->empty_reason[0])
        text_append_format(text, "%-12s%s\n", "why", device->empty_reason);
    size_print(why->need_bytes, need);
    size_print(why->have_bytes, have);
    text_append_format(text, "%-12s%s for one %sblock with its KV%s\n", "need", need, why->holds ? "more " : "",
                       why->holds ? "" : " and scratch");
    text_append_format(text, "%-12s%s%s\n", "have", have, why->holds ? " free" : "");
    if (why->need_bytes > why->have_bytes) {
        size_print(why->need_bytes - why->have_bytes, short_by);
        text_append_format(text, "%-12s%s\n", "short by", short_by);
    } else {
        text_append_format(text, "%-12snothing: memory is not what decides\n", "short by");
    }
    print_other(why, text);
}

static bool print_json(const struct why *why, struct text *text, struct error *err) {
    const struct plan *plan = why->context.plan, *other = why->other.plan;
    json_t *root = json_pack("{s:I, s:s, s:b, s:I, s:I, s:I, s:f, s:s?}", "plan", (json_int_t)plan->id, "device",
                             why->device, "holds_units", (int)why->holds, "need_bytes", (json_int_t)why->need_bytes,
                             "have_bytes", (json_int_t)why->have_bytes, "short_by_bytes",
                             (json_int_t)(why->need_bytes > why->have_bytes ? why->need_bytes - why->have_bytes : 0),
                             "total_s", plan->predicted_total_s, "reason",
                             plan->devices[why->index].empty_reason[0] ? plan->devices[why->index].empty_reason : NULL);
    json_t *entry = other ? json_pack("{s:f, s:f, s:f, s:f}", "total_s", other->predicted_total_s, "change", change(why),
                                      "decode_tokens_per_s", other->predicted_decode_tokens_per_s, "first_token_s",
                                      other->predicted_first_token_s)
                          : json_pack("{s:s}", "refused", why->refused.text);
    json_object_set_new(root, why->holds ? "without_it" : "if_used", entry);
    char *bytes = root && entry ? json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(7)) : NULL;
    if (bytes)
        text_append_format(text, "%s\n", bytes);
    free(bytes);
    json_decref(root);
    return bytes || error_set(err, ERROR_FAILED, "cannot write JSON: out of memory");
}

bool plan_command_why(const struct command *command, struct error *err) {
    const struct plan_options *options = command->options;
    struct why why = { .device = options->second ? options->second : options->subject };
    struct text text;
    text_init(&text);
    bool ok = plan_context_open(&why.context, command, options->second ? options->subject : NULL, err) &&
              find_device(&why, err) && plan_context_predict(&why.context, NULL, err);
    if (ok) {
        measure_need(&why);
        make_other(&why);
        if (options->json)
            ok = print_json(&why, &text, err);
        else
            print_table(&why, &text);
        ok = ok && command_print(&text, err);
    }
    made_plan_release(&why.other);
    plan_context_release(&why.context);
    text_release(&text);
    return ok;
}
