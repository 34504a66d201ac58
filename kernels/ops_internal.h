/* ops_internal: what the files of the launchers share; nobody else includes it. */
#ifndef KERNELS_OPS_INTERNAL_H
#define KERNELS_OPS_INTERNAL_H

#include "kernels/ops.h"

/* The kernels that are the same for every model. */
enum fixed_kernel {
    KERNEL_RMS_NORM, KERNEL_RMS_NORM_Q8, KERNEL_QUANTISE, KERNEL_ROPE_KV, KERNEL_ATTENTION,
    KERNEL_ATTENTION_TILE, KERNEL_SWIGLU, KERNEL_SWIGLU_Q8, FIXED_KERNEL_COUNT
};

/* A matrix product for one type of weights in one class. */
struct matmul_kernels {
    const struct matmul_variant *variant;   /* in matmul_variants.c; NULL: not built yet */
    cl_kernel one, tile;                    /* owned */
};

struct ops {
    cl_context context;        /* borrowed */
    cl_device_id id;           /* borrowed */
    cl_command_queue queue;    /* borrowed */
    bool is_cpu;
    uint32_t compute_units;
    enum kv_type kv_type;
    bool plain_attention;
    cl_kernel fixed[FIXED_KERNEL_COUNT];                        /* owned */
    struct matmul_kernels matmul[2][LAYOUT_COUNT][TENSOR_TYPE_COUNT];   /* by numeric_class */
    cl_kernel embed[TENSOR_TYPE_COUNT];                         /* owned; NULL: not built yet */
    cl_kernel expand[TENSOR_TYPE_COUNT];                        /* the same */
};

/* One argument of a kernel, by address. */
struct kernel_argument {
    size_t size;
    const void *value;
};
#define ARGUMENT(variable) { sizeof (variable), &(variable) }
#define COUNT_OF(array) (sizeof (array) / sizeof *(array))

/* Work-items and the group's size along the first dimension: on a CPU a group is
 * what a thread takes at once, and its items run one after the other. */
struct launch {
    size_t items[2];
    size_t cpu_local, gpu_local;
};

/* Set the arguments and enqueue. The grid is padded to whole groups: kernels
 * guard themselves. Zero items are no work. */
bool ops_launch(struct ops *ops, cl_kernel kernel, const char *name, const struct launch *launch,
                const struct kernel_argument *arguments, size_t argument_count, struct error *err);

/* PoCL on x86 whose CPU has the instruction that makes floats of halves. */
bool ops_has_f16c(cl_device_id id);

cl_kernel ops_kernel(cl_program program, const char *name, struct error *err);   /* NULL on failure */

/* Build the matrix product of this class, layout and type, once. `name` as in
 * ops_options. */
bool ops_prepare_matmul(struct ops *ops, enum numeric_class numeric, enum weight_layout layout,
                        enum tensor_type type, const char *name, struct error *err);
void ops_release_matmul(struct ops *ops);

/* A launcher that has no kernels yet, and its end. */
void ops_init(struct ops *ops, cl_context context, cl_device_id id, cl_command_queue queue);
void ops_release(struct ops *ops);

#endif
