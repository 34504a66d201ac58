/* engine_pages: a sequence's keys and values out of the engine and back into it. */
#include "runtime/engine_parts.h"

enum kv_type engine_kv_type(const struct engine *engine) {
    return engine->kv_type;
}

enum numeric_class engine_numeric(const struct engine *engine) {
    return engine->numeric;
}

uint32_t engine_free_pages(const struct engine *engine) {
    return engine->kv.free_count;
}

uint32_t engine_pages_for(const struct engine *engine, uint32_t sequence, uint32_t length) {
    return sequence < engine->sequence_count ? kv_cache_pages_for(&engine->kv, sequence, length) : UINT32_MAX;
}

/* K or V of one page of one KV head. */
static uint64_t head_bytes(const struct engine *engine) {
    return KV_PAGE_TOKENS * kv_vector_bytes(engine->model, engine->kv_type);
}

uint64_t engine_page_bytes(const struct engine *engine) {
    return 2ull * engine->model->block_count * engine->model->kv_head_count * head_bytes(engine);
}

bool engine_sequence_extend(struct engine *engine, uint32_t sequence, uint32_t length, struct error *err) {
    if (sequence >= engine->sequence_count || engine->kv.lengths[sequence] != 0)
        return error_set(err, ERROR_FAILED, "cannot put %u tokens into sequence %u: it is not empty", length, sequence);
    for (uint32_t i = 0; i < length; i++) {
        bool must_copy;
        struct kv_copy copy;
        if (!kv_cache_extend(&engine->kv, sequence, &must_copy, &copy, err)) {
            kv_cache_truncate(&engine->kv, sequence, 0);
            return false;
        }
    }
    return true;
}

/* On a device's thread: its units' part of the page. */
static bool move_page(struct engine_device *device, struct error *err) {
    const struct engine *engine = device->engine;
    int32_t page = engine->moved.page;
    return engine->moved.target
        ? forward_read_page(&device->forward, page, head_bytes(engine), engine->moved.target, err)
        : forward_write_page(&device->forward, page, head_bytes(engine), engine->moved.source, err);
}

/* The page of the engine's buffers; -1: the sequence has none there. */
static int32_t page_of(const struct engine *engine, uint32_t sequence, uint32_t page, struct error *err) {
    if (sequence < engine->sequence_count && page < engine->kv.page_columns &&
        (uint64_t)page * KV_PAGE_TOKENS < engine->kv.lengths[sequence] && page >= engine->kv.starts[sequence])
        return engine->kv.table[(size_t)sequence * engine->kv.page_columns + page];
    error_set(err, ERROR_FAILED, "sequence %u has no KV page %u", sequence, page);
    return -1;
}

bool engine_sequence_read_page(struct engine *engine, uint32_t sequence, uint32_t page, uint8_t *bytes,
                               struct error *err) {
    engine->moved.page = page_of(engine, sequence, page, err);
    engine->moved.target = bytes;
    engine->moved.source = NULL;
    return engine->moved.page >= 0 && engine_run_all(engine, move_page, err);
}

bool engine_sequence_write_page(struct engine *engine, uint32_t sequence, uint32_t page, const uint8_t *bytes,
                                struct error *err) {
    engine->moved.page = page_of(engine, sequence, page, err);
    engine->moved.target = NULL;
    engine->moved.source = bytes;
    if (engine->moved.page >= 0 && engine->kv.references[engine->moved.page] != 1)
        return error_set(err, ERROR_FAILED, "KV page %u of sequence %u is shared and cannot be written", page, sequence);
    return engine->moved.page >= 0 && engine_run_all(engine, move_page, err);
}
