/* fuzz_model_config: any bytes as the JSON files of a model's folder, one after the
 * other with a NUL between: config.json, generation_config.json, the index of the
 * safetensors files. Sizes are known without a weight, so what opens is sized too. */
#include "common/model.h"
#include "common/unit_buffers.h"
#include "runtime/generation_settings.h"
#include "tests/support_fuzz.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

#define REQUIRE(condition) do { if (!(condition)) abort(); } while (0)

static void check_model(const struct model *model) {
    static struct run_options options;
    struct generation_settings settings;
    struct error err = { 0 };
    char text[200];
    for (uint32_t i = 0; i < model->tensor_count; i++)
        REQUIRE(model->tensors[i].file < model->file_count || !model->has_weights);
    REQUIRE(model->block_count <= MODEL_MAX_BLOCKS && model->head.row_count == model->vocab_size);
    REQUIRE(model_weight_bytes(model) > 0);
    if (generation_settings_make(&settings, model, NULL, &options, &err))
        generation_settings_text(&settings, text, sizeof text);
    else
        REQUIRE(err.text[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    static const char *const names[] = { "config.json", "generation_config.json", "model.safetensors.index.json" };
    for (size_t i = 0; i < 3; i++) {
        const uint8_t *end = memchr(bytes, 0, size);
        size_t length = end ? (size_t)(end - bytes) : size;
        if (length || i == 0)
            fuzz_write(names[i], bytes, length);
        else
            fuzz_remove(names[i]);
        bytes += length + (end != NULL);
        size -= length + (end != NULL);
    }
    struct error err = { 0 };
    struct model_source source = { SOURCE_DIRECTORY, (char *)"fuzz", (char *)fuzz_folder(), false };
    struct model_options options = { .headers_optional = true };
    struct model *model = model_open(&source, &options, &err);
    if (model)
        check_model(model);
    else
        REQUIRE(err.kind != ERROR_NONE && err.text[0]);
    model_close(model);
    return 0;
}
