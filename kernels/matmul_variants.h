/* matmul_variants: which kernels multiply a matrix, and on which machines. */
#ifndef KERNELS_MATMUL_VARIANTS_H
#define KERNELS_MATMUL_VARIANTS_H

#include "kernels/ops.h"

/* A source with the kernels matmul_one and matmul_tile, and how to launch it. */
struct matmul_variant {
    const char *name;
    const char *source, *defines;
    enum numeric_class numeric;
    enum weight_layout layout;
    uint32_t types;            /* bit i: tensor_type i */
    uint32_t rows;             /* of a work-item */
    uint32_t tile;             /* tokens of a work-item of matmul_tile: its TILE */
    uint32_t cpu_local, gpu_local;
    bool shares_rows;          /* a few work-items share the rows by turns, each takes all tokens */
    bool needs_proof;          /* has machine instructions that a compiler may not take */
    bool (*runs_on)(cl_device_id id);   /* NULL: anywhere */
};

/* Those that could run, the most promising first. */
uint32_t matmul_find_variants(cl_device_id id, enum numeric_class numeric, enum weight_layout layout,
                              enum tensor_type type, const struct matmul_variant *found[OPS_MOST_VARIANTS]);

/* Run the prepared product of this class, layout and type on a small matrix whose
 * product is exact, and compare. */
bool matmul_prove(struct ops *ops, enum numeric_class numeric, enum weight_layout layout,
                  enum tensor_type type, struct error *err);

/* Seconds of the prepared product of this class, layout and type with a matrix of middling
 * size: as many single tokens as in one pass, and the pass. False: the driver failed. */
bool matmul_time(struct ops *ops, enum numeric_class numeric, enum weight_layout layout, enum tensor_type type,
                 double *seconds, struct error *err);

#endif
