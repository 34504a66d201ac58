#include "planner/slicing.h"

#include "planner/forecast.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MOST_DEVICES 8u     /* as the search over whole units; the fastest of more */
#define ROUNDS 3

/* Parts of each unit on each device, in the order of the devices. */
struct slicing {
    const struct sizing *sizing;
    const struct placement_input *input;
    const struct model *model;
    uint32_t units, devices;
    uint32_t order[PLACEMENT_MAX_DEVICES];   /* the devices that take part, the fastest first */
    uint32_t order_count;
    uint32_t *parts;              /* [unit] how many there are */
    struct part_range *list;      /* [unit] scratch of bytes_of() */
    struct known_bytes *known;    /* [device][unit] what was asked last */
    uint32_t *like;               /* [unit] the first unit that costs the same everywhere */
    double **seconds;             /* [device][unit] that such units cost, [parts + 1] by their number, negative:
                                   * not asked yet; NULL: none was */
};

struct known_bytes { struct part_range parts; uint64_t bytes; };

/* counts [unit][device]; all 0: the host has it. */
struct shares {
    uint32_t *counts;
    double seconds;               /* infinite: none */
};

static uint32_t *counts_of(const struct slicing *slicing, const struct shares *shares, uint32_t unit) {
    return shares->counts + (size_t)unit * slicing->devices;
}

static struct part_range range_of(const uint32_t *counts, uint32_t device) {
    uint32_t begin = 0;
    for (uint32_t d = 0; d < device; d++)
        begin += counts[d];
    return (struct part_range){ begin, begin + counts[device] };
}

/* The device that has all of a unit; PLACEMENT_HOST where none or several have. */
static int32_t place_of(const struct slicing *slicing, const uint32_t *counts) {
    int32_t place = PLACEMENT_HOST;
    for (uint32_t d = 0; d < slicing->devices; d++) {
        if (counts[d] && place != PLACEMENT_HOST)
            return PLACEMENT_HOST;
        if (counts[d])
            place = (int32_t)d;
    }
    return place;
}

/* ---- seconds ---- */

/* So many parts of a unit: which ones makes no difference that counts. */
static double part_seconds(const struct slicing *slicing, uint32_t unit, uint32_t parts, uint32_t device) {
    const struct sizing *sizing = slicing->sizing;
    unit = slicing->like[unit];
    double *known = slicing->seconds[(size_t)device * slicing->units + unit];
    if (known && known[parts] >= 0)
        return known[parts];
    struct unit_cost cost = cost_parts_in(slicing->model, unit_at(slicing->model, unit), (struct part_range){ 0, parts },
                                          sizing_layout(sizing, device, unit), sizing_rates(sizing, (int32_t)device),
                                          &sizing->workload);
    double seconds = cost_total(slicing->model, &cost, &sizing->workload);
    if (!known) {
        known = malloc((slicing->parts[unit] + 1) * sizeof *known);
        slicing->seconds[(size_t)device * slicing->units + unit] = known;
        for (uint32_t i = 0; known && i <= slicing->parts[unit]; i++)
            known[i] = -1;
    }
    if (known)
        known[parts] = seconds;
    return seconds;
}

static double unit_seconds(const struct slicing *slicing, uint32_t unit, const uint32_t *counts) {
    int32_t place = place_of(slicing, counts);
    double pooled[PLACEMENT_MAX_DEVICES], together[PLACEMENT_MAX_DEVICES], slowest = 0;
    uint32_t pooled_count = 0;
    if (place >= 0)
        return slicing->input->devices[place].units[unit].seconds;
    for (uint32_t d = 0; d < slicing->devices; d++) {
        if (!counts[d])
            continue;
        double seconds = part_seconds(slicing, unit, counts[d], d);
        if (slicing->input->devices[d].in_pool) {
            together[pooled_count] = sizing_rates(slicing->sizing, (int32_t)d)->together;
            pooled[pooled_count++] = seconds;
        } else {
            slowest = fmax(slowest, seconds);
        }
    }
    return fmax(slowest, forecast_pooled_seconds(pooled, together, pooled_count));
}

static double total_seconds(const struct slicing *slicing, const struct shares *shares) {
    double seconds = 0;
    int32_t at = PLACEMENT_HOST;
    for (uint32_t u = 0; u < slicing->units; u++) {
        int32_t to = place_of(slicing, counts_of(slicing, shares, u));
        seconds += placement_hop(slicing->input, at, to) + unit_seconds(slicing, u, counts_of(slicing, shares, u));
        at = to;
    }
    return seconds + placement_hop(slicing->input, at, PLACEMENT_HOST);
}

/* A unit and the hops at its ends. */
static double seconds_around(const struct slicing *slicing, const struct shares *shares, uint32_t unit,
                             const uint32_t *counts) {
    int32_t before = unit ? place_of(slicing, counts_of(slicing, shares, unit - 1)) : PLACEMENT_HOST;
    int32_t after = unit + 1 < slicing->units ? place_of(slicing, counts_of(slicing, shares, unit + 1)) : PLACEMENT_HOST;
    int32_t here = place_of(slicing, counts);
    return placement_hop(slicing->input, before, here) + unit_seconds(slicing, unit, counts) +
           placement_hop(slicing->input, here, after);
}

/* ---- bytes ---- */

/* The buffers of one unit, or with UINT32_MAX the scratch of all of slicing->list. */
static uint64_t list_bytes(const struct slicing *slicing, uint32_t device, uint32_t unit) {
    struct buffer_options options = sizing_buffer_options(slicing->sizing, device, unit == UINT32_MAX ? 0 : unit);
    struct buffer_list list = { 0 };
    bool ok = unit == UINT32_MAX
        ? device_part_buffers(slicing->model, slicing->list, &options, &list, NULL)
        : unit_part_buffers(slicing->model, unit_at(slicing->model, unit), slicing->list[unit], &options, &list, NULL);
    uint64_t bytes = 0;
    for (int kind = 0; kind <= BUFFER_STAGING; kind++)
        bytes += list.total_bytes[kind];
    buffer_list_release(&list);
    /* A quarter of all numbers: sums of a few do not overflow, and fit nowhere. */
    return ok && bytes < UINT64_MAX / 4 ? bytes : UINT64_MAX / 4;
}

/* What sizing_bytes() says; units that have not changed are not listed again. Above `most`
 * perhaps less, but still above it. */
static uint64_t bytes_of(const struct slicing *slicing, const struct shares *shares, uint32_t device, uint64_t most) {
    uint64_t total = 0;
    for (uint32_t u = 0; u < slicing->units; u++) {
        struct known_bytes *known = &slicing->known[(size_t)device * slicing->units + u];
        struct part_range parts = slicing->list[u] = range_of(counts_of(slicing, shares, u), device);
        if (known->parts.begin != parts.begin || known->parts.end != parts.end)
            *known = (struct known_bytes){ parts, parts.begin < parts.end ? list_bytes(slicing, device, u) : 0 };
        if (__builtin_add_overflow(total, known->bytes, &total))
            return UINT64_MAX;
    }
    if (total > most)
        return total;
    uint64_t scratch = list_bytes(slicing, device, UINT32_MAX);
    return __builtin_add_overflow(total, scratch, &total) ? UINT64_MAX : total;
}

/* Whether the devices with these bits, and the pool, have room for what they hold. */
static bool fits(const struct slicing *slicing, const struct shares *shares, uint32_t changed) {
    const struct placement_input *input = slicing->input;
    uint64_t pooled = 0;
    bool is_pooled = false;
    for (uint32_t d = 0; d < slicing->devices; d++) {
        bool in_pool = input->devices[d].in_pool;
        is_pooled = is_pooled || (in_pool && (changed >> d & 1));
        if (!(changed >> d & 1))
            continue;
        if (bytes_of(slicing, shares, d, input->devices[d].budget_bytes) > input->devices[d].budget_bytes)
            return false;
    }
    for (uint32_t d = 0; is_pooled && d < slicing->devices; d++)
        pooled += input->devices[d].in_pool ? bytes_of(slicing, shares, d, UINT64_MAX) : 0;
    return pooled <= input->pool_bytes;
}

/* ---- moving single units ---- */

struct option {
    uint32_t counts[PLACEMENT_MAX_DEVICES];
    double seconds;
};

static void consider(const struct slicing *slicing, struct shares *shares, uint32_t unit, const uint32_t *counts,
                     double most, struct option *best) {
    uint32_t *now = counts_of(slicing, shares, unit), before[PLACEMENT_MAX_DEVICES], changed = 0;
    const size_t size = slicing->devices * sizeof *now;
    double seconds = seconds_around(slicing, shares, unit, counts);
    if (seconds >= best->seconds * (1 - 1e-9) || seconds > most)
        return;
    memcpy(before, now, size);
    for (uint32_t d = 0; d < slicing->devices; d++)
        changed |= (uint32_t)(counts[d] != now[d]) << d;
    memcpy(now, counts, size);
    if (fits(slicing, shares, changed)) {
        best->seconds = seconds;
        memcpy(best->counts, counts, size);
    }
    memcpy(now, before, size);
}

static bool may_hold(const struct slicing *slicing, uint32_t device, uint32_t unit) {
    return slicing->input->devices[device].units[unit].allowed;
}

/* Whether two devices can be faster together than the faster one. */
static bool gain_together(const struct slicing *slicing, uint32_t a, uint32_t b) {
    const struct sizing *sizing = slicing->sizing;
    if (!slicing->input->devices[a].in_pool || !slicing->input->devices[b].in_pool)
        return true;
    return !(sizing_device(sizing, a)->type == DEVICE_CPU && sizing_device(sizing, b)->type == DEVICE_CPU) &&
           sizing_rates(sizing, (int32_t)a)->together > 0 && sizing_rates(sizing, (int32_t)b)->together > 0;
}

/* Two devices: as long on both, or less on one of them where memory says so; in no more
 * than `most` seconds. */
static void consider_pair(const struct slicing *slicing, struct shares *shares, uint32_t unit, uint32_t a, uint32_t b,
                          double most, struct option *best) {
    const struct placement_device *devices = slicing->input->devices;
    const uint32_t parts = slicing->parts[unit];
    double first = devices[a].units[unit].seconds, second = devices[b].units[unit].seconds;
    uint32_t even = (uint32_t)(parts * second / (first + second) + 0.5);
    if (parts < 2 || !gain_together(slicing, a, b))
        return;
    even = even < 1 ? 1 : even > parts - 1 ? parts - 1 : even;
    for (int step = 0; step < 9; step++) {
        uint32_t on_a = step < 5 ? even >> step : parts - ((parts - even) >> (step - 4));
        uint32_t counts[PLACEMENT_MAX_DEVICES] = { 0 };
        if (on_a < 1 || on_a > parts - 1)
            continue;
        counts[a] = on_a;
        counts[b] = parts - on_a;
        consider(slicing, shares, unit, counts, most, best);
    }
}

static void move_units(const struct slicing *slicing, struct shares *shares) {
    bool changed = true;
    for (int round = 0; changed && round < ROUNDS; round++) {
        changed = false;
        for (uint32_t u = 0; u < slicing->units; u++) {
            struct option best;
            if (slicing->input->pinned[u] != PLACEMENT_FREE)
                continue;
            const double now = best.seconds = seconds_around(slicing, shares, u, counts_of(slicing, shares, u));
            for (uint32_t i = 0; i < slicing->order_count; i++) {
                uint32_t a = slicing->order[i], whole[PLACEMENT_MAX_DEVICES] = { 0 };
                if (!may_hold(slicing, a, u))
                    continue;
                whole[a] = slicing->parts[u];
                consider(slicing, shares, u, whole, INFINITY, &best);
                for (uint32_t j = i + 1; j < slicing->order_count; j++)
                    if (may_hold(slicing, slicing->order[j], u))
                        consider_pair(slicing, shares, u, a, slicing->order[j], (1 - SLICING_WORTH_OF_UNIT) * now, &best);
            }
            if (best.seconds < now) {
                memcpy(counts_of(slicing, shares, u), best.counts, slicing->devices * sizeof *best.counts);
                changed = true;
            }
        }
    }
    shares->seconds = total_seconds(slicing, shares);
}

/* ---- where to begin ---- */

static bool shares_init(const struct slicing *slicing, struct shares *shares) {
    *shares = (struct shares){ calloc((size_t)slicing->units * slicing->devices, sizeof *shares->counts), INFINITY };
    return shares->counts;
}

/* Pinned units where they are told; what is free is to be shared out. */
static void place_pinned(const struct slicing *slicing, struct shares *shares) {
    memset(shares->counts, 0, (size_t)slicing->units * slicing->devices * sizeof *shares->counts);
    for (uint32_t u = 0; u < slicing->units; u++)
        if (slicing->input->pinned[u] >= 0)
            counts_of(slicing, shares, u)[slicing->input->pinned[u]] = slicing->parts[u];
}

static void begin_whole(const struct slicing *slicing, const struct placement *placement, struct shares *shares) {
    for (uint32_t u = 0; u < slicing->units; u++)
        if (placement->device[u] >= 0)
            counts_of(slicing, shares, u)[placement->device[u]] = slicing->parts[u];
}

/* The share of each device of a set: by speed, none above what its memory holds. False
 * where the memories do not hold everything. */
static bool even_shares(const struct slicing *slicing, const uint32_t *set, uint32_t count, double room,
                        double share[PLACEMENT_MAX_DEVICES]) {
    double speed[PLACEMENT_MAX_DEVICES], most[PLACEMENT_MAX_DEVICES], left = 1;
    bool is_full[PLACEMENT_MAX_DEVICES] = { false };
    for (uint32_t i = 0; i < count; i++) {
        const struct placement_device *device = &slicing->input->devices[set[i]];
        double seconds = 0, bytes = 0;
        uint64_t scratch = device->scratch_bytes[PLACEMENT_KIND_MASKS - 1];
        for (uint32_t u = 0; u < slicing->units; u++) {
            if (slicing->input->pinned[u] != PLACEMENT_FREE)
                continue;
            seconds += device->units[u].seconds;
            bytes += (double)device->units[u].bytes;
        }
        speed[i] = seconds > 0 ? 1 / seconds : 0;
        most[i] = device->budget_bytes > scratch && bytes > 0 ? room * (double)(device->budget_bytes - scratch) / bytes : 0;
        share[i] = 0;
    }
    /* Those that are full leave the others more: at most one becomes full in each turn. */
    for (uint32_t turn = 0; turn <= count && left > 1e-12; turn++) {
        double speeds = 0, rest = left;
        bool any_full = false;
        for (uint32_t i = 0; i < count; i++)
            speeds += is_full[i] ? 0 : speed[i];
        if (!(speeds > 0))
            return false;
        for (uint32_t i = 0; i < count && !any_full; i++)
            if (!is_full[i] && rest * speed[i] / speeds > most[i]) {
                share[i] = most[i];
                is_full[i] = any_full = true;
                left -= most[i];
            }
        for (uint32_t i = 0; i < count && !any_full; i++)
            if (!is_full[i]) {
                share[i] = rest * speed[i] / speeds;
                left = 0;
            }
    }
    return left <= 1e-12;
}

/* Every free unit over the set, in whole parts: what rounding leaves goes to the next unit. */
static bool share_out(const struct slicing *slicing, const uint32_t *set, uint32_t count, const double *share,
                      struct shares *shares) {
    double owed[PLACEMENT_MAX_DEVICES] = { 0 };
    place_pinned(slicing, shares);
    for (uint32_t u = 0; u < slicing->units; u++) {
        uint32_t *counts = counts_of(slicing, shares, u), left = slicing->parts[u];
        if (slicing->input->pinned[u] != PLACEMENT_FREE)
            continue;
        for (uint32_t i = 0; i < count; i++) {
            if (!may_hold(slicing, set[i], u))
                return false;
            owed[i] += share[i] * slicing->parts[u];
            uint32_t whole = owed[i] > 0 ? (uint32_t)owed[i] : 0;
            counts[set[i]] = whole < left ? whole : left;
            owed[i] -= counts[set[i]];
            left -= counts[set[i]];
        }
        while (left--) {
            uint32_t most = 0;
            for (uint32_t i = 1; i < count; i++)
                most = owed[i] > owed[most] ? i : most;
            counts[set[most]]++;
            owed[most] -= 1;
        }
    }
    return true;
}

static void try_set(const struct slicing *slicing, const uint32_t *set, uint32_t count, struct shares *shares) {
    double share[PLACEMENT_MAX_DEVICES];
    const uint32_t all = (uint32_t)((1ull << slicing->devices) - 1);
    shares->seconds = INFINITY;
    for (double room = 1; room > 0.7; room -= 0.04)
        if (even_shares(slicing, set, count, room, share) && share_out(slicing, set, count, share, shares) &&
            fits(slicing, shares, all)) {
            move_units(slicing, shares);
            return;
        }
}

/* The most of the unit's parts that are left which the device has room for. */
static uint32_t fitting_parts(const struct slicing *slicing, struct shares *shares, uint32_t unit, uint32_t device,
                              uint32_t left) {
    uint32_t *counts = counts_of(slicing, shares, unit), fitting = 0;
    uint32_t too_many = may_hold(slicing, device, unit) ? left + 1 : 1;
    while (too_many - fitting > 1) {
        uint32_t middle = fitting + (too_many - fitting) / 2;
        counts[device] = middle;
        *(fits(slicing, shares, 1u << device) ? &fitting : &too_many) = middle;
    }
    return counts[device] = fitting;
}

/* Devices one after the other, each as full as parts allow; or every unit on the first
 * devices that have room, which leaves no holes but makes more hops. */
static void fill_parts(const struct slicing *slicing, struct shares *shares, bool fills_holes) {
    const uint32_t all = (uint32_t)((1ull << slicing->devices) - 1);
    uint32_t current = 0;
    shares->seconds = INFINITY;
    place_pinned(slicing, shares);
    if (!fits(slicing, shares, all))
        return;
    for (uint32_t u = 0; u < slicing->units; u++) {
        uint32_t left = slicing->parts[u];
        if (slicing->input->pinned[u] != PLACEMENT_FREE)
            continue;
        for (uint32_t i = fills_holes ? 0 : current; left && i < slicing->order_count; i++) {
            left -= fitting_parts(slicing, shares, u, slicing->order[i], left);
            current = i;
        }
        if (left)
            return;
    }
    /* The first slice of a unit has more scratch than where it was tried alone. */
    if (fits(slicing, shares, all))
        move_units(slicing, shares);
}

/* ---- the answer ---- */

static bool take(const struct slicing *slicing, const struct shares *shares, struct placement *placement) {
    *placement = (struct placement){ .device = malloc(slicing->units * sizeof *placement->device),
                                     .slices = calloc((size_t)slicing->units * slicing->devices, sizeof *placement->slices),
                                     .seconds = shares->seconds };
    if (!placement->device || !placement->slices) {
        free(placement->device);
        free(placement->slices);
        return false;
    }
    for (uint32_t u = 0; u < slicing->units; u++) {
        const uint32_t *counts = counts_of(slicing, shares, u);
        int32_t place = place_of(slicing, counts);
        for (uint32_t d = slicing->devices; place < 0 && d-- > 0;)
            if (counts[d])
                placement->device[u] = (int32_t)d;
        bool any = false;
        for (uint32_t d = 0; d < slicing->devices; d++) {
            any = any || counts[d];
            if (place < 0 && counts[d])
                placement->slices[placement->slice_count++] = (struct placement_slice){ u, (int32_t)d,
                                                                                        range_of(counts, d) };
        }
        if (place >= 0 || !any)
            placement->device[u] = place;
    }
    return true;
}

static void put_first(struct placement_result *result, struct placement *placement, bool was_feasible) {
    struct placement *alternatives = result->alternatives;
    if (was_feasible) {
        free(alternatives[PLACEMENT_ALTERNATIVES - 1].device);
        free(alternatives[PLACEMENT_ALTERNATIVES - 1].slices);
        memmove(alternatives + 1, alternatives, (PLACEMENT_ALTERNATIVES - 1) * sizeof *alternatives);
        alternatives[0] = result->best;
        if (result->alternative_count < PLACEMENT_ALTERNATIVES)
            result->alternative_count++;
    }
    result->best = *placement;
    result->infeasible = false;
    for (uint32_t i = 0; i < placement->slice_count; i++)
        result->best_with[placement->slices[i].device] = placement->seconds;
}

static bool are_alike(const struct placement_input *input, uint32_t a, uint32_t b) {
    bool alike = input->kinds[a] == input->kinds[b];
    for (uint32_t d = 0; alike && d < input->device_count; d++) {
        const struct placement_unit *one = &input->devices[d].units[a], *other = &input->devices[d].units[b];
        alike = one->bytes == other->bytes && one->seconds == other->seconds;
    }
    return alike;
}

static void find_alike(struct slicing *slicing) {
    for (uint32_t u = 0; u < slicing->units; u++)
        while (slicing->like[u] < u && !(slicing->like[slicing->like[u]] == slicing->like[u] &&
                                         are_alike(slicing->input, slicing->like[u], u)))
            slicing->like[u]++;
}

static bool prepare(struct slicing *slicing, const struct sizing *sizing) {
    const struct placement_input *input = &sizing->input;
    double alone[PLACEMENT_MAX_DEVICES] = { 0 };
    *slicing = (struct slicing){ .sizing = sizing, .input = input, .model = sizing->source->model,
                                 .units = input->unit_count, .devices = input->device_count };
    slicing->parts = calloc(slicing->units, sizeof *slicing->parts);
    slicing->list = calloc(slicing->units, sizeof *slicing->list);
    slicing->known = calloc((size_t)slicing->units * slicing->devices, sizeof *slicing->known);
    slicing->like = calloc(slicing->units, sizeof *slicing->like);
    slicing->seconds = calloc((size_t)slicing->units * slicing->devices, sizeof *slicing->seconds);
    if (!slicing->parts || !slicing->list || !slicing->known || !slicing->like || !slicing->seconds)
        return false;
    find_alike(slicing);
    for (uint32_t u = 0; u < slicing->units; u++) {
        slicing->parts[u] = unit_part_count(slicing->model, unit_at(slicing->model, u));
        for (uint32_t d = 0; d < slicing->devices; d++)
            alone[d] += input->devices[d].units[u].seconds;
    }
    /* In the order of their speed, but `fill` in the order given. */
    bool is_fill = strcmp(sizing->request->policy, "fill") == 0;
    for (uint32_t d = 0; d < slicing->devices; d++) {
        uint32_t place = slicing->order_count++;
        for (; place && !is_fill && alone[slicing->order[place - 1]] > alone[d]; place--)
            slicing->order[place] = slicing->order[place - 1];
        slicing->order[place] = d;
    }
    if (slicing->order_count > MOST_DEVICES)
        slicing->order_count = MOST_DEVICES;
    return true;
}

/* Devices of which each gains with each other, the fastest first. */
static uint32_t gaining_devices(const struct slicing *slicing, uint32_t set[PLACEMENT_MAX_DEVICES]) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < slicing->order_count; i++) {
        bool gains = true;
        for (uint32_t j = 0; j < count; j++)
            gains = gains && gain_together(slicing, set[j], slicing->order[i]);
        if (gains)
            set[count++] = slicing->order[i];
    }
    return count;
}

/* Where it saves `worth` of the time. */
static void keep_better(struct shares *best, struct shares *tried, double worth) {
    if (tried->seconds < (isfinite(best->seconds) ? (1 - worth) * best->seconds : INFINITY)) {
        struct shares swap = *best;
        *best = *tried;
        *tried = swap;
    }
    tried->seconds = INFINITY;
}

bool slicing_improve(const struct sizing *sizing, struct placement_result *result) {
    struct slicing slicing;
    struct shares best = { NULL, INFINITY }, tried = { NULL, INFINITY };
    const bool was_feasible = result->best.device != NULL, is_fill = strcmp(sizing->request->policy, "fill") == 0;
    bool ok = prepare(&slicing, sizing) && shares_init(&slicing, &best) && shares_init(&slicing, &tried);
    if (ok && was_feasible) {
        begin_whole(&slicing, &result->best, &tried);
        move_units(&slicing, &tried);
        keep_better(&best, &tried, 0);
    }
    if (ok && !is_fill) {
        uint32_t set[PLACEMENT_MAX_DEVICES], count = gaining_devices(&slicing, set);
        for (uint32_t most = 2; most <= count; most++) {
            try_set(&slicing, set, most, &tried);
            keep_better(&best, &tried, most == 2 ? SLICING_WORTH_OF_UNIT : SLICING_WORTH_OF_DEVICE);
        }
    }
    if (ok && !was_feasible) {
        fill_parts(&slicing, &tried, false);
        keep_better(&best, &tried, 0);
        fill_parts(&slicing, &tried, true);
        keep_better(&best, &tried, SLICING_WORTH_OF_UNIT);
    }
    struct placement placement;
    if (ok && best.seconds < (was_feasible ? (1 - SLICING_WORTH_IN_ALL) * result->best.seconds : INFINITY) &&
        (ok = take(&slicing, &best, &placement)))
        put_first(result, &placement, was_feasible);
    free(best.counts);
    free(tried.counts);
    free(slicing.parts);
    free(slicing.list);
    free(slicing.known);
    free(slicing.like);
    for (size_t i = 0; slicing.seconds && i < (size_t)slicing.units * slicing.devices; i++)
        free(slicing.seconds[i]);
    free(slicing.seconds);
    return ok && result->best.device;
}
