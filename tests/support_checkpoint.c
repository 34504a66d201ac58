#include "tests/support_checkpoint.h"

#include "tests/support.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char *ring_slot(void) {
    static char ring[64][PATH_MAX];
    static unsigned next;
    return ring[next++ % 64];
}

const char *support_path(const char *directory, const char *name) {
    char *path = ring_slot();
    snprintf(path, PATH_MAX, "%s/%s", directory, name);
    return path;
}

const char *support_directory(const char *name) {
    const char *path = support_path(test_folder(), name);
    if (mkdir(path, 0700) != 0)
        fail_msg("cannot make '%s': %s", path, strerror(errno));
    return path;
}

void support_write(const char *path, const void *bytes, size_t size) {
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(bytes, 1, size, file) != size || fclose(file) != 0)
        fail_msg("cannot write '%s': %s", path, strerror(errno));
}

void support_write_text(const char *path, const char *string) {
    support_write(path, string, strlen(string));
}

void support_link(const char *target, const char *path) {
    char *absolute = realpath(target, NULL);
    if (!absolute || symlink(absolute, path) != 0)
        fail_msg("cannot link '%s': %s", path, strerror(errno));
    free(absolute);
}

void support_phi3_mini_config(const char *directory, const char *extra) {
    char text[8192];
    snprintf(text, sizeof text,
             "{\"model_type\": \"phi3\", \"hidden_size\": 3072, \"intermediate_size\": 8192, "
             "\"num_hidden_layers\": 32, \"num_attention_heads\": 32, \"num_key_value_heads\": 32, "
             "\"vocab_size\": 32064, \"max_position_embeddings\": 4096, "
             "\"original_max_position_embeddings\": 4096, \"rms_norm_eps\": 1e-05, \"rope_theta\": 10000.0, "
             "\"rope_scaling\": null, \"sliding_window\": 2047, \"bos_token_id\": 1, \"eos_token_id\": 32000, "
             "\"pad_token_id\": 32000, \"tie_word_embeddings\": false, \"hidden_act\": \"silu\", "
             "\"torch_dtype\": \"bfloat16\"%s}", extra);
    support_write_text(support_path(directory, "config.json"), text);
}

static void add_tensor(struct text *head, uint64_t *offset, const char *name, uint64_t rows, uint64_t columns) {
    uint64_t bytes = (rows ? rows : 1) * columns * 2;
    text_append_format(head, "%s\"%s\":{\"dtype\":\"F16\",\"shape\":[", head->length > 1 ? "," : "", name);
    if (rows)
        text_append_format(head, "%llu,", (unsigned long long)rows);
    text_append_format(head, "%llu],\"data_offsets\":[%llu,%llu]}", (unsigned long long)columns,
                       (unsigned long long)*offset, (unsigned long long)(*offset + bytes));
    *offset += bytes;
}

void support_sparse_phi3_mini(const char *directory) {
    static const struct { const char *name; uint64_t rows, columns; } layer[] = {
        { "input_layernorm", 0, 3072 }, { "self_attn.qkv_proj", 9216, 3072 }, { "self_attn.o_proj", 3072, 3072 },
        { "post_attention_layernorm", 0, 3072 }, { "mlp.gate_up_proj", 16384, 3072 },
        { "mlp.down_proj", 3072, 8192 },
    };
    struct text head;
    uint64_t offset = 0;
    text_init(&head);
    text_append(&head, "{");
    add_tensor(&head, &offset, "model.embed_tokens.weight", 32064, 3072);
    for (int block = 0; block < 32; block++)
        for (size_t i = 0; i < sizeof layer / sizeof *layer; i++) {
            char name[96];
            snprintf(name, sizeof name, "model.layers.%d.%s.weight", block, layer[i].name);
            add_tensor(&head, &offset, name, layer[i].rows, layer[i].columns);
        }
    add_tensor(&head, &offset, "model.norm.weight", 0, 3072);
    add_tensor(&head, &offset, "lm_head.weight", 32064, 3072);
    text_append(&head, "}");
    while (head.length % 8)
        text_append_char(&head, ' ');
    struct text file;
    text_init(&file);
    uint64_t head_size = head.length;
    text_append_bytes(&file, &head_size, 8);
    text_append_bytes(&file, head.bytes, head.length);
    const char *path = support_path(directory, "model.safetensors");
    support_write(path, file.bytes, file.length);
    if (truncate(path, (off_t)(8 + head_size + offset)) != 0)
        fail_msg("cannot make a sparse '%s': %s", path, strerror(errno));
    text_release(&head);
    text_release(&file);
}

/* ---- GGUF ---- */

static void put(struct text *text, const void *value, size_t size) {
    text_append_bytes(text, value, size);
}

static void put_string(struct text *text, const char *string) {
    uint64_t length = strlen(string);
    put(text, &length, 8);
    put(text, string, (size_t)length);
}

static void put_key(struct support_gguf *file, const char *key, uint32_t type) {
    put_string(&file->keys, key);
    put(&file->keys, &type, 4);
    file->key_count++;
}

void support_gguf_begin(struct support_gguf *file) {
    *file = (struct support_gguf){ 0 };
    text_init(&file->keys);
    text_init(&file->tensors);
}

void support_gguf_u32(struct support_gguf *file, const char *key, uint32_t value) {
    put_key(file, key, 4);
    put(&file->keys, &value, 4);
}

void support_gguf_f32(struct support_gguf *file, const char *key, float value) {
    put_key(file, key, 6);
    put(&file->keys, &value, 4);
}

void support_gguf_string(struct support_gguf *file, const char *key, const char *value) {
    put_key(file, key, 8);
    put_string(&file->keys, value);
}

void support_gguf_tensor(struct support_gguf *file, const char *name, uint64_t rows, uint64_t columns) {
    uint32_t rank = rows ? 2 : 1, type = 0;
    put_string(&file->tensors, name);
    put(&file->tensors, &rank, 4);
    put(&file->tensors, &columns, 8);
    if (rows)
        put(&file->tensors, &rows, 8);
    put(&file->tensors, &type, 4);
    put(&file->tensors, &file->data_size, 8);
    file->data_size += ((rows ? rows : 1) * columns * 4 + 31) / 32 * 32;
    file->tensor_count++;
}

void support_gguf_write(struct support_gguf *file, const char *path) {
    struct text text;
    uint32_t version = 3;
    text_init(&text);
    text_append(&text, "GGUF");
    put(&text, &version, 4);
    put(&text, &file->tensor_count, 8);
    put(&text, &file->key_count, 8);
    put(&text, file->keys.bytes, file->keys.length);
    put(&text, file->tensors.bytes, file->tensors.length);
    while (text.length % 32)
        text_append_char(&text, '\0');
    support_write(path, text.bytes, text.length);
    if (truncate(path, (off_t)(text.length + file->data_size)) != 0)
        fail_msg("cannot make '%s': %s", path, strerror(errno));
    text_release(&text);
    text_release(&file->keys);
    text_release(&file->tensors);
}
