/* The search behind `fastest`: exact over one run of units a device; see placement_wide.h
 * for maps in which devices come back.
 *
 * A state is (set of devices used so far, the device that runs now, the unit where
 * its run began). A label is one way to reach a state: time so far and bytes taken
 * from the shared pool. Extending a label runs its device unit by unit until
 * memory ends, and at each cut opens a label for every device not yet used. Only
 * labels that another one of the same state beats in both time and pool are
 * dropped, so nothing better is lost. Labels are made in the order of the number
 * of devices used, so a state is complete before it is extended. */
#include "planner/placement.h"

#include "planner/placement_wide.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SEARCH_DEVICES 8u
/* Above this many units cuts lie only at some block boundaries: bounds the states. */
#define SEARCH_CUTS 400u
/* Bounds the time, to some 0.3 s: where more would be needed, there are half as many cuts. Four devices
 * and 32 blocks need a third of them at the most. */
#define SEARCH_LABELS (1u << 17)
#define NO_LABEL UINT32_MAX
/* What units scattered over the devices must gain over runs: less than predictions are off by is not worth
 * a plan that is harder to read. */
#define LEAST_GAIN 0.01

struct label {
    double seconds;            /* units before `start`, and the hop to this device */
    uint64_t pool_bytes;       /* taken so far, this device's run not included */
    uint32_t parent;           /* label of the device before; NO_LABEL at the first */
    uint32_t next;             /* in the list of its state */
    uint16_t start;            /* first unit of this device's run */
    uint8_t device;            /* index into search.devices */
    uint8_t set;               /* bits over search.devices, this one included */
    bool beaten;
};

/* The best complete placement of one set of devices. */
struct complete { double seconds; uint32_t label; uint32_t set; };

struct search {
    const struct placement_input *input;
    uint32_t device_count;
    uint32_t devices[SEARCH_DEVICES];             /* indices into input->devices */
    uint64_t pinned_bytes[SEARCH_DEVICES];
    uint32_t pinned_mask[SEARCH_DEVICES];
    uint32_t pinned_set;                          /* devices that have pinned units */
    uint32_t required_set;
    double *bound_seconds;                        /* [unit_count + 1]: least time of units >= u */
    struct label *labels;
    uint32_t label_count, label_capacity;
    uint32_t cut_step;                            /* units from one cut to the next */
    bool has_overflowed;                          /* SEARCH_LABELS were not enough */
    uint32_t *states;                             /* [set][device][unit]: first label */
    struct complete top[1 + PLACEMENT_ALTERNATIVES];
    double best_with[SEARCH_DEVICES];
};

static uint32_t *state_of(struct search *search, const struct label *label) {
    size_t index = ((size_t)label->set * search->device_count + label->device) * search->input->unit_count;
    return &search->states[index + label->start];
}

static bool may_cut(const struct search *search, uint32_t unit) {
    const struct placement_input *input = search->input;
    return input->pinned[unit] == PLACEMENT_FREE &&
           ((unit - 1) % search->cut_step == 0 || input->kinds[unit] == UNIT_HEAD);
}

static bool add_label(struct search *search, struct label label, struct error *err) {
    uint32_t *head = state_of(search, &label);
    for (uint32_t *at = head; *at != NO_LABEL;) {
        struct label *other = &search->labels[*at];
        if (other->seconds <= label.seconds && other->pool_bytes <= label.pool_bytes)
            return true;
        if (label.seconds <= other->seconds && label.pool_bytes <= other->pool_bytes) {
            other->beaten = true;
            *at = other->next;
        } else {
            at = &other->next;
        }
    }
    search->has_overflowed = search->label_count == SEARCH_LABELS;
    if (search->has_overflowed)
        return true;
    if (search->label_count == search->label_capacity) {
        uint32_t capacity = search->label_capacity ? 2 * search->label_capacity : 1024;
        struct label *grown = realloc(search->labels, capacity * sizeof *grown);
        if (!grown)
            return error_set(err, ERROR_FAILED, "cannot search the placements: out of memory; "
                             "name fewer devices with --devices");
        search->labels = grown;
        search->label_capacity = capacity;
    }
    label.next = *head;
    *head = search->label_count;
    search->labels[search->label_count++] = label;
    return true;
}

static void record(struct search *search, uint32_t label, uint32_t set, double seconds) {
    set |= search->pinned_set;
    for (uint32_t d = 0; d < search->device_count; d++)
        if ((set >> d & 1) && seconds < search->best_with[d])
            search->best_with[d] = seconds;
    if ((set & search->required_set) != search->required_set)
        return;
    uint32_t slot = PLACEMENT_ALTERNATIVES;
    for (uint32_t i = 0; i <= PLACEMENT_ALTERNATIVES; i++) {
        if (search->top[i].set == set) {
            slot = i;
            break;
        }
    }
    if (seconds >= search->top[slot].seconds)
        return;
    search->top[slot] = (struct complete){ seconds, label, set };
    for (; slot && search->top[slot].seconds < search->top[slot - 1].seconds; slot--) {
        struct complete swap = search->top[slot];
        search->top[slot] = search->top[slot - 1];
        search->top[slot - 1] = swap;
    }
}

/* No placement as slow as this changes any answer. */
static double useless_above(const struct search *search) {
    double limit = search->top[PLACEMENT_ALTERNATIVES].seconds;
    for (uint32_t d = 0; d < search->device_count; d++)
        if (search->best_with[d] > limit)
            limit = search->best_with[d];
    return limit;
}

static bool extend(struct search *search, uint32_t index, struct error *err) {
    const struct placement_input *input = search->input;
    const struct label from = search->labels[index];
    int32_t here = (int32_t)search->devices[from.device];
    const struct placement_device *device = &input->devices[here];
    uint64_t bytes = search->pinned_bytes[from.device];
    uint32_t mask = search->pinned_mask[from.device];
    const uint64_t pinned_footprint = bytes + device->scratch_bytes[mask];
    double seconds = from.seconds;
    int32_t at = here;
    double limit = useless_above(search);

    for (uint32_t u = from.start; u < input->unit_count; u++) {
        int32_t to = input->pinned[u];
        uint64_t pool = from.pool_bytes;
        if (to == PLACEMENT_FREE) {
            to = here;
            if (!device->units[u].allowed)
                return true;
            bytes += device->units[u].bytes;
            mask |= 1u << input->kinds[u];
        }
        uint64_t footprint = bytes + device->scratch_bytes[mask];
        if (device->in_pool)
            pool += footprint - pinned_footprint;
        if (footprint > device->budget_bytes || pool > input->pool_bytes)
            return true;
        seconds += placement_hop(input, at, to);
        if (to >= 0)
            seconds += input->devices[to].units[u].seconds;
        at = to;
        if (u + 1 == input->unit_count) {
            record(search, index, from.set, seconds + placement_hop(input, at, PLACEMENT_HOST));
            return true;
        }
        if (seconds + search->bound_seconds[u + 1] > limit)
            return true;
        if (!may_cut(search, u + 1))
            continue;
        for (uint32_t d = 0; d < search->device_count; d++) {
            if (from.set >> d & 1)
                continue;
            double arrival = seconds + placement_hop(input, at, (int32_t)search->devices[d]);
            struct label next = { .seconds = arrival, .pool_bytes = pool, .parent = index,
                                  .start = (uint16_t)(u + 1), .device = (uint8_t)d,
                                  .set = (uint8_t)(from.set | 1u << d) };
            if (!add_label(search, next, err))
                return false;
        }
    }
    return true;
}

/* The devices that take part: all, or of many the ones that are fastest alone. */
static void choose_devices(struct search *search) {
    const struct placement_input *input = search->input;
    double alone[PLACEMENT_MAX_DEVICES] = { 0 };
    bool taken[PLACEMENT_MAX_DEVICES] = { false };
    for (uint32_t d = 0; d < input->device_count && search->device_count < SEARCH_DEVICES; d++) {
        taken[d] = input->required >> d & 1;
        if (taken[d])
            search->devices[search->device_count++] = d;
    }
    for (uint32_t d = 0; d < input->device_count; d++)
        for (uint32_t u = 0; u < input->unit_count; u++)
            alone[d] += input->devices[d].units[u].seconds;
    while (search->device_count < SEARCH_DEVICES) {
        uint32_t best = UINT32_MAX;
        for (uint32_t d = 0; d < input->device_count; d++)
            if (!taken[d] && (best == UINT32_MAX || alone[d] < alone[best]))
                best = d;
        if (best == UINT32_MAX)
            break;
        taken[best] = true;
        search->devices[search->device_count++] = best;
    }
}

static size_t state_count(const struct search *search) {
    return ((size_t)1 << search->device_count) * search->device_count * search->input->unit_count;
}

static bool prepare(struct search *search, struct error *err) {
    const struct placement_input *input = search->input;
    choose_devices(search);
    search->states = malloc(state_count(search) * sizeof *search->states);
    search->bound_seconds = calloc((size_t)input->unit_count + 1, sizeof *search->bound_seconds);
    if (!search->states || !search->bound_seconds)
        return error_set(err, ERROR_FAILED, "cannot search the placements: out of memory; "
                         "name fewer devices with --devices");
    for (uint32_t d = 0; d < search->device_count; d++) {
        if (input->required >> search->devices[d] & 1)
            search->required_set |= 1u << d;
        search->pinned_bytes[d] = placement_pinned_bytes(input, search->devices[d], &search->pinned_mask[d]);
        if (search->pinned_mask[d])
            search->pinned_set |= 1u << d;
    }
    for (uint32_t u = input->unit_count; u-- > 0;) {
        double least = INFINITY;
        for (uint32_t d = 0; d < input->device_count; d++) {
            bool possible = input->pinned[u] == (int32_t)d ||
                            (input->pinned[u] == PLACEMENT_FREE && input->devices[d].units[u].allowed);
            if (possible && input->devices[d].units[u].seconds < least)
                least = input->devices[d].units[u].seconds;
        }
        if (input->pinned[u] == PLACEMENT_HOST)
            least = 0;
        search->bound_seconds[u] = search->bound_seconds[u + 1] + least;
    }
    return true;
}

static void forget(struct search *search) {
    memset(search->states, 0xff, state_count(search) * sizeof *search->states);
    search->label_count = 0;
    search->has_overflowed = false;
    for (uint32_t i = 0; i <= PLACEMENT_ALTERNATIVES; i++)
        search->top[i] = (struct complete){ INFINITY, NO_LABEL, UINT32_MAX };
    for (uint32_t d = 0; d < search->device_count; d++)
        search->best_with[d] = INFINITY;
}

/* Labels for every device that may run the first free unit; a plan in which
 * everything is pinned is complete at once. */
static bool begin(struct search *search, struct error *err) {
    const struct placement_input *input = search->input;
    uint64_t pool = 0;
    for (uint32_t d = 0; d < input->device_count; d++) {
        uint32_t mask;
        uint64_t bytes = placement_pinned_bytes(input, d, &mask);
        bytes += input->devices[d].scratch_bytes[mask];
        if (bytes > input->devices[d].budget_bytes)
            return true;
        pool += input->devices[d].in_pool ? bytes : 0;
    }
    if (pool > input->pool_bytes)
        return true;
    double seconds = 0;
    int32_t at = PLACEMENT_HOST;
    uint32_t first = 0;
    for (; first < input->unit_count && input->pinned[first] != PLACEMENT_FREE; first++) {
        seconds += placement_hop(input, at, input->pinned[first]);
        at = input->pinned[first];
        if (at >= 0)
            seconds += input->devices[at].units[first].seconds;
    }
    if (first == input->unit_count) {
        record(search, NO_LABEL, 0, seconds + placement_hop(input, at, PLACEMENT_HOST));
        return true;
    }
    for (uint32_t d = 0; d < search->device_count; d++) {
        double arrival = seconds + placement_hop(input, at, (int32_t)search->devices[d]);
        struct label label = { .seconds = arrival, .pool_bytes = pool, .parent = NO_LABEL,
                               .start = (uint16_t)first, .device = (uint8_t)d, .set = (uint8_t)(1u << d) };
        if (!add_label(search, label, err))
            return false;
    }
    return true;
}

static bool restore(const struct search *search, const struct complete *complete,
                    struct placement *placement, struct error *err) {
    const struct placement_input *input = search->input;
    placement->device = malloc(input->unit_count * sizeof *placement->device);
    if (!placement->device)
        return error_set(err, ERROR_FAILED, "cannot search the placements: out of memory");
    memcpy(placement->device, input->pinned, input->unit_count * sizeof *placement->device);
    uint32_t end = input->unit_count;
    for (uint32_t i = complete->label; i != NO_LABEL; i = search->labels[i].parent) {
        const struct label *label = &search->labels[i];
        for (uint32_t u = label->start; u < end; u++)
            if (input->pinned[u] == PLACEMENT_FREE)
                placement->device[u] = (int32_t)search->devices[label->device];
        end = label->start;
    }
    placement->seconds = placement_seconds(input, placement->device);
    return true;
}

static uint32_t devices_of(const struct placement_input *input, const int32_t *device) {
    uint32_t set = 0;
    for (uint32_t u = 0; u < input->unit_count; u++)
        if (device[u] >= 0)
            set |= 1u << device[u];
    return set;
}

/* Put a map that scatters units before what the runs gave, whose best is then the first alternative. */
static void put_first(const struct placement_input *input, struct wide_answer *wide, struct placement_result *result) {
    const uint32_t set = devices_of(input, wide->device);
    struct placement shown[PLACEMENT_ALTERNATIVES + 1];
    uint32_t count = 0;
    if (result->best.device)
        shown[count++] = result->best;
    for (uint32_t i = 0; i < result->alternative_count; i++)
        shown[count++] = result->alternatives[i];
    result->best = (struct placement){ .device = wide->device, .seconds = wide->seconds };
    wide->device = NULL;
    result->alternative_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (result->alternative_count < PLACEMENT_ALTERNATIVES && devices_of(input, shown[i].device) != set)
            result->alternatives[result->alternative_count++] = shown[i];
        else
            free(shown[i].device);
    }
    for (uint32_t i = result->alternative_count; i < PLACEMENT_ALTERNATIVES; i++)
        result->alternatives[i] = (struct placement){ 0 };
    for (uint32_t d = 0; d < input->device_count; d++)
        if ((set >> d & 1) && result->best.seconds < result->best_with[d])
            result->best_with[d] = result->best.seconds;
}

static bool take_runs(const struct search *search, struct placement_result *result, struct error *err) {
    if (isfinite(search->top[0].seconds) && !restore(search, &search->top[0], &result->best, err))
        return false;
    for (uint32_t i = 1; i <= PLACEMENT_ALTERNATIVES && isfinite(search->top[i].seconds); i++) {
        if (!restore(search, &search->top[i], &result->alternatives[i - 1], err))
            return false;
        result->alternative_count = i;
    }
    for (uint32_t d = 0; d < search->device_count; d++)
        result->best_with[search->devices[d]] = search->best_with[d];
    return true;
}

static bool search_runs(struct search *search, struct placement_result *result, struct error *err) {
    if (search->input->unit_count > UINT16_MAX)
        return error_set(err, ERROR_FAILED, "cannot place %u units; at most %u", search->input->unit_count, UINT16_MAX);
    uint32_t units = search->input->unit_count;
    if (!prepare(search, err))
        return false;
    search->cut_step = units > SEARCH_CUTS ? 2 * (units / SEARCH_CUTS) : 1;
    do {
        forget(search);
        if (!begin(search, err))
            return false;
        /* Labels with one more device are appended behind all with fewer. */
        for (uint32_t i = 0; i < search->label_count && !search->has_overflowed; i++)
            if (!search->labels[i].beaten && !extend(search, i, err))
                return false;
        search->cut_step *= 2;
    } while (search->has_overflowed && search->cut_step < units);
    return take_runs(search, result, err);
}

static bool widen(const struct search *search, struct placement_result *result, struct error *err) {
    struct wide_answer wide;
    double below = result->best.device ? result->best.seconds * (1 - LEAST_GAIN) : INFINITY;
    bool ok = placement_wide(search->input, search->devices, search->device_count, below, &wide, err);
    if (ok && wide.device)
        put_first(search->input, &wide, result);
    return ok;
}

static bool find(const struct placement_input *input, bool only_runs, struct placement_result *result,
                 struct error *err) {
    struct search search = { .input = input };
    *result = (struct placement_result){ 0 };
    for (uint32_t d = 0; d < input->device_count; d++)
        result->best_with[d] = INFINITY;
    bool ok = search_runs(&search, result, err) && (only_runs || widen(&search, result, err)) &&
              (result->best.device || placement_explain_infeasible(input, result, err));
    if (!ok) {
        bool infeasible = result->infeasible;
        placement_result_release(result);
        result->infeasible = infeasible;
    }
    free(search.labels);
    free(search.states);
    free(search.bound_seconds);
    return ok;
}

bool placement_runs(const struct placement_input *input, struct placement_result *result, struct error *err) {
    return find(input, true, result, err);
}

bool placement_fastest(const struct placement_input *input, struct placement_result *result, struct error *err) {
    return find(input, false, result, err);
}
