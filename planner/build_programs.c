#include "planner/build_programs.h"

#include "common/opencl.h"
#include "common/weight_choice.h"
#include "kernels/ops.h"
#include "planner/probe_process.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATIENCE_S = 120 };   /* a program may be many kernels, and the machine busy */

/* What the matrices of the device are, as phirun's engine will find them. */
static bool note_kernels(const struct model *model, const struct plan *plan, uint32_t place,
                         struct probe_programs *programs, struct error *err) {
    struct ops_options options = { 0 };
    struct buffer_list list = { 0 };
    struct buffer_options buffers = {
        .context = plan->request.context, .micro_batch = plan->request.micro_batch, .sequence_count = 1,
        .logit_rows = 1, .kv_type = plan->request.kv_type, .numeric = plan->numeric,
        .alignment = plan->devices[place].device.alignment,
        .max_buffer_bytes = plan->devices[place].max_buffer_bytes,
        .window_bytes = window_limit(plan->devices[place].budget_bytes),
    };
    bool ok = true, is_converted;
    enum tensor_type type;
    for (uint32_t i = 0; ok && i < plan->shard_count; i++) {
        const struct shard *shard = &plan->shards[i];
        if (shard->device != (int32_t)place)
            continue;
        buffers.streamed = shard->residency == STREAMED;
        ok = shard_format_read(shard->format, &is_converted, &type, &buffers.layout) &&
             unit_part_buffers(model, unit_at(model, shard->unit),
                               (struct part_range){ shard->part_begin, shard->part_end }, &buffers, &list, err);
    }
    ops_note_buffers(&options, &list);
    buffer_list_release(&list);
    memcpy(programs->weight_types, options.weight_types, sizeof programs->weight_types);
    memcpy(programs->packed_types, options.packed_types, sizeof programs->packed_types);
    memcpy(programs->embed_types, options.embed_types, sizeof programs->embed_types);
    programs->most_rows = options.most_rows;
    return ok;
}

struct builder {
    const char *device;           /* short name */
    bool is_terminal, drawn;
    bool has_begun, is_built;
    char reason[256];
};

static bool hear(void *context, const struct probe_message *message) {
    struct builder *builder = context;
    switch (message->event) {
    case PROBE_BEGIN:
        builder->has_begun = true;
        break;
    case PROBE_STEP:
        if (builder->is_terminal) {
            fprintf(stderr, "\r\033[Kphiplan: building kernels for '%s': %.60s", builder->device, message->what);
            builder->drawn = true;
        }
        break;
    case PROBE_END:
        builder->is_built = message->usable;
        snprintf(builder->reason, sizeof builder->reason, "%s", message->reason);
        break;
    default:
        break;
    }
    return true;
}

static bool build_for(const struct command *command, struct probe_request *request, const struct device *device,
                      struct error *err) {
    struct builder builder = { .device = device->short_name, .is_terminal = isatty(STDERR_FILENO) };
    char reason[256] = "";
    char *text = probe_request_text(request);
    if (!text)
        return error_set(err, ERROR_FAILED, "cannot build kernels: out of memory");
    const struct probe_process process = { .icd = device->icd, .request = text, .timeout_s = PATIENCE_S,
                                           .interrupted = command->interrupted, .listen = hear,
                                           .context = &builder };
    enum probe_ending ending = probe_process_run(&process, reason, err);
    free(text);
    if (builder.drawn)
        fputs("\r\033[K", stderr);
    if (ending == PROBE_INTERRUPTED)
        return error_set(err, ERROR_INTERRUPTED, "interrupted while kernels were built; no plan was changed");
    if (ending == PROBE_NOT_STARTED)
        return false;
    if (!builder.is_built)
        command_say("the kernels of '%s' are not kept: %s; phirun will compile them, which takes time",
                    device->short_name, reason[0] ? reason : builder.has_begun ? builder.reason : "it is not there");
    return true;
}

bool build_programs(const struct command *command, const struct model *model, struct plan_store *store,
                    const struct plan *plan, struct error *err) {
    struct probe_request *request = calloc(1, sizeof *request);
    bool ok;
    if (!request)
        return error_set(err, ERROR_FAILED, "cannot build kernels: out of memory");
    request->numeric = plan->numeric;
    request->kv_type = plan->request.kv_type;
    snprintf(request->programs.store, sizeof request->programs.store, "%s", plan_store_path(store));
    /* Children inherit PoCL's cache folder. */
    ok = opencl_choose_icds(NULL, 0, err);
    for (uint32_t i = 0; ok && i < plan->device_count; i++) {
        const struct device *device = &plan->devices[i].device;
        if (!plan_device_holds(plan, (int32_t)i) || !device->icd[0])
            continue;
        device_identity(device, request->programs.identity, sizeof request->programs.identity);
        ok = note_kernels(model, plan, i, &request->programs, err) && plan_store_save_device(store, device, err) &&
             plan_store_gemm_types(store, device, request->programs.gemm_types, err) &&
             build_for(command, request, device, err);
    }
    opencl_shutdown();
    free(request);
    return ok;
}
