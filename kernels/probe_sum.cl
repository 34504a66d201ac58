/* probe_sum: the kernel with a known answer, by which the probe proves that a driver
 * compiles, launches and computes at all.
 *
 *   x     [count][items][16]  uint
 *   sums  [items][16]         uint:  sum over k < count of x[k], modulo 2^32
 *   fused [items][16]         float: fma(k & 3, x[k] & 7, sum) over the same, exact in float
 *
 * Launch: as many work-items as `items`, any local size.
 * Speed:  bound by reading x, a line of 64 bytes a work-item, so its time gives a
 *         first bandwidth (and shows a device that emulates fma).
 * Host:   planner/probe_child.c. Test: tests/test_probe.c. */
#include "kernels/numerics.h"

kernel void probe_sum(int count, global const uint16 *restrict x, global uint16 *restrict sums,
                      global float16 *restrict fused) {
    size_t items = get_global_size(0), i = get_global_id(0);
    uint16 sum = 0;
    float16 total = 0.0f;
    for (int k = 0; k < count; k++) {
        uint16 value = x[(size_t)k * items + i];
        sum += value;
        total = fma((float16)(float)(k & 3), convert_float16(value & 7u), total);
    }
    sums[i] = sum;
    fused[i] = total;
}
