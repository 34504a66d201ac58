#include "tests/support.h"

#include "common/model.h"
#include "tests/support_checkpoint.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
enum { IS_SANITIZED = 1 };
#else
enum { IS_SANITIZED = 0 };
#endif

static struct model *open_path(const char *path, struct error *err) {
    struct model_source source;
    *err = (struct error){ 0 };
    if (!model_source_resolve(&source, path, err))
        return NULL;
    struct model *model = model_open(&source, NULL, err);
    model_source_release(&source);
    return model;
}

/* ---- a checkpoint larger than the address space ---- */

/* Of this process: what else a busy machine does is not counted. */
static double seconds_worked(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* 0: opened; 1: failed; 2: too slow. Runs in a child, whose limit ends with it. */
static int open_within_limits(const char *directory) {
    const struct rlimit limit = { 256u << 20, 256u << 20 };
    struct error err;
    if (!IS_SANITIZED && setrlimit(RLIMIT_AS, &limit) != 0)
        return 1;
    double start = seconds_worked();
    struct model *model = open_path(directory, &err);
    double spent = seconds_worked() - start;
    if (!model) {
        fprintf(stderr, "# %s\n", err.text);
        return 1;
    }
    bool ok = model->has_weights && model_weight_bytes(model) == 7642159104ull;
    model_close(model);
    return !ok ? 1 : spent < 0.1 || IS_SANITIZED ? 0 : 2;
}

static void a_sparse_checkpoint_opens_in_little_memory_and_time(void **state) {
    (void)state;
    const char *directory = support_directory("sparse");
    support_phi3_mini_config(directory, "");
    support_sparse_phi3_mini(directory);
    int status;
    pid_t child = fork();
    if (child == 0)
        _exit(open_within_limits(directory));
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* Pages of `path` in the page cache from byte `begin` on, of at most 64 MiB. */
static size_t resident_pages(const char *path, uint64_t begin) {
    const size_t size = 64u << 20, page = (size_t)sysconf(_SC_PAGESIZE);
    size_t found = 0;
    unsigned char *flags = malloc(size / page);
    int descriptor = open(path, O_RDONLY);
    void *map = mmap(NULL, size, PROT_READ, MAP_SHARED, descriptor, 0);
    assert_true(flags && descriptor >= 0 && map != MAP_FAILED);
    assert_int_equal(mincore(map, size, flags), 0);
    for (size_t i = (begin + page - 1) / page; i < size / page; i++)
        found += flags[i] & 1;
    munmap(map, size);
    close(descriptor);
    free(flags);
    return found;
}

static void opening_brings_no_weight_into_memory(void **state) {
    (void)state;
    struct error err;
    const char *directory = support_directory("untouched");
    support_phi3_mini_config(directory, "");
    support_sparse_phi3_mini(directory);
    const char *path = support_path(directory, "model.safetensors");
    int descriptor = open(path, O_RDONLY);
    assert_true(descriptor >= 0);
    fsync(descriptor);
    posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED);
    close(descriptor);
    struct model *model = open_path(directory, &err);
    ASSERT_OK(model, err);
    uint64_t first = UINT64_MAX;
    for (uint32_t i = 0; i < model->tensor_count; i++)
        if (model->tensors[i].offset < first)
            first = model->tensors[i].offset;
    assert_int_equal(resident_pages(path, first), 0);
    model_close(model);
}

/* ---- directories ---- */

/* The smallest llama: hidden 8, one block, two heads of 4, vocabulary 3. */
static void write_small_llama(const char *directory, const char *extra_tensor) {
    const struct { const char *name; unsigned rows, columns; } tensors[] = {
        { "model.embed_tokens.weight", 3, 8 }, { "model.norm.weight", 0, 8 }, { "lm_head.weight", 3, 8 },
        { "model.layers.0.input_layernorm.weight", 0, 8 },
        { "model.layers.0.self_attn.q_proj.weight", 8, 8 }, { "model.layers.0.self_attn.k_proj.weight", 4, 8 },
        { "model.layers.0.self_attn.v_proj.weight", 4, 8 }, { "model.layers.0.self_attn.o_proj.weight", 8, 8 },
        { "model.layers.0.post_attention_layernorm.weight", 0, 8 },
        { "model.layers.0.mlp.gate_proj.weight", 16, 8 }, { "model.layers.0.mlp.up_proj.weight", 16, 8 },
        { "model.layers.0.mlp.down_proj.weight", 8, 16 }, { extra_tensor, 0, 2 },
    };
    struct text head, file;
    text_init(&head);
    text_init(&file);
    uint64_t offset = 0;
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors && tensors[i].name; i++) {
        uint64_t end = offset + (uint64_t)(tensors[i].rows ? tensors[i].rows : 1) * tensors[i].columns * 4;
        text_append_format(&head, "%c\"%s\":{\"dtype\":\"F32\",\"shape\":[", i ? ',' : '{', tensors[i].name);
        if (tensors[i].rows)
            text_append_format(&head, "%u,", tensors[i].rows);
        text_append_format(&head, "%u],\"data_offsets\":[%u,%u]}", tensors[i].columns, (unsigned)offset,
                           (unsigned)end);
        offset = end;
    }
    text_append(&head, "}");
    uint64_t size = head.length;
    text_append_bytes(&file, &size, 8);
    text_append_bytes(&file, head.bytes, head.length);
    for (uint64_t i = 0; i < offset; i++)
        text_append_char(&file, '\0');
    support_write(support_path(directory, "model.safetensors"), file.bytes, file.length);
    support_write_text(support_path(directory, "config.json"),
                       "{\"model_type\": \"llama\", \"hidden_size\": 8, \"intermediate_size\": 16, "
                       "\"num_hidden_layers\": 1, \"num_attention_heads\": 2, \"num_key_value_heads\": 1, "
                       "\"vocab_size\": 3, \"eos_token_id\": [2, 2, 1]}");
    text_release(&head);
    text_release(&file);
}

static void expect_refusal(const char *path, const char *says) {
    struct error err;
    struct model *model = open_path(path, &err);
    if (model || !strstr(err.text, says))
        fail_msg("'%s' should be refused with '%s': %s", path, says, model ? "accepted" : err.text);
    assert_int_equal(err.kind, ERROR_FAILED);
}

static void tensors_without_a_role_are_left_out(void **state) {
    (void)state;
    struct error err;
    const char *directory = support_directory("extra");
    write_small_llama(directory, "model.layers.0.self_attn.rotary_emb.inv_freq");
    struct model *model = open_path(directory, &err);
    ASSERT_OK(model, err);
    assert_int_equal(model->tensor_count, 12);
    assert_int_equal(model_weight_bytes(model), 4 * (3 * 8 * 2 + 3 * 8 + (8 + 4 + 4 + 8) * 8 + 3 * 16 * 8));
    assert_int_equal(model->eos_count, 2);
    assert_int_equal(model->max_context, 2048);
    assert_int_equal(model->bos_id, -1);
    model_close(model);
}

static void a_bias_without_a_role_is_refused(void **state) {
    (void)state;
    const char *directory = support_directory("bias");
    write_small_llama(directory, "model.layers.0.self_attn.o_proj.bias");
    expect_refusal(directory, "o_proj.bias");
}

static void end_tokens_of_both_files_are_united(void **state) {
    (void)state;
    struct error err;
    const char *directory = support_directory("eos");
    write_small_llama(directory, NULL);
    support_write_text(support_path(directory, "generation_config.json"),
                       "{\"eos_token_id\": [1, 0], \"bos_token_id\": 0, \"pad_token_id\": null}");
    struct model *model = open_path(directory, &err);
    ASSERT_OK(model, err);
    assert_int_equal(model->eos_count, 3);
    assert_int_equal(model->eos_ids[0], 2);
    assert_int_equal(model->eos_ids[1], 1);
    assert_int_equal(model->eos_ids[2], 0);
    assert_int_equal(model->bos_id, 0);
    assert_int_equal(model->pad_id, -1);
    model_close(model);
    support_write_text(support_path(directory, "generation_config.json"), "{\"eos_token_id\": ");
    expect_refusal(directory, "generation_config.json");
}

static void shapes_that_contradict_the_config_are_refused(void **state) {
    (void)state;
    const char *directory = support_directory("shapes");
    const char *config = support_path(directory, "config.json");
    write_small_llama(directory, NULL);
    support_write_text(config, "{\"model_type\": \"llama\", \"hidden_size\": 8, \"intermediate_size\": 15, "
                       "\"num_hidden_layers\": 1, \"num_attention_heads\": 2, \"num_key_value_heads\": 1, "
                       "\"vocab_size\": 3}");
    expect_refusal(directory, "'model.layers.0.mlp.gate_proj.weight'");
    support_write_text(config, "{\"model_type\": \"llama\", \"hidden_size\": 8, \"intermediate_size\": 16, "
                       "\"num_hidden_layers\": 2, \"num_attention_heads\": 2, \"num_key_value_heads\": 1, "
                       "\"vocab_size\": 3}");
    expect_refusal(directory, "no tensor 'model.layers.1.input_layernorm.weight'");
    support_write_text(config, "[]");
    expect_refusal(directory, "not a JSON object");
}

static void a_truncated_or_missing_shard_is_named(void **state) {
    (void)state;
    const char *directory = support_directory("shards");
    write_small_llama(directory, NULL);
    const char *weights = support_path(directory, "model.safetensors");
    struct stat status;
    assert_int_equal(stat(weights, &status), 0);
    assert_int_equal(truncate(weights, status.st_size - 1), 0);
    expect_refusal(directory, "model.safetensors");
    const char *index = support_path(directory, "model.safetensors.index.json");
    support_write_text(index, "{\"weight_map\": {\"lm_head.weight\": \"part-2.safetensors\"}}");
    expect_refusal(directory, "part-2.safetensors");
    support_write_text(index, "{\"weight_map\": {\"lm_head.weight\": \"../model.safetensors\"}}");
    expect_refusal(directory, "no plain file name");
    support_write_text(index, "{\"weight_map\": {}}");
    expect_refusal(directory, "weight_map");
}

static void an_index_decides_which_file_a_tensor_is_read_from(void **state) {
    (void)state;
    const char *directory = support_directory("index");
    write_small_llama(directory, NULL);
    /* Only these two are taken from the file, so the first other one is missing. */
    support_write_text(support_path(directory, "model.safetensors.index.json"),
                       "{\"weight_map\": {\"model.embed_tokens.weight\": \"model.safetensors\", "
                       "\"model.norm.weight\": \"model.safetensors\"}}");
    expect_refusal(directory, "no tensor 'lm_head.weight'");
}

/* ---- GGUF ---- */

static void small_gguf_keys(struct support_gguf *file) {
    support_gguf_begin(file);
    support_gguf_string(file, "general.architecture", "llama");
    support_gguf_u32(file, "llama.block_count", 1);
    support_gguf_u32(file, "llama.embedding_length", 8);
    support_gguf_u32(file, "llama.feed_forward_length", 16);
    support_gguf_u32(file, "llama.attention.head_count", 2);
    support_gguf_u32(file, "llama.attention.head_count_kv", 1);
    support_gguf_u32(file, "tokenizer.ggml.eos_token_id", 2);
    support_gguf_u32(file, "tokenizer.ggml.eot_token_id", 1);
}

static void small_gguf_block(struct support_gguf *file) {
    support_gguf_tensor(file, "blk.0.attn_norm.weight", 0, 8);
    support_gguf_tensor(file, "blk.0.attn_q.weight", 8, 8);
    support_gguf_tensor(file, "blk.0.attn_k.weight", 4, 8);
    support_gguf_tensor(file, "blk.0.attn_v.weight", 4, 8);
    support_gguf_tensor(file, "blk.0.attn_output.weight", 8, 8);
    support_gguf_tensor(file, "blk.0.ffn_norm.weight", 0, 8);
    support_gguf_tensor(file, "blk.0.ffn_gate.weight", 16, 8);
    support_gguf_tensor(file, "blk.0.ffn_up.weight", 16, 8);
    support_gguf_tensor(file, "blk.0.ffn_down.weight", 8, 16);
}

static void small_gguf_ends(struct support_gguf *file) {
    support_gguf_tensor(file, "token_embd.weight", 3, 8);
    support_gguf_tensor(file, "output_norm.weight", 0, 8);
}

static void a_llama_gguf_has_interleaved_query_and_key_rows(void **state) {
    (void)state;
    struct error err;
    struct support_gguf file;
    const char *path = support_path(test_folder(), "small.gguf");
    small_gguf_keys(&file);
    support_gguf_u32(&file, "llama.context_length", 64);
    small_gguf_block(&file);
    small_gguf_ends(&file);
    support_gguf_write(&file, path);
    struct model *model = open_path(path, &err);
    ASSERT_OK(model, err);
    const struct weight_ref *w = model->blocks[0].weights;
    assert_true(w[ROLE_Q].interleaved_rope && w[ROLE_K].interleaved_rope);
    assert_false(w[ROLE_V].interleaved_rope || w[ROLE_O].interleaved_rope);
    assert_true(model->tied_head);
    assert_int_equal(model->eos_count, 2);
    assert_int_equal(model->vocab_size, 3);
    assert_int_equal(model->rope.scaling, ROPE_PLAIN);
    assert_string_equal(model->name, "small");
    model_close(model);
}

static void keys_that_a_gguf_cannot_mean_are_refused(void **state) {
    (void)state;
    static const struct { const char *key; uint32_t value; const char *says; } cases[] = {
        { "llama.expert_count", 8, "experts" },
        { "llama.attention.value_length", 8, "values of 8" },
        { "llama.attention.key_length", 0x40000000, "head dimension" },
        { "llama.rope.dimension_count", 2, "rotates 2 of 4" },
        { "llama.rope.dimension_count", 0, "rotates 0 of 4" },
        { "split.count", 4000000000u, "parts" },
        { "split.count", 2, "must keep its name" },
    };
    const char *path = support_path(test_folder(), "wrong.gguf");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct support_gguf file;
        small_gguf_keys(&file);
        support_gguf_u32(&file, "llama.context_length", 64);
        support_gguf_u32(&file, cases[i].key, cases[i].value);
        small_gguf_block(&file);
        small_gguf_ends(&file);
        support_gguf_write(&file, path);
        expect_refusal(path, cases[i].says);
    }
    struct support_gguf file;
    small_gguf_keys(&file);
    small_gguf_block(&file);
    small_gguf_ends(&file);
    support_gguf_write(&file, path);
    expect_refusal(path, "no context length");
    support_gguf_begin(&file);
    support_gguf_string(&file, "general.architecture", "gemma3");
    support_gguf_write(&file, path);
    expect_refusal(path, "supported are phi3");
    support_gguf_begin(&file);
    support_gguf_string(&file, "general.architecture", "llama");
    support_gguf_write(&file, path);
    expect_refusal(path, "only a vocabulary");
}

static void the_parts_of_a_split_gguf_are_one_model(void **state) {
    (void)state;
    struct error err;
    struct support_gguf file;
    const char *directory = support_directory("split");
    const char *second = support_path(directory, "m-00002-of-00002.gguf");
    small_gguf_keys(&file);
    support_gguf_u32(&file, "llama.context_length", 64);
    support_gguf_u32(&file, "split.count", 2);
    small_gguf_block(&file);
    support_gguf_write(&file, support_path(directory, "m-00001-of-00002.gguf"));
    support_gguf_begin(&file);
    small_gguf_ends(&file);
    support_gguf_tensor(&file, "output.weight", 3, 8);
    support_gguf_write(&file, second);
    /* By the directory, whose only model it is, and by any of its parts. */
    const char *const names[] = { directory, second };
    for (int i = 0; i < 2; i++) {
        struct model *model = open_path(names[i], &err);
        ASSERT_OK(model, err);
        assert_int_equal(model->file_count, 2);
        assert_false(model->tied_head);
        assert_int_equal(model->tensors[model->head.tensor].file, 1);
        assert_string_equal(model->files[1].name, "m-00002-of-00002.gguf");
        model_close(model);
    }
    assert_int_equal(unlink(second), 0);
    expect_refusal(directory, "m-00002-of-00002.gguf");
}

/* Any change of a few bytes in the head either leaves a model whose refs lie in the
 * file or makes a sentence. */
static void damaged_heads_never_crash(void **state) {
    (void)state;
    const char *original = test_data("models/gguf/quantizable-tiny-Q4_1.gguf");
    if (!original)
        SKIP_BECAUSE("no models/gguf/quantizable-tiny-Q4_1.gguf");
    struct error err = { 0 };
    size_t size;
    char *bytes = NULL;
    FILE *file = fopen(original, "rb");
    assert_non_null(file);
    bytes = malloc(4 << 20);
    size = fread(bytes, 1, 4 << 20, file);
    fclose(file);
    const char *path = support_path(test_folder(), "damaged.gguf");
    support_write(path, bytes, size);
    int descriptor = open(path, O_RDWR);
    assert_true(descriptor >= 0);
    uint32_t seed = 1;
    unsigned accepted = 0;
    for (int round = 0; round < 1500; round++) {
        off_t at[3];
        for (int i = 0; i < 3; i++) {
            seed = seed * 1664525 + 1013904223;
            /* Half of the changes hit the first 2 KiB, where the sizes are. */
            at[i] = (off_t)((seed >> 8) % (round % 2 ? 2048 : 40000));
            char changed = (char)(seed >> 3);
            assert_int_equal(pwrite(descriptor, &changed, 1, at[i]), 1);
        }
        struct model *model = open_path(path, &err);
        accepted += model != NULL;
        assert_true(model || err.text[0]);
        for (uint32_t i = 0; model && i < model->tensor_count; i++)
            assert_true(model->tensors[i].offset + model->tensors[i].size_bytes <= size);
        model_close(model);
        for (int i = 0; i < 3; i++)
            assert_int_equal(pwrite(descriptor, bytes + at[i], 1, at[i]), 1);
    }
    assert_true(accepted > 10 && accepted < 1490);
    close(descriptor);
    free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sparse_checkpoint_opens_in_little_memory_and_time),
        cmocka_unit_test(opening_brings_no_weight_into_memory),
        cmocka_unit_test(tensors_without_a_role_are_left_out),
        cmocka_unit_test(a_bias_without_a_role_is_refused),
        cmocka_unit_test(end_tokens_of_both_files_are_united),
        cmocka_unit_test(shapes_that_contradict_the_config_are_refused),
        cmocka_unit_test(a_truncated_or_missing_shard_is_named),
        cmocka_unit_test(an_index_decides_which_file_a_tensor_is_read_from),
        cmocka_unit_test(a_llama_gguf_has_interleaved_query_and_key_rows),
        cmocka_unit_test(keys_that_a_gguf_cannot_mean_are_refused),
        cmocka_unit_test(the_parts_of_a_split_gguf_are_one_model),
        cmocka_unit_test(damaged_heads_never_crash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
