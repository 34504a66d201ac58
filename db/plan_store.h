/* plan_store: everything the project remembers, in one SQLite file.
 *
 * This header hides SQLite: no other folder includes <sqlite3.h>. The tables are
 * documented in db/schema.sql. Saving a plan is one transaction; a reader sees
 * the old plan or the new one. A damaged or newer store is refused with a clear
 * sentence and never overwritten. A store in a read-only place can be read. */
#ifndef DB_PLAN_STORE_H
#define DB_PLAN_STORE_H

#include "common/device.h"
#include "common/error.h"
#include "common/kernel_store.h"
#include "common/model.h"
#include "common/plan.h"

struct plan_store;

/* $PHI_STORE, else $XDG_DATA_HOME/phi/plans.db, else ~/.local/share/phi/plans.db.
 * The caller owns the string. */
char *plan_store_default_path(struct error *err);
/* The same whatever $PHI_STORE says. */
char *plan_store_home_path(struct error *err);

enum store_mode {
    STORE_CREATE,     /* open, make or migrate: phiplan */
    STORE_EXISTING,   /* must exist: phirun */
    STORE_TO_READ     /* must exist, and keeps every byte; refused where the newest plans cannot be seen */
};

/* NULL on failure. A missing or empty file without STORE_CREATE: ERROR_NO_PLAN. A file
 * that is there but cannot be written, or lies in a folder that cannot, is opened
 * read-only in any mode; saving then fails with a sentence that says so. */
struct plan_store *plan_store_open(const char *path, enum store_mode mode, struct error *err);
void plan_store_close(struct plan_store *store);             /* NULL is fine */
bool plan_store_is_read_only(const struct plan_store *store);
const char *plan_store_path(const struct plan_store *store);   /* as opened */

/* ---- models and hashes ---- */

/* A hash_cache over model_path rows; borrows the store. */
struct hash_cache plan_store_hash_cache(struct plan_store *store);

/* Record the model, its paths and tensors under its hashes; replaces what was
 * there. *model_row: the key that plans refer to. */
bool plan_store_save_model(struct plan_store *store, const struct model *model,
                           const struct model_hashes *hashes, int64_t *model_row, struct error *err);

/* model_stored_bytes() of a recorded model; none where it is not there. */
bool plan_store_stored_bytes(struct plan_store *store, const char *weights_hash, uint64_t bytes[TENSOR_TYPE_COUNT],
                             struct error *err);

/* ---- devices and probes ---- */

/* Insert or update by identity; fills nothing in. */
bool plan_store_save_device(struct plan_store *store, const struct device *device,
                            struct error *err);
/* The devices seen before, with their short names; the caller releases the list. */
bool plan_store_devices(struct plan_store *store, struct device_list *list, struct error *err);

/* One measured figure of a device: `what` such as "decode", "prefill", "launch",
 * `format` such as "q4_1" or "". Keyed by (device identity, driver, what,
 * format, working set); a newer measurement replaces the older. */
struct probe_value {
    char what[32];
    char format[16];
    uint64_t working_set_bytes;   /* 0 where it does not matter */
    double value;                 /* bytes/s, operations/s or seconds: `unit` says which */
    char unit[16];                /* "B/s", "op/s", "s" */
};
/* A new "decode" figure of a format drops what was fitted to the old one ("fit.decode", ...). */
bool plan_store_save_probe(struct plan_store *store, const struct device *device,
                           const struct probe_value *values, uint32_t count, struct error *err);
/* Those that were measured with the device's present driver; *count may be 0.
 * The caller frees *values. */
bool plan_store_probes(struct plan_store *store, const struct device *device,
                       struct probe_value **values, uint32_t *count, struct error *err);

/* What lies between two devices. Where they share memory: what each reads while both run (just before,
 * alone, it read "alone" of its probe), B/s. Where they share a context: what handing the residual
 * vector over takes. 0: not measured, negative: it cannot be. */
struct link_rates { double source_together, target_together, hop_s; };
bool plan_store_save_link(struct plan_store *store, const struct device *source, const struct device *target,
                          const struct link_rates *rates, struct error *err);
/* With the present drivers of both. */
bool plan_store_link(struct plan_store *store, const struct device *source, const struct device *target,
                     struct link_rates *rates, struct error *err);

/* ---- plans ---- */

/* Save under (weights hash, hardware key, name); sets plan->id and ->created. The
 * plan of the same key is superseded; the last ten superseded ones stay. A shard whose
 * artifact was collected meanwhile is saved without. */
bool plan_store_save_plan(struct plan_store *store, int64_t model_row, struct plan *plan,
                          struct error *err);

/* The current plans of a model under `name`, newest first, on any hardware, as their
 * rows are: one that a person broke must not hide the others, so that the caller
 * checks the one it chooses with plan_validate().
 * *plans: array of *count pointers, owned by the caller (plan_store_free_plans). */
bool plan_store_find_plans(struct plan_store *store, const char *weights_hash, const char *name,
                           struct plan ***plans, uint32_t *count, struct error *err);
void plan_store_free_plans(struct plan **plans, uint32_t count);

/* By id, checked with plan_validate(); NULL with ERROR_NO_PLAN where there is none. */
struct plan *plan_store_load_plan(struct plan_store *store, int64_t id, struct error *err);
/* The newest current plan, checked as well; NULL with ERROR_NO_PLAN in an empty store. */
struct plan *plan_store_newest_plan(struct plan_store *store, struct error *err);
/* Whether a newer plan took its place; *by: the one that is current now, 0 where that was removed. */
bool plan_store_superseded(struct plan_store *store, int64_t id, bool *is_superseded, int64_t *by,
                           struct error *err);
/* All plans, newest first, superseded ones included where `all`. */
bool plan_store_list_plans(struct plan_store *store, bool all, struct plan ***plans,
                           uint32_t *count, struct error *err);
/* Replace the predictions of a stored plan and of its devices by those of `plan`. */
bool plan_store_save_predictions(struct plan_store *store, const struct plan *plan, struct error *err);
bool plan_store_remove_plan(struct plan_store *store, int64_t id, struct error *err);

/* ---- artifacts: packed weights, see common/artifact.h ---- */

struct artifact_record {
    int64_t id;
    char source_hash[65];       /* the weights hash */
    char unit[24];
    uint32_t part_begin, part_end;
    char format[16];            /* of the values */
    char layout[16];
    uint32_t version;
    char path[4096];
    uint64_t size_bytes;
    char checksum[65];
};
/* Insert or update by key; sets record->id, which shard.artifact refers to. */
bool plan_store_save_artifact(struct plan_store *store, struct artifact_record *record, bool verified,
                              struct error *err);
/* Where the plan's packed weights lie: [plan->shard_count] paths, NULL for shards without.
 * The caller frees each and the array. */
bool plan_store_artifact_paths(struct plan_store *store, const struct plan *plan, char ***paths,
                               struct error *err);

/* Called with the path of an artifact that is in use; false: out of memory. */
typedef bool artifact_keep(void *context, const char *path);
/* Call it for all that plans use, superseded ones included. */
bool plan_store_keep_artifacts(struct plan_store *store, artifact_keep *keep, void *context, struct error *err);

/* Forget superseded plans and the artifacts that no plan left refers to; call `keep` for the rest. */
struct collected { uint32_t plans, artifacts; };
bool plan_store_collect(struct plan_store *store, struct collected *collected, artifact_keep *keep, void *context,
                        struct error *err);

/* ---- tuning ---- */

/* What was found best for matrices of a format on a device with its driver, any shape. */
struct tuning_choice {
    char operation[16];            /* "matmul": passes of many tokens */
    char format[16];               /* of the weights, as probe_value has it */
    char variant[32];              /* "clblast"; "": nothing special, which forgets what was there */
    bool unordered;                /* sums in an order of its own */
    double seconds;                /* of 1e9 operations, as measured */
};
bool plan_store_save_tuning(struct plan_store *store, const struct device *device,
                            const struct tuning_choice *choice, struct error *err);
/* variant is "" where there is none. */
bool plan_store_tuning(struct plan_store *store, const struct device *device, struct tuning_choice *choice,
                       struct error *err);
/* The types of weights whose passes CLBlast multiplies there. */
bool plan_store_gemm_types(struct plan_store *store, const struct device *device, bool types[TENSOR_TYPE_COUNT],
                           struct error *err);

/* ---- kernels ---- */

/* Programs as their drivers built them, for devices that the store knows; borrows the store. */
struct kernel_store plan_store_kernels(struct plan_store *store);

/* ---- runs ---- */

struct run_device_record {
    char device[16];            /* short name, or "host" */
    char phase[16];             /* "load", "prefill", "decode" */
    double seconds;
    uint64_t bytes;             /* loaded, or read by kernels; 0 where not counted */
};

struct run_record {
    int64_t plan;
    char kind[16];              /* "generate", "bench", "logits", ... */
    uint32_t prompt_tokens, new_tokens;
    double load_s, first_token_s, prefill_s, decode_s;
    char finish_reason[16];
    char settings[512];         /* effective sampling settings, for people */
    uint32_t device_count;
    struct run_device_record devices[3 * PLAN_MAX_DEVICES + 3];
};

/* Add a run and trim old ones; a no-op that returns true on a read-only store. */
bool plan_store_add_run(struct plan_store *store, const struct run_record *run, struct error *err);

/* The newest runs of a plan, newest first, at most `limit`. The caller frees *runs. */
bool plan_store_runs(struct plan_store *store, int64_t plan, uint32_t limit, struct run_record **runs,
                     uint32_t *count, struct error *err);

#endif
