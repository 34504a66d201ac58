/* engine_parts: what the engine's own files share. Nobody else includes it.
 *
 * A forward pass is cut into micro-batches; each is a struct pass that travels as a
 * message through the segments (runs of units on one device): the worker of a
 * segment's device enqueues it whole, hands the residual over (see engine_hop.c) and posts
 * the pass to the next one. As many passes travel at a time as there are devices, and two at
 * least, in order, so that all devices work on different micro-batches at once.
 *
 * A unit in slices is a segment of its own, run by all its devices at once in two phases,
 * each a message to each device; the last device to arrive begins the next phase:
 *   inner    the whole residual in, each device's columns of the activation out
 *   output   the whole activation in, each device's columns of the residual out
 * (the head: one phase, each device's columns of the logits). The activation that they
 * exchange lies in the staging of the one that has the first part, the residual in the pass's. Passes do not overtake each
 * other: a device's queue of messages has each phase in the order of the passes. */
#ifndef RUNTIME_ENGINE_PARTS_H
#define RUNTIME_ENGINE_PARTS_H

#include "runtime/device_worker.h"
#include "runtime/engine.h"
#include "runtime/forward.h"
#include "runtime/kv_cache.h"
#include "runtime/rope.h"

#include "common/artifact.h"
#include "common/clock.h"
#include "common/file_map.h"

#include <pthread.h>

/* One for the devices of a platform. */
struct engine_context {
    cl_context handle;
    uint32_t device_count;
    cl_mem residuals[PLAN_MAX_DEVICES];    /* [device_count] theirs, borrowed; see engine_hop.c */
    cl_command_queue queue;                /* of one of them, borrowed */
    uint32_t mapped_count;                 /* passes whose staging's memory is a buffer here, by slot */
    cl_mem mapped[PLAN_MAX_DEVICES];       /* [mapped_count] borrowed */
    bool is_given[PLAN_MAX_DEVICES];       /* [mapped_count] unmapped: the devices may use it, the host may not */
};

struct engine_device {
    struct engine *engine;
    const struct plan_device *planned;     /* borrowed from the plan */
    struct device present;                 /* as found in this process */
    cl_platform_id platform;
    cl_device_id id;
    struct engine_context *context;        /* one of the engine's */
    uint32_t place;                        /* among the devices of its context */
    cl_command_queue queue;
    struct device_worker *worker;
    struct ops *ops;                       /* of the worker's thread */
    struct part_range *parts;              /* [unit_count] what it holds of each unit */
    enum weight_layout *layouts;           /* [unit_count] */
    bool *streamed;                        /* [unit_count] */
    bool gemm_types[TENSOR_TYPE_COUNT];    /* see engine_options */
    bool has_gemm;                         /* any of them */
    const struct artifact **artifacts;     /* [unit_count]; NULL where there is none */
    struct artifact *opened;               /* [unit_count], owned: what artifacts points to */
    struct buffer_options options;
    struct device_memory memory;
    struct forward forward;

    /* of the worker's thread: what the small buffers hold */
    uint64_t input_of, residual_of;        /* number of the pass */
    uint64_t pages_version;

    /* a task given to every device at once, see engine_run_all() */
    struct worker_message message;
    bool (*task)(struct engine_device *device, struct error *err);
    bool is_busy;                          /* under engine->lock once posted */
    bool task_ok;
    struct error task_error;

    double load_seconds, prefill_seconds, decode_seconds;   /* read while nothing runs */
    struct hop_times hops[HOP_WAYS];       /* arrivals from other devices, of single tokens */
};

struct segment {
    uint32_t device;                       /* index into engine->devices; of slices the first one's */
    uint32_t unit_begin, unit_end;
    uint32_t slice_count;                  /* 0: whole units */
    uint32_t slice_devices[PLAN_MAX_DEVICES];   /* in the order of the parts */
};

struct pass;

/* One device's share of a phase. */
struct slice_message {
    struct worker_message message;
    struct pass *pass;
    uint32_t device;
    bool ok;
    struct error error;
};

struct pass {
    struct worker_message message;
    struct engine *engine;
    uint32_t slot;                         /* its place among those that travel */
    float *stage;                          /* host staging of its residual, [micro_batch][hidden]; borrowed */
    bool is_busy;                          /* under engine->lock */
    uint64_t number;
    bool is_prefill, is_last;              /* is_last: has the last token of the batch */

    struct forward_input input;            /* points into the arrays below */
    int32_t *tokens, *positions, *sequences;   /* [micro_batch] */
    float *rope;                           /* [micro_batch][rotary_dim / 2][2] */
    uint32_t *wanted;                      /* [micro_batch] rows whose logits are wanted */
    uint32_t wanted_count;
    float *logits;                         /* the caller's, for those rows */

    uint32_t segment, segment_end;         /* the next one to run; after the last one */
    double hop_started;                    /* seconds_now() when the last segment was computed */
    /* Where the residual is between two segments: at most one is set. */
    const float *residual;                 /* on the host */
    const struct engine_context *shared;   /* in `buffer`, which is of that context */
    cl_mem buffer;                         /* what the segment that runs, or has run, works on */
    bool is_mapped;                        /* it is one of context->mapped */
    bool is_output;                        /* of a segment of slices: the second phase */
    uint32_t slices_left;                  /* devices that have not arrived; under engine->lock */
    struct slice_message slices[PLAN_MAX_DEVICES];
    bool ok;
    struct error error;
};

struct engine {
    const struct model *model;             /* borrowed */
    const struct plan *plan;               /* borrowed */
    bool exact;
    enum numeric_class numeric;
    enum kv_type kv_type;
    uint32_t context, micro_batch, sequence_count, logit_rows;
    const volatile sig_atomic_t *interrupted;
    const char *store_path;                /* borrowed; see engine_options */

    struct engine_device *devices;         /* [device_count] those of the plan that hold something */
    uint32_t device_count;
    struct engine_context contexts[PLAN_MAX_DEVICES];
    uint32_t context_count;
    struct segment *segments;
    uint32_t segment_count;
    bool has_slices;                       /* any segment is in slices */

    struct engine_unpacked unpacked;
    const struct kernel_store *kernels;    /* borrowed while opening; NULL: none */
    bool discrete, keep_pages, measure_hops;   /* see engine_options */
    uint32_t apart;
    float *stages[PLAN_MAX_DEVICES];       /* [pass_count] owned: staging that several contexts map; NULL: none do */

    bool has_host_embed;
    struct file_map table;                 /* the embedding's rows, as stored */
    uint64_t host_bytes_planned;
    double host_load_seconds, host_prefill_seconds, host_decode_seconds;

    struct rope rope;
    struct kv_cache kv;
    uint32_t *lengths_before;              /* [sequence_count] at the start of a forward */
    struct kv_copy *copies;                /* [sequence_count] */
    uint32_t copy_count;
    bool has_more;                         /* another portion of the batch follows; while no pass is under way */
    struct { int32_t page; uint8_t *target; const uint8_t *source; } moved;   /* see engine_pages.c */

    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_loaded;
    double watchdog_seconds;               /* 0: by what the plan predicts */
    uint32_t busy_count;                   /* tasks and passes under way; under lock */
    struct pass passes[PLAN_MAX_DEVICES];  /* [pass_count] */
    uint32_t pass_count;                   /* that can travel at a time */
    uint32_t travelling;                   /* that do in this batch; while no pass is under way */
    uint64_t pass_number;
    bool has_failed;                       /* under lock; then only closing is left */
    struct error failure;

    engine_tap *tap;
    void *tap_context;
    float *tap_row;                        /* [hidden] */
};

/* watchdog.c: wait under engine->lock for engine->changed; ends the process where the
 * devices make no progress for too long. */
void engine_wait(struct engine *engine);

static inline bool engine_is_interrupted(const struct engine *engine) {
    return engine->interrupted && *engine->interrupted;
}

/* engine_check.c: before anything is allocated. Fill devices (all but context, queue,
 * worker) and segments, or say what no longer fits. */
bool engine_check_plan(struct engine *engine, struct error *err);
bool engine_find_devices(struct engine *engine, struct error *err);
bool engine_check_memory(struct engine *engine, struct error *err);
/* ERROR_STALE with the command to type after the sentence. Returns false. */
bool engine_stale(const struct engine *engine, struct error *err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* engine_artifacts.c: open those that the plan names. What is missing or damaged is
 * noted in engine->unpacked, and packed in memory. */
bool engine_open_artifacts(struct engine *engine, const char *const *paths, struct error *err);
void engine_release_artifacts(struct engine *engine);

/* engine.c: run a task on every device's worker and wait for all; the first failure in
 * the order of the devices is reported. */
bool engine_run_all(struct engine *engine, bool (*task)(struct engine_device *, struct error *),
                    struct error *err);
/* From a worker: the task or pass whose flag this is has come to its end. */
void engine_arrived(struct engine *engine, bool *is_busy);

/* engine_hop.c: before loading, how many passes travel, and on what memory; after it, which buffers the
 * devices share. */
bool engine_hops_prepare(struct engine *engine, struct error *err);
bool engine_hops_init(struct engine *engine, struct error *err);
void engine_hops_release(struct engine *engine);
/* On the caller's thread, before a pass begins: its staging is the host's, whatever became of the last one. */
bool engine_hop_begin(struct engine *engine, struct pass *pass, struct error *err);
/* On the thread of the segment's device: put the residual where its units work on it, and after them
 * where the next segment finds it. `in_slices`: the segment's. */
bool engine_hop_arrive(struct engine_device *device, struct pass *pass, bool in_slices, struct error *err);
bool engine_hop_depart(struct engine_device *device, struct pass *pass, struct error *err);

/* engine_pass.c */
bool engine_passes_init(struct engine *engine, struct error *err);
void engine_passes_release(struct engine *engine);

#endif
