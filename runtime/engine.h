/* engine: a model loaded onto the devices that its plan names.
 *
 * It owns contexts, one submission thread and queue a device, weights, KV pages
 * and scratch; it knows tokens by (sequence, position), not conversations: that
 * is runtime/session.h. It decides nothing: placement, formats and sizes are the
 * plan's. */
#ifndef RUNTIME_ENGINE_H
#define RUNTIME_ENGINE_H

#include "common/kernel_store.h"
#include "common/model.h"
#include "common/plan.h"
#include "common/typed_command.h"

#include <signal.h>

struct engine;

struct engine_options {
    bool exact;                    /* float class and float32 KV, whatever the plan's */
    uint32_t sequence_count;       /* sequences that can exist at a time; 0 means 1 */
    uint32_t logit_rows;           /* most rows of logits wanted from one pass; 0 means 1 */
    double watchdog_seconds;       /* end the process where the devices make no progress for so long; 0: a
                                    * minute, more where the plan predicts slow passes */
    const volatile sig_atomic_t *interrupted;   /* checked between passes; may be NULL */
    /* [plan->shard_count] files of packed weights by shard, NULL entries where there are
     * none; borrowed for the call; NULL: none at all. */
    const char *const *artifact_paths;
    /* [plan->device_count] types of weights in rows whose passes of many tokens CLBlast
     * multiplies, unless `exact`; NULL: none */
    const bool (*gemm_types)[TENSOR_TYPE_COUNT];
    const struct kernel_store *kernels;   /* borrowed for the call; NULL: everything is compiled */
    const char *store_path;        /* where the plan is kept, for commands in sentences; NULL: the usual place.
                                    * Borrowed for the engine's life */
    bool keep_pages;               /* a sliding window keeps the pages that it no longer needs */
    bool measure_hops;             /* wait before and after each hand-over, and count it */
    bool discrete;                 /* for tests: copy to every device, as if it had memory of its own */
    uint32_t apart;                /* for tests, as if they were of other platforms: 1: a context for each device, */
                                   /* 2: one for the first and one for the others                             */
};

/* Packed units of the plan whose artifact is missing or damaged, so that they had to be
 * packed in memory, which takes time at every start. */
struct engine_unpacked {
    uint32_t count;
    char reason[240];              /* of the first; "" for none */
};

/* Kernels that the store lacked, of all devices. */
struct engine_compiled {
    uint32_t count, kept;          /* kept: the next start finds them */
    char reason[240];              /* where the store has them, but they are of no use; or why they are
                                    * not kept; "" for none */
};

/* How the residual comes from one device to another. */
enum hop_way {
    HOP_STAGED,                    /* read into the host's memory, written from there */
    HOP_SHARED,                    /* both use one buffer of their context: nothing is copied */
    HOP_MAPPED,                    /* a buffer of each context, on the same memory of the host: nothing is copied */
    HOP_WAYS
};
const char *hop_way_phrase(enum hop_way way);   /* "through the host's memory" */

struct hop_times {
    uint64_t count;
    double seconds;                /* from computed there to usable here, of all of them */
};

struct engine_device_report {
    char device[16];               /* short name, or "host" */
    uint64_t bytes_planned;        /* weights named by the plan */
    uint64_t bytes_loaded;         /* weights it was given, as the model's files store them */
    uint64_t bytes_allocated;      /* all buffers */
    double load_seconds, prefill_seconds, decode_seconds;   /* busy time of its thread */
    struct hop_times hops[HOP_WAYS];   /* of single tokens that came from another device; with measure_hops */
    uint64_t bytes_streamed;       /* read through its window so far, in pieces_streamed portions that were used */
    uint64_t pieces_streamed, pieces_late;   /* late: not there when they were wanted */
    double stream_wait_seconds;    /* of the busy time, for late portions */
};

/* Check the plan's devices against those present (ERROR_STALE names the field, the
 * old and the new value), load the shards, create the KV pages. Model and plan
 * are borrowed for the engine's life. NULL on failure. */
struct engine *engine_open(const struct model *model, const struct plan *plan,
                           const struct engine_options *options, struct error *err);

/* Finishes what is queued, joins the threads, releases every OpenCL object. */
void engine_close(struct engine *engine);   /* NULL is fine */

/* One pass over `token_count` tokens (any number: cut into micro-batches inside,
 * in order; a sequence's tokens must come in ascending position and all earlier
 * positions must have been run). Writes their KV. */
struct engine_batch {
    uint32_t token_count;
    const int32_t *tokens;         /* ids, each in [0, vocab) */
    const int32_t *sequences;      /* NULL: all sequence 0 */
    const int32_t *positions;
    bool long_rope;                /* LongRoPE: use the long factors */
    bool is_prefill;               /* which column of the report the time goes to */
    const bool *wants_logits;      /* per token; NULL: only the last */
};
/* logits: [wanted][vocab] float32, in token order, room given by the caller; NaN or
 * infinity in them is an error. The residual stream can be watched: see below. */
bool engine_forward(struct engine *engine, const struct engine_batch *batch, float *logits,
                    struct error *err);

/* KV pages: a sequence's row of the page table. Pages are reference-counted. */
bool engine_sequence_truncate(struct engine *engine, uint32_t sequence, uint32_t length,
                              struct error *err);          /* drop positions >= length; perhaps all, see below */
/* How many positions the sequence has. Truncation leaves none where it goes back behind pages that
 * a sliding window has given back, and so may a pass that fails. */
uint32_t engine_sequence_length(const struct engine *engine, uint32_t sequence);
/* Make `target`, which must be empty, share source's first `length` positions: no page is
 * copied until one of the two writes to it. */
bool engine_sequence_fork(struct engine *engine, uint32_t source, uint32_t target,
                          uint32_t length, struct error *err);

/* Pages that no sequence has, and how many of them extending one to `length` positions takes. */
uint32_t engine_free_pages(const struct engine *engine);
uint32_t engine_pages_for(const struct engine *engine, uint32_t sequence, uint32_t length);

/* Keys and values of a sequence as bytes that do not depend on where the units are. Page p has
 * the positions from p * KV_PAGE_TOKENS on: for each attn unit K, then V, each
 * [kv_head][KV_PAGE_TOKENS][vector]; what follows the sequence's end in its last page is not
 * defined. A page that is written must not be shared, and belongs to positions that are there:
 * engine_sequence_extend() adds some to an empty sequence, to be written before anything runs. */
uint64_t engine_page_bytes(const struct engine *engine);
bool engine_sequence_extend(struct engine *engine, uint32_t sequence, uint32_t length, struct error *err);
bool engine_sequence_read_page(struct engine *engine, uint32_t sequence, uint32_t page, uint8_t *bytes,
                               struct error *err);
bool engine_sequence_write_page(struct engine *engine, uint32_t sequence, uint32_t page, const uint8_t *bytes,
                                struct error *err);
enum kv_type engine_kv_type(const struct engine *engine);
enum numeric_class engine_numeric(const struct engine *engine);

uint32_t engine_context(const struct engine *engine);      /* tokens of KV in all */

/* What to do where the plan's context is too short: "plan again: phiplan model --ctx 512", with the
 * plan's own options, for `wanted` tokens or as many of them as the model was made for. Where those are
 * fewer than `least`, no plan helps: that, and `otherwise`, such as "shorten the text". Returns `advice`. */
#define ENGINE_ADVICE_SIZE (TYPED_COMMAND_SIZE + 32)
const char *engine_context_advice(const struct engine *engine, uint64_t least, uint64_t wanted,
                                  const char *otherwise, char advice[ENGINE_ADVICE_SIZE]);

const struct model *engine_model(const struct engine *engine);
const struct engine_unpacked *engine_unpacked(const struct engine *engine);
struct engine_compiled engine_compiled(const struct engine *engine);
uint32_t engine_report(const struct engine *engine, struct engine_device_report *reports,
                       uint32_t capacity);                 /* returns how many */

/* For tests: called after each unit that a device runs, but the head, with the residual of
 * the last token of the batch, [hidden] floats; on the device's thread. Slow: finishes after
 * every unit. NULL switches it off. */
typedef void engine_tap(void *context, uint32_t unit, const float *residual);
void engine_set_tap(struct engine *engine, engine_tap *tap, void *context);

#endif
