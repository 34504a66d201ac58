/* The reader of a GGUF's tokenizer: its lists, with the stages that the
 * original tokenizer.json had and the GGUF only names. */
#include "runtime/tokenizer_parts.h"

#include "common/gguf.h"
#include "runtime/sentencepiece.h"
#include "runtime/spm_merges.h"
#include "runtime/unicode.h"

#include <stdlib.h>
#include <string.h>

#define SPLIT(regex) "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" regex "\"},\"behavior\":\"Isolated\"}"
#define SEQUENCE(steps) "{\"type\":\"Sequence\",\"pretokenizers\":[" steps "]}"
#define BYTES "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}"
#define GPT2 "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}"
#define DIGITS "{\"type\":\"Digits\",\"individual_digits\":true}"
#define SHORT_FORMS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define SPACE_RUNS "\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define WORDS_AND_NUMBERS(digits) SHORT_FORMS "|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|" digits \
    "| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|" SPACE_RUNS
#define UPPER "[\\\\p{Lu}\\\\p{Lt}\\\\p{Lm}\\\\p{Lo}\\\\p{M}]"
#define LOWER "[\\\\p{Ll}\\\\p{Lm}\\\\p{Lo}\\\\p{M}]"
#define O200K "[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?" UPPER "*" LOWER "+" SHORT_FORMS "?|" \
    "[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?" UPPER "+" LOWER "*" SHORT_FORMS "?|" \
    "\\\\p{N}{1,3}| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n/]*|" SPACE_RUNS

/* What tokenizer.ggml.pre stands for. */
static const struct byte_level_kind {
    const char *name;
    const char *pretokenizer;   /* JSON */
    bool has_nfc, ignores_merges, adds_bos;
} byte_level_kinds[] = {
    { "gpt-2", GPT2, false, false, false },
    { "gpt2", GPT2, false, false, false },
    { "phi-2", GPT2, false, false, false },
    { "smollm", SEQUENCE(DIGITS "," GPT2), false, false, false },
    { "starcoder", SEQUENCE(DIGITS "," GPT2), false, false, false },
    { "llama-bpe", SEQUENCE(SPLIT(WORDS_AND_NUMBERS("\\\\p{N}{1,3}")) "," BYTES), false, true, true },
    { "llama3", SEQUENCE(SPLIT(WORDS_AND_NUMBERS("\\\\p{N}{1,3}")) "," BYTES), false, true, true },
    { "llama-v3", SEQUENCE(SPLIT(WORDS_AND_NUMBERS("\\\\p{N}{1,3}")) "," BYTES), false, true, true },
    { "qwen2", SEQUENCE(SPLIT(WORDS_AND_NUMBERS("\\\\p{N}")) "," BYTES), true, false, false },
    { "gpt-4o", SEQUENCE(SPLIT(O200K) "," BYTES), false, false, false },
};

struct reader {
    struct tokenizer *tokenizer;
    const struct gguf *gguf;
    const char *path;
    const struct gguf_string *tokens;   /* [count] */
    uint64_t count;
    uint64_t unknown_id, head_end;      /* ids below head_end are a SentencePiece vocabulary's own
                                           <unk>, <s>, </s> */
    bool is_spm, is_phi3;
    struct error *err;
};

static bool fail(const struct reader *reader, const char *what) {
    return error_set(reader->err, ERROR_FAILED, "%s in '%s'", what, reader->path);
}

static enum piece_type type_of(const struct reader *reader, uint64_t id) {
    int64_t type = PIECE_NORMAL;
    gguf_array_i64(reader->gguf, "tokenizer.ggml.token_type", id, &type);
    return type >= PIECE_NORMAL && type <= PIECE_BYTE ? (enum piece_type)type : PIECE_UNUSED;
}

static bool spells(const struct gguf_string *string, const char *text) {
    return string->length == strlen(text) && memcmp(string->bytes, text, string->length) == 0;
}

static bool has_control(const struct reader *reader, const char *text) {
    for (uint64_t id = 0; id < reader->count; id++)
        if (spells(&reader->tokens[id], text))
            return type_of(reader, id) == PIECE_CONTROL || type_of(reader, id) == PIECE_USER_DEFINED;
    return false;
}

/* The flags that a GGUF does not record. Of Phi-3's tokens all but these three
 * swallow the white space on their right; of Phi-4-mini's those from
 * <|assistant|> to <|tag|>, which have fixed ids. */
static bool swallows_space(const struct reader *reader, uint64_t id) {
    const struct gguf_string *token = &reader->tokens[id];
    if (reader->is_phi3)
        return !spells(token, "<unk>") && !spells(token, "<s>") && !spells(token, "<|endoftext|>");
    return id >= 200019 && id <= 200028 && reader->count > 200028
        && spells(&reader->tokens[200019], "<|assistant|>") && spells(&reader->tokens[200028], "<|tag|>");
}

static bool add_token(const struct reader *reader, uint64_t id) {
    struct tokenizer *tokenizer = reader->tokenizer;
    enum piece_type type = type_of(reader, id);
    bool is_unknown = id == reader->unknown_id && type == PIECE_UNKNOWN;
    if (type == PIECE_UNUSED || (type == PIECE_UNKNOWN && !is_unknown) || !reader->tokens[id].length)
        return true;   /* a padding row: its id decodes to nothing */
    struct text piece;
    text_init(&piece);
    utf8_append_repaired(&piece, reader->tokens[id].bytes, reader->tokens[id].length);
    bool ok = !piece.failed || fail(reader, "no memory for the vocabulary");
    bool is_added = type == PIECE_CONTROL || type == PIECE_USER_DEFINED || is_unknown;
    if (ok && (!is_added || (reader->is_spm && id < reader->head_end)))
        ok = piece_table_add(&tokenizer->bpe.vocabulary, (int32_t)id, piece.bytes, piece.length)
            || fail(reader, "no memory for the vocabulary");
    if (ok && is_added)
        ok = tokenizer_add_token(tokenizer, piece.bytes, piece.length, (int32_t)id,
                                 (type == PIECE_USER_DEFINED ? 0 : ADDED_SPECIAL)
                                 | (swallows_space(reader, id) ? ADDED_RSTRIP : 0), reader->err);
    text_release(&piece);
    return ok;
}

static bool read_tokens(struct reader *reader) {
    const char *types = "tokenizer.ggml.token_type";
    reader->tokens = gguf_array_strings(reader->gguf, "tokenizer.ggml.tokens");
    reader->count = gguf_array_length(reader->gguf, "tokenizer.ggml.tokens");
    if (!reader->tokens || !reader->count || reader->count > PIECE_ID_LIMIT)
        return fail(reader, "no usable 'tokenizer.ggml.tokens'");
    if (gguf_has(reader->gguf, types) && gguf_array_length(reader->gguf, types) != reader->count)
        return fail(reader, "'tokenizer.ggml.tokens' and 'tokenizer.ggml.token_type' of different lengths");
    reader->unknown_id = UINT64_MAX;
    gguf_u64(reader->gguf, "tokenizer.ggml.unknown_token_id", &reader->unknown_id);
    if (reader->is_spm && reader->unknown_id == UINT64_MAX)
        reader->unknown_id = 0;
    while (reader->head_end < reader->count && type_of(reader, reader->head_end) != PIECE_NORMAL
           && type_of(reader, reader->head_end) != PIECE_BYTE)
        reader->head_end++;
    reader->is_phi3 = reader->is_spm && has_control(reader, "<|end|>") && has_control(reader, "<|user|>")
        && has_control(reader, "<|assistant|>");
    for (uint64_t id = 0; id < reader->count; id++)
        if (!add_token(reader, id))
            return false;
    reader->tokenizer->ids.size = (uint32_t)reader->count;
    return true;
}

static bool score_of(const void *context, int32_t id, float *score) {
    const struct reader *reader = context;
    if ((uint64_t)id >= reader->head_end)
        gguf_array_f32(reader->gguf, "tokenizer.ggml.scores", (uint64_t)id, score);
    return type_of(reader, (uint64_t)id) != PIECE_BYTE;
}

static bool read_merge(struct reader *reader, const struct gguf_string *line, uint32_t rank, struct text *joined) {
    const char *space = line->length > 1 ? memchr(line->bytes + 1, ' ', line->length - 1) : NULL;
    if (!space)
        return error_set(reader->err, ERROR_FAILED, "merge %u in '%s' does not name two pieces", rank, reader->path);
    size_t left = (size_t)(space - line->bytes);
    return bpe_add_named_merge(&reader->tokenizer->bpe, line->bytes, left, space + 1,
                               (size_t)line->length - left - 1, rank, joined)
        || error_set(reader->err, ERROR_FAILED, "merge %u in '%s' names a piece that is not in the vocabulary",
                     rank, reader->path);
}

static bool read_merges(struct reader *reader) {
    const struct gguf_string *lines = gguf_array_strings(reader->gguf, "tokenizer.ggml.merges");
    uint64_t count = gguf_array_length(reader->gguf, "tokenizer.ggml.merges");
    if (!lines || count > INT32_MAX)
        return fail(reader, "no usable 'tokenizer.ggml.merges'");
    if (!bpe_reserve_merges(&reader->tokenizer->bpe, (uint32_t)count))
        return fail(reader, "no memory for the merges");
    struct text joined;
    text_init(&joined);
    bool ok = true;
    for (uint64_t i = 0; ok && i < count; i++)
        ok = read_merge(reader, &lines[i], (uint32_t)i, &joined);
    text_release(&joined);
    return ok;
}

static bool read_stages(struct reader *reader, const char *stages) {
    json_t *root = json_read_text(stages, strlen(stages), reader->path, reader->err);
    bool ok = root && tokenizer_read_stages(reader->tokenizer, root, reader->path, reader->err);
    json_decref(root);
    return ok;
}

static bool read_spm(struct reader *reader) {
    struct bpe *bpe = &reader->tokenizer->bpe;
    bool space_prefix = true;
    gguf_bool(reader->gguf, "tokenizer.ggml.add_space_prefix", &space_prefix);
    bpe->byte_fallback = bpe->fuse_unknown = true;
    if (gguf_array_length(reader->gguf, "tokenizer.ggml.scores")
        != gguf_array_length(reader->gguf, "tokenizer.ggml.tokens"))
        return fail(reader, "no 'tokenizer.ggml.scores' for the tokens");
    if (!read_tokens(reader) || !spm_make_merges(bpe, score_of, reader, reader->path, reader->err))
        return false;
    if (piece_table_piece(&bpe->vocabulary, (int32_t)(reader->unknown_id & INT32_MAX), NULL))
        bpe->unknown_id = (int32_t)(reader->unknown_id & INT32_MAX);
    return read_stages(reader, spm_stages(space_prefix ? SPM_SPACE_EACH : SPM_NO_SPACE));
}

static bool read_byte_level(struct reader *reader, bool *adds_bos) {
    struct gguf_string pre;
    if (!gguf_str(reader->gguf, "tokenizer.ggml.pre", &pre))
        return error_set(reader->err, ERROR_FAILED, "'%s' does not say how it splits text (no 'tokenizer.ggml.pre'); "
                         "convert the model again", reader->path);
    const struct byte_level_kind *kind = NULL;
    for (size_t i = 0; i < sizeof byte_level_kinds / sizeof *byte_level_kinds; i++)
        if (spells(&pre, byte_level_kinds[i].name))
            kind = &byte_level_kinds[i];
    if (!kind)
        return error_set(reader->err, ERROR_FAILED, "the pre-tokenizer '%.*s' of '%s' is not supported",
                         pre.length < 40 ? (int)pre.length : 40, pre.bytes, reader->path);
    reader->tokenizer->bpe.ignore_merges = kind->ignores_merges;
    *adds_bos = kind->adds_bos;
    struct text stages;
    text_init(&stages);
    text_append_format(&stages, "{\"normalizer\":%s,\"pre_tokenizer\":%s,\"decoder\":{\"type\":\"ByteLevel\"}}",
                       kind->has_nfc ? "{\"type\":\"NFC\"}" : "null", kind->pretokenizer);
    bool ok = (!stages.failed || fail(reader, "no memory")) && read_tokens(reader) && read_merges(reader)
        && read_stages(reader, stages.bytes);
    text_release(&stages);
    return ok;
}

/* The id under `key`, or -1. */
static int32_t special_id(const struct reader *reader, const char *key) {
    uint64_t id;
    return gguf_u64(reader->gguf, key, &id) && id < reader->count ? (int32_t)id : -1;
}

static bool keep_text(struct reader *reader, char **place, const char *bytes, size_t length) {
    if (!bytes)
        return true;
    *place = strndup(bytes, length);
    return *place || fail(reader, "no memory");
}

static bool keep_piece(struct reader *reader, char **place, int32_t id) {
    size_t length = 0;
    const char *piece = tokenizer_spelling(reader->tokenizer, id, &length);
    return keep_text(reader, place, piece, length);
}

/* Special tokens that only templates ask for. */
static bool keep_named(struct reader *reader) {
    static const struct { const char *key, *name; } named[] = {
        { "tokenizer.ggml.unknown_token_id", "unk_token" }, { "tokenizer.ggml.padding_token_id", "pad_token" },
        { "tokenizer.ggml.seperator_token_id", "sep_token" }, { "tokenizer.ggml.cls_token_id", "cls_token" },
        { "tokenizer.ggml.mask_token_id", "mask_token" },
    };
    json_t *texts = reader->tokenizer->named_texts = json_object();
    for (size_t i = 0; i < sizeof named / sizeof *named; i++) {
        size_t length = 0;
        const char *piece = tokenizer_spelling(reader->tokenizer, special_id(reader, named[i].key), &length);
        if (piece && json_object_set_new(texts, named[i].name, json_stringn(piece, length)) != 0)
            return fail(reader, "no memory");
    }
    return true;
}

static bool read_special(struct reader *reader, bool adds_bos) {
    struct tokenizer *tokenizer = reader->tokenizer;
    bool adds_eos = false;
    struct gguf_string template = { NULL, 0 };
    gguf_bool(reader->gguf, "tokenizer.ggml.add_bos_token", &adds_bos);
    gguf_bool(reader->gguf, "tokenizer.ggml.add_eos_token", &adds_eos);
    gguf_str(reader->gguf, "tokenizer.chat_template", &template);
    int32_t eos = special_id(reader, "tokenizer.ggml.eos_token_id");
    tokenizer->ids.bos = special_id(reader, "tokenizer.ggml.bos_token_id");
    /* Phi-3's tokenizer adds no BOS, whatever older conversions say. */
    if (adds_bos && !reader->is_phi3 && tokenizer->ids.bos >= 0)
        tokenizer->ids.prefix[tokenizer->ids.prefix_count++] = tokenizer->ids.bos;
    if (adds_eos && eos >= 0)
        tokenizer->ids.suffix[tokenizer->ids.suffix_count++] = eos;
    tokenizer_add_eos(tokenizer, eos);
    tokenizer_add_eos(tokenizer, special_id(reader, "tokenizer.ggml.eot_token_id"));
    return keep_piece(reader, &tokenizer->bos_text, tokenizer->ids.bos)
        && keep_piece(reader, &tokenizer->eos_text, eos) && keep_named(reader)
        && keep_text(reader, &tokenizer->chat_template, template.bytes, template.length);
}

bool tokenizer_read_gguf(struct tokenizer *tokenizer, const char *path, struct error *err) {
    struct gguf *gguf = gguf_open(path, err);
    if (!gguf)
        return false;
    struct reader reader = { .tokenizer = tokenizer, .gguf = gguf, .path = path, .err = err };
    struct gguf_string model = { "", 0 };
    bool adds_bos = false, ok;
    gguf_str(gguf, "tokenizer.ggml.model", &model);
    reader.is_spm = spells(&model, "llama");
    if (reader.is_spm) {
        adds_bos = true;
        ok = read_spm(&reader);
    } else if (spells(&model, "gpt2")) {
        ok = read_byte_level(&reader, &adds_bos);
    } else if (!model.length) {
        ok = fail(&reader, "no tokenizer");
    } else {
        ok = error_set(err, ERROR_FAILED, "the tokenizer model '%.*s' in '%s' is not supported",
                       model.length < 40 ? (int)model.length : 40, model.bytes, path);
    }
    ok = ok && read_special(&reader, adds_bos);
    gguf_close(gguf);
    return ok;
}
