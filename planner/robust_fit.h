/* robust_fit: least squares that a few disturbed measurements do not bend. Pure. */
#ifndef PLANNER_ROBUST_FIT_H
#define PLANNER_ROBUST_FIT_H

#include <stdbool.h>
#include <stdint.h>

/* One measurement: y = a * x1 + b * x2, all of them seconds. */
struct fit_point { double x1, x2, y; };

/* The a and b with the least relative errors, those of outliers (Huber, by the median
 * deviation) counting less. Where the points cannot tell x1 from x2, or the answer is
 * not positive, *b stays as it is and only *a is fitted. False, both untouched: no usable point. */
bool robust_fit(const struct fit_point *points, uint32_t count, double *a, double *b);

/* Of `count` values, which are sorted in place; 0 for none. */
double median_of(double *values, uint32_t count);

#endif
