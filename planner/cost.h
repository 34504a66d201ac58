/* cost: predicted seconds of units on a device for a declared workload. Pure.
 *
 *   T = T_prefill(p) + sum over i < g of T_token(p + i)
 *   T_token(n) = bytes of weights / decode rate + keys(n) * bytes of a key / KV rate + launches
 *   T_prefill(p) = operations / prefill rate + attention operations / its rate + launches a pass
 *
 * keys(n) = min(n + 1, sliding window). Where the sequence crosses a LongRoPE switch,
 * the whole of it is run again once. Rates are what the probe measured of our own
 * kernels; where it measured nothing, figures typical of the type of device. */
#ifndef PLANNER_COST_H
#define PLANNER_COST_H

#include "common/device.h"
#include "common/unit_buffers.h"
#include "db/plan_store.h"

/* What runs have shown of a device, by `phiplan check`: factors on the seconds that the
 * rates give. The probe cannot know what a whole pass costs (caches, threads, other
 * work of the machine). */
struct calibration {
    double decode;                 /* on one token's matrices and launches */
    double keys;                   /* on its keys */
    double prefill;
    double start_s;                /* more for each unit in each pass of a prefill */
};

struct device_rates {
    double decode_bytes_per_s[TENSOR_TYPE_COUNT];   /* of stored weights, one token */
    double prefill_ops_per_s[TENSOR_TYPE_COUNT];    /* multiplications and additions, a micro-batch */
    double packed_decode_bytes_per_s[TENSOR_TYPE_COUNT];   /* the same in LAYOUT_R16; 0: not measured, so */
    double packed_prefill_ops_per_s[TENSOR_TYPE_COUNT];    /*   that the layout is not used               */
    double gemm_prefill_ops_per_s[TENSOR_TYPE_COUNT];      /* by CLBlast; 0: not measured */
    double kv_bytes_per_s;
    double attention_ops_per_s;
    double launch_s;
    double transfer_s;             /* start-up of a copy to or from the host */
    double transfer_bytes_per_s;
    uint32_t context;              /* devices of the same one hand the residual over without a copy; 0: none known */
    double handover_s;             /* by what such a hop takes, where there is a context */
    bool has_host_memory;          /* its memory is the host's: such a hop moves no bytes */
    double together;               /* part of its speed that is left while another device works on the same
                                    * memory; 0: not measured */
    bool measured;                 /* any decode rate is not a typical figure */
    bool knows_format[TENSOR_TYPE_COUNT];   /* of those, that it is of this very format */
    struct calibration fit;        /* 1, 1, 1, 0: none */
};

struct workload {
    uint32_t prompt_tokens;        /* at least 1 */
    uint32_t new_tokens;
    uint32_t micro_batch;
    enum kv_type kv_type;
    bool crosses_rope_switch;      /* see workload_crosses_switch() */
};

/* Figures typical of the device's type. */
void device_rates_assume(struct device_rates *rates, const struct device *device);

/* Replace what was measured: `what` is "decode" (B/s), "prefill" (op/s), each by weight
 * format, "kv" (B/s), "attention" (op/s), "launch" (s), "hop" (s), "copy" (B/s). Of several
 * working sets the one nearest to `working_set_bytes` counts. A weight format that
 * was not measured gets the rates of the one nearest in bytes that was; where none was,
 * "stream" (B/s) is a ceiling of decoding. */
void device_rates_apply(struct device_rates *rates, const struct probe_value *values, uint32_t count,
                        uint64_t working_set_bytes);

/* Whether passes of weights of this type, in rows, are to be multiplied by CLBlast. */
bool device_rates_prefer_gemm(const struct device_rates *rates, enum tensor_type type);

/* Take the calibration that fits `format` and the working set; none leaves it as it is. The
 * values are "fit.decode", "fit.keys", "fit.prefill" (unit "x"), "fit.start" (s). */
void device_rates_calibrate(struct device_rates *rates, const struct probe_value *values, uint32_t count,
                            const char *format, uint64_t working_set_bytes);

/* Bytes of weights that one token reads: all but the embedding. */
uint64_t cost_token_bytes(const struct model *model);

/* The format of most of them: what a calibration is kept under. People are told main_weight_type(). */
enum tensor_type cost_token_type(const struct model *model);

/* Whether the workload starts within LongRoPE's original context and ends beyond it. */
bool workload_crosses_switch(const struct model *model, uint32_t prompt_tokens, uint32_t new_tokens,
                             const char *rope);

struct unit_cost {
    double prefill_s;              /* the prompt */
    double rerun_s;                /* the second prefill at a LongRoPE switch; 0 without one */
    double token_s;                /* one token, without KV */
    double key_s;                  /* more for each key that the token sees */
};

/* In the layout that cost_best_layout() chooses, as plans do. */
struct unit_cost cost_unit(const struct model *model, struct unit unit, const struct device_rates *rates,
                           const struct workload *workload);

/* The same with the unit's matrices in this layout, where they have it and it was measured. */
struct unit_cost cost_unit_in(const struct model *model, struct unit unit, enum weight_layout layout,
                              const struct device_rates *rates, const struct workload *workload);

/* The same for some of the unit's parts, which run while other devices run the others.
 * Where they are not all, the exchange with those is in it: the residual and the
 * activation to the device, its columns of both back, see common/unit_slice.h. */
struct unit_cost cost_parts_in(const struct model *model, struct unit unit, struct part_range parts,
                               enum weight_layout layout, const struct device_rates *rates,
                               const struct workload *workload);

/* Where nothing was measured: what an ordinary SSD reads. */
#define COST_STREAM_BYTES_PER_S 1e9

/* What becomes of it where the unit's weights are read for every pass, `bytes_per_s`, while
 * others are computed with. */
struct unit_cost cost_streamed(const struct model *model, struct unit unit, const struct unit_cost *resident,
                               double bytes_per_s, const struct workload *workload);

/* What of that is the exchange, which no rate of the matrices changes: the prompt, and the
 * new tokens. */
double cost_exchange_prompt(const struct model *model, struct unit unit, struct part_range parts,
                            const struct device_rates *rates, const struct workload *workload);
double cost_exchange_tokens(const struct model *model, struct unit unit, struct part_range parts,
                            const struct device_rates *rates, const struct workload *workload);

/* LAYOUT_R16 where that makes the workload faster. */
enum weight_layout cost_best_layout(const struct model *model, struct unit unit, const struct device_rates *rates,
                                    const struct workload *workload);

/* Keys that one token at position n sees, and those of all new tokens together. */
double cost_keys(const struct model *model, double position);
double cost_workload_keys(const struct model *model, const struct workload *workload);

/* Seconds over the whole workload. */
double cost_total(const struct model *model, const struct unit_cost *cost, const struct workload *workload);

/* A hand-over of the residual vector; NULL rates: the host. One token, the prompt in
 * passes of a micro-batch, the whole workload. */
double cost_hop_token(const struct model *model, const struct device_rates *from,
                      const struct device_rates *to);
double cost_hop_prompt(const struct model *model, const struct device_rates *from,
                       const struct device_rates *to, const struct workload *workload);
double cost_hop_total(const struct model *model, const struct device_rates *from,
                      const struct device_rates *to, const struct workload *workload);

#endif
