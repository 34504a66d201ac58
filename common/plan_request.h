/* plan_request: the fields of a request one by one, under the names of phiplan's options. */
#ifndef COMMON_PLAN_REQUEST_H
#define COMMON_PLAN_REQUEST_H

#include "common/plan.h"

#define PLAN_REQUEST_FIELDS 17

/* What request->policy says of a plan by a map that was brought along. */
#define POLICY_IMPORT "import"

struct request_field {
    const char *option;         /* "max-memory" of --max-memory */
    bool is_number, is_flag;    /* neither: text */
    char value[520];            /* "" where it was not given; of a flag that was given "on" */
};

/* In the order of the options' help. */
void plan_request_fields(const struct plan_request *request, struct request_field fields[PLAN_REQUEST_FIELDS]);

/* Fill in what was not given, as phiplan does for a model of so many tokens. The KV type has no way
 * to say that it was not given; without one it is KV_F16. */
void plan_request_fill(struct plan_request *request, uint32_t max_context);

/* The fields that ask for such a plan once more: "" where phiplan fills the same in, and of the
 * policy where a map was followed. With another `context` (0: the same) --ctx is among them, and a
 * workload that does not fit it is not. */
void plan_request_options(const struct plan_request *request, uint32_t context,
                          struct request_field fields[PLAN_REQUEST_FIELDS]);

#endif
