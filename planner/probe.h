/* probe: which OpenCL devices this machine has, whether they work, how fast they
 * are. This process makes no OpenCL call: a driver may crash or hang, so one child
 * process for each .icd file asks it (see planner/probe_child.h), and what dies there
 * becomes a device that is not usable, with the reason.
 *
 * Children run one after another, or they would disturb each other's figures. */
#ifndef PLANNER_PROBE_H
#define PLANNER_PROBE_H

#include "common/device.h"
#include "common/tensor_type.h"
#include "common/unit_buffers.h"
#include "db/plan_store.h"

#include <signal.h>

#define PROBE_MOST_SHAPES 32
#define PROBE_MOST_DEVICES 64    /* of one .icd file; later ones are ignored */
#define PROBE_TURN_S 0.4         /* of devices that are measured together */

/* One of two devices that work at the same time, see planner/probe_together.h. */
struct probe_together {
    double start_s;              /* CLOCK_MONOTONIC: when its turns begin; 0: an ordinary probe */
    uint32_t turn;               /* 0 or 1: when it works alone */
    char identity[DEVICE_IDENTITY_SIZE];   /* of the device to be measured; others are left alone */
};

/* Two devices of one platform, see planner/probe_hop.h. */
struct probe_pair {
    char identities[2][DEVICE_IDENTITY_SIZE];   /* "": nothing of this */
};

/* A matrix of the model, or one like it. */
struct probe_shape {
    enum tensor_type type;
    uint32_t rows, columns;      /* columns a multiple of the type's block */
};

/* Instead of measuring: the kernels of one device, to be kept in a store. */
struct probe_programs {
    char store[4096];            /* path of the database; "": nothing of this */
    char identity[DEVICE_IDENTITY_SIZE];
    /* As in struct ops_options of kernels/ops.h. */
    bool weight_types[TENSOR_TYPE_COUNT], packed_types[TENSOR_TYPE_COUNT], embed_types[TENSOR_TYPE_COUNT];
    bool gemm_types[TENSOR_TYPE_COUNT];
    uint64_t most_rows;          /* of a matrix */
};

struct probe_request {
    bool quick;                  /* list and prove only: for devices measured before */
    double timeout_s;            /* for a driver to list its devices; twice that for each step with a
                                  * device, which may compile; 0: 30 */

    /* What to measure; unused where `quick`. */
    uint32_t shape_count;
    struct probe_shape shapes[PROBE_MOST_SHAPES];
    uint64_t token_bytes;        /* of weights that a token reads; 0: as many as is sensible */
    enum numeric_class numeric;
    enum kv_type kv_type;
    uint32_t head_count, kv_head_count, head_dim;   /* 0: attention is not measured */
    uint32_t prefill_tokens;     /* tokens of a pass; 0: 64 */

    /* A CPU whose "stream" is slower (B/s) is proved but not measured. probe_survey() raises it
     * to an eighth of the fastest CPU found before, unless `measures_slow`: a software renderer
     * may take minutes to compile what no plan will use that does not name it. */
    double least_cpu_stream;
    bool measures_slow;
    struct probe_together together;
    struct probe_pair hop;       /* instead of measuring one device */

    struct probe_programs programs;   /* for numeric and kv_type; not by probe_survey() */

    /* Told what is being done, as a phrase; may be NULL. */
    void (*progress)(void *context, const char *what);
    void *progress_context;
    const volatile sig_atomic_t *interrupted;       /* ends the survey where not 0; may be NULL */
};

/* "q4_0" for rows as files have them, "q4_0/r16" for the packed layout. */
void probe_format(enum tensor_type type, enum weight_layout layout, char format[16]);

/* What was measured of the device at the same index of the list:
 *   "stream"    B/s   reading 4 MiB with a plain kernel; measured even where `quick`
 *   "launch"    s     a launch in a queue of many
 *   "finish"    s     a launch that is waited for
 *   "hop"       s     a copy of 4 KiB to or from the host, waited for
 *   "copy"      B/s   the same for 16 MiB, the slower direction
 *   "decode"    B/s   weights of `format` times one token; `format` is probe_format()'s
 *   "prefill"   op/s  weights of `format` times prefill_tokens tokens; "f16/clblast": by CLBlast,
 *                     on devices that are no CPU
 *   "kv"        B/s   keys and values read by the attention of one token
 *   "attention" op/s  attention of prefill_tokens tokens
 *   "memory"    B     allocated and touched; only where memory is the device's own
 *   "handover"  s     the residual vector from one of two devices to the other, see planner/probe_hop.h; only there
 *   "alone", "together"  B/s  "decode" while the other device of a pair is idle or works; only there */
struct probe_measured {
    struct probe_value *values;
    uint32_t count;
};
struct probe_results {
    struct probe_measured *devices;
    uint32_t count;
};

/* Survey the machine. `devices` is named and sorted by device_name_all(); after the
 * devices come the drivers of which none could be listed: platform is the name of
 * the .icd file, name and short_name are "", usable is false. A machine without
 * drivers gives an empty list and true. The caller releases both, also on failure. */
bool probe_survey(const struct probe_request *request, struct device_list *devices,
                  struct probe_results *results, struct error *err);
void probe_results_release(struct probe_results *results);

/* The same silicon may be offered by several platforms: set alias_of of the slower
 * ones, by the fastest "decode" where all of them have one, else by "stream". Devices
 * of one platform are never aliases: its driver was told to show them. probe_survey() does this;
 * call it again after filling in figures that the store remembered. */
void probe_mark_aliases(struct device_list *devices, const struct probe_results *results);

#endif
