/* support_generate: generate() on a small model, with settings as JSON. */
#ifndef TESTS_SUPPORT_GENERATE_H
#define TESTS_SUPPORT_GENERATE_H

#include "tests/support_engine.h"
#include "tests/support_golden.h"

#include "runtime/generate.h"

struct writer {
    struct rig rig;
    struct tokenizer *tokenizer;   /* NULL where the model has none */
    struct session *session;
    struct generation_settings settings;
    struct generation result;
};

/* Up to `sequences` sequences of the model (a path in ../shared or tests/data), float class.
 * False where it or the device is not there. */
bool writer_open(struct writer *writer, const char *model, uint32_t sequences);
void writer_close(struct writer *writer);

/* The model models/NAME and what transformers made of it, goldens/logits/NAME.json. Skips the test
 * where one of them, or the device, is not there. */
void writer_open_golden(struct writer *writer, struct golden *golden, const char *name, uint32_t sequences);

/* Generate after `prompt` with nothing but these settings (generate()'s keywords). The result
 * is in writer->result until the next call. */
bool writer_run(struct writer *writer, const json_t *settings, const int32_t *prompt, size_t count,
                struct error *err);
void writer_write(struct writer *writer, const char *settings, const int32_t *prompt, size_t count);

#endif
