/* packed_r16: where the planes of a matrix in groups of 16 rows lie; the layout is
 * described in common/pack_r16.h. The build says the type, as for block_formats.h. */
#ifndef KERNELS_PACKED_R16_H
#define KERNELS_PACKED_R16_H

#include "kernels/numerics.h"
#include "kernels/dot4.h"

#define GROUP_ROWS 16
#define GROUP_COLUMNS 32
#define PLANE_ALIGNMENT 256

#if defined(WEIGHTS_Q4_1)
#define HAS_FLOOR 1
#else
#define HAS_FLOOR 0
#endif

#ifdef __OPENCL_VERSION__

/* A group of rows: its quants, steps and floors begin at these. */
struct packed_group {
    global const uchar *quants;   /* [block][QUANT_BYTES] */
    global const half *steps;     /* [block][GROUP_ROWS] */
    global const half *floors;    /* same; only if HAS_FLOOR */
};

static inline struct packed_group find_group(global const uchar *weights, int rows, int columns, int group) {
    size_t blocks = columns / GROUP_COLUMNS, first = (size_t)group * blocks;
    size_t cells = (size_t)((rows + GROUP_ROWS - 1) / GROUP_ROWS) * blocks;
    size_t plane = (cells * GROUP_ROWS * sizeof (ushort) + PLANE_ALIGNMENT - 1) / PLANE_ALIGNMENT * PLANE_ALIGNMENT;
    global const uchar *halves = weights + cells * QUANT_BYTES;
    struct packed_group found;
    found.quants = weights + first * QUANT_BYTES;
    found.steps = (global const half *)halves + first * GROUP_ROWS;
    found.floors = (global const half *)(halves + (HAS_FLOOR ? plane : 0)) + first * GROUP_ROWS;
    return found;
}

#endif
#endif
