/* plan_request: the fields of a request one by one, under the names of phiplan's options. */
#ifndef COMMON_PLAN_REQUEST_H
#define COMMON_PLAN_REQUEST_H

#include "common/plan.h"

#define PLAN_REQUEST_FIELDS 17

struct request_field {
    const char *option;         /* "max-memory" of --max-memory */
    bool is_number, is_flag;    /* neither: text */
    char value[520];            /* "" where it was not given; of a flag that was given "on" */
};

/* In the order of the options' help. */
void plan_request_fields(const struct plan_request *request, struct request_field fields[PLAN_REQUEST_FIELDS]);

#endif
