#include "runtime/tokenizer.h"

#include "common/file_map.h"
#include "runtime/tokenizer_parts.h"
#include "runtime/unicode.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TOKENIZER_FILE_LIMIT ((size_t)128 << 20)
#define SENTENCEPIECE_FILE_LIMIT ((size_t)32 << 20)

static bool open_json(struct tokenizer *tokenizer, const struct model_source *source, const char *path,
                      struct error *err) {
    json_t *root = json_read_file(path, TOKENIZER_FILE_LIMIT, err);
    bool ok = root && tokenizer_read_json(tokenizer, root, path, err)
        && tokenizer_read_config(tokenizer, source, err);
    json_decref(root);
    return ok;
}

static bool open_sentencepiece(struct tokenizer *tokenizer, const struct model_source *source, const char *path,
                               struct error *err) {
    size_t size;
    bool ok = true;
    char *bytes = file_read_all(path, SENTENCEPIECE_FILE_LIMIT, &size, err);
    json_t *config = bytes ? tokenizer_read_beside(source, "tokenizer_config.json", &ok, err) : NULL;
    json_t *added = bytes && ok ? tokenizer_read_beside(source, "added_tokens.json", &ok, err) : NULL;
    ok = bytes && ok && tokenizer_read_config(tokenizer, source, err)
        && tokenizer_read_spm(tokenizer, bytes, size, config, added, path, err);
    json_decref(added);
    json_decref(config);
    free(bytes);
    return ok;
}

static bool open_directory(struct tokenizer *tokenizer, const struct model_source *source, struct error *err) {
    char *path = model_source_file(source, "tokenizer.json");
    char *sentencepiece = model_source_file(source, "tokenizer.model");
    bool ok;
    if (!path || !sentencepiece)
        ok = error_set(err, ERROR_FAILED, "cannot open the tokenizer of '%s': out of memory", source->path);
    else if (access(path, F_OK) != 0 && access(sentencepiece, F_OK) == 0)
        ok = open_sentencepiece(tokenizer, source, sentencepiece, err);
    else
        ok = open_json(tokenizer, source, path, err);
    free(path);
    free(sentencepiece);
    return ok;
}

struct tokenizer *tokenizer_new(struct error *err) {
    struct tokenizer *tokenizer = calloc(1, sizeof *tokenizer);
    if (tokenizer) {
        tokenizer->ids.bos = -1;
        if (bpe_init(&tokenizer->bpe) && piece_table_init(&tokenizer->added_pieces)
            && piece_table_init(&tokenizer->normal_pieces))
            return tokenizer;
    }
    tokenizer_close(tokenizer);
    error_set(err, ERROR_FAILED, "cannot open a tokenizer: out of memory");
    return NULL;
}

struct tokenizer *tokenizer_open(const struct model_source *source, struct error *err) {
    struct tokenizer *tokenizer = tokenizer_new(err);
    if (!tokenizer)
        return NULL;
    bool ok = source->kind == SOURCE_GGUF ? tokenizer_read_gguf(tokenizer, source->path, err)
        : open_directory(tokenizer, source, err);
    if (ok && tokenizer_finish(tokenizer, err))
        return tokenizer;
    tokenizer_close(tokenizer);
    return NULL;
}

void tokenizer_close(struct tokenizer *tokenizer) {
    if (!tokenizer)
        return;
    bpe_release(&tokenizer->bpe);
    piece_table_release(&tokenizer->added_pieces);
    piece_table_release(&tokenizer->normal_pieces);
    added_tokens_release(&tokenizer->raw);
    added_tokens_release(&tokenizer->normalized);
    normalizer_free(tokenizer->normalizer);
    pretokenizer_free(tokenizer->pretokenizer);
    token_decoder_free(tokenizer->decoder);
    free(tokenizer->is_special);
    free(tokenizer->bos_text);
    free(tokenizer->eos_text);
    json_decref(tokenizer->named_texts);
    free(tokenizer->chat_template);
    free(tokenizer->stages);
    file_map_release(&tokenizer->image);
    free(tokenizer);
}

/* For an image. */
static bool keep_stages(struct tokenizer *tokenizer, const json_t *root, struct error *err) {
    static const char *const names[] = { "normalizer", "pre_tokenizer", "decoder" };
    json_t *stages = json_object();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (json_object_get(root, names[i]))
            json_object_set(stages, names[i], json_object_get(root, names[i]));
    free(tokenizer->stages);
    tokenizer->stages = json_dumps(stages, JSON_COMPACT);
    json_decref(stages);
    return tokenizer->stages || error_set(err, ERROR_FAILED, "cannot open a tokenizer: out of memory");
}

bool tokenizer_read_stages(struct tokenizer *tokenizer, const json_t *root, const char *file,
                           struct error *err) {
    tokenizer->normalizer = normalizer_new(json_object_get(root, "normalizer"), file, err);
    if (!tokenizer->normalizer)
        return false;
    tokenizer->pretokenizer = pretokenizer_new(json_object_get(root, "pre_tokenizer"), file, err);
    if (!tokenizer->pretokenizer)
        return false;
    tokenizer->decoder = token_decoder_new(json_object_get(root, "decoder"), file, err);
    return tokenizer->decoder && keep_stages(tokenizer, root, err);
}

bool tokenizer_add_token(struct tokenizer *tokenizer, const char *content, size_t length, int32_t id,
                         unsigned flags, struct error *err) {
    if (!piece_table_add(&tokenizer->added_pieces, id, content, length))
        return error_set(err, ERROR_FAILED, "the added token %d is out of range", id);
    struct added_tokens *set = flags & ADDED_NORMALIZED ? &tokenizer->normalized : &tokenizer->raw;
    return added_tokens_add(set, content, length, id, flags, err);
}

void tokenizer_add_eos(struct tokenizer *tokenizer, int32_t id) {
    for (unsigned i = 0; i < tokenizer->ids.eos_count; i++)
        if (tokenizer->ids.eos[i] == id)
            return;
    if (id >= 0 && tokenizer->ids.eos_count < EOS_LIMIT)
        tokenizer->ids.eos[tokenizer->ids.eos_count++] = id;
}

/* Tokens that are looked for in the normalized text have to be normalized too. */
static bool normalize_added(struct tokenizer *tokenizer, struct error *err) {
    struct added_tokens *set = &tokenizer->normalized;
    if (!set->count || normalizer_is_identity(tokenizer->normalizer))
        return true;
    struct pattern_scratch *scratch = pattern_scratch_new(err);
    struct added_tokens changed = { 0 };
    struct text text;
    text_init(&text);
    bool ok = scratch != NULL;
    for (uint32_t i = 0; ok && i < set->count; i++) {
        const struct added_token *token = &set->tokens[i];
        ok = normalizer_run(tokenizer->normalizer, scratch, token->content, token->length, &text, err);
        bool is_same = ok && text.length == token->length && memcmp(text.bytes, token->content, text.length) == 0;
        if (!ok || !text.length)   /* nothing left: it matches nothing */
            continue;
        ok = added_tokens_add(&changed, text.bytes, text.length, token->id, token->flags, err);
        if (ok && !is_same)
            ok = piece_table_add(&tokenizer->normal_pieces, token->id, text.bytes, text.length)
                || error_set(err, ERROR_FAILED, "cannot open a tokenizer: out of memory");
    }
    text_release(&text);
    pattern_scratch_free(scratch);
    added_tokens_release(ok ? set : &changed);
    if (ok)
        *set = changed;
    return ok;
}

static void mark_special(struct tokenizer *tokenizer, const struct added_tokens *set) {
    for (uint32_t i = 0; i < set->count; i++)
        if ((set->tokens[i].flags & ADDED_SPECIAL)
            && !piece_table_piece(&tokenizer->normal_pieces, set->tokens[i].id, NULL))
            tokenizer->is_special[set->tokens[i].id] = 1;
}

bool tokenizer_finish(struct tokenizer *tokenizer, struct error *err) {
    static const char *const turn_ends[] = { "<|end|>", "<|im_end|>", "<|eot_id|>" };
    if (!bpe_finish(&tokenizer->bpe))
        return error_set(err, ERROR_FAILED, "cannot open a tokenizer: out of memory");
    if (!normalize_added(tokenizer, err))
        return false;
    added_tokens_finish(&tokenizer->raw);
    added_tokens_finish(&tokenizer->normalized);
    uint32_t size = tokenizer->bpe.vocabulary.id_end, added = tokenizer->added_pieces.id_end;
    size = size > added ? size : added;
    tokenizer->ids.size = size > tokenizer->ids.size ? size : tokenizer->ids.size;
    if (tokenizer->ids.end < tokenizer->ids.size)
        tokenizer->ids.end = tokenizer->ids.size;
    tokenizer->is_special = calloc(tokenizer->ids.size + 1, 1);
    if (!tokenizer->is_special)
        return error_set(err, ERROR_FAILED, "cannot open a tokenizer: out of memory");
    mark_special(tokenizer, &tokenizer->raw);
    mark_special(tokenizer, &tokenizer->normalized);
    if (tokenizer->bos_text && tokenizer->ids.bos < 0)
        tokenizer->ids.bos = tokenizer_id(tokenizer, tokenizer->bos_text);
    if (tokenizer->eos_text)
        tokenizer_add_eos(tokenizer, tokenizer_id(tokenizer, tokenizer->eos_text));
    for (size_t i = 0; i < sizeof turn_ends / sizeof *turn_ends; i++)
        tokenizer_add_eos(tokenizer, piece_table_find(&tokenizer->added_pieces, turn_ends[i],
                                                      strlen(turn_ends[i])));
    return true;
}

/* What one call of tokenizer_encode() works with. */
struct encoder {
    const struct tokenizer *tokenizer;
    bool skip_special;
    bool at_start;                  /* of the whole text */
    struct pattern_scratch *patterns;
    struct pretokenizer_scratch *pretokenizer;
    struct bpe_scratch bpe;
    struct text normal;
    struct id_list out;
};

static bool encode_piece(void *context, const char *bytes, size_t size, struct error *err) {
    struct encoder *encoder = context;
    return bpe_encode(&encoder->tokenizer->bpe, &encoder->bpe, bytes, size, &encoder->out, err);
}

static bool add_id(struct encoder *encoder, int32_t id, struct error *err) {
    return id_list_add(&encoder->out, id) || error_set(err, ERROR_FAILED, "cannot encode: out of memory");
}

static bool encode_normal_part(void *context, int32_t id, const char *bytes, size_t size, size_t start,
                               struct error *err) {
    struct encoder *encoder = context;
    if (id >= 0)
        return add_id(encoder, id, err);
    return pretokenizer_run(encoder->tokenizer->pretokenizer, encoder->pretokenizer, bytes, size,
                            encoder->at_start && start == 0, encode_piece, encoder, err);
}

static bool encode_raw_part(void *context, int32_t id, const char *bytes, size_t size, size_t start,
                            struct error *err) {
    struct encoder *encoder = context;
    if (id >= 0)
        return add_id(encoder, id, err);
    encoder->at_start = start == 0;
    const struct tokenizer *tokenizer = encoder->tokenizer;
    if (!normalizer_is_identity(tokenizer->normalizer)) {
        if (!normalizer_run(tokenizer->normalizer, encoder->patterns, bytes, size, &encoder->normal, err))
            return false;
        bytes = encoder->normal.bytes;
        size = encoder->normal.length;
    }
    return added_tokens_split(&tokenizer->normalized, bytes, size, encoder->skip_special, encode_normal_part,
                              encoder, err);
}

static bool encode_text(struct encoder *encoder, const char *text, size_t size, struct error *err) {
    struct text repaired;
    text_init(&repaired);
    bool ok = true;
    if (utf8_valid_prefix(text, size) < size) {
        utf8_append_repaired(&repaired, text, size);
        text = repaired.bytes;
        size = repaired.length;
        ok = !repaired.failed || error_set(err, ERROR_FAILED, "cannot encode: out of memory");
    }
    ok = ok && added_tokens_split(&encoder->tokenizer->raw, text, size, encoder->skip_special, encode_raw_part,
                                  encoder, err);
    text_release(&repaired);
    return ok;
}

bool tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t size,
                      unsigned flags, int32_t **ids, uint32_t *count, struct error *err) {
    *ids = NULL;
    *count = 0;
    if (size > TOKENIZE_LIMIT)
        return error_set(err, ERROR_USAGE, "a text of %zu MB is too long to be tokenized at once; at most %zu MB are",
                         size >> 20, TOKENIZE_LIMIT >> 20);
    struct encoder encoder = { .tokenizer = tokenizer, .skip_special = flags & TOKENIZE_SPLIT_SPECIAL };
    text_init(&encoder.normal);
    encoder.patterns = pattern_scratch_new(err);
    if (encoder.patterns)
        encoder.pretokenizer = pretokenizer_scratch_new(encoder.patterns, err);
    bool ok = encoder.pretokenizer != NULL, add_special = flags & TOKENIZE_ADD_SPECIAL;
    for (unsigned i = 0; ok && add_special && i < tokenizer->ids.prefix_count; i++)
        ok = add_id(&encoder, tokenizer->ids.prefix[i], err);
    ok = ok && encode_text(&encoder, text, size, err);
    for (unsigned i = 0; ok && add_special && i < tokenizer->ids.suffix_count; i++)
        ok = add_id(&encoder, tokenizer->ids.suffix[i], err);
    pretokenizer_scratch_free(encoder.pretokenizer);
    pattern_scratch_free(encoder.patterns);
    bpe_scratch_release(&encoder.bpe);
    text_release(&encoder.normal);
    if (!ok) {
        free(encoder.out.ids);
        return false;
    }
    *ids = encoder.out.ids;
    *count = encoder.out.count;
    return true;
}

const char *tokenizer_spelling(const struct tokenizer *tokenizer, int32_t id, size_t *length) {
    const char *piece = piece_table_piece(&tokenizer->normal_pieces, id, length);
    if (!piece)
        piece = piece_table_piece(&tokenizer->added_pieces, id, length);
    return piece ? piece : piece_table_piece(&tokenizer->bpe.vocabulary, id, length);
}

uint32_t tokenizer_size(const struct tokenizer *tokenizer) {
    return tokenizer->ids.size;
}

int32_t tokenizer_id(const struct tokenizer *tokenizer, const char *piece) {
    int32_t id = piece_table_find(&tokenizer->added_pieces, piece, strlen(piece));
    return id >= 0 ? id : piece_table_find(&tokenizer->bpe.vocabulary, piece, strlen(piece));
}

const char *tokenizer_piece(const struct tokenizer *tokenizer, int32_t id) {
    return tokenizer_spelling(tokenizer, id, NULL);
}

bool tokenizer_is_special(const struct tokenizer *tokenizer, int32_t id) {
    return id >= 0 && (uint32_t)id < tokenizer->ids.size && tokenizer->is_special[id];
}

uint32_t tokenizer_eos_ids(const struct tokenizer *tokenizer, int32_t *ids, uint32_t capacity) {
    uint32_t count = tokenizer->ids.eos_count < capacity ? tokenizer->ids.eos_count : capacity;
    for (uint32_t i = 0; i < count; i++)
        ids[i] = tokenizer->ids.eos[i];
    return count;
}

int32_t tokenizer_bos_id(const struct tokenizer *tokenizer) {
    return tokenizer->ids.bos;
}

const char *tokenizer_bos_text(const struct tokenizer *tokenizer) {
    return tokenizer->bos_text ? tokenizer->bos_text : "";
}

const char *tokenizer_eos_text(const struct tokenizer *tokenizer) {
    return tokenizer->eos_text ? tokenizer->eos_text : "";
}

const json_t *tokenizer_named_texts(const struct tokenizer *tokenizer) {
    return tokenizer->named_texts;
}

const char *tokenizer_chat_template(const struct tokenizer *tokenizer) {
    return tokenizer->chat_template;
}
