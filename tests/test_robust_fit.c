#include "tests/support.h"

#include "planner/robust_fit.h"

#include <math.h>

#define ASSERT_WITHIN(value, expected, tolerance) do { double v = (value), e = (expected); \
    if (fabs(v / e - 1) > (tolerance)) fail_msg(#value ": %.9g instead of %.9g", v, e); } while (0)

static void one_shape_of_run_gives_its_median(void **state) {
    (void)state;
    struct fit_point points[] = {
        { 2, 4, 6.1 }, { 2, 4, 5.9 }, { 2, 4, 6.0 }, { 2, 4, 31 }, { 2, 4, 6.2 }, { 2, 4, 5.8 }, { 2, 4, 9 },
    };
    double a = 1, b = 0;
    assert_true(robust_fit(points, 7, &a, &b));
    assert_true(b == 0);   /* x1 and x2 cannot be told apart */
    ASSERT_WITHIN(a, 3.05, 0.02);
}

static void different_shapes_give_both_constants_despite_outliers(void **state) {
    (void)state;
    struct fit_point points[24];
    for (int i = 0; i < 24; i++) {
        points[i] = (struct fit_point){ 1 + i % 7, 0.1 * (i % 5), 0 };
        points[i].y = 2.5 * points[i].x1 + 0.75 * points[i].x2;
        points[i].y *= i % 6 == 5 ? 4 : 1;   /* another job ran meanwhile */
    }
    double a = 1, b = 1;
    assert_true(robust_fit(points, 24, &a, &b));
    ASSERT_WITHIN(a, 2.5, 0.02);
    ASSERT_WITHIN(b, 0.75, 0.2);
}

static void what_is_no_measurement_is_left_out(void **state) {
    (void)state;
    struct fit_point points[] = {
        { 1, 0, (double)NAN }, { 0, 0, 3 }, { 1, 0, -2 }, { 1, 0, 0 }, { 1, (double)INFINITY, 2 }, { 4, 0, 2 },
    };
    double a = 7, b = 8;
    assert_true(robust_fit(points, 6, &a, &b));
    ASSERT_WITHIN(a, 0.5, 1e-9);
    assert_true(b == 8);
    a = 7;
    assert_false(robust_fit(points, 5, &a, &b));
    assert_false(robust_fit(points, 0, &a, &b));
    assert_true(a == 7 && b == 8);
}

static void a_constant_is_never_negative(void **state) {
    (void)state;
    struct fit_point points[8];
    for (int i = 0; i < 8; i++)
        points[i] = (struct fit_point){ 1 + i, (i * 5) % 8, 3.0 * (1 + i) - 0.2 * ((i * 5) % 8) };
    double a = 1, b = 0;
    assert_true(robust_fit(points, 8, &a, &b));
    assert_true(a > 0 && b == 0);
    /* A given b that alone takes longer than it took. */
    b = 100;
    a = 1;
    struct fit_point one = { 1, 1, 2 };
    assert_false(robust_fit(&one, 1, &a, &b));
    assert_true(a == 1);
}

static void medians_are_medians(void **state) {
    (void)state;
    double odd[] = { 3, 1, 2 }, even[] = { 4, 1, 2, 3 };
    assert_true(median_of(odd, 3) == 2);
    assert_true(median_of(even, 4) == 2.5);
    assert_true(median_of(even, 0) == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_shape_of_run_gives_its_median),
        cmocka_unit_test(different_shapes_give_both_constants_despite_outliers),
        cmocka_unit_test(what_is_no_measurement_is_left_out),
        cmocka_unit_test(a_constant_is_never_negative),
        cmocka_unit_test(medians_are_medians),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
