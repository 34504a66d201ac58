#include "kernels/turns.h"
#include "tests/support_kernels.h"

#include <stdlib.h>

static void turns_hand_out_every_step_once(void **state) {
    (void)state;
    static const int units[] = { 1, 2, 3, 16, 128 };
    for (size_t u = 0; u < sizeof units / sizeof *units; u++)
        for (int steps = 0; steps < 400; steps += 1 + steps / 40)
            for (int least = 1; least < 9; least += 3) {
                int turn = 0, next = 0, begin, end, before = steps;
                for (; turn_range(turn, units[u], steps, least, &begin, &end); turn++) {
                    assert_int_equal(begin, next);
                    assert_true(end - begin >= least || end == steps);
                    assert_true(end - begin <= least || end - begin <= steps / (2 * units[u]));
                    assert_true(end - begin <= before);   /* never longer than the one before */
                    before = end - begin;
                    next = end;
                }
                assert_int_equal(next, steps);
                for (int late = turn; late < turn + 2 * units[u]; late++)
                    assert_false(turn_range(late, units[u], steps, least, &begin, &end));
            }
}

/* Half, a quarter, ... of the steps for two that run at once, each half in two. */
static void turns_grow_short(void **state) {
    (void)state;
    static const int ends[] = { 16, 32, 40, 48, 52, 56, 58, 60, 61, 62, 63, 64 };
    for (int turn = 0, begin, end; turn < 12; turn++) {
        assert_true(turn_range(turn, 2, 64, 1, &begin, &end));
        assert_int_equal(end, ends[turn]);
    }
}

static void products_leave_no_turns_behind(void **state) {
    (void)state;
    enum { ROWS = 200, COLUMNS = 64, TOKENS = 5 };
    int32_t turns[TURN_INTS];
    for (EACH_KERNEL_DEVICE(device)) {
        for (int i = 0; i < TURN_INTS; i++)
            turns[i] = 7;
        struct ops_options options = { .numeric = NUMERIC_FLOAT, .turns = kernel_buffer(device, sizeof turns, turns) };
        struct error err = { 0 };
        options.weight_types[TENSOR_F16] = true;
        struct ops *ops = ops_new(device->context, device->id, device->queue, &options, &err);
        ASSERT_OK(ops, err);
        size_t bytes;
        void *weights = random_weights(TENSOR_F16, 1, ROWS, COLUMNS, &bytes);
        float *x = random_floats(2, TOKENS * COLUMNS);
        const struct device_matrix matrix = {
            .buffer = kernel_buffer(device, bytes, weights), .type = TENSOR_F16, .rows = ROWS, .columns = COLUMNS,
        };
        cl_mem x_buffer = kernel_buffer(device, TOKENS * COLUMNS * sizeof *x, x);
        cl_mem y_buffer = kernel_buffer(device, TOKENS * ROWS * sizeof(float), NULL);
        for (uint32_t tokens = 1; tokens <= TOKENS; tokens += TOKENS - 1) {
            ASSERT_OK(op_matmul(ops, &matrix, x_buffer, y_buffer, tokens, ROWS, false, &err), err);
            kernel_read(device, options.turns, turns, sizeof turns);
            for (int i = 0; i < TURN_INTS; i++)
                assert_int_equal(turns[i], 0);
        }
        ops_free(ops);
        kernel_release(matrix.buffer);
        kernel_release(x_buffer);
        kernel_release(y_buffer);
        kernel_release(options.turns);
        free(weights);
        free(x);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(turns_hand_out_every_step_once),
        cmocka_unit_test(turns_grow_short),
        cmocka_unit_test(products_leave_no_turns_behind),
    };
    return cmocka_run_group_tests(tests, NULL, kernel_close);
}
