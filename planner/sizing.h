/* sizing: a model, devices and a request as the numbers that placement works on.
 * Bytes come from unit_buffers (what phirun will allocate), seconds from cost. */
#ifndef PLANNER_SIZING_H
#define PLANNER_SIZING_H

#include "planner/cost.h"
#include "planner/device_choice.h"
#include "planner/device_map.h"
#include "planner/placement.h"

/* What a plan is made from; all borrowed. */
struct sizing_source {
    const struct model *model;
    const struct device_list *devices;
    const struct device_rates *rates;    /* [devices->count] */
    const uint64_t *memory_bytes;        /* [devices->count]: what can be had; NULL: as reported */
    const struct host_memory *host;
    const struct device_map *map;        /* where units go, brought along; NULL: the policy decides */
    double stream_bytes_per_s;           /* at which streamed weights can be read; 0: a typical figure */
    const char *required_device;         /* short name of one that must hold something; NULL: none */
};

struct sizing {
    const struct sizing_source *source;
    const struct plan_request *request;  /* complete: context, workload and micro-batch are set */
    struct device_choice choice;
    struct workload workload;
    enum numeric_class numeric;
    struct placement_input input;        /* devices in the order of choice.chosen */
    struct unit_cost *costs;             /* [chosen][unit] */
    enum weight_layout *layouts;         /* [chosen][unit] of the unit's matrices on that device */
    bool *streamed;                      /* [unit]; NULL: none is; see stream_placement.h */
};

/* Warnings for people are appended to `notes`. */
bool sizing_make(struct sizing *sizing, const struct sizing_source *source,
                 const struct plan_request *request, struct text *notes, struct error *err);
void sizing_release(struct sizing *sizing);

/* Fill in what the request leaves open (context, workload, micro-batch, policy, ...) and
 * check it against the model. 0 and "" mean not given. */
bool request_complete(struct plan_request *request, const struct model *model, struct error *err);

/* The options that unit_buffers wants for a unit on a chosen device. */
struct buffer_options sizing_buffer_options(const struct sizing *sizing, uint32_t chosen, uint32_t unit);
enum weight_layout sizing_layout(const struct sizing *sizing, uint32_t chosen, uint32_t unit);

/* What a placement puts on a chosen device: parts [unit_count]. */
void sizing_parts(const struct sizing *sizing, const struct placement *placement, uint32_t chosen,
                  struct part_range *parts);
/* Append every buffer of those parts there, scratch and staging too, as phirun makes them. */
bool sizing_list(const struct sizing *sizing, const struct part_range *parts, uint32_t chosen,
                 struct buffer_list *list, struct error *err);
/* Bytes of them; UINT64_MAX where they cannot be made. */
uint64_t sizing_bytes(const struct sizing *sizing, const struct part_range *parts, uint32_t chosen);

double sizing_stream_rate(const struct sizing *sizing);   /* B/s */

/* Stored bytes of a unit's weights. A tied embedding that the host gathers from the
 * file has none of its own: they are the head's. */
uint64_t sizing_stored_bytes(const struct model *model, uint32_t unit, bool on_host);

const struct device_rates *sizing_rates(const struct sizing *sizing, int32_t position);  /* NULL: the host */
const struct device *sizing_device(const struct sizing *sizing, uint32_t chosen);

#endif
