#include "tests/support_generate.h"

#include "tests/support.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

bool writer_open(struct writer *writer, const char *model, uint32_t sequences) {
    struct error err = { 0 };
    *writer = (struct writer){ 0 };
    const char *path = access(model, R_OK) == 0 ? model : test_data(model);
    struct rig_options options = { .exact = true, .sequence_count = sequences, .logit_rows = 16 };
    if (!path || !support_devices())
        return false;
    ASSERT_OK(rig_open(&writer->rig, path, &options, &err), err);
    struct model_source source;
    ASSERT_OK(model_source_resolve(&source, path, &err), err);
    writer->tokenizer = tokenizer_open(&source, &err);
    model_source_release(&source);
    writer->session = session_new(writer->rig.engine, 0, ROPE_AUTO, &err);
    ASSERT_OK(writer->session, err);
    return true;
}

void writer_open_golden(struct writer *writer, struct golden *golden, const char *name, uint32_t sequences) {
    char model[64], goldens[64];
    snprintf(model, sizeof model, "models/%s", name);
    snprintf(goldens, sizeof goldens, "goldens/logits/%s.json", name);
    if (!golden_load(golden, goldens))
        SKIP_BECAUSE("no %s", goldens);
    if (!writer_open(writer, model, sequences))
        SKIP_BECAUSE("no PoCL device, or no %s", model);
}

void writer_close(struct writer *writer) {
    generation_release(&writer->result);
    generation_settings_release(&writer->settings);
    session_free(writer->session);
    tokenizer_close(writer->tokenizer);
    rig_close(&writer->rig);
}

bool writer_run(struct writer *writer, const json_t *settings, const int32_t *prompt, size_t count,
                struct error *err) {
    generation_release(&writer->result);
    generation_settings_release(&writer->settings);
    writer->settings = (struct generation_settings){ .sampling = sampler_defaults(), .new_tokens = 20, .num_beams = 1,
                                                     .num_return_sequences = 1, .length_penalty = 1 };
    if (!generation_settings_read(&writer->settings, settings, writer->tokenizer, "the test", err))
        return false;
    struct generate_request request = {
        .session = writer->session, .engine = writer->rig.engine, .tokenizer = writer->tokenizer,
        .settings = &writer->settings, .prompt = prompt, .count = (uint32_t)count,
    };
    return generate(&request, &writer->result, err);
}

void writer_write(struct writer *writer, const char *settings, const int32_t *prompt, size_t count) {
    struct error err = { 0 };
    json_t *object = json_read_text(settings, strlen(settings), "the test", &err);
    ASSERT_OK(object, err);
    bool ok = writer_run(writer, object, prompt, count, &err);
    json_decref(object);
    ASSERT_OK(ok, err);
}
