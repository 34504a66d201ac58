#include "common/plan_request.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define DEFAULT_CONTEXT 4096u
#define DEFAULT_MICRO_BATCH 256u
#define DEFAULT_PROMPT 512u
#define DEFAULT_NEW 256u

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

static uint32_t smaller(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

static void default_text(char *field, size_t size, const char *value) {
    if (!field[0])
        snprintf(field, size, "%s", value);
}

void plan_request_fill(struct plan_request *request, uint32_t max_context) {
    if (!request->context)
        request->context = smaller(max_context, DEFAULT_CONTEXT);
    if (!request->micro_batch)
        request->micro_batch = DEFAULT_MICRO_BATCH;
    /* What is not given keeps the proportion where the context is short. */
    const uint32_t context = request->context, prompt_share = context - context / 3;
    if (!request->prompt_tokens)
        request->prompt_tokens = smaller(DEFAULT_PROMPT, request->new_tokens && request->new_tokens < context
                                                             ? context - request->new_tokens : prompt_share);
    if (!request->new_tokens)
        request->new_tokens = smaller(DEFAULT_NEW, context > request->prompt_tokens
                                                       ? context - request->prompt_tokens : 0);
    default_text(request->weights, sizeof request->weights, "keep");
    default_text(request->policy, sizeof request->policy, "fastest");
    default_text(request->rope, sizeof request->rope, "auto");
    default_text(request->slices, sizeof request->slices, "auto");
}

void plan_request_options(const struct plan_request *request, uint32_t context,
                          struct request_field fields[PLAN_REQUEST_FIELDS]) {
    struct plan_request wanted = *request, filled = { .context = request->context, .kv_type = KV_F16 };
    struct request_field known[PLAN_REQUEST_FIELDS];
    plan_request_fill(&filled, request->context);
    if (context)
        wanted.context = context;
    if (strcmp(wanted.policy, POLICY_IMPORT) == 0)
        wanted.policy[0] = '\0';
    /* Prompt and new tokens depend on each other: both or none. */
    if ((wanted.prompt_tokens == filled.prompt_tokens && wanted.new_tokens == filled.new_tokens) ||
        (uint64_t)wanted.prompt_tokens + wanted.new_tokens > wanted.context)
        wanted.prompt_tokens = wanted.new_tokens = 0;
    filled.prompt_tokens = filled.new_tokens = 0;
    filled.context = context ? 0 : DEFAULT_CONTEXT;
    plan_request_fields(&wanted, fields);
    plan_request_fields(&filled, known);
    for (uint32_t i = 0; i < PLAN_REQUEST_FIELDS; i++)
        if (strcmp(fields[i].value, known[i].value) == 0)
            fields[i].value[0] = '\0';
}
