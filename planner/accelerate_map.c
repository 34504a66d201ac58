#include "planner/accelerate_map.h"

#include <stdlib.h>
#include <string.h>

/* ---- inferring ---- */

struct walk {
    const struct module_tree *tree;
    const struct accelerate_options *options;
    /* Modules still to place, the next one last. */
    uint32_t *queue;               /* [tree->count] */
    uint32_t queued;
    /* The largest layer among them, and the modules that have this size. Stale entries of
     * modules that were placed with a tied partner stay, as in the original. */
    int64_t largest;
    uint32_t *largest_nodes;       /* [tree->count] */
    uint32_t largest_count;
    /* The map, uncleaned. */
    uint32_t *placed;              /* [tree->count] */
    int32_t *devices;              /* [tree->count] */
    uint32_t placed_count;
};

static int64_t size_of(const struct walk *walk, uint32_t node) {
    return (int64_t)walk->tree->nodes[node].bytes;
}

/* A layer: nothing below it, or not to be split. */
static bool is_layer(const struct walk *walk, uint32_t node) {
    return module_is_leaf(walk->tree, node) || (walk->tree->nodes[node].is_block && !walk->options->splits_blocks);
}

static void find_largest(struct walk *walk) {
    walk->largest = 0;
    walk->largest_count = 0;
    for (uint32_t i = walk->queued; i-- > 0;) {
        uint32_t end = walk->tree->nodes[walk->queue[i]].end;
        for (uint32_t node = walk->queue[i]; node < end;) {
            if (!is_layer(walk, node)) {
                node++;
                continue;
            }
            if (size_of(walk, node) > walk->largest) {
                walk->largest = size_of(walk, node);
                walk->largest_count = 0;
            }
            if (size_of(walk, node) == walk->largest)
                walk->largest_nodes[walk->largest_count++] = node;
            node = walk->tree->nodes[node].end;
        }
    }
}

/* `node` is being treated: it no longer counts among what remains. */
static void forget_largest(struct walk *walk, uint32_t node) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < walk->largest_count; i++)
        if (!module_contains(walk->tree, node, walk->largest_nodes[i]))
            walk->largest_nodes[kept++] = walk->largest_nodes[i];
    walk->largest_count = kept;
    if (!kept)
        find_largest(walk);
}

/* Replace the queue's entry `at` by the children of its node. */
static void expand(struct walk *walk, uint32_t at) {
    const struct module_tree *tree = walk->tree;
    uint32_t parent = walk->queue[at], count = 0;
    for (uint32_t child = parent + 1; child < tree->nodes[parent].end; child = tree->nodes[child].end)
        count++;
    memmove(&walk->queue[at + count], &walk->queue[at + 1], (walk->queued - at - 1) * sizeof *walk->queue);
    walk->queued += count - 1;
    uint32_t child = parent + 1;
    for (uint32_t i = count; i-- > 0; child = tree->nodes[child].end)
        walk->queue[at + i] = child;
}

static void take_out(struct walk *walk, uint32_t at) {
    memmove(&walk->queue[at], &walk->queue[at + 1], (walk->queued - at - 1) * sizeof *walk->queue);
    walk->queued--;
}

static void assign(struct walk *walk, uint32_t node, int32_t device) {
    walk->placed[walk->placed_count] = node;
    walk->devices[walk->placed_count++] = device;
}

/* The module outside `node` that shares a tensor with one inside; MODULE_NONE where there is none. */
static uint32_t tied_partner(const struct walk *walk, uint32_t node) {
    const struct module_tree *tree = walk->tree;
    if (tree->tied_owner == MODULE_NONE)
        return MODULE_NONE;
    bool has_owner = module_contains(tree, node, tree->tied_owner);
    bool has_copy = module_contains(tree, node, tree->tied_copy);
    return has_owner == has_copy ? MODULE_NONE : has_owner ? tree->tied_copy : tree->tied_owner;
}

/* Where the queue holds the partner. False where it does not. */
static bool find_in_queue(const struct walk *walk, uint32_t queued, uint32_t partner, uint32_t *at) {
    for (uint32_t i = queued; i-- > 0;) {
        if (module_contains(walk->tree, walk->queue[i], partner)) {
            *at = i;
            return true;
        }
    }
    return false;
}

/* Size of a node with the queue's module that holds its tied partner: the copy, as the
 * owner comes first. The copy has no bytes of its own, so nothing counts twice. */
static int64_t size_with_partner(const struct walk *walk, uint32_t node, uint32_t partner, uint32_t at) {
    return size_of(walk, node) + (partner == MODULE_NONE ? 0 : size_of(walk, walk->queue[at]));
}

static bool lost_partner(const struct walk *walk, uint32_t node, uint32_t partner, struct error *err) {
    return error_set(err, ERROR_USAGE, "no map: '%s' shares its weights with '%s', which is not to be placed any more; "
                     "Accelerate fails here too: give the first device more memory",
                     walk->tree->nodes[node].name, walk->tree->nodes[partner].name);
}

/* Bring the first module of at most `limit` bytes to the front of the queue, depth
 * first. False with err->kind ERROR_NONE where there is none. */
static bool bring_forward(struct walk *walk, int64_t limit, struct error *err) {
    const struct module_tree *tree = walk->tree;
    struct walk search = *walk;
    bool found = false, ok = true;
    uint32_t node = MODULE_NONE;
    search.queue = calloc(tree->count, sizeof *search.queue);
    if (!search.queue)
        return error_set(err, ERROR_FAILED, "cannot make the device map: out of memory");
    memcpy(search.queue, walk->queue, walk->queued * sizeof *walk->queue);
    while (ok && !found && limit >= 0 && search.queued) {
        uint32_t at = 0;
        node = search.queue[--search.queued];
        uint32_t partner = tied_partner(&search, node);
        ok = partner == MODULE_NONE || find_in_queue(&search, search.queued, partner, &at) ||
             lost_partner(walk, node, partner, err);
        found = ok && size_with_partner(&search, node, partner, at) <= limit;
        if (ok && !found && !is_layer(walk, node)) {
            search.queued++;   /* it still lies there */
            expand(&search, search.queued - 1);
        }
    }
    free(search.queue);
    uint32_t at = 0;
    if (!found)
        return false;
    while (find_in_queue(walk, walk->queued, node, &at) && walk->queue[at] != node)
        expand(walk, at);
    take_out(walk, at);
    walk->queue[walk->queued++] = node;
    return true;
}

/* A block that is not to be split stays whole here as well. */
static bool split_partner(struct walk *walk, uint32_t at) {
    if (is_layer(walk, walk->queue[at]))
        return false;
    expand(walk, at);
    return true;
}

/* Treat one module on a device: place it (*used grows), split it, or say that the
 * device is done. */
enum treatment { PLACED, SPLIT, FULL, FAILED };

static enum treatment treat(struct walk *walk, uint32_t node, int32_t device, int64_t limit, int64_t *used,
                            int64_t *needed, struct error *err) {
    uint32_t at = 0, partner = tied_partner(walk, node);
    if (partner != MODULE_NONE && !find_in_queue(walk, walk->queued, partner, &at)) {
        lost_partner(walk, node, partner, err);
        return FAILED;
    }
    *needed = size_with_partner(walk, node, partner, at);
    if (device == DEVICE_MAP_DISK || *used + *needed <= limit) {
        *used += *needed;
        assign(walk, node, device);
        if (partner != MODULE_NONE) {
            assign(walk, walk->queue[at], device);
            take_out(walk, at);
        }
        return PLACED;
    }
    const bool fits_alone = *used + size_of(walk, node) <= limit;
    if (partner != MODULE_NONE && fits_alone && split_partner(walk, at)) {
        walk->queue[walk->queued++] = node;
        find_largest(walk);
        return SPLIT;
    }
    /* Accelerate does not split what would fit without its partner. */
    bool may_split = walk->options->dialect == TRANSFORMERS_5 || *used + size_of(walk, node) >= limit;
    if (may_split && !is_layer(walk, node)) {
        walk->queue[walk->queued++] = node;
        expand(walk, walk->queued - 1);
        find_largest(walk);
        return SPLIT;
    }
    return FULL;
}

/* Does the device keep room for the largest layer? */
static bool keeps_room(const struct accelerate_memory *memory, int32_t device) {
    bool is_first = memory->count && memory->devices[0].device >= 0 && memory->devices[0].device == device;
    return is_first || device == DEVICE_MAP_CPU;
}

static bool place_all(struct walk *walk, const struct accelerate_memory *memory, struct error *err) {
    uint32_t current = 0;
    int64_t used = 0;
    find_largest(walk);
    while (walk->queued) {
        uint32_t node = walk->queue[--walk->queued];
        bool is_last = current == memory->count || memory->devices[current].device == DEVICE_MAP_DISK;
        int32_t device = is_last ? DEVICE_MAP_DISK : memory->devices[current].device;
        int64_t capacity = is_last ? 0 : (int64_t)memory->devices[current].bytes, needed = 0;
        forget_largest(walk, node);
        int64_t reserve = keeps_room(memory, device) ? walk->largest : 0;
        enum treatment treatment = treat(walk, node, device, capacity - reserve, &used, &needed, err);
        if (treatment == FAILED)
            return false;
        if (treatment != FULL)
            continue;
        if (!used && walk->options->fallback_allocation) {
            struct error why = { 0 };
            int64_t spared = walk->largest > needed ? walk->largest : needed;
            if (bring_forward(walk, capacity - spared, &why)) {
                uint32_t found = walk->queue[--walk->queued];
                walk->queue[walk->queued++] = node;
                walk->queue[walk->queued++] = found;
                continue;
            }
            if (why.kind != ERROR_NONE)
                return error_set(err, why.kind, "%s", why.text);
        }
        walk->queue[walk->queued++] = node;
        used = 0;
        current++;
    }
    return true;
}

/* ---- cleaning ---- */

/* Where all entries below a module share a device, one entry for the module takes
 * their place, at the end. Parents first, in the order of the tree. */
static void clean(struct walk *walk) {
    for (uint32_t node = 0; node < walk->tree->count; node++) {
        uint32_t inside = 0, kept = 0;
        int32_t device = 0;
        bool same = true;
        if (module_is_leaf(walk->tree, node))
            continue;
        for (uint32_t i = 0; i < walk->placed_count; i++) {
            if (walk->placed[i] == node || !module_contains(walk->tree, node, walk->placed[i]))
                continue;
            same = same && (!inside || walk->devices[i] == device);
            device = walk->devices[i];
            inside++;
        }
        if (!same || inside < 2)
            continue;
        for (uint32_t i = 0; i < walk->placed_count; i++) {
            if (module_contains(walk->tree, node, walk->placed[i]))
                continue;
            walk->placed[kept] = walk->placed[i];
            walk->devices[kept++] = walk->devices[i];
        }
        walk->placed_count = kept;
        assign(walk, node, device);
    }
}

bool accelerate_infer(const struct module_tree *tree, const struct accelerate_memory *memory,
                      const struct accelerate_options *options, struct device_map *map, struct error *err) {
    struct walk walk = { .tree = tree, .options = options };
    bool ok = false;
    walk.queue = calloc(tree->count, sizeof *walk.queue);
    walk.largest_nodes = calloc(tree->count, sizeof *walk.largest_nodes);
    walk.placed = calloc(tree->count, sizeof *walk.placed);
    walk.devices = calloc(tree->count, sizeof *walk.devices);
    if (!walk.queue || !walk.largest_nodes || !walk.placed || !walk.devices) {
        error_set(err, ERROR_FAILED, "cannot make the device map: out of memory");
        goto cleanup;
    }
    walk.queued = 1;   /* the root, whose children come first of all */
    expand(&walk, 0);
    if (!place_all(&walk, memory, err))
        goto cleanup;
    clean(&walk);
    ok = true;
    for (uint32_t i = 0; ok && i < walk.placed_count; i++) {
        struct device_map_place place = { .device = walk.devices[i] };
        ok = device_map_add(map, tree->nodes[walk.placed[i]].name, place, err);
    }

cleanup:
    free(walk.queue);
    free(walk.largest_nodes);
    free(walk.placed);
    free(walk.devices);
    return ok;
}
