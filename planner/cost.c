#include "planner/cost.h"

#include "planner/probe.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Typical figures: bytes/s of decode, op/s of prefill. They only order devices until
 * the probe has run, so one line a type is enough. */
static const struct {
    double decode, prefill, launch, transfer, transfer_bytes;
} typical[] = {
    [DEVICE_GPU] = { 200e9, 5e12, 6e-6, 30e-6, 6e9 },
    [DEVICE_IGPU] = { 30e9, 500e9, 8e-6, 30e-6, 10e9 },
    [DEVICE_CPU] = { 8e9, 50e9, 4e-6, 5e-6, 8e9 },
    [DEVICE_ACCELERATOR] = { 20e9, 500e9, 10e-6, 50e-6, 3e9 },
};

/* Launches of a unit in one pass, quantising its inputs included. */
static const double launches[] = { [UNIT_EMBED] = 1, [UNIT_ATTN] = 6, [UNIT_FFN] = 5, [UNIT_HEAD] = 2 };

void device_rates_assume(struct device_rates *rates, const struct device *device) {
    unsigned type = (unsigned)device->type <= DEVICE_ACCELERATOR ? device->type : DEVICE_ACCELERATOR;
    *rates = (struct device_rates){
        .kv_bytes_per_s = typical[type].decode / 2, .attention_ops_per_s = typical[type].prefill / 4,
        .launch_s = typical[type].launch, .transfer_s = typical[type].transfer,
        .transfer_bytes_per_s = typical[type].transfer_bytes,
        .has_host_memory = device->unified_memory, .fit = { 1, 1, 1, 0 } };
    for (unsigned t = 0; t < TENSOR_TYPE_COUNT; t++) {
        rates->decode_bytes_per_s[t] = typical[type].decode;
        rates->prefill_ops_per_s[t] = typical[type].prefill;
    }
}

/* The value of (what, format) whose working set is nearest in ratio; 0: none. NULL: any format. */
static double measured_value(const struct probe_value *values, uint32_t count, const char *what,
                             const char *format, uint64_t working_set_bytes) {
    double best = 0, best_distance = INFINITY;
    for (uint32_t i = 0; i < count; i++) {
        const struct probe_value *value = &values[i];
        if (strcmp(value->what, what) != 0 || (format && strcmp(value->format, format) != 0) ||
            !(value->value > 0) || !isfinite(value->value))
            continue;
        double distance = 0;
        if (value->working_set_bytes && working_set_bytes)
            distance = fabs(log((double)value->working_set_bytes / (double)working_set_bytes));
        if (distance < best_distance) {
            best = value->value;
            best_distance = distance;
        }
    }
    return best;
}

static void replace(double *rate, double value) {
    if (value > 0)
        *rate = value;
}

static double value_bytes(enum tensor_type type) {
    const struct tensor_type_info *info = tensor_type_info(type);
    return (double)info->block_bytes / info->block_values;
}

/* The format nearest in bytes of those that were measured; TENSOR_TYPE_COUNT: none was. */
static enum tensor_type nearest_format(const double measured[TENSOR_TYPE_COUNT], enum tensor_type type) {
    double best_distance = INFINITY;
    enum tensor_type best = TENSOR_TYPE_COUNT;
    for (unsigned t = 0; t < TENSOR_TYPE_COUNT; t++) {
        double distance = fabs(log(value_bytes((enum tensor_type)t) / value_bytes(type)));
        if (measured[t] > 0 && distance < best_distance) {
            best = (enum tensor_type)t;
            best_distance = distance;
        }
    }
    return best;
}

/* `packed`: the same rates in LAYOUT_R16, already there. A format that was not measured has the rate of the
 * nearest, in the layout that it could have; floats in rows take as little unpacking as quants in that one.
 * `counts_bytes`: smaller values come no faster than larger ones. */
static bool apply_formats(double rates[TENSOR_TYPE_COUNT], const double packed[TENSOR_TYPE_COUNT], bool counts_bytes,
                          const struct probe_value *values, uint32_t count, const char *what,
                          uint64_t working_set_bytes, bool known[TENSOR_TYPE_COUNT]) {
    double found[TENSOR_TYPE_COUNT];
    for (unsigned t = 0; t < TENSOR_TYPE_COUNT; t++)
        found[t] = measured_value(values, count, what, tensor_type_info((enum tensor_type)t)->name,
                                  working_set_bytes);
    if (nearest_format(found, TENSOR_F32) == TENSOR_TYPE_COUNT)
        return false;
    for (unsigned t = 0; t < TENSOR_TYPE_COUNT; t++) {
        const enum tensor_type type = (enum tensor_type)t, nearest = nearest_format(found, type);
        const bool may_be_packed = r16_packs(type) || !tensor_type_info(type)->is_quantised;
        known[t] = found[t] > 0;
        rates[t] = found[nearest];
        if (known[t])
            continue;
        if (may_be_packed)
            rates[t] = fmax(rates[t], packed[nearest]);
        if (counts_bytes)
            rates[t] *= fmin(1, value_bytes(type) / value_bytes(nearest));
    }
    return true;
}

static void apply_packed(double rates[TENSOR_TYPE_COUNT], const struct probe_value *values, uint32_t count,
                         const char *what, uint64_t working_set_bytes) {
    for (unsigned t = 0; t < TENSOR_TYPE_COUNT; t++) {
        char format[16];
        if (!r16_packs((enum tensor_type)t))
            continue;
        probe_format((enum tensor_type)t, LAYOUT_R16, format);
        replace(&rates[t], measured_value(values, count, what, format, working_set_bytes));
    }
}

static void apply_gemm(double rates[TENSOR_TYPE_COUNT], const struct probe_value *values, uint32_t count) {
    for (unsigned t = 0; t < TENSOR_TYPE_COUNT; t++) {
        char format[16];
        snprintf(format, sizeof format, "%.6s/clblast", tensor_type_info((enum tensor_type)t)->name);
        replace(&rates[t], measured_value(values, count, "prefill", format, 0));
    }
}

/* A tenth faster at least: it gives up the promise of equal bits. */
bool device_rates_prefer_gemm(const struct device_rates *rates, enum tensor_type type) {
    return rates->gemm_prefill_ops_per_s[type] > 1.1 * rates->prefill_ops_per_s[type];
}

void device_rates_apply(struct device_rates *rates, const struct probe_value *values, uint32_t count,
                        uint64_t working_set_bytes) {
    bool prefilled[TENSOR_TYPE_COUNT];
    apply_packed(rates->packed_decode_bytes_per_s, values, count, "decode", working_set_bytes);
    apply_packed(rates->packed_prefill_ops_per_s, values, count, "prefill", working_set_bytes);
    if (apply_formats(rates->decode_bytes_per_s, rates->packed_decode_bytes_per_s, true, values, count, "decode",
                      working_set_bytes, rates->knows_format)) {
        rates->measured = true;
        rates->kv_bytes_per_s = rates->decode_bytes_per_s[TENSOR_F16];
    } else {
        /* No kernel of ours reads faster than the plainest one. */
        double stream = measured_value(values, count, "stream", NULL, 0);
        for (unsigned t = 0; stream > 0 && t < TENSOR_TYPE_COUNT; t++)
            if (stream < rates->decode_bytes_per_s[t])
                rates->decode_bytes_per_s[t] = stream;
        if (stream > 0 && stream < rates->kv_bytes_per_s)
            rates->kv_bytes_per_s = stream;
    }
    if (apply_formats(rates->prefill_ops_per_s, rates->packed_prefill_ops_per_s, false, values, count, "prefill",
                      working_set_bytes, prefilled))
        rates->attention_ops_per_s = rates->prefill_ops_per_s[TENSOR_F16];
    apply_gemm(rates->gemm_prefill_ops_per_s, values, count);
    replace(&rates->kv_bytes_per_s, measured_value(values, count, "kv", NULL, working_set_bytes));
    replace(&rates->attention_ops_per_s, measured_value(values, count, "attention", NULL, 0));
    replace(&rates->launch_s, measured_value(values, count, "launch", NULL, 0));
    replace(&rates->transfer_s, measured_value(values, count, "hop", NULL, 0));
    replace(&rates->transfer_bytes_per_s, measured_value(values, count, "copy", NULL, 0));
}

/* A calibration is of one model's format and size; a model four times as large is another. */
void device_rates_calibrate(struct device_rates *rates, const struct probe_value *values, uint32_t count,
                            const char *format, uint64_t working_set_bytes) {
    const struct { const char *what; double *factor; } fits[] = {
        { "fit.decode", &rates->fit.decode }, { "fit.keys", &rates->fit.keys },
        { "fit.prefill", &rates->fit.prefill }, { "fit.start", &rates->fit.start_s },
    };
    double best_distance = log(4);
    for (uint32_t i = 0; i < count; i++) {
        double ratio = (double)values[i].working_set_bytes / (double)working_set_bytes;
        bool is_fit = strcmp(values[i].what, "fit.decode") == 0 && strcmp(values[i].format, format) == 0;
        if (is_fit && ratio > 0 && fabs(log(ratio)) < best_distance)
            best_distance = fabs(log(ratio));
    }
    for (uint32_t i = 0; i < count; i++) {
        double ratio = (double)values[i].working_set_bytes / (double)working_set_bytes;
        if (strcmp(values[i].format, format) != 0 || !(ratio > 0) || fabs(log(ratio)) > best_distance)
            continue;
        for (size_t f = 0; f < sizeof fits / sizeof *fits; f++)
            if (strcmp(values[i].what, fits[f].what) == 0 && values[i].value > 0 && values[i].value < 1e3)
                *fits[f].factor = values[i].value;
    }
}

/* ---- what a unit reads and computes ---- */

static const enum buffer_role matrix_roles[] = {
    BUFFER_QKV, BUFFER_O, BUFFER_GATE_UP, BUFFER_DOWN, BUFFER_HEAD,
};
enum { MATRIX_ROLES = sizeof matrix_roles / sizeof *matrix_roles };

uint64_t cost_token_bytes(const struct model *model) {
    uint64_t bytes = 0;
    for (uint32_t u = 1; u < unit_count(model); u++) {
        for (unsigned r = 0; r < MATRIX_ROLES; r++) {
            const struct weight_ref *refs[3];
            uint32_t count = unit_matrix_refs(model, unit_at(model, u), matrix_roles[r], refs);
            for (uint32_t i = 0; i < count; i++)
                bytes += model_ref_bytes(model, refs[i]);
        }
    }
    return bytes;
}

enum tensor_type cost_token_type(const struct model *model) {
    uint64_t bytes[TENSOR_TYPE_COUNT] = { 0 };
    for (uint32_t u = 1; u < unit_count(model); u++) {
        for (unsigned r = 0; r < MATRIX_ROLES; r++) {
            const struct weight_ref *refs[3];
            uint32_t count = unit_matrix_refs(model, unit_at(model, u), matrix_roles[r], refs);
            for (uint32_t i = 0; i < count; i++)
                bytes[weight_ref_type(model, refs[i])] += model_ref_bytes(model, refs[i]);
        }
    }
    return tensor_type_of_most(bytes);
}

bool workload_crosses_switch(const struct model *model, uint32_t prompt_tokens, uint32_t new_tokens,
                             const char *rope) {
    uint64_t original = model->rope.original_context;
    return model->rope.scaling == ROPE_LONGROPE && original && strcmp(rope, "auto") == 0 &&
           prompt_tokens <= original && (uint64_t)prompt_tokens + new_tokens > original;
}

double cost_keys(const struct model *model, double position) {
    double keys = position + 1;
    return model->sliding_window && keys > model->sliding_window ? model->sliding_window : keys;
}

/* Sum of cost_keys() over positions [first, first + count). */
static double sum_of_keys(const struct model *model, double first, double count) {
    double growing = count, window = model->sliding_window;
    if (window > 0) {
        growing = window - first;   /* positions that still see fewer keys than the window */
        growing = growing < 0 ? 0 : growing > count ? count : growing;
    }
    return growing * (first + 1) + growing * (growing - 1) / 2 + (count - growing) * window;
}

double cost_workload_keys(const struct model *model, const struct workload *workload) {
    return sum_of_keys(model, workload->prompt_tokens, workload->new_tokens);
}

/* The share of a ref's rows that belongs to some parts. */
static double share_of(const struct model *model, struct unit unit, struct part_range parts, enum buffer_role role,
                       uint32_t index, const struct weight_ref *ref) {
    uint64_t begin, rows;
    unit_part_rows(model, unit, parts, role, index, &begin, &rows);
    return ref->row_count ? (double)rows / (double)ref->row_count : 0;
}

/* The rates that a matrix of this role and type meets. */
struct matrix_rates { double decode_bytes_per_s, prefill_ops_per_s; };

static struct matrix_rates rates_of(const struct device_rates *rates, enum weight_layout layout,
                                    enum buffer_role role, enum tensor_type type, uint64_t columns) {
    struct matrix_rates found = { rates->decode_bytes_per_s[type], rates->prefill_ops_per_s[type] };
    if (device_rates_prefer_gemm(rates, type))
        found.prefill_ops_per_s = rates->gemm_prefill_ops_per_s[type];
    if (matrix_layout(layout, role, type, columns) == LAYOUT_R16) {
        replace(&found.decode_bytes_per_s, rates->packed_decode_bytes_per_s[type]);
        replace(&found.prefill_ops_per_s, rates->packed_prefill_ops_per_s[type]);
    }
    return found;
}

/* Handing a pass to the threads of a unit's devices and waiting for the last one, twice a
 * unit: not probed, an ordinary wake-up. */
#define SLICE_WAKE_S 30e-6

/* What a slice of a unit exchanges with the others. */
static double exchange_seconds(const struct model *model, struct unit unit, const struct unit_slice *slice,
                               const struct device_rates *rates, double passes, double tokens) {
    const bool is_head = unit.kind == UNIT_HEAD;
    if (slice->is_whole)
        return 0;
    double starts = is_head ? 2 : 4, waits = is_head ? 1 : 2;
    double values = is_head ? (double)model->hidden_size * tokens + (double)slice->output_count * passes
                            : ((double)model->hidden_size + slice->output_count + slice->inner_total +
                               slice->inner_count) * tokens;
    return passes * (starts * rates->transfer_s + waits * SLICE_WAKE_S) + 4 * values / rates->transfer_bytes_per_s;
}

/* Running `tokens` tokens from position 0 in passes of a micro-batch. */
static double prefill_seconds(const struct model *model, struct unit unit, struct part_range parts,
                              enum weight_layout layout, const struct device_rates *rates,
                              const struct workload *workload, double tokens) {
    const double passes = ceil(tokens / workload->micro_batch);
    const struct unit_slice slice = unit_slice_of(model, unit, parts);
    double seconds = passes * launches[unit.kind] * rates->launch_s;
    for (unsigned r = 0; r < MATRIX_ROLES; r++) {
        const struct weight_ref *refs[3];
        uint32_t count = unit_matrix_refs(model, unit, matrix_roles[r], refs);
        for (uint32_t i = 0; i < count; i++) {
            enum tensor_type type = weight_ref_type(model, refs[i]);
            struct matrix_rates matrix = rates_of(rates, layout, matrix_roles[r], type, refs[i]->column_count);
            double share = share_of(model, unit, parts, matrix_roles[r], i, refs[i]);
            double values = share * (double)refs[i]->row_count * (double)refs[i]->column_count;
            double once = share * (double)model_ref_bytes(model, refs[i]) / matrix.decode_bytes_per_s;
            double computed = 2 * values * tokens / matrix.prefill_ops_per_s;
            /* Only the last token needs the head; nothing is faster than reading the weights once. */
            seconds += unit.kind == UNIT_HEAD || computed < once ? once : computed;
        }
    }
    if (unit.kind == UNIT_ATTN)
        seconds += 4.0 * slice.head_count * model->head_dim * sum_of_keys(model, 0, tokens) /
                   rates->attention_ops_per_s;
    return rates->fit.prefill * seconds + passes * rates->fit.start_s +
           exchange_seconds(model, unit, &slice, rates, passes, tokens);
}

struct unit_cost cost_unit_in(const struct model *model, struct unit unit, enum weight_layout layout,
                              const struct device_rates *rates, const struct workload *workload) {
    return cost_parts_in(model, unit, unit_all_parts(model, unit), layout, rates, workload);
}

struct unit_cost cost_parts_in(const struct model *model, struct unit unit, struct part_range parts,
                               enum weight_layout layout, const struct device_rates *rates,
                               const struct workload *workload) {
    const struct unit_slice slice = unit_slice_of(model, unit, parts);
    struct unit_cost cost = { .token_s = launches[unit.kind] * rates->launch_s };
    for (unsigned r = 0; r < MATRIX_ROLES; r++) {
        const struct weight_ref *refs[3];
        uint32_t count = unit_matrix_refs(model, unit, matrix_roles[r], refs);
        for (uint32_t i = 0; i < count; i++) {
            enum tensor_type type = weight_ref_type(model, refs[i]);
            cost.token_s += share_of(model, unit, parts, matrix_roles[r], i, refs[i]) *
                            (double)model_ref_bytes(model, refs[i]) /
                            rates_of(rates, layout, matrix_roles[r], type, refs[i]->column_count).decode_bytes_per_s;
        }
    }
    cost.token_s = rates->fit.decode * cost.token_s + exchange_seconds(model, unit, &slice, rates, 1, 1);
    if (unit.kind == UNIT_ATTN)
        cost.key_s = rates->fit.keys * 2.0 * slice.kv_head_count * (double)kv_vector_bytes(model, workload->kv_type) /
                     rates->kv_bytes_per_s;
    cost.prefill_s = prefill_seconds(model, unit, parts, layout, rates, workload, workload->prompt_tokens);
    if (workload->crosses_rope_switch)
        cost.rerun_s = prefill_seconds(model, unit, parts, layout, rates, workload,
                                       model->rope.original_context + 1.0);
    return cost;
}

struct unit_cost cost_streamed(const struct model *model, struct unit unit, const struct unit_cost *resident,
                               double bytes_per_s, const struct workload *workload) {
    struct unit_cost cost = *resident;
    double bytes = 0;
    for (unsigned r = 0; r < MATRIX_ROLES; r++) {
        const struct weight_ref *refs[3];
        uint32_t count = unit_matrix_refs(model, unit, matrix_roles[r], refs);
        for (uint32_t i = 0; i < count; i++)
            bytes += (double)model_ref_bytes(model, refs[i]);
    }
    /* The head is computed for the last pass of a prompt alone. */
    const double seconds = bytes / bytes_per_s, one = unit.kind == UNIT_HEAD;
    const double passes = one ? one : ceil((double)workload->prompt_tokens / workload->micro_batch);
    cost.token_s = fmax(cost.token_s, seconds);
    cost.prefill_s = fmax(cost.prefill_s, passes * seconds);
    if (workload->crosses_rope_switch)
        cost.rerun_s = fmax(cost.rerun_s, seconds * (one ? one : ceil((model->rope.original_context + 1.0) /
                                                                      workload->micro_batch)));
    return cost;
}

double cost_exchange_prompt(const struct model *model, struct unit unit, struct part_range parts,
                            const struct device_rates *rates, const struct workload *workload) {
    const struct unit_slice slice = unit_slice_of(model, unit, parts);
    double passes = ceil((double)workload->prompt_tokens / workload->micro_batch);
    return exchange_seconds(model, unit, &slice, rates, passes, workload->prompt_tokens);
}

double cost_exchange_tokens(const struct model *model, struct unit unit, struct part_range parts,
                            const struct device_rates *rates, const struct workload *workload) {
    const struct unit_slice slice = unit_slice_of(model, unit, parts);
    return workload->new_tokens * exchange_seconds(model, unit, &slice, rates, 1, 1);
}

enum weight_layout cost_best_layout(const struct model *model, struct unit unit, const struct device_rates *rates,
                                    const struct workload *workload) {
    struct unit_cost rows = cost_unit_in(model, unit, LAYOUT_ROWS, rates, workload);
    struct unit_cost packed = cost_unit_in(model, unit, LAYOUT_R16, rates, workload);
    return cost_total(model, &packed, workload) < cost_total(model, &rows, workload) ? LAYOUT_R16 : LAYOUT_ROWS;
}

struct unit_cost cost_unit(const struct model *model, struct unit unit, const struct device_rates *rates,
                           const struct workload *workload) {
    return cost_unit_in(model, unit, cost_best_layout(model, unit, rates, workload), rates, workload);
}

double cost_total(const struct model *model, const struct unit_cost *cost, const struct workload *workload) {
    return cost->prefill_s + cost->rerun_s + workload->new_tokens * cost->token_s +
           cost_workload_keys(model, workload) * cost->key_s;
}

/* ---- hops ---- */

static double hop_seconds(const struct device_rates *from, const struct device_rates *to, double bytes) {
    double seconds = 0;
    if (from && to && from->context && from->context == to->context) {
        seconds = fmax(from->handover_s, to->handover_s);
        return from->has_host_memory && to->has_host_memory
                   ? seconds : seconds + bytes / from->transfer_bytes_per_s + bytes / to->transfer_bytes_per_s;
    }
    if (from)
        seconds += from->transfer_s + bytes / from->transfer_bytes_per_s;
    if (to)
        seconds += to->transfer_s + bytes / to->transfer_bytes_per_s;
    return seconds;
}

double cost_hop_token(const struct model *model, const struct device_rates *from,
                      const struct device_rates *to) {
    return hop_seconds(from, to, 4.0 * model->hidden_size);
}

double cost_hop_prompt(const struct model *model, const struct device_rates *from,
                       const struct device_rates *to, const struct workload *workload) {
    double passes = ceil((double)workload->prompt_tokens / workload->micro_batch);
    double start = hop_seconds(from, to, 0);
    double bytes = hop_seconds(from, to, 4.0 * model->hidden_size * workload->prompt_tokens) - start;
    return passes * start + bytes;
}

double cost_hop_total(const struct model *model, const struct device_rates *from,
                      const struct device_rates *to, const struct workload *workload) {
    double seconds = cost_hop_prompt(model, from, to, workload) +
                     workload->new_tokens * cost_hop_token(model, from, to);
    if (workload->crosses_rope_switch) {
        struct workload again = *workload;
        again.prompt_tokens = model->rope.original_context + 1;
        seconds += cost_hop_prompt(model, from, to, &again);
    }
    return seconds;
}
