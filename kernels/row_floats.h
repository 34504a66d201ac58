/* row_floats: a row of weights as floats, 32 columns a work-item, for the kernels that only
 * decode. */
#ifndef KERNELS_ROW_FLOATS_H
#define KERNELS_ROW_FLOATS_H

#include "kernels/block_formats.h"

#ifdef __OPENCL_VERSION__

/* Columns 32 * group on of the row, those that there are, to the same place of `out`. Without
 * `restrict`: the simulator does not know what inlining makes of it. */
static inline void store_group(global const uchar *row, int group, int columns, global float *out) {
    int c = group * 32;
#if IS_QUANTISED
    float16 low, high;
    load_group(row, group, &low, &high);
    vstore16(low, 0, out + c);
    vstore16(high, 1, out + c);
#else
    for (int end = min(c + 32, columns); c < end; c++)
        out[c] = load_column(row, c);
#endif
}

#endif
#endif
