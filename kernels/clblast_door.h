/* clblast_door: the only code that knows CLBlast, a library of tuned matrix products.
 *
 * It is loaded when it is first asked for, never before, and may be missing. Its sums
 * are in an order of its own, which depends on the device and the shape: what is
 * computed with it is outside the promise of equal bits (kernels/ops.h), and plans
 * that use it say so. */
#ifndef KERNELS_CLBLAST_DOOR_H
#define KERNELS_CLBLAST_DOOR_H

#include "common/opencl.h"

/* Whether the library is there; loads it. */
bool clblast_is_there(struct error *err);

/* All row-major float32, offsets and strides in values:
 *   y[t * y_stride + y_offset + r] (+)= sum over c of weights[r * columns + c] * x[t * columns + c]
 * Enqueued like any launch. The first product of a kind on a device may compile for seconds. */
struct clblast_product {
    cl_mem weights, x, y;
    size_t token_count, rows, columns;
    size_t y_offset, y_stride;
    bool accumulate;
};
bool clblast_multiply(cl_command_queue queue, const struct clblast_product *product, struct error *err);

#endif
