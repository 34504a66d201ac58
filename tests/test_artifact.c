/* Packed weights in a file, and on the engine: the same bits from every source. */
#include "common/artifact.h"
#include "common/unit_weights.h"
#include "tests/support.h"
#include "tests/support_engine.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const models[] = {
    "models/gguf/quantizable-tiny-Q4_0.gguf", "models/gguf/quantizable-tiny-Q4_1.gguf",
    "models/gguf/quantizable-tiny-Q8_0.gguf", "models/gguf/phi3-tiny-swa-Q4_0.gguf",
    "models/gguf/quantizable-tiny-Q4_K_M.gguf",
};
enum { MODELS = sizeof models / sizeof *models };
#define NO_MODEL "no models/gguf/quantizable-tiny-Q4_1.gguf"

static struct model *open_model(const char *path) {
    struct error err = { 0 };
    struct model_source source;
    ASSERT_OK(model_source_resolve(&source, path, &err), err);
    struct model *model = model_open(&source, NULL, &err);
    ASSERT_OK(model != NULL, err);
    model_source_release(&source);
    return model;
}

/* The one that most tests take; skips the test where it is not there. */
static struct model *open_small(void) {
    const char *path = test_data(models[1]);
    if (!path)
        SKIP_BECAUSE(NO_MODEL);
    return open_model(path);
}

static struct artifact_key key_of(const struct model *model, const char *unit_text) {
    struct artifact_key key = { .format = "keep", .layout = LAYOUT_R16 };
    struct unit unit;
    memset(key.weights_hash, 'a', 64);
    snprintf(key.unit, sizeof key.unit, "%s", unit_text);
    assert_true(unit_from_name(model, unit_text, &unit));
    key.part_end = unit_part_count(model, unit);
    return key;
}

static const char *path_of(const char *name) {
    static char ring[4][4096];
    static unsigned next;
    char *path = ring[next++ % 4];
    snprintf(path, 4096, "%s/%s", test_folder(), name);
    return path;
}

/* A file of the unit "ffn.0"; its path. */
static const char *make_file(const struct model *model, const char *name, struct artifact_key *key) {
    struct error err = { 0 };
    const char *path = path_of(name);
    *key = key_of(model, "ffn.0");
    ASSERT_OK(artifact_write(path, key, model, NULL, NULL, &err), err);
    return path;
}

static void every_buffer_of_a_unit_is_in_its_file_as_the_loader_would_make_it(void **state) {
    (void)state;
    struct error err = { 0 };
    struct model *model = open_small();
    static const char *const units[] = { "attn.0", "ffn.1", "head" };
    for (size_t u = 0; u < 3; u++) {
        struct artifact_key key = key_of(model, units[u]);
        struct artifact artifact;
        const char *path = path_of(units[u]);
        ASSERT_OK(artifact_write(path, &key, model, NULL, NULL, &err), err);
        ASSERT_OK(artifact_open(&artifact, path, &key, &err), err);
        ASSERT_OK(artifact_verify(&artifact, path, &err), err);
        struct unit unit;
        struct buffer_list list = { 0 };
        /* Small buffers: every matrix is cut, and each piece is found in the whole one. */
        for (uint64_t most = 1ull << 40; most >= 1ull << 14; most >>= 26) {
            struct buffer_options options = { .context = 32, .micro_batch = 1, .sequence_count = 1,
                                              .logit_rows = 1, .layout = LAYOUT_R16, .alignment = 128,
                                              .max_buffer_bytes = most };
            assert_true(unit_from_name(model, units[u], &unit));
            ASSERT_OK(unit_buffers(model, unit, &options, &list, &err), err);
        }
        uint32_t packed = 0;
        for (size_t i = 0; i < list.count; i++) {
            const struct buffer_spec *spec = &list.specs[i];
            if (spec->kind != BUFFER_WEIGHTS)
                continue;
            const struct artifact_entry *entry = artifact_find(&artifact, spec);
            assert_non_null(entry);
            uint8_t *bytes = malloc(spec->used_bytes), *cut = malloc(spec->used_bytes);
            assert_non_null(bytes);
            assert_non_null(cut);
            ASSERT_OK(unit_read_buffer(model, spec, bytes, NULL, &err), err);
            if (spec->layout == LAYOUT_R16) {
                struct r16_shape whole, part;
                assert_true(r16_shape_init(&whole, entry->type, entry->row_count, entry->column_count));
                assert_true(r16_shape_init(&part, spec->type, spec->row_count, spec->column_count));
                assert_true(r16_cut(&whole, artifact.map.bytes + entry->offset, spec->row_begin, &part, cut));
                packed++;
            } else {
                memcpy(cut, artifact.map.bytes + entry->offset, spec->used_bytes);
            }
            assert_memory_equal(bytes, cut, spec->used_bytes);
            assert_int_equal(entry->offset % ARTIFACT_ALIGNMENT, 0);
            free(bytes);
            free(cut);
        }
        assert_true(packed > 0);
        buffer_list_release(&list);
        artifact_release(&artifact);
    }
    model_close(model);
}

static void a_file_of_another_key_is_refused(void **state) {
    (void)state;
    struct artifact_key key;
    struct model *model = open_small();
    const char *path = make_file(model, "another", &key);
    for (int i = 0; i < 5; i++) {
        struct artifact_key wrong = key;
        struct artifact artifact;
        struct error err = { 0 };
        switch (i) {
        case 0: wrong.weights_hash[63] = 'b'; break;
        case 1: wrong.unit[4] = '1'; break;
        case 2: wrong.part_end++; break;
        case 3: wrong.layout = LAYOUT_ROWS; break;
        default: wrong.format[0] = 'q'; break;
        }
        assert_false(artifact_open(&artifact, path, &wrong, &err));
        assert_non_null(strstr(err.text, "another unit or model"));
    }
    model_close(model);
}

static void write_byte(const char *path, off_t offset, uint8_t change) {
    uint8_t byte;
    int descriptor = open(path, O_RDWR);
    assert_true(descriptor >= 0 && pread(descriptor, &byte, 1, offset) == 1);
    byte ^= change;
    assert_true(pwrite(descriptor, &byte, 1, offset) == 1);
    close(descriptor);
}

static void any_changed_byte_of_the_header_is_found(void **state) {
    (void)state;
    struct artifact_key key;
    struct artifact artifact;
    struct model *model = open_small();
    const char *path = make_file(model, "header", &key);
    for (off_t at = 0; at < 700; at++) {
        struct error err = { 0 };
        write_byte(path, at, (uint8_t)(1u << at % 8));
        if (artifact_open(&artifact, path, &key, &err))
            fail_msg("byte %ld of the header may be changed", (long)at);
        assert_true(err.text[0] != '\0');
        write_byte(path, at, (uint8_t)(1u << at % 8));
    }
    struct error err = { 0 };
    ASSERT_OK(artifact_open(&artifact, path, &key, &err), err);
    artifact_release(&artifact);
    model_close(model);
}

static void a_short_file_is_refused_and_a_changed_one_found_by_verifying(void **state) {
    (void)state;
    struct artifact_key key;
    struct artifact artifact;
    struct model *model = open_small();
    struct error err = { 0 };
    const char *path = make_file(model, "contents", &key);
    write_byte(path, 5000, 1);
    ASSERT_OK(artifact_open(&artifact, path, &key, &err), err);
    assert_false(artifact_verify(&artifact, path, &err));
    assert_non_null(strstr(err.text, "checksum"));
    artifact_release(&artifact);
    static const off_t lengths[] = { 0, 1, 4095, 4096, 8192 };
    for (size_t i = 5; i-- > 0;) {
        assert_int_equal(truncate(path, lengths[i]), 0);
        assert_false(artifact_open(&artifact, path, &key, &err));
    }
    assert_int_equal(unlink(path), 0);
    assert_false(artifact_open(&artifact, path, &key, &err));
    model_close(model);
}

static bool stop(void *context, uint64_t bytes) {
    (void)bytes;
    return ++*(int *)context < 2;
}

static void what_is_interrupted_or_has_no_room_leaves_no_file(void **state) {
    (void)state;
    struct model *model = open_small();
    struct artifact_key key = key_of(model, "ffn.0");
    struct error err = { 0 };
    int calls = 0;
    char path[4200];
    snprintf(path, sizeof path, "%s/stopped/file", test_folder());
    assert_false(artifact_write(path, &key, model, stop, &calls, &err));
    assert_int_equal(err.kind, ERROR_INTERRUPTED);
    path[strlen(path) - 5] = '\0';
    assert_int_equal(rmdir(path), 0);   /* neither file nor temporary one */
    assert_false(artifact_write("/proc/self/nowhere/file", &key, model, NULL, NULL, &err));
    model_close(model);
}

/* ---- on the engine ---- */

#define TOKENS 40u

static float *run(const char *path, const struct rig_options *options, const char *weights_hash,
                  uint64_t max_buffer, uint32_t *unpacked) {
    struct error err = { 0 };
    struct rig rig;
    ASSERT_OK(rig_prepare(&rig, path, options, &err), err);
    for (uint32_t i = 0; i < rig.plan->shard_count && weights_hash; i++) {
        snprintf(rig.plan->weights_hash, sizeof rig.plan->weights_hash, "%s", weights_hash);
        rig.plan->shards[i].artifact = options->artifact_paths && options->artifact_paths[i] ? i + 1 : 0;
    }
    for (uint32_t i = 0; i < rig.plan->device_count; i++)
        rig.plan->devices[i].max_buffer_bytes = max_buffer;
    ASSERT_OK(rig_start(&rig, options, &err), err);
    uint32_t vocab = rig.model->vocab_size;
    float *logits = malloc((size_t)TOKENS * vocab * sizeof *logits);
    assert_non_null(logits);
    int32_t tokens[TOKENS], positions[TOKENS];
    bool wanted[TOKENS];
    for (uint32_t i = 0; i < TOKENS; i++) {
        tokens[i] = (int32_t)((i * 193 + 7) % (vocab - 1));
        positions[i] = (int32_t)i;
        wanted[i] = true;
    }
    /* A prompt, then token by token: both kernels of each matrix. */
    for (uint32_t done = 0, count; done < TOKENS; done += count) {
        count = done ? 1 : TOKENS - 8;
        struct engine_batch batch = { .token_count = count, .tokens = tokens + done, .positions = positions + done,
                                      .wants_logits = wanted };
        ASSERT_OK(engine_forward(rig.engine, &batch, logits + (size_t)done * vocab, &err), err);
    }
    *unpacked = engine_unpacked(rig.engine)->count;
    rig_close(&rig);
    return logits;
}

static void every_source_and_layout_gives_the_same_bits(void **state) {
    (void)state;
    if (!support_devices() || !test_data(models[1]))
        SKIP_BECAUSE("no PoCL device, or " NO_MODEL);
    for (size_t m = 0; m < MODELS; m++) {
        const char *source = test_data(models[m]);
        if (!source)
            continue;
        struct error err = { 0 };
        struct model *model = open_model(source);
        uint32_t units = unit_count(model), vocab = model->vocab_size, unpacked;
        const char **paths = calloc(units, sizeof *paths);
        char (*names)[64] = calloc(units, sizeof *names);
        assert_non_null(paths);
        assert_non_null(names);
        char hash[65];
        for (uint32_t u = 1; u < units; u++) {
            char unit[24];
            unit_name(unit_at(model, u), unit);
            struct artifact_key key = key_of(model, unit);
            snprintf(hash, sizeof hash, "%s", key.weights_hash);
            snprintf(names[u], sizeof names[u], "m%zu-%s", m, unit);
            ASSERT_OK(artifact_write(path_of(names[u]), &key, model, NULL, NULL, &err), err);
            paths[u] = strdup(path_of(names[u]));
        }
        for (int exact = 0; exact < 2; exact++) {
            struct rig_options options = { .exact = exact, .kv_type = KV_F16, .logit_rows = 16,
                                           .context = 64, .micro_batch = 16 };
            float *expected = run(source, &options, NULL, 0, &unpacked);
            for (int way = 0; way < 5; way++) {
                options.packed = way != 4;
                options.artifact_paths = way == 1 || way == 2 || way == 3 ? paths : NULL;
                options.discrete = way == 2 || way == 4;
                float *logits = run(source, &options, hash, way == 3 ? 1 << 16 : 0, &unpacked);
                if (memcmp(logits, expected, (size_t)TOKENS * vocab * sizeof *logits) != 0)
                    fail_msg("other bits for '%s' from source %d%s", models[m], way, exact ? ", exact" : "");
                assert_int_equal(unpacked, 0);
                free(logits);
            }
            free(expected);
        }
        /* A file that is gone: the same bits, and it is said. */
        assert_int_equal(unlink(paths[2]), 0);
        struct rig_options options = { .packed = true, .kv_type = KV_F16, .logit_rows = 16, .context = 64,
                                       .artifact_paths = paths };
        float *logits = run(source, &options, hash, 0, &unpacked);
        assert_int_equal(unpacked, 1);
        free(logits);
        for (uint32_t u = 1; u < units; u++)
            free((void *)(uintptr_t)paths[u]);
        free(paths);
        free(names);
        model_close(model);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_buffer_of_a_unit_is_in_its_file_as_the_loader_would_make_it),
        cmocka_unit_test(a_file_of_another_key_is_refused),
        cmocka_unit_test(any_changed_byte_of_the_header_is_found),
        cmocka_unit_test(a_short_file_is_refused_and_a_changed_one_found_by_verifying),
        cmocka_unit_test(what_is_interrupted_or_has_no_room_leaves_no_file),
        cmocka_unit_test(every_source_and_layout_gives_the_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
