#include "runtime/tokenizer_image.h"

#include "common/artifact.h"
#include "common/file_map.h"
#include "common/temporary_file.h"
#include "common/user_folder.h"
#include "runtime/tokenizer_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAGIC "phi-tok\n"
#define ALIGNMENT 16u
#define IMAGE_LIMIT ((uint64_t)1 << 30)

enum table { VOCABULARY, ADDED, NORMAL, TABLE_COUNT };
enum section {
    POOLS, PLACES = POOLS + TABLE_COUNT, SLOTS = PLACES + TABLE_COUNT, MERGES = SLOTS + TABLE_COUNT, JOINS,
    SPECIAL, RAW_TOKENS, NORMALIZED_TOKENS, STAGES, BOS_TEXT, EOS_TEXT, CHAT_TEMPLATE,
    NAMED_TEXTS, SECTION_COUNT
};

struct image_header {
    char magic[8];
    uint32_t version, header_bytes;
    char checksum[64];           /* SHA-256 of everything after this field */
    char weights_hash[64], text_hash[64];
    uint64_t seeds[TABLE_COUNT], merge_seed;
    uint32_t slot_masks[TABLE_COUNT], merge_mask;
    uint32_t byte_fallback, fuse_unknown, ignore_merges;
    int32_t direct[BPE_DIRECT_END], byte_ids[256];
    int32_t unknown_id;
    struct tokenizer_ids ids;
    struct { uint64_t offset, bytes; } sections[SECTION_COUNT];   /* 0 bytes: none */
};
#define CHECKED_FROM (offsetof(struct image_header, checksum) + 64)

/* Before each content of the two sections of added tokens. */
struct stored_token { uint32_t length, flags; int32_t id; };

static struct piece_table *table_of(struct tokenizer *tokenizer, enum table which) {
    return which == VOCABULARY ? &tokenizer->bpe.vocabulary
         : which == ADDED      ? &tokenizer->added_pieces
                               : &tokenizer->normal_pieces;
}

char *tokenizer_image_path(const struct model_hashes *hashes) {
    char *root = artifact_root(NULL), *path = NULL;
    if (root && asprintf(&path, "%s/%s/tokenizer_%.16s_v%u", root, hashes->weights, hashes->text,
                         TOKENIZER_IMAGE_VERSION) < 0)
        path = NULL;
    free(root);
    return path;
}

/* ---- writing ---- */

static void add_section(struct text *image, enum section which, const void *bytes, size_t size) {
    static const char zeros[ALIGNMENT];
    text_append_bytes(image, zeros, (ALIGNMENT - image->length % ALIGNMENT) % ALIGNMENT);
    size_t offset = image->length;
    text_append_bytes(image, bytes, size);
    if (image->failed)
        return;
    struct image_header *header = (struct image_header *)(void *)image->bytes;
    header->sections[which].offset = offset;
    header->sections[which].bytes = size;
}

static void add_tokens(struct text *image, enum section which, const struct added_tokens *set) {
    struct text tokens;
    text_init(&tokens);
    for (uint32_t i = 0; i < set->count; i++) {
        const struct stored_token stored = { set->tokens[i].length, set->tokens[i].flags, set->tokens[i].id };
        text_append_bytes(&tokens, &stored, sizeof stored);
        text_append_bytes(&tokens, set->tokens[i].content, set->tokens[i].length);
    }
    image->failed = image->failed || tokens.failed;
    add_section(image, which, tokens.bytes, tokens.length);
    text_release(&tokens);
}

static void add_text(struct text *image, enum section which, const char *string) {
    if (string)
        add_section(image, which, string, strlen(string) + 1);
}

static void fill_header(struct image_header *header, const struct tokenizer *tokenizer,
                        const struct model_hashes *hashes) {
    const struct bpe *bpe = &tokenizer->bpe;
    memcpy(header->magic, MAGIC, sizeof header->magic);
    header->version = TOKENIZER_IMAGE_VERSION;
    header->header_bytes = sizeof *header;
    memcpy(header->weights_hash, hashes->weights, 64);
    memcpy(header->text_hash, hashes->text, 64);
    header->merge_seed = bpe->seed;
    header->merge_mask = bpe->merge_mask;
    header->byte_fallback = bpe->byte_fallback;
    header->fuse_unknown = bpe->fuse_unknown;
    header->ignore_merges = bpe->ignore_merges;
    memcpy(header->direct, bpe->direct, sizeof header->direct);
    memcpy(header->byte_ids, bpe->byte_ids, sizeof header->byte_ids);
    header->unknown_id = bpe->unknown_id;
    header->ids = tokenizer->ids;
}

static void fill_image(struct text *image, const struct tokenizer *tokenizer, const struct model_hashes *hashes) {
    struct image_header *header = calloc(1, sizeof *header);
    if (!header) {
        image->failed = true;
        return;
    }
    fill_header(header, tokenizer, hashes);
    for (int t = 0; t < TABLE_COUNT; t++) {
        /* table_of() does not write. */
        const struct piece_table *table = table_of((struct tokenizer *)(uintptr_t)tokenizer, (enum table)t);
        header->seeds[t] = table->seed;
        header->slot_masks[t] = table->slot_mask;
    }
    text_append_bytes(image, header, sizeof *header);
    free(header);
    for (int t = 0; t < TABLE_COUNT; t++) {
        const struct piece_table *table = table_of((struct tokenizer *)(uintptr_t)tokenizer, (enum table)t);
        add_section(image, POOLS + t, table->pool, table->pool_size);
        add_section(image, PLACES + t, table->places, table->id_end * sizeof *table->places);
        add_section(image, SLOTS + t, table->slots, ((size_t)table->slot_mask + 1) * sizeof *table->slots);
    }
    const struct bpe *bpe = &tokenizer->bpe;
    add_section(image, MERGES, bpe->merges, ((size_t)bpe->merge_mask + 1) * sizeof *bpe->merges);
    if (bpe->joins)
        add_section(image, JOINS, bpe->joins, BPE_JOIN_BYTES);
    add_section(image, SPECIAL, tokenizer->is_special, (size_t)tokenizer->ids.size + 1);
    add_tokens(image, RAW_TOKENS, &tokenizer->raw);
    add_tokens(image, NORMALIZED_TOKENS, &tokenizer->normalized);
    add_text(image, STAGES, tokenizer->stages);
    add_text(image, BOS_TEXT, tokenizer->bos_text);
    add_text(image, EOS_TEXT, tokenizer->eos_text);
    add_text(image, CHAT_TEMPLATE, tokenizer->chat_template);
    if (tokenizer->named_texts) {
        char *texts = json_dumps(tokenizer->named_texts, JSON_COMPACT);
        image->failed = image->failed || !texts;
        add_text(image, NAMED_TEXTS, texts);
        free(texts);
    }
}

static bool write_file(const char *path, const struct text *image, struct error *err) {
    char *temporary;
    int descriptor = temporary_file_create(path, &temporary, err);
    if (descriptor < 0)
        return false;
    bool ok = file_write_all(descriptor, image->bytes, image->length);
    if (ok)
        ok = temporary_file_finish(descriptor, temporary, path, TAKE_ANY);
    else
        temporary_file_drop(descriptor, temporary);
    return ok || error_set(err, ERROR_FAILED, "cannot write '%s': %s", path, strerror(errno));
}

bool tokenizer_image_write(const struct tokenizer *tokenizer, const char *path, const struct model_hashes *hashes,
                           struct error *err) {
    struct text image;
    text_init(&image);
    bool ok = tokenizer->stages && tokenizer->bpe.merges;
    if (ok)
        fill_image(&image, tokenizer, hashes);
    ok = (ok && !image.failed) || error_set(err, ERROR_FAILED, "cannot make '%s': out of memory", path);
    if (ok) {
        char hex[65];
        sha256_hex(image.bytes + CHECKED_FROM, image.length - CHECKED_FROM, hex);
        memcpy(((struct image_header *)(void *)image.bytes)->checksum, hex, 64);
        ok = user_folder_make(path, "the tokenizer", err) && write_file(path, &image, err);
    }
    text_release(&image);
    return ok;
}

/* ---- reading ---- */

struct reader {
    const uint8_t *bytes;
    const struct image_header *header;
    struct tokenizer *tokenizer;
};

static const void *section(const struct reader *reader, int which, uint64_t *bytes) {
    *bytes = reader->header->sections[which].bytes;
    return *bytes ? reader->bytes + reader->header->sections[which].offset : NULL;
}

static bool is_header_sound(const uint8_t *bytes, uint64_t size, const struct model_hashes *hashes) {
    const struct image_header *header = (const struct image_header *)(const void *)bytes;
    char hex[65];
    if (size < sizeof *header || size > IMAGE_LIMIT || memcmp(header->magic, MAGIC, sizeof header->magic) ||
        header->version != TOKENIZER_IMAGE_VERSION || header->header_bytes != sizeof *header ||
        memcmp(header->weights_hash, hashes->weights, 64) || memcmp(header->text_hash, hashes->text, 64))
        return false;
    for (int i = 0; i < SECTION_COUNT; i++) {
        uint64_t offset = header->sections[i].offset, length = header->sections[i].bytes;
        if (length && (offset % ALIGNMENT || offset < sizeof *header || offset > size || length > size - offset))
            return false;
    }
    sha256_hex(bytes + CHECKED_FROM, size - CHECKED_FROM, hex);
    return memcmp(header->checksum, hex, 64) == 0;
}

static bool is_mask(uint32_t mask) {
    return mask >= 1 && (mask & (mask + 1)) == 0;
}

/* The checksum says that the file is as it was written; this, that no use of it leaves it. */
static bool read_table(const struct reader *reader, enum table which) {
    struct piece_table *table = table_of(reader->tokenizer, which);
    uint64_t pool_bytes, place_bytes, slot_bytes;
    const char *pool = section(reader, POOLS + which, &pool_bytes);
    const struct piece_place *places = section(reader, PLACES + which, &place_bytes);
    const int32_t *slots = section(reader, SLOTS + which, &slot_bytes);
    uint64_t id_end = place_bytes / sizeof *places, slot_count = (uint64_t)reader->header->slot_masks[which] + 1;
    bool has_empty = false;
    if (!pool || !slots || id_end > PIECE_ID_LIMIT || place_bytes % sizeof *places || pool_bytes > UINT32_MAX ||
        !is_mask(reader->header->slot_masks[which]) || slot_bytes != slot_count * sizeof *slots)
        return false;
    for (uint64_t id = 0; id < id_end; id++)
        if (places[id].offset && ((uint64_t)places[id].offset + places[id].length >= pool_bytes ||
                                  pool[places[id].offset + places[id].length]))
            return false;
    for (uint64_t i = 0; i < slot_count; i++) {
        has_empty = has_empty || slots[i] < 0;
        if (slots[i] >= 0 && ((uint64_t)slots[i] >= id_end || !places[slots[i]].offset))
            return false;
    }
    if (!has_empty)
        return false;
    piece_table_release(table);
    *table = (struct piece_table){
        .pool = (char *)(uintptr_t)pool, .pool_size = pool_bytes, .places = (struct piece_place *)(uintptr_t)places,
        .id_end = (uint32_t)id_end, .slots = (int32_t *)(uintptr_t)slots,
        .slot_mask = reader->header->slot_masks[which], .seed = reader->header->seeds[which], .is_borrowed = true,
    };
    return true;
}

static bool are_ids(const int32_t *ids, size_t count, int32_t least, uint32_t end) {
    for (size_t i = 0; i < count; i++)
        if (ids[i] < least || (ids[i] >= 0 && (uint32_t)ids[i] >= end))
            return false;
    return true;
}

static bool read_bpe(const struct reader *reader) {
    const struct image_header *header = reader->header;
    struct bpe *bpe = &reader->tokenizer->bpe;
    uint32_t end = bpe->vocabulary.id_end;
    uint64_t merge_bytes, join_bytes, slots = (uint64_t)header->merge_mask + 1;
    const struct merge *merges = section(reader, MERGES, &merge_bytes);
    const uint64_t *joins = section(reader, JOINS, &join_bytes);
    bool has_empty = false;
    if (!merges || !is_mask(header->merge_mask) || merge_bytes != slots * sizeof *merges ||
        (joins && join_bytes != BPE_JOIN_BYTES) || !are_ids(header->direct, BPE_DIRECT_END, -1, end) ||
        !are_ids(header->byte_ids, 256, -1, end) || !are_ids(&header->unknown_id, 1, -1, header->ids.size))
        return false;
    for (uint64_t i = 0; i < slots; i++) {
        has_empty = has_empty || merges[i].pair == UINT64_MAX;
        if (merges[i].pair != UINT64_MAX && !are_ids(&merges[i].id, 1, 0, end))
            return false;
    }
    if (!has_empty)
        return false;
    bpe->merges = (struct merge *)(uintptr_t)merges;
    bpe->joins = (uint64_t *)(uintptr_t)joins;
    bpe->merge_mask = header->merge_mask;
    bpe->seed = header->merge_seed;
    bpe->is_borrowed = true;
    memcpy(bpe->direct, header->direct, sizeof bpe->direct);
    memcpy(bpe->byte_ids, header->byte_ids, sizeof bpe->byte_ids);
    bpe->unknown_id = header->unknown_id;
    bpe->byte_fallback = header->byte_fallback;
    bpe->fuse_unknown = header->fuse_unknown;
    bpe->ignore_merges = header->ignore_merges;
    return true;
}

static bool read_ids(const struct reader *reader) {
    const struct tokenizer_ids *ids = &reader->header->ids;
    struct tokenizer *tokenizer = reader->tokenizer;
    uint64_t bytes;
    const uint8_t *special = section(reader, SPECIAL, &bytes);
    if (ids->size > PIECE_ID_LIMIT || ids->end > PIECE_ID_LIMIT || ids->end < ids->size ||
        ids->size < tokenizer->bpe.vocabulary.id_end || ids->size < tokenizer->added_pieces.id_end ||
        ids->size < tokenizer->normal_pieces.id_end || !special || bytes != (uint64_t)ids->size + 1 ||
        ids->prefix_count > SPECIAL_IDS_LIMIT || ids->suffix_count > SPECIAL_IDS_LIMIT ||
        ids->eos_count > EOS_LIMIT || !are_ids(ids->prefix, ids->prefix_count, 0, ids->end) ||
        !are_ids(ids->suffix, ids->suffix_count, 0, ids->end) ||
        !are_ids(ids->eos, ids->eos_count, 0, INT32_MAX) || !are_ids(&ids->bos, 1, -1, INT32_MAX))
        return false;
    tokenizer->is_special = malloc(bytes);
    if (!tokenizer->is_special)
        return false;
    memcpy(tokenizer->is_special, special, bytes);
    tokenizer->ids = *ids;
    return true;
}

static bool read_tokens(const struct reader *reader, enum section which, struct added_tokens *set) {
    uint64_t bytes, at = 0;
    const uint8_t *tokens = section(reader, which, &bytes);
    while (at < bytes) {
        struct stored_token stored;
        if (bytes - at < sizeof stored)
            return false;
        memcpy(&stored, tokens + at, sizeof stored);
        at += sizeof stored;
        if (stored.length > bytes - at || !are_ids(&stored.id, 1, 0, reader->header->ids.size) ||
            !added_tokens_add(set, (const char *)tokens + at, stored.length, stored.id, stored.flags, NULL))
            return false;
        at += stored.length;
    }
    added_tokens_finish(set);
    return true;
}

/* A copy; NULL where there is none, which is fine where the section is empty. */
static bool read_text(const struct reader *reader, enum section which, char **text) {
    uint64_t bytes;
    const char *string = section(reader, which, &bytes);
    if (!string)
        return true;
    if (string[bytes - 1] || !(*text = strdup(string)))
        return false;
    return true;
}

static bool read_named_texts(const struct reader *reader, const char *path) {
    char *texts = NULL;
    if (!read_text(reader, NAMED_TEXTS, &texts) || !texts)
        return !reader->header->sections[NAMED_TEXTS].bytes;
    json_t *root = json_read_text(texts, strlen(texts), path, NULL);
    free(texts);
    reader->tokenizer->named_texts = root;
    return json_is_object(root);
}

static bool read_stages(const struct reader *reader, const char *path, struct error *err) {
    struct tokenizer *tokenizer = reader->tokenizer;
    char *stages = NULL;
    json_t *root = read_text(reader, STAGES, &stages) && stages ? json_read_text(stages, strlen(stages), path, err) : NULL;
    bool ok = root && tokenizer_read_stages(tokenizer, root, path, err);
    json_decref(root);
    free(stages);
    return ok;
}

struct tokenizer *tokenizer_image_read(const char *path, const struct model_hashes *hashes, struct error *err) {
    struct stat status;
    struct tokenizer *tokenizer = NULL;
    if (stat(path, &status) != 0) {
        error_set(err, ERROR_FAILED, "there is no tokenizer image '%s'", path);
        return NULL;
    }
    struct file_map map = { 0 };
    if (!S_ISREG(status.st_mode) || (uint64_t)status.st_size > IMAGE_LIMIT ||
        !file_map_range(&map, path, 0, (uint64_t)status.st_size, err) || !(tokenizer = tokenizer_new(err)))
        goto failed;
    tokenizer->image = map;
    map = (struct file_map){ 0 };
    const struct reader reader = { tokenizer->image.bytes,
                                   (const struct image_header *)(const void *)tokenizer->image.bytes, tokenizer };
    if (!is_header_sound(reader.bytes, tokenizer->image.size, hashes))
        goto failed;
    for (int t = 0; t < TABLE_COUNT; t++)
        if (!read_table(&reader, (enum table)t))
            goto failed;
    if (read_bpe(&reader) && read_ids(&reader) && read_tokens(&reader, RAW_TOKENS, &tokenizer->raw) &&
        read_tokens(&reader, NORMALIZED_TOKENS, &tokenizer->normalized) &&
        read_text(&reader, BOS_TEXT, &tokenizer->bos_text) && read_text(&reader, EOS_TEXT, &tokenizer->eos_text) &&
        read_text(&reader, CHAT_TEMPLATE, &tokenizer->chat_template) && read_named_texts(&reader, path) &&
        read_stages(&reader, path, NULL))
        return tokenizer;

failed:
    error_set(err, ERROR_FAILED, "the tokenizer image '%s' is damaged or another's", path);
    file_map_release(&map);
    tokenizer_close(tokenizer);
    return NULL;
}

struct tokenizer *tokenizer_open_image(const struct model_source *source, const struct model_hashes *hashes,
                                       const char *path, bool *from_image, struct error *err) {
    struct tokenizer *tokenizer = path ? tokenizer_image_read(path, hashes, NULL) : NULL;
    if (from_image)
        *from_image = tokenizer != NULL;
    if (!tokenizer) {
        tokenizer = tokenizer_open(source, err);
        if (tokenizer && path)   /* without it the next start takes as long as this one */
            tokenizer_image_write(tokenizer, path, hashes, NULL);
    }
    return tokenizer;
}
