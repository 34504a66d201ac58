/* The reader of tokenizer.json. */
#include "runtime/tokenizer_parts.h"

#include <string.h>

struct reader {
    struct tokenizer *tokenizer;
    const char *file;
    struct error *err;
};

static bool fail(const struct reader *reader, const char *what) {
    return error_set(reader->err, ERROR_FAILED, "%s in '%s'", what, reader->file);
}

static bool read_id(const struct reader *reader, const json_t *value, int32_t *id) {
    if (!json_is_integer(value) || json_integer_value(value) < 0 || json_integer_value(value) >= PIECE_ID_LIMIT)
        return error_set(reader->err, ERROR_FAILED, "a token id in '%s' is not a whole number below %d",
                         reader->file, PIECE_ID_LIMIT);
    *id = (int32_t)json_integer_value(value);
    return true;
}

static bool read_added_token(const struct reader *reader, const json_t *item) {
    static const struct { const char *key; unsigned flag; } keys[] = {
        { "special", ADDED_SPECIAL }, { "lstrip", ADDED_LSTRIP }, { "rstrip", ADDED_RSTRIP },
        { "single_word", ADDED_SINGLE_WORD }, { "normalized", ADDED_NORMALIZED },
    };
    const json_t *content = json_object_get(item, "content");
    int32_t id;
    if (!json_is_string(content))
        return fail(reader, "an added token without 'content'");
    if (!read_id(reader, json_object_get(item, "id"), &id))
        return false;
    unsigned flags = 0;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        bool set = false;
        if (!json_get_bool(item, keys[i].key, reader->file, &set, reader->err))
            return false;
        flags |= set ? keys[i].flag : 0;
    }
    if (json_string_length(content) == 0)
        return true;   /* matches nothing */
    /* A content that is in the vocabulary has the id that it has there. */
    int32_t known = piece_table_find(&reader->tokenizer->bpe.vocabulary, json_string_value(content),
                                     json_string_length(content));
    id = known >= 0 ? known : id;
    return tokenizer_add_token(reader->tokenizer, json_string_value(content), json_string_length(content), id,
                               flags, reader->err);
}

bool tokenizer_read_added_token(struct tokenizer *tokenizer, const json_t *item, const char *file,
                                struct error *err) {
    struct reader reader = { tokenizer, file, err };
    return read_added_token(&reader, item);
}

static bool read_added_tokens(const struct reader *reader, const json_t *list) {
    if (!list || json_is_null(list))
        return true;
    if (!json_is_array(list))
        return fail(reader, "'added_tokens' is not a list");
    size_t i;
    const json_t *item;
    json_array_foreach(list, i, item)
        if (!read_added_token(reader, item))
            return false;
    return true;
}

static bool read_vocabulary(const struct reader *reader, const json_t *json) {
    if (!json_is_object(json))
        return fail(reader, "no object 'vocab'");
    json_t *object = (json_t *)json, *value;   /* iterating does not change it */
    const char *key;
    size_t length;
    json_object_keylen_foreach(object, key, length, value) {
        int32_t id;
        if (!read_id(reader, value, &id))
            return false;
        if (!piece_table_add(&reader->tokenizer->bpe.vocabulary, id, key, length))
            return fail(reader, "no memory for the vocabulary");
    }
    return true;
}

/* A merge is "left right" or ["left", "right"]. */
static bool read_merge(const struct reader *reader, const json_t *item, uint32_t rank, struct text *joined) {
    const char *left, *right;
    size_t left_size, right_size;
    if (json_is_string(item)) {
        left = json_string_value(item);
        const char *space = strchr(left, ' ');
        if (!space || strchr(space + 1, ' '))
            return error_set(reader->err, ERROR_FAILED, "merge %u in '%s' does not name two pieces", rank,
                             reader->file);
        right = space + 1;
        left_size = (size_t)(space - left);
        right_size = strlen(right);
    } else {
        const json_t *first = json_array_get(item, 0), *second = json_array_get(item, 1);
        if (json_array_size(item) != 2 || !json_is_string(first) || !json_is_string(second))
            return error_set(reader->err, ERROR_FAILED, "merge %u in '%s' is not a pair", rank, reader->file);
        left = json_string_value(first);
        left_size = json_string_length(first);
        right = json_string_value(second);
        right_size = json_string_length(second);
    }
    return bpe_add_named_merge(&reader->tokenizer->bpe, left, left_size, right, right_size, rank, joined)
        || error_set(reader->err, ERROR_FAILED, "merge %u in '%s' names a piece that is not in the vocabulary",
                     rank, reader->file);
}

static bool read_merges(const struct reader *reader, const json_t *list) {
    size_t count = json_array_size(list), i;
    if (!json_is_array(list) || count > INT32_MAX)
        return fail(reader, "no list 'merges'");
    if (!bpe_reserve_merges(&reader->tokenizer->bpe, (uint32_t)count))
        return fail(reader, "no memory for the merges");
    struct text joined;
    text_init(&joined);
    bool ok = true;
    for (i = 0; ok && i < count; i++)
        ok = read_merge(reader, json_array_get(list, i), (uint32_t)i, &joined);
    text_release(&joined);
    return ok;
}

static bool read_model(const struct reader *reader, const json_t *json) {
    struct bpe *bpe = &reader->tokenizer->bpe;
    const char *type = "BPE", *prefix = "", *suffix = "", *unknown = NULL, *file = reader->file;
    float dropout = 0;
    if (!json_is_object(json))
        return fail(reader, "no object 'model'");
    if (!json_get_str(json, "type", file, &type, reader->err))
        return false;
    if (strcmp(type, "BPE") != 0)
        return error_set(reader->err, ERROR_FAILED, "the tokenizer model '%.40s' in '%s' is not supported; "
                         "BPE is", type, file);
    if (!json_get_str(json, "continuing_subword_prefix", file, &prefix, reader->err)
        || !json_get_str(json, "end_of_word_suffix", file, &suffix, reader->err)
        || !json_get_str(json, "unk_token", file, &unknown, reader->err)
        || !json_get_bool(json, "byte_fallback", file, &bpe->byte_fallback, reader->err)
        || !json_get_bool(json, "fuse_unk", file, &bpe->fuse_unknown, reader->err)
        || !json_get_bool(json, "ignore_merges", file, &bpe->ignore_merges, reader->err)
        || !json_get_f32(json, "dropout", file, &dropout, reader->err))
        return false;
    if (*prefix)
        return fail(reader, "'continuing_subword_prefix' is not supported; it is set");
    if (*suffix)
        return fail(reader, "'end_of_word_suffix' is not supported; it is set");
    if (dropout != 0)
        return fail(reader, "'dropout' is not supported; it is set");
    if (!read_vocabulary(reader, json_object_get(json, "vocab")))
        return false;
    if (unknown)
        bpe->unknown_id = piece_table_find(&bpe->vocabulary, unknown, strlen(unknown));
    return read_merges(reader, json_object_get(json, "merges"));
}

/* Ids that a template puts round the text. */
struct frame {
    int32_t before[SPECIAL_IDS_LIMIT], after[SPECIAL_IDS_LIMIT];
    unsigned before_count, after_count;
};

static bool read_template_ids(const struct reader *reader, const json_t *root, const json_t *special,
                              int32_t *ids, unsigned *count) {
    const json_t *name = json_object_get(special, "id");
    const json_t *entry = json_is_string(name)
        ? json_object_get(json_object_get(root, "special_tokens"), json_string_value(name)) : NULL;
    const json_t *list = json_object_get(entry, "ids"), *value;
    if (!json_is_array(list))
        return fail(reader, "a special token of the post-processor is not explained");
    size_t i;
    json_array_foreach(list, i, value) {
        if (*count == SPECIAL_IDS_LIMIT)
            return fail(reader, "too many special tokens in the post-processor");
        if (!read_id(reader, value, &ids[(*count)++]))
            return false;
    }
    return true;
}

static bool read_template(const struct reader *reader, const json_t *json, struct frame *frame) {
    const json_t *single = json_object_get(json, "single"), *item;
    bool text_seen = false;
    size_t i;
    json_array_foreach(single, i, item) {
        const json_t *special = json_object_get(item, "SpecialToken");
        if (special && !read_template_ids(reader, json, special, text_seen ? frame->after : frame->before,
                                          text_seen ? &frame->after_count : &frame->before_count))
            return false;
        if (!special && (text_seen || !json_object_get(item, "Sequence")))
            return fail(reader, "a post-processor template that is not supported");
        text_seen |= !special;
    }
    return text_seen || fail(reader, "a post-processor template without the text");
}

/* Processors work from the inside to the outside. */
static bool add_frame(const struct reader *reader, const struct frame *frame) {
    struct tokenizer *tokenizer = reader->tokenizer;
    if (tokenizer->ids.prefix_count + frame->before_count > SPECIAL_IDS_LIMIT
        || tokenizer->ids.suffix_count + frame->after_count > SPECIAL_IDS_LIMIT)
        return fail(reader, "too many special tokens in the post-processor");
    memmove(tokenizer->ids.prefix + frame->before_count, tokenizer->ids.prefix,
            tokenizer->ids.prefix_count * sizeof *tokenizer->ids.prefix);
    memcpy(tokenizer->ids.prefix, frame->before, frame->before_count * sizeof *frame->before);
    memcpy(tokenizer->ids.suffix + tokenizer->ids.suffix_count, frame->after, frame->after_count * sizeof *frame->after);
    tokenizer->ids.prefix_count += frame->before_count;
    tokenizer->ids.suffix_count += frame->after_count;
    return true;
}

static bool read_post_processor(const struct reader *reader, const json_t *json, unsigned depth) {
    if (!json || json_is_null(json))
        return true;
    const char *type = "";
    if (!json_get_str(json, "type", reader->file, &type, reader->err))
        return false;
    if (strcmp(type, "ByteLevel") == 0)
        return true;   /* trims offsets, which nobody asks for here */
    if (strcmp(type, "TemplateProcessing") == 0) {
        struct frame frame = { .before_count = 0 };
        return read_template(reader, json, &frame) && add_frame(reader, &frame);
    }
    if (strcmp(type, "Sequence") != 0)
        return error_set(reader->err, ERROR_FAILED, "the post-processor '%.40s' in '%s' is not supported", type,
                         reader->file);
    const json_t *list = json_object_get(json, "processors"), *item;
    if (!json_is_array(list) || depth == 8)
        return fail(reader, "a 'Sequence' of post-processors is not a list");
    size_t i;
    json_array_foreach(list, i, item)
        if (!read_post_processor(reader, item, depth + 1))
            return false;
    return true;
}

bool tokenizer_read_json(struct tokenizer *tokenizer, const json_t *root, const char *file, struct error *err) {
    struct reader reader = { tokenizer, file, err };
    return read_model(&reader, json_object_get(root, "model"))
        && read_added_tokens(&reader, json_object_get(root, "added_tokens"))
        && tokenizer_read_stages(tokenizer, root, file, err)
        && read_post_processor(&reader, json_object_get(root, "post_processor"), 0);
}
