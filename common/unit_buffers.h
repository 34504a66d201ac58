/* unit_buffers: every buffer that a device needs, in one list.
 *
 * The planner adds the list up, the runtime creates exactly its entries: the
 * footprint in a plan is what phirun allocates. All sizes in bytes, rounded up
 * to the device's alignment; none larger than its largest buffer (a matrix that
 * is larger becomes several entries, split by rows). */
#ifndef COMMON_UNIT_BUFFERS_H
#define COMMON_UNIT_BUFFERS_H

#include "common/pack_r16.h"
#include "common/unit_slice.h"

enum kv_type { KV_F32, KV_F16, KV_Q8_0 };
const char *kv_type_name(enum kv_type type);                 /* "f32", "f16", "q8_0" */
bool kv_type_from_name(const char *name, enum kv_type *type);
/* Bytes of one head's K (or V) vector of one token. */
uint64_t kv_vector_bytes(const struct model *model, enum kv_type type);

/* A KV page holds this many tokens of one unit; also the tile of keys that
 * attention sums as one step (see kernels/attention.cl). */
#define KV_PAGE_TOKENS 32u

static inline uint32_t kv_pages_of(uint32_t tokens) {
    return tokens / KV_PAGE_TOKENS + (tokens % KV_PAGE_TOKENS != 0);
}

enum numeric_class {
    NUMERIC_FLOAT,   /* float activations */
    NUMERIC_INT8     /* quantised weights meet activations quantised in blocks of 32 */
};

enum buffer_kind {
    BUFFER_WEIGHTS, BUFFER_KV, BUFFER_SCRATCH, BUFFER_STAGING,
    BUFFER_STREAMED,    /* no buffer: rows of a streamed unit's matrix, as they come through the window */
    BUFFER_KINDS
};

enum buffer_role {
    /* weights of a unit: which matrix or vector */
    BUFFER_NORM,        /* [hidden] float32, whatever the file's type */
    BUFFER_QKV,         /* rows of q, then k, then v, in the stored type */
    BUFFER_QKV_BIAS,    /* [q + k + v rows] float32 */
    BUFFER_QK_NORM,     /* [2][head_dim] float32 */
    BUFFER_O,
    BUFFER_GATE_UP,     /* rows of gate, then up */
    BUFFER_DOWN,
    BUFFER_TABLE,       /* embed on a device: the table in the stored type */
    BUFFER_HEAD,
    /* KV of an attn unit: [page][kv_head][KV_PAGE_TOKENS][head_dim] of the KV type */
    BUFFER_K, BUFFER_V,
    /* scratch of a device, n = micro-batch tokens */
    BUFFER_RESIDUAL,    /* [n][hidden] float32 */
    BUFFER_ACT,         /* [n][max row] float32: normed input, attention output, gated product */
    BUFFER_ACT_Q8,      /* [n][max row] int8          } NUMERIC_INT8 only:                  */
    BUFFER_ACT_SCALE,   /* [n][max row / 32] float32  } the input of a matrix, in blocks of */
    BUFFER_ACT_SUM,     /* [n][max row / 32] int32    } 32 with scale and sum               */
    BUFFER_WIDE,        /* [n][max(qkv rows, 2 * intermediate)] float32 */
    BUFFER_LOGITS,      /* [logit rows][vocab] float32; devices with the head, or the rows of their slice */
    BUFFER_TOKENS,      /* [n] int32 ids */
    BUFFER_POSITIONS,   /* [n] int32 */
    BUFFER_SEQUENCES,   /* [n] int32: row of the page table of each token */
    BUFFER_ROPE,        /* [n][rotary_dim / 2][2] float32: cos, sin of each token's position */
    BUFFER_GEMM,        /* float32 rows of a matrix of another type; devices with a library's product */
    BUFFER_PAGES,       /* [sequences][pages of the context] int32: the page table */
    BUFFER_TURNS,       /* [32] int32: what work-items that share a matrix have taken, see kernels/turns.h */
    BUFFER_STAGE,       /* host staging of hops, [n][hidden] float32, two of them */
    BUFFER_GATHER,      /* the same for slices, [n][activation] float32, two of them, on the device that has
                         * the first part: the whole activation, see common/unit_slice.h */
    BUFFER_WINDOW       /* staging of streamed weights: the largest BUFFER_STREAMED entry, two of them */
};

struct buffer_spec {
    enum buffer_kind kind;
    enum buffer_role role;
    uint32_t unit;         /* index; UINT32_MAX for scratch and staging */
    enum tensor_type type; /* weights: as they lie in the buffer */
    enum weight_layout layout;   /* matrices; what r16_packs() refuses is in rows */
    struct part_range parts;     /* weights, KV: of the unit */
    uint64_t row_begin;    /* matrices: this entry's rows of the whole matrix, see unit_matrix_refs(); */
    uint64_t row_count;    /*   several entries where it was split or where its refs differ in type    */
    uint64_t row_target;   /* where its first row lands in the product of this device: row_begin for a whole unit */
    uint64_t column_count;
    uint64_t used_bytes;   /* before rounding */
    uint64_t bytes;        /* to allocate */
};

struct buffer_list {
    struct buffer_spec *specs;
    size_t count, capacity;
    uint64_t total_bytes[BUFFER_KINDS];
};

struct buffer_options {
    uint32_t context;           /* tokens of KV in all, over all sequences */
    uint32_t micro_batch;       /* most tokens in one pass */
    uint32_t sequence_count;    /* rows of the page table; at least 1 */
    uint32_t logit_rows;        /* most logits rows wanted from one pass; at least 1 */
    enum kv_type kv_type;
    enum numeric_class numeric;
    enum weight_layout layout;  /* of the matrices that have it; the embedding's table is always in rows */
    bool has_gemm;              /* a library multiplies matrices of floats, of which it knows one type */
    uint64_t alignment;         /* of the device, in bytes; a power of two */
    uint64_t max_buffer_bytes;  /* largest single buffer */
    bool streamed;              /* the unit's matrices are read for every pass: BUFFER_STREAMED entries */
    uint64_t window_bytes;      /* what such an entry takes at most where its rows are not longer; 0: the largest buffer */
};

/* The window_bytes of a device that may use so much memory (0: not limited). The planner
 * and the runtime must agree on it. */
uint64_t window_limit(uint64_t budget_bytes);

/* Append the weights and KV of a whole unit. Fails where one row, or the KV of
 * one unit, exceeds the largest buffer. */
bool unit_buffers(const struct model *model, struct unit unit, const struct buffer_options *options,
                  struct buffer_list *list, struct error *err);

/* The same for some of its parts, see common/unit_slice.h: rows of matrices and of the
 * bias, KV heads; norms whole. */
bool unit_part_buffers(const struct model *model, struct unit unit, struct part_range parts,
                       const struct buffer_options *options, struct buffer_list *list, struct error *err);

/* How a matrix of this role and type lies on a device where the unit's layout is `layout`. */
enum weight_layout matrix_layout(enum weight_layout layout, enum buffer_role role, enum tensor_type type,
                                 uint64_t columns);

/* Whether a role is a matrix (rows in the stored type), not a vector or scratch. */
bool buffer_role_is_matrix(enum buffer_role role);

/* Append the scratch and staging that a device needs for the units for which
 * `held[index]` is true (shared by all of them). */
bool device_buffers(const struct model *model, const bool *held, const struct buffer_options *options,
                    struct buffer_list *list, struct error *err);

/* The same where units may be held in part: parts [unit_count]. */
bool device_part_buffers(const struct model *model, const struct part_range *parts,
                         const struct buffer_options *options, struct buffer_list *list, struct error *err);

/* Append the two windows that the list's BUFFER_STREAMED entries need; none without any. */
bool window_buffers(const struct model *model, const struct buffer_options *options, struct buffer_list *list,
                    struct error *err);

void buffer_list_release(struct buffer_list *list);

/* The class that a plan runs in: INT8 where any matrix of a block or the head is
 * quantised, unless `exact`. */
enum numeric_class model_numeric_class(const struct model *model, bool exact);

/* The refs whose rows, one after the other, are the matrix or vector with that
 * role (q, k, v; gate, up; otherwise one). Returns how many, 0 to 3: absent refs
 * (biases, norms that an architecture lacks) are left out. */
uint32_t unit_matrix_refs(const struct model *model, struct unit unit, enum buffer_role role,
                          const struct weight_ref *refs[3]);

/* The rows (of a bias: the values) of ref `index` of those that belong to the parts. */
void unit_part_rows(const struct model *model, struct unit unit, struct part_range parts, enum buffer_role role,
                    uint32_t index, uint64_t *begin, uint64_t *count);

const char *buffer_role_name(enum buffer_role role);

#endif
