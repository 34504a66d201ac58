/* device_map: which device holds which module, as Accelerate writes it and as
 * people bring it.
 *
 *     {"model.embed_tokens": 0, "model.layers.0": 1, "lm_head": "cpu"}
 *
 * A key stands for everything below it; "" is the whole model. The longest key that
 * is a name or a leading part of it at a dot decides: "model.layers.1" says nothing
 * of model.layers.10. Pure. */
#ifndef PLANNER_DEVICE_MAP_H
#define PLANNER_DEVICE_MAP_H

#include "common/plan.h"
#include "common/text.h"
#include "planner/module_tree.h"

/* Devices are numbers from 0 on, or: */
#define DEVICE_MAP_CPU (-1)
#define DEVICE_MAP_DISK (-2)
#define DEVICE_MAP_NAMED (-3)      /* one of ours, "gpu0", or "host"; see name */

struct device_map_place {
    int32_t device;
    char name[16];                 /* DEVICE_MAP_NAMED; else "" */
};

struct device_map_entry {
    char *key;                     /* owned */
    struct device_map_place place;
};

/* Some of a unit's parts, of a plan that phiplan wrote. */
struct device_map_slice {
    char unit[24];
    uint32_t begin, end;
    struct device_map_place place;
};

struct device_map {
    size_t count, capacity;
    struct device_map_entry *entries;
    struct device_map_slice *slices;   /* [slice_count], owned; their units are entries too, with the place of
                                        * the first part */
    size_t slice_count;
};

void device_map_release(struct device_map *map);       /* then empty */
bool device_map_add(struct device_map *map, const char *key, struct device_map_place place, struct error *err);

/* "0", "cpu", "disk" or the name. */
void device_map_place_text(struct device_map_place place, char text[24]);

/* One line as Python's json.dumps(map) writes it, without a newline. */
void device_map_print(const struct device_map *map, struct text *text);

/* Read a map: Accelerate's object (values: numbers from 0 on, "cpu", "disk", "cuda:0", "xpu:1",
 * ...; besides them names of our devices), or a plan that phiplan wrote as JSON
 * (its units by device, slices such as "attn.3[0:2]" too). Our unit names ("attn.3",
 * "head") are keys as well.
 * `file` is for the sentences. */
bool device_map_read(const char *bytes, size_t size, const char *file, struct device_map *map,
                     struct error *err);

/* The place of every unit. `places` has tree->unit_count entries. A half block runs on
 * one device, so a map that tears its matrices is refused, naming the keys; a norm
 * elsewhere goes where its matrices are, with a line in `notes`. Refused as well: a key
 * that names nothing in the model, a module that no key covers, and "disk". */
bool device_map_resolve(const struct device_map *map, const struct module_tree *tree,
                        struct device_map_place *places, struct text *notes, struct error *err);

/* What a plan in JSON says of its workload, for all that `request` leaves open (0, ""; KV
 * where `takes_kv`), and of its weights. What else it asked for is told in `notes`. Another kind
 * of file says nothing. */
bool device_map_read_request(const char *bytes, size_t size, const char *file, bool takes_kv,
                             struct plan_request *request, struct text *notes, struct error *err);

/* A plan as a map of whole modules: one key for each block that lies on one device,
 * else for its halves. Devices that are no CPU are numbered in the order of the machine's
 * list, as --max-memory and maps number them; a CPU is "cpu". */
bool device_map_from_plan(const struct plan *plan, struct device_map *map, struct error *err);

#endif
