/* Every map of units to devices, against what the search finds. */
#include "tests/support.h"

#include "planner/placement.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { UNITS = 8, DEVICES = 3, MAPS = 2187, INSTANCES = 4000 };   /* embed is on the host: 3^7 maps */

static uint32_t state_of_random;

static double uniform(double least, double most) {
    state_of_random = state_of_random * 1664525u + 1013904223u;
    return least + (most - least) * ((state_of_random >> 8) / (double)(1u << 24));
}

/* Log-uniform: figures of real devices lie orders of magnitude apart. */
static double spread(double least, double most) {
    return exp(uniform(log(least), log(most)));
}

/* Three blocks of a model on devices that differ in attention, matrices, memory and hops. */
static void build(struct placement_input *input) {
    struct error err = { 0 };
    ASSERT_OK(placement_input_init(input, UNITS, DEVICES, &err), err);
    double mib[4] = { 0, uniform(10, 60), uniform(40, 100), uniform(10, 80) };   /* by kind of unit */
    double kv = spread(0.1, 200), total = 3 * (mib[UNIT_ATTN] + kv + mib[UNIT_FFN]) + mib[UNIT_HEAD];
    for (uint32_t u = 0; u < UNITS; u++)
        input->kinds[u] = u == 0 ? UNIT_EMBED : u + 1 == UNITS ? UNIT_HEAD : u % 2 ? UNIT_ATTN : UNIT_FFN;
    input->pinned[0] = PLACEMENT_HOST;
    input->pool_bytes = (uint64_t)(total * uniform(0.3, 2));
    double hop = spread(0.01, 10);
    for (uint32_t d = 0; d < DEVICES; d++) {
        struct placement_device *device = &input->devices[d];
        double speed = spread(1, 30), kv_speed = speed * uniform(0.2, 1.5), scratch = uniform(0, 15);
        snprintf(device->name, sizeof device->name, "dev%u", d);
        device->budget_bytes = (uint64_t)(total * uniform(0.1, 1.2));
        device->in_pool = d > 0 && uniform(0, 1) < 0.5;
        for (uint32_t mask = 1; mask < PLACEMENT_KIND_MASKS; mask++)
            device->scratch_bytes[mask] = (uint64_t)scratch;
        for (uint32_t u = 1; u < UNITS; u++) {
            enum unit_kind kind = input->kinds[u];
            device->units[u].bytes = (uint64_t)(mib[kind] + (kind == UNIT_ATTN ? kv : 0));
            device->units[u].seconds = mib[kind] / speed + (kind == UNIT_ATTN ? kv / kv_speed : 0);
        }
        for (uint32_t e = 0; e <= PLACEMENT_MAX_DEVICES; e++)
            input->hop_seconds[d][e] = input->hop_seconds[e][d] = e == d ? 0 : hop * uniform(0.5, 1);
    }
}

static bool fits(const struct placement_input *input, int32_t *device) {
    struct placement placement = { device, 0 };
    uint64_t pool = 0;
    for (uint32_t d = 0; d < DEVICES; d++) {
        uint64_t bytes = placement_bytes(input, &placement, d);
        if (bytes > input->devices[d].budget_bytes)
            return false;
        pool += input->devices[d].in_pool ? bytes : 0;
    }
    return pool <= input->pool_bytes;
}

/* Each device's units are one run. */
static bool is_contiguous(const int32_t *device) {
    for (uint32_t a = 1; a < UNITS; a++)
        for (uint32_t b = a + 2; b < UNITS; b++)
            if (device[a] == device[b])
                for (uint32_t between = a + 1; between < b; between++)
                    if (device[between] != device[a])
                        return false;
    return true;
}

/* The search is exact over runs. How much a map that scatters units would win is printed, not asserted: these
 * devices differ in attention and matrices far more than real ones, and hops are cheap. */
static void no_run_of_units_on_each_device_is_faster(void **state) {
    (void)state;
    uint32_t feasible = 0, only_scattered = 0, beaten = 0, clearly = 0;
    double worst = 0, sum = 0;
    state_of_random = 7;
    for (uint32_t i = 0; i < INSTANCES; i++) {
        struct placement_input input;
        struct placement_result result;
        build(&input);
        double best = INFINITY, best_run = INFINITY;
        for (uint32_t map = 0; map < MAPS; map++) {
            int32_t device[UNITS] = { PLACEMENT_HOST };
            for (uint32_t u = 1, rest = map; u < UNITS; u++, rest /= DEVICES)
                device[u] = (int32_t)(rest % DEVICES);
            double seconds = placement_seconds(&input, device);
            if (seconds >= best_run || !fits(&input, device))
                continue;
            best = seconds < best ? seconds : best;
            if (is_contiguous(device))
                best_run = seconds;
        }
        bool found = placement_fastest(&input, &result, NULL);
        assert_int_equal(found, isfinite(best_run));
        only_scattered += isfinite(best) && !found;
        if (found) {
            assert_true(fits(&input, result.best.device));
            assert_true(fabs(placement_seconds(&input, result.best.device) - result.best.seconds) <
                        1e-9 * result.best.seconds);
            assert_true(result.best.seconds <= best_run * (1 + 1e-9));
            feasible++;
            double lost = result.best.seconds / best - 1;
            sum += lost;
            beaten += lost > 1e-9;
            clearly += lost > 0.02;
            worst = lost > worst ? lost : worst;
        }
        placement_result_release(&result);
        placement_input_release(&input);
    }
    print_message("# of %u instances that fit, any map beats the search in %u, by more than 2 %% in %u; "
                  "most %.2f %%, mean %.4f %%; %u fit only scattered\n", feasible, beaten, clearly, 100 * worst,
                  100 * sum / feasible, only_scattered);
    assert_true(feasible > INSTANCES / 3);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(no_run_of_units_on_each_device_is_faster) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
