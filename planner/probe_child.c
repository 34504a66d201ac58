#include "planner/probe_child.h"

#include "common/opencl.h"
#include "db/plan_store.h"
#include "kernels/kernel_program.h"
#include "kernels/ops.h"
#include "planner/probe_hop.h"
#include "planner/probe_measure.h"
#include "planner/probe_protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

/* Drivers print what they like to stdout: the answers go to a descriptor of their
 * own. One child has one parent, hence the only state here. */
static FILE *answers;

static void say(const struct probe_message *message) {
    char *text = probe_message_text(message);
    if (!text || fprintf(answers, "%s\n", text) < 0 || fflush(answers) != 0)
        _exit(1);   /* nobody listens any more */
    free(text);
}

static void say_step(const struct probe_bench *bench, const char *what) {
    struct probe_message message = { .event = PROBE_STEP };
    (void)bench;
    snprintf(message.what, sizeof message.what, "%s", what);
    say(&message);
}

static void say_value(const struct probe_bench *bench, const struct probe_value *value) {
    (void)bench;
    if (isfinite(value->value) && value->value > 0)
        say(&(struct probe_message){ .event = PROBE_VALUE, .value = *value });
}

/* ---- the known answer ---- */

/* 4 MiB of input, read in lines of 16 values by LINES work-items. */
enum { LINES = 1024, ITEMS = 16 * LINES, COUNT = 64, LOCAL = 16 };

struct sum { const struct probe_bench *bench; cl_kernel kernel; };

static bool sum_work(void *context, uint32_t count, struct error *err) {
    const struct sum *sum = context;
    const size_t items = LINES, local = LOCAL;
    for (uint32_t i = 0; i < count; i++) {
        cl_int code = clEnqueueNDRangeKernel(sum->bench->queue, sum->kernel, 1, NULL, &items, &local, 0, NULL, NULL);
        if (code != CL_SUCCESS)
            return opencl_failed(err, code, "cannot launch the kernel with a known answer");
    }
    return true;
}

static uint32_t input_at(size_t index) {
    return (uint32_t)index * 2654435761u + 12345u;
}

/* See kernels/probe_sum.cl; the floats are small integers, so they are exact. */
static bool is_right(const uint32_t *sums, const float *fused) {
    for (size_t i = 0; i < ITEMS; i++) {
        uint32_t sum = 0, total = 0;
        for (size_t k = 0; k < COUNT; k++) {
            uint32_t value = input_at(k * ITEMS + i);
            sum += value;
            total += (uint32_t)(k & 3) * (value & 7);
        }
        if (sums[i] != sum || fused[i] != (float)total)
            return false;
    }
    return true;
}

/* *stream: bytes/s. */
static bool prove(const struct probe_bench *bench, double *stream, struct error *err) {
    uint32_t *input = malloc(ITEMS * COUNT * sizeof *input), *sums = malloc(ITEMS * sizeof *sums);
    float *fused = malloc(ITEMS * sizeof *fused);
    cl_mem x = NULL, sums_buffer = NULL, fused_buffer = NULL;
    cl_program program = NULL;
    cl_kernel kernel = NULL;
    cl_int code = CL_SUCCESS;
    bool fine = false;
    double seconds;
    if (!input || !sums || !fused) {
        error_set(err, ERROR_FAILED, "out of memory");
        goto cleanup;
    }
    for (size_t i = 0; i < ITEMS * COUNT; i++)
        input[i] = input_at(i);
    program = kernel_program_build(bench->context, bench->id, "kernels/probe_sum.cl", "", err);
    if (!program)
        goto cleanup;
    x = probe_buffer(bench, ITEMS * COUNT * sizeof *input, 0, err);
    sums_buffer = x ? probe_buffer(bench, ITEMS * sizeof *sums, 0, err) : NULL;
    fused_buffer = sums_buffer ? probe_buffer(bench, ITEMS * sizeof *fused, 0, err) : NULL;
    if (!fused_buffer)
        goto cleanup;
    const cl_int count = COUNT;
    kernel = clCreateKernel(program, "probe_sum", &code);
    if (code == CL_SUCCESS)
        code = clSetKernelArg(kernel, 0, sizeof count, &count);
    if (code == CL_SUCCESS)
        code = clSetKernelArg(kernel, 1, sizeof (cl_mem), &x);
    if (code == CL_SUCCESS)
        code = clSetKernelArg(kernel, 2, sizeof (cl_mem), &sums_buffer);
    if (code == CL_SUCCESS)
        code = clSetKernelArg(kernel, 3, sizeof (cl_mem), &fused_buffer);
    if (code == CL_SUCCESS)
        code = clEnqueueWriteBuffer(bench->queue, x, CL_TRUE, 0, ITEMS * COUNT * sizeof *input, input, 0, NULL, NULL);
    if (code != CL_SUCCESS) {
        opencl_failed(err, code, "cannot prepare the kernel with a known answer");
        goto cleanup;
    }
    struct sum sum = { bench, kernel };
    if (!probe_time(bench, sum_work, &sum, &seconds, err))
        goto cleanup;
    code = clEnqueueReadBuffer(bench->queue, sums_buffer, CL_TRUE, 0, ITEMS * sizeof *sums, sums, 0, NULL, NULL);
    if (code == CL_SUCCESS)
        code = clEnqueueReadBuffer(bench->queue, fused_buffer, CL_TRUE, 0, ITEMS * sizeof *fused, fused, 0, NULL, NULL);
    if (code != CL_SUCCESS) {
        opencl_failed(err, code, "cannot read the result of the kernel with a known answer");
        goto cleanup;
    }
    fine = is_right(sums, fused) || error_set(err, ERROR_FAILED, "it computes wrong results: a kernel with a "
                                              "known answer gave another one");
    *stream = ITEMS * COUNT * sizeof *input / seconds;
    if (fine)
        probe_report(bench, "stream", "", ITEMS * COUNT * sizeof *input, *stream, "B/s");

cleanup:
    if (kernel)
        clReleaseKernel(kernel);
    if (program)
        clReleaseProgram(program);
    probe_release_buffer(x);
    probe_release_buffer(sums_buffer);
    probe_release_buffer(fused_buffer);
    free(input);
    free(sums);
    free(fused);
    return fine;
}

/* ---- where drivers write ---- */

enum { CACHE_ROOM = 1 << 20 };   /* what a driver compiles for one program is smaller */

/* A driver that cannot write its files says at best so at the end of a log. PoCL's folder
 * is known: put what is wrong with it before the sentence of a program that was not built. */
static void blame_cache(struct error *err) {
    const char *folder = getenv("POCL_CACHE_DIR");
    char path[4200];
    if (!folder || !strstr(err->text, "cannot build") ||
        snprintf(path, sizeof path, "%s/phi-room-XXXXXX", folder) >= (int)sizeof path)
        return;
    int file = mkstemp(path);
    int reason = file < 0 ? errno : posix_fallocate(file, 0, CACHE_ROOM);
    if (file >= 0) {
        close(file);
        unlink(path);
    }
    /* Some file systems cannot tell in advance. */
    if (reason && reason != EINVAL && reason != EOPNOTSUPP)
        error_prefix(err, "'%.100s' cannot be written: %s; make room, or set XDG_CACHE_HOME to another disk", folder,
                     strerror(reason));
}

/* ---- devices ---- */

static bool try_device(const struct opencl_device *device, const struct probe_request *request,
                       struct error *err) {
    struct probe_bench bench = { .info = &device->info, .id = device->id, .request = request,
                                 .step = say_step, .value = say_value };
    if (!device->info.usable)
        return error_set(err, ERROR_FAILED, "%s", device->info.reason);
    bench.context = opencl_context(&device->id, 1, err);
    bench.queue = bench.context ? opencl_queue(bench.context, device->id, err) : NULL;
    bool fine = bench.queue != NULL;
    double stream = 0;
    if (fine && !(request->together.start_s > 0)) {
        say_step(&bench, "a kernel with a known answer");
        fine = prove(&bench, &stream, err);
    }
    if (fine && request->together.start_s > 0)
        fine = probe_measure_together(&bench, err);
    else if (fine && !request->quick && !(device->info.type == DEVICE_CPU && stream < request->least_cpu_stream))
        fine = probe_measure(&bench, err);
    if (bench.queue)
        clReleaseCommandQueue(bench.queue);
    if (bench.context)
        clReleaseContext(bench.context);
    return fine;
}

/* ---- kernels for a plan ---- */

/* The store with a word before each program, so that the parent sees that it goes on. */
struct talking_store { struct kernel_store inner; };

static unsigned char *find_and_say(void *context, const struct device *device, const struct program_key *key,
                                   size_t *size, struct error *reason) {
    const struct talking_store *store = context;
    say_step(NULL, key->name);
    return store->inner.find_program(store->inner.context, device, key, size, reason);
}

static bool keep_and_say(void *context, const struct device *device, const struct program_key *key,
                         const unsigned char *binary, size_t size, struct error *reason) {
    const struct talking_store *store = context;
    say_step(NULL, key->name);
    return store->inner.keep_program(store->inner.context, device, key, binary, size, reason);
}

static void find_variant_there(void *context, const struct device *device, const struct variant_key *key,
                               char variant[32]) {
    const struct talking_store *store = context;
    store->inner.find_variant(store->inner.context, device, key, variant);
}

static bool keep_variant_there(void *context, const struct device *device, const struct variant_key *key,
                               const char *variant, double seconds, struct error *reason) {
    const struct talking_store *store = context;
    return store->inner.keep_variant(store->inner.context, device, key, variant, seconds, reason);
}

/* The kernels of one class, as phirun's engine asks for them. */
static bool build_class(const struct opencl_device *device, const struct probe_request *request,
                        const struct kernel_store *store, cl_context context, cl_command_queue queue, bool is_exact,
                        struct error *err) {
    const struct probe_programs *programs = &request->programs;
    struct ops_options options = { .numeric = is_exact ? NUMERIC_FLOAT : request->numeric,
                                   .kv_type = is_exact ? KV_F32 : request->kv_type, .store = store,
                                   .device = &device->info, .most_rows = programs->most_rows };
    memcpy(options.weight_types, programs->weight_types, sizeof options.weight_types);
    memcpy(options.packed_types, programs->packed_types, sizeof options.packed_types);
    memcpy(options.embed_types, programs->embed_types, sizeof options.embed_types);
    if (!is_exact)
        memcpy(options.gemm_types, programs->gemm_types, sizeof options.gemm_types);
    struct ops *ops = ops_new(context, device->id, queue, &options, err);
    const struct ops_builds *builds = ops ? ops_builds(ops) : NULL;
    bool ok = ops && (builds->kept == builds->compiled || error_set(err, ERROR_FAILED, "%s", builds->reason));
    ops_free(ops);
    return ok;
}

static bool build_programs(const struct opencl_device *device, const struct probe_request *request,
                           struct error *err) {
    struct plan_store *plans = plan_store_open(request->programs.store, STORE_EXISTING, err);
    cl_context context = plans ? opencl_context(&device->id, 1, err) : NULL;
    cl_command_queue queue = context ? opencl_queue(context, device->id, err) : NULL;
    bool ok = false;
    if (queue) {
        struct talking_store talking = { plan_store_kernels(plans) };
        const struct kernel_store store = { .context = &talking, .find_program = find_and_say,
                                            .keep_program = talking.inner.keep_program ? keep_and_say : NULL,
                                            .find_variant = find_variant_there,
                                            .keep_variant = talking.inner.keep_variant ? keep_variant_there : NULL };
        ok = build_class(device, request, &store, context, queue, false, err) &&
             build_class(device, request, &store, context, queue, true, err);
    }
    if (queue)
        clReleaseCommandQueue(queue);
    if (context)
        clReleaseContext(context);
    plan_store_close(plans);
    return ok;
}

/* Of a pair each device has a child of its own; so has one whose programs are built. */
static bool is_wanted(const struct opencl_device *device, const struct probe_request *request) {
    const char *wanted = request->together.start_s > 0 ? request->together.identity
                       : request->programs.store[0] ? request->programs.identity : NULL;
    char identity[DEVICE_IDENTITY_SIZE];
    device_identity(&device->info, identity, sizeof identity);
    return !wanted || strcmp(identity, wanted) == 0;
}

/* Of two devices the figure goes with the first. */
static void measure_hop(const struct opencl_devices *found, const struct probe_request *request) {
    const struct opencl_device *pair[2] = { NULL, NULL };
    struct probe_message end = { .event = PROBE_END };
    struct error err = { 0 };
    uint32_t first = 0;
    for (uint32_t i = 0; i < found->count; i++)
        for (uint32_t side = 0; side < 2; side++) {
            char identity[DEVICE_IDENTITY_SIZE];
            device_identity(&found->devices[i].info, identity, sizeof identity);
            if (strcmp(identity, request->hop.identities[side]) != 0)
                continue;
            pair[side] = &found->devices[i];
            first = side == 0 ? i : first;
        }
    if (!pair[0] || !pair[1] || pair[0]->platform != pair[1]->platform)
        return;
    say(&(struct probe_message){ .event = PROBE_BEGIN, .index = first });
    struct probe_value value = { .what = "handover", .unit = "s" };
    end.usable = probe_hop_measure(pair, &value.value, &err);
    if (end.usable)
        say_value(NULL, &value);
    snprintf(end.reason, sizeof end.reason, "%s", err.text);
    say(&end);
}

static bool parse_number(const char *text, long *number) {
    char *end;
    errno = 0;
    *number = strtol(text, &end, 10);
    return !errno && end != text && !*end && *number >= 0;
}

int probe_child_main(int argc, char **argv) {
    struct probe_request request;
    struct opencl_devices found;
    struct error err = { 0 };
    long parent, first;
    if (argc != 6 || !parse_number(argv[2], &parent) || !parse_number(argv[3], &first)) {
        fprintf(stderr, "__probe is for phiplan's own use\n");
        return 2;
    }
    /* Die with the parent; it may have gone before this was said. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != (pid_t)parent)
        return 1;
    /* A crash is expected here: it need not leave a core file. */
    setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
    int own = fcntl(1, F_DUPFD_CLOEXEC, 10);
    answers = own >= 0 ? fdopen(own, "w") : NULL;
    if (!answers || dup2(2, 1) < 0) {
        perror("probe");
        return 1;
    }
    if (!probe_request_read(argv[5], &request, &err) || !opencl_enumerate(&found, argv[4], &err)) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    uint32_t count = found.count < PROBE_MOST_DEVICES ? found.count : PROBE_MOST_DEVICES;
    for (uint32_t i = 0; i < count; i++)
        say(&(struct probe_message){ .event = PROBE_DEVICE, .device = found.devices[i].info });
    if (request.hop.identities[0][0])
        measure_hop(&found, &request);
    for (uint32_t i = (uint32_t)first; i < count && !request.hop.identities[0][0]; i++) {
        if (!is_wanted(&found.devices[i], &request))
            continue;
        say(&(struct probe_message){ .event = PROBE_BEGIN, .index = i });
        struct probe_message end = { .event = PROBE_END };
        end.usable = request.programs.store[0] ? build_programs(&found.devices[i], &request, &err)
                                               : try_device(&found.devices[i], &request, &err);
        if (!end.usable) {
            blame_cache(&err);
            snprintf(end.reason, sizeof end.reason, "%s", err.text);
        }
        say(&end);
    }
    say(&(struct probe_message){ .event = PROBE_DONE });
    _exit(0);   /* a driver's own clean-up is not to spoil what was measured */
}
