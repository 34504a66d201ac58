/* model_build: the steps that make a model out of a container. Private to
 * model_*.c.
 *
 * A reader (model_config.c, model_gguf.c) fills the hyper-parameters and adds
 * files and tensors; model_check_*() hold every number to its limits, and
 * model_bind() finds each role its tensor and checks the shapes. */
#ifndef COMMON_MODEL_BUILD_H
#define COMMON_MODEL_BUILD_H

#include "common/model_arch.h"

struct model_builder {
    struct model *model;
    const struct model_options *options;
    const struct model_arch *arch;
    const struct tensor_names *names;   /* those of the container */
    bool is_gguf;
    const char *path;                   /* what sentences name: the config.json or the .gguf */
    char unusable_name[128], unusable_type[16];   /* as in struct safetensors, of the first file */
    uint32_t tensor_capacity, file_capacity;
    uint32_t *by_name;                  /* indices of tensors, sorted by name, once bound */
};

/* Readers, by the kind of the model's source. */
bool model_read_directory(struct model_builder *builder, struct error *err);
bool model_read_gguf(struct model_builder *builder, struct error *err);

/* Copies both strings. */
bool model_add_file(struct model_builder *builder, const char *path, const char *name, uint64_t size_bytes,
                    struct error *err);
/* Into the last file added. `rows` is 0 for what is neither vector nor matrix. */
bool model_add_tensor(struct model_builder *builder, const char *name, size_t name_length,
                      enum tensor_type type, uint64_t rows, uint64_t columns, uint64_t offset,
                      uint64_t size_bytes, struct error *err);
/* Every tensor that the architecture has, as `type`, without a file. */
bool model_add_all_tensors(struct model_builder *builder, enum tensor_type type, struct error *err);

bool model_check_sizes(const struct model_builder *builder, struct error *err);
bool model_check_rope(const struct model_builder *builder, struct error *err);
/* Drops the tensors that no role uses: model_weight_bytes() is what is computed with. */
bool model_bind(struct model_builder *builder, struct error *err);

bool model_add_eos(struct model *model, int64_t id, const char *path, struct error *err);

/* ---- rope: model_rope.c ---- */

/* sqrt(1 + ln(factor) / ln(original)), or 1 where the context is not stretched. */
float longrope_attention_factor(double factor, uint32_t original_context);
/* The divisors of the inverse frequencies for llama3 and linear scaling. */
bool rope_llama3_divisors(struct rope_parameters *rope, struct error *err);
bool rope_linear_divisors(struct rope_parameters *rope, float factor, struct error *err);
/* Every factor of a list finite and above 0. */
bool rope_factors_are_sound(const float *factors, uint32_t count);

#endif
