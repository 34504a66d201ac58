#include "planner/plan_context.h"

#include "common/host_memory.h"
#include "common/typed_command.h"
#include "common/weight_choice.h"
#include "planner/stream_rate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct model *open_planned_model(const struct plan *plan, const char *database, struct error *err) {
    struct model_source source = { 0 };
    struct model *model = NULL;
    if (model_source_resolve(&source, plan->model_path, err))
        model = model_open(&source, NULL, err);
    model_source_release(&source);
    if (!model) {
        error_prefix(err, "plan %lld needs its model", (long long)plan->id);
        return NULL;
    }
    char typed[TYPED_COMMAND_SIZE];
    typed_phiplan(typed, plan->model_path, &plan->request, 0, plan->name, database);
    if (!model_take_formats(model, plan, err))
        error_set(err, ERROR_STALE, "%s; plan again: %s", err->text, typed);
    else if (unit_count(model) == plan->unit_count && model_chosen_bytes(model) == plan->model_weight_bytes)
        return model;
    else
        error_set(err, ERROR_STALE, "the files of model '%s' changed since plan %lld was made: %llu bytes of weights "
                  "were %llu; plan again: %s", plan->model_name, (long long)plan->id,
                  (unsigned long long)model_chosen_bytes(model), (unsigned long long)plan->model_weight_bytes, typed);
    model_close(model);
    return NULL;
}

bool plan_context_open(struct plan_context *context, const struct command *command, const char *argument,
                       struct error *err) {
    *context = (struct plan_context){ 0 };
    context->store = command_open_store(command, STORE_EXISTING, err);
    context->plan = context->store ? command_find_plan_named(command, context->store, argument, err) : NULL;
    if (!context->plan || !host_memory_read(&context->host, err))
        return false;
    context->model = open_planned_model(context->plan, command->options->database, err);
    if (context->model && plan_streams(context->plan, PLAN_ANY_DEVICE))
        context->stream_bytes_per_s = stream_rate_measure(context->model, &context->host);
    return context->model &&
           machine_of_plan(context->store, context->model, context->plan, &context->machine, err);
}

void plan_context_release(struct plan_context *context) {
    machine_release(&context->machine);
    model_close(context->model);
    plan_free(context->plan);
    plan_store_close(context->store);
    *context = (struct plan_context){ 0 };
}

void plan_machine_rates(const struct plan *plan, const struct machine *machine,
                        struct device_rates rates[PLAN_MAX_DEVICES]) {
    for (uint32_t d = 0; d < plan->device_count; d++)
        for (uint32_t i = 0; i < machine->devices.count; i++)
            if (strcmp(machine->devices.devices[i].short_name, plan->devices[d].device.short_name) == 0)
                rates[d] = machine->rates[i];
}

void plan_context_rates(const struct plan_context *context, struct device_rates rates[PLAN_MAX_DEVICES]) {
    plan_machine_rates(context->plan, &context->machine, rates);
}

bool plan_context_make(const struct plan_context *context, const struct plan_request *request,
                       const char *required, struct made_plan *made, struct error *err) {
    struct plan_request copy = *request;
    struct sizing_source source = { .model = context->model, .devices = &context->machine.devices,
                                    .rates = context->machine.rates, .memory_bytes = context->machine.memory_bytes,
                                    .host = &context->host, .required_device = required,
                                    .stream_bytes_per_s = context->stream_bytes_per_s };
    struct text notes;
    text_init(&notes);
    bool ok = plan_make(&source, &copy, made, &notes, err);
    text_release(&notes);
    return ok;
}

bool plan_context_predict(struct plan_context *context, const struct calibration fit[PLAN_MAX_DEVICES],
                          struct error *err) {
    struct plan *plan = context->plan;
    struct workload workload = {
        .prompt_tokens = plan->request.prompt_tokens, .new_tokens = plan->request.new_tokens,
        .micro_batch = plan->request.micro_batch, .kv_type = plan->request.kv_type,
        .crosses_rope_switch = workload_crosses_switch(context->model, plan->request.prompt_tokens,
                                                       plan->request.new_tokens, plan->request.rope) };
    struct device_rates rates[PLAN_MAX_DEVICES];
    int32_t position[PLAN_MAX_DEVICES];
    struct placement placement = { .device = calloc(plan->unit_count, sizeof *placement.device),
                                   .slices = calloc(plan->shard_count + 1, sizeof *placement.slices) };
    bool *streamed = calloc(plan->unit_count, sizeof *streamed);
    if (!placement.device || !placement.slices || !streamed) {
        free(placement.device);
        free(placement.slices);
        free(streamed);
        return error_set(err, ERROR_FAILED, "cannot predict plan %lld: out of memory", (long long)plan->id);
    }
    struct forecast_request request = { .model = context->model, .workload = &workload, .placement = &placement,
                                        .context = plan->request.context, .device_count = plan->device_count,
                                        .streamed = streamed, .stream_bytes_per_s = COST_STREAM_BYTES_PER_S };
    if (context->stream_bytes_per_s > 0)
        request.stream_bytes_per_s = context->stream_bytes_per_s;
    plan_context_rates(context, rates);
    for (uint32_t d = 0; d < plan->device_count; d++) {
        if (fit)
            rates[d].fit = fit[d];
        request.rates[d] = &rates[d];
        request.shares_memory[d] = plan->devices[d].device.is_cpu_pool;
        position[d] = (int32_t)d;
    }
    for (uint32_t i = plan->shard_count; i-- > 0;) {
        const struct shard *shard = &plan->shards[i];
        placement.device[shard->unit] = shard->device;
        streamed[shard->unit] |= shard->residency == STREAMED;
    }
    for (uint32_t i = 0; i < plan->shard_count; i++) {
        const struct shard *shard = &plan->shards[i];
        bool is_whole = shard->part_begin == 0 && (i + 1 == plan->shard_count || shard[1].unit != shard->unit);
        if (!is_whole)
            placement.slices[placement.slice_count++] = (struct placement_slice){
                shard->unit, shard->device, { shard->part_begin, shard->part_end } };
    }
    struct forecast forecast = forecast_make(&request);
    forecast_write(&forecast, &request, position, plan);
    free(placement.device);
    free(placement.slices);
    free(streamed);
    return true;
}

void plan_device_names(const struct plan *plan, char *text, size_t size) {
    size_t used = 0;
    text[0] = '\0';
    for (uint32_t d = 0; d < plan->device_count && used < size; d++)
        if (plan_device_holds(plan, (int32_t)d))
            used += (size_t)snprintf(text + used, size - used, "%s%s", used ? " + " : "",
                                     plan->devices[d].device.short_name);
}
