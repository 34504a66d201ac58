/* fuzz_sentencepiece: any bytes as a tokenizer.model; from the first "\n{" on, as the
 * tokenizer_config.json beside it. */
#include "runtime/tokenizer_parts.h"
#include "tests/support_fuzz_tokenizer.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    struct error err = { 0 };
    const uint8_t *config_at = memmem(bytes, size, "\n{", 2);
    size_t model_size = config_at ? (size_t)(config_at - bytes) : size;
    json_t *config = config_at ? json_read_text((const char *)config_at, size - model_size, "fuzz", &err) : NULL;
    struct tokenizer *tokenizer = tokenizer_new(&err);
    REQUIRE(tokenizer);
    err = (struct error){ 0 };
    if (tokenizer_read_spm(tokenizer, bytes, model_size, config, json_object_get(config, "more"), "fuzz", &err)
        && tokenizer_finish(tokenizer, &err))
        fuzz_check_tokenizer(tokenizer, bytes, size);
    else
        REQUIRE(err.kind != ERROR_NONE && err.text[0]);
    tokenizer_close(tokenizer);
    json_decref(config);
    return 0;
}
