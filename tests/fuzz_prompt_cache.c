/* fuzz_prompt_cache: any bytes as a prompt cache; every page that it yields is read. The first
 * byte says of which kind the cache should be, and whether checksums are made right before the
 * reader sees them: otherwise hardly any input would get past them. */
#include "common/model.h"
#include "runtime/kv_file_format.h"
#include "tests/support_fuzz.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void put_hash(const uint8_t *bytes, size_t size, char *hash) {
    char hex[65];
    sha256_hex(bytes, size, hex);
    memcpy(hash, hex, 64);
}

/* Where what the header claims lies within the file. */
static void make_checksums_right(uint8_t *file, size_t size) {
    struct kv_file_header header;
    if (size < sizeof header)
        return;
    memcpy(&header, file, sizeof header);
    if (header.token_count > KV_FILE_MOST_TOKENS || kv_file_index_bytes(header.token_count) > size)
        return;
    size_t index = kv_file_index_bytes(header.token_count), at = index;
    uint8_t *table = file + kv_file_table_at(header.token_count);
    for (uint32_t i = 0; i < kv_pages_of(header.token_count); i++) {
        struct kv_file_row row;
        memcpy(&row, table + i * sizeof row, sizeof row);
        if (row.bytes > size - at)
            break;
        put_hash(file + at, (size_t)row.bytes, row.hash);
        memcpy(table + i * sizeof row, &row, sizeof row);
        at += (size_t)row.bytes;
    }
    memset(header.index_hash, 0, sizeof header.index_hash);
    memcpy(file, &header, sizeof header);
    put_hash(file, index, header.index_hash);
    memcpy(file, &header, sizeof header);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    if (!size)
        return 0;
    uint8_t kind = bytes[0];
    struct kv_file_key key = { .kv_type = (enum kv_type)(kind % 3), .block_count = 1, .kv_head_count = 1 };
    key.vector_bytes = key.kv_type == KV_F32 ? 8 : key.kv_type == KV_F16 ? 4 : 34;
    memset(key.weights_hash, 'a', 64);
    memset(key.arithmetic, 'b', 64);
    uint8_t *copy = malloc(size);
    if (!copy)
        return 0;
    memcpy(copy, bytes + 1, size - 1);
    if (kind >= 3)
        make_checksums_right(copy, size - 1);

    struct kv_file file;
    struct error err = { 0 };
    enum kv_file_state state = kv_file_open(&file, fuzz_file(copy, size - 1), &key, &err);
    free(copy);
    if (state != KV_FILE_OPEN) {
        if (state != KV_FILE_NONE && (err.kind != ERROR_FAILED || !err.text[0]))
            abort();
        return 0;
    }
    unsigned total = 0;
    for (uint32_t i = 0; i < file.token_count; i++)
        total += (unsigned)file.tokens[i];
    uint8_t *page = malloc(kv_file_page_bytes(&key));
    for (uint32_t i = 0; page && i <= file.page_count; i++) {
        if (kv_file_read_page(&file, i, page, &err))
            for (uint64_t j = 0; j < kv_file_page_bytes(&key); j++)
                total += page[j];
        else if (err.kind != ERROR_FAILED || !err.text[0])
            abort();
    }
    volatile unsigned keep = total;
    (void)keep;
    free(page);
    kv_file_close(&file);
    return 0;
}
