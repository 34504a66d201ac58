/* probe_matrices: decode and prefill rates of matrices, and of attention. */
#include "planner/probe_measure.h"

#include "common/clock.h"
#include "kernels/ops.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Half 0x2c2c is 0.065, bfloat16 0x2c2c and float 0x2c2c2c2c are 2e-12: whatever the
 * format, no denormals, which CPUs are slow at, and no infinity. */
#define WEIGHT_WORD 0x2c2c2c2cu
#define FLOAT_WORD 0x3f000000u          /* 0.5f */

enum { MOST_MATRICES = 256, DEFAULT_PREFILL = 64, MOST_PREFILL = 1024 };
static const uint64_t most_bytes = (uint64_t)256 << 20, sensible_bytes = (uint64_t)64 << 20;
static const double pass_seconds = 0.3;   /* what one pass over the working set may take */

/* ---- matrices of one type ---- */

struct matrices {
    const struct probe_bench *bench;
    struct ops *ops;
    enum tensor_type type;
    enum weight_layout layout;
    char format[16];          /* "q4_0", "q4_0/r16" */
    bool is_int8;
    bool by_gemm;             /* by the library */
    cl_mem room;              /* [room_bytes] for it */
    uint64_t room_bytes;
    struct device_matrix list[MOST_MATRICES];
    uint32_t count;
    uint32_t used;            /* of them, in a pass */
    uint32_t rows;            /* of the only one, where used is 1 and it is cut; 0: all */
    uint32_t tokens, most_rows, most_columns;
    cl_mem x, y;              /* [tokens][most_columns], [tokens][most_rows] float */
    struct q8_buffers q8;
};

static bool multiply(void *context, uint32_t count, struct error *err) {
    const struct matrices *m = context;
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t j = 0; j < m->used; j++) {
            struct device_matrix matrix = m->list[j];
            if (m->rows)
                matrix.rows = m->rows;
            bool fine = m->by_gemm
                ? op_gemm(m->ops, &matrix, m->x, m->y, m->room, m->room_bytes, m->tokens, m->most_rows, false, err)
                : m->is_int8
                ? op_matmul_q8(m->ops, &matrix, &m->q8, m->y, m->tokens, m->most_rows, false, err)
                : op_matmul(m->ops, &matrix, m->x, m->y, m->tokens, m->most_rows, false, err);
            if (!fine)
                return false;
        }
    return true;
}

static uint64_t matrix_bytes(const struct device_matrix *matrix) {
    uint64_t bytes = 0;
    struct r16_shape shape;
    if (matrix->layout == LAYOUT_R16)
        return r16_shape_init(&shape, matrix->type, matrix->rows, matrix->columns) ? shape.bytes : UINT64_MAX;
    return tensor_bytes(matrix->type, matrix->rows, matrix->columns, &bytes) ? bytes : UINT64_MAX;
}

/* The model's matrices of this type in turn, each cut to what a buffer may hold, until
 * `target` bytes are there. Memory that is refused ends the list; none at all is an error. */
static bool fill_list(struct matrices *m, uint64_t target, struct error *err) {
    const struct probe_request *request = m->bench->request;
    uint64_t total = 0, limit = m->bench->info->max_buffer_bytes < most_bytes
                              ? m->bench->info->max_buffer_bytes : most_bytes;
    for (uint32_t i = 0; m->count < MOST_MATRICES && total < target; i = (i + 1) % request->shape_count) {
        const struct probe_shape *shape = &request->shapes[i];
        if (shape->type != m->type)
            continue;
        struct device_matrix matrix = { .type = m->type, .layout = m->layout, .rows = shape->rows,
                                        .columns = shape->columns };
        while (matrix.rows > 1 && matrix_bytes(&matrix) > limit)
            matrix.rows = (matrix.rows + 1) / 2;
        matrix.buffer = probe_buffer(m->bench, matrix_bytes(&matrix), WEIGHT_WORD, m->count ? NULL : err);
        if (!matrix.buffer)
            return m->count > 0;
        total += matrix_bytes(&matrix);
        m->list[m->count++] = matrix;
        m->most_rows = matrix.rows > m->most_rows ? matrix.rows : m->most_rows;
        m->most_columns = matrix.columns > m->most_columns ? matrix.columns : m->most_columns;
    }
    return true;
}

static bool make_activations(struct matrices *m, struct error *err) {
    uint64_t most_tokens = m->tokens, columns = m->most_columns;
    m->x = probe_buffer(m->bench, most_tokens * columns * 4, FLOAT_WORD, err);
    m->y = m->x ? probe_buffer(m->bench, most_tokens * m->most_rows * 4, 0, err) : NULL;
    if (!m->y || !m->is_int8)
        return m->y != NULL;
    m->q8.values = probe_buffer(m->bench, most_tokens * columns, 0x01010101u, err);
    m->q8.scales = m->q8.values ? probe_buffer(m->bench, most_tokens * columns / 8 + 4, FLOAT_WORD, err) : NULL;
    m->q8.sums = m->q8.scales ? probe_buffer(m->bench, most_tokens * columns / 8 + 4, 32, err) : NULL;
    return m->q8.sums != NULL;
}

/* Choose what a pass holds so that it takes no longer than pass_seconds: from a few
 * rows of the first matrix on, eight times as many while that is affordable. */
static bool choose_pass(struct matrices *m, struct error *err) {
    double seconds = 0;
    uint32_t all_rows = m->list[0].rows;
    m->used = 1;
    m->rows = all_rows < 16 ? all_rows : 16;
    for (;;) {
        if (!probe_time_once(m->bench, multiply, m, &seconds, err))
            return false;
        if (m->rows == all_rows || 8 * seconds > pass_seconds)
            break;
        m->rows = m->rows > all_rows / 8 ? all_rows : m->rows * 8;
    }
    if (m->rows < all_rows)
        return true;
    m->rows = 0;
    double affordable = pass_seconds / seconds * (double)matrix_bytes(&m->list[0]);
    double total = (double)matrix_bytes(&m->list[0]);
    while (m->used < m->count && total + (double)matrix_bytes(&m->list[m->used]) <= affordable)
        total += (double)matrix_bytes(&m->list[m->used++]);
    return true;
}

static bool measure_pass(struct matrices *m, uint32_t tokens, struct error *err) {
    double seconds, values = 0;
    uint64_t bytes = 0;
    m->tokens = tokens;
    if (!choose_pass(m, err) || !probe_time(m->bench, multiply, m, &seconds, err))
        return false;
    for (uint32_t i = 0; i < m->used; i++) {
        struct device_matrix matrix = m->list[i];
        matrix.rows = m->rows ? m->rows : matrix.rows;
        bytes += matrix_bytes(&matrix);
        values += (double)matrix.rows * matrix.columns;
    }
    if (tokens == 1)
        probe_report(m->bench, "decode", m->format, bytes, (double)bytes / seconds, "B/s");
    else
        probe_report(m->bench, "prefill", m->format, bytes, 2 * values * tokens / seconds, "op/s");
    return true;
}

/* CLBlast instead of our own product, where it may be faster: never on a CPU, for whose cores its
 * kernels are not made. It may be missing, and may fail: then there is no figure of it. */
static void measure_gemm(struct matrices *m, uint32_t tokens) {
    struct error reason = { 0 };
    char own[16];
    if (m->bench->info->type == DEVICE_CPU || tensor_type_info(m->type)->is_quantised || tokens == 1 ||
        !ops_gemm_is_there(&reason))
        return;
    m->room_bytes = sensible_bytes;
    m->room = probe_buffer(m->bench, m->room_bytes, FLOAT_WORD, NULL);
    memcpy(own, m->format, sizeof own);
    snprintf(m->format, sizeof m->format, "%.6s/clblast", own);
    m->bench->step(m->bench, "prefill by CLBlast");
    m->by_gemm = m->room != NULL;
    if (m->by_gemm)
        measure_pass(m, tokens, &reason);
    m->by_gemm = false;
    memcpy(m->format, own, sizeof own);
}

static bool measure_type(struct matrices *m, uint64_t target, uint32_t tokens, struct error *err) {
    char what[64];
    snprintf(what, sizeof what, "decode of %s", m->format);
    m->bench->step(m->bench, what);
    m->tokens = tokens;
    if (!fill_list(m, target, err) || !make_activations(m, err) || !measure_pass(m, 1, err))
        return false;
    snprintf(what, sizeof what, "prefill of %s", m->format);
    m->bench->step(m->bench, what);
    if (tokens > 1 && !measure_pass(m, tokens, err))
        return false;
    measure_gemm(m, tokens);
    return true;
}

/* ---- two devices at the same time ---- */

static void sleep_until(double when) {
    struct timespec time = { .tv_sec = (time_t)when };
    time.tv_nsec = (long)(1e9 * (when - (double)time.tv_sec));
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL) == EINTR)
        ;
}

/* Bytes/s of passes until `end`; the first starts now. */
static bool work_until(struct matrices *m, double end, uint64_t pass_bytes, double *rate, struct error *err) {
    double started = seconds_now(), now = started;
    uint64_t bytes = 0;
    while (now < end) {
        if (!multiply(m, 1, err))
            return false;
        cl_int code = clFinish(m->bench->queue);
        if (code != CL_SUCCESS)
            return opencl_failed(err, code, "the device '%s' did not finish", m->bench->info->name);
        bytes += pass_bytes;
        now = seconds_now();
    }
    *rate = (double)bytes / (now > started ? now - started : 1e-9);
    return true;
}

/* Turns 0 and 1 are one device's alone, in turn 2 both work. */
static bool measure_turns(struct matrices *m, uint64_t target, struct error *err) {
    const struct probe_together *together = &m->bench->request->together;
    const uint32_t turns[2] = { together->turn, 2 };
    double seconds, rate[2];
    uint64_t bytes = 0;
    m->tokens = 1;
    if (!fill_list(m, target, err) || !make_activations(m, err) || !choose_pass(m, err) ||
        !probe_time_once(m->bench, multiply, m, &seconds, err))
        return false;
    while (m->used > 1 && seconds > PROBE_TURN_S / 16) {
        m->used /= 2;
        seconds /= 2;
    }
    for (uint32_t i = 0; i < m->used; i++) {
        struct device_matrix matrix = m->list[i];
        matrix.rows = m->rows ? m->rows : matrix.rows;
        bytes += matrix_bytes(&matrix);
    }
    for (int i = 0; i < 2; i++) {
        double start = together->start_s + turns[i] * PROBE_TURN_S;
        if (seconds_now() > start + PROBE_TURN_S / 4)
            return error_set(err, ERROR_FAILED, "it was late for its turn");
        sleep_until(start);
        if (!work_until(m, start + PROBE_TURN_S, bytes, &rate[i], err))
            return false;
    }
    probe_report(m->bench, "alone", m->format, bytes, rate[0], "B/s");
    probe_report(m->bench, "together", m->format, bytes, rate[1], "B/s");
    return true;
}

/* ---- types and layouts ---- */

static uint32_t prefill_tokens(const struct probe_request *request) {
    uint32_t tokens = request->prefill_tokens ? request->prefill_tokens : DEFAULT_PREFILL;
    return tokens < MOST_PREFILL ? tokens : MOST_PREFILL;
}

static bool measure_layout(const struct probe_bench *bench, struct ops *ops, enum tensor_type type,
                           enum weight_layout layout, uint64_t target, struct error *err) {
    const struct probe_request *request = bench->request;
    struct matrices *m = calloc(1, sizeof *m);
    if (!m)
        return error_set(err, ERROR_FAILED, "cannot measure matrices: out of memory");
    m->bench = bench;
    m->ops = ops;
    m->type = type;
    m->layout = layout;
    probe_format(type, layout, m->format);
    m->is_int8 = request->numeric == NUMERIC_INT8 && tensor_type_info(type)->is_quantised;
    bool fine = request->together.start_s > 0 ? measure_turns(m, target, err)
                                              : measure_type(m, target, prefill_tokens(request), err);
    for (uint32_t j = 0; j < m->count; j++)
        probe_release_buffer(m->list[j].buffer);
    probe_release_buffer(m->room);
    probe_release_buffer(m->x);
    probe_release_buffer(m->y);
    probe_release_buffer(m->q8.values);
    probe_release_buffer(m->q8.scales);
    probe_release_buffer(m->q8.sums);
    free(m);
    return fine;
}

bool probe_measure_matrices(const struct probe_bench *bench, struct ops *ops, struct error *err) {
    const struct probe_request *request = bench->request;
    uint64_t target = request->token_bytes ? request->token_bytes : sensible_bytes;
    if (target > most_bytes)
        target = most_bytes;
    if (target > bench->info->memory_bytes / 4)
        target = bench->info->memory_bytes / 4;
    bool fine = true, done[TENSOR_TYPE_COUNT] = { false };
    for (uint32_t i = 0; fine && i < request->shape_count; i++) {
        enum tensor_type type = request->shapes[i].type;
        if (done[type])
            continue;
        done[type] = true;
        fine = measure_layout(bench, ops, type, LAYOUT_ROWS, target, err);
        if (fine && r16_packs(type) && !measure_layout(bench, ops, type, LAYOUT_R16, target, NULL)) {
            /* No reason to give the device up; so slow that no plan packs for it. */
            char format[16];
            probe_format(type, LAYOUT_R16, format);
            probe_report(bench, "decode", format, target, 1, "B/s");
            probe_report(bench, "prefill", format, target, 1, "op/s");
        }
    }
    return fine;
}

bool probe_measure_together(const struct probe_bench *bench, struct error *err) {
    const struct probe_request *request = bench->request;
    struct ops_options options = { .numeric = request->numeric, .kv_type = request->kv_type };
    if (!request->shape_count)
        return error_set(err, ERROR_FAILED, "there is nothing to measure");
    bench->step(bench, "working together");
    struct ops *ops = ops_new(bench->context, bench->id, bench->queue, &options, err);
    enum tensor_type type = request->shapes[0].type;
    bool fine = ops && measure_layout(bench, ops, type, r16_packs(type) ? LAYOUT_R16 : LAYOUT_ROWS, sensible_bytes, err);
    ops_free(ops);
    return fine;
}

/* ---- attention ---- */

enum { MOST_PAGES = 64, MOST_PAIRS = 8 };

struct attention {
    const struct probe_bench *bench;
    struct ops *ops;
    struct attention_args args;
    cl_mem qkv, out, positions, sequences, page_table, k[MOST_PAIRS], v[MOST_PAIRS];
    uint32_t pairs;           /* as if of so many layers */
    uint64_t out_values;
};

static bool attend(void *context, uint32_t count, struct error *err) {
    const struct attention *a = context;
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t j = 0; j < a->pairs; j++)
            if (!op_attention(a->ops, a->qkv, a->k[j], a->v[j], a->positions, a->sequences, a->page_table,
                              a->out, a->out_values, &a->args, err))
                return false;
    return true;
}

/* `tokens` queries, the last of which sees all keys of `pages` pages. */
static bool set_positions(struct attention *a, uint32_t tokens, uint32_t pages, struct error *err) {
    int32_t positions[MOST_PREFILL];
    for (uint32_t t = 0; t < tokens; t++)
        positions[t] = (int32_t)(pages * KV_PAGE_TOKENS - tokens + t);
    a->args.token_count = (arg_int)tokens;
    a->args.key_count = (arg_int)(pages * KV_PAGE_TOKENS);
    cl_int code = clEnqueueWriteBuffer(a->bench->queue, a->positions, CL_TRUE, 0, tokens * sizeof *positions,
                                       positions, 0, NULL, NULL);
    return code == CL_SUCCESS || opencl_failed(err, code, "cannot write to '%s'", a->bench->info->name);
}

static bool make_attention(struct attention *a, uint32_t tokens, struct error *err) {
    const struct probe_request *request = a->bench->request;
    int32_t pages[MOST_PAGES];
    for (int32_t p = 0; p < MOST_PAGES; p++)
        pages[p] = p;
    uint64_t heads = request->head_count, kv_heads = request->kv_head_count, dim = request->head_dim;
    const struct model model = { .head_dim = request->head_dim };
    uint64_t pool = MOST_PAGES * kv_heads * KV_PAGE_TOKENS * kv_vector_bytes(&model, request->kv_type);
    a->args = (struct attention_args) {
        .head_count = (arg_int)heads, .kv_head_count = (arg_int)kv_heads, .head_dim = (arg_int)dim,
        .qkv_stride = (arg_int)((heads + 2 * kv_heads) * dim), .page_columns = MOST_PAGES, .scale = 0.1f,
    };
    a->out_values = tokens * heads * dim;
    if (!(a->qkv = probe_buffer(a->bench, tokens * (heads + 2 * kv_heads) * dim * 4, FLOAT_WORD, err)) ||
        !(a->out = probe_buffer(a->bench, a->out_values * 4, 0, err)) ||
        !(a->positions = probe_buffer(a->bench, tokens * sizeof (int32_t), 0, err)) ||
        !(a->sequences = probe_buffer(a->bench, tokens * sizeof (int32_t), 0, err)) ||
        !(a->page_table = probe_buffer(a->bench, sizeof pages, 0, err)))
        return false;
    /* The first pair is needed, more of them only make the figure better. */
    for (uint32_t i = 0; i < MOST_PAIRS && (i == 0 || 2 * pool * (i + 1) <= sensible_bytes); i++)
        if (!(a->k[i] = probe_buffer(a->bench, pool, WEIGHT_WORD, i ? NULL : err)) ||
            !(a->v[i] = probe_buffer(a->bench, pool, WEIGHT_WORD, i ? NULL : err))) {
            if (i == 0)
                return false;
            break;
        }
    cl_int code = clEnqueueWriteBuffer(a->bench->queue, a->page_table, CL_TRUE, 0, sizeof pages, pages, 0,
                                       NULL, NULL);
    return code == CL_SUCCESS || opencl_failed(err, code, "cannot write to '%s'", a->bench->info->name);
}

static bool time_attention(struct attention *a, uint32_t most_tokens, struct error *err) {
    const struct probe_request *request = a->bench->request;
    const struct model model = { .head_dim = request->head_dim };
    double seconds, key_bytes = 2.0 * request->kv_head_count *
                                (double)kv_vector_bytes(&model, request->kv_type);
    uint32_t pages = 2, made = 0;
    while (made < MOST_PAIRS && a->v[made])
        made++;
    a->pairs = 1;
    for (;; pages *= 4) {   /* as many keys as a slow device can do in time */
        if (!set_positions(a, 1, pages, err) || !probe_time_once(a->bench, attend, a, &seconds, err))
            return false;
        if (pages * 4 > MOST_PAGES || 4 * seconds > pass_seconds)
            break;
    }
    while (a->pairs < made && (a->pairs + 1) * seconds < pass_seconds)
        a->pairs++;
    if (!probe_time(a->bench, attend, a, &seconds, err))
        return false;
    double keys = (double)pages * KV_PAGE_TOKENS, bytes = keys * key_bytes * a->pairs;
    probe_report(a->bench, "kv", "", (uint64_t)bytes, bytes / seconds, "B/s");

    seconds /= a->pairs;
    a->pairs = 1;
    uint32_t tokens = most_tokens < pages * KV_PAGE_TOKENS ? most_tokens : pages * KV_PAGE_TOKENS;
    while (tokens > 1 && tokens * seconds > 2 * pass_seconds)
        tokens /= 2;
    if (!set_positions(a, tokens, pages, err) || !probe_time(a->bench, attend, a, &seconds, err))
        return false;
    double seen = tokens * (keys - (tokens - 1) / 2.0);
    probe_report(a->bench, "attention", "", 0,
                 4.0 * request->head_count * request->head_dim * seen / seconds, "op/s");
    return true;
}

bool probe_measure_attention(const struct probe_bench *bench, struct ops *ops, struct error *err) {
    const struct probe_request *request = bench->request;
    if (!request->head_count || !request->kv_head_count || !request->head_dim)
        return true;
    if (request->head_count > 1024 || request->kv_head_count > request->head_count || request->head_dim > 1024)
        return error_set(err, ERROR_FAILED, "the probe cannot measure attention of %u heads of %u values",
                         request->head_count, request->head_dim);
    struct attention a = { .bench = bench, .ops = ops };
    uint32_t tokens = prefill_tokens(request);
    bench->step(bench, "attention");
    bool fine = make_attention(&a, tokens, err) && time_attention(&a, tokens, err);
    cl_mem const others[] = { a.qkv, a.out, a.positions, a.sequences, a.page_table };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        probe_release_buffer(others[i]);
    for (uint32_t i = 0; i < MOST_PAIRS; i++) {
        probe_release_buffer(a.k[i]);
        probe_release_buffer(a.v[i]);
    }
    return fine;
}
