#include "common/model_build.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool out_of_memory(const struct model_builder *builder, struct error *err) {
    return error_set(err, ERROR_FAILED, "cannot open '%s': out of memory", builder->path);
}

/* Room for one more item in an array that doubles. */
static bool make_room(void **items, uint32_t count, uint32_t *capacity, size_t item_size) {
    if (count < *capacity)
        return true;
    uint32_t wanted = *capacity ? *capacity * 2 : 64;
    void *grown = wanted > *capacity ? reallocarray(*items, wanted, item_size) : NULL;
    if (!grown)
        return false;
    *items = grown;
    *capacity = wanted;
    return true;
}

bool model_add_file(struct model_builder *builder, const char *path, const char *name, uint64_t size_bytes,
                    struct error *err) {
    struct model *model = builder->model;
    void *files = model->files;
    if (!make_room(&files, model->file_count, &builder->file_capacity, sizeof *model->files))
        return out_of_memory(builder, err);
    model->files = files;
    struct model_file *file = &model->files[model->file_count++];
    *file = (struct model_file){ .path = strdup(path), .name = strdup(name), .size_bytes = size_bytes };
    return (file->path && file->name) || out_of_memory(builder, err);
}

bool model_add_tensor(struct model_builder *builder, const char *name, size_t name_length,
                      enum tensor_type type, uint64_t rows, uint64_t columns, uint64_t offset,
                      uint64_t size_bytes, struct error *err) {
    struct model *model = builder->model;
    void *tensors = model->tensors;
    if (!make_room(&tensors, model->tensor_count, &builder->tensor_capacity, sizeof *model->tensors))
        return out_of_memory(builder, err);
    model->tensors = tensors;
    struct model_tensor *tensor = &model->tensors[model->tensor_count++];
    *tensor = (struct model_tensor){
        .name = strndup(name, name_length), .type = type, .rows = rows, .columns = columns,
        .file = model->file_count ? model->file_count - 1 : 0, .offset = offset, .size_bytes = size_bytes };
    return tensor->name || out_of_memory(builder, err);
}

bool model_add_eos(struct model *model, int64_t id, const char *path, struct error *err) {
    if (id < 0 || id > INT32_MAX)
        return error_set(err, ERROR_FAILED, "'%s' gives %lld as the id of an end token", path, (long long)id);
    for (uint32_t i = 0; i < model->eos_count; i++)
        if (model->eos_ids[i] == id)
            return true;
    if (model->eos_count == MODEL_MAX_EOS)
        return error_set(err, ERROR_FAILED, "'%s' has more than %d end tokens", path, MODEL_MAX_EOS);
    model->eos_ids[model->eos_count++] = id;
    return true;
}

/* ---- limits ---- */

/* Far above every model of these architectures, and low enough that products of
 * any three of these numbers fit 64 bits. */
enum { WIDTH_LIMIT = 1 << 20, VOCAB_LIMIT = 1 << 24 };

static bool within(const struct model_builder *builder, const char *what, uint64_t value, uint64_t limit,
                   struct error *err) {
    if (value >= 1 && value <= limit)
        return true;
    if (value == 0)
        return error_set(err, ERROR_FAILED, "'%s' gives no %s, or 0", builder->path, what);
    return error_set(err, ERROR_FAILED, "'%s' gives %" PRIu64 " as %s; at most %" PRIu64 " is supported",
                     builder->path, value, what, limit);
}

bool model_check_rope(const struct model_builder *builder, struct error *err) {
    const struct rope_parameters *rope = &builder->model->rope;
    const uint32_t half = rope->rotary_dim / 2;
    if (rope->rotary_dim < 2 || rope->rotary_dim % 2 || rope->rotary_dim > builder->model->head_dim)
        return error_set(err, ERROR_FAILED, "'%s' rotates %u of %u dimensions of a head; an even number from 2 on "
                         "is supported", builder->path, rope->rotary_dim, builder->model->head_dim);
    if (!isfinite(rope->theta) || rope->theta <= 0 || !isfinite(rope->attention_factor)
        || rope->attention_factor <= 0)
        return error_set(err, ERROR_FAILED, "'%s' has a rope base or attention factor that is not above 0",
                         builder->path);
    if (rope->scaling == ROPE_LONGROPE && !rope->original_context)
        return error_set(err, ERROR_FAILED, "'%s' has longrope scaling without an original context length",
                         builder->path);
    if ((rope->short_factors && !rope_factors_are_sound(rope->short_factors, half))
        || (rope->long_factors && !rope_factors_are_sound(rope->long_factors, half)))
        return error_set(err, ERROR_FAILED, "'%s' has rope factors that are not above 0", builder->path);
    return true;
}

bool model_check_sizes(const struct model_builder *builder, struct error *err) {
    const struct model *model = builder->model;
    if (!within(builder, "number of blocks", model->block_count, MODEL_MAX_BLOCKS, err)
        || !within(builder, "hidden size", model->hidden_size, WIDTH_LIMIT, err)
        || !within(builder, "intermediate size", model->intermediate_size, WIDTH_LIMIT, err)
        || !within(builder, "number of heads", model->head_count, WIDTH_LIMIT, err)
        || !within(builder, "number of KV heads", model->kv_head_count, model->head_count, err)
        || !within(builder, "head dimension", model->head_dim, WIDTH_LIMIT, err)
        || !within(builder, "width of all heads", (uint64_t)model->head_count * model->head_dim, WIDTH_LIMIT, err)
        || !within(builder, "vocabulary size", model->vocab_size, VOCAB_LIMIT, err)
        || !within(builder, "context length", model->max_context, INT32_MAX, err))
        return false;
    if (model->head_count % model->kv_head_count)
        return error_set(err, ERROR_FAILED, "'%s' has %u heads, which %u KV heads cannot share evenly",
                         builder->path, model->head_count, model->kv_head_count);
    if (!isfinite(model->norm_epsilon) || model->norm_epsilon < 0)
        return error_set(err, ERROR_FAILED, "'%s' has a norm epsilon below 0", builder->path);
    return true;
}

/* ---- roles ---- */

struct shape { uint64_t rows, columns; };

static struct shape role_shape(const struct model *model, enum block_role role) {
    const uint64_t hidden = model->hidden_size, inner = model->intermediate_size, head = model->head_dim;
    const uint64_t query = head * model->head_count, key = head * model->kv_head_count;
    switch (role) {
    case ROLE_Q: return (struct shape){ query, hidden };
    case ROLE_K:
    case ROLE_V: return (struct shape){ key, hidden };
    case ROLE_Q_BIAS: return (struct shape){ 1, query };
    case ROLE_K_BIAS:
    case ROLE_V_BIAS: return (struct shape){ 1, key };
    case ROLE_Q_NORM:
    case ROLE_K_NORM: return (struct shape){ 1, head };
    case ROLE_O: return (struct shape){ hidden, query };
    case ROLE_GATE:
    case ROLE_UP: return (struct shape){ inner, hidden };
    case ROLE_DOWN: return (struct shape){ hidden, inner };
    default: break;
    }
    return (struct shape){ 1, hidden };   /* norms */
}

static void block_name(char name[128], const char *pattern, uint32_t block) {
    snprintf(name, 128, pattern, block);
}

/* One past the last role that shares the tensor of `first`: their rows lie one
 * after the other. */
static unsigned end_of_group(const struct tensor_names *names, unsigned first) {
    unsigned end = first + 1;
    while (end < BLOCK_ROLE_COUNT && names->block[end] && strcmp(names->block[end], names->block[first]) == 0)
        end++;
    return end;
}

static int compare_names(const void *a, const void *b, void *context) {
    const struct model *model = context;
    return strcmp(model->tensors[*(const uint32_t *)a].name, model->tensors[*(const uint32_t *)b].name);
}

static uint32_t find_tensor(const struct model_builder *builder, const char *name) {
    const struct model *model = builder->model;
    uint32_t low = 0, high = model->tensor_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = strcmp(model->tensors[builder->by_name[middle]].name, name);
        if (order == 0)
            return builder->by_name[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return MODEL_NO_TENSOR;
}

/* The tensor of that name, with exactly this shape. */
static bool bind(struct model_builder *builder, const char *name, struct shape shape, struct weight_ref *ref,
                 struct error *err) {
    const struct model *model = builder->model;
    uint32_t index = find_tensor(builder, name);
    if (index == MODEL_NO_TENSOR && builder->unusable_name[0])
        return error_set(err, ERROR_FAILED, "'%s' has no usable tensor '%s': '%s' is stored as %s, which is not "
                         "supported; take a checkpoint of F32, F16 or BF16, or a GGUF file", builder->path, name,
                         builder->unusable_name, builder->unusable_type);
    if (index == MODEL_NO_TENSOR)
        return error_set(err, ERROR_FAILED, "'%s' has no tensor '%s' of float32, float16 or bfloat16%s, which the "
                         "architecture '%s' needs", builder->path, name,
                         builder->is_gguf ? " or a supported block format" : "", builder->arch->name);
    const struct model_tensor *tensor = &model->tensors[index];
    uint64_t bytes;
    if (tensor->rows != shape.rows || tensor->columns != shape.columns)
        return error_set(err, ERROR_FAILED, "tensor '%s' of '%s' has %" PRIu64 " rows of %" PRIu64 " values where "
                         "the model's sizes make %" PRIu64 " of %" PRIu64, name, builder->path, tensor->rows,
                         tensor->columns, shape.rows, shape.columns);
    if (!tensor_bytes(tensor->type, shape.rows, shape.columns, &bytes) || bytes != tensor->size_bytes)
        return error_set(err, ERROR_FAILED, "tensor '%s' of '%s' cannot be stored as %s in %" PRIu64 " bytes", name,
                         builder->path, tensor_type_info(tensor->type)->name, tensor->size_bytes);
    *ref = (struct weight_ref){ .tensor = index, .row_count = shape.rows, .column_count = shape.columns };
    return true;
}

static bool bind_block(struct model_builder *builder, uint32_t block, struct error *err) {
    struct model *model = builder->model;
    struct weight_ref *weights = model->blocks[block].weights;
    for (unsigned role = 0; role < BLOCK_ROLE_COUNT; role++)
        weights[role] = (struct weight_ref){ .tensor = MODEL_NO_TENSOR };
    for (unsigned role = 0, end; role < BLOCK_ROLE_COUNT; role = end) {
        end = role + 1;
        if (!builder->names->block[role] || !model_arch_has(builder->arch, (enum block_role)role))
            continue;
        end = end_of_group(builder->names, role);
        struct shape whole = role_shape(model, (enum block_role)role);
        for (unsigned r = role + 1; r < end; r++)
            whole.rows += role_shape(model, (enum block_role)r).rows;
        char name[128];
        struct weight_ref ref;
        block_name(name, builder->names->block[role], block);
        if (!bind(builder, name, whole, &ref, err))
            return false;
        uint64_t row_begin = 0;
        for (unsigned r = role; r < end; r++) {
            weights[r] = ref;
            weights[r].row_begin = row_begin;
            weights[r].row_count = role_shape(model, (enum block_role)r).rows;
            weights[r].interleaved_rope = builder->is_gguf && (builder->arch->flags & ARCH_GGUF_PAIRS)
                                       && (r == ROLE_Q || r == ROLE_K);
            row_begin += weights[r].row_count;
        }
    }
    return true;
}

/* A bias that has no role would silently be left out of every product. */
static bool refuse_unused_biases(const struct model_builder *builder, const uint32_t *new_index,
                                 struct error *err) {
    const struct model *model = builder->model;
    for (uint32_t i = 0; i < model->tensor_count; i++) {
        const char *name = model->tensors[i].name;
        size_t length = strlen(name);
        if (new_index[i] == MODEL_NO_TENSOR && length > 5 && strcmp(name + length - 5, ".bias") == 0)
            return error_set(err, ERROR_FAILED, "'%s' has a tensor '%.200s', but '%s' is supported without such "
                             "biases only", builder->path, name, builder->arch->name);
    }
    return true;
}

/* Calls for every ref of the model. */
static void each_ref(struct model *model, uint32_t *new_index, bool renumber) {
    struct weight_ref *outer[] = { &model->embed, &model->out_norm, &model->head };
    for (uint32_t i = 0; i < 3 + model->block_count * BLOCK_ROLE_COUNT; i++) {
        uint32_t b = i < 3 ? 0 : (i - 3) / BLOCK_ROLE_COUNT;
        struct weight_ref *ref = i < 3 ? outer[i] : &model->blocks[b].weights[(i - 3) % BLOCK_ROLE_COUNT];
        if (ref->tensor == MODEL_NO_TENSOR)
            continue;
        if (renumber)
            ref->tensor = new_index[ref->tensor];
        else
            new_index[ref->tensor] = 0;
    }
}

static bool drop_unused_tensors(struct model_builder *builder, struct error *err) {
    struct model *model = builder->model;
    uint32_t *new_index = malloc(((size_t)model->tensor_count + 1) * sizeof *new_index);
    if (!new_index)
        return out_of_memory(builder, err);
    for (uint32_t i = 0; i < model->tensor_count; i++)
        new_index[i] = MODEL_NO_TENSOR;
    each_ref(model, new_index, false);
    bool ok = refuse_unused_biases(builder, new_index, err);
    if (ok) {
        uint32_t kept = 0;
        for (uint32_t i = 0; i < model->tensor_count; i++) {
            if (new_index[i] == MODEL_NO_TENSOR) {
                free(model->tensors[i].name);
                continue;
            }
            new_index[i] = kept;
            model->tensors[kept++] = model->tensors[i];
        }
        model->tensor_count = kept;
        each_ref(model, new_index, true);
    }
    free(new_index);
    return ok;
}

bool model_bind(struct model_builder *builder, struct error *err) {
    struct model *model = builder->model;
    const struct tensor_names *names = builder->names;
    const struct shape matrix = { model->vocab_size, model->hidden_size }, vector = { 1, model->hidden_size };
    model->blocks = calloc(model->block_count, sizeof *model->blocks);
    builder->by_name = malloc(((size_t)model->tensor_count + 1) * sizeof *builder->by_name);
    bool ok = model->blocks && builder->by_name;
    if (!ok)
        out_of_memory(builder, err);
    for (uint32_t i = 0; ok && i < model->tensor_count; i++)
        builder->by_name[i] = i;
    if (ok)
        qsort_r(builder->by_name, model->tensor_count, sizeof *builder->by_name, compare_names, model);
    ok = ok && bind(builder, names->embed, matrix, &model->embed, err)
      && bind(builder, names->out_norm, vector, &model->out_norm, err);
    if (ok && model->tied_head)
        model->head = model->embed;
    else
        ok = ok && bind(builder, names->head, matrix, &model->head, err);
    for (uint32_t block = 0; ok && block < model->block_count; block++)
        ok = bind_block(builder, block, err);
    free(builder->by_name);
    builder->by_name = NULL;
    return ok && drop_unused_tensors(builder, err);
}

/* ---- without files ---- */

static bool add_shape(struct model_builder *builder, const char *name, enum tensor_type type, struct shape shape,
                      struct error *err) {
    uint64_t bytes;
    if (!tensor_bytes(type, shape.rows, shape.columns, &bytes))
        return error_set(err, ERROR_FAILED, "'%s' cannot be sized: rows of %" PRIu64 " values do not fit %s; try "
                         "another --dtype", builder->path, shape.columns, tensor_type_info(type)->name);
    return model_add_tensor(builder, name, strlen(name), type, shape.rows, shape.columns, 0, bytes, err);
}

bool model_add_all_tensors(struct model_builder *builder, enum tensor_type type, struct error *err) {
    const struct model *model = builder->model;
    const struct tensor_names *names = builder->names;
    /* Vectors stay float where matrices are quantised. */
    const enum tensor_type vector_type = tensor_type_info(type)->is_quantised ? TENSOR_F32 : type;
    const struct shape matrix = { model->vocab_size, model->hidden_size }, vector = { 1, model->hidden_size };
    if (!add_shape(builder, names->embed, type, matrix, err)
        || !add_shape(builder, names->out_norm, vector_type, vector, err)
        || (!model->tied_head && !add_shape(builder, names->head, type, matrix, err)))
        return false;
    for (uint32_t block = 0; block < model->block_count; block++)
        for (unsigned role = 0, end; role < BLOCK_ROLE_COUNT; role = end) {
            end = role + 1;
            if (!names->block[role] || !model_arch_has(builder->arch, (enum block_role)role))
                continue;
            end = end_of_group(names, role);
            struct shape whole = role_shape(model, (enum block_role)role);
            for (unsigned r = role + 1; r < end; r++)
                whole.rows += role_shape(model, (enum block_role)r).rows;
            char name[128];
            block_name(name, names->block[role], block);
            if (!add_shape(builder, name, whole.rows == 1 ? vector_type : type, whole, err))
                return false;
        }
    return true;
}
