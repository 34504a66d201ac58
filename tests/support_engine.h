/* support_engine: a model on PoCL's devices, with a plan made on the spot.
 *
 * support_devices() makes the first OpenCL call of a test program: it asks PoCL for
 * two devices ("pthread basic"), so that splits can be tested on any machine. */
#ifndef TESTS_SUPPORT_ENGINE_H
#define TESTS_SUPPORT_ENGINE_H

#include "common/opencl.h"
#include "runtime/engine.h"

/* PoCL's devices, pthread before basic; NULL where there are none. Made once, kept for the
 * program's life. */
const struct opencl_devices *support_devices(void);

/* Before support_devices(): other devices of PoCL's, as POCL_DEVICES names them. */
void support_choose_devices(const char *names);

struct rig_options {
    bool exact;
    bool embed_on_device;
    uint32_t split;            /* units from this one on are on the second device; 0: none */
    bool alternates;           /* ffn units on the second device */
    uint32_t micro_batch;      /* 0: 256 */
    uint32_t context;          /* 0: 384 */
    uint32_t sequence_count, logit_rows;
    enum kv_type kv_type;
    const volatile sig_atomic_t *interrupted;
    double watchdog_seconds;
    const struct model_options *model;
    bool converts;             /* matrices to `converted_type` */
    enum tensor_type converted_type;
    bool packed;               /* matrices in LAYOUT_R16 where they have it */
    const char *const *artifact_paths;
    const bool (*gemm_types)[TENSOR_TYPE_COUNT];
    bool discrete, keep_pages, measure_hops;
    uint32_t apart;            /* see engine_options */
};

struct rig {
    struct model *model;
    struct plan *plan;
    struct engine *engine;
};

/* The model at `path`, and a plan that names it "default". On failure everything is
 * released again. */
bool rig_prepare(struct rig *rig, const char *path, const struct rig_options *options, struct error *err);
bool rig_start(struct rig *rig, const struct rig_options *options, struct error *err);   /* the engine */
bool rig_open(struct rig *rig, const char *path, const struct rig_options *options, struct error *err);
void rig_close(struct rig *rig);

/* How a sequence of made-up tokens goes through an engine. */
struct support_passes {
    uint32_t tokens;
    uint32_t chunk;                     /* tokens of a pass; 0: all */
    uint32_t (*next)(uint32_t left);    /* the same for the next pass, 1 .. left; NULL: `chunk` */
    int32_t sequence;
    bool long_rope;
};

/* Logits of every position, [tokens][vocab]: the caller frees them. Fails the test where the
 * engine does. */
float *support_logits(struct engine *engine, const struct support_passes *passes);

/* The token that support_logits() has at a position. */
int32_t support_token(uint32_t position, uint32_t vocab);

/* Share out the units of a plan anew: each to one device or in two or three slices, as `seed`
 * has it. Returns how many units are sliced. */
uint32_t support_slice_plan(struct rig *rig, uint32_t seed);

/* A folder with links to every file of `model` but the one called `instead`, which becomes a
 * link to `target` in the same model. The result is in a static buffer. */
const char *support_relinked(const char *model, const char *instead, const char *target);

#endif
