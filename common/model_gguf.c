/* A GGUF file, or the parts of a split one: metadata and tensors. */
#include "common/model_build.h"

#include "common/file_map.h"
#include "common/gguf.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SPLIT_LIMIT = 1024 };

struct container {
    struct model_builder *builder;
    struct model *model;
    struct gguf *gguf;       /* the first part: it has the metadata */
    struct error *err;
};

/* "<architecture>.<key>" */
static const char *key_of(const struct container *in, const char *key, char text[128]) {
    snprintf(text, 128, "%s.%s", in->builder->arch->name, key);
    return text;
}

/* Missing keys leave the value; numbers that 32 bits do not hold are refused. */
static bool get_u32(const struct container *in, const char *key, uint32_t *value) {
    char full[128];
    uint64_t wide;
    if (!gguf_u64(in->gguf, key_of(in, key, full), &wide)) {
        /* A list, one number a block, is what mixtures of layer shapes have. */
        if (gguf_array_length(in->gguf, full))
            return error_set(in->err, ERROR_FAILED, "'%s' has a list as '%s'; only models whose blocks are all "
                             "alike are supported", in->builder->path, full);
        return true;
    }
    if (wide > UINT32_MAX)
        return error_set(in->err, ERROR_FAILED, "'%s' in '%s' is %" PRIu64 ", which is out of range", full,
                         in->builder->path, wide);
    *value = (uint32_t)wide;
    return true;
}

static void get_f32(const struct container *in, const char *key, float *value) {
    char full[128];
    gguf_f32(in->gguf, key_of(in, key, full), value);
}

static bool is_string(const struct container *in, const char *key, const char *expected) {
    char full[128];
    struct gguf_string value;
    return gguf_str(in->gguf, key_of(in, key, full), &value) && value.length == strlen(expected)
        && memcmp(value.bytes, expected, value.length) == 0;
}

/* Over the tensors of all parts. */
static const struct model_tensor *find_tensor(const struct model *model, const char *name) {
    for (uint32_t i = 0; i < model->tensor_count; i++)
        if (strcmp(model->tensors[i].name, name) == 0)
            return &model->tensors[i];
    return NULL;
}

/* ---- tensors ---- */

static bool add_part(const struct container *in, const struct gguf *part, const char *path) {
    const char *slash = strrchr(path, '/');
    bool ok = model_add_file(in->builder, path, slash ? slash + 1 : path, gguf_file_size(part), in->err);
    for (uint32_t i = 0; ok && i < gguf_tensor_count(part); i++) {
        const struct gguf_tensor *tensor = gguf_tensor(part, i);
        uint64_t rows = tensor->rank == 1 ? 1 : tensor->rank == 2 ? tensor->shape[1] : 0;
        ok = model_add_tensor(in->builder, tensor->name.bytes, tensor->name.length, tensor->type, rows,
                              tensor->shape[0], tensor->offset, tensor->size_bytes, in->err);
    }
    return ok;
}

/* "name-00001-of-00003.gguf": the path of a part is the first's with its number. */
static bool add_other_parts(const struct container *in, uint64_t count) {
    static const char shape[] = "00001-of-00001.gguf";
    char *path = strdup(in->builder->path), digits[8];
    size_t length = path ? strlen(path) : 0;
    bool ok = path != NULL;
    if (!ok)
        return error_set(in->err, ERROR_FAILED, "cannot open '%s': out of memory", in->builder->path);
    snprintf(digits, sizeof digits, "%05u", (unsigned)count);
    char *number = length >= sizeof shape - 1 ? path + length - (sizeof shape - 1) : path;
    if (length < sizeof shape || memcmp(number, "00001-of-", 9) != 0 || memcmp(number + 9, digits, 5) != 0)
        ok = error_set(in->err, ERROR_FAILED, "'%s' is a part of %" PRIu64 " and must keep its name "
                       "'...-00001-of-%s.gguf', so that the others are found", path, count, digits);
    for (uint64_t i = 2; ok && i <= count; i++) {
        snprintf(digits, sizeof digits, "%05u", (unsigned)i);
        memcpy(number, digits, 5);
        struct gguf *part = gguf_open_brief(path, in->err);
        ok = part && add_part(in, part, path);
        gguf_close(part);
    }
    free(path);
    return ok;
}

/* ---- sizes and tokens ---- */

static bool read_sizes(const struct container *in) {
    struct model *model = in->model;
    const struct model_arch *arch = in->builder->arch;
    uint32_t value_length, experts = 0, window = 0;
    model->norm_epsilon = arch->default_epsilon;
    if (!get_u32(in, "block_count", &model->block_count)
        || !get_u32(in, "embedding_length", &model->hidden_size)
        || !get_u32(in, "feed_forward_length", &model->intermediate_size)
        || !get_u32(in, "attention.head_count", &model->head_count)
        || !get_u32(in, "context_length", &model->max_context)
        || !get_u32(in, "expert_count", &experts))
        return false;
    model->kv_head_count = model->head_count;
    if (!get_u32(in, "attention.head_count_kv", &model->kv_head_count)
        || !get_u32(in, "attention.key_length", &model->head_dim))
        return false;
    if (!model->head_dim && model->head_count) {
        if (model->hidden_size % model->head_count)
            return error_set(in->err, ERROR_FAILED, "'%s' has %u heads, which do not divide the hidden size %u, and "
                             "no key length", in->builder->path, model->head_count, model->hidden_size);
        model->head_dim = model->hidden_size / model->head_count;
    }
    value_length = model->head_dim;
    if (!get_u32(in, "attention.value_length", &value_length))
        return false;
    if (value_length != model->head_dim)
        return error_set(in->err, ERROR_FAILED, "'%s' has keys of %u and values of %u dimensions; only equal ones "
                         "are supported", in->builder->path, model->head_dim, value_length);
    if (experts)
        return error_set(in->err, ERROR_FAILED, "'%s' is a mixture of %u experts, which is not supported",
                         in->builder->path, experts);
    get_f32(in, "attention.layer_norm_rms_epsilon", &model->norm_epsilon);
    if ((arch->flags & ARCH_WINDOW) && !get_u32(in, "attention.sliding_window", &window))
        return false;
    model->sliding_window = window;
    /* A vocabulary size among the keys is optional and leaves padding out. */
    const struct model_tensor *embed = find_tensor(model, in->builder->names->embed);
    uint64_t rows = embed ? embed->rows : 0;
    model->vocab_size = rows > UINT32_MAX ? UINT32_MAX : (uint32_t)rows;
    /* No output matrix: the head is the embedding. */
    model->tied_head = !find_tensor(model, in->builder->names->head);
    return true;
}

static void get_id(const struct container *in, const char *key, int64_t *id) {
    uint64_t value;
    if (gguf_u64(in->gguf, key, &value) && value <= INT32_MAX)
        *id = (int64_t)value;
}

static bool read_tokens(const struct container *in) {
    static const char *const ends[] = {
        "tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id",
    };
    get_id(in, "tokenizer.ggml.bos_token_id", &in->model->bos_id);
    get_id(in, "tokenizer.ggml.padding_token_id", &in->model->pad_id);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        int64_t id = -1;
        get_id(in, ends[i], &id);
        if (id >= 0 && !model_add_eos(in->model, id, in->builder->path, in->err))
            return false;
    }
    return true;
}

/* ---- rope ---- */

/* A list of rope factors lies in the file as a float32 tensor: it is a
 * hyper-parameter, so it is read here. *found tells whether there is one. */
static bool read_factors(const struct container *in, const char *name, float **factors, bool *found) {
    const struct model_tensor *tensor = find_tensor(in->model, name);
    const uint32_t count = in->model->rope.rotary_dim / 2;
    *found = tensor != NULL;
    if (!tensor)
        return true;
    if (tensor->type != TENSOR_F32 || tensor->rows != 1 || tensor->columns != count)
        return error_set(in->err, ERROR_FAILED, "'%s' in '%s' is not %u float32 numbers, half the rotated "
                         "dimensions of a head", name, in->builder->path, count);
    free(*factors);
    *factors = calloc(count, sizeof **factors);
    if (!*factors)
        return error_set(in->err, ERROR_FAILED, "cannot open '%s': out of memory", in->builder->path);
    const char *path = in->model->files[tensor->file].path;
    int descriptor = file_open(path, NULL, in->err);
    bool ok = descriptor >= 0
           && file_read_at(descriptor, path, tensor->offset, *factors, count * sizeof **factors, in->err);
    if (descriptor >= 0)
        close(descriptor);
    return ok;
}

static bool read_scaling_type(const struct container *in) {
    struct rope_parameters *rope = &in->model->rope;
    char full[128];
    float factor = 0;
    get_f32(in, "rope.scaling.factor", &factor);
    if (!gguf_has(in->gguf, key_of(in, "rope.scaling.type", full)) || is_string(in, "rope.scaling.type", "none")
        || is_string(in, "rope.scaling.type", "longrope"))
        return true;
    if (!is_string(in, "rope.scaling.type", "linear"))
        return error_set(in->err, ERROR_FAILED, "'%s' has a rope.scaling.type other than none, linear and longrope, "
                         "which are supported", in->builder->path);
    if (!(factor > 0) || !isfinite(factor))
        return error_set(in->err, ERROR_FAILED, "'%s' scales rope linearly without a factor above 0",
                         in->builder->path);
    rope->scaling = ROPE_LINEAR;
    return rope_linear_divisors(rope, factor, in->err);
}

static bool read_rope(const struct container *in) {
    struct rope_parameters *rope = &in->model->rope;
    bool has_short, has_long, has_divisors;
    rope->theta = 10000;
    rope->attention_factor = 1;
    rope->rotary_dim = in->model->head_dim;
    get_f32(in, "rope.freq_base", &rope->theta);
    if (!get_u32(in, "rope.dimension_count", &rope->rotary_dim)
        || !get_u32(in, "rope.scaling.original_context_length", &rope->original_context)
        || !model_check_rope(in->builder, in->err) || !read_scaling_type(in))
        return false;
    if ((in->builder->arch->flags & ARCH_GGUF_PAIRS) && rope->rotary_dim != in->model->head_dim)
        return error_set(in->err, ERROR_FAILED, "'%s' rotates %u of %u dimensions of a head, which is not supported "
                         "for '%s'", in->builder->path, rope->rotary_dim, in->model->head_dim,
                         in->builder->arch->name);
    if (!read_factors(in, "rope_factors_short.weight", &rope->short_factors, &has_short)
        || !read_factors(in, "rope_factors_long.weight", &rope->long_factors, &has_long))
        return false;
    if (has_short != has_long)
        return error_set(in->err, ERROR_FAILED, "'%s' has only one of rope_factors_short and rope_factors_long",
                         in->builder->path);
    if (has_long) {
        rope->scaling = ROPE_LONGROPE;
        if (!rope->original_context)
            rope->original_context = in->model->max_context;
        rope->attention_factor = longrope_attention_factor(
            (double)in->model->max_context / rope->original_context, rope->original_context);
        get_f32(in, "rope.scaling.attn_factor", &rope->attention_factor);
    } else {
        if (!read_factors(in, "rope_freqs.weight", &rope->short_factors, &has_divisors))
            return false;
        if (has_divisors)
            rope->scaling = ROPE_LLAMA3;
    }
    if (rope->scaling != ROPE_LONGROPE && rope->scaling != ROPE_LLAMA3)
        rope->original_context = 0;
    return model_check_rope(in->builder, in->err);
}

static bool read_container(const struct container *in) {
    struct gguf_string name;
    char text[64];
    uint64_t parts = 1;
    if (!gguf_str(in->gguf, "general.architecture", &name) || name.length >= sizeof text)
        return error_set(in->err, ERROR_FAILED, "'%s' has no general.architecture", in->builder->path);
    memcpy(text, name.bytes, name.length);
    text[name.length] = '\0';
    in->builder->arch = model_arch_find(text, in->builder->options->architectures);
    if (!in->builder->arch || !in->builder->arch->gguf)
        return model_arch_unsupported(text, in->builder->path, in->err);
    in->builder->names = in->builder->arch->gguf;
    in->model->architecture = strdup(text);
    if (!in->model->architecture)
        return error_set(in->err, ERROR_FAILED, "cannot open '%s': out of memory", in->builder->path);
    gguf_u64(in->gguf, "split.count", &parts);
    if (!gguf_tensor_count(in->gguf) && parts < 2)
        return error_set(in->err, ERROR_FAILED, "'%s' holds only a vocabulary, no weights", in->builder->path);
    if (parts > SPLIT_LIMIT)
        return error_set(in->err, ERROR_FAILED, "'%s' claims to be one of %" PRIu64 " parts", in->builder->path,
                         parts);
    in->model->has_weights = true;
    return add_part(in, in->gguf, in->builder->path) && (parts < 2 || add_other_parts(in, parts))
        && read_sizes(in) && model_check_sizes(in->builder, in->err) && read_tokens(in) && read_rope(in)
        && model_bind(in->builder, in->err);
}

bool model_read_gguf(struct model_builder *builder, struct error *err) {
    builder->is_gguf = true;
    builder->path = builder->model->source.path;
    struct container in = { builder, builder->model, gguf_open_brief(builder->path, err), err };
    bool ok = in.gguf && read_container(&in);
    gguf_close(in.gguf);
    return ok;
}
