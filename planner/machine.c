#include "planner/machine.h"

#include "common/weight_choice.h"
#include "planner/probe_hop.h"
#include "planner/probe_together.h"
#include "planner/survey_cache.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Weights read from memory, not from a cache: figures of larger sets are all alike. */
#define BEYOND_CACHES (128ull << 20)
/* Below this the caches serve every set alike. */
#define WITHIN_CACHES (8ull << 20)

void machine_release(struct machine *machine) {
    device_list_release(&machine->devices);
    free(machine->rates);
    free(machine->memory_bytes);
    *machine = (struct machine){ 0 };
}

/* ---- what the model asks of a device ---- */

static void add_shape(struct probe_request *probe, enum tensor_type type, uint64_t rows, uint64_t columns) {
    for (uint32_t i = 0; i < probe->shape_count; i++)
        if (probe->shapes[i].type == type && probe->shapes[i].rows == rows && probe->shapes[i].columns == columns)
            return;
    if (probe->shape_count < PROBE_MOST_SHAPES && rows <= UINT32_MAX && columns <= UINT32_MAX)
        probe->shapes[probe->shape_count++] = (struct probe_shape){ type, (uint32_t)rows, (uint32_t)columns };
}

/* Every distinct matrix, as it lies in a buffer: refs of one type are one matrix. */
static void describe_model(const struct machine_request *request, struct probe_request *probe) {
    const struct model *model = request->model;
    static const enum buffer_role roles[] = { BUFFER_QKV, BUFFER_O, BUFFER_GATE_UP, BUFFER_DOWN, BUFFER_HEAD };
    for (uint32_t u = 1; u < unit_count(model); u++) {
        for (unsigned r = 0; r < sizeof roles / sizeof *roles; r++) {
            const struct weight_ref *refs[3];
            uint32_t count = unit_matrix_refs(model, unit_at(model, u), roles[r], refs);
            for (uint32_t i = 0; i < count;) {
                enum tensor_type type = weight_ref_type(model, refs[i]);
                uint64_t rows = 0, columns = refs[i]->column_count;
                for (; i < count && weight_ref_type(model, refs[i]) == type; i++)
                    rows += refs[i]->row_count;
                add_shape(probe, type, rows, columns);
                for (uint32_t a = 0; a < request->also_count; a++)
                    if (weight_choice_helps(type, request->also_types[a], columns))
                        add_shape(probe, request->also_types[a], rows, columns);
            }
        }
    }
    probe->token_bytes = cost_token_bytes(model);
    probe->numeric = model_numeric_class(model, false);
    for (uint32_t a = 0; a < request->also_count; a++)
        if (tensor_type_info(request->also_types[a])->is_quantised)
            probe->numeric = NUMERIC_INT8;
    probe->kv_type = request->plan->kv_type;
    probe->head_count = model->head_count;
    probe->kv_head_count = model->kv_head_count;
    probe->head_dim = model->head_dim;
}

/* ---- what the store remembers ---- */

static bool working_set_serves(uint64_t measured, uint64_t wanted) {
    if (!measured || !wanted)
        return true;
    double ratio = (double)measured / (double)wanted;
    return (ratio > 0.25 && ratio < 4) || (measured >= BEYOND_CACHES && wanted >= BEYOND_CACHES) ||
           (measured <= WITHIN_CACHES && wanted <= WITHIN_CACHES);
}

static bool has_value(const struct probe_measured *measured, const char *what, const char *format,
                      uint64_t working_set_bytes) {
    for (uint32_t i = 0; i < measured->count; i++) {
        const struct probe_value *value = &measured->values[i];
        if (strcmp(value->what, what) == 0 && strcmp(value->format, format) == 0 &&
            working_set_serves(value->working_set_bytes, working_set_bytes))
            return true;
    }
    return false;
}

static bool knows_all(const struct probe_measured *measured, const struct probe_request *wanted) {
    for (uint32_t i = 0; i < wanted->shape_count; i++) {
        enum tensor_type type = wanted->shapes[i].type;
        for (int layout = 0; layout < (r16_packs(type) ? LAYOUT_COUNT : 1); layout++) {
            char format[16];
            probe_format(type, (enum weight_layout)layout, format);
            if (!has_value(measured, "decode", format, wanted->token_bytes) ||
                !has_value(measured, "prefill", format, 0))
                return false;
        }
    }
    return true;
}

/* Values of the store behind those just measured, which are found first. */
static bool add_remembered(struct plan_store *store, const struct device *device,
                           struct probe_measured *measured, struct error *err) {
    struct probe_value *values;
    uint32_t count;
    if (!plan_store_probes(store, device, &values, &count, err))
        return false;
    struct probe_value *grown = realloc(measured->values, ((size_t)measured->count + count + 1) * sizeof *grown);
    if (grown) {
        if (count)
            memcpy(grown + measured->count, values, count * sizeof *grown);
        measured->values = grown;
        measured->count += count;
    }
    free(values);
    return grown || error_set(err, ERROR_FAILED, "cannot recall the devices' figures: out of memory");
}

/* `results` gets one entry a device, with what the store knows of each. */
static bool recall(struct plan_store *store, const struct device_list *devices, struct probe_results *results,
                   struct error *err) {
    if (!results->devices) {
        results->devices = calloc((size_t)devices->count + 1, sizeof *results->devices);
        results->count = devices->count;
    }
    if (!results->devices)
        return error_set(err, ERROR_FAILED, "cannot recall the devices' figures: out of memory");
    for (uint32_t i = 0; store && i < devices->count && i < results->count; i++)
        if (devices->devices[i].short_name[0] &&
            !add_remembered(store, &devices->devices[i], &results->devices[i], err))
            return false;
    return true;
}

static bool remember(struct plan_store *store, const struct device_list *devices,
                     const struct probe_results *results, struct error *err) {
    for (uint32_t i = 0; i < devices->count; i++) {
        const struct device *device = &devices->devices[i];
        if (!device->short_name[0])
            continue;
        if (!plan_store_save_device(store, device, err) ||
            (i < results->count && results->devices[i].count &&
             !plan_store_save_probe(store, device, results->devices[i].values, results->devices[i].count, err)))
            return false;
    }
    return true;
}

/* ---- surveys ---- */

static void show_progress(void *context, const char *what) {
    (void)context;
    fprintf(stderr, "\r\033[Kphiplan: %.100s", what);
    fflush(stderr);
}

static bool survey(const struct machine_request *request, struct probe_request *probe, struct machine *machine,
                   struct probe_results *results, struct error *err) {
    const bool is_terminal = isatty(STDERR_FILENO);
    probe->progress = is_terminal ? show_progress : NULL;
    probe->interrupted = request->interrupted;
    device_list_release(&machine->devices);
    probe_results_release(results);
    bool ok = probe_survey(probe, &machine->devices, results, err);
    if (is_terminal)
        fputs("\r\033[K", stderr);
    return ok;
}

/* ---- devices on the same memory ---- */

/* Most pairs that are measured: each takes some seconds. */
#define MOST_PAIRS 3u

static bool is_in_pool(const struct device *device) {
    return device->usable && device->is_cpu_pool && device->short_name[0] && !device->alias_of[0];
}

/* Most pairs whose hop is measured, in a fraction of a second each. */
#define MOST_HOPS 12u

static bool can_hop(const struct device *device) {
    return device->usable && device->short_name[0] && !device->alias_of[0];
}

/* How far they slow each other down. */
static bool measure_together(const struct machine_request *request, const struct probe_request *probe,
                             const struct device *const pair[2], struct link_rates *link, struct error *err) {
    struct together_rates rates;
    bool ok = probe_together(probe, pair, &rates, err);
    for (uint32_t d = 0; ok && d < 2 && rates.is_known; d++) {
        struct probe_value alone = { .what = "alone", .unit = "B/s", .value = rates.alone[d] };
        ok = plan_store_save_probe(request->store, pair[d], &alone, 1, err);
    }
    /* Not tried at every plan. */
    link->source_together = rates.is_known ? rates.together[0] : -1;
    link->target_together = rates.is_known ? rates.together[1] : -1;
    return ok;
}

/* What lies between two devices, once for each pair and its drivers. */
static bool measure_pairs(const struct machine_request *request, const struct probe_request *wanted,
                          const struct device_list *list, struct error *err) {
    struct probe_request probe = *wanted;
    enum tensor_type main_type = cost_token_type(request->model);
    uint32_t pairs = 0, hops = 0;
    probe.progress = NULL;
    probe.interrupted = request->interrupted;
    for (uint32_t i = 0; i < probe.shape_count; i++) {
        if (probe.shapes[i].type == main_type) {
            struct probe_shape swap = probe.shapes[0];
            probe.shapes[0] = probe.shapes[i];
            probe.shapes[i] = swap;
            break;
        }
    }
    for (uint32_t i = 0; i < list->count; i++) {
        for (uint32_t j = i + 1; j < list->count; j++) {
            const struct device *const pair[2] = { &list->devices[i], &list->devices[j] };
            struct link_rates link;
            if (!can_hop(pair[0]) || !can_hop(pair[1]))
                continue;
            if (!plan_store_link(request->store, pair[0], pair[1], &link, err))
                return false;
            bool together = is_in_pool(pair[0]) && is_in_pool(pair[1]) && pairs < MOST_PAIRS &&
                            (link.source_together == 0 || request->measure_again);
            bool hop = probe_hop_shares(pair[0], pair[1]) && hops < MOST_HOPS &&
                       (link.hop_s == 0 || request->measure_again);
            if (!together && !hop)
                continue;
            if (isatty(STDERR_FILENO))
                fprintf(stderr, "\r\033[Kphiplan: %s and %s together", pair[0]->short_name, pair[1]->short_name);
            bool ok = !together || measure_together(request, &probe, pair, &link, err);
            if (ok && hop) {
                ok = probe_hop(&probe, pair, &link.hop_s, err);
                link.hop_s = link.hop_s > 0 ? link.hop_s : -1;
            }
            if (isatty(STDERR_FILENO))
                fputs("\r\033[K", stderr);
            if (!ok || !plan_store_save_link(request->store, pair[0], pair[1], &link, err))
                return false;
            pairs += together;
            hops += hop;
        }
    }
    return true;
}

/* The last of them is the newest: a pair is measured when the store's figures are there already. */
static double alone_rate(const struct probe_results *results, uint32_t index) {
    double rate = 0;
    for (uint32_t v = 0; index < results->count && v < results->devices[index].count; v++)
        if (strcmp(results->devices[index].values[v].what, "alone") == 0)
            rate = results->devices[index].values[v].value;
    return rate;
}

static void note_pair(struct device_rates *rates, double alone, double together) {
    double part = alone > 0 && together > 0 ? together / alone : 0;
    if (part > 0 && (rates->together == 0 || part < rates->together))
        rates->together = part < 0.05 ? 0.05 : part < 1 ? part : 1;
}

static void note_hop(struct device_rates *a, struct device_rates *b, uint32_t context, double seconds) {
    a->context = b->context = a->context ? a->context : b->context ? b->context : context;
    a->handover_s = seconds > a->handover_s ? seconds : a->handover_s;
    b->handover_s = seconds > b->handover_s ? seconds : b->handover_s;
}

static bool recall_pairs(struct plan_store *store, const struct probe_results *results, struct machine *machine,
                         struct error *err) {
    for (uint32_t i = 0; store && i < machine->devices.count; i++) {
        for (uint32_t j = i + 1; j < machine->devices.count; j++) {
            const struct device *a = &machine->devices.devices[i], *b = &machine->devices.devices[j];
            struct link_rates link;
            if (!can_hop(a) || !can_hop(b))
                continue;
            if (!plan_store_link(store, a, b, &link, err))
                return false;
            if (probe_hop_shares(a, b) && link.hop_s > 0)
                note_hop(&machine->rates[i], &machine->rates[j], i + 1, link.hop_s);
            if (!is_in_pool(a) || !is_in_pool(b))
                continue;
            note_pair(&machine->rates[i], alone_rate(results, i), link.source_together);
            note_pair(&machine->rates[j], alone_rate(results, j), link.target_together);
        }
    }
    return true;
}

static bool look_at_devices(const struct machine_request *request, struct machine *machine,
                            struct probe_results *results, struct error *err) {
    struct probe_request wanted = { 0 };
    if (request->model)
        describe_model(request, &wanted);
    bool measure = request->measure_again && request->model;
    wanted.measures_slow = measure;
    if (!measure) {
        struct probe_request quick = { .quick = true };
        if (!survey(request, &quick, machine, results, err) ||
            !recall(request->store, &machine->devices, results, err))
            return false;
        /* The slower one of two devices on one silicon is not worth the time, unless it is
         * named: its plain reading speed says enough. */
        probe_mark_aliases(&machine->devices, results);
        for (uint32_t i = 0; i < machine->devices.count && request->model; i++) {
            const struct device *device = &machine->devices.devices[i];
            if (!device->usable || i >= results->count || knows_all(&results->devices[i], &wanted))
                continue;
            bool is_slow = device->alias_of[0] != '\0';
            bool is_asked_for = !is_slow || device_choice_names(&machine->devices, request->plan, i);
            measure = measure || is_asked_for;
            wanted.measures_slow = wanted.measures_slow || (is_slow && is_asked_for);
        }
    }
    if (measure) {
        if (!survey(request, &wanted, machine, results, err) ||
            (request->store && !request->is_dry_run &&
             !remember(request->store, &machine->devices, results, err)) ||
            !recall(request->store, &machine->devices, results, err))
            return false;
    }
    probe_mark_aliases(&machine->devices, results);
    if (request->model && request->store && !request->is_dry_run && !plan_store_is_read_only(request->store) &&
        (!measure_pairs(request, &wanted, &machine->devices, err) ||
         !recall(request->store, &machine->devices, results, err)))
        return false;
    if (!request->is_dry_run)
        survey_cache_save(&machine->devices);
    return true;
}

/* One CPU device of ordinary speed, with this machine's RAM. */
static bool assume_devices(const struct machine_request *request, struct machine *machine, struct error *err) {
    struct device device = { .type = DEVICE_CPU, .short_name = "cpu0", .alignment = 128, .compute_units = 1,
                             .unified_memory = true, .is_cpu_pool = true, .usable = true,
                             .memory_bytes = request->host->total_bytes,
                             .max_buffer_bytes = request->host->total_bytes / 4 };
    snprintf(device.name, sizeof device.name, "a CPU (assumed)");
    machine->is_assumed = true;
    return device_list_append(&machine->devices, &device) ||
           error_set(err, ERROR_FAILED, "cannot list the devices: out of memory");
}

static bool is_calibrated(const struct device_rates *rates) {
    return rates->fit.decode != 1 || rates->fit.prefill != 1;
}

/* What runs showed of one device is in part the engine's doing: a device of the same type
 * that no run has used yet must not look better just for that. It gets the mean. */
static void share_calibration(struct machine *machine) {
    struct calibration sums[DEVICE_ACCELERATOR + 1] = { 0 };
    uint32_t counts[DEVICE_ACCELERATOR + 1] = { 0 };
    for (uint32_t i = 0; i < machine->devices.count; i++) {
        const struct calibration *fit = &machine->rates[i].fit;
        enum device_type type = machine->devices.devices[i].type;
        if (!is_calibrated(&machine->rates[i]))
            continue;
        sums[type].decode += log(fit->decode);
        sums[type].keys += log(fit->keys);
        sums[type].prefill += log(fit->prefill);
        sums[type].start_s += fit->start_s;
        counts[type]++;
    }
    for (uint32_t i = 0; i < machine->devices.count; i++) {
        enum device_type type = machine->devices.devices[i].type;
        double count = counts[type];
        if (count > 0 && !is_calibrated(&machine->rates[i]))
            machine->rates[i].fit = (struct calibration){ exp(sums[type].decode / count), exp(sums[type].keys / count),
                                                          exp(sums[type].prefill / count), sums[type].start_s / count };
    }
}

static bool derive_rates(const struct machine_request *request, struct machine *machine,
                         const struct probe_results *results, struct error *err) {
    const uint32_t count = machine->devices.count;
    const uint64_t token_bytes = request->model ? cost_token_bytes(request->model) : 0;
    machine->rates = calloc((size_t)count + 1, sizeof *machine->rates);
    machine->memory_bytes = calloc((size_t)count + 1, sizeof *machine->memory_bytes);
    if (!machine->rates || !machine->memory_bytes)
        return error_set(err, ERROR_FAILED, "cannot list the devices: out of memory");
    for (uint32_t i = 0; i < count; i++) {
        const struct device *device = &machine->devices.devices[i];
        device_rates_assume(&machine->rates[i], device);
        machine->memory_bytes[i] = device->memory_bytes;
        if (i >= results->count)
            continue;
        const struct probe_measured *measured = &results->devices[i];
        device_rates_apply(&machine->rates[i], measured->values, measured->count, token_bytes);
        if (request->model)
            device_rates_calibrate(&machine->rates[i], measured->values, measured->count,
                                   tensor_type_info(cost_token_type(request->model))->name, token_bytes);
        for (uint32_t v = 0; v < measured->count; v++) {
            double bytes = measured->values[v].value;
            if (strcmp(measured->values[v].what, "memory") == 0 && bytes > 0 && bytes < (double)device->memory_bytes) {
                machine->memory_bytes[i] = (uint64_t)bytes;
                break;   /* the newest comes first */
            }
        }
    }
    share_calibration(machine);
    return recall_pairs(request->store, results, machine, err);
}

bool machine_survey(const struct machine_request *request, struct machine *machine, struct error *err) {
    struct probe_results results = { 0 };
    bool ok;
    *machine = (struct machine){ 0 };
    if (!request->is_dry_run || request->measure_again)
        ok = look_at_devices(request, machine, &results, err);
    else if (survey_cache_load(&machine->devices))
        ok = recall(request->store, &machine->devices, &results, err);
    else if (request->names_devices || (request->plan && device_choice_names_devices(request->plan)))
        ok = look_at_devices(request, machine, &results, err);
    else
        ok = assume_devices(request, machine, err);
    ok = ok && derive_rates(request, machine, &results, err);
    probe_results_release(&results);
    if (!ok)
        machine_release(machine);
    return ok;
}

bool machine_of_plan(struct plan_store *store, const struct model *model, const struct plan *plan,
                     struct machine *machine, struct error *err) {
    struct probe_results results = { 0 };
    struct machine_request request = { .model = model, .store = store };
    bool ok = true;
    *machine = (struct machine){ 0 };
    for (uint32_t i = 0; ok && i < plan->device_count; i++) {
        ok = device_list_append(&machine->devices, &plan->devices[i].device);
        struct device *devices = machine->devices.devices;
        for (uint32_t at = i; ok && at && device_precedes(&devices[at], &devices[at - 1]); at--) {
            struct device swap = devices[at];
            devices[at] = devices[at - 1];
            devices[at - 1] = swap;
        }
    }
    if (!ok)
        error_set(err, ERROR_FAILED, "cannot list the devices of plan %lld: out of memory", (long long)plan->id);
    ok = ok && recall(store, &machine->devices, &results, err) && derive_rates(&request, machine, &results, err);
    probe_results_release(&results);
    if (!ok)
        machine_release(machine);
    return ok;
}
