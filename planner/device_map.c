#include "planner/device_map.h"

#include "common/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void device_map_release(struct device_map *map) {
    for (size_t i = 0; i < map->count; i++)
        free(map->entries[i].key);
    free(map->entries);
    free(map->slices);
    *map = (struct device_map){ 0 };
}

bool device_map_add(struct device_map *map, const char *key, struct device_map_place place, struct error *err) {
    if (map->count == map->capacity) {
        size_t capacity = map->capacity ? 2 * map->capacity : 64;
        struct device_map_entry *entries = realloc(map->entries, capacity * sizeof *entries);
        if (!entries)
            return error_set(err, ERROR_FAILED, "cannot keep the device map: out of memory");
        map->entries = entries;
        map->capacity = capacity;
    }
    char *copy = strdup(key);
    if (!copy)
        return error_set(err, ERROR_FAILED, "cannot keep the device map: out of memory");
    map->entries[map->count++] = (struct device_map_entry){ copy, place };
    return true;
}

void device_map_place_text(struct device_map_place place, char text[24]) {
    if (place.device >= 0)
        snprintf(text, 24, "%d", place.device);
    else
        snprintf(text, 24, "%s", place.device == DEVICE_MAP_CPU ? "cpu"
                                 : place.device == DEVICE_MAP_DISK ? "disk" : place.name);
}

void device_map_print(const struct device_map *map, struct text *text) {
    text_append_char(text, '{');
    for (size_t i = 0; i < map->count; i++) {
        char place[24];
        text_append(text, i ? ", " : "");
        json_print_string(map->entries[i].key, text);
        text_append(text, ": ");
        device_map_place_text(map->entries[i].place, place);
        if (map->entries[i].place.device >= 0)
            text_append(text, place);
        else
            json_print_string(place, text);
    }
    text_append_char(text, '}');
}

/* ---- resolving ---- */

static bool same_place(struct device_map_place a, struct device_map_place b) {
    return a.device == b.device && strcmp(a.name, b.name) == 0;
}

struct resolver {
    const struct module_tree *tree;
    const struct device_map *map;
    const struct device_map_entry **by_key;     /* [map->count], sorted */
    const struct module_node **by_name;         /* [tree->count], sorted */
    struct text *notes;
};

static int compare_entries(const void *a, const void *b) {
    return strcmp((*(const struct device_map_entry *const *)a)->key, (*(const struct device_map_entry *const *)b)->key);
}

static int compare_nodes(const void *a, const void *b) {
    return strcmp((*(const struct module_node *const *)a)->name, (*(const struct module_node *const *)b)->name);
}

static int compare_with_entry(const void *name, const void *entry) {
    return strcmp(name, (*(const struct device_map_entry *const *)entry)->key);
}

static int compare_with_node(const void *name, const void *node) {
    return strcmp(name, (*(const struct module_node *const *)node)->name);
}

static const struct device_map_entry *entry_named(const struct resolver *resolver, const char *key) {
    const struct device_map_entry *const *found = bsearch(key, resolver->by_key, resolver->map->count,
                                                          sizeof *resolver->by_key, compare_with_entry);
    return found ? *found : NULL;
}

static const struct module_node *node_named(const struct resolver *resolver, const char *name) {
    const struct module_node *const *found = bsearch(name, resolver->by_name, resolver->tree->count,
                                                     sizeof *resolver->by_name, compare_with_node);
    return found ? *found : NULL;
}

/* The entry of the longest key that is `name` or a leading part of it at a dot. */
static const struct device_map_entry *find_entry(const struct resolver *resolver, const char *name) {
    char part[96];
    snprintf(part, sizeof part, "%s", name);
    for (;;) {
        const struct device_map_entry *entry = entry_named(resolver, part);
        if (entry || !part[0])
            return entry;
        char *dot = strrchr(part, '.');
        *(dot ? dot : part) = '\0';
    }
}

/* Modules of other versions of transformers that hold no weights of ours. */
static bool is_idle_module(const char *key) {
    static const char *const suffixes[] = {
        "rotary_emb", "embed_dropout", "resid_attn_dropout", "resid_mlp_dropout", "act_fn", "activation_fn",
        "inv_freq", "original_inv_freq",
    };
    const char *last = strrchr(key, '.');
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++)
        if (strcmp(last ? last + 1 : key, suffixes[i]) == 0)
            return true;
    return false;
}

static bool is_unit(const struct module_tree *tree, const char *key) {
    char name[24];
    const char *dot = strchr(key, '.');
    uint32_t block = dot ? (uint32_t)strtoul(dot + 1, NULL, 10) : 0;
    const uint32_t last = tree->unit_count - 1;
    if (block >= last / 2)
        return false;
    const uint32_t candidates[] = { 0, last, 1 + 2 * block, 2 + 2 * block };
    for (size_t i = 0; i < sizeof candidates / sizeof *candidates; i++) {
        plan_unit_name(tree->unit_count, candidates[i], name);
        if (strcmp(name, key) == 0)
            return true;
    }
    return false;
}

/* A module, a parameter of one, or a unit. */
static bool names_something(const struct resolver *resolver, const char *key) {
    char module[80];
    if (node_named(resolver, key) || is_unit(resolver->tree, key) || is_idle_module(key))
        return true;
    const char *dot = strrchr(key, '.');
    bool is_parameter = dot && (strcmp(dot, ".weight") == 0 || strcmp(dot, ".bias") == 0);
    if (!is_parameter || (size_t)(dot - key) >= sizeof module)
        return false;
    snprintf(module, sizeof module, "%.*s", (int)(dot - key), key);
    const struct module_node *node = node_named(resolver, module);
    return node && module_is_leaf(resolver->tree, (uint32_t)(node - resolver->tree->nodes));
}

static bool check_keys(const struct resolver *resolver, struct error *err) {
    char unknown[200] = "";
    size_t used = 0, count = 0;
    for (size_t i = 0; i < resolver->map->count; i++) {
        const char *key = resolver->map->entries[i].key;
        if (names_something(resolver, key))
            continue;
        count++;
        if (used + 60 < sizeof unknown)
            used += (size_t)snprintf(unknown + used, sizeof unknown - used, "%s'%.50s'", used ? ", " : "", key);
    }
    if (!count)
        return true;
    return error_set(err, ERROR_USAGE, "%zu %s of the map %s nothing in this model: %s%s; is the map of another model?",
                     count, count == 1 ? "key" : "keys", count == 1 ? "names" : "name", unknown,
                     count > 3 ? ", ..." : "");
}

/* What is known of a unit while its modules are gone through. */
struct unit_state {
    const struct device_map_entry *entry;    /* of its first matrix */
    const struct module_node *first;
    bool torn;
};

/* Name a torn unit's two modules; the first three units are spelled out. */
static void describe_tear(const struct unit_state *state, const char *second, const struct device_map_entry *entry,
                          uint32_t count, struct text *sentence) {
    char one[24], two[24];
    if (count > 3)
        return;
    device_map_place_text(state->entry->place, one);
    device_map_place_text(entry->place, two);
    text_append_format(sentence, "%s'%s' is on %s and '%s' on %s", count > 1 ? "; " : "", state->first->name, one,
                       second, two);
}

/* The entry for a leaf's weight; the copy of a tied pair may be left out of a map. */
static const struct device_map_entry *entry_of_leaf(const struct resolver *resolver, uint32_t leaf) {
    const struct module_tree *tree = resolver->tree;
    char name[80];
    snprintf(name, sizeof name, "%s.weight", tree->nodes[leaf].name);
    const struct device_map_entry *entry = find_entry(resolver, name);
    return entry || leaf != tree->tied_copy ? entry : entry_of_leaf(resolver, tree->tied_owner);
}

/* Matrices decide; all of a unit's on one device. A bias goes with its weight. */
static bool place_matrices(const struct resolver *resolver, struct unit_state *states, struct error *err) {
    const struct module_tree *tree = resolver->tree;
    struct text sentence;
    uint32_t torn = 0;
    text_init(&sentence);
    for (uint32_t i = 0; i < tree->count; i++) {
        const struct module_node *node = &tree->nodes[i];
        if (node->unit == MODULE_NONE || !node->is_matrix)
            continue;
        char name[80];
        struct unit_state *state = &states[node->unit];
        plan_unit_name(tree->unit_count, node->unit, name);
        const struct device_map_entry *entry = entry_named(resolver, name), *bias = NULL;
        bool by_unit = entry != NULL;
        if (!entry)
            entry = entry_of_leaf(resolver, i);
        if (!entry) {
            text_release(&sentence);
            return error_set(err, ERROR_USAGE, "no key of the map covers '%s'; add one, or \"\" for all that is left",
                             node->name);
        }
        if (!by_unit && node->has_bias) {
            snprintf(name, sizeof name, "%s.bias", node->name);
            bias = find_entry(resolver, name);
        }
        if (!state->entry) {
            state->entry = entry;
            state->first = node;
        }
        const char *other = bias && !same_place(state->entry->place, bias->place) ? name : node->name;
        const struct device_map_entry *odd = other == name ? bias : entry;
        if (!state->torn && !same_place(state->entry->place, odd->place)) {
            state->torn = true;
            describe_tear(state, other, odd, ++torn, &sentence);
        }
    }
    if (torn)
        error_set(err, ERROR_USAGE, "the map tears %u half %s, each of which runs on one device: %s%s; a map made with "
                  "no_split_module_classes does not", torn, torn == 1 ? "block" : "blocks", sentence.bytes,
                  torn > 3 ? "; ..." : "");
    text_release(&sentence);
    return !torn;
}

/* Norms cost nothing and run where their unit's matrices are. */
static void note_norms(const struct resolver *resolver, const struct unit_state *states) {
    const struct module_tree *tree = resolver->tree;
    for (uint32_t i = 0; i < tree->count; i++) {
        const struct module_node *node = &tree->nodes[i];
        if (node->unit == MODULE_NONE || node->is_matrix)
            continue;
        const struct device_map_entry *entry = entry_of_leaf(resolver, i);
        const struct unit_state *state = &states[node->unit];
        if (entry && !same_place(entry->place, state->entry->place) && !is_unit(tree, state->entry->key))
            text_append_format(resolver->notes, "'%s' goes with '%s': a norm runs where its matrices are\n", node->name,
                               state->first->name);
    }
}

bool device_map_resolve(const struct device_map *map, const struct module_tree *tree,
                        struct device_map_place *places, struct text *notes, struct error *err) {
    struct resolver resolver = { .tree = tree, .map = map, .notes = notes };
    struct unit_state *states = calloc(tree->unit_count, sizeof *states);
    bool ok = false;
    resolver.by_key = calloc(map->count + 1, sizeof *resolver.by_key);
    resolver.by_name = calloc(tree->count, sizeof *resolver.by_name);
    if (!resolver.by_key || !resolver.by_name || !states) {
        error_set(err, ERROR_FAILED, "cannot apply the device map: out of memory");
        goto cleanup;
    }
    for (size_t i = 0; i < map->count; i++)
        resolver.by_key[i] = &map->entries[i];
    for (uint32_t i = 0; i < tree->count; i++)
        resolver.by_name[i] = &tree->nodes[i];
    qsort(resolver.by_key, map->count, sizeof *resolver.by_key, compare_entries);
    qsort(resolver.by_name, tree->count, sizeof *resolver.by_name, compare_nodes);
    if (!check_keys(&resolver, err) || !place_matrices(&resolver, states, err))
        goto cleanup;
    note_norms(&resolver, states);
    for (uint32_t unit = 0; unit < tree->unit_count; unit++) {
        places[unit] = states[unit].entry->place;
        if (places[unit].device == DEVICE_MAP_DISK) {
            error_set(err, ERROR_USAGE, "the map leaves '%s' on disk (key '%s'), to be read again for every token; phirun "
                      "computes where the weights lie: give the devices or the cpu more memory",
                      states[unit].first->name, states[unit].entry->key);
            goto cleanup;
        }
    }
    ok = true;

cleanup:
    free(resolver.by_key);
    free(resolver.by_name);
    free(states);
    return ok;
}
