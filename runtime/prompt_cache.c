#include "runtime/prompt_cache.h"

#include "common/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void tell(struct prompt_cache *cache, const struct error *err, const char *what) {
    if (!cache->is_told)
        fprintf(stderr, "phirun: the prompt cache is %s: %s\n", what, err->text);
    cache->is_told = true;
}

/* What the KV depends on besides the stored values: the class of the arithmetic, and the types
 * in which weights are computed with. The head comes after all KV. */
static void note_arithmetic(const struct engine *engine, char hex[65]) {
    const struct model *model = engine_model(engine);
    struct text text;
    text_init(&text);
    text_append_format(&text, "class %d", (int)engine_numeric(engine));
    for (uint32_t i = 0; i + 1 < unit_count(model); i++)
        for (int role = BUFFER_NORM; role <= BUFFER_TABLE; role++) {
            const struct weight_ref *refs[3];
            uint32_t count = unit_matrix_refs(model, unit_at(model, i), (enum buffer_role)role, refs);
            for (uint32_t j = 0; j < count; j++)
                text_append_format(&text, " %d", (int)weight_ref_type(model, refs[j]));
        }
    sha256_hex(text.bytes, text.length, hex);
    text_release(&text);
}

void prompt_cache_init(struct prompt_cache *cache, const char *path, const struct loaded_model *loaded) {
    *cache = (struct prompt_cache){ .path = path };
    if (!path)
        return;
    const struct model *model = loaded->model;
    enum kv_type type = engine_kv_type(loaded->engine);
    cache->key = (struct kv_file_key){
        .kv_type = type, .block_count = model->block_count, .kv_head_count = model->kv_head_count,
        .vector_bytes = (uint32_t)kv_vector_bytes(model, type),
    };
    memcpy(cache->key.weights_hash, loaded->plan->weights_hash, sizeof cache->key.weights_hash);
    note_arithmetic(loaded->engine, cache->key.arithmetic);
    kv_file_clear(path);
}

/* How many tokens the file has in common with these. */
static uint32_t common_prefix(const struct kv_file *file, const int32_t *tokens, uint32_t count) {
    uint32_t common = 0;
    while (common < count && common < file->token_count && file->tokens[common] == tokens[common])
        common++;
    return common;
}

static bool read_page(void *context, uint32_t page, uint8_t *bytes, struct error *err) {
    return kv_file_read_page(context, page, bytes, err);
}

void prompt_cache_restore(struct prompt_cache *cache, struct session *session, const int32_t *prompt,
                          uint32_t count) {
    struct error err = { 0 };
    struct kv_file file;
    if (!cache->path)
        return;
    enum kv_file_state state = kv_file_open(&file, cache->path, &cache->key, &err);
    cache->is_foreign = state == KV_FILE_FOREIGN;
    if (state == KV_FILE_UNUSABLE || state == KV_FILE_FOREIGN)
        tell(cache, &err, "ignored");
    if (state != KV_FILE_OPEN)
        return;
    uint32_t most = session_room(session);
    uint32_t common = prompt ? common_prefix(&file, prompt, count) : file.token_count;
    uint32_t length = prompt ? count : file.token_count;    /* of what will be run */
    if (prompt && common == count)
        common--;                                           /* its logits are wanted */
    common = common < most ? common : most;
    /* Keys that were turned by the other factors of LongRoPE are of no use. */
    if (common && session_wants_long(session, length) == file.long_rope) {
        cache->is_damaged = !session_restore(session, file.tokens, common, file.long_rope, read_page, &file, &err);
        if (cache->is_damaged)
            tell(cache, &err, "ignored");
        else
            cache->restored = common;
    }
    kv_file_close(&file);
}

/* Whether the file is good for these tokens as it is. */
static bool has_already(const struct prompt_cache *cache, const int32_t *wanted, uint32_t count, bool long_rope) {
    struct kv_file file;
    if (kv_file_open(&file, cache->path, &cache->key, NULL) != KV_FILE_OPEN)
        return false;
    bool has = file.long_rope == long_rope && common_prefix(&file, wanted, count) == count;
    kv_file_close(&file);
    return has;
}

/* What lies after the last token is not defined, and none of a file's business. */
static void clear_rest(const struct kv_file_key *key, uint32_t tokens, uint8_t *bytes) {
    uint64_t vectors = kv_file_page_bytes(key) / key->vector_bytes;
    for (uint64_t at = 0; at < vectors; at += KV_PAGE_TOKENS)
        memset(bytes + (at + tokens) * key->vector_bytes, 0, (KV_PAGE_TOKENS - tokens) * (size_t)key->vector_bytes);
}

static bool write_pages(const struct prompt_cache *cache, const struct session *session, uint32_t count,
                        struct kv_file_writer *writer, struct error *err) {
    uint8_t *bytes = malloc(kv_file_page_bytes(&cache->key));
    bool ok = bytes || error_set(err, ERROR_FAILED, "out of memory");
    for (uint32_t at = 0; ok && at < count; at += KV_PAGE_TOKENS) {
        ok = session_read_page(session, at / KV_PAGE_TOKENS, bytes, err);
        if (ok && count - at < KV_PAGE_TOKENS)
            clear_rest(&cache->key, count - at, bytes);
        ok = ok && kv_file_write_page(writer, bytes, err);
    }
    free(bytes);
    return ok;
}

void prompt_cache_save(struct prompt_cache *cache, const struct session *session, const int32_t *wanted,
                       uint32_t count) {
    struct error err = { 0 };
    bool long_rope;
    uint32_t length, kept = session_kv_length(session, &long_rope);
    const int32_t *tokens = session_tokens(session, &length);
    if (!cache->path || cache->is_foreign || cache->is_saved || !kept
        || (!cache->is_damaged && has_already(cache, wanted, count, long_rope)))
        return;
    cache->is_saved = true;
    struct kv_file_writer *writer = kv_file_create(cache->path, &cache->key, tokens, kept, long_rope, &err);
    if (writer && write_pages(cache, session, kept, writer, &err)) {
        if (kv_file_finish(writer, &err))
            return;
    } else {
        kv_file_abandon(writer);
    }
    tell(cache, &err, "not kept");
}
