#include "common/unit_buffers.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* A matrix is cut at multiples of this many rows, so that kernels which take
 * rows in groups see whole groups in every buffer but the last. */
#define ROW_GROUP 16u

#define GEMM_ROOM (64ull << 20)

/* A window that is a small part of the memory, and still takes a disk some milliseconds to
 * fill: that a piece is late by then is rare. */
#define WINDOW_SHARE 8u
#define WINDOW_LEAST (64ull << 10)
#define WINDOW_MOST (16ull << 20)

static const char *const kv_names[] = { "f32", "f16", "q8_0" };

const char *kv_type_name(enum kv_type type) {
    return kv_names[type];
}

bool kv_type_from_name(const char *name, enum kv_type *type) {
    for (unsigned i = 0; i < sizeof kv_names / sizeof *kv_names; i++)
        if (strcasecmp(name, kv_names[i]) == 0) {
            *type = (enum kv_type)i;
            return true;
        }
    return false;
}

uint64_t kv_vector_bytes(const struct model *model, enum kv_type type) {
    uint64_t values = model->head_dim;
    switch (type) {
    case KV_F32: return values * 4;
    case KV_F16: return values * 2;
    case KV_Q8_0: break;
    }
    return (values + 31) / 32 * 34;   /* the last block of 32 may be partly used */
}

const char *buffer_role_name(enum buffer_role role) {
    static const char *const names[] = {
        [BUFFER_NORM] = "norm", [BUFFER_QKV] = "qkv", [BUFFER_QKV_BIAS] = "qkv_bias",
        [BUFFER_QK_NORM] = "qk_norm", [BUFFER_O] = "o", [BUFFER_GATE_UP] = "gate_up",
        [BUFFER_DOWN] = "down", [BUFFER_TABLE] = "table", [BUFFER_HEAD] = "head", [BUFFER_K] = "k",
        [BUFFER_V] = "v", [BUFFER_RESIDUAL] = "residual", [BUFFER_ACT] = "act",
        [BUFFER_ACT_Q8] = "act_q8", [BUFFER_ACT_SCALE] = "act_scale", [BUFFER_ACT_SUM] = "act_sum",
        [BUFFER_WIDE] = "wide", [BUFFER_LOGITS] = "logits", [BUFFER_TOKENS] = "tokens",
        [BUFFER_POSITIONS] = "positions", [BUFFER_SEQUENCES] = "sequences", [BUFFER_ROPE] = "rope",
        [BUFFER_GEMM] = "gemm", [BUFFER_PAGES] = "pages", [BUFFER_TURNS] = "turns", [BUFFER_STAGE] = "stage",
        [BUFFER_GATHER] = "gather", [BUFFER_WINDOW] = "window",
    };
    return names[role];
}

void buffer_list_release(struct buffer_list *list) {
    free(list->specs);
    *list = (struct buffer_list){ 0 };
}

/* ---- which refs make a matrix ---- */

static const struct {
    enum unit_kind kind;
    enum buffer_role role;
    uint32_t count;
    enum block_role refs[3];
} block_matrices[] = {
    { UNIT_ATTN, BUFFER_NORM, 1, { ROLE_ATTN_NORM } },
    { UNIT_ATTN, BUFFER_QKV, 3, { ROLE_Q, ROLE_K, ROLE_V } },
    { UNIT_ATTN, BUFFER_QKV_BIAS, 3, { ROLE_Q_BIAS, ROLE_K_BIAS, ROLE_V_BIAS } },
    { UNIT_ATTN, BUFFER_QK_NORM, 2, { ROLE_Q_NORM, ROLE_K_NORM } },
    { UNIT_ATTN, BUFFER_O, 1, { ROLE_O } },
    { UNIT_FFN, BUFFER_NORM, 1, { ROLE_FFN_NORM } },
    { UNIT_FFN, BUFFER_GATE_UP, 2, { ROLE_GATE, ROLE_UP } },
    { UNIT_FFN, BUFFER_DOWN, 1, { ROLE_DOWN } },
};

static uint32_t block_refs(const struct model *model, struct unit unit, enum buffer_role role,
                           const struct weight_ref *refs[3]) {
    uint32_t found = 0;
    if (unit.block >= model->block_count)
        return 0;
    for (size_t i = 0; i < sizeof block_matrices / sizeof *block_matrices; i++) {
        if (block_matrices[i].kind != unit.kind || block_matrices[i].role != role)
            continue;
        for (uint32_t r = 0; r < block_matrices[i].count; r++) {
            const struct weight_ref *ref = &model->blocks[unit.block].weights[block_matrices[i].refs[r]];
            if (ref->tensor != MODEL_NO_TENSOR)
                refs[found++] = ref;
        }
    }
    return found;
}

uint32_t unit_matrix_refs(const struct model *model, struct unit unit, enum buffer_role role,
                          const struct weight_ref *refs[3]) {
    switch (unit.kind) {
    case UNIT_EMBED:
        refs[0] = &model->embed;
        return role == BUFFER_TABLE;
    case UNIT_HEAD:
        refs[0] = role == BUFFER_NORM ? &model->out_norm : &model->head;
        return role == BUFFER_NORM || role == BUFFER_HEAD;
    case UNIT_ATTN:
    case UNIT_FFN:
        break;
    }
    return block_refs(model, unit, role, refs);
}

void unit_part_rows(const struct model *model, struct unit unit, struct part_range parts, enum buffer_role role,
                    uint32_t index, uint64_t *begin, uint64_t *count) {
    const struct unit_slice slice = unit_slice_of(model, unit, parts);
    const struct weight_ref *refs[3];
    *begin = *count = 0;
    if (index >= unit_matrix_refs(model, unit, role, refs))
        return;
    switch (role) {
    case BUFFER_QKV: case BUFFER_QKV_BIAS:
        *begin = index ? (uint64_t)parts.begin * model->head_dim : slice.inner_begin;
        *count = index ? (uint64_t)slice.kv_head_count * model->head_dim : slice.inner_count;
        return;
    case BUFFER_GATE_UP:
        *begin = slice.inner_begin;
        *count = slice.inner_count;
        return;
    case BUFFER_O: case BUFFER_DOWN: case BUFFER_HEAD:
        *begin = slice.output_begin;
        *count = slice.output_count;
        return;
    default:
        *count = buffer_role_is_matrix(role) ? refs[index]->row_count : refs[index]->row_count * refs[index]->column_count;
    }
}

enum numeric_class model_numeric_class(const struct model *model, bool exact) {
    static const enum block_role matrices[] = { ROLE_Q, ROLE_K, ROLE_V, ROLE_O, ROLE_GATE, ROLE_UP, ROLE_DOWN };
    if (exact)
        return NUMERIC_FLOAT;
    if (tensor_type_info(weight_ref_type(model, &model->head))->is_quantised)
        return NUMERIC_INT8;
    for (uint32_t i = 0; i < model->block_count; i++)
        for (unsigned m = 0; m < sizeof matrices / sizeof *matrices; m++) {
            const struct weight_ref *ref = &model->blocks[i].weights[matrices[m]];
            if (tensor_type_info(weight_ref_type(model, ref))->is_quantised)
                return NUMERIC_INT8;
        }
    return NUMERIC_FLOAT;
}

/* ---- the list ---- */

struct adding {
    const struct model *model;
    const struct buffer_options *options;
    struct buffer_list *list;
    struct error *err;
    const char *owner;      /* the unit's name, or "scratch", for sentences */
    struct unit unit;
    struct part_range parts;
};

static bool options_are_sound(const struct buffer_options *o, struct error *err) {
    if (!o->alignment || (o->alignment & (o->alignment - 1)))
        return error_set(err, ERROR_FAILED, "an alignment of %llu bytes is not a power of two",
                         (unsigned long long)o->alignment);
    if (!o->context || !o->micro_batch || !o->sequence_count || !o->logit_rows)
        return error_set(err, ERROR_USAGE, "context, micro-batch, sequences and logit rows must be at least 1");
    if (o->context > INT32_MAX - KV_PAGE_TOKENS || o->micro_batch > INT32_MAX
        || o->sequence_count > INT32_MAX || o->logit_rows > INT32_MAX)
        return error_set(err, ERROR_USAGE, "context, micro-batch, sequences and logit rows must be below 2^31");
    return true;
}

/* Overflow-safe product of up to four numbers; saturates, and what is saturated
 * exceeds every largest buffer. */
static uint64_t product(uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
    uint64_t ab, cd, all;
    if (__builtin_mul_overflow(a, b, &ab) || __builtin_mul_overflow(c, d, &cd)
        || __builtin_mul_overflow(ab, cd, &all))
        return UINT64_MAX;
    return all;
}

static uint64_t largest_buffer(const struct buffer_options *options) {
    return options->max_buffer_bytes & ~(options->alignment - 1);
}

static bool append(struct adding *to, struct buffer_spec spec) {
    struct buffer_list *list = to->list;
    uint64_t alignment = to->options->alignment;
    spec.bytes = (spec.used_bytes + alignment - 1) & ~(alignment - 1);
    if (spec.bytes < spec.used_bytes || spec.bytes > largest_buffer(to->options)) {
        double mib = (double)spec.used_bytes / 1048576, limit = (double)largest_buffer(to->options) / 1048576;
        if (spec.kind == BUFFER_KV)
            return error_set(to->err, ERROR_FAILED, "the '%s' cache of %s takes %.1f MiB in one buffer and the "
                             "device allows %.1f MiB; try a smaller --ctx or --kv f16",
                             buffer_role_name(spec.role), to->owner, mib, limit);
        if (spec.kind == BUFFER_WEIGHTS || spec.kind == BUFFER_STREAMED)
            return error_set(to->err, ERROR_FAILED, "one row of '%s' of %s takes %.3f MiB and the device allows "
                             "buffers of %.3f MiB; leave this device out with --exclude",
                             buffer_role_name(spec.role), to->owner, mib, limit);
        return error_set(to->err, ERROR_FAILED, "the '%s' buffer takes %.1f MiB and the device allows %.1f MiB; "
                         "try a smaller micro-batch or --ctx", buffer_role_name(spec.role), mib, limit);
    }
    uint64_t total;
    if (__builtin_add_overflow(list->total_bytes[spec.kind], spec.bytes, &total))
        return error_set(to->err, ERROR_FAILED, "the buffers of %s overflow 64 bits", to->owner);
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 16;
        struct buffer_spec *grown = realloc(list->specs, capacity * sizeof *grown);
        if (!grown)
            return error_set(to->err, ERROR_FAILED, "out of memory for a list of %zu buffers", capacity);
        list->specs = grown;
        list->capacity = capacity;
    }
    list->specs[list->count++] = spec;
    list->total_bytes[spec.kind] = total;
    return true;
}

/* Float32 values, whatever the file's type: norms and biases. */
static bool add_vector(struct adding *to, enum buffer_role role) {
    const struct weight_ref *refs[3];
    uint32_t count = unit_matrix_refs(to->model, to->unit, role, refs);
    uint64_t values = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t begin, more;
        unit_part_rows(to->model, to->unit, to->parts, role, i, &begin, &more);
        values += more;
    }
    if (!count)
        return true;
    uint64_t rows = role == BUFFER_QK_NORM ? count : 1;
    return append(to, (struct buffer_spec){
        .kind = BUFFER_WEIGHTS, .role = role, .unit = unit_index(to->model, to->unit), .type = TENSOR_F32,
        .parts = to->parts, .row_count = rows, .column_count = values / rows,
        .used_bytes = product(values, 4, 1, 1) });
}

bool buffer_role_is_matrix(enum buffer_role role) {
    switch (role) {
    case BUFFER_QKV: case BUFFER_O: case BUFFER_GATE_UP: case BUFFER_DOWN: case BUFFER_TABLE: case BUFFER_HEAD:
        return true;
    default:
        return false;
    }
}

enum weight_layout matrix_layout(enum weight_layout layout, enum buffer_role role, enum tensor_type type,
                                 uint64_t columns) {
    struct r16_shape shape;
    bool packs = layout == LAYOUT_R16 && role != BUFFER_TABLE && r16_shape_init(&shape, type, 1, columns);
    return packs ? LAYOUT_R16 : LAYOUT_ROWS;
}

/* Bytes of `rows` rows in a layout; UINT64_MAX where they overflow. */
static uint64_t rows_bytes(enum weight_layout layout, enum tensor_type type, uint64_t rows, uint64_t columns) {
    struct r16_shape shape;
    uint64_t bytes;
    if (layout == LAYOUT_R16)
        return r16_shape_init(&shape, type, rows, columns) ? shape.bytes : UINT64_MAX;
    return tensor_bytes(type, rows, columns, &bytes) ? bytes : UINT64_MAX;
}

/* The most rows, in whole groups where that is possible, that fit the largest buffer. */
static uint64_t most_rows(const struct adding *to, enum weight_layout layout, enum tensor_type type,
                          uint64_t rows, uint64_t columns) {
    const struct buffer_options *options = to->options;
    uint64_t largest = largest_buffer(options), groups = 0, too_many = rows / ROW_GROUP + 1;
    if (options->streamed && options->window_bytes && options->window_bytes < largest) {
        uint64_t least = rows_bytes(layout, type, rows < ROW_GROUP ? rows : ROW_GROUP, columns);
        if (least <= largest)
            largest = options->window_bytes > least ? options->window_bytes : least;
    }
    if (rows_bytes(layout, type, rows, columns) <= largest)
        return rows;
    while (too_many - groups > 1) {
        uint64_t middle = groups + (too_many - groups) / 2;
        *(rows_bytes(layout, type, middle * ROW_GROUP, columns) <= largest ? &groups : &too_many) = middle;
    }
    if (groups)
        return groups * ROW_GROUP;
    /* append() says where even one row is too large. */
    uint64_t row_bytes = rows_bytes(layout, type, 1, columns);
    uint64_t most = layout == LAYOUT_ROWS && row_bytes ? largest / row_bytes : 0;
    return most ? most : 1;
}

/* Rows of one type, cut so that each piece fits the largest buffer. */
static bool add_rows(struct adding *to, enum buffer_role role, enum tensor_type type, uint64_t row_begin,
                     uint64_t row_count, uint64_t row_target, uint64_t columns) {
    uint64_t row_bytes;
    if (!tensor_bytes(type, 1, columns, &row_bytes) || !row_bytes)
        return error_set(to->err, ERROR_FAILED, "rows of %llu values cannot be stored as %s",
                         (unsigned long long)columns, tensor_type_info(type)->name);
    enum weight_layout layout = matrix_layout(to->options->layout, role, type, columns);
    uint64_t most = most_rows(to, layout, type, row_count, columns);
    while (row_count) {
        uint64_t rows = row_count < most ? row_count : most;
        if (!append(to, (struct buffer_spec){
                .kind = to->options->streamed ? BUFFER_STREAMED : BUFFER_WEIGHTS, .role = role,
                .unit = unit_index(to->model, to->unit), .type = type,
                .layout = layout, .parts = to->parts, .row_begin = row_begin, .row_count = rows,
                .row_target = row_target, .column_count = columns,
                .used_bytes = rows_bytes(layout, type, rows, columns) }))
            return false;
        row_begin += rows;
        row_target += rows;
        row_count -= rows;
    }
    return true;
}

/* Refs of one type that follow each other become one run of rows, unless a slice leaves
 * some out between them. */
static bool add_matrix(struct adding *to, enum buffer_role role) {
    const struct weight_ref *refs[3];
    uint32_t count = unit_matrix_refs(to->model, to->unit, role, refs);
    /* o and down add to the whole residual; the other products are those of the slice alone. */
    bool is_added = role == BUFFER_O || role == BUFFER_DOWN;
    uint64_t ref_begin = 0, target = 0, run_begin = 0, run_target = 0, run_rows = 0, columns = 0;
    enum tensor_type run_type = TENSOR_F32;
    for (uint32_t i = 0; i < count; i++) {
        enum tensor_type type = weight_ref_type(to->model, refs[i]);
        uint64_t begin, rows;
        unit_part_rows(to->model, to->unit, to->parts, role, i, &begin, &rows);
        if (is_added)
            target = begin;
        bool goes_on = run_rows && type == run_type && refs[i]->column_count == columns &&
                       ref_begin + begin == run_begin + run_rows;
        if (!goes_on && run_rows && !add_rows(to, role, run_type, run_begin, run_rows, run_target, columns))
            return false;
        if (!goes_on) {
            run_type = type;
            columns = refs[i]->column_count;
            run_begin = ref_begin + begin;
            run_target = target;
            run_rows = 0;
        }
        run_rows += rows;
        target += rows;
        ref_begin += refs[i]->row_count;
    }
    return !run_rows || add_rows(to, role, run_type, run_begin, run_rows, run_target, columns);
}

static bool add_kv(struct adding *to) {
    const struct buffer_options *o = to->options;
    /* Each sequence may leave a page partly used; one of them is counted already. */
    uint64_t pages = (uint64_t)kv_pages_of(o->context) + o->sequence_count - 1;
    uint64_t heads = to->parts.end - to->parts.begin;
    uint64_t bytes = product(pages, heads, KV_PAGE_TOKENS, kv_vector_bytes(to->model, o->kv_type));
    struct buffer_spec spec = { .kind = BUFFER_KV, .role = BUFFER_K, .unit = unit_index(to->model, to->unit),
                                .parts = to->parts, .row_count = pages * KV_PAGE_TOKENS,
                                .column_count = heads * to->model->head_dim,
                                .used_bytes = bytes };
    if (!append(to, spec))
        return false;
    spec.role = BUFFER_V;
    return append(to, spec);
}

bool unit_buffers(const struct model *model, struct unit unit, const struct buffer_options *options,
                  struct buffer_list *list, struct error *err) {
    return unit_part_buffers(model, unit, unit_all_parts(model, unit), options, list, err);
}

bool unit_part_buffers(const struct model *model, struct unit unit, struct part_range parts,
                       const struct buffer_options *options, struct buffer_list *list, struct error *err) {
    char name[24];
    unit_name(unit, name);
    struct adding to = { model, options, list, err, name, unit, parts };
    if (!options_are_sound(options, err))
        return false;
    if (parts.begin >= parts.end || parts.end > unit_part_count(model, unit))
        return error_set(err, ERROR_FAILED, "'%s' has no parts %u to %u: it has %u", name, parts.begin, parts.end,
                         unit_part_count(model, unit));
    switch (unit.kind) {
    case UNIT_EMBED:
        return add_matrix(&to, BUFFER_TABLE);
    case UNIT_ATTN:
        return add_vector(&to, BUFFER_NORM) && add_matrix(&to, BUFFER_QKV) && add_vector(&to, BUFFER_QKV_BIAS)
            && add_vector(&to, BUFFER_QK_NORM) && add_matrix(&to, BUFFER_O) && add_kv(&to);
    case UNIT_FFN:
        return add_vector(&to, BUFFER_NORM) && add_matrix(&to, BUFFER_GATE_UP) && add_matrix(&to, BUFFER_DOWN);
    case UNIT_HEAD:
        break;
    }
    return add_vector(&to, BUFFER_NORM) && add_matrix(&to, BUFFER_HEAD);
}

/* ---- scratch ---- */

static bool add_scratch(struct adding *to, enum buffer_kind kind, enum buffer_role role, uint64_t rows,
                        uint64_t columns, uint64_t value_bytes) {
    return append(to, (struct buffer_spec){
        .kind = kind, .role = role, .unit = UINT32_MAX, .row_count = rows, .column_count = columns,
        .used_bytes = product(rows, columns, value_bytes, 1) });
}

static uint64_t larger(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

bool device_buffers(const struct model *model, const bool *held, const struct buffer_options *options,
                    struct buffer_list *list, struct error *err) {
    const uint32_t count = unit_count(model);
    struct part_range *parts = calloc(count, sizeof *parts);
    if (!parts)
        return error_set(err, ERROR_FAILED, "out of memory for a list of %u units", count);
    for (uint32_t i = 0; i < count; i++)
        if (held[i])
            parts[i] = unit_all_parts(model, unit_at(model, i));
    bool ok = device_part_buffers(model, parts, options, list, err);
    free(parts);
    return ok;
}

/* The largest that any of a device's units asks of the scratch they share, in values. */
struct scratch_need {
    bool has[UNIT_HEAD + 1];
    uint64_t row, wide, logits, gather;
};

static struct scratch_need scratch_need(const struct model *model, const struct part_range *parts) {
    struct scratch_need need = { .row = model->hidden_size };
    for (uint32_t i = 0; i < unit_count(model); i++) {
        if (parts[i].begin >= parts[i].end)
            continue;
        const struct unit unit = unit_at(model, i);
        const struct unit_slice slice = unit_slice_of(model, unit, parts[i]);
        need.has[unit.kind] = true;
        need.row = larger(need.row, slice.inner_total);
        if (unit.kind == UNIT_ATTN)
            need.wide = larger(need.wide, (slice.head_count + 2 * (uint64_t)slice.kv_head_count) * model->head_dim);
        if (unit.kind == UNIT_FFN)
            need.wide = larger(need.wide, 2 * (uint64_t)slice.inner_count);
        if (unit.kind == UNIT_HEAD)
            need.logits = slice.output_count;
        if (!slice.is_whole && parts[i].begin == 0)
            need.gather = larger(need.gather, slice.inner_total);
    }
    return need;
}

/* Rows of the widest matrix, or as many as are worth a product of their own. */
static uint64_t gemm_rows(const struct buffer_options *options, uint64_t wide, uint64_t row) {
    uint64_t bytes = largest_buffer(options) < GEMM_ROOM ? largest_buffer(options) : GEMM_ROOM;
    uint64_t rows = bytes / 4 / row;
    rows = rows < wide ? rows : wide;
    return rows ? rows : 1;
}

bool device_part_buffers(const struct model *model, const struct part_range *parts,
                         const struct buffer_options *options, struct buffer_list *list, struct error *err) {
    struct adding to = { .model = model, .options = options, .list = list, .err = err, .owner = "scratch" };
    if (!options_are_sound(options, err))
        return false;
    const struct scratch_need need = scratch_need(model, parts);
    const bool *const has = need.has;
    const uint64_t n = options->micro_batch, row = need.row, wide = need.wide;
    if (!has[UNIT_EMBED] && !has[UNIT_ATTN] && !has[UNIT_FFN] && !has[UNIT_HEAD])
        return true;
    const bool has_matrices = has[UNIT_ATTN] || has[UNIT_FFN] || has[UNIT_HEAD];
    const uint64_t blocks = (row + 31) / 32;

    if (!add_scratch(&to, BUFFER_SCRATCH, BUFFER_RESIDUAL, n, model->hidden_size, 4))
        return false;
    if (has_matrices && !(add_scratch(&to, BUFFER_SCRATCH, BUFFER_ACT, n, row, 4)
                          && add_scratch(&to, BUFFER_SCRATCH, BUFFER_TURNS, 32, 1, 4)))
        return false;
    if (has_matrices && options->numeric == NUMERIC_INT8
        && !(add_scratch(&to, BUFFER_SCRATCH, BUFFER_ACT_Q8, n, blocks * 32, 1)
             && add_scratch(&to, BUFFER_SCRATCH, BUFFER_ACT_SCALE, n, blocks, 4)
             && add_scratch(&to, BUFFER_SCRATCH, BUFFER_ACT_SUM, n, blocks, 4)))
        return false;
    if (wide && !add_scratch(&to, BUFFER_SCRATCH, BUFFER_WIDE, n, wide, 4))
        return false;
    if (has[UNIT_HEAD]
        && !add_scratch(&to, BUFFER_SCRATCH, BUFFER_LOGITS, options->logit_rows, need.logits, 4))
        return false;
    if (options->has_gemm && wide && !add_scratch(&to, BUFFER_SCRATCH, BUFFER_GEMM, gemm_rows(options, wide, row), row, 4))
        return false;
    if (has[UNIT_EMBED] && !add_scratch(&to, BUFFER_SCRATCH, BUFFER_TOKENS, n, 1, 4))
        return false;
    if (has[UNIT_ATTN]
        && !(add_scratch(&to, BUFFER_SCRATCH, BUFFER_POSITIONS, n, 1, 4)
             && add_scratch(&to, BUFFER_SCRATCH, BUFFER_SEQUENCES, n, 1, 4)
             && add_scratch(&to, BUFFER_SCRATCH, BUFFER_ROPE, n, model->rope.rotary_dim, 4)
             && add_scratch(&to, BUFFER_SCRATCH, BUFFER_PAGES, options->sequence_count,
                            kv_pages_of(options->context), 4)))
        return false;
    return add_scratch(&to, BUFFER_STAGING, BUFFER_STAGE, n, model->hidden_size, 4)
        && add_scratch(&to, BUFFER_STAGING, BUFFER_STAGE, n, model->hidden_size, 4)
        && (!need.gather || (add_scratch(&to, BUFFER_STAGING, BUFFER_GATHER, n, need.gather, 4)
                             && add_scratch(&to, BUFFER_STAGING, BUFFER_GATHER, n, need.gather, 4)));
}

/* ---- windows ---- */

uint64_t window_limit(uint64_t budget_bytes) {
    uint64_t bytes = budget_bytes / WINDOW_SHARE;
    if (!budget_bytes || bytes > WINDOW_MOST)
        return WINDOW_MOST;
    return larger(bytes, WINDOW_LEAST);
}

bool window_buffers(const struct model *model, const struct buffer_options *options, struct buffer_list *list,
                    struct error *err) {
    struct adding to = { .model = model, .options = options, .list = list, .err = err, .owner = "the window" };
    uint64_t most = 0;
    for (size_t i = 0; i < list->count; i++)
        if (list->specs[i].kind == BUFFER_STREAMED)
            most = larger(most, list->specs[i].used_bytes);
    struct buffer_spec window = { .kind = BUFFER_STAGING, .role = BUFFER_WINDOW, .unit = UINT32_MAX,
                                  .row_count = 1, .column_count = most, .used_bytes = most };
    return !most || (append(&to, window) && append(&to, window));
}
