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
    struct placement placement = { .device = device };
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

/* Of each instance the best map and the best with one run a device, by trying all. */
struct tried { double any, runs; };

static struct tried try_all(const struct placement_input *input) {
    struct tried best = { INFINITY, INFINITY };
    for (uint32_t map = 0; map < MAPS; map++) {
        int32_t device[UNITS] = { PLACEMENT_HOST };
        for (uint32_t u = 1, rest = map; u < UNITS; u++, rest /= DEVICES)
            device[u] = (int32_t)(rest % DEVICES);
        double seconds = placement_seconds(input, device);
        if (seconds >= best.runs || !fits(input, device))
            continue;
        best.any = seconds < best.any ? seconds : best.any;
        if (is_contiguous(device))
            best.runs = seconds;
    }
    return best;
}

static void check_sound(const struct placement_input *input, const struct placement *placement) {
    assert_true(fits(input, placement->device));
    double seconds = placement_seconds(input, placement->device);
    assert_true(fabs(seconds - placement->seconds) < 1e-9 * seconds);
}

static void no_map_of_units_to_devices_is_clearly_faster(void **state) {
    (void)state;
    uint32_t feasible = 0, only_scattered = 0, beaten = 0, clearly = 0, over_runs = 0;
    double worst = 0;
    state_of_random = 7;
    for (uint32_t i = 0; i < INSTANCES; i++) {
        struct placement_input input;
        struct placement_result runs, result, again;
        build(&input);
        const struct tried best = try_all(&input);
        bool found_runs = placement_runs(&input, &runs, NULL), found = placement_fastest(&input, &result, NULL);
        assert_int_equal(found_runs, isfinite(best.runs));
        assert_int_equal(found, isfinite(best.any));
        if (found_runs) {
            check_sound(&input, &runs.best);
            assert_true(runs.best.seconds <= best.runs * (1 + 1e-9));
            assert_true(result.best.seconds <= runs.best.seconds);
            over_runs += runs.best.seconds > 1.02 * best.any;
        }
        if (found) {
            check_sound(&input, &result.best);
            double lost = result.best.seconds / best.any - 1;
            feasible++;
            only_scattered += !found_runs;
            beaten += lost > 1e-9;
            clearly += lost > 0.02;
            worst = lost > worst ? lost : worst;
            for (uint32_t a = 0; a < result.alternative_count; a++) {
                check_sound(&input, &result.alternatives[a]);
                assert_true(result.alternatives[a].seconds >= result.best.seconds);
            }
            assert_true(placement_fastest(&input, &again, NULL));
            assert_memory_equal(again.best.device, result.best.device, UNITS * sizeof *result.best.device);
            placement_result_release(&again);
        }
        placement_result_release(&runs);
        placement_result_release(&result);
        placement_input_release(&input);
    }
    print_message("# of %u instances that fit, %u only scattered, a map beats the best runs by more than 2 %% in %u; "
                  "a map beats the search in %u, by more than 2 %% in %u, at most by %.2f %%\n",
                  feasible, only_scattered, over_runs, beaten, clearly, 100 * worst);
    assert_true(feasible > INSTANCES / 3);
    assert_true(over_runs > feasible / 20);   /* else nothing is shown */
    assert_int_equal(clearly, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(no_map_of_units_to_devices_is_clearly_faster) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
