/* probe_measure: how fast a device runs our own kernels, inside a child of the probe.
 *
 * Every figure is the best of a few batches, each long enough for the clock; a slow
 * device gets less work, so that no figure takes more than about two seconds. */
#ifndef PLANNER_PROBE_MEASURE_H
#define PLANNER_PROBE_MEASURE_H

#include "common/opencl.h"
#include "planner/probe.h"

struct probe_bench {
    const struct device *info;
    cl_context context;
    cl_device_id id;
    cl_command_queue queue;
    const struct probe_request *request;
    /* Where steps and values go; `value` is borrowed. */
    void (*step)(const struct probe_bench *bench, const char *what);
    void (*value)(const struct probe_bench *bench, const struct probe_value *value);
};

/* One batch: enqueue the work `count` times; do not wait. */
typedef bool probe_work(void *context, uint32_t count, struct error *err);

/* Seconds of one piece of work, after a warm-up. False: the driver failed. */
bool probe_time(const struct probe_bench *bench, probe_work *work, void *context, double *seconds,
                struct error *err);

/* A first idea of the same from a single run. */
bool probe_time_once(const struct probe_bench *bench, probe_work *work, void *context, double *seconds,
                     struct error *err);

/* Everything but "stream", see planner/probe.h. False: our kernels do not work there. */
bool probe_measure(const struct probe_bench *bench, struct error *err);

/* Parts of it: latencies and copies; matrices by type; attention. `ops` is a struct ops. */
struct ops;
bool probe_measure_copies(const struct probe_bench *bench, struct error *err);
bool probe_measure_matrices(const struct probe_bench *bench, struct ops *ops, struct error *err);
/* Products of one token in the turns that request->together gives. */
bool probe_measure_together(const struct probe_bench *bench, struct error *err);
bool probe_measure_attention(const struct probe_bench *bench, struct ops *ops, struct error *err);

/* A buffer whose every 32-bit word is `word`; NULL on failure. */
cl_mem probe_buffer(const struct probe_bench *bench, uint64_t bytes, uint32_t word, struct error *err);
void probe_release_buffer(cl_mem buffer);   /* NULL is fine */

void probe_report(const struct probe_bench *bench, const char *what, const char *format,
                  uint64_t working_set_bytes, double value, const char *unit);

#endif
