/* kernel_args: the scalar arguments of each kernel, one struct by value, compiled
 * as C11 by the host and as OpenCL C by the device, so that both read one
 * definition. Only 32-bit fields: no padding, no alignment to get wrong. */
#ifndef KERNELS_KERNEL_ARGS_H
#define KERNELS_KERNEL_ARGS_H

#ifdef __OPENCL_VERSION__
typedef int arg_int;
typedef float arg_float;
#else
#include <stdint.h>
typedef int32_t arg_int;
typedef float arg_float;
#endif

/* rms_norm.cl: x [tokens][columns] -> out, same shape (or its q8 form) */
struct rms_norm_args {
    arg_int token_count;
    arg_int columns;
    arg_float epsilon;
};

/* quantise.cl: x [tokens][columns] -> q8, columns a multiple of 32 */
struct quantise_args {
    arg_int token_count;
    arg_int columns;
};

/* matmul_*.cl: y[t][row_offset + r] (+)= sum over c of W[r][c] * x[t][c] */
struct matmul_args {
    arg_int token_count;
    arg_int rows;          /* of this buffer of the matrix */
    arg_int columns;
    arg_int row_offset;    /* where its first row lands in y */
    arg_int y_stride;      /* values in a row of y */
    arg_int accumulate;    /* 1: add to y (residual), 0: overwrite */
};

/* rope_kv.cl */
struct rope_kv_args {
    arg_int token_count;
    arg_int head_count;
    arg_int kv_head_count;
    arg_int head_dim;
    arg_int rotary_dim;
    arg_int page_columns;  /* pages in a row of the page table */
    arg_int has_bias;
    arg_int has_qk_norm;
    arg_float norm_epsilon;
};

/* Most queries of a work-item of attention_tile.cl. */
#define ATTENTION_LANES 16
/* Work-items of a group of attention.cl: two pages of keys. */
#define ATTENTION_GROUP 64

/* attention.cl, attention_tile.cl, attention_join.cl */
struct attention_args {
    arg_int token_count;
    arg_int head_count;
    arg_int kv_head_count;
    arg_int head_dim;
    arg_int qkv_stride;    /* values in a row of qkv */
    arg_int page_columns;
    arg_int window;        /* keys a query sees, its own included; 0: all */
    arg_float scale;
    arg_int key_count;     /* most keys that a query has before its window; 0: as many as the page table has */
    /* set by op_attention(): */
    arg_int heads_per_item, tokens_per_item;   /* of attention_tile.cl */
    arg_int split_count;   /* who share the spans of a query; more than one: they leave them in the room */
    arg_int span_slots;    /* that a query has in the room, see attention_span.h */
    arg_int room_begin;    /* values of `out` before the room */
};

/* swiglu.cl: wide [tokens][2 * intermediate] (gate, then up) -> [tokens][intermediate] */
struct swiglu_args {
    arg_int token_count;
    arg_int intermediate;
};

/* expand.cl: out[r][c] = row row_begin + r of the matrix */
struct expand_args {
    arg_int row_begin;
    arg_int row_count;
    arg_int columns;
};

/* embed.cl: out[t][c] = table[ids[t]][c] */
struct embed_args {
    arg_int token_count;
    arg_int columns;
    arg_int row_begin;     /* first vocabulary row in this buffer; other ids are skipped */
    arg_int row_count;
};

#endif
