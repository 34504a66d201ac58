/* expand: rows of a matrix as floats, for a library that knows no other weights.
 *
 *   weights  [rows][columns]       WEIGHTS_..., as the file stores them
 *   out      [row_count][columns]  float: rows row_begin .. of them
 *
 * Launch: (columns / 32 rounded up, row_count) work-items, 32 columns each.
 * Host:   kernels/ops_gemm.c, op_gemm(). Test: tests/test_kernel_gemm.c. */
#include "kernels/numerics.h"
#include "kernels/kernel_args.h"
#include "kernels/block_formats.h"

kernel void expand(struct expand_args args, global const uchar *restrict weights, global float *restrict out) {
    int group = get_global_id(0), r = get_global_id(1), c = group * 32;
    if (c >= args.columns || r >= args.row_count)
        return;
    global const uchar *row = row_at(weights, args.row_begin + r, args.columns);
    out += (size_t)r * args.columns;
#if IS_QUANTISED
    float16 low, high;
    load_group(row, group, &low, &high);
    vstore16(low, 0, out + c);
    vstore16(high, 1, out + c);
#else
    for (int end = min(c + 32, args.columns); c < end; c++)
        out[c] = load_column(row, c);
#endif
}
