/* placeholder */
#include "runtime/tokenizer_parts.h"
bool tokenizer_read_gguf(struct tokenizer *tokenizer, const char *path, struct error *err) {
    (void)tokenizer;
    return error_set(err, ERROR_FAILED, "cannot read '%s'", path);
}
