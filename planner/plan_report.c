#include "planner/plan_report.h"

#include "planner/size_text.h"

#include <stdio.h>
#include <string.h>

/* ---- tables ---- */

#define COLUMNS 8
#define ROWS_MAX (PLAN_MAX_DEVICES + 3)

struct row {
    char cells[COLUMNS][112];
    char rest[272];             /* free text after the second cell instead of more cells */
};

struct table {
    struct row rows[ROWS_MAX];
    uint32_t count;
    uint32_t left_columns;      /* this many are aligned left, the others right */
};

static void table_print(const struct table *table, struct text *text) {
    size_t width[COLUMNS] = { 0 };
    for (uint32_t r = 0; r < table->count; r++)
        for (uint32_t c = 0; c < COLUMNS; c++)
            if (strlen(table->rows[r].cells[c]) > width[c])
                width[c] = strlen(table->rows[r].cells[c]);
    for (uint32_t r = 0; r < table->count; r++) {
        const struct row *row = &table->rows[r];
        struct text line;
        text_init(&line);
        for (uint32_t c = 0; c < COLUMNS && width[c]; c++) {
            int pad = (int)width[c];
            text_append_format(&line, c < table->left_columns ? "%s%-*s" : "%s%*s", c ? "  " : "", pad,
                               row->cells[c]);
            if (row->rest[0] && c == 0) {
                text_append_format(&line, "  %s", row->rest);
                break;
            }
        }
        while (line.length && line.bytes[line.length - 1] == ' ')
            line.length--;
        text_append_bytes(text, line.bytes, line.length);
        text_append_char(text, '\n');
        text_release(&line);
    }
}

static void set_size(char cell[112], uint64_t bytes) {
    char size[24];
    size_print(bytes, size);
    snprintf(cell, 112, "%s", size);
}

const char *plan_rate_text(double rate, char text[24]) {
    snprintf(text, 24, rate >= 100 ? "%.0f" : rate >= 10 ? "%.1f" : "%.2f", rate);
    return text;
}

const char *plan_seconds_text(double seconds, char text[24]) {
    snprintf(text, 24, seconds >= 100 ? "%.0f s" : seconds >= 10 ? "%.1f s" : seconds >= 1 ? "%.2f s" : "%.3f s",
             seconds);
    return text;
}

/* ---- what a device holds ---- */

enum which { ALL_UNITS, RESIDENT_UNITS, STREAMED_UNITS };

/* The share of a unit's parts that a device has: 1 for all, 0 for none. */
static double share_of(const struct plan *plan, int32_t device, uint32_t unit, enum which which) {
    uint32_t parts = 0, held = 0;
    for (uint32_t i = 0; i < plan->shard_count; i++) {
        const struct shard *shard = &plan->shards[i];
        if (shard->unit != unit)
            continue;
        bool is_wanted = which == ALL_UNITS || (which == STREAMED_UNITS) == (shard->residency == STREAMED);
        parts += shard->part_end - shard->part_begin;
        held += shard->device == device && is_wanted ? shard->part_end - shard->part_begin : 0;
    }
    return parts ? (double)held / parts : 0;
}

static bool holds(const struct plan *plan, int32_t device, uint32_t unit, enum which which) {
    return share_of(plan, device, unit, which) > 0;
}

/* Blocks in a row of which a device has the same halves, or slices of any. */
struct run {
    bool has[2], is_sliced;        /* attn, ffn */
    uint32_t first;
    double shares;                 /* sum over the slices */
    uint32_t slices;
};

static void add_share(struct text *text, double share) {
    if (share < 1)
        text_append_format(text, " (%.0f %%)", share < 0.01 ? 1 : 100 * share);
}

static void add_run(struct text *text, const struct run *run, uint32_t last) {
    const char *name = run->has[0] && run->has[1] ? "block" : run->has[0] ? "attn" : "ffn";
    if (text->length)
        text_append(text, ", ");
    bool plural = run->first != last;
    text_append_format(text, "%s%s %u", name, plural && strcmp(name, "block") == 0 ? "s" : "", run->first);
    if (plural)
        text_append_format(text, "-%u", last);
    if (run->slices)
        add_share(text, run->shares / run->slices);
}

static void list_units(const struct plan *plan, int32_t device, enum which which, struct text *text) {
    const uint32_t blocks = (plan->unit_count - 2) / 2;
    if (holds(plan, device, 0, which))
        text_append(text, "embed");
    struct run running = { .first = 0 };
    for (uint32_t block = 0; block <= blocks; block++) {
        struct run next = { .first = block };
        for (uint32_t half = 0; half < 2 && block < blocks; half++) {
            double share = share_of(plan, device, 1 + 2 * block + half, which);
            next.has[half] = share > 0;
            if (share > 0 && share < 1) {
                next.is_sliced = true;
                next.shares += share;
                next.slices++;
            }
        }
        bool is_same = next.has[0] == running.has[0] && next.has[1] == running.has[1] && !next.is_sliced &&
                       !running.is_sliced;
        if (is_same || (next.is_sliced && running.is_sliced)) {
            running.has[0] |= next.has[0];
            running.has[1] |= next.has[1];
            running.shares += next.shares;
            running.slices += next.slices;
            continue;
        }
        if (running.has[0] || running.has[1])
            add_run(text, &running, block - 1);
        running = next;
    }
    if (holds(plan, device, plan->unit_count - 1, which)) {
        text_append(text, text->length ? ", head" : "head");
        add_share(text, share_of(plan, device, plan->unit_count - 1, which));
    }
}

void plan_report_units(const struct plan *plan, int32_t device, struct text *text) {
    list_units(plan, device, ALL_UNITS, text);
}

void plan_report_streamed(const struct plan *plan, int32_t device, struct text *text) {
    list_units(plan, device, STREAMED_UNITS, text);
}

/* "blocks 0-9, head; streams blocks 10-29" */
static void list_holdings(const struct plan *plan, int32_t device, struct text *text) {
    if (!plan_streams(plan, device)) {
        plan_report_units(plan, device, text);
        return;
    }
    struct text streamed;
    text_init(&streamed);
    list_units(plan, device, RESIDENT_UNITS, text);
    plan_report_streamed(plan, device, &streamed);
    text_append_format(text, "%sstreams %s", text->length ? "; " : "", streamed.bytes);
    text_release(&streamed);
}

static uint64_t host_bytes(const struct plan *plan) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < plan->shard_count; i++)
        if (plan->shards[i].device == PLAN_HOST)
            bytes += plan->shards[i].weight_bytes;
    return bytes;
}

static uint64_t buffer_bytes(const struct plan_device *device) {
    return device->weight_bytes + device->kv_bytes + device->scratch_bytes + device->staging_bytes +
           device->slack_bytes;
}

static void fill_row(const struct plan *plan, int32_t index, double token_seconds, struct row *row) {
    struct text units;
    text_init(&units);
    list_holdings(plan, index, &units);
    if (index == PLAN_HOST) {
        snprintf(row->cells[0], sizeof row->cells[0], "host");
        snprintf(row->cells[1], sizeof row->cells[1], "%s", units.bytes);
        set_size(row->cells[2], host_bytes(plan));
        if (!host_bytes(plan))   /* the rows are the head's, which counts them */
            snprintf(row->cells[2], sizeof row->cells[2], "tied");
        text_release(&units);
        return;
    }
    const struct plan_device *device = &plan->devices[index];
    snprintf(row->cells[0], sizeof row->cells[0], "%s", device->device.short_name);
    if (!units.length) {
        snprintf(row->rest, sizeof row->rest, "nothing: %s",
                 device->empty_reason[0] ? device->empty_reason : "no unit is placed here");
    } else {
        uint64_t used = buffer_bytes(device);
        snprintf(row->cells[1], sizeof row->cells[1], "%.100s%s", units.bytes, units.length > 100 ? "..." : "");
        set_size(row->cells[2], device->weight_bytes);
        set_size(row->cells[3], device->kv_bytes);
        set_size(row->cells[4], device->scratch_bytes + device->staging_bytes + device->slack_bytes);
        set_size(row->cells[5], device->budget_bytes > used ? device->budget_bytes - used : 0);
        if (token_seconds > 0)
            snprintf(row->cells[6], sizeof row->cells[6], "%.0f %%", 100 * device->decode_seconds / token_seconds);
    }
    text_release(&units);
}

/* What the weights were converted to, and what that saves. */
static void report_weights(const struct plan *plan, const struct plan_extra *extra, struct text *text) {
    char size[24], rate[24], first[24], total[24];
    for (uint32_t i = 0; i < extra->weights_count; i++) {
        const struct weights_figures *figures = &extra->weights[i];
        size_print(figures->weight_bytes, size);
        text_append_format(text, "%s  %c %-24s %10s: ", i ? "       " : "weights", figures->is_chosen ? '*' : ' ',
                           figures->name, size);
        if (figures->fits)
            text_append_format(text, "decode %s tok/s, first token %s, workload %s\n",
                               plan_rate_text(figures->decode_tokens_per_s, rate),
                               plan_seconds_text(figures->first_token_s, first), plan_seconds_text(figures->total_s, total));
        else
            text_append(text, "does not fit\n");
    }
    if (!extra->weights_count && extra->stored_bytes) {
        size_print(extra->stored_bytes, size);
        text_append_format(text, "weights    --weights %s makes %s", plan->request.weights, size);
        size_print(plan->model_weight_bytes, size);
        text_append_format(text, " of files %s\n", size);
    }
    if (extra->stored_bytes)
        text_append(text, "           what that costs in quality: phirun compare, with a plan of --weights keep\n");
}

void plan_report_table(const struct plan *plan, const struct plan_extra *extra, struct text *text) {
    char size[24], rate[24], end[24], first[24], total[24];
    const struct plan_request *request = &plan->request;
    size_print(plan->model_weight_bytes, size);
    text_append_format(text, "%s  %s%s%s, %u blocks, %s\n", plan->model_name, plan->architecture,
                       extra->weight_type ? " " : "", extra->weight_type ? extra->weight_type : "",
                       (plan->unit_count - 2) / 2, size);
    text_append_format(text, "context %u, kv %s, micro-batch %u, workload %u + %u tokens, policy %s\n\n",
                       request->context, kv_type_name(request->kv_type), request->micro_batch,
                       request->prompt_tokens, request->new_tokens, request->policy);

    static const char *const heads[COLUMNS] = { "device", "holds", "weights", "kv", "scratch", "free", "of a token" };
    struct table table = { .count = 1, .left_columns = 2 };
    for (uint32_t c = 0; c < COLUMNS; c++)
        snprintf(table.rows[0].cells[c], sizeof table.rows[0].cells[c], "%s", heads[c] ? heads[c] : "");
    double token_seconds = 0;
    for (uint32_t i = 0; i < plan->device_count; i++)
        token_seconds += plan->devices[i].decode_seconds;
    if (holds(plan, PLAN_HOST, 0, ALL_UNITS))
        fill_row(plan, PLAN_HOST, token_seconds, &table.rows[table.count++]);
    for (uint32_t i = 0; i < plan->device_count; i++)
        fill_row(plan, (int32_t)i, token_seconds, &table.rows[table.count++]);
    table_print(&table, text);

    text_append_format(text, "\npredicted  prefill %s tok/s", plan_rate_text(plan->predicted_prefill_tokens_per_s, rate));
    text_append_format(text, ", decode %s tok/s (%s where the context ends)",
                       plan_rate_text(plan->predicted_decode_tokens_per_s, rate),
                       plan_rate_text(plan->predicted_decode_tokens_per_s_end, end));
    text_append_format(text, ", first token %s, workload %s\n", plan_seconds_text(plan->predicted_first_token_s, first),
                       plan_seconds_text(plan->predicted_total_s, total));
    if (extra->rates_note)
        text_append_format(text, "           %s\n", extra->rates_note);
    for (uint32_t i = 0; i < extra->alternative_count; i++) {
        const struct plan_alternative *other = &extra->alternatives[i];
        text_append_format(text, "%s  %s: decode %s tok/s, ", i ? "         " : "otherwise", other->devices,
                           plan_rate_text(other->decode_tokens_per_s, rate));
        text_append_format(text, "first token %s, workload %s\n", plan_seconds_text(other->first_token_s, first),
                           plan_seconds_text(other->total_s, total));
    }
    report_weights(plan, extra, text);
    if (plan->binding[0])
        text_append_format(text, "limit      %s\n", plan->binding);
    if (plan->id)
        text_append_format(text, "plan       %lld '%s', saved %s\n", (long long)plan->id, plan->name, plan->created);
    if (extra->superseded_by)
        text_append_format(text, "           superseded by plan %lld, which phirun uses instead\n",
                           (long long)extra->superseded_by);
    else if (extra->is_superseded)
        text_append(text, "           superseded by a plan that was removed since\n");
    if (!plan->id && extra->is_simulated)
        text_append(text, "plan       none: one for simulated devices is not saved\n");
    else if (!plan->id && extra->is_dry_run)
        text_append(text, "plan       none: a dry run saves nothing\n");
}

void device_report_table(const struct device_list *list, struct text *text) {
    for (uint32_t i = 0; i < list->count; i++) {
        const struct device *device = &list->devices[i];
        char memory[24], buffer[24];
        size_print(device->memory_bytes, memory);
        size_print(device->max_buffer_bytes, buffer);
        if (!device->short_name[0]) {
            text_append_format(text, "-       %s: %s\n", device->platform, device->reason);
            continue;
        }
        text_append_format(text, "%-6s  %s\n", device->short_name, device->name);
        text_append_format(text, "        %s, driver %s\n", device->platform, device->driver);
        text_append_format(text, "        %s%s, buffers up to %s, %u compute units\n", memory,
                           device->is_cpu_pool ? " of host RAM" : "", buffer, device->compute_units);
        if (!device->usable)
            text_append_format(text, "        unusable: %s\n", device->reason);
        else if (device->alias_of[0])
            text_append_format(text, "        the same silicon as %s, which is faster; used where it is named\n",
                               device->alias_of);
    }
}

void plan_list_table(struct plan *const *plans, uint32_t count, struct text *text) {
    for (uint32_t i = 0; i < count; i++) {
        const struct plan *plan = plans[i];
        char size[24], rate[24];
        bool some = false;
        size_print(plan->model_weight_bytes, size);
        if (i == 0)
            text_append_format(text, "%4s  %-12s  %-28s %9s %7s  %-8s %7s  %-20s  %s\n", "id", "name", "model",
                               "weights", "context", "policy", "tok/s", "created", "devices");
        text_append_format(text, "%4lld  %-12s  %-28s %9s %7u  %-8s %7s  %-20s  ", (long long)plan->id, plan->name,
                           plan->model_name, size, plan->request.context, plan->request.policy,
                           plan_rate_text(plan->predicted_decode_tokens_per_s, rate), plan->created);
        for (uint32_t d = 0; d < plan->device_count; d++) {
            if (plan->devices[d].weight_bytes || plan->devices[d].kv_bytes) {
                text_append_format(text, "%s%s", some ? " + " : "", plan->devices[d].device.short_name);
                some = true;
            }
        }
        text_append_char(text, '\n');
    }
}
