#include "common/weight_choice.h"

#include <stdio.h>
#include <string.h>

static const enum buffer_role matrix_roles[] = { BUFFER_QKV, BUFFER_O, BUFFER_GATE_UP, BUFFER_DOWN, BUFFER_HEAD };

/* The refs of all matrices that can be converted. They point into the model, which the
 * callers that change them own. */
static uint32_t matrices_of(const struct model *model, struct unit unit, struct weight_ref *refs[15]) {
    uint32_t count = 0;
    for (unsigned r = 0; r < sizeof matrix_roles / sizeof *matrix_roles; r++) {
        const struct weight_ref *found[3];
        uint32_t some = unit_matrix_refs(model, unit, matrix_roles[r], found);
        for (uint32_t i = 0; i < some; i++)
            refs[count++] = (struct weight_ref *)(uintptr_t)found[i];
    }
    return count;
}

bool weight_choice_can_make(enum tensor_type type) {
    return type == TENSOR_F16 || type == TENSOR_Q8_0 || type == TENSOR_Q4_0;
}

bool weight_choice_helps(enum tensor_type stored, enum tensor_type type, uint64_t columns) {
    uint64_t before, after;
    if (!weight_choice_can_make(type) || stored == type || !tensor_bytes(stored, 1, columns, &before) || !tensor_bytes(type, 1, columns, &after))
        return false;
    return after < before || (stored == TENSOR_BF16 && type == TENSOR_F16);
}

void model_keep_unit(struct model *model, struct unit unit) {
    struct weight_ref *refs[15];
    uint32_t count = matrices_of(model, unit, refs);
    for (uint32_t i = 0; i < count; i++)
        refs[i]->is_converted = false;
}

void model_keep_all(struct model *model) {
    for (uint32_t u = 0; u < unit_count(model); u++)
        model_keep_unit(model, unit_at(model, u));
}

bool model_convert_unit(struct model *model, struct unit unit, enum tensor_type type) {
    struct weight_ref *refs[15];
    uint32_t count = matrices_of(model, unit, refs);
    bool any = false;
    for (uint32_t i = 0; i < count; i++) {
        refs[i]->converted_type = type;
        refs[i]->is_converted =
            weight_choice_helps(model->tensors[refs[i]->tensor].type, type, refs[i]->column_count);
        any = any || refs[i]->is_converted;
    }
    return any;
}

bool model_unit_conversion(const struct model *model, struct unit unit, enum tensor_type *type) {
    struct weight_ref *refs[15];
    uint32_t count = matrices_of(model, unit, refs);
    for (uint32_t i = 0; i < count; i++)
        if (refs[i]->is_converted) {
            *type = refs[i]->converted_type;
            return true;
        }
    return false;
}

uint64_t model_chosen_bytes(const struct model *model) {
    uint64_t bytes = model_weight_bytes(model);
    for (uint32_t u = 0; u < unit_count(model); u++) {
        struct weight_ref *refs[15];
        uint32_t count = matrices_of(model, unit_at(model, u), refs);
        for (uint32_t i = 0; i < count; i++) {
            struct weight_ref stored = *refs[i];
            if (!stored.is_converted)
                continue;
            stored.is_converted = false;
            bytes += model_ref_bytes(model, refs[i]);
            if (!(unit_at(model, u).kind == UNIT_HEAD && model->tied_head))
                bytes -= model_ref_bytes(model, &stored);
        }
    }
    return bytes;
}

/* ---- the formats of shards ---- */

void shard_format_write(const struct model *model, struct unit unit, enum weight_layout layout, char format[16]) {
    enum tensor_type type;
    if (!model_unit_conversion(model, unit, &type))
        snprintf(format, 16, "%s", weight_layout_name(layout));
    else if (layout == LAYOUT_ROWS)
        snprintf(format, 16, "%s", tensor_type_info(type)->name);
    else
        snprintf(format, 16, "%s/%s", tensor_type_info(type)->name, weight_layout_name(layout));
}

bool shard_format_read(const char *format, bool *is_converted, enum tensor_type *type, enum weight_layout *layout) {
    char name[16];
    const char *slash = strchr(format, '/');
    size_t length = slash ? (size_t)(slash - format) : strlen(format);
    *is_converted = false;
    *layout = LAYOUT_ROWS;
    if (weight_layout_from_name(format, layout))
        return true;
    if (length >= sizeof name)
        return false;
    memcpy(name, format, length);
    name[length] = '\0';
    *is_converted = tensor_type_from_name(name, type) && weight_choice_can_make(*type) &&
                    !strcmp(name, tensor_type_info(*type)->name);
    return *is_converted &&
           (!slash || (weight_layout_from_name(slash + 1, layout) && *layout != LAYOUT_ROWS));
}

/* ---- the type that they have ---- */

void model_stored_bytes(const struct model *model, uint64_t bytes[TENSOR_TYPE_COUNT]) {
    memset(bytes, 0, TENSOR_TYPE_COUNT * sizeof *bytes);
    for (uint32_t i = 0; i < model->tensor_count; i++)
        bytes[model->tensors[i].type] += model->tensors[i].size_bytes;
}

const char *main_weight_type(const struct plan *plan, const uint64_t stored[TENSOR_TYPE_COUNT]) {
    uint64_t kept = 0, converted[TENSOR_TYPE_COUNT] = { 0 };
    for (uint32_t i = 0; plan && i < plan->shard_count; i++) {
        const struct shard *shard = &plan->shards[i];
        enum tensor_type type;
        enum weight_layout layout;
        bool is_converted;
        if (shard->unit && shard_format_read(shard->format, &is_converted, &type, &layout))
            *(is_converted ? &converted[type] : &kept) += shard->weight_bytes;
    }
    const enum tensor_type made = tensor_type_of_most(converted), found = tensor_type_of_most(stored);
    if (converted[made] > kept)
        return tensor_type_info(made)->name;
    return stored[found] ? tensor_type_info(found)->name : NULL;
}

bool model_take_formats(struct model *model, const struct plan *plan, struct error *err) {
    model_keep_all(model);
    for (uint32_t i = 0; i < plan->shard_count; i++) {
        const struct shard *shard = &plan->shards[i];
        enum tensor_type type, made;
        enum weight_layout layout;
        bool is_converted;
        char name[24];
        plan_unit_name(plan->unit_count, shard->unit, name);
        if (shard->unit >= unit_count(model))
            return error_set(err, ERROR_STALE, "the plan has a unit '%s', which model '%s' has not", name,
                             model->name);
        struct unit unit = unit_at(model, shard->unit);
        if (!shard_format_read(shard->format, &is_converted, &type, &layout))
            return error_set(err, ERROR_STALE, "the plan wants '%s' in the format '%s', which is not known", name,
                             shard->format);
        /* Parts of a unit are of one matrix. */
        bool differs = shard->part_begin > 0 &&
                       (model_unit_conversion(model, unit, &made) != is_converted || (is_converted && made != type));
        if (differs || (is_converted && !model_convert_unit(model, unit, type)))
            return error_set(err, ERROR_STALE, "the plan wants '%s' of model '%s' in the format '%s', which it cannot "
                             "have", name, model->name, shard->format);
    }
    return true;
}
