/* ops: one typed launcher per operation of the forward pass; the only code that
 * calls clSetKernelArg.
 *
 * Everything enqueues on the in-order queue of its `struct ops` and returns
 * without waiting. A `struct ops` belongs to one thread. Explicit local size and
 * zero offset everywhere. Buffers are row-major; shapes are at each function.
 *
 * Numerics (the contract of the whole project): no contraction, explicit fma,
 * one summation order for each class, whatever the batch, work-group or device:
 *   float   8 partial sums, as many as registers hold for a useful tile: number j over the
 *           columns c with c % 8 == j in ascending order, one fma a column; then the fixed
 *           tree s[j] += s[j + 4], += s[j + 2], += s[j + 1]
 *   int8    one float accumulator: for each block of 32 columns in ascending
 *           order, exact int32 dot product, then one fma with (d * scale);
 *           types with a minimum add a second fma of m with (scale * sum)
 *   attention  spans of keys, see kernels/attention_span.h, joined in ascending order; in each,
 *           tiles of KV_PAGE_TOKENS keys, ascending, online softmax */
#ifndef KERNELS_OPS_H
#define KERNELS_OPS_H

#include "common/kernel_store.h"
#include "common/opencl.h"
#include "common/pack_r16.h"
#include "common/tensor_type.h"
#include "common/unit_buffers.h"
#include "kernels/kernel_args.h"

struct ops;

/* Build what is needed for these weight types on the device: from `store`, or by compiling
 * the embedded sources. What was compiled, and proven where it needs proof, is launched once
 * without data and kept in the store, so that nothing is compiled next time. `ids` and queue
 * are borrowed. NULL on failure, with the head of the build log in the sentence. */
struct ops_options {
    bool weight_types[TENSOR_TYPE_COUNT];
    bool packed_types[TENSOR_TYPE_COUNT];   /* the same, for matrices in LAYOUT_R16 */
    bool embed_types[TENSOR_TYPE_COUNT];    /* of tables that rows are gathered from */
    bool gemm_types[TENSOR_TYPE_COUNT];     /* of `weight_types`, those that op_gemm() will meet */
    uint64_t most_rows;                     /* of a matrix; with a store */
    const struct kernel_store *store;       /* borrowed during ops_new(); NULL: none */
    const struct device *device;            /* whose kernels the store has; the same */
    cl_mem turns;                           /* BUFFER_TURNS, used while the ops live; NULL: one of their own */
    enum numeric_class numeric;
    enum kv_type kv_type;
    bool plain_attention;   /* kernels/attention.cl also on a CPU, whose own form is faster; for tests */
    uint32_t attention_splits;   /* who share the keys of a query; 0: as many as keep the device busy; for tests */
    /* Names from ops_variants(), borrowed during ops_new() only; NULL: the first of
     * ops_variants() that ops_new() proves right, or whose binary the store has: only what
     * was right is kept there. */
    const char *variants[LAYOUT_COUNT][TENSOR_TYPE_COUNT];
};
struct ops *ops_new(cl_context context, cl_device_id id, cl_command_queue queue,
                    const struct ops_options *options, struct error *err);
void ops_free(struct ops *ops);   /* NULL is fine */

/* The weights among the buffers, as ops_new() wants to know of them. */
void ops_note_buffers(struct ops_options *options, const struct buffer_list *list);

/* What ops_new() took from the store and what it compiled. */
struct ops_builds {
    uint32_t loaded, compiled, kept;
    char reason[240];       /* why the store was of no use, the first time; "" where it just has none */
};
const struct ops_builds *ops_builds(const struct ops *ops);

/* The kernels that could multiply such matrices here, the most promising first: what
 * the device's kind and driver and, for kernels with machine instructions, the CPU of
 * this host allow. All give the same bits. At most OPS_MOST_VARIANTS names, static;
 * none where no kernel takes such a matrix. The last is plain OpenCL C. */
#define OPS_MOST_VARIANTS 4
uint32_t ops_variants(cl_device_id id, enum numeric_class numeric, enum weight_layout layout,
                      enum tensor_type type, const char *names[OPS_MOST_VARIANTS]);

/* Build the variant, run it and compare with a known answer. False where it does not
 * build, fails or is wrong, which is no reason to stop: there are others. */
bool ops_prove_variant(cl_context context, cl_device_id id, cl_command_queue queue,
                       enum numeric_class numeric, enum weight_layout layout, enum tensor_type type,
                       const char *name, struct error *err);

/* Activations in blocks of 32: values, scale and sum of the block's int8 values. */
struct q8_buffers {
    cl_mem values;   /* [tokens][columns] int8 */
    cl_mem scales;   /* [tokens][columns / 32] float */
    cl_mem sums;     /* [tokens][columns / 32] int32 */
};

/* One buffer of a matrix. */
struct device_matrix {
    cl_mem buffer;
    enum tensor_type type;
    enum weight_layout layout;
    uint32_t rows, columns;
    uint32_t row_offset;   /* of the whole matrix */
};

/* out [tokens][columns] = x / sqrt(mean(x^2) + epsilon) * weight. */
bool op_rms_norm(struct ops *ops, cl_mem x, cl_mem weight, cl_mem out,
                 const struct rms_norm_args *args, struct error *err);
/* The same, quantised to blocks of 32 (columns a multiple of 32). */
bool op_rms_norm_q8(struct ops *ops, cl_mem x, cl_mem weight, const struct q8_buffers *out,
                    const struct rms_norm_args *args, struct error *err);

/* scale = max|x| / 127 of each block, value = round(x / scale) to nearest even. */
bool op_quantise(struct ops *ops, cl_mem x, const struct q8_buffers *out,
                 const struct quantise_args *args, struct error *err);

/* y[t][row_offset + r] (+)= W x. Float class: any type with float x
 * [tokens][columns]. */
bool op_matmul(struct ops *ops, const struct device_matrix *matrix, cl_mem x, cl_mem y,
               uint32_t token_count, uint32_t y_stride, bool accumulate, struct error *err);
/* Int8 class: a quantised type with q8 activations. */
bool op_matmul_q8(struct ops *ops, const struct device_matrix *matrix, const struct q8_buffers *x,
                  cl_mem y, uint32_t token_count, uint32_t y_stride, bool accumulate,
                  struct error *err);

/* The product of op_matmul() for a matrix in rows, by CLBlast, which sums in an order of its
 * own. Types other than F32 become floats in `room` first, as many rows at a time as its bytes
 * hold. False also where the library is missing; ops_gemm_is_there() loads it and tells. */
bool ops_gemm_is_there(struct error *err);
bool op_gemm(struct ops *ops, const struct device_matrix *matrix, cl_mem x, cl_mem y, cl_mem room,
             uint64_t room_bytes, uint32_t token_count, uint32_t y_stride, bool accumulate, struct error *err);

/* In place on qkv [tokens][(heads + 2 kv_heads) * head_dim]: add the bias, RMS-norm
 * each q and k head where asked, rotate q and k by `rope` [tokens][rotary/2][2];
 * then write K and V of each token to its page:
 *   page = page_table[sequences[t]][positions[t] / KV_PAGE_TOKENS]
 *   k, v  [page][kv_head][KV_PAGE_TOKENS] vectors of kv_vector_bytes()
 * `bias` and `qk_norm` ([2][head_dim]: q, k) may be NULL where args say so. */
bool op_rope_kv(struct ops *ops, cl_mem qkv, cl_mem bias, cl_mem qk_norm, cl_mem rope,
                cl_mem positions, cl_mem sequences, cl_mem page_table, cl_mem k, cl_mem v,
                const struct rope_kv_args *args, struct error *err);

/* out [tokens][heads * head_dim]: query t sees keys with position in
 * (positions[t] - window, positions[t]] of its own sequence. Where `out` has room for more
 * than that (out_values: all floats that it holds), what follows is used up: with too few
 * queries for the device, their keys are shared out between its compute units. */
bool op_attention(struct ops *ops, cl_mem qkv, cl_mem k, cl_mem v, cl_mem positions,
                  cl_mem sequences, cl_mem page_table, cl_mem out, uint64_t out_values,
                  const struct attention_args *args, struct error *err);

/* out [tokens][intermediate] = silu(gate) * up; gate and up from wide
 * [tokens][2 * intermediate]. */
bool op_swiglu(struct ops *ops, cl_mem wide, cl_mem out, const struct swiglu_args *args,
               struct error *err);
bool op_swiglu_q8(struct ops *ops, cl_mem wide, const struct q8_buffers *out,
                  const struct swiglu_args *args, struct error *err);

/* out[t] = row ids[t] of the table (LAYOUT_ROWS), as float; rows outside this buffer
 * are left. */
bool op_embed(struct ops *ops, const struct device_matrix *table, cl_mem ids, cl_mem out,
              uint32_t token_count, struct error *err);

#endif
