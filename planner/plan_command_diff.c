/* phiplan diff A B: what two stored plans do differently. */
#include "planner/plan_context.h"
#include "planner/plan_report.h"
#include "planner/size_text.h"

#include "common/json.h"
#include "common/plan_request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One thing that differs. */
struct difference { char what[48]; char values[2][256]; };

struct differences { struct difference *list; uint32_t count, capacity; bool failed; };

static void add(struct differences *all, const char *what, const char *a, const char *b) {
    if (strcmp(a, b) == 0)
        return;
    if (all->count == all->capacity) {
        uint32_t capacity = all->capacity ? 2 * all->capacity : 32;
        struct difference *grown = realloc(all->list, capacity * sizeof *grown);
        all->failed = all->failed || !grown;
        if (!grown)
            return;
        all->list = grown;
        all->capacity = capacity;
    }
    struct difference *entry = &all->list[all->count++];
    snprintf(entry->what, sizeof entry->what, "%s", what);
    snprintf(entry->values[0], sizeof entry->values[0], "%s", a);
    snprintf(entry->values[1], sizeof entry->values[1], "%s", b);
}

static void add_rate(struct differences *all, const char *what, double a, double b) {
    char one[24], other[24];
    add(all, what, plan_rate_text(a, one), plan_rate_text(b, other));
}

static void add_seconds(struct differences *all, const char *what, double a, double b) {
    char one[24], other[24];
    add(all, what, plan_seconds_text(a, one), plan_seconds_text(b, other));
}

static void add_size(struct differences *all, const char *what, uint64_t a, uint64_t b) {
    char one[24], other[24];
    size_print(a, one);
    size_print(b, other);
    add(all, what, one, other);
}

static void compare_requests(struct differences *all, const struct plan_request *a, const struct plan_request *b) {
    struct request_field one[PLAN_REQUEST_FIELDS], other[PLAN_REQUEST_FIELDS];
    plan_request_fields(a, one);
    plan_request_fields(b, other);
    for (uint32_t i = 0; i < PLAN_REQUEST_FIELDS; i++) {
        char option[24];
        snprintf(option, sizeof option, "--%s", one[i].option);
        add(all, option, one[i].value, other[i].value);
    }
}

/* The plan's device of that name; PLAN_HOST - 1 where it has none. */
static int32_t device_named(const struct plan *plan, const char *name) {
    if (strcmp(name, "host") == 0)
        return PLAN_HOST;
    for (uint32_t d = 0; d < plan->device_count; d++)
        if (strcmp(plan->devices[d].device.short_name, name) == 0)
            return (int32_t)d;
    return PLAN_HOST - 1;
}

static void compare_device(struct differences *all, const struct plan *const plans[2], const char *name) {
    struct text held[2];
    char what[48];
    uint64_t sizes[2][3] = { { 0 } };
    for (int p = 0; p < 2; p++) {
        int32_t device = device_named(plans[p], name);
        text_init(&held[p]);
        if (device >= PLAN_HOST)
            plan_report_units(plans[p], device, &held[p]);
        if (!held[p].length)
            text_append(&held[p], device >= PLAN_HOST ? "nothing" : "not in the plan");
        if (device >= 0) {
            const struct plan_device *entry = &plans[p]->devices[device];
            sizes[p][0] = entry->budget_bytes;
            sizes[p][1] = entry->weight_bytes;
            sizes[p][2] = entry->kv_bytes;
        }
    }
    snprintf(what, sizeof what, "%s holds", name);
    add(all, what, held[0].bytes, held[1].bytes);
    static const char *const kinds[] = { "budget", "weights", "kv" };
    for (int k = 0; k < 3; k++) {
        snprintf(what, sizeof what, "%s %s", name, kinds[k]);
        add_size(all, what, sizes[0][k], sizes[1][k]);
    }
    text_release(&held[0]);
    text_release(&held[1]);
}

/* Names of both plans' devices, each once, those of the first plan first. */
static void compare_devices(struct differences *all, const struct plan *const plans[2]) {
    compare_device(all, plans, "host");
    for (uint32_t d = 0; d < plans[0]->device_count; d++)
        compare_device(all, plans, plans[0]->devices[d].device.short_name);
    for (uint32_t d = 0; d < plans[1]->device_count; d++)
        if (device_named(plans[0], plans[1]->devices[d].device.short_name) < PLAN_HOST)
            compare_device(all, plans, plans[1]->devices[d].device.short_name);
}

static const char *place_of(const struct plan *plan, const struct shard *shard) {
    return shard->device < 0 ? "host" : plan->devices[shard->device].device.short_name;
}

/* Whether a unit, or any of its parts, lies elsewhere in the other plan. */
static bool is_moved(const struct plan *const plans[2], uint32_t unit) {
    const struct shard *at[2], *ends[2];
    for (int p = 0; p < 2; p++) {
        at[p] = plans[p]->shards;
        ends[p] = at[p] + plans[p]->shard_count;
        while (at[p] < ends[p] && at[p]->unit < unit)
            at[p]++;
    }
    for (;; at[0]++, at[1]++) {
        bool more[2] = { at[0] < ends[0] && at[0]->unit == unit, at[1] < ends[1] && at[1]->unit == unit };
        if (!more[0] || !more[1])
            return more[0] != more[1];
        if (at[0]->part_end != at[1]->part_end || strcmp(place_of(plans[0], at[0]), place_of(plans[1], at[1])) != 0)
            return true;
    }
}

/* Units that lie elsewhere, and their weights. */
static uint32_t count_moved(const struct plan *const plans[2], uint64_t *bytes) {
    uint32_t moved = 0;
    *bytes = 0;
    if (plans[0]->unit_count != plans[1]->unit_count)
        return 0;
    for (uint32_t u = 0; u < plans[0]->unit_count; u++) {
        if (!is_moved(plans, u))
            continue;
        moved++;
        for (uint32_t i = 0; i < plans[1]->shard_count; i++)
            if (plans[1]->shards[i].unit == u)
                *bytes += plans[1]->shards[i].weight_bytes;
    }
    return moved;
}

static void compare_predictions(struct differences *all, const struct plan *a, const struct plan *b) {
    add_rate(all, "prefill tok/s", a->predicted_prefill_tokens_per_s, b->predicted_prefill_tokens_per_s);
    add_rate(all, "decode tok/s", a->predicted_decode_tokens_per_s, b->predicted_decode_tokens_per_s);
    add_rate(all, "decode tok/s at the end", a->predicted_decode_tokens_per_s_end,
             b->predicted_decode_tokens_per_s_end);
    add_seconds(all, "first token", a->predicted_first_token_s, b->predicted_first_token_s);
    add_seconds(all, "workload", a->predicted_total_s, b->predicted_total_s);
}

static bool print_json(const struct differences *all, const struct plan *const plans[2], uint32_t moved,
                       uint64_t moved_bytes, struct text *text, struct error *err) {
    json_t *list = json_array();
    for (uint32_t i = 0; i < all->count; i++)
        json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "what", all->list[i].what, "a",
                                              all->list[i].values[0], "b", all->list[i].values[1]));
    json_t *root = json_pack("{s:I, s:I, s:i, s:I, s:o}", "a", (json_int_t)plans[0]->id, "b",
                             (json_int_t)plans[1]->id, "units_moved", (int)moved, "moved_bytes",
                             (json_int_t)moved_bytes, "differences", list);
    char *bytes = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
    if (bytes)
        text_append_format(text, "%s\n", bytes);
    free(bytes);
    json_decref(root);
    return bytes || error_set(err, ERROR_FAILED, "cannot write JSON: out of memory");
}

static void print_table(const struct differences *all, const struct plan *const plans[2], uint32_t moved,
                        uint64_t moved_bytes, struct text *text) {
    int width[2] = { 12, 12 };
    char size[24];
    for (int p = 0; p < 2; p++)
        for (uint32_t i = 0; i < all->count; i++)
            if ((int)strlen(all->list[i].values[p]) > width[p])
                width[p] = (int)strlen(all->list[i].values[p]);
    if (!all->count) {
        text_append_format(text, "plans %lld and %lld are the same but for their time\n", (long long)plans[0]->id,
                           (long long)plans[1]->id);
        return;
    }
    text_append_format(text, "%-24s  plan %-*lld  plan %lld\n", "", width[0] - 5, (long long)plans[0]->id,
                       (long long)plans[1]->id);
    for (uint32_t i = 0; i < all->count; i++)
        text_append_format(text, "%-24s  %-*s  %s\n", all->list[i].what, width[0],
                           all->list[i].values[0][0] ? all->list[i].values[0] : "-",
                           all->list[i].values[1][0] ? all->list[i].values[1] : "-");
    size_print(moved_bytes, size);
    if (moved)
        text_append_format(text, "%-24s  %u units, %s of weights\n", "elsewhere", moved, size);
}

bool plan_command_diff(const struct command *command, struct error *err) {
    struct plan_store *store = command_open_store(command, STORE_EXISTING, err);
    struct plan *a = store ? command_find_plan_named(command, store, command->options->subject, err) : NULL;
    struct plan *b = a ? command_find_plan_named(command, store, command->options->second, err) : NULL;
    const struct plan *const plans[2] = { a, b };
    struct differences all = { 0 };
    struct text text;
    text_init(&text);
    bool ok = b != NULL;
    if (ok) {
        uint64_t moved_bytes;
        add(&all, "name", a->name, b->name);
        add(&all, "model", a->model_name, b->model_name);
        if (strcmp(a->model_name, b->model_name) == 0)
            add(&all, "weights hash", a->weights_hash, b->weights_hash);
        compare_requests(&all, &a->request, &b->request);
        compare_devices(&all, plans);
        compare_predictions(&all, a, b);
        add(&all, "limit", a->binding, b->binding);
        uint32_t moved = count_moved(plans, &moved_bytes);
        ok = !all.failed || error_set(err, ERROR_FAILED, "cannot compare the plans: out of memory");
        if (ok && command->options->json)
            ok = print_json(&all, plans, moved, moved_bytes, &text, err);
        else if (ok)
            print_table(&all, plans, moved, moved_bytes, &text);
        ok = ok && command_print(&text, err);
    }
    free(all.list);
    plan_free(a);
    plan_free(b);
    plan_store_close(store);
    text_release(&text);
    return ok;
}
