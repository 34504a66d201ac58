#include "common/model.h"

#include "common/file_map.h"
#include "common/text.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { READ_SIZE = 1 << 20 };

/* What the text hash covers, where present in the model's directory. */
static const char *const text_files[] = {
    "added_tokens.json", "chat_template.jinja", "chat_template.json", "generation_config.json", "merges.txt",
    "special_tokens_map.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json",
};
enum { TEXT_FILE_COUNT = sizeof text_files / sizeof *text_files };

static void digits(const unsigned char *digest, char hex[65]) {
    for (int i = 0; i < 32; i++)
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
}

void sha256_hex(const void *bytes, size_t size, char hex[65]) {
    unsigned char digest[EVP_MAX_MD_SIZE] = { 0 };
    /* One shot over memory fails only when memory is out; then no key must match. */
    if (!EVP_Digest(bytes, size, digest, NULL, EVP_sha256(), NULL))
        memset(digest, 0, sizeof digest);
    digits(digest, hex);
}

void hmac_sha256_hex(const void *key, size_t key_size, const struct hash_part *parts, size_t count, char hex[65]) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    size_t digest_size = sizeof digest;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    EVP_PKEY *secret = EVP_PKEY_new_raw_private_key(EVP_PKEY_HMAC, NULL, key, key_size);
    bool ok = context && secret && EVP_DigestSignInit(context, NULL, EVP_sha256(), NULL, secret) == 1;
    for (size_t i = 0; ok && i < count; i++)
        ok = EVP_DigestSignUpdate(context, parts[i].bytes, parts[i].size) == 1;
    hex[0] = '\0';
    if (ok && EVP_DigestSignFinal(context, digest, &digest_size) == 1 && digest_size == 32)
        digits(digest, hex);
    EVP_PKEY_free(secret);
    EVP_MD_CTX_free(context);
}

struct hashing {
    const struct hash_cache *cache;   /* may be NULL */
    hash_progress *progress;          /* may be NULL */
    void *progress_context;
    uint64_t done, total;
    struct error *err;
};

static bool advance(struct hashing *hashing, uint64_t bytes) {
    hashing->done += bytes;
    if (hashing->progress && !hashing->progress(hashing->progress_context, hashing->done, hashing->total))
        return error_set(hashing->err, ERROR_INTERRUPTED, "hashing the model was interrupted");
    return true;
}

/* Neither what the file was before nor what it is now: its digest means nothing. */
static bool has_changed(int descriptor, const struct stat *before) {
    struct stat now;
    return fstat(descriptor, &now) != 0 || now.st_size != before->st_size ||
           now.st_mtim.tv_sec != before->st_mtim.tv_sec || now.st_mtim.tv_nsec != before->st_mtim.tv_nsec;
}

static bool hash_contents(struct hashing *hashing, const char *path, struct stat *status, char hex[65]) {
    struct error *err = hashing->err;
    bool ok = false;
    EVP_MD_CTX *sha = NULL;
    char *part = NULL;
    int descriptor = file_open(path, status, err);
    if (descriptor < 0)
        return false;
    sha = EVP_MD_CTX_new();
    part = malloc(READ_SIZE);
    if (!sha || !part || !EVP_DigestInit_ex(sha, EVP_sha256(), NULL)) {
        error_set(err, ERROR_FAILED, "cannot hash '%s': out of memory", path);
        goto cleanup;
    }
    uint64_t size = (uint64_t)status->st_size;
    for (uint64_t at = 0; at < size;) {
        size_t count = size - at < READ_SIZE ? (size_t)(size - at) : READ_SIZE;
        if (!file_read_at(descriptor, path, at, part, count, err))
            goto cleanup;
        if (!EVP_DigestUpdate(sha, part, count)) {
            error_set(err, ERROR_FAILED, "cannot hash '%s'", path);
            goto cleanup;
        }
        at += count;
        if (!advance(hashing, count))
            goto cleanup;
    }
    if (has_changed(descriptor, status)) {
        error_set(err, ERROR_FAILED, "'%s' changed while it was hashed; try again when it is complete", path);
        goto cleanup;
    }
    unsigned char digest[EVP_MAX_MD_SIZE];
    if (!EVP_DigestFinal_ex(sha, digest, NULL)) {
        error_set(err, ERROR_FAILED, "cannot hash '%s'", path);
        goto cleanup;
    }
    digits(digest, hex);
    ok = true;
cleanup:
    EVP_MD_CTX_free(sha);
    free(part);
    close(descriptor);
    return ok;
}

static bool hash_file(struct hashing *hashing, const char *path, uint64_t size, char hex[65]) {
    const struct hash_cache *cache = hashing->cache;
    if (cache && cache->find && cache->find(cache->context, path, hex))
        return advance(hashing, size);
    struct stat status;
    if (!hash_contents(hashing, path, &status, hex))
        return false;
    if (cache && cache->store)
        cache->store(cache->context, path, &status, hex);
    return true;
}

/* ---- sets of files ---- */

struct hashed_file {
    char *path;          /* owned */
    const char *name;    /* borrowed */
    uint64_t size;
    char hex[65];
};

static void add_where_present(struct hashed_file *files, uint32_t *count, struct hashing *hashing,
                              const struct model *model, const char *name) {
    struct stat status;
    char *path = model_source_file(&model->source, name);
    if (path && stat(path, &status) == 0 && S_ISREG(status.st_mode)) {
        files[(*count)++] = (struct hashed_file){ .path = path, .name = name, .size = (uint64_t)status.st_size };
        hashing->total += (uint64_t)status.st_size;
    } else {
        free(path);
    }
}

static int by_line(const void *a, const void *b) {
    const struct hashed_file *x = a, *y = b;
    int order = strcmp(x->hex, y->hex);
    return order ? order : strcmp(x->name, y->name);
}

/* SHA-256 of the sorted lines "<sha256>  <name>\n". Reorders `files`. */
static bool hash_lines(struct hashed_file *files, uint32_t count, char hex[65], struct error *err) {
    struct text lines;
    text_init(&lines);
    if (count)
        qsort(files, count, sizeof *files, by_line);
    for (uint32_t i = 0; i < count; i++)
        text_append_format(&lines, "%s  %s\n", files[i].hex, files[i].name);
    bool ok = !lines.failed;
    if (ok)
        sha256_hex(lines.bytes, lines.length, hex);
    else
        error_set(err, ERROR_FAILED, "cannot hash the model: out of memory");
    text_release(&lines);
    return ok;
}

bool model_hash(const struct model *model, const struct hash_cache *cache, hash_progress *progress,
                void *progress_context, struct model_hashes *hashes, struct error *err) {
    struct hashing hashing = { cache, progress, progress_context, 0, 0, err };
    bool ok = false;
    uint32_t weight_count = 0, text_count = 0;
    if (!model->has_weights)
        return error_set(err, ERROR_FAILED, "'%s' has no weight files to hash; only a dry run works without them",
                         model->name);
    bool is_directory = model->source.kind == SOURCE_DIRECTORY;
    struct hashed_file text[TEXT_FILE_COUNT] = { 0 };
    struct hashed_file *weights = calloc((size_t)model->file_count + 1, sizeof *weights);
    if (!weights)
        return error_set(err, ERROR_FAILED, "cannot hash the model: out of memory");

    for (uint32_t i = 0; i < model->file_count; i++) {
        char *path = strdup(model->files[i].path);
        if (!path) {
            error_set(err, ERROR_FAILED, "cannot hash the model: out of memory");
            goto cleanup;
        }
        weights[weight_count++] = (struct hashed_file){ .path = path, .name = model->files[i].name,
                                                        .size = model->files[i].size_bytes };
        hashing.total += model->files[i].size_bytes;
    }
    if (is_directory) {
        add_where_present(weights, &weight_count, &hashing, model, "config.json");
        for (int i = 0; i < TEXT_FILE_COUNT; i++)
            add_where_present(text, &text_count, &hashing, model, text_files[i]);
    }
    for (uint32_t i = 0; i < weight_count; i++)
        if (!hash_file(&hashing, weights[i].path, weights[i].size, weights[i].hex))
            goto cleanup;
    for (uint32_t i = 0; i < text_count; i++)
        if (!hash_file(&hashing, text[i].path, text[i].size, text[i].hex))
            goto cleanup;

    if (weight_count == 1 && !is_directory)
        memcpy(hashes->weights, weights[0].hex, sizeof hashes->weights);
    else if (!hash_lines(weights, weight_count, hashes->weights, err))
        goto cleanup;
    /* A GGUF carries its text itself. */
    if (!is_directory)
        memcpy(hashes->text, hashes->weights, sizeof hashes->text);
    else if (!hash_lines(text, text_count, hashes->text, err))
        goto cleanup;
    ok = true;
cleanup:
    for (uint32_t i = 0; i < weight_count; i++)
        free(weights[i].path);
    for (uint32_t i = 0; i < text_count; i++)
        free(text[i].path);
    free(weights);
    return ok;
}
