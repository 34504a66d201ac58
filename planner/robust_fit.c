#include "planner/robust_fit.h"

#include <math.h>
#include <stdlib.h>

enum { ROUNDS = 60 };

/* Beyond this relative error a point counts by its side only: the fit goes through medians,
 * which is what it is judged by, and not through means. */
#define LARGEST_LIMIT 0.02

static int compare(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

double median_of(double *values, uint32_t count) {
    if (!count)
        return 0;
    qsort(values, count, sizeof *values, compare);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

static bool is_usable(const struct fit_point *point) {
    return isfinite(point->x1) && isfinite(point->x2) && isfinite(point->y) && point->x1 > 0 && point->x2 >= 0 &&
           point->y > 0;
}

/* The relative errors as Huber weights: 1 near zero, falling with the distance beyond
 * 1.345 standard deviations, which 1.4826 median deviations estimate. */
static void weigh(const double *errors, uint32_t count, double *weights, double *scratch) {
    for (uint32_t i = 0; i < count; i++)
        scratch[i] = fabs(errors[i]);
    double limit = 1.345 * 1.4826 * median_of(scratch, count);
    limit = limit > LARGEST_LIMIT ? LARGEST_LIMIT : limit;
    for (uint32_t i = 0; i < count; i++)
        weights[i] = limit > 0 && fabs(errors[i]) > limit ? limit / fabs(errors[i]) : 1;
}

/* Weighted normal equations of the points, each divided by what the last round expects of
 * it: dividing by y would favour the small ones. With `both` false, b is given. */
static bool solve(const struct fit_point *points, uint32_t count, const double *weights, bool both, double *a,
                  double *b) {
    double s11 = 0, s12 = 0, s22 = 0, t1 = 0, t2 = 0;
    for (uint32_t i = 0; i < count; i++) {
        double expected = *a * points[i].x1 + *b * points[i].x2, w = weights[i];
        double u = points[i].x1 / expected, v = points[i].x2 / expected, y = points[i].y / expected;
        s11 += w * u * u;
        s12 += w * u * v;
        s22 += w * v * v;
        t1 += w * u * y;
        t2 += w * v * y;
    }
    if (!both) {
        *a = (t1 - *b * s12) / s11;
        return *a > 0;
    }
    double determinant = s11 * s22 - s12 * s12;
    if (!(determinant > 1e-3 * s11 * s22))   /* nearly proportional */
        return false;
    *a = (t1 * s22 - t2 * s12) / determinant;
    *b = (t2 * s11 - t1 * s12) / determinant;
    if (*b < 0) {   /* the next round may know better */
        *b = 0;
        *a = t1 / s11;
    }
    return *a > 0;
}

static bool fit(const struct fit_point *points, uint32_t count, bool both, double *space, double *a, double *b) {
    double *weights = space, *errors = space + count, *scratch = space + 2 * (size_t)count;
    for (uint32_t i = 0; i < count; i++)
        scratch[i] = (points[i].y - *b * points[i].x2) / points[i].x1;
    *a = median_of(scratch, count);   /* a start that half of the points may be wrong about */
    if (!(*a > 0))
        return false;
    for (int round = 0; round < ROUNDS; round++) {
        for (uint32_t i = 0; i < count; i++)
            errors[i] = points[i].y / (*a * points[i].x1 + *b * points[i].x2) - 1;
        weigh(errors, count, weights, scratch);
        if (!solve(points, count, weights, both, a, b))
            return false;
    }
    return isfinite(*a) && isfinite(*b) && (!both || *b > 0);
}

bool robust_fit(const struct fit_point *points, uint32_t count, double *a, double *b) {
    struct fit_point *usable = calloc((size_t)count + 1, sizeof *usable);
    double *space = calloc(3 * (size_t)count + 1, sizeof *space);
    uint32_t used = 0;
    for (uint32_t i = 0; usable && i < count; i++)
        if (is_usable(&points[i]))
            usable[used++] = points[i];
    double one = *a, two = *b;
    bool fitted = space && used >= 3 && fit(usable, used, true, space, &one, &two);
    if (!fitted && space && used) {
        one = *a;
        two = *b;
        fitted = fit(usable, used, false, space, &one, &two);
    }
    if (fitted) {
        *a = one;
        *b = two;
    }
    free(usable);
    free(space);
    return fitted;
}
