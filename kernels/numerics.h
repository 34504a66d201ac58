/* numerics: the pieces of arithmetic whose rounding every kernel shares, compiled
 * as OpenCL C and, for the reference in tests, as C11.
 *
 * A result must have the same bits on every device, so nothing is left to a
 * built-in whose accuracy OpenCL only bounds: exp is spelled out in fma, and
 * division and square root are correctly rounded (a build option where the
 * device needs one). OpenCL sources include this first. */
#ifndef KERNELS_NUMERICS_H
#define KERNELS_NUMERICS_H

#ifdef __OPENCL_VERSION__
#pragma OPENCL FP_CONTRACT OFF

/* FMA_OF_FLOATS: for drivers whose fma() is a function of some hundred operations with
 * branches, which Mesa's llvmpipe takes many minutes to compile. Product and sums are taken with
 * their errors, all exact; of the two last errors the sum is rounded to odd (inexact and even:
 * one step towards its own error), so that the last addition is the only rounding that counts.
 * Right where the product and its error are normal numbers; elsewhere it may be off by the
 * rounding of the error. What is not finite comes from the plain sum. */
#ifdef FMA_OF_FLOATS
#define UPPER_HALF 0xfffff000   /* of a float: 12 bits, like the rest */
#define DEFINE_FMA(n)                                                                        \
static inline float##n fma_parts_sum##n(float##n a, float##n b, float##n *error) {           \
    float##n sum = a + b, part = sum - a;                                                    \
    *error = (a - (sum - part)) + (b - part);                                                \
    return sum;                                                                              \
}                                                                                            \
static inline float##n __attribute__((overloadable)) fma_of_floats(float##n a, float##n b,   \
                                                                   float##n c) {             \
    float##n a_high = as_float##n(as_int##n(a) & (int##n)(UPPER_HALF)), a_low = a - a_high;  \
    float##n b_high = as_float##n(as_int##n(b) & (int##n)(UPPER_HALF)), b_low = b - b_high;  \
    float##n product = a * b, plain = product + c, c_error, sum_error, last_error;           \
    float##n error = (a_high * b_high - product + a_high * b_low + a_low * b_high)           \
                     + a_low * b_low;                                                        \
    float##n addend = fma_parts_sum##n(c, error, &c_error);                                  \
    float##n sum = fma_parts_sum##n(product, addend, &sum_error);                            \
    float##n last = fma_parts_sum##n(c_error, sum_error, &last_error);                       \
    int##n bits = as_int##n(last), errors = as_int##n(last_error), magnitude = errors << 1;  \
    int##n step = ((errors ^ bits) >> 31) | 1;                                               \
    int##n is_inexact = (magnitude | -magnitude) >> 31, is_even = (bits & 1) - 1;            \
    int##n exact = as_int##n(sum + as_float##n(bits + (step & is_inexact & is_even)));       \
    int##n is_finite = ((as_int##n(plain) & 0x7f800000) - 0x7f800000) >> 31;                 \
    return as_float##n((exact & is_finite) | (as_int##n(plain) & ~is_finite));               \
}
DEFINE_FMA()
DEFINE_FMA(2)
DEFINE_FMA(4)
DEFINE_FMA(8)
DEFINE_FMA(16)
#define fma fma_of_floats
#endif
#else
#include <math.h>
#include <stdint.h>
#include <string.h>
#define fma fmaf
static inline int32_t as_int(float value) {
    int32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}
static inline float as_float(int32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
#endif

/* Added to |x| < 2^22, the sum holds x rounded to the nearest even integer in its
 * low bits: a rounding and a conversion that every device does alike. */
#define ROUNDER 12582912.0f          /* 1.5 * 2^23 */
#define ROUNDER_BITS 0x4b400000

/* e^x to about 1 ulp: x = n ln 2 + r with |r| < 0.35, Taylor to r^7. 0 where the
 * result would be subnormal, infinite above the range, NaN stays NaN. 2^n goes in
 * as two factors, since n = 128 is no exponent of a float. */
#define DEFINE_EXPONENTIAL(name, float_n, int_n, bits_of, power_of_2)                     \
static inline float_n name(float_n x) {                                               \
    float_n bounded = x > 89.0f ? (float_n)(89.0f) : x < -88.0f ? (float_n)(-88.0f) : x;  \
    float_n shifted = fma(bounded, (float_n)(1.44269504f), (float_n)(ROUNDER));           \
    int_n n = bits_of(shifted) - ROUNDER_BITS;                                            \
    float_n whole = shifted - ROUNDER;                                                    \
    float_n r = fma(whole, (float_n)(-0.693359375f), bounded);                            \
    r = fma(whole, (float_n)(2.12194440e-4f), r);                                         \
    float_n p = (float_n)(1.0f / 5040.0f);                                                \
    p = fma(p, r, (float_n)(1.0f / 720.0f));                                              \
    p = fma(p, r, (float_n)(1.0f / 120.0f));                                              \
    p = fma(p, r, (float_n)(1.0f / 24.0f));                                               \
    p = fma(p, r, (float_n)(1.0f / 6.0f));                                                \
    p = fma(p, r, (float_n)(0.5f));                                                       \
    p = fma(p * r, r, r) + 1.0f;                                                          \
    int_n half_n = n >> 1;                                                                \
    p = p * power_of_2(half_n) * power_of_2(n - half_n);                                  \
    return x < -87.33f ? (float_n)(0.0f) : p;                                             \
}

#ifdef __OPENCL_VERSION__
#define POWER_OF_2(n) as_float(((n) + 127) << 23)
#define POWERS_OF_2(n) as_float16(((n) + 127) << 23)
DEFINE_EXPONENTIAL(exp_1, float, int, as_int, POWER_OF_2)
DEFINE_EXPONENTIAL(exp_16, float16, int16, as_int16, POWERS_OF_2)

/* Half bits (0 .. 0xffff) to float, exactly: vload_half() is slow where the device
 * library spells it out one by one. Subnormals come from a subtraction, since some
 * devices flush those of float. */
#define DEFINE_HALF_TO_FLOAT(name, float_n, int_n, bits_of, value_of)                     \
static inline float_n name(int_n half_bits) {                                             \
    int_n magnitude = (half_bits & 0x7fff) << 13;                                         \
    int_n special = (magnitude >= 0x0f800000) & 0x38000000;                               \
    float_n normal = value_of(magnitude + 0x38000000 + special);                          \
    float_n subnormal = value_of(magnitude + 0x38800000) - 0x1p-14f;                      \
    float_n value = magnitude < 0x00800000 ? subnormal : normal;                          \
    return value_of(bits_of(value) | (half_bits & 0x8000) << 16);                         \
}
DEFINE_HALF_TO_FLOAT(half_to_float_2, float2, int2, as_int2, as_float2)
DEFINE_HALF_TO_FLOAT(half_to_float_4, float4, int4, as_int4, as_float4)
DEFINE_HALF_TO_FLOAT(half_to_float_8, float8, int8, as_int8, as_float8)
DEFINE_HALF_TO_FLOAT(half_to_float_16, float16, int16, as_int16, as_float16)

/* To the nearest half, ties to even; a NaN becomes a quiet one. Adding 0.5 leaves
 * what will be subnormal, rounded in steps of 2^-24, in the low bits of the sum. */
static inline ushort16 float_to_half_16(float16 x) {
    int16 bits = as_int16(x), sign = (bits >> 16) & 0x8000;
    bits &= 0x7fffffff;
    int16 subnormal = as_int16(as_float16(bits) + 0.5f) - 0x3f000000;
    int16 normal = ((bits + 0xfff + ((bits >> 13) & 1)) >> 13) - (112 << 10);
    int16 large = bits > 0x7f800000 ? (int16)(0x7e00) : (int16)(0x7c00);
    int16 value = bits < 0x38800000 ? subnormal : bits < 0x477ff000 ? normal : large;
    return convert_ushort16(value | sign);
}

/* The fixed tree over 8 or 16 partial sums. */
static inline float sum_8(float8 s) {
    float4 a = s.lo + s.hi;
    float2 b = a.lo + a.hi;
    return b.x + b.y;
}

static inline float sum_16(float16 s) {
    return sum_8(s.lo + s.hi);
}

/* 16 columns more of a dot product in 8 partial sums. */
static inline float8 add_products(float16 w, float16 x, float8 sums) {
    return fma(w.hi, x.hi, fma(w.lo, x.lo, sums));
}

static inline float largest_16(float16 v) {
    float8 a = fmax(v.lo, v.hi);
    float4 b = fmax(a.lo, a.hi);
    float2 c = fmax(b.lo, b.hi);
    return fmax(c.x, c.y);
}

/* The bits of the largest |x|. As integers, magnitudes of floats are in the same order, and
 * infinities and NaNs come last. */
static inline int largest_magnitude(float16 low, float16 high) {
    int16 m = max(as_int16(low) & 0x7fffffff, as_int16(high) & 0x7fffffff);
    int8 m8 = max(m.lo, m.hi);
    int4 m4 = max(m8.lo, m8.hi);
    int2 m2 = max(m4.lo, m4.hi);
    return max(m2.x, m2.y);
}

/* The first `count` < 16 values at p, then zeros. */
static inline float16 load_tail(global const float *p, int count) {
    float values[16];
    for (int i = 0; i < 16; i++)
        values[i] = i < count ? p[i] : 0.0f;
    return vload16(0, values);
}

/* The squares of x[columns] in 16 partial sums, then the tree. */
static inline float sum_of_squares(global const float *x, int columns) {
    float16 sums = 0.0f;
    int c = 0;
    for (; c + 16 <= columns; c += 16) {
        float16 v = vload16(0, x + c);
        sums = fma(v, v, sums);
    }
    if (c < columns) {
        float16 v = load_tail(x + c, columns - c);
        sums = fma(v, v, sums);
    }
    return sum_16(sums);
}
#else
#define POWER_OF_2(n) as_float((int32_t)((uint32_t)((n) + 127) << 23))
DEFINE_EXPONENTIAL(exp_1, float, int32_t, as_int, POWER_OF_2)
#undef fma
#endif

#endif
