/* packed_r16: where the planes of a matrix in groups of 16 rows lie; the layout is
 * described in common/pack_r16.h. The build says the type, as for block_formats.h. */
#ifndef KERNELS_PACKED_R16_H
#define KERNELS_PACKED_R16_H

#include "kernels/numerics.h"
#include "kernels/dot4.h"

#define GROUP_ROWS 16
#define GROUP_COLUMNS 32
#define PLANE_ALIGNMENT 256

#if defined(WEIGHTS_Q4_1) || defined(WEIGHTS_Q4_K)
#define HAS_FLOOR 1
#else
#define HAS_FLOOR 0
#endif
/* Blocks of a scale; where they are more than one, each has factors of its own. */
#if defined(WEIGHTS_Q4_K) || defined(WEIGHTS_Q6_K)
#define SCALE_BLOCKS 8
#else
#define SCALE_BLOCKS 1
#endif

#ifdef __OPENCL_VERSION__

/* A group of rows: its quants, steps, floors and factors begin at these. */
struct packed_group {
    global const uchar *quants;    /* [block][QUANT_BYTES] */
    global const half *steps;      /* [block / SCALE_BLOCKS][GROUP_ROWS] */
    global const half *floors;     /* same; only if HAS_FLOOR */
    global const uchar *factors;   /* [block][2][GROUP_ROWS]; only if SCALE_BLOCKS > 1 */
};

static inline size_t plane_bytes(size_t bytes) {
    return (bytes + PLANE_ALIGNMENT - 1) / PLANE_ALIGNMENT * PLANE_ALIGNMENT;
}

static inline struct packed_group find_group(global const uchar *weights, int rows, int columns, int group) {
    size_t blocks = columns / GROUP_COLUMNS, scales = blocks / SCALE_BLOCKS;
    size_t groups = (rows + GROUP_ROWS - 1) / GROUP_ROWS, halves = GROUP_ROWS * sizeof (ushort);
    size_t plane = plane_bytes(groups * scales * halves);
    global const uchar *steps = weights + groups * blocks * QUANT_BYTES;
    global const uchar *floors = steps + (HAS_FLOOR ? plane : 0);
    struct packed_group found;
    found.quants = weights + group * blocks * QUANT_BYTES;
    found.steps = (global const half *)(steps + group * scales * halves);
    found.floors = (global const half *)(floors + group * scales * halves);
    found.factors = floors + plane + group * blocks * 2 * GROUP_ROWS;
    return found;
}

/* The steps and floors of LANES rows from row `lane` on, in block `b`. */
static inline lane_floats load_steps(struct packed_group group, int b, int lane) {
    lane_floats steps = LOAD_HALVES(group.steps + (size_t)(b / SCALE_BLOCKS) * GROUP_ROWS + lane);
#if defined(WEIGHTS_Q4_K)
    steps *= LOAD_BYTES(group.factors + (size_t)b * 2 * GROUP_ROWS + lane);
#endif
    return steps;
}

#if HAS_FLOOR
static inline lane_floats load_floors(struct packed_group group, int b, int lane) {
    lane_floats floors = LOAD_HALVES(group.floors + (size_t)(b / SCALE_BLOCKS) * GROUP_ROWS + lane);
#if defined(WEIGHTS_Q4_K)
    floors = -(floors * LOAD_BYTES(group.factors + (size_t)b * 2 * GROUP_ROWS + GROUP_ROWS + lane));
#endif
    return floors;
}
#endif

#endif
#endif
