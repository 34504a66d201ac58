/* A Hugging Face directory: config.json, generation_config.json and the heads of
 * its safetensors files. */
#include "common/model_build.h"

#include "common/json.h"
#include "common/safetensors.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CONFIG_LIMIT = 16 << 20, INDEX_LIMIT = 256 << 20 };

struct config {
    struct model_builder *builder;
    struct model *model;
    const json_t *root;
    const char *file;      /* its path */
    struct error *err;
};

static bool get_u32(const struct config *config, const char *key, uint32_t *value) {
    return json_get_u32(config->root, key, config->file, value, config->err);
}

static bool get_f32(const struct config *config, const char *key, float *value) {
    return json_get_f32(config->root, key, config->file, value, config->err);
}

static bool refuse(const struct config *config, const char *what) {
    return error_set(config->err, ERROR_FAILED, "'%s': %s", config->file, what);
}

/* ---- tokens ---- */

static bool add_eos_ids(const struct config *config, const json_t *root, const char *file) {
    const json_t *eos = json_object_get(root, "eos_token_id");
    size_t count = json_is_array(eos) ? json_array_size(eos) : 1;
    if (!eos || json_is_null(eos))
        return true;
    for (size_t i = 0; i < count; i++) {
        const json_t *id = json_is_array(eos) ? json_array_get(eos, i) : eos;
        if (!json_is_integer(id))
            return error_set(config->err, ERROR_FAILED, "'eos_token_id' in '%s' is neither a token id nor a list of "
                             "them", file);
        if (!model_add_eos(config->model, json_integer_value(id), file, config->err))
            return false;
    }
    return true;
}

/* Some old files say -1 where they mean none. */
static bool get_id(const struct config *config, const json_t *root, const char *key, const char *file, int64_t *id) {
    const json_t *value = json_object_get(root, key);
    if (!value || json_is_null(value) || *id >= 0)
        return true;
    if (!json_is_integer(value) || json_integer_value(value) < -1 || json_integer_value(value) > INT32_MAX)
        return error_set(config->err, ERROR_FAILED, "'%s' in '%s' is not a token id", key, file);
    *id = json_integer_value(value);
    return true;
}

static bool read_tokens(const struct config *config, const json_t *root, const char *file) {
    return get_id(config, root, "bos_token_id", file, &config->model->bos_id)
        && get_id(config, root, "pad_token_id", file, &config->model->pad_id) && add_eos_ids(config, root, file);
}

static bool read_generation_config(const struct config *config) {
    char *path = model_source_file(&config->model->source, "generation_config.json");
    if (!path)
        return refuse(config, "out of memory");
    bool ok = true;
    if (access(path, F_OK) == 0) {
        json_t *root = json_read_file(path, CONFIG_LIMIT, config->err);
        ok = root && read_tokens(config, root, path);
        json_decref(root);
    }
    free(path);
    return ok;
}

/* ---- rope ---- */

static bool read_factors(const struct config *config, const json_t *scaling, const char *key, float **factors) {
    const json_t *list = json_object_get(scaling, key);
    const uint32_t count = config->model->rope.rotary_dim / 2;
    if (json_array_size(list) != count)
        return error_set(config->err, ERROR_FAILED, "'%s' in '%s' is not a list of %u numbers, half the rotated "
                         "dimensions of a head", key, config->file, count);
    *factors = calloc(count, sizeof **factors);
    if (!*factors)
        return refuse(config, "out of memory");
    for (uint32_t i = 0; i < count; i++)
        (*factors)[i] = (float)json_number_value(json_array_get(list, i));   /* 0, refused later, for no number */
    return true;
}

static bool read_longrope(const struct config *config, const json_t *scaling) {
    struct rope_parameters *rope = &config->model->rope;
    const char *file = config->file;
    rope->scaling = ROPE_LONGROPE;
    rope->original_context = config->model->max_context;
    if (!get_u32(config, "original_max_position_embeddings", &rope->original_context)
        || !json_get_u32(scaling, "original_max_position_embeddings", file, &rope->original_context, config->err)
        || !read_factors(config, scaling, "short_factor", &rope->short_factors)
        || !read_factors(config, scaling, "long_factor", &rope->long_factors))
        return false;
    float factor = 0;
    if (rope->original_context)
        factor = (float)((double)config->model->max_context / rope->original_context);
    if (!json_get_f32(scaling, "factor", file, &factor, config->err))
        return false;
    rope->attention_factor = longrope_attention_factor(factor, rope->original_context);
    return json_get_f32(scaling, "attention_factor", file, &rope->attention_factor, config->err);
}

static bool read_llama3(const struct config *config, const json_t *scaling) {
    struct rope_parameters *rope = &config->model->rope;
    const char *file = config->file;
    rope->scaling = ROPE_LLAMA3;
    if (!json_get_f32(scaling, "factor", file, &rope->llama3_factor, config->err)
        || !json_get_f32(scaling, "low_freq_factor", file, &rope->llama3_low, config->err)
        || !json_get_f32(scaling, "high_freq_factor", file, &rope->llama3_high, config->err)
        || !json_get_u32(scaling, "original_max_position_embeddings", file, &rope->original_context, config->err))
        return false;
    if (!(rope->llama3_factor > 0) || !(rope->llama3_low > 0) || !(rope->llama3_high > rope->llama3_low)
        || !rope->original_context)
        return refuse(config, "rope scaling 'llama3' needs factor, low_freq_factor, a larger high_freq_factor and "
                              "original_max_position_embeddings, all above 0");
    return rope_llama3_divisors(rope, config->err);
}

static bool read_linear(const struct config *config, const json_t *scaling) {
    float factor = 0;
    config->model->rope.scaling = ROPE_LINEAR;
    if (!json_get_f32(scaling, "factor", config->file, &factor, config->err))
        return false;
    return factor > 0 ? rope_linear_divisors(&config->model->rope, factor, config->err)
                      : refuse(config, "rope scaling 'linear' needs a factor above 0");
}

/* transformers 4 has rope_theta and rope_scaling, 5 has rope_parameters with all of
 * it. In Phi-3's files "su" and "yarn" are earlier names of longrope. */
static bool read_rope(const struct config *config) {
    struct rope_parameters *rope = &config->model->rope;
    const char *file = config->file, *type = "default";
    const json_t *scaling = json_object_get(config->root, "rope_parameters");
    float partial = 1;
    if (!json_is_object(scaling))
        scaling = json_object_get(config->root, "rope_scaling");
    if (scaling && !json_is_null(scaling) && !json_is_object(scaling))
        return refuse(config, "'rope_scaling' is not an object");
    rope->theta = 10000;
    rope->attention_factor = 1;
    if (!get_f32(config, "rope_theta", &rope->theta)
        || !json_get_f32(scaling, "rope_theta", file, &rope->theta, config->err)
        || !get_f32(config, "partial_rotary_factor", &partial)
        || !json_get_f32(scaling, "partial_rotary_factor", file, &partial, config->err)
        || !json_get_str(scaling, "type", file, &type, config->err)
        || !json_get_str(scaling, "rope_type", file, &type, config->err))
        return false;
    if (!(partial > 0 && partial <= 1))
        return refuse(config, "'partial_rotary_factor' is not above 0 and at most 1");
    /* As float32 0.7 of 10 is a little less than 7: do not cut that to 6. */
    rope->rotary_dim = (uint32_t)((double)config->model->head_dim * partial + 1e-4);
    if (rope->rotary_dim < 2)
        return refuse(config, "'partial_rotary_factor' leaves fewer than two rotated dimensions");

    bool is_longrope = strcmp(type, "longrope") == 0 || strcmp(type, "su") == 0 || strcmp(type, "yarn") == 0;
    if (strcmp(type, "default") == 0)
        return true;
    if (is_longrope && (config->builder->arch->flags & ARCH_LONGROPE))
        return read_longrope(config, scaling);
    if (strcmp(type, "llama3") == 0)
        return read_llama3(config, scaling);
    if (strcmp(type, "linear") == 0)
        return read_linear(config, scaling);
    return error_set(config->err, ERROR_FAILED, "'%s' scales rope by '%.60s', which is not supported for '%s'; "
                     "supported are linear, llama3 and, for phi3, longrope", file, type,
                     config->builder->arch->name);
}

/* ---- sliding window ---- */

/* Qwen's files may switch the window on for a part of the blocks. */
static bool read_switched_window(const struct config *config, uint32_t window) {
    const json_t *types = json_object_get(config->root, "layer_types");
    bool is_used = false;
    uint32_t blocks = config->model->block_count, with = 0, first = blocks;
    if (!json_get_bool(config->root, "use_sliding_window", config->file, &is_used, config->err)
        || !get_u32(config, "max_window_layers", &first))
        return false;
    if (json_is_array(types)) {
        for (size_t i = 0; i < json_array_size(types); i++) {
            const char *type = json_string_value(json_array_get(types, i));
            with += type && strcmp(type, "sliding_attention") == 0;
        }
    } else {
        with = first < blocks ? blocks - first : 0;
    }
    if (!is_used || !window || !with)
        return true;
    if (with != blocks && window < config->model->max_context)
        return refuse(config, "a sliding window in a part of the blocks is not supported");
    config->model->sliding_window = window;
    return true;
}

static bool read_window(const struct config *config) {
    const struct model_arch *arch = config->builder->arch;
    const json_t *value = json_object_get(config->root, "sliding_window");
    uint32_t window = value ? 0 : arch->default_window;   /* null: none */
    if (!(arch->flags & (ARCH_WINDOW | ARCH_WINDOW_SWITCH)))
        return true;
    if (!get_u32(config, "sliding_window", &window))
        return false;
    if (arch->flags & ARCH_WINDOW_SWITCH)
        return read_switched_window(config, window);
    config->model->sliding_window = window;
    return true;
}

/* ---- config.json ---- */

static bool read_sizes(const struct config *config) {
    struct model *model = config->model;
    const struct model_arch *arch = config->builder->arch;
    model->max_context = arch->default_context;
    model->norm_epsilon = arch->default_epsilon;
    if (!get_u32(config, "hidden_size", &model->hidden_size)
        || !get_u32(config, "intermediate_size", &model->intermediate_size)
        || !get_u32(config, "num_hidden_layers", &model->block_count)
        || !get_u32(config, "num_attention_heads", &model->head_count)
        || !get_u32(config, "vocab_size", &model->vocab_size)
        || !get_u32(config, "max_position_embeddings", &model->max_context)
        || !get_f32(config, "rms_norm_eps", &model->norm_epsilon)
        || !json_get_bool(config->root, "tie_word_embeddings", config->file, &model->tied_head, config->err))
        return false;
    model->kv_head_count = model->head_count;
    model->head_dim = arch->default_head_dim;
    if (!get_u32(config, "num_key_value_heads", &model->kv_head_count)
        || !get_u32(config, "head_dim", &model->head_dim))
        return false;
    if (!model->head_dim && model->head_count) {
        if (model->hidden_size % model->head_count)
            return error_set(config->err, ERROR_FAILED, "'%s' has %u heads, which do not divide the hidden size %u, "
                             "and no head_dim", config->file, model->head_count, model->hidden_size);
        model->head_dim = model->hidden_size / model->head_count;
    }
    return true;
}

/* What would change the forward pass and is not done here. */
static bool refuse_variants(const struct config *config) {
    const char *act = "silu";
    bool bias = false, mlp_bias = false, head_bias = false;
    const json_t *quantised = json_object_get(config->root, "quantization_config");
    if (quantised && !json_is_null(quantised))
        return refuse(config, "weights of a 'quantization_config' are not supported; take the original weights or a "
                              "GGUF file");
    if (!json_get_str(config->root, "hidden_act", config->file, &act, config->err)
        || !json_get_bool(config->root, "attention_bias", config->file, &bias, config->err)
        || !json_get_bool(config->root, "mlp_bias", config->file, &mlp_bias, config->err)
        || !json_get_bool(config->root, "lm_head_bias", config->file, &head_bias, config->err))
        return false;
    if (strcmp(act, "silu") != 0 && strcmp(act, "swish") != 0)
        return refuse(config, "only the activation 'silu' is supported as 'hidden_act'");
    if ((bias && !(config->builder->arch->flags & ARCH_QKV_BIAS)) || mlp_bias || head_bias)
        return refuse(config, "biases in 'attention_bias', 'mlp_bias' or 'lm_head_bias' are not supported");
    return true;
}

static bool read_config(const struct config *config) {
    const char *type = NULL;
    if (!json_is_object(config->root))
        return refuse(config, "it is not a JSON object");
    if (!json_get_str(config->root, "model_type", config->file, &type, config->err))
        return false;
    if (!type)
        return refuse(config, "it has no 'model_type', so it is no model's config.json");
    config->builder->arch = model_arch_find(type, config->builder->options->architectures);
    if (!config->builder->arch)
        return model_arch_unsupported(type, config->file, config->err);
    config->builder->names = config->builder->arch->hf;
    config->model->architecture = strdup(type);
    return (config->model->architecture || refuse(config, "out of memory"))
        && read_sizes(config) && model_check_sizes(config->builder, config->err) && refuse_variants(config)
        && read_rope(config) && model_check_rope(config->builder, config->err) && read_window(config)
        && read_tokens(config, config->root, config->file) && read_generation_config(config);
}

/* ---- safetensors ---- */

/* `wanted`: the index's weight_map, of which only this file's names are taken; NULL: all. */
static bool add_safetensors(const struct config *config, const char *name, const json_t *wanted) {
    struct safetensors head;
    char *path = model_source_file(&config->model->source, name);
    if (!path)
        return refuse(config, "out of memory");
    bool ok = safetensors_open(&head, path, config->err);
    if (ok) {
        ok = model_add_file(config->builder, path, name, head.file_size, config->err);
        if (!config->builder->unusable_name[0]) {
            memcpy(config->builder->unusable_name, head.unusable_name, sizeof head.unusable_name);
            memcpy(config->builder->unusable_type, head.unusable_type, sizeof head.unusable_type);
        }
        for (uint32_t i = 0; ok && i < head.tensor_count; i++) {
            const struct safetensors_tensor *tensor = &head.tensors[i];
            const char *owner = json_string_value(json_object_get(wanted, tensor->name));
            if (wanted && (!owner || strcmp(owner, name) != 0))
                continue;
            uint64_t rows = tensor->rank == 1 ? 1 : tensor->rank == 2 ? tensor->shape[0] : 0;
            uint64_t columns = tensor->rank ? tensor->shape[tensor->rank - 1] : 0;
            ok = model_add_tensor(config->builder, tensor->name, strlen(tensor->name), tensor->type, rows, columns,
                                  tensor->offset, tensor->size_bytes, config->err);
        }
        safetensors_release(&head);
    }
    free(path);
    return ok;
}

static int compare_strings(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The files that the index names, each once, in the order of their names. */
static bool add_indexed(const struct config *config, const char *index_path) {
    bool ok = false;
    const char **names = NULL;
    size_t count = 0;
    json_t *index = json_read_file(index_path, INDEX_LIMIT, config->err);
    if (!index)
        return false;
    json_t *map = json_object_get(index, "weight_map"), *value;
    const char *key;
    if (!json_is_object(map) || !json_object_size(map)) {
        error_set(config->err, ERROR_FAILED, "'%s' is damaged: it has no 'weight_map'", index_path);
        goto cleanup;
    }
    names = calloc(json_object_size(map), sizeof *names);
    if (!names) {
        refuse(config, "out of memory");
        goto cleanup;
    }
    json_object_foreach(map, key, value) {
        const char *name = json_string_value(value);
        if (!name || !*name || name[0] == '.' || strchr(name, '/') || strlen(name) > 255) {
            error_set(config->err, ERROR_FAILED, "'%s' is damaged: it gives no plain file name for '%.200s'",
                      index_path, key);
            goto cleanup;
        }
        names[count++] = name;
    }
    qsort(names, count, sizeof *names, compare_strings);
    ok = true;
    for (size_t i = 0; ok && i < count; i++)
        if (i == 0 || strcmp(names[i - 1], names[i]) != 0)
            ok = add_safetensors(config, names[i], map);
cleanup:
    free(names);
    json_decref(index);
    return ok;
}

static bool add_from_config(const struct config *config) {
    const struct model_options *options = config->builder->options;
    enum tensor_type type = TENSOR_F32;
    const char *name = NULL;
    if (!json_get_str(config->root, "torch_dtype", config->file, &name, config->err)
        || !json_get_str(config->root, "dtype", config->file, &name, config->err))
        return false;
    if (options->has_assumed_type)
        type = options->assumed_type;
    else if (name && strcmp(name, "float16") == 0)
        type = TENSOR_F16;
    else if (name && strcmp(name, "bfloat16") == 0)
        type = TENSOR_BF16;
    else if (name && strcmp(name, "float32") != 0)
        return refuse(config, "its 'torch_dtype' is none of float32, float16 and bfloat16; name one with --dtype");
    return model_add_all_tensors(config->builder, type, config->err);
}

static bool add_weights(const struct config *config) {
    const struct model_source *source = &config->model->source;
    char *index = model_source_file(source, "model.safetensors.index.json");
    char *single = model_source_file(source, "model.safetensors");
    bool ok;
    config->model->has_weights = true;
    if (!index || !single) {
        ok = refuse(config, "out of memory");
    } else if (access(index, F_OK) == 0) {
        ok = add_indexed(config, index);
    } else if (access(single, F_OK) == 0) {
        ok = add_safetensors(config, "model.safetensors", NULL);
    } else if (config->builder->options->headers_optional) {
        config->model->has_weights = false;
        ok = add_from_config(config);
    } else {
        ok = error_set(config->err, ERROR_FAILED, "'%s' has a config.json but neither model.safetensors nor "
                       "model.safetensors.index.json; without weights only a dry run works", source->path);
    }
    free(index);
    free(single);
    return ok;
}

bool model_read_directory(struct model_builder *builder, struct error *err) {
    struct model *model = builder->model;
    char *path = model_source_file(&model->source, "config.json");
    bool ok = false;
    if (!path)
        return error_set(err, ERROR_FAILED, "cannot open '%s': out of memory", model->source.path);
    json_t *root = NULL;
    builder->path = path;
    if (access(path, F_OK) != 0)
        error_set(err, ERROR_FAILED, "'%s' has no config.json, so it is not a model that can be run",
                  model->source.path);
    else
        root = json_read_file(path, CONFIG_LIMIT, err);
    if (root) {
        const struct config config = { builder, model, root, path, err };
        ok = read_config(&config) && add_weights(&config);
        builder->path = model->source.path;
        ok = ok && model_bind(builder, err);
    }
    builder->path = model->source.path;
    json_decref(root);
    free(path);
    return ok;
}
