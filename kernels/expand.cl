/* expand: rows of a matrix as floats, for a library that knows no other weights.
 *
 *   weights  [rows][columns]       WEIGHTS_..., as the file stores them
 *   out      [row_count][columns]  float: rows row_begin .. of them
 *
 * Launch: (columns / 32 rounded up, row_count) work-items, 32 columns each.
 * Host:   kernels/ops_gemm.c, op_gemm(). Test: tests/test_kernel_gemm.c. */
#include "kernels/numerics.h"
#include "kernels/kernel_args.h"
#include "kernels/row_floats.h"

kernel void expand(struct expand_args args, global const uchar *restrict weights, global float *restrict out) {
    int group = get_global_id(0), r = get_global_id(1);
    if (group * 32 >= args.columns || r >= args.row_count)
        return;
    store_group(row_at(weights, args.row_begin + r, args.columns), group, args.columns, out + (size_t)r * args.columns);
}
