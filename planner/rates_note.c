#include "planner/rates_note.h"

#include "common/weight_choice.h"

#include <stdio.h>
#include <string.h>

/* The types of the matrices, as they are and as they might have become. */
static void find_types(const struct model *model, const enum tensor_type *weighed, uint32_t weighed_count,
                       bool types[TENSOR_TYPE_COUNT]) {
    static const enum buffer_role roles[] = { BUFFER_QKV, BUFFER_O, BUFFER_GATE_UP, BUFFER_DOWN, BUFFER_HEAD };
    memset(types, 0, TENSOR_TYPE_COUNT * sizeof *types);
    for (uint32_t u = 1; u < unit_count(model); u++) {
        for (unsigned r = 0; r < sizeof roles / sizeof *roles; r++) {
            const struct weight_ref *refs[3];
            uint32_t count = unit_matrix_refs(model, unit_at(model, u), roles[r], refs);
            for (uint32_t i = 0; i < count; i++) {
                enum tensor_type stored = model->tensors[refs[i]->tensor].type;
                types[weight_ref_type(model, refs[i])] = true;
                for (uint32_t w = 0; w < weighed_count; w++)
                    if (weight_choice_helps(stored, weighed[w], refs[i]->column_count))
                        types[stored] = types[weighed[w]] = true;
            }
        }
    }
}

/* NULL: the plan puts no weights there. */
static const struct device_rates *rates_of(const struct machine *machine, const struct plan_device *device) {
    for (uint32_t d = 0; device->weight_bytes && d < machine->devices.count; d++)
        if (strcmp(machine->devices.devices[d].short_name, device->device.short_name) == 0)
            return &machine->rates[d];
    return NULL;
}

const char *rates_note(const struct machine *machine, const struct model *model, const struct plan *plan,
                       const enum tensor_type *weighed, uint32_t weighed_count, char note[RATES_NOTE_SIZE]) {
    bool types[TENSOR_TYPE_COUNT], missing[TENSOR_TYPE_COUNT] = { false };
    uint32_t count = 0, told = 0;
    if (machine->simulated_from)
        return "for devices that are described, not here (--simulate)";
    if (machine->is_assumed)
        return "for an assumed CPU of ordinary speed: no device was looked at yet (phiplan devices)";
    find_types(model, weighed, weighed_count, types);
    for (uint32_t i = 0; i < plan->device_count; i++) {
        const struct device_rates *rates = rates_of(machine, &plan->devices[i]);
        if (rates && !rates->measured)
            return "from typical speeds: not every device was measured (--probe does)";
        for (unsigned t = 0; rates && t < TENSOR_TYPE_COUNT; t++)
            missing[t] = missing[t] || (types[t] && !rates->knows_format[t]);
    }
    for (unsigned t = 0; t < TENSOR_TYPE_COUNT; t++)
        count += missing[t];
    if (!count)
        return NULL;
    size_t used = (size_t)snprintf(note, RATES_NOTE_SIZE, "from the speeds of other formats: ");
    for (unsigned t = 0; t < TENSOR_TYPE_COUNT && used < RATES_NOTE_SIZE; t++)
        if (missing[t]) {
            const char *before = !told ? "" : told + 1 == count ? " and " : ", ";
            told++;
            used += (size_t)snprintf(note + used, RATES_NOTE_SIZE - used, "%s%s", before,
                                     tensor_type_info((enum tensor_type)t)->name);
        }
    if (used < RATES_NOTE_SIZE)
        snprintf(note + used, RATES_NOTE_SIZE - used, " %s not measured (--probe does)", count > 1 ? "were" : "was");
    return note;
}
