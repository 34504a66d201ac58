/* fuzz_chat_template: any bytes as a chat template; it renders or says why not. */
#include "runtime/chat_template.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    static const struct chat_message talk[] = {
        { "system", "Be brief." }, { "user", " Hi \n" }, { "assistant", "Hello <think>x</think>" }, { "user", "" },
    };
    static const struct chat_context context = { "<s>", "</s>", true };
    char *source = malloc(size + 1);
    struct error err = { 0 };
    struct text out;
    if (!source)
        return 0;
    memcpy(source, bytes, size);
    source[size] = '\0';
    text_init(&out);
    bool ok = chat_template_render(source, "fuzz", talk, 4, &context, &out, &err);
    if (!ok && (err.kind == ERROR_NONE || !err.text[0] || out.length))
        abort();
    text_release(&out);
    free(source);
    return 0;
}
