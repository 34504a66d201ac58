#include "tests/support.h"

#include "planner/placement.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB (1024u * 1024u)

/* A model of equal blocks in round figures: attn 30 MiB, ffn 70 MiB, head 50 MiB,
 * embed on the host. Seconds of a unit on a device: MiB / `speeds`. */
struct machine {
    uint32_t blocks, device_count;
    struct { const char *name; uint32_t budget_mib, speed; bool in_pool; uint32_t scratch_mib; } devices[6];
    uint32_t pool_mib;
    double hop;
};

static uint32_t unit_mib(enum unit_kind kind) {
    return kind == UNIT_ATTN ? 30 : kind == UNIT_FFN ? 70 : 50;
}

static void build(struct placement_input *input, const struct machine *machine) {
    struct error err = { 0 };
    uint32_t units = 2 * machine->blocks + 2;
    ASSERT_OK(placement_input_init(input, units, machine->device_count, &err), err);
    input->pool_bytes = (uint64_t)machine->pool_mib * MIB;
    for (uint32_t u = 0; u < units; u++)
        input->kinds[u] = u == 0 ? UNIT_EMBED : u + 1 == units ? UNIT_HEAD : u % 2 ? UNIT_ATTN : UNIT_FFN;
    input->pinned[0] = PLACEMENT_HOST;
    for (uint32_t d = 0; d < machine->device_count; d++) {
        struct placement_device *device = &input->devices[d];
        snprintf(device->name, sizeof device->name, "%s", machine->devices[d].name);
        device->budget_bytes = (uint64_t)machine->devices[d].budget_mib * MIB;
        device->in_pool = machine->devices[d].in_pool;
        for (uint32_t mask = 1; mask < PLACEMENT_KIND_MASKS; mask++)
            device->scratch_bytes[mask] = (uint64_t)machine->devices[d].scratch_mib * MIB;
        for (uint32_t u = 0; u < units; u++) {
            device->units[u].bytes = (uint64_t)unit_mib(input->kinds[u]) * MIB;
            device->units[u].seconds = (double)unit_mib(input->kinds[u]) / machine->devices[d].speed;
        }
        for (uint32_t e = 0; e <= PLACEMENT_MAX_DEVICES; e++)
            input->hop_seconds[d][e] = input->hop_seconds[e][d] = e == d ? 0 : machine->hop;
    }
}

/* "h" for the host, else the device's digit, unit by unit. */
static const char *drawn(const struct placement_input *input, const struct placement *placement) {
    static char text[128];
    for (uint32_t u = 0; u < input->unit_count; u++)
        text[u] = placement->device[u] < 0 ? 'h' : (char)('0' + placement->device[u]);
    text[input->unit_count] = '\0';
    return text;
}

static void check_budgets(const struct placement_input *input, const struct placement *placement) {
    uint64_t pool = 0;
    for (uint32_t d = 0; d < input->device_count; d++) {
        uint64_t bytes = placement_bytes(input, placement, d);
        assert_true(bytes <= input->devices[d].budget_bytes);
        pool += input->devices[d].in_pool ? bytes : 0;
    }
    assert_true(pool <= input->pool_bytes);
}

static void each_policy_splits_as_the_table_says(void **state) {
    (void)state;
    static const struct {
        struct machine machine;
        const char *fill, *runs;   /* NULL: does not fit */
    } cases[] = {
        /* Everything fits on the fast one; order decides only for fill. */
        { { 4, 2, { { "cpu0", 900, 1, true, 10 }, { "gpu0", 900, 10, false, 10 } }, 900, 0.1 },
          "h000000000", "h111111111" },
        /* gpu0 holds two blocks and a half beside its scratch: half-blocks count. */
        { { 4, 2, { { "gpu0", 250, 10, false, 10 }, { "cpu0", 900, 1, true, 10 } }, 900, 0.1 },
          "h000001111", "h000001111" },
        /* From the other end, where the head would not leave room for another half. */
        { { 4, 2, { { "gpu0", 230, 10, false, 10 }, { "cpu0", 900, 1, true, 10 } }, 900, 0.1 },
          "h000011111", "h111110000" },
        /* A device that is too small for any unit is passed over. */
        { { 2, 2, { { "gpu0", 35, 10, false, 10 }, { "cpu0", 900, 1, true, 10 } }, 900, 0.1 },
          "h11111", "h11111" },
        /* Two CPU devices share one pool: together they may not exceed it. */
        { { 2, 2, { { "cpu0", 250, 2, true, 10 }, { "cpu1", 250, 1, true, 10 } }, 265, 0 },
          NULL, NULL },
        { { 2, 2, { { "cpu0", 250, 2, true, 10 }, { "cpu1", 250, 1, true, 10 } }, 270, 0 },
          "h00001", "h10000" },
        /* A hop that costs more than it saves leaves the fast device empty. */
        { { 1, 2, { { "cpu0", 900, 10, true, 0 }, { "gpu0", 80, 20, false, 0 } }, 900, 9 },
          "h000", "h000" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (int policy = 0; policy < 2; policy++) {
            const char *expected = policy ? cases[i].runs : cases[i].fill;
            struct placement_input input;
            struct placement_result result;
            struct error err = { 0 };
            build(&input, &cases[i].machine);
            bool found = policy ? placement_runs(&input, &result, &err) : placement_fill(&input, &result, &err);
            if (!expected) {
                assert_false(found);
                assert_true(result.infeasible);
                assert_int_equal(err.kind, ERROR_FAILED);
            } else {
                ASSERT_OK(found, err);
                if (strcmp(drawn(&input, &result.best), expected) != 0)
                    fail_msg("case %zu, policy %d: %s instead of %s", i, policy, drawn(&input, &result.best),
                             expected);
                check_budgets(&input, &result.best);
            }
            placement_result_release(&result);
            placement_input_release(&input);
        }
    }
}

/* ---- against brute force ---- */

/* The least time over all assignments with one contiguous run a device. */
static double brute_force(const struct placement_input *input, int32_t *device, uint32_t unit, uint32_t used) {
    if (unit == input->unit_count) {
        struct placement placement = { .device = device };
        uint64_t pool = 0;
        for (uint32_t d = 0; d < input->device_count; d++) {
            uint64_t bytes = placement_bytes(input, &placement, d);
            if (bytes > input->devices[d].budget_bytes)
                return INFINITY;
            pool += input->devices[d].in_pool ? bytes : 0;
        }
        return pool > input->pool_bytes ? INFINITY : placement_seconds(input, device);
    }
    if (input->pinned[unit] != PLACEMENT_FREE) {
        device[unit] = input->pinned[unit];
        return brute_force(input, device, unit + 1, used);
    }
    /* The device that ran the last free unit may go on; others must be new. */
    int32_t running = -9;
    for (uint32_t u = unit; u-- > 0 && running == -9;)
        if (input->pinned[u] == PLACEMENT_FREE)
            running = device[u];
    double best = INFINITY;
    for (uint32_t d = 0; d < input->device_count; d++) {
        if ((used >> d & 1 && running != (int32_t)d) || !input->devices[d].units[unit].allowed)
            continue;
        device[unit] = (int32_t)d;
        double seconds = brute_force(input, device, unit + 1, used | 1u << d);
        best = seconds < best ? seconds : best;
    }
    return best;
}

static uint32_t drawn_number(uint32_t *seed, uint32_t below) {
    *seed = *seed * 1664525u + 1013904223u;
    return (*seed >> 8) % below;
}

static void the_search_finds_what_brute_force_finds(void **state) {
    (void)state;
    uint32_t seed = 7, feasible = 0;
    for (uint32_t round = 0; round < 400; round++) {
        struct machine machine = { .blocks = 1 + drawn_number(&seed, 4), .device_count = 1 + drawn_number(&seed, 4) };
        for (uint32_t d = 0; d < machine.device_count; d++) {
            machine.devices[d].name = "dev";
            machine.devices[d].budget_mib = 30 + drawn_number(&seed, 400);
            machine.devices[d].speed = 1 + drawn_number(&seed, 20);
            machine.devices[d].in_pool = drawn_number(&seed, 2);
            machine.devices[d].scratch_mib = drawn_number(&seed, 30);
        }
        machine.pool_mib = 100 + drawn_number(&seed, 500);
        machine.hop = drawn_number(&seed, 100) / 20.0;
        struct placement_input input;
        build(&input, &machine);
        for (uint32_t u = 1; u < input.unit_count; u++) {
            if (drawn_number(&seed, 8) == 0)
                input.pinned[u] = (int32_t)drawn_number(&seed, machine.device_count);
            else if (drawn_number(&seed, 8) == 0)
                input.devices[drawn_number(&seed, machine.device_count)].units[u].allowed = false;
        }
        for (uint32_t d = 0; d < machine.device_count; d++) {
            input.devices[d].scratch_bytes[1u << UNIT_HEAD] /= 2;
            for (uint32_t e = 0; e < machine.device_count; e++)
                input.hop_seconds[d][e] = d == e ? 0 : drawn_number(&seed, 100) / 20.0;
        }
        int32_t *device = calloc(input.unit_count, sizeof *device);
        assert_non_null(device);
        double expected = brute_force(&input, device, 0, 0);
        free(device);

        struct placement_result result;
        struct error err = { 0 };
        bool found = placement_runs(&input, &result, &err);
        assert_int_equal(found, isfinite(expected));
        if (found) {
            feasible++;
            if (fabs(result.best.seconds - expected) > 1e-9 * expected)
                fail_msg("round %u: %g instead of %g", round, result.best.seconds, expected);
            check_budgets(&input, &result.best);
            for (uint32_t i = 0; i < result.alternative_count; i++) {
                check_budgets(&input, &result.alternatives[i]);
                assert_true(result.alternatives[i].seconds >= result.best.seconds);
            }
        } else {
            assert_true(result.infeasible);
        }
        placement_result_release(&result);
        placement_input_release(&input);
    }
    assert_in_range(feasible, 50, 390);
}

static void three_small_devices_are_used_in_the_order_that_fits(void **state) {
    (void)state;
    /* 3 blocks: 100 + 100 + 100, head 50: only the CPU holds a block and the head. */
    struct machine machine = { 3, 3, { { "gpu0", 110, 9, false, 0 }, { "gpu1", 110, 5, false, 0 },
                                       { "cpu0", 150, 1, true, 0 } }, 150, 0.01 };
    struct placement_input input;
    struct placement_result result;
    struct error err = { 0 };
    build(&input, &machine);
    ASSERT_OK(placement_runs(&input, &result, &err), err);
    assert_string_equal(drawn(&input, &result.best), "h0011222");
    assert_int_equal(result.alternative_count, 0);
    placement_result_release(&result);
    placement_input_release(&input);
}

static void pinned_units_stay_and_the_rest_flows_around_them(void **state) {
    (void)state;
    struct machine machine = { 3, 2, { { "cpu0", 900, 2, true, 10 }, { "cpu1", 900, 1, true, 10 } }, 1800, 0.1 };
    struct placement_input input;
    struct placement_result result;
    struct error err = { 0 };
    build(&input, &machine);
    for (uint32_t u = 2; u < 7; u += 2)
        input.pinned[u] = 1;
    ASSERT_OK(placement_fastest(&input, &result, &err), err);
    assert_string_equal(drawn(&input, &result.best), "h0101010");
    placement_result_release(&result);
    ASSERT_OK(placement_fill(&input, &result, &err), err);
    assert_string_equal(drawn(&input, &result.best), "h0101010");
    placement_result_release(&result);
    /* A pin that exceeds its device is no plan, however large the others are. */
    input.devices[1].budget_bytes = 200 * MIB;
    assert_false(placement_fill(&input, &result, &err));
    assert_true(result.infeasible);
    assert_false(placement_fastest(&input, &result, &err));
    assert_true(result.infeasible);
    placement_input_release(&input);
}

static void the_reasons_name_device_and_bytes(void **state) {
    (void)state;
    struct machine machine = { 4, 3, { { "gpu0", 260, 10, false, 10 }, { "gpu1", 35, 10, false, 10 },
                                       { "cpu0", 900, 1, true, 10 } }, 900, 0.1 };
    struct placement_input input;
    struct placement_result result;
    struct error err = { 0 };
    char text[200];
    build(&input, &machine);
    ASSERT_OK(placement_runs(&input, &result, &err), err);
    /* 250 MiB hold two blocks and the head; a third block lacks 100. */
    assert_string_equal(drawn(&input, &result.best), "h222200000");
    placement_binding(&input, &result.best, text, sizeof text);
    assert_string_equal(text, "one more block on 'gpu0' needs 100 MiB more");
    placement_empty_reason(&input, &result, 1, text, sizeof text);
    assert_string_equal(text, "too small: its smallest unit needs 40 MiB with scratch, and it has 35 MiB");
    placement_result_release(&result);

    input.devices[0].budget_bytes = 1000 * MIB;
    ASSERT_OK(placement_fastest(&input, &result, &err), err);
    placement_binding(&input, &result.best, text, sizeof text);
    assert_string_equal(text, "");
    placement_empty_reason(&input, &result, 2, text, sizeof text);
    assert_non_null(strstr(text, "not needed: with it the workload would take"));
    assert_int_equal(result.alternative_count, 2);
    placement_result_release(&result);
    placement_input_release(&input);
}

static void a_model_that_does_not_fit_is_told_need_and_room(void **state) {
    (void)state;
    struct machine machine = { 4, 2, { { "gpu0", 110, 10, false, 10 }, { "cpu0", 200, 1, true, 10 } }, 900, 0.1 };
    struct placement_input input;
    struct placement_result result;
    struct error err = { 0 };
    build(&input, &machine);
    assert_false(placement_fastest(&input, &result, &err));
    assert_string_equal(err.text, "the model does not fit: it needs 460 MiB (weights, KV and scratch) and there "
                        "are 310 MiB ('gpu0' 110 MiB, 'cpu0' 200 MiB)");
    input.devices[0].budget_bytes = input.devices[1].budget_bytes = 60 * MIB;
    assert_false(placement_fill(&input, &result, &err));
    assert_string_equal(err.text, "cannot place 'ffn.0': it needs 80 MiB with its KV and scratch, and the largest "
                        "device that may hold it, 'gpu0', has 60 MiB");
    for (uint32_t d = 0; d < 2; d++)
        input.devices[d].units[3].allowed = false;
    input.devices[0].budget_bytes = input.devices[1].budget_bytes = 900 * MIB;
    assert_false(placement_fastest(&input, &result, &err));
    assert_non_null(strstr(err.text, "no device may hold 'attn.1'"));
    placement_input_release(&input);
}

static void many_devices_and_blocks_end_in_time(void **state) {
    (void)state;
    struct machine machine = { .blocks = 1024, .device_count = 6, .pool_mib = 40000, .hop = 0.01 };
    for (uint32_t d = 0; d < 6; d++) {
        machine.devices[d].name = "dev";
        machine.devices[d].budget_mib = 20000 + 2000 * d;
        machine.devices[d].speed = 5 + 3 * d;
        machine.devices[d].in_pool = d < 3;
    }
    struct placement_input input;
    struct placement_result result;
    struct error err = { 0 };
    build(&input, &machine);
    struct placement_result runs;
    ASSERT_OK(placement_runs(&input, &runs, &err), err);
    ASSERT_OK(placement_fastest(&input, &result, &err), err);
    check_budgets(&input, &result.best);
    assert_true(result.best.seconds <= runs.best.seconds);
    placement_result_release(&runs);
    placement_result_release(&result);
    placement_input_release(&input);
}

static void a_device_may_come_back_where_that_is_clearly_faster(void **state) {
    (void)state;
    /* "gpu0" is far better at attention, and holds all of it (120 MiB) and no more. */
    struct machine machine = { 4, 2, { { "gpu0", 125, 1, false, 5 }, { "cpu0", 900, 1, true, 10 } }, 900, 0.01 };
    struct placement_input input;
    struct placement_result result;
    struct error err = { 0 };
    build(&input, &machine);
    for (uint32_t u = 1; u < input.unit_count; u++)
        input.devices[0].units[u].seconds *= input.kinds[u] == UNIT_ATTN ? 0.01 : 2;
    ASSERT_OK(placement_fastest(&input, &result, &err), err);
    assert_string_equal(drawn(&input, &result.best), "h010101011");
    check_budgets(&input, &result.best);
    /* The best runs come next; they use the same devices here, so that one on its own is shown. */
    assert_int_equal(result.alternative_count, 1);
    assert_string_equal(drawn(&input, &result.alternatives[0]), "h111111111");
    assert_true(result.best_with[0] == result.best.seconds && result.best_with[1] == result.best.seconds);
    placement_result_release(&result);
    /* Not where 3 % of attention's 30 % are all there is to gain. */
    for (uint32_t u = 1; u < input.unit_count; u++)
        input.devices[0].units[u].seconds = input.devices[1].units[u].seconds * (input.kinds[u] == UNIT_ATTN ? 0.97 : 2);
    for (uint32_t d = 0; d < 2; d++)
        input.devices[d].units[1].allowed = d == 1;   /* runs cannot begin with the other device either */
    ASSERT_OK(placement_fastest(&input, &result, &err), err);
    assert_string_equal(drawn(&input, &result.best), "h111111111");
    placement_result_release(&result);
    placement_input_release(&input);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_policy_splits_as_the_table_says),
        cmocka_unit_test(the_search_finds_what_brute_force_finds),
        cmocka_unit_test(three_small_devices_are_used_in_the_order_that_fits),
        cmocka_unit_test(pinned_units_stay_and_the_rest_flows_around_them),
        cmocka_unit_test(the_reasons_name_device_and_bytes),
        cmocka_unit_test(a_model_that_does_not_fit_is_told_need_and_room),
        cmocka_unit_test(many_devices_and_blocks_end_in_time),
        cmocka_unit_test(a_device_may_come_back_where_that_is_clearly_faster),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
