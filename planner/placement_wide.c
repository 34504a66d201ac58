#include "planner/placement_wide.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    PRICE_ROUNDS = 120,
    LABEL_BUDGET = 160000,         /* extensions of labels in all: what bounds the time */
    LEAST_WIDTH = 24,
};
#define NOBODY UINT32_MAX

/* Where one unit may run: its pin, or the devices that take part and may hold it. */
struct choice { uint32_t count; int32_t device[WIDE_DEVICES]; uint8_t slot[WIDE_DEVICES]; };

/* Seconds a byte costs on each device, and one of the shared pool on top. */
struct prices { double device[WIDE_DEVICES], pool; };

struct label {
    double seconds, rank;              /* so far; at least in the end */
    uint64_t bytes[WIDE_DEVICES];      /* of units, pinned ones included */
    uint8_t mask[WIDE_DEVICES];        /* kinds of these units */
    uint32_t parent;                   /* in the unit before */
    uint8_t choice;                    /* of this unit */
};

struct step { uint32_t parent; uint8_t choice; };

struct wide {
    const struct placement_input *input;
    const uint32_t *devices;
    uint32_t device_count, width;
    struct choice *choices;            /* [unit] */
    struct prices prices;
    double *to_go;                     /* [unit][choice]: priced seconds behind it */
    double *plain_to_go;               /* the same at no price */
    uint64_t *bytes_to_go;             /* [unit + 1]: least bytes of the free units from there on */
    int32_t *path;                     /* [unit]: scratch of the pricing */
    int32_t *best;                     /* [unit]: the best map so far */
    double best_seconds;
    struct label *labels, *next;       /* [width], [width * WIDE_DEVICES] */
    uint32_t label_count, next_count;
    uint32_t *table, table_mask;       /* of the labels in `next`, by their content */
    double *ranks;                     /* scratch of the selection */
    struct step *steps;                /* [unit][width] */
    bool gave_up;
};

static double unit_seconds(const struct wide *wide, int32_t device, uint32_t unit) {
    return device < 0 ? 0 : wide->input->devices[device].units[unit].seconds;
}

/* Seconds and price of the unit there; pinned units are paid for from the start. */
static double priced(const struct wide *wide, const struct prices *prices, uint32_t unit, uint32_t k) {
    const struct choice *choice = &wide->choices[unit];
    double seconds = unit_seconds(wide, choice->device[k], unit);
    if (wide->input->pinned[unit] != PLACEMENT_FREE)
        return seconds;
    const struct placement_device *device = &wide->input->devices[choice->device[k]];
    double price = prices->device[choice->slot[k]] + (device->in_pool ? prices->pool : 0);
    return seconds + price * (double)device->units[unit].bytes;
}

/* Shortest way from each choice of each unit to the end. */
static void price_paths(const struct wide *wide, const struct prices *prices, double *to_go) {
    const struct placement_input *input = wide->input;
    const uint32_t last = input->unit_count - 1;
    for (uint32_t k = 0; k < wide->choices[last].count; k++)
        to_go[last * WIDE_DEVICES + k] = placement_hop(input, wide->choices[last].device[k], PLACEMENT_HOST);
    for (uint32_t u = last; u-- > 0;) {
        const struct choice *from = &wide->choices[u], *to = &wide->choices[u + 1];
        double there[WIDE_DEVICES];
        for (uint32_t k = 0; k < to->count; k++)
            there[k] = priced(wide, prices, u + 1, k) + to_go[(u + 1) * WIDE_DEVICES + k];
        for (uint32_t j = 0; j < from->count; j++) {
            double least = INFINITY;
            for (uint32_t k = 0; k < to->count; k++) {
                double seconds = placement_hop(input, from->device[j], to->device[k]) + there[k];
                least = seconds < least ? seconds : least;
            }
            to_go[u * WIDE_DEVICES + j] = least;
        }
    }
}

/* The shortest path into wide->path; its priced seconds. */
static double follow_path(const struct wide *wide, const struct prices *prices, const double *to_go) {
    const struct placement_input *input = wide->input;
    int32_t at = PLACEMENT_HOST;
    double total = INFINITY;
    for (uint32_t u = 0; u < input->unit_count; u++) {
        const struct choice *choice = &wide->choices[u];
        double least = INFINITY;
        uint32_t best = 0;
        for (uint32_t k = 0; k < choice->count; k++) {
            double seconds = placement_hop(input, at, choice->device[k]) + priced(wide, prices, u, k) +
                             to_go[u * WIDE_DEVICES + k];
            if (seconds < least) {
                least = seconds;
                best = k;
            }
        }
        total = u ? total : least;
        at = wide->path[u] = choice->device[best];
    }
    return total;
}

/* ---- memory ---- */

struct room { double device[WIDE_DEVICES], pool; };   /* negative: too much is taken */

static uint64_t footprint(const struct wide *wide, const struct label *label, uint32_t slot) {
    return label->bytes[slot] + wide->input->devices[wide->devices[slot]].scratch_bytes[label->mask[slot]];
}

static struct room room_beside(const struct wide *wide, const struct label *label, double pool_taken_elsewhere) {
    struct room room = { .pool = (double)wide->input->pool_bytes - pool_taken_elsewhere };
    for (uint32_t s = 0; s < wide->device_count; s++) {
        const struct placement_device *device = &wide->input->devices[wide->devices[s]];
        double taken = (double)footprint(wide, label, s);
        room.device[s] = (double)device->budget_bytes - taken;
        if (device->in_pool)
            room.pool -= taken;
    }
    return room;
}

/* Bytes of the pool on devices that hold pinned units and do not take part otherwise. */
static double pool_elsewhere(const struct wide *wide) {
    double bytes = 0;
    for (uint32_t d = 0; d < wide->input->device_count; d++) {
        uint32_t mask;
        uint64_t pinned = placement_pinned_bytes(wide->input, d, &mask);
        bool takes_part = false;
        for (uint32_t s = 0; s < wide->device_count; s++)
            takes_part = takes_part || wide->devices[s] == d;
        if (!takes_part && wide->input->devices[d].in_pool)
            bytes += (double)(pinned + wide->input->devices[d].scratch_bytes[mask]);
    }
    return bytes;
}

static bool fits(const struct wide *wide, const int32_t *map) {
    struct placement placement = { .device = (int32_t *)map };
    uint64_t pool = 0;
    for (uint32_t d = 0; d < wide->input->device_count; d++) {
        uint64_t bytes = placement_bytes(wide->input, &placement, d);
        if (bytes > wide->input->devices[d].budget_bytes)
            return false;
        pool += wide->input->devices[d].in_pool ? bytes : 0;
    }
    return pool <= wide->input->pool_bytes;
}

static bool uses_required(const struct wide *wide, const int32_t *map) {
    uint32_t used = 0;
    for (uint32_t u = 0; u < wide->input->unit_count; u++)
        if (map[u] >= 0)
            used |= 1u << map[u];
    return (used & wide->input->required) == wide->input->required;
}

static void consider(struct wide *wide, const int32_t *map) {
    double seconds = placement_seconds(wide->input, map);
    if (seconds < wide->best_seconds && uses_required(wide, map) && fits(wide, map)) {
        memcpy(wide->best, map, wide->input->unit_count * sizeof *map);
        wide->best_seconds = seconds;
    }
}

/* ---- prices ---- */

static double worth(const struct wide *wide, const struct prices *prices, const struct room *room) {
    double seconds = prices->pool * room->pool;
    for (uint32_t s = 0; s < wide->device_count; s++)
        seconds += prices->device[s] * room->device[s];
    return seconds;
}

/* How far the path exceeds each room, as parts of `unit` bytes; scratch counts, though no price bounds it. */
static struct room excess(const struct wide *wide, const struct label *start, double unit) {
    struct label taken = *start;
    for (uint32_t u = 0; u < wide->input->unit_count; u++) {
        if (wide->input->pinned[u] != PLACEMENT_FREE)
            continue;
        for (uint32_t s = 0; s < wide->device_count; s++) {
            if ((int32_t)wide->devices[s] == wide->path[u]) {
                taken.bytes[s] += wide->input->devices[wide->path[u]].units[u].bytes;
                taken.mask[s] |= (uint8_t)(1u << wide->input->kinds[u]);
            }
        }
    }
    struct room room = room_beside(wide, &taken, pool_elsewhere(wide));
    for (uint32_t s = 0; s < wide->device_count; s++)
        room.device[s] /= -unit;
    room.pool /= -unit;
    return room;
}

static double raised(double price, double step) {
    return price + step > 0 ? price + step : 0;
}

/* Subgradient steps: what is exceeded becomes dearer. Leaves the prices of the best bound in wide->prices,
 * and every path on the way that fits is a map to consider. Returns that bound. */
static double find_prices(struct wide *wide, const struct label *start) {
    const struct room room = room_beside(wide, start, pool_elsewhere(wide));
    const double unit = (double)wide->bytes_to_go[0] + 1;
    struct prices prices = { { 0 }, 0 };
    double best = -INFINITY, pace = 1;
    uint32_t stalled = 0;
    for (uint32_t round = 0; round < PRICE_ROUNDS; round++) {
        price_paths(wide, &prices, wide->to_go);
        if (round == 0)
            memcpy(wide->plain_to_go, wide->to_go, wide->input->unit_count * WIDE_DEVICES * sizeof *wide->to_go);
        double bound = follow_path(wide, &prices, wide->to_go) - worth(wide, &prices, &room);
        consider(wide, wide->path);
        if (bound > best) {
            best = bound;
            wide->prices = prices;
            stalled = 0;
        } else if (++stalled == 5) {
            pace /= 2;
            stalled = 0;
        }
        struct room over = excess(wide, start, unit);
        double length = over.pool > 0 || prices.pool > 0 ? over.pool * over.pool : 0;
        for (uint32_t s = 0; s < wide->device_count; s++)
            length += over.device[s] > 0 || prices.device[s] > 0 ? over.device[s] * over.device[s] : 0;
        /* A map so far away that none is known yet: half as long again as the bound. */
        double goal = isfinite(wide->best_seconds) ? wide->best_seconds : 1.5 * fabs(bound);
        double step = pace * (goal > bound ? goal - bound : 0.01 * fabs(bound)) / (length > 1e-12 ? length : 1e-12) / unit;
        for (uint32_t s = 0; s < wide->device_count; s++)
            prices.device[s] = raised(prices.device[s], step * over.device[s]);
        prices.pool = raised(prices.pool, step * over.pool);
    }
    price_paths(wide, &wide->prices, wide->to_go);
    return best;
}

/* ---- labels ---- */

static bool is_same(const struct label *a, const struct label *b) {
    return a->choice == b->choice && memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0 &&
           memcmp(a->mask, b->mask, sizeof a->mask) == 0;
}

static uint32_t hash_of(const struct label *label) {
    uint64_t hash = label->choice + 1u;
    for (uint32_t s = 0; s < WIDE_DEVICES; s++)
        hash = (hash ^ (label->bytes[s] * 16 + label->mask[s])) * 0x9e3779b97f4a7c15u, hash ^= hash >> 29;
    return (uint32_t)hash;
}

/* Of labels that took the same memory and stand at the same device the fastest is enough. */
static void add_label(struct wide *wide, const struct label *label) {
    uint32_t slot = hash_of(label) & wide->table_mask;
    for (; wide->table[slot] != NOBODY; slot = (slot + 1) & wide->table_mask) {
        struct label *other = &wide->next[wide->table[slot]];
        if (is_same(other, label)) {
            if (label->seconds < other->seconds)
                *other = *label;
            return;
        }
    }
    wide->table[slot] = wide->next_count;
    wide->next[wide->next_count++] = *label;
}

/* Whether what is left can hold the units that are left; also sets the label's rank. */
static bool is_hopeful(const struct wide *wide, struct label *label, uint32_t unit, double elsewhere) {
    struct room room = room_beside(wide, label, elsewhere);
    double apart = 0, pooled = 0;
    if (room.pool < 0)
        return false;
    for (uint32_t s = 0; s < wide->device_count; s++) {
        if (room.device[s] < 0)
            return false;
        *(wide->input->devices[wide->devices[s]].in_pool ? &pooled : &apart) += room.device[s];
    }
    if (apart + (pooled < room.pool ? pooled : room.pool) < (double)wide->bytes_to_go[unit + 1])
        return false;
    double bound = label->seconds + wide->to_go[unit * WIDE_DEVICES + label->choice] - worth(wide, &wide->prices, &room);
    double plain = label->seconds + wide->plain_to_go[unit * WIDE_DEVICES + label->choice];
    label->rank = bound > plain ? bound : plain;
    return label->rank < wide->best_seconds * (1 - 1e-9);
}

static void extend(struct wide *wide, uint32_t index, uint32_t unit, double elsewhere) {
    const struct placement_input *input = wide->input;
    const struct choice *choice = &wide->choices[unit];
    const struct label *from = &wide->labels[index];
    int32_t at = unit ? wide->choices[unit - 1].device[from->choice] : PLACEMENT_HOST;
    for (uint32_t k = 0; k < choice->count; k++) {
        struct label label = *from;
        int32_t to = choice->device[k];
        label.parent = index;
        label.choice = (uint8_t)k;
        label.seconds += placement_hop(input, at, to) + unit_seconds(wide, to, unit);
        if (input->pinned[unit] == PLACEMENT_FREE) {
            label.bytes[choice->slot[k]] += input->devices[to].units[unit].bytes;
            label.mask[choice->slot[k]] |= (uint8_t)(1u << input->kinds[unit]);
        }
        if (is_hopeful(wide, &label, unit, elsewhere))
            add_label(wide, &label);
    }
}

/* The n-th smallest, counting from 0; reorders the values. */
static double nth_smallest(double *values, uint32_t count, uint32_t n) {
    uint32_t low = 0, high = count - 1;
    while (low < high) {
        double pivot = values[low + (high - low) / 2];
        uint32_t i = low, j = high;
        while (i <= j) {
            while (values[i] < pivot)
                i++;
            while (values[j] > pivot)
                j--;
            if (i <= j) {
                double swap = values[i];
                values[i++] = values[j];
                values[j] = swap;
                if (j == 0)
                    break;
                j--;
            }
        }
        if (n <= j)
            high = j;
        else if (n >= i)
            low = i;
        else
            break;
    }
    return values[n];
}

/* Keep the labels of least rank, in the order in which they were made. */
static void select_labels(struct wide *wide, uint32_t unit) {
    double limit = INFINITY;
    if (wide->next_count > wide->width) {
        for (uint32_t i = 0; i < wide->next_count; i++)
            wide->ranks[i] = wide->next[i].rank;
        limit = nth_smallest(wide->ranks, wide->next_count, wide->width - 1);
        wide->gave_up = true;
    }
    wide->label_count = 0;
    for (int pass = 0; pass < 2; pass++) {   /* of those that rank the same, as many as there is room for */
        for (uint32_t i = 0; i < wide->next_count && wide->label_count < wide->width; i++) {
            const struct label *label = &wide->next[i];
            if (pass == 0 ? label->rank < limit : label->rank == limit) {
                wide->steps[(size_t)unit * wide->width + wide->label_count] = (struct step){ label->parent, label->choice };
                wide->labels[wide->label_count++] = *label;
            }
        }
    }
}

static void search_labels(struct wide *wide, const struct label *start) {
    const uint32_t units = wide->input->unit_count;
    const double elsewhere = pool_elsewhere(wide);
    wide->labels[0] = *start;
    wide->label_count = 1;
    for (uint32_t u = 0; u < units && wide->label_count; u++) {
        wide->next_count = 0;
        memset(wide->table, 0xff, ((size_t)wide->table_mask + 1) * sizeof *wide->table);
        for (uint32_t i = 0; i < wide->label_count; i++)
            extend(wide, i, u, elsewhere);
        select_labels(wide, u);
    }
    for (uint32_t i = 0; i < wide->label_count; i++) {
        uint32_t at = i;
        if (wide->labels[i].rank >= wide->best_seconds)
            continue;
        for (uint32_t u = units; u-- > 0;) {
            const struct step *step = &wide->steps[(size_t)u * wide->width + at];
            wide->path[u] = wide->choices[u].device[step->choice];
            at = step->parent;
        }
        consider(wide, wide->path);
    }
}

/* ---- a last look around ---- */

enum { MOST_VISITS = 1300000 };        /* of units in the maps tried: bounds the time, to some 5 ms */

/* Try a change of the best map, which is in wide->path before and after. */
static bool try_change(struct wide *wide) {
    double before = wide->best_seconds;
    consider(wide, wide->path);
    if (wide->best_seconds < before)
        return true;
    memcpy(wide->path, wide->best, wide->input->unit_count * sizeof *wide->path);
    return false;
}

static bool may_hold(const struct wide *wide, uint32_t unit, int32_t device) {
    return wide->input->pinned[unit] == PLACEMENT_FREE && wide->input->devices[device].units[unit].allowed;
}

/* Of the units [begin, end) those of `step` 1, or every other one, to a device. False: nothing would change. */
static bool move_units(const struct wide *wide, uint32_t begin, uint32_t end, uint32_t step, int32_t device) {
    bool changed = false;
    for (uint32_t u = begin; u < end; u += step) {
        if (!may_hold(wide, u, device))
            return false;
        changed = changed || wide->path[u] != device;
        wide->path[u] = device;
    }
    return changed;
}

/* Moves of a stretch of units, of its attention or feed-forward halves alone, and exchanges of two units,
 * as long as one helps: where labels were given up, the best of those kept is often such a step away. */
static void look_around(struct wide *wide) {
    const uint32_t units = wide->input->unit_count, most_looks = MOST_VISITS / units;
    uint32_t looks = 0;
    for (bool better = true; better;) {
        better = false;
        memcpy(wide->path, wide->best, units * sizeof *wide->path);
        for (uint32_t a = 0; a < units; a++) {
            for (uint32_t b = a + 1; b < units; b++) {
                int32_t from = wide->path[a], to = wide->path[b];
                if (from == to || from < 0 || to < 0 || !may_hold(wide, a, to) || !may_hold(wide, b, from))
                    continue;
                wide->path[a] = to;
                wide->path[b] = from;
                better = try_change(wide) || better;
                if (++looks >= most_looks)
                    return;
            }
        }
        for (uint32_t length = 1; length < units; length++) {
            for (uint32_t begin = 0; begin + length <= units; begin++) {
                for (uint32_t choice = 0; choice < 2 * wide->device_count; choice++) {
                    int32_t device = (int32_t)wide->devices[choice / 2];
                    if (!move_units(wide, begin, begin + length, 1 + choice % 2, device)) {
                        memcpy(wide->path, wide->best, units * sizeof *wide->path);
                        continue;
                    }
                    better = try_change(wide) || better;
                    if (++looks >= most_looks)
                        return;
                }
            }
        }
    }
}

/* ---- the whole ---- */

/* False: some unit can run nowhere. */
static bool list_choices(struct wide *wide) {
    const struct placement_input *input = wide->input;
    for (uint32_t u = input->unit_count; u-- > 0;) {
        struct choice *choice = &wide->choices[u];
        uint64_t least = UINT64_MAX;
        wide->bytes_to_go[u] = wide->bytes_to_go[u + 1];
        if (input->pinned[u] != PLACEMENT_FREE) {
            *choice = (struct choice){ .count = 1, .device = { input->pinned[u] } };
            continue;
        }
        for (uint32_t s = 0; s < wide->device_count; s++) {
            const struct placement_unit *unit = &input->devices[wide->devices[s]].units[u];
            if (!unit->allowed)
                continue;
            choice->device[choice->count] = (int32_t)wide->devices[s];
            choice->slot[choice->count++] = (uint8_t)s;
            least = unit->bytes < least ? unit->bytes : least;
        }
        if (!choice->count)
            return false;
        wide->bytes_to_go[u] += least;
    }
    return true;
}

static bool allocate(struct wide *wide) {
    const size_t units = wide->input->unit_count;
    uint32_t width = LABEL_BUDGET / (uint32_t)units / wide->device_count, table = 1;
    wide->width = width > LEAST_WIDTH ? width : LEAST_WIDTH;
    while (table < 2 * wide->width * wide->device_count)
        table *= 2;
    wide->table_mask = table - 1;
    wide->choices = calloc(units, sizeof *wide->choices);
    wide->to_go = calloc(units * WIDE_DEVICES, sizeof *wide->to_go);
    wide->plain_to_go = calloc(units * WIDE_DEVICES, sizeof *wide->plain_to_go);
    wide->bytes_to_go = calloc(units + 1, sizeof *wide->bytes_to_go);
    wide->path = calloc(units, sizeof *wide->path);
    wide->best = calloc(units, sizeof *wide->best);
    wide->labels = malloc((size_t)wide->width * sizeof *wide->labels);
    wide->next = malloc((size_t)wide->width * wide->device_count * sizeof *wide->next);
    wide->ranks = malloc((size_t)wide->width * wide->device_count * sizeof *wide->ranks);
    wide->table = malloc((size_t)table * sizeof *wide->table);
    wide->steps = malloc(units * wide->width * sizeof *wide->steps);
    return wide->choices && wide->to_go && wide->plain_to_go && wide->bytes_to_go && wide->path && wide->best &&
           wide->labels && wide->next && wide->ranks && wide->table && wide->steps;
}

static void release(struct wide *wide) {
    free(wide->choices);
    free(wide->to_go);
    free(wide->plain_to_go);
    free(wide->bytes_to_go);
    free(wide->path);
    free(wide->best);
    free(wide->labels);
    free(wide->next);
    free(wide->ranks);
    free(wide->table);
    free(wide->steps);
}

bool placement_wide(const struct placement_input *input, const uint32_t *devices, uint32_t device_count,
                    double below, struct wide_answer *answer, struct error *err) {
    struct wide wide = { .input = input, .devices = devices, .device_count = device_count, .best_seconds = below };
    *answer = (struct wide_answer){ .seconds = below, .least_seconds = below, .is_exact = true };
    bool ok = allocate(&wide) || error_set(err, ERROR_FAILED, "cannot search the placements: out of memory; "
                                           "name fewer devices with --devices");
    if (ok && list_choices(&wide)) {
        struct label start = { .parent = NOBODY };
        for (uint32_t s = 0; s < device_count; s++) {
            uint32_t mask;
            start.bytes[s] = placement_pinned_bytes(input, devices[s], &mask);
            start.mask[s] = (uint8_t)mask;
        }
        answer->least_seconds = find_prices(&wide, &start);
        if (answer->least_seconds < wide.best_seconds)
            search_labels(&wide, &start);
        if (wide.gave_up && wide.best_seconds < below)
            look_around(&wide);
        answer->is_exact = !wide.gave_up;
        if (wide.best_seconds < below) {
            answer->device = wide.best;
            answer->seconds = wide.best_seconds;
            wide.best = NULL;
        }
    }
    release(&wide);
    return ok;
}
