/* ops_internal: what the files of the launchers share; nobody else includes it. */
#ifndef KERNELS_OPS_INTERNAL_H
#define KERNELS_OPS_INTERNAL_H

#include "kernels/kernel_program.h"
#include "kernels/ops.h"

/* The kernels that are the same for every model. */
enum fixed_kernel {
    KERNEL_RMS_NORM, KERNEL_RMS_NORM_Q8, KERNEL_QUANTISE, KERNEL_ROPE_KV, KERNEL_ATTENTION,
    KERNEL_ATTENTION_TILE, KERNEL_ATTENTION_JOIN, KERNEL_SWIGLU, KERNEL_SWIGLU_Q8, FIXED_KERNEL_COUNT
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
    uint32_t attention_splits;
    cl_kernel fixed[FIXED_KERNEL_COUNT];                        /* owned */
    cl_mem turns;              /* a reference; NULL: not needed yet; see kernels/turns.h */
    struct matmul_kernels matmul[2][LAYOUT_COUNT][TENSOR_TYPE_COUNT];   /* by numeric_class */
    cl_kernel embed[TENSOR_TYPE_COUNT];                         /* owned; NULL: not built yet */
    cl_kernel expand[TENSOR_TYPE_COUNT];                        /* the same */

    /* while ops_new() runs: where binaries come from, NULL: nowhere; and what was compiled, to
     * be kept there */
    const struct kernel_store *store;
    const struct device *device;
    struct built_program *compiled;                             /* owned */
    uint32_t compiled_count;
    uint64_t most_rows;
    struct ops_builds builds;
    size_t rehearsed_items;    /* not 0: ops_launch() enqueues so many, whatever the launch says */
};

/* A driver may specialise a kernel at its first launch, by local size, offset and size of the
 * grid: PoCL does so for grids below and from 65,535 items on. All grids but those of one item a
 * row of a large matrix are small. */
#define LARGE_GRID 65535u
#define LAUNCHES_SMALL "small"
#define LAUNCHES_BOTH "small,large"

/* Make a program and move its kernels to `kernels`, as many as the request names. With a store,
 * what was compiled is noted, to be kept. */
bool ops_open_program(struct ops *ops, const struct program_request *request, cl_kernel *const kernels[],
                      struct error *err);
/* Forget what was noted last: it is not to be kept. */
void ops_forget_program(struct ops *ops);

/* ops_rehearse.c: launch every kernel that is built, on no data, in each of those ways; and
 * hand the noted programs to the store. */
bool ops_rehearse(struct ops *ops, struct error *err);
void ops_keep_programs(struct ops *ops);

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

bool ops_launch_fixed(struct ops *ops, enum fixed_kernel which, const struct launch *launch,
                      const struct kernel_argument *arguments, size_t count, struct error *err);

/* A CPU, and a driver that compiles as for one. */
bool ops_is_cpu(cl_device_id id);
/* PoCL on x86 whose CPU has the instruction that makes floats of halves. */
bool ops_has_f16c(cl_device_id id);

/* Build the matrix product of this class, layout and type, once. `name` as in
 * ops_options. */
bool ops_prepare_matmul(struct ops *ops, enum numeric_class numeric, enum weight_layout layout,
                        enum tensor_type type, const char *name, struct error *err);
void ops_release_matmul(struct ops *ops);
/* Build a kernel that only decodes rows of this type. */
bool ops_open_decoder(struct ops *ops, const char *source, const char *name, enum tensor_type type,
                      cl_kernel *kernel, struct error *err);
bool ops_prepare_embed(struct ops *ops, enum tensor_type type, struct error *err);
/* Rows `row` .. of a matrix as floats, for a library: the kernel, once, and its launch. */
bool ops_prepare_expand(struct ops *ops, enum tensor_type type, struct error *err);
bool ops_expand(struct ops *ops, const struct device_matrix *matrix, cl_mem out, uint64_t row, uint64_t rows,
                struct error *err);
/* Zeros for kernels/turns.h: in `turns`, which is retained, or in a buffer of its own. */
bool ops_open_turns(struct ops *ops, cl_mem turns, struct error *err);
/* A product with the largest matrix is a large grid. */
bool ops_grid_is_large(const struct ops *ops, const struct matmul_variant *variant);

/* A launcher that has no kernels yet, and its end. */
void ops_init(struct ops *ops, cl_context context, cl_device_id id, cl_command_queue queue);
void ops_release(struct ops *ops);

#endif
