/* Raw logits of given ids: how the results are compared with other programs. */
#include "runtime/commands.h"
#include "runtime/loaded_model.h"
#include "runtime/prompt.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Rows of logits of one pass: the head's buffer stays small for large vocabularies. */
#define LOGIT_ROWS 16u

static bool write_floats(const char *path, const float *values, size_t count, struct error *err) {
    FILE *file = fopen(path, "wb");
    if (!file)
        return error_set(err, ERROR_FAILED, "cannot write '%s': %s", path, strerror(errno));
    bool written = fwrite(values, sizeof *values, count, file) == count;
    int cause = errno;
    if (fclose(file) != 0 && written) {
        written = false;
        cause = errno;
    }
    if (!written) {
        remove(path);
        return error_set(err, ERROR_FAILED, "cannot write '%s': %s", path, strerror(cause));
    }
    return true;
}

bool command_logits(const struct run_options *options, struct error *err) {
    struct loaded_model loaded;
    struct load_request request = { .logit_rows = options->last_only ? 1 : LOGIT_ROWS };
    struct prompt prompt = { 0 };
    struct session *session = NULL;
    float *logits = NULL;
    text_init(&prompt.text);
    bool ok = loaded_model_open(&loaded, options, &request, err)
              && prompt_make(&prompt, options, NULL, loaded.model->name, loaded.model->vocab_size, err)
              && (session = session_new(loaded.engine, 0, loaded_model_rope(&loaded, options), err));
    size_t rows = options->last_only ? 1 : prompt.count;
    if (ok) {
        logits = calloc(rows * loaded.model->vocab_size, sizeof *logits);
        if (!logits)
            ok = error_set(err, ERROR_FAILED, "cannot hold the logits of %zu tokens: out of memory", rows);
    }
    if (ok)
        ok = options->last_only ? session_append(session, prompt.ids, prompt.count, logits, err)
                                : session_append_all(session, prompt.ids, prompt.count, logits, err);
    ok = ok && write_floats(options->out, logits, rows * loaded.model->vocab_size, err);
    if (ok && options->verbose)
        loaded_model_report(&loaded);
    free(logits);
    session_free(session);
    prompt_release(&prompt);
    loaded_model_close(&loaded);
    return ok;
}
