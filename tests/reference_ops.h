/* reference_ops: the operations of kernels/ops.h in plain scalar C, rounding in
 * the order that the contract there and the kernels' head comments give, so that
 * a device's results can be compared bit for bit. Shapes are those of ops.h. */
#ifndef TESTS_REFERENCE_OPS_H
#define TESTS_REFERENCE_OPS_H

#include "common/tensor_type.h"
#include "common/unit_buffers.h"
#include "kernels/kernel_args.h"

/* Activations in blocks of 32; the arrays belong to the caller. */
struct reference_q8 {
    int8_t *values;
    float *scales;
    int32_t *sums;
};

void reference_rms_norm(const float *x, const float *weight, float *out, const struct rms_norm_args *args);
void reference_quantise(const float *x, const struct reference_q8 *out, const struct quantise_args *args);
void reference_swiglu(const float *wide, float *out, const struct swiglu_args *args);

void reference_matmul(enum tensor_type type, const void *weights, const float *x, float *y,
                      const struct matmul_args *args);
void reference_matmul_q8(enum tensor_type type, const void *weights, const struct reference_q8 *x,
                         float *y, const struct matmul_args *args);

/* k and v: float or, where kv_type is KV_F16, half bits. */
void reference_rope_kv(float *qkv, const float *bias, const float *qk_norm, const float *rope,
                       const int32_t *positions, const int32_t *sequences, const int32_t *page_table,
                       void *k, void *v, enum kv_type kv_type, const struct rope_kv_args *args);
/* The values of vector number `row` of K or V. */
void reference_kv_read(const void *values, size_t row, int dim, enum kv_type type, float *out);

void reference_attention(const float *qkv, const void *k, const void *v, const int32_t *positions,
                         const int32_t *sequences, const int32_t *page_table, float *out,
                         enum kv_type kv_type, const struct attention_args *args);

#endif
