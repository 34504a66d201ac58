/* fuzz_artifact: any bytes as a file of packed weights; every entry that it yields is looked up
 * and read. The first byte says how much of the header is made right before the reader sees
 * it (1: length, 2: its checksum, 4: that of the contents), and how many pages the file has:
 * otherwise hardly any input would get past the checksums. */
#include "common/artifact.h"
#include "tests/support_fuzz.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* Places in the header, as artifact.c has it. */
enum { LENGTH_AT = 16, CONTENTS_AT = 144, SEAL_AT = 208, HEADER_BYTES = 272 + 56 * ARTIFACT_MOST_ENTRIES };

static void put_hash(uint8_t *place, const uint8_t *bytes, size_t size) {
    char hex[65];
    sha256_hex(bytes, size, hex);
    memcpy(place, hex, 64);
}

static void make_right(uint8_t *file, uint64_t size, uint8_t kind) {
    if (kind & 1)
        memcpy(file + LENGTH_AT, &size, sizeof size);
    if (kind & 4)
        put_hash(file + CONTENTS_AT, file + ARTIFACT_ALIGNMENT, (size_t)size - ARTIFACT_ALIGNMENT);
    if (kind & 2) {
        memset(file + SEAL_AT, 0, 64);
        put_hash(file + SEAL_AT, file, HEADER_BYTES);
    }
}

/* What is found for a wish lies within the file, whole, and has as many bytes as its shape needs. */
static void look_up(const struct artifact *artifact, const struct artifact_entry *entry, uint64_t row_begin,
                    uint64_t row_count) {
    struct buffer_spec spec = { .kind = BUFFER_WEIGHTS, .role = entry->role, .type = entry->type,
                                .layout = entry->layout, .row_begin = row_begin, .row_count = row_count,
                                .column_count = entry->column_count };
    const struct artifact_entry *found = artifact_find(artifact, &spec);
    uint64_t needed;
    if (!found)
        return;
    if (found->offset > artifact->map.size || found->bytes > artifact->map.size - found->offset)
        abort();
    if (row_begin < found->row_begin || row_begin - found->row_begin > found->row_count
        || row_count > found->row_count - (row_begin - found->row_begin))
        abort();
    if (found->layout == LAYOUT_ROWS
        && (!tensor_bytes(found->type, found->row_count, found->column_count, &needed) || needed != found->bytes))
        abort();
    unsigned sum = 0;
    for (uint64_t i = 0; i < found->bytes; i++)
        sum += artifact->map.bytes[found->offset + i];
    volatile unsigned keep = sum;
    (void)keep;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    struct artifact_key key = { .unit = "ffn.0", .format = "keep", .part_end = 1, .layout = LAYOUT_R16 };
    struct artifact artifact;
    struct error err = { 0 };
    if (!size)
        return 0;
    uint8_t kind = bytes[0];
    size_t file_size = (1 + (kind >> 4 & 3)) * ARTIFACT_ALIGNMENT;
    if (kind & 8)
        file_size = size - 1;   /* as it is */
    uint8_t *file = calloc(file_size + 1, 1);
    if (!file)
        return 0;
    memset(key.weights_hash, 'a', 64);
    memcpy(file, bytes + 1, size - 1 < file_size ? size - 1 : file_size);
    if (file_size >= ARTIFACT_ALIGNMENT)
        make_right(file, file_size, kind);
    const char *path = fuzz_file(file, file_size);
    if (artifact_open(&artifact, path, &key, &err)) {
        if (artifact.map.size != file_size || artifact.entry_count > ARTIFACT_MOST_ENTRIES)
            abort();
        bool is_right = artifact_verify(&artifact, path, &err);
        if ((kind & 4) && !is_right)
            abort();
        for (uint32_t i = 0; i < artifact.entry_count; i++) {
            const struct artifact_entry *entry = &artifact.entries[i];
            look_up(&artifact, entry, entry->row_begin, entry->row_count);
            look_up(&artifact, entry, entry->row_begin + 1, entry->row_count / 2);
            look_up(&artifact, entry, UINT64_MAX, entry->row_count);
        }
    } else if (err.kind != ERROR_FAILED || !err.text[0]) {
        abort();
    }
    artifact_release(&artifact);
    free(file);
    return 0;
}
