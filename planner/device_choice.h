/* device_choice: which devices take part in a plan, in which order, with how much
 * memory. Pure: device list and option strings in, numbers out. */
#ifndef PLANNER_DEVICE_CHOICE_H
#define PLANNER_DEVICE_CHOICE_H

#include "common/host_memory.h"
#include "common/device.h"
#include "common/plan.h"
#include "common/text.h"

struct chosen_device {
    uint32_t index;              /* in the device list */
    uint64_t budget_bytes;
    uint64_t max_buffer_bytes;
};

struct left_out_device {
    uint32_t index;
    char reason[160];
};

struct device_choice {
    uint32_t count;
    struct chosen_device chosen[PLAN_MAX_DEVICES];   /* in the order of --devices, else of the list */
    uint32_t left_out_count;
    struct left_out_device left_out[PLAN_MAX_DEVICES];
    uint64_t pool_bytes;         /* host RAM for all devices with is_cpu_pool together */
};

/* Read --devices, --exclude, --max-memory, --max-buffer, --pin and --forbid of the
 * request (the last two only for the devices that they name). A device that is an
 * alias of a faster one takes part only where it is named. Warnings for people are
 * appended to `notes`, a line each. `memory_bytes` [list->count]: what can really be
 * had of each device; NULL: what it reports. ERROR_USAGE for what makes no sense. */
bool device_choice_make(const struct device_list *list, const uint64_t *memory_bytes,
                        const struct plan_request *request,
                        const struct host_memory *host, struct device_choice *choice,
                        struct text *notes, struct error *err);

/* Apply the patterns of --pin or --forbid ("ffn.*=cpu1,head=gpu0") to unit names.
 * For every unit that matches, `apply` gets the unit and the position in
 * choice->chosen, or -1 for 'host'. A pattern that matches no unit is an error. */
typedef bool pattern_apply(void *context, uint32_t unit, int32_t position, struct error *err);
bool device_choice_patterns(const struct device_list *list, const struct device_choice *choice,
                            const char *option, const char *patterns, uint32_t unit_count,
                            pattern_apply *apply, void *context, struct error *err);

/* Whether the request names a device by name or number, so that it cannot be
 * met without knowing the machine's devices. */
bool device_choice_names_devices(const struct plan_request *request);

/* Whether --devices or --pin names this device of the list. */
bool device_choice_names(const struct device_list *list, const struct plan_request *request, uint32_t index);

/* A name, the number of a device that is not a CPU, or "cpu" for the first CPU. */
bool device_choice_find(const struct device_list *list, const char *name, uint32_t *index, struct error *err);

/* Every word of a list separated by commas. False ends the walk and is returned. */
typedef bool word_visit(void *context, const char *word, struct error *err);
bool each_word(const char *list, word_visit *visit, void *context, struct error *err);

#endif
