#include "tests/cl_trace_table.h"

#include <dlfcn.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const struct { const char *name; cl_int code; } call_table[CALL_COUNT] = {
#define X(name, code) { #name, code },
    CALLS(X)
#undef X
};

static const char *const kind_names[] = { "context", "queue", "memory", "program", "kernel", "event" };

enum { KERNEL_ARGS = 64, BUCKETS = 4096, MOST_OWNERS = 64, MOST_RULES = 32 };

/* A context or a device, and the buffers counted for it. Entry 0 of either table
 * is for those that belong to none. */
struct owner {
    void *id;
    char platform[128], name[256];
    uint32_t ordinal;            /* among the platform's devices of that name */
    uint64_t buffers, bytes, host_pointer_bytes;   /* ever */
    uint64_t live_buffers, live_bytes, peak_bytes;
    uint64_t launches, bytes_read, bytes_written;
};

struct object {
    struct object *next;         /* in its bucket */
    void *handle;
    enum kind kind;
    uint32_t references;
    uint64_t bytes;              /* MEMORY */
    bool uses_host_pointer;
    void *parent;                /* a sub-buffer's buffer */
    uint32_t context, device;    /* indices of owners; device 0: none yet */
    char name[KERNEL_NAME];      /* KERNEL */
    void *args[KERNEL_ARGS];     /* KERNEL: buffers that are set */
};

enum failure { RETURN_CODE, CRASH, HANG };
struct rule { enum call call; uint64_t from; bool and_later; enum failure failure; cl_int code; };

/* All of it under `lock`. A preloaded library has nowhere else to keep its state. */
static struct {
    pthread_mutex_t lock;
    pthread_once_t once;
    void *real[CALL_COUNT];
    struct object *buckets[BUCKETS];
    struct owner contexts[MOST_OWNERS], devices[MOST_OWNERS];
    uint32_t context_count, device_count;
    uint64_t counts[CALL_COUNT], created[KIND_COUNT], released[KIND_COUNT];
    uint64_t blocking, refused, lines;
    struct rule rules[MOST_RULES];
    uint32_t rule_count;
    FILE *log;
} trace = { .lock = PTHREAD_MUTEX_INITIALIZER, .once = PTHREAD_ONCE_INIT };

static FILE *open_named(const char *variable) {
    const char *pattern = getenv(variable);
    char path[PATH_MAX];
    size_t used = 0;
    if (!pattern || !*pattern)
        return NULL;
    for (; *pattern && used + 24 < sizeof path; pattern++) {
        if (pattern[0] == '%' && pattern[1] == 'p') {
            used += (size_t)snprintf(path + used, sizeof path - used, "%ld", (long)getpid());
            pattern++;
        } else {
            path[used++] = *pattern;
        }
    }
    path[used] = '\0';
    FILE *file = fopen(path, "we");
    if (!file)
        perror(path);
    return file;
}

/* A mistake in the list must not let a test pass that expects a failure. */
static void read_rules(const char *list) {
    while (list && *list) {
        char name[64], plus = '\0';
        unsigned long long from = 0;
        int code = 0, used = 0;
        enum call call = CALL_COUNT;
        if (sscanf(list, "%63[A-Za-z]:%llu%n", name, &from, &used) == 2)
            for (call = 0; call < CALL_COUNT && strcmp(call_table[call].name, name);)
                call++;
        const char *rest = list + used;
        if (call < CALL_COUNT && *rest == '+')
            plus = *rest++;
        bool has_code = call < CALL_COUNT && sscanf(rest, ":%d%n", &code, &used) == 1;
        enum failure failure = RETURN_CODE;
        if (has_code)
            rest += used;
        else if (!strncmp(rest, ":crash", 6))
            failure = CRASH, rest += 6;
        else if (!strncmp(rest, ":hang", 5))
            failure = HANG, rest += 5;
        if (call == CALL_COUNT || !from || (*rest && *rest != ',') || trace.rule_count == MOST_RULES) {
            fprintf(stderr, "cl_trace: cannot read CL_TRACE_FAIL at '%s'\n", list);
            _exit(125);
        }
        trace.rules[trace.rule_count++] =
            (struct rule){ call, from, plus == '+', failure, has_code ? code : call_table[call].code };
        list = *rest ? rest + 1 : rest;
    }
}

static void start(void) {
    for (enum call call = 0; call < CALL_COUNT; call++)
        trace.real[call] = dlsym(RTLD_NEXT, call_table[call].name);
    trace.context_count = trace.device_count = 1;
    read_rules(getenv("CL_TRACE_FAIL"));
    trace.log = open_named("CL_TRACE_LOG");
}

bool trace_refuse(enum call call, cl_int *code) {
    bool is_refused = false;
    pthread_once(&trace.once, start);
    pthread_mutex_lock(&trace.lock);
    uint64_t number = ++trace.counts[call];
    for (uint32_t i = 0; i < trace.rule_count && !is_refused; i++) {
        const struct rule *rule = &trace.rules[i];
        is_refused = rule->call == call &&
                     (number == rule->from || (rule->and_later && number > rule->from));
        if (!is_refused)
            continue;
        *code = rule->code;
        if (rule->failure == CRASH) {
            signal(SIGSEGV, SIG_DFL);   /* PoCL catches it otherwise */
            raise(SIGSEGV);
        }
        if (rule->failure == HANG) {
            pthread_mutex_unlock(&trace.lock);
            for (;;)
                pause();
        }
    }
    if (!trace.real[call]) {     /* a loader older than the function */
        is_refused = true;
        *code = CL_INVALID_OPERATION;
    }
    trace.refused += is_refused;
    pthread_mutex_unlock(&trace.lock);
    return is_refused;
}

void trace_log(enum call call, const char *format, ...) {
    if (!trace.log)
        return;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    pthread_mutex_lock(&trace.lock);
    fprintf(trace.log, "%" PRIu64 " %lld%09ld %s ", ++trace.lines, (long long)now.tv_sec, now.tv_nsec,
            call_table[call].name);
    va_list args;
    va_start(args, format);
    vfprintf(trace.log, format, args);
    va_end(args);
    fputc('\n', trace.log);
    pthread_mutex_unlock(&trace.lock);
}

/* ---- objects; the lock is held ---- */

static struct object **slot_of(const void *handle) {
    uintptr_t bits = (uintptr_t)handle;
    struct object **slot = &trace.buckets[(bits >> 4 ^ bits >> 16) % BUCKETS];
    while (*slot && (*slot)->handle != handle)
        slot = &(*slot)->next;
    return slot;
}

static struct object *add_object(enum kind kind, void *handle) {
    struct object *object = calloc(1, sizeof *object);
    if (!object)
        abort();
    struct object **slot = slot_of(handle);
    object->next = *slot ? (*slot)->next : NULL;
    free(*slot);   /* a stale one under the same address: the driver freed it unseen */
    *slot = object;
    object->handle = handle;
    object->kind = kind;
    object->references = 1;
    trace.created[kind]++;
    return object;
}

static uint32_t context_index(cl_context context) {
    for (uint32_t i = 1; i < trace.context_count; i++)
        if (trace.contexts[i].id == context)
            return i;
    if (trace.context_count == MOST_OWNERS)
        return 0;
    trace.contexts[trace.context_count].id = context;
    return trace.context_count++;
}

/* Asks the driver; without the lock, as the driver may take its time. */
static void describe_device(cl_device_id id, struct owner *device) {
    cl_platform_id platform = NULL;
    cl_device_id ids[64];
    cl_uint count = 0;
    device->id = id;
    clGetDeviceInfo(id, CL_DEVICE_NAME, sizeof device->name - 1, device->name, NULL);
    clGetDeviceInfo(id, CL_DEVICE_PLATFORM, sizeof platform, &platform, NULL);
    clGetPlatformInfo(platform, CL_PLATFORM_NAME, sizeof device->platform - 1, device->platform, NULL);
    clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, 64, ids, &count);
    for (cl_uint i = 0; i < count && i < 64 && ids[i] != id; i++) {
        char name[256] = "";
        clGetDeviceInfo(ids[i], CL_DEVICE_NAME, sizeof name - 1, name, NULL);
        device->ordinal += !strcmp(name, device->name);
    }
}

static uint32_t device_index(const struct owner *device) {
    for (uint32_t i = 1; i < trace.device_count; i++)
        if (trace.devices[i].id == device->id)
            return i;
    if (trace.device_count == MOST_OWNERS)
        return 0;
    trace.devices[trace.device_count] = *device;
    return trace.device_count++;
}

static void count_buffer(struct owner *owner, const struct object *buffer) {
    owner->buffers++;
    owner->bytes += buffer->bytes;
    owner->host_pointer_bytes += buffer->uses_host_pointer ? buffer->bytes : 0;
    owner->live_buffers++;
    owner->live_bytes += buffer->bytes;
    if (owner->peak_bytes < owner->live_bytes)
        owner->peak_bytes = owner->live_bytes;
}

static void uncount_buffer(struct owner *owner, const struct object *buffer) {
    owner->live_buffers--;
    owner->live_bytes -= buffer->bytes;
}

static void attribute(void *handle, uint32_t device) {
    struct object *buffer = *slot_of(handle);
    while (buffer && buffer->kind == MEMORY && buffer->parent)
        buffer = *slot_of(buffer->parent);
    if (!buffer || buffer->kind != MEMORY || buffer->device || !device)
        return;
    /* It was never really unattributed: take it out of there altogether. */
    struct owner *none = &trace.devices[0];
    uncount_buffer(none, buffer);
    none->buffers--;
    none->bytes -= buffer->bytes;
    none->host_pointer_bytes -= buffer->uses_host_pointer ? buffer->bytes : 0;
    buffer->device = device;
    count_buffer(&trace.devices[device], buffer);
}

/* ---- steps that the wrappers share; each takes the lock ---- */

void trace_created(enum kind kind, void *handle) {
    pthread_mutex_lock(&trace.lock);
    struct object *object = add_object(kind, handle);
    if (kind == CONTEXT)
        object->context = context_index(handle);
    pthread_mutex_unlock(&trace.lock);
}

void trace_retained(void *handle) {
    pthread_mutex_lock(&trace.lock);
    struct object *object = *slot_of(handle);
    if (object)
        object->references++;
    pthread_mutex_unlock(&trace.lock);
}

void trace_released(void *handle) {
    pthread_mutex_lock(&trace.lock);
    struct object **slot = slot_of(handle), *object = *slot;
    if (object && --object->references == 0) {
        trace.released[object->kind]++;
        if (object->kind == MEMORY && !object->parent) {
            uncount_buffer(&trace.contexts[object->context], object);
            uncount_buffer(&trace.devices[object->device], object);
        } else if (object->kind == CONTEXT) {
            trace.contexts[object->context].id = NULL;
        }
        *slot = object->next;
        free(object);
    }
    pthread_mutex_unlock(&trace.lock);
}

void trace_queue(void *handle, cl_device_id id) {
    struct owner device = { 0 };
    describe_device(id, &device);
    pthread_mutex_lock(&trace.lock);
    add_object(QUEUE, handle)->device = device_index(&device);
    pthread_mutex_unlock(&trace.lock);
}

void trace_buffer(void *handle, cl_context context, void *parent, uint64_t bytes, cl_mem_flags flags) {
    pthread_mutex_lock(&trace.lock);
    struct object *buffer = add_object(MEMORY, handle);
    buffer->bytes = bytes;
    buffer->parent = parent;
    buffer->uses_host_pointer = flags & CL_MEM_USE_HOST_PTR;
    if (!parent) {
        buffer->context = context_index(context);
        count_buffer(&trace.contexts[buffer->context], buffer);
        count_buffer(&trace.devices[0], buffer);
    }
    pthread_mutex_unlock(&trace.lock);
}

void trace_command(const struct command *command) {
    pthread_mutex_lock(&trace.lock);
    const struct object *queue = *slot_of(command->queue);
    uint32_t device = queue ? queue->device : 0;
    for (int i = 0; i < 2; i++)
        if (command->buffers[i])
            attribute(command->buffers[i], device);
    if (command->kernel) {
        const struct object *kernel = *slot_of(command->kernel);
        for (int i = 0; kernel && i < KERNEL_ARGS; i++)
            if (kernel->args[i])
                attribute(kernel->args[i], device);
        trace.devices[device].launches++;
    }
    trace.devices[device].bytes_read += command->bytes_read;
    trace.devices[device].bytes_written += command->bytes_written;
    trace.blocking += command->is_blocking;
    if (command->event && *command->event)
        add_object(EVENT, *command->event);
    pthread_mutex_unlock(&trace.lock);
}

void trace_kernel(void *handle, const char *name) {
    pthread_mutex_lock(&trace.lock);
    snprintf(add_object(KERNEL, handle)->name, KERNEL_NAME, "%s", name);
    pthread_mutex_unlock(&trace.lock);
}

/* An argument the size of a handle is a buffer if its value is a live one. */
void trace_argument(void *kernel, uint32_t index, size_t size, const void *value) {
    void *handle = NULL;
    if (index >= KERNEL_ARGS)
        return;
    if (size == sizeof handle && value)
        memcpy(&handle, value, sizeof handle);
    pthread_mutex_lock(&trace.lock);
    struct object *object = *slot_of(kernel);
    const struct object *buffer = handle ? *slot_of(handle) : NULL;
    if (object && object->kind == KERNEL)
        object->args[index] = buffer && buffer->kind == MEMORY ? handle : NULL;
    pthread_mutex_unlock(&trace.lock);
}

void trace_kernel_name(void *kernel, char name[KERNEL_NAME]) {
    pthread_mutex_lock(&trace.lock);
    const struct object *object = *slot_of(kernel);
    snprintf(name, KERNEL_NAME, "%s", object ? object->name : "");
    pthread_mutex_unlock(&trace.lock);
}

void *trace_real(enum call call) {
    return trace.real[call];
}

/* ---- the totals ---- */

static void write_string(FILE *file, const char *text) {
    fputc('"', file);
    for (; *text; text++)
        if (*text == '"' || *text == '\\')
            fprintf(file, "\\%c", *text);
        else if ((unsigned char)*text >= 0x20)
            fputc(*text, file);
    fputc('"', file);
}

static void write_sizes(FILE *file, const struct owner *owner) {
    fprintf(file, "\"buffers\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"host_pointer_bytes\": %" PRIu64
            ", \"live_buffers\": %" PRIu64 ", \"live_bytes\": %" PRIu64 ", \"peak_bytes\": %" PRIu64,
            owner->buffers, owner->bytes, owner->host_pointer_bytes, owner->live_buffers,
            owner->live_bytes, owner->peak_bytes);
}

__attribute__((destructor))
static void finish(void) {
    uint64_t all = 0, builds = trace.counts[CALL_clBuildProgram] + trace.counts[CALL_clCompileProgram] +
                              trace.counts[CALL_clLinkProgram];
    if (trace.log)
        fclose(trace.log);
    trace.log = NULL;
    for (enum call call = 0; call < CALL_COUNT; call++)
        all += trace.counts[call];
    FILE *file = all ? open_named("CL_TRACE_OUT") : NULL;
    if (!file)
        return;
    fprintf(file, "{\n \"program_builds\": %" PRIu64 ", \"finishes\": %" PRIu64 ", \"event_waits\": %" PRIu64
            ", \"blocking_commands\": %" PRIu64 ", \"refused\": %" PRIu64 ",\n \"calls\": {", builds,
            trace.counts[CALL_clFinish], trace.counts[CALL_clWaitForEvents], trace.blocking, trace.refused);
    const char *comma = "";
    for (enum call call = 0; call < CALL_COUNT; call++)
        if (trace.counts[call]) {
            fprintf(file, "%s\"%s\": %" PRIu64, comma, call_table[call].name, trace.counts[call]);
            comma = ", ";
        }
    fputs("},\n \"objects\": {", file);
    for (enum kind kind = 0; kind < KIND_COUNT; kind++)
        fprintf(file, "%s\"%s\": {\"created\": %" PRIu64 ", \"released\": %" PRIu64 ", \"live\": %" PRIu64 "}",
                kind ? ", " : "", kind_names[kind], trace.created[kind], trace.released[kind],
                trace.created[kind] - trace.released[kind]);
    fputs("},\n \"contexts\": [", file);
    for (uint32_t i = 1; i < trace.context_count; i++) {
        fputs(i > 1 ? ",\n  {" : "\n  {", file);
        write_sizes(file, &trace.contexts[i]);
        fputc('}', file);
    }
    fputs("],\n \"devices\": [", file);
    for (uint32_t i = 1; i < trace.device_count; i++) {
        const struct owner *device = &trace.devices[i];
        fputs(i > 1 ? ",\n  {\"platform\": " : "\n  {\"platform\": ", file);
        write_string(file, device->platform);
        fputs(", \"name\": ", file);
        write_string(file, device->name);
        fprintf(file, ", \"ordinal\": %" PRIu32 ", ", device->ordinal);
        write_sizes(file, device);
        fprintf(file, ", \"launches\": %" PRIu64 ", \"bytes_read\": %" PRIu64 ", \"bytes_written\": %" PRIu64
                "}", device->launches, device->bytes_read, device->bytes_written);
    }
    fputs("],\n \"unattributed\": {", file);
    write_sizes(file, &trace.devices[0]);
    fputs("}\n}\n", file);
    fclose(file);
}
