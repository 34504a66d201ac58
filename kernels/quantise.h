/* quantise: one block of 32 activations to int8, for the kernels that end in it.
 *
 *     scale = max|x| / 127    value = round(x / scale), ties to even
 *
 * A scale that is 0 gives values of 0. A NaN or an infinity in the block makes
 * the scale NaN and the values 0, so that it reaches the logits and is noticed there. */
#ifndef KERNELS_QUANTISE_H
#define KERNELS_QUANTISE_H

#include "kernels/numerics.h"

#define QUANTISE_LIMIT 127

#ifdef __OPENCL_VERSION__

static inline int16 round_to_int8(float16 x, float scale) {
    int16 value = as_int16(x / scale + ROUNDER) - ROUNDER_BITS;
    return clamp(value, (int16)(-QUANTISE_LIMIT), (int16)(QUANTISE_LIMIT));
}

static inline void quantise_block(float16 low, float16 high, size_t block, global char *values,
                           global float *scales, global int *sums) {
    int largest = largest_magnitude(low, high);
    float scale = largest < 0x7f800000 ? as_float(largest) / (float)QUANTISE_LIMIT : NAN;
    int16 q0 = 0, q1 = 0;
    if (scale > 0.0f) {
        q0 = round_to_int8(low, scale);
        q1 = round_to_int8(high, scale);
    }
    int16 pair = q0 + q1;
    int8 s8 = pair.lo + pair.hi;
    int4 s4 = s8.lo + s8.hi;
    int2 s2 = s4.lo + s4.hi;
    vstore16(convert_char16(q0), 0, values + block * 32);
    vstore16(convert_char16(q1), 1, values + block * 32);
    scales[block] = scale;
    sums[block] = s2.x + s2.y;
}

#endif
#endif
