/* loaded_model: from the MODEL argument to an engine that is ready, in the order
 * source, store, description, hashes, plan, devices, weights. */
#ifndef RUNTIME_LOADED_MODEL_H
#define RUNTIME_LOADED_MODEL_H

#include "common/clock.h"
#include "common/interruption.h"
#include "db/plan_store.h"
#include "runtime/engine.h"
#include "runtime/generation_settings.h"
#include "runtime/run_options.h"
#include "runtime/tokenizer.h"

struct loaded_model {
    struct model_source source;
    struct model *model;
    struct model_hashes hashes;       /* of its files */
    struct plan_store *store;
    struct plan *plan;
    struct engine *engine;
    struct tokenizer *tokenizer;      /* NULL where not asked for, or the model has none */
    double load_seconds;              /* all of loaded_model_open() */
};

struct load_request {
    bool needs_tokenizer;             /* a model without one is an error */
    bool wants_tokenizer;             /* a model without one is fine */
    uint32_t logit_rows;              /* 0: as many as the settings need, or 1 */
    uint32_t sequence_count;          /* the same */
    struct generation_settings *settings;   /* not NULL: made in time for the engine; release them */
};

/* Release with loaded_model_close() even after a failure. */
bool loaded_model_open(struct loaded_model *loaded, const struct run_options *options,
                       const struct load_request *request, struct error *err);
void loaded_model_close(struct loaded_model *loaded);

/* The policy typed, else the plan's. */
enum rope_policy loaded_model_rope(const struct loaded_model *loaded,
                                   const struct run_options *options);

/* -v's table of bytes and times by device, on standard error. */
void loaded_model_report(const struct loaded_model *loaded);

/* Copy the engine's report into a run row's devices. */
void loaded_model_record(const struct loaded_model *loaded, struct run_record *run);

/* The same, and keep the row. Where that is not possible, it is only told: the run was fine. */
void loaded_model_add_run(const struct loaded_model *loaded, struct run_record *run);

#endif
