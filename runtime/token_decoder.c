#include "runtime/token_decoder.h"

#include "runtime/byte_level.h"
#include "runtime/unicode.h"

#include <stdlib.h>
#include <string.h>

/* The chains that exist are all of one shape, and that is what is kept:
 *
 *   rewrite each piece  ->  collect bytes  ->  cut the start  ->  text
 *   Replace, Strip,         ByteLevel or       Strip after
 *   Metaspace               ByteFallback       Fuse          */
enum rewrite_kind { REWRITE_REPLACE, REWRITE_STRIP, REWRITE_METASPACE };
enum collector { COLLECT_NOTHING, COLLECT_BYTE_LEVEL, COLLECT_BYTE_FALLBACK };

enum { REWRITE_LIMIT = 16 };

struct rewrite {
    enum rewrite_kind kind;
    struct text from, to;     /* REPLACE: strings; STRIP, METASPACE: one character in `from` */
    uint32_t start, stop;     /* STRIP */
    bool drop_first;          /* METASPACE: the first piece loses the character */
};

struct token_decoder {
    struct rewrite rewrites[REWRITE_LIMIT];
    unsigned count;
    enum collector collector;
    bool is_fused;            /* what comes now works on the text as a whole */
    bool join_with_space;
    struct text cut;          /* the character to cut from the start ... */
    uint32_t cut_count;       /* ... at most so often */
};

struct reader {
    struct token_decoder *target;
    const char *file;
    struct error *err;
};

static bool refuse(const struct reader *reader, const char *what) {
    return error_set(reader->err, ERROR_FAILED, "%s in the decoder of '%s' is not supported", what, reader->file);
}

static struct rewrite *add_rewrite(struct reader *reader, enum rewrite_kind kind) {
    if (reader->target->count == REWRITE_LIMIT) {
        refuse(reader, "so long a sequence");
        return NULL;
    }
    struct rewrite *rewrite = &reader->target->rewrites[reader->target->count++];
    *rewrite = (struct rewrite){ .kind = kind };
    text_init(&rewrite->from);
    text_init(&rewrite->to);
    return rewrite;
}

static bool copy_string(const json_t *value, struct text *out) {
    if (!json_is_string(value))
        return false;
    text_append_bytes(out, json_string_value(value), json_string_length(value));
    return !out->failed;
}

static bool is_one_character(const struct text *text) {
    return text->length && utf8_next(text->bytes, text->length).length == text->length;
}

static bool read_replace(struct reader *reader, const json_t *json) {
    if (reader->target->collector != COLLECT_NOTHING || reader->target->is_fused)
        return refuse(reader, "a 'Replace' that does not come first");
    struct rewrite *rewrite = add_rewrite(reader, REWRITE_REPLACE);
    if (!rewrite)
        return false;
    return (copy_string(json_object_get(json_object_get(json, "pattern"), "String"), &rewrite->from)
            && rewrite->from.length && copy_string(json_object_get(json, "content"), &rewrite->to))
        || refuse(reader, "a 'Replace' of other than one string by another");
}

static bool read_strip(struct reader *reader, const json_t *json) {
    struct token_decoder *decoder = reader->target;
    uint32_t start = 0, stop = 0;
    struct text content;
    text_init(&content);
    bool ok = (copy_string(json_object_get(json, "content"), &content) && is_one_character(&content))
        || refuse(reader, "a 'Strip' of other than one character");
    ok = ok && json_get_u32(json, "start", reader->file, &start, reader->err)
        && json_get_u32(json, "stop", reader->file, &stop, reader->err);
    if (ok && decoder->is_fused) {
        if (stop || decoder->cut_count)
            ok = refuse(reader, "a 'Strip' at the end of the text");
        text_append_bytes(&decoder->cut, content.bytes, content.length);
        decoder->cut_count = start;
    } else if (ok) {
        struct rewrite *rewrite = decoder->collector != COLLECT_NOTHING ? NULL : add_rewrite(reader, REWRITE_STRIP);
        if (rewrite) {
            text_append_bytes(&rewrite->from, content.bytes, content.length);
            rewrite->start = start;
            rewrite->stop = stop;
        } else {
            ok = refuse(reader, "a 'Strip' there");
        }
    }
    text_release(&content);
    return ok;
}

static bool read_metaspace(struct reader *reader, const json_t *json) {
    if (reader->target->collector != COLLECT_NOTHING || reader->target->is_fused)
        return refuse(reader, "a 'Metaspace' that does not come first");
    const char *replacement = "\xe2\x96\x81", *scheme = NULL;
    bool prefix_space = true;
    if (!json_get_str(json, "replacement", reader->file, &replacement, reader->err)
        || !json_get_str(json, "prepend_scheme", reader->file, &scheme, reader->err)
        || !json_get_bool(json, "add_prefix_space", reader->file, &prefix_space, reader->err))
        return false;
    struct rewrite *rewrite = add_rewrite(reader, REWRITE_METASPACE);
    if (!rewrite)
        return false;
    text_append(&rewrite->from, replacement);
    text_append(&rewrite->to, " ");
    rewrite->drop_first = scheme ? strcmp(scheme, "never") != 0 : prefix_space;
    return is_one_character(&rewrite->from) || refuse(reader, "a 'Metaspace' of several characters");
}

static bool read_one(struct reader *reader, const json_t *json, const char *type) {
    struct token_decoder *decoder = reader->target;
    if (strcmp(type, "Replace") == 0)
        return read_replace(reader, json);
    if (strcmp(type, "Strip") == 0)
        return read_strip(reader, json);
    if (strcmp(type, "Metaspace") == 0)
        return read_metaspace(reader, json);
    if (strcmp(type, "Fuse") == 0) {
        decoder->is_fused = true;
        return true;
    }
    bool byte_level = strcmp(type, "ByteLevel") == 0;
    if (byte_level || strcmp(type, "ByteFallback") == 0) {
        if (decoder->collector != COLLECT_NOTHING || decoder->is_fused)
            return refuse(reader, "a second collector of bytes");
        decoder->collector = byte_level ? COLLECT_BYTE_LEVEL : COLLECT_BYTE_FALLBACK;
        decoder->is_fused = byte_level;
        return true;
    }
    return error_set(reader->err, ERROR_FAILED, "the decoder '%s' in '%s' is not supported", type, reader->file);
}

static bool read_any(struct reader *reader, const json_t *json, unsigned depth) {
    const char *type = NULL;
    if (!json_get_str(json, "type", reader->file, &type, reader->err))
        return false;
    if (!type)
        return error_set(reader->err, ERROR_FAILED, "a decoder in '%s' has no 'type'", reader->file);
    if (strcmp(type, "Sequence") != 0)
        return read_one(reader, json, type);
    const json_t *list = json_object_get(json, "decoders"), *item;
    if (!json_is_array(list) || depth == 8)
        return refuse(reader, "a 'Sequence' without a list");
    size_t i;
    json_array_foreach(list, i, item)
        if (!read_any(reader, item, depth + 1))
            return false;
    return true;
}

struct token_decoder *token_decoder_new(const json_t *json, const char *file, struct error *err) {
    struct token_decoder *decoder = calloc(1, sizeof *decoder);
    if (!decoder) {
        error_set(err, ERROR_FAILED, "cannot read the decoder of '%s': out of memory", file);
        return NULL;
    }
    text_init(&decoder->cut);
    if (!json || json_is_null(json)) {
        decoder->join_with_space = true;
        return decoder;
    }
    struct reader reader = { decoder, file, err };
    if (!read_any(&reader, json, 0)) {
        token_decoder_free(decoder);
        return NULL;
    }
    return decoder;
}

void token_decoder_free(struct token_decoder *decoder) {
    if (!decoder)
        return;
    for (unsigned i = 0; i < decoder->count; i++) {
        text_release(&decoder->rewrites[i].from);
        text_release(&decoder->rewrites[i].to);
    }
    text_release(&decoder->cut);
    free(decoder);
}

void decode_begin(struct decode_state *state, const struct token_decoder *decoder) {
    *state = (struct decode_state){ .decoder = decoder, .strip_left = decoder->cut_count };
    text_init(&state->waiting);
    text_init(&state->piece);
    text_init(&state->spare);
}

void decode_release(struct decode_state *state) {
    text_release(&state->waiting);
    text_release(&state->piece);
    text_release(&state->spare);
}

static bool begins_with(const char *bytes, size_t size, const struct text *what) {
    return size >= what->length && memcmp(bytes, what->bytes, what->length) == 0;
}

static void replace(const struct rewrite *rewrite, bool drop, const char *bytes, size_t size, struct text *out) {
    while (size) {
        const char *hit = memmem(bytes, size, rewrite->from.bytes, rewrite->from.length);
        size_t before = hit ? (size_t)(hit - bytes) : size;
        text_append_bytes(out, bytes, before);
        if (hit && !drop)
            text_append_bytes(out, rewrite->to.bytes, rewrite->to.length);
        before += hit ? rewrite->from.length : 0;
        bytes += before;
        size -= before;
    }
}

static void strip(const struct rewrite *rewrite, const char *bytes, size_t size, struct text *out) {
    size_t length = rewrite->from.length;
    for (uint32_t i = 0; i < rewrite->start && begins_with(bytes, size, &rewrite->from); i++) {
        bytes += length;
        size -= length;
    }
    for (uint32_t i = 0; i < rewrite->stop && size >= length
         && memcmp(bytes + size - length, rewrite->from.bytes, length) == 0; i++)
        size -= length;
    text_append_bytes(out, bytes, size);
}

static void rewrite_piece(struct decode_state *state, const char *bytes, size_t size) {
    const struct token_decoder *decoder = state->decoder;
    text_clear(&state->piece);
    text_append_bytes(&state->piece, bytes, size);
    for (unsigned i = 0; i < decoder->count; i++) {
        const struct rewrite *rewrite = &decoder->rewrites[i];
        text_clear(&state->spare);
        if (rewrite->kind == REWRITE_STRIP)
            strip(rewrite, state->piece.bytes, state->piece.length, &state->spare);
        else
            replace(rewrite, rewrite->drop_first && !state->has_begun, state->piece.bytes, state->piece.length,
                    &state->spare);
        struct text swap = state->piece;
        state->piece = state->spare;
        state->spare = swap;
    }
}

static void write_text(struct decode_state *state, const char *bytes, size_t size, struct text *out) {
    while (state->strip_left && size) {
        if (!begins_with(bytes, size, &state->decoder->cut)) {
            state->strip_left = 0;
            break;
        }
        state->strip_left--;
        bytes += state->decoder->cut.length;
        size -= state->decoder->cut.length;
    }
    text_append_bytes(out, bytes, size);
}

static void write_replacements(struct decode_state *state, size_t count, struct text *out) {
    while (count--)
        write_text(state, "\xef\xbf\xbd", 3, out);
}

/* Drop what was written from the front of `waiting`. */
static void keep_waiting(struct decode_state *state, size_t written) {
    struct text *waiting = &state->waiting;
    if (!written)
        return;
    memmove(waiting->bytes, waiting->bytes + written, waiting->length - written + 1);
    waiting->length -= written;
}

/* Byte-level: whole characters go out, invalid subparts as U+FFFD; the beginning
 * of a character waits. */
static void write_certain_bytes(struct decode_state *state, bool at_end, struct text *out) {
    struct text *waiting = &state->waiting;
    size_t at = 0;
    while (at < waiting->length) {
        size_t valid = utf8_valid_prefix(waiting->bytes + at, waiting->length - at);
        write_text(state, waiting->bytes + at, valid, out);
        at += valid;
        if (at == waiting->length)
            break;
        struct utf8_unit unit = utf8_next(waiting->bytes + at, waiting->length - at);
        if (unit.state == UTF8_CUT && !at_end)
            break;
        write_replacements(state, 1, out);
        at += unit.length;
    }
    keep_waiting(state, at);
}

/* Byte fallback: a run of byte pieces is text if it is UTF-8 as a whole, and else
 * one U+FFFD a byte. So it waits for its end, or for its first invalid byte. */
static void add_run_byte(struct decode_state *state, char byte, struct text *out) {
    if (state->run_is_broken) {
        write_replacements(state, 1, out);
        return;
    }
    struct text *waiting = &state->waiting;
    text_append_char(waiting, byte);
    struct utf8_unit unit = utf8_next(waiting->bytes + state->valid, waiting->length - state->valid);
    if (unit.state == UTF8_VALID) {
        state->valid += unit.length;
    } else if (unit.state == UTF8_INVALID) {
        state->run_is_broken = true;
        write_replacements(state, waiting->length, out);
        text_clear(waiting);
        state->valid = 0;
    }
}

static void end_run(struct decode_state *state, struct text *out) {
    struct text *waiting = &state->waiting;
    if (state->valid == waiting->length)
        write_text(state, waiting->bytes, waiting->length, out);
    else
        write_replacements(state, waiting->length, out);
    text_clear(waiting);
    state->valid = 0;
    state->run_is_broken = false;
}

/* The byte of a piece like <0x0A>; -1 for others. */
static int byte_of_piece(const struct text *piece) {
    if (piece->length != 6 || memcmp(piece->bytes, "<0x", 3) != 0 || piece->bytes[5] != '>')
        return -1;
    int high = hex_digit(piece->bytes[3]), low = hex_digit(piece->bytes[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

void decode_piece(struct decode_state *state, const char *bytes, size_t size, struct text *out) {
    const struct token_decoder *decoder = state->decoder;
    if (decoder->join_with_space && state->has_begun)
        text_append_char(out, ' ');
    rewrite_piece(state, bytes, size);
    state->has_begun = true;
    struct text *piece = &state->piece;
    if (decoder->collector == COLLECT_BYTE_LEVEL) {
        if (!byte_level_append_decoded(&state->waiting, piece->bytes, piece->length))
            text_append_bytes(&state->waiting, piece->bytes, piece->length);
        write_certain_bytes(state, false, out);
        return;
    }
    int byte = decoder->collector == COLLECT_BYTE_FALLBACK ? byte_of_piece(piece) : -1;
    if (byte >= 0) {
        add_run_byte(state, (char)byte, out);
        return;
    }
    end_run(state, out);
    write_text(state, piece->bytes, piece->length, out);
}

void decode_cut(struct decode_state *state, struct text *out) {
    if (state->decoder->collector != COLLECT_BYTE_LEVEL && state->valid == state->waiting.length)
        end_run(state, out);
}

void decode_end(struct decode_state *state, struct text *out) {
    if (state->decoder->collector == COLLECT_BYTE_LEVEL)
        write_certain_bytes(state, true, out);
    else
        end_run(state, out);
}

bool decode_bytes(const struct token_decoder *decoder, const char *bytes, size_t size, struct text *out) {
    struct decode_state state;
    if (decoder->join_with_space)
        return false;
    decode_begin(&state, decoder);
    state.has_begun = true;
    rewrite_piece(&state, bytes, size);
    struct text *piece = &state.piece;
    int byte = decoder->collector == COLLECT_BYTE_FALLBACK ? byte_of_piece(piece) : -1;
    if (byte >= 0)
        text_append_char(out, (char)byte);
    else if (decoder->collector != COLLECT_BYTE_LEVEL || !byte_level_append_decoded(out, piece->bytes, piece->length))
        text_append_bytes(out, piece->bytes, piece->length);
    out->failed |= piece->failed || state.spare.failed;
    decode_release(&state);
    return true;
}

bool decode_is_at_start(const struct decode_state *state) {
    return state->strip_left || !state->has_begun;
}
