#include "common/plan_request.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

enum form { NUMBER, TEXT, KV_TYPE, FLAG };

static const struct { const char *option; enum form form; size_t offset; } table[PLAN_REQUEST_FIELDS] = {
    { "ctx", NUMBER, offsetof(struct plan_request, context) },
    { "prompt", NUMBER, offsetof(struct plan_request, prompt_tokens) },
    { "new", NUMBER, offsetof(struct plan_request, new_tokens) },
    { "micro-batch", NUMBER, offsetof(struct plan_request, micro_batch) },
    { "kv", KV_TYPE, offsetof(struct plan_request, kv_type) },
    { "weights", TEXT, offsetof(struct plan_request, weights) },
    { "policy", TEXT, offsetof(struct plan_request, policy) },
    { "rope", TEXT, offsetof(struct plan_request, rope) },
    { "devices", TEXT, offsetof(struct plan_request, devices) },
    { "exclude", TEXT, offsetof(struct plan_request, exclude) },
    { "max-memory", TEXT, offsetof(struct plan_request, max_memory) },
    { "max-buffer", TEXT, offsetof(struct plan_request, max_buffer) },
    { "pin", TEXT, offsetof(struct plan_request, pins) },
    { "forbid", TEXT, offsetof(struct plan_request, forbids) },
    { "slices", TEXT, offsetof(struct plan_request, slices) },
    { "stream", FLAG, offsetof(struct plan_request, stream) },
    { "dtype", TEXT, offsetof(struct plan_request, dtype) },
};

void plan_request_fields(const struct plan_request *request, struct request_field fields[PLAN_REQUEST_FIELDS]) {
    for (uint32_t i = 0; i < PLAN_REQUEST_FIELDS; i++) {
        const void *at = (const char *)request + table[i].offset;
        uint32_t number;
        fields[i] = (struct request_field){ .option = table[i].option, .is_number = table[i].form == NUMBER,
                                            .is_flag = table[i].form == FLAG };
        switch (table[i].form) {
        case NUMBER:
            memcpy(&number, at, sizeof number);
            if (number)
                snprintf(fields[i].value, sizeof fields[i].value, "%u", number);
            break;
        case TEXT:
            snprintf(fields[i].value, sizeof fields[i].value, "%s", (const char *)at);
            break;
        case KV_TYPE:
            snprintf(fields[i].value, sizeof fields[i].value, "%s", kv_type_name(request->kv_type));
            break;
        case FLAG:
            if (*(const bool *)at)
                snprintf(fields[i].value, sizeof fields[i].value, "on");
        }
    }
}
