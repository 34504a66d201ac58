/* probe_sum: the kernel with a known answer, by which the probe proves that a driver
 * compiles, launches and computes at all.
 *
 *   x     [count * items]  uint
 *   sums  [items]          uint:  sum over k < count of x[k * items + i], modulo 2^32
 *   fused [items]          float: fma(k & 3, x & 7, ...) over the same, exact in float
 *
 * Launch: as many work-items as `items`, any local size.
 * Speed:  bound by reading x, so its time gives a first bandwidth.
 * Host:   planner/probe_child.c. Test: tests/test_probe.c. */
kernel void probe_sum(int count, global const uint *restrict x, global uint *restrict sums,
                      global float *restrict fused) {
    size_t items = get_global_size(0), i = get_global_id(0);
    uint sum = 0;
    float total = 0.0f;
    for (int k = 0; k < count; k++) {
        uint value = x[(size_t)k * items + i];
        sum += value;
        total = fma((float)(k & 3), (float)(value & 7u), total);
    }
    sums[i] = sum;
    fused[i] = total;
}
