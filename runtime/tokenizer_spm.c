/* The reader of tokenizer.model, for directories without a tokenizer.json. The added
 * tokens, which that file does not know, are in tokenizer_config.json or
 * added_tokens.json. */
#include "runtime/tokenizer_parts.h"

#include "runtime/sentencepiece.h"
#include "runtime/spm_merges.h"
#include "runtime/unicode.h"

#include <stdlib.h>
#include <string.h>

struct reader {
    struct tokenizer *tokenizer;
    const struct sentencepiece *model;
    const char *file;
    struct error *err;
};

/* What a person can do where this reader cannot. */
#define WAY_ON "let the model's own tokenizer save a tokenizer.json (save_pretrained of its fast tokenizer)"

static bool check_kind(const struct reader *reader) {
    const struct sentencepiece *model = reader->model;
    if (model->kind != SENTENCEPIECE_BPE)
        return error_set(reader->err, ERROR_FAILED, "the SentencePiece model '%s' is no BPE model, which is what is "
                         "supported; " WAY_ON, reader->file);
    if (model->has_character_map || model->removes_spaces)
        return error_set(reader->err, ERROR_FAILED, "the SentencePiece model '%s' normalizes text by rules of its own, "
                         "which is not supported; " WAY_ON, reader->file);
    return true;
}

/* The keys are ids, the values describe tokens; an older file has contents as keys
 * and ids as values. */
static bool read_added(const struct reader *reader, const json_t *list) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)list, key, value) {   /* iterating does not change it */
        json_t *item = json_is_integer(value) ? json_pack("{s:s, s:O, s:b}", "content", key, "id", value, "special", 1)
            : json_is_object(value) ? json_copy(value) : NULL;
        char *end;
        long id = strtol(key, &end, 10);
        if (json_is_object(value) && item && *key && !*end)
            json_object_set_new(item, "id", json_integer(id));
        bool ok = item ? tokenizer_read_added_token(reader->tokenizer, item, reader->file, reader->err)
            : error_set(reader->err, ERROR_FAILED, "the added token '%.80s' beside '%s' cannot be understood", key,
                        reader->file);
        json_decref(item);
        if (!ok)
            return false;
    }
    return true;
}

static bool add_piece(const struct reader *reader, int32_t id) {
    const struct sentencepiece_piece *piece = &reader->model->pieces[id];
    struct tokenizer *tokenizer = reader->tokenizer;
    bool is_text = piece->type == PIECE_NORMAL || piece->type == PIECE_BYTE;
    if (piece->type == PIECE_UNUSED || !piece->length)
        return true;
    struct text text;
    text_init(&text);
    utf8_append_repaired(&text, piece->bytes, piece->length);
    bool ok = (!text.failed && piece_table_add(&tokenizer->bpe.vocabulary, id, text.bytes, text.length))
        || error_set(reader->err, ERROR_FAILED, "cannot read '%s': out of memory", reader->file);
    /* The configuration knows more about a token than the model, and came first. */
    if (ok && !is_text && !piece_table_piece(&tokenizer->added_pieces, id, NULL))
        ok = tokenizer_add_token(tokenizer, text.bytes, text.length, id,
                                 piece->type == PIECE_USER_DEFINED ? 0 : ADDED_SPECIAL, reader->err);
    text_release(&text);
    return ok;
}

static bool score_of(const void *context, int32_t id, float *score) {
    const struct sentencepiece_piece *piece = &((const struct sentencepiece *)context)->pieces[id];
    *score = piece->type == PIECE_NORMAL ? piece->score : 0;
    return piece->type != PIECE_BYTE;
}

static bool keep_piece(const struct reader *reader, char **place, int64_t id) {
    size_t length = 0;
    const char *piece = id < reader->model->count ? tokenizer_spelling(reader->tokenizer, (int32_t)id, &length) : NULL;
    if (*place || !piece)
        return true;
    *place = strndup(piece, length);
    return *place || error_set(reader->err, ERROR_FAILED, "cannot read '%s': out of memory", reader->file);
}

static bool frame_text(const struct reader *reader, const json_t *config) {
    struct tokenizer *tokenizer = reader->tokenizer;
    bool adds_bos = true, adds_eos = false;
    if (!keep_piece(reader, &tokenizer->bos_text, reader->model->bos_id)
        || !keep_piece(reader, &tokenizer->eos_text, reader->model->eos_id)
        || !json_get_bool(config, "add_bos_token", reader->file, &adds_bos, reader->err)
        || !json_get_bool(config, "add_eos_token", reader->file, &adds_eos, reader->err))
        return false;
    int32_t bos = adds_bos && tokenizer->bos_text ? tokenizer_id(tokenizer, tokenizer->bos_text) : -1;
    int32_t eos = adds_eos && tokenizer->eos_text ? tokenizer_id(tokenizer, tokenizer->eos_text) : -1;
    if (bos >= 0)
        tokenizer->ids.prefix[tokenizer->ids.prefix_count++] = bos;
    if (eos >= 0)
        tokenizer->ids.suffix[tokenizer->ids.suffix_count++] = eos;
    return true;
}

/* Phi-3's tokenizer.json puts a space in front of each stretch of text, though its
 * configuration calls it "not legacy", which elsewhere means the first stretch only. */
static bool is_phi3(const struct tokenizer *tokenizer) {
    return tokenizer_id(tokenizer, "<|end|>") >= 0 && tokenizer_id(tokenizer, "<|user|>") >= 0
        && tokenizer_id(tokenizer, "<|assistant|>") >= 0;
}

static bool read_stages(const struct reader *reader, const json_t *config) {
    bool is_legacy = true;
    if (!json_get_bool(config, "legacy", reader->file, &is_legacy, reader->err))
        return false;
    const char *stages = spm_stages(!reader->model->space_prefix ? SPM_NO_SPACE
                                    : is_legacy || is_phi3(reader->tokenizer) ? SPM_SPACE_EACH : SPM_SPACE_FIRST);
    json_t *root = json_read_text(stages, strlen(stages), reader->file, reader->err);
    bool ok = root && tokenizer_read_stages(reader->tokenizer, root, reader->file, reader->err);
    json_decref(root);
    return ok;
}

bool tokenizer_read_spm(struct tokenizer *tokenizer, const void *bytes, size_t size, const json_t *config,
                        const json_t *added, const char *file, struct error *err) {
    struct sentencepiece model;
    struct bpe *bpe = &tokenizer->bpe;
    if (!sentencepiece_read(&model, bytes, size, file, err))
        return false;
    struct reader reader = { tokenizer, &model, file, err };
    const json_t *described = json_object_get(config, "added_tokens_decoder");
    bpe->byte_fallback = model.byte_fallback;
    bpe->fuse_unknown = true;
    bool ok = check_kind(&reader) && read_added(&reader, json_is_object(described) ? described : added);
    for (uint32_t id = 0; ok && id < model.count; id++)
        ok = add_piece(&reader, (int32_t)id);
    if (ok && piece_table_piece(&bpe->vocabulary, (int32_t)model.unknown_id, NULL))
        bpe->unknown_id = (int32_t)model.unknown_id;
    if (tokenizer->ids.size < model.count)
        tokenizer->ids.size = model.count;
    ok = ok && spm_make_merges(bpe, score_of, &model, file, err) && read_stages(&reader, config)
        && frame_text(&reader, config);
    sentencepiece_release(&model);
    return ok;
}
