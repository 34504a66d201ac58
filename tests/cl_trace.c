/* cl_trace: a library for LD_PRELOAD that stands between a program and libOpenCL,
 * counts what it does and can make a call fail.
 *
 *   CL_TRACE_OUT=FILE    totals as JSON, written when the process exits (not when a
 *                        signal kills it); "%p" becomes the process id. A process that
 *                        made no OpenCL call writes nothing.
 *   CL_TRACE_LOG=FILE    one line a call, in order of return; "%p" as above:
 *                        NUMBER NANOSECONDS FUNCTION key=value ... code=RESULT
 *   CL_TRACE_FAIL=LIST   comma-separated FUNCTION:N[+][:CODE]: the N-th call (from 1)
 *                        does not reach the driver and returns CODE; with '+' the later
 *                        ones neither. Without a code: what that function would say when
 *                        memory or the device is gone; with "crash" or "hang" it does so.
 *
 * Buffers belong to a context, not to a device. A buffer's bytes are counted for the
 * device of the first queue that uses it (read, write, copy, fill, map, or as an
 * argument of a launched kernel); before that, or if never used, as "unattributed". A
 * sub-buffer counts as its parent. The peak of a device is that of the bytes attributed.
 *
 * A program cannot mark its tokens, so there are totals only; what happens within a
 * token is computed from the log, in which each launch carries its kernel's name.
 *
 * Programs built with AddressSanitizer want ASAN_OPTIONS=verify_asan_link_order=0. */
#include "tests/cl_trace_table.h"

#include <inttypes.h>

#define REAL(name) ((__typeof__(&name))(uintptr_t)trace_real(CALL_##name))

/* ---- life and death ---- */

#define LIFE(Kind, type) \
    cl_int clRetain##Kind(type object) { \
        cl_int code; \
        if (!trace_refuse(CALL_clRetain##Kind, &code) && \
            (code = REAL(clRetain##Kind)(object)) == CL_SUCCESS) \
            trace_retained(object); \
        trace_log(CALL_clRetain##Kind, "object=%p code=%d", (void *)object, code); \
        return code; \
    } \
    cl_int clRelease##Kind(type object) { \
        cl_int code; \
        if (!trace_refuse(CALL_clRelease##Kind, &code)) { \
            trace_released(object); \
            code = REAL(clRelease##Kind)(object); \
        } \
        trace_log(CALL_clRelease##Kind, "object=%p code=%d", (void *)object, code); \
        return code; \
    }
LIFE(Context, cl_context)
LIFE(CommandQueue, cl_command_queue)
LIFE(MemObject, cl_mem)
LIFE(Program, cl_program)
LIFE(Kernel, cl_kernel)
LIFE(Event, cl_event)

/* Call a creator whose last argument is the code; `result` is NULL where refused. */
#define CREATE(result, code, name, ...) do { \
        if (!trace_refuse(CALL_##name, &code)) \
            result = REAL(name)(__VA_ARGS__, &code); \
    } while (0)
#define HAND_OUT(target, code) do { if (target) *(target) = (code); } while (0)

typedef void CL_CALLBACK context_notify(const char *, const void *, size_t, void *);
typedef void CL_CALLBACK program_notify(cl_program, void *);

cl_context clCreateContext(const cl_context_properties *properties, cl_uint count,
                           const cl_device_id *ids, context_notify *notify, void *user, cl_int *out) {
    cl_context context = NULL;
    cl_int code = CL_SUCCESS;
    CREATE(context, code, clCreateContext, properties, count, ids, notify, user);
    if (context)
        trace_created(CONTEXT, context);
    trace_log(CALL_clCreateContext, "context=%p devices=%u code=%d", (void *)context, count, code);
    HAND_OUT(out, code);
    return context;
}

cl_context clCreateContextFromType(const cl_context_properties *properties, cl_device_type type,
                                   context_notify *notify, void *user, cl_int *out) {
    cl_context context = NULL;
    cl_int code = CL_SUCCESS;
    CREATE(context, code, clCreateContextFromType, properties, type, notify, user);
    if (context)
        trace_created(CONTEXT, context);
    trace_log(CALL_clCreateContextFromType, "context=%p code=%d", (void *)context, code);
    HAND_OUT(out, code);
    return context;
}

cl_command_queue clCreateCommandQueue(cl_context context, cl_device_id id,
                                      cl_command_queue_properties properties, cl_int *out) {
    cl_command_queue queue = NULL;
    cl_int code = CL_SUCCESS;
    CREATE(queue, code, clCreateCommandQueue, context, id, properties);
    if (queue)
        trace_queue(queue, id);
    trace_log(CALL_clCreateCommandQueue, "queue=%p device=%p code=%d", (void *)queue, (void *)id, code);
    HAND_OUT(out, code);
    return queue;
}

cl_command_queue clCreateCommandQueueWithProperties(cl_context context, cl_device_id id,
                                                    const cl_queue_properties *properties, cl_int *out) {
    cl_command_queue queue = NULL;
    cl_int code = CL_SUCCESS;
    CREATE(queue, code, clCreateCommandQueueWithProperties, context, id, properties);
    if (queue)
        trace_queue(queue, id);
    trace_log(CALL_clCreateCommandQueueWithProperties, "queue=%p device=%p code=%d", (void *)queue,
              (void *)id, code);
    HAND_OUT(out, code);
    return queue;
}

cl_mem clCreateBuffer(cl_context context, cl_mem_flags flags, size_t size, void *host, cl_int *out) {
    cl_mem buffer = NULL;
    cl_int code = CL_SUCCESS;
    CREATE(buffer, code, clCreateBuffer, context, flags, size, host);
    if (buffer)
        trace_buffer(buffer, context, NULL, size, flags);
    trace_log(CALL_clCreateBuffer, "memory=%p context=%p bytes=%zu flags=0x%" PRIx64 " code=%d",
              (void *)buffer, (void *)context, size, (uint64_t)flags, code);
    HAND_OUT(out, code);
    return buffer;
}

cl_mem clCreateSubBuffer(cl_mem parent, cl_mem_flags flags, cl_buffer_create_type type,
                         const void *region, cl_int *out) {
    cl_mem buffer = NULL;
    cl_int code = CL_SUCCESS;
    const cl_buffer_region *part = region;
    size_t bytes = type == CL_BUFFER_CREATE_TYPE_REGION && part ? part->size : 0;
    CREATE(buffer, code, clCreateSubBuffer, parent, flags, type, region);
    if (buffer)
        trace_buffer(buffer, NULL, parent, bytes, flags);
    trace_log(CALL_clCreateSubBuffer, "memory=%p parent=%p bytes=%zu code=%d", (void *)buffer,
              (void *)parent, bytes, code);
    HAND_OUT(out, code);
    return buffer;
}

cl_program clCreateProgramWithSource(cl_context context, cl_uint count, const char **strings,
                                     const size_t *lengths, cl_int *out) {
    cl_program program = NULL;
    cl_int code = CL_SUCCESS;
    CREATE(program, code, clCreateProgramWithSource, context, count, strings, lengths);
    if (program)
        trace_created(PROGRAM, program);
    trace_log(CALL_clCreateProgramWithSource, "program=%p code=%d", (void *)program, code);
    HAND_OUT(out, code);
    return program;
}

cl_program clCreateProgramWithBinary(cl_context context, cl_uint count, const cl_device_id *ids,
                                     const size_t *lengths, const unsigned char **binaries,
                                     cl_int *status, cl_int *out) {
    cl_program program = NULL;
    cl_int code = CL_SUCCESS;
    CREATE(program, code, clCreateProgramWithBinary, context, count, ids, lengths, binaries, status);
    if (program)
        trace_created(PROGRAM, program);
    trace_log(CALL_clCreateProgramWithBinary, "program=%p code=%d", (void *)program, code);
    HAND_OUT(out, code);
    return program;
}

cl_program clLinkProgram(cl_context context, cl_uint count, const cl_device_id *ids, const char *options,
                         cl_uint input_count, const cl_program *inputs, program_notify *notify,
                         void *user, cl_int *out) {
    cl_program program = NULL;
    cl_int code = CL_SUCCESS;
    CREATE(program, code, clLinkProgram, context, count, ids, options, input_count, inputs, notify, user);
    if (program)
        trace_created(PROGRAM, program);
    trace_log(CALL_clLinkProgram, "program=%p code=%d", (void *)program, code);
    HAND_OUT(out, code);
    return program;
}

cl_int clBuildProgram(cl_program program, cl_uint count, const cl_device_id *ids, const char *options,
                      program_notify *notify, void *user) {
    cl_int code;
    if (!trace_refuse(CALL_clBuildProgram, &code))
        code = REAL(clBuildProgram)(program, count, ids, options, notify, user);
    trace_log(CALL_clBuildProgram, "program=%p code=%d", (void *)program, code);
    return code;
}

cl_int clCompileProgram(cl_program program, cl_uint count, const cl_device_id *ids, const char *options,
                        cl_uint header_count, const cl_program *headers, const char **names,
                        program_notify *notify, void *user) {
    cl_int code;
    if (!trace_refuse(CALL_clCompileProgram, &code))
        code = REAL(clCompileProgram)(program, count, ids, options, header_count, headers, names,
                                      notify, user);
    trace_log(CALL_clCompileProgram, "program=%p code=%d", (void *)program, code);
    return code;
}

cl_kernel clCreateKernel(cl_program program, const char *name, cl_int *out) {
    cl_kernel kernel = NULL;
    cl_int code = CL_SUCCESS;
    CREATE(kernel, code, clCreateKernel, program, name);
    if (kernel)
        trace_kernel(kernel, name);
    trace_log(CALL_clCreateKernel, "kernel=%p name=%s code=%d", (void *)kernel, name, code);
    HAND_OUT(out, code);
    return kernel;
}

cl_int clSetKernelArg(cl_kernel kernel, cl_uint index, size_t size, const void *value) {
    cl_int code;
    if (!trace_refuse(CALL_clSetKernelArg, &code))
        code = REAL(clSetKernelArg)(kernel, index, size, value);
    if (code == CL_SUCCESS)
        trace_argument(kernel, index, size, value);
    return code;   /* not in the log: a dozen for each launch would drown the rest */
}

cl_event clCreateUserEvent(cl_context context, cl_int *out) {
    cl_event event = NULL;
    cl_int code = CL_SUCCESS;
    CREATE(event, code, clCreateUserEvent, context);
    if (event)
        trace_created(EVENT, event);
    trace_log(CALL_clCreateUserEvent, "event=%p code=%d", (void *)event, code);
    HAND_OUT(out, code);
    return event;
}

cl_int clWaitForEvents(cl_uint count, const cl_event *events) {
    cl_int code;
    if (!trace_refuse(CALL_clWaitForEvents, &code))
        code = REAL(clWaitForEvents)(count, events);
    trace_log(CALL_clWaitForEvents, "events=%u code=%d", count, code);
    return code;
}

cl_int clFinish(cl_command_queue queue) {
    cl_int code;
    if (!trace_refuse(CALL_clFinish, &code))
        code = REAL(clFinish)(queue);
    trace_log(CALL_clFinish, "queue=%p code=%d", (void *)queue, code);
    return code;
}

cl_int clFlush(cl_command_queue queue) {
    cl_int code;
    if (!trace_refuse(CALL_clFlush, &code))
        code = REAL(clFlush)(queue);
    trace_log(CALL_clFlush, "queue=%p code=%d", (void *)queue, code);
    return code;
}

/* ---- commands ---- */

cl_int clEnqueueReadBuffer(cl_command_queue queue, cl_mem buffer, cl_bool blocking, size_t offset,
                           size_t size, void *target, cl_uint count, const cl_event *list,
                           cl_event *event) {
    cl_int code;
    if (!trace_refuse(CALL_clEnqueueReadBuffer, &code))
        code = REAL(clEnqueueReadBuffer)(queue, buffer, blocking, offset, size, target, count, list, event);
    if (code == CL_SUCCESS)
        trace_command(&(struct command){ .queue = queue, .buffers = { buffer }, .bytes_read = size,
                                        .is_blocking = blocking, .event = event });
    trace_log(CALL_clEnqueueReadBuffer, "queue=%p memory=%p bytes=%zu blocking=%u code=%d", (void *)queue,
              (void *)buffer, size, blocking, code);
    return code;
}

cl_int clEnqueueWriteBuffer(cl_command_queue queue, cl_mem buffer, cl_bool blocking, size_t offset,
                            size_t size, const void *source, cl_uint count, const cl_event *list,
                            cl_event *event) {
    cl_int code;
    if (!trace_refuse(CALL_clEnqueueWriteBuffer, &code))
        code = REAL(clEnqueueWriteBuffer)(queue, buffer, blocking, offset, size, source, count, list, event);
    if (code == CL_SUCCESS)
        trace_command(&(struct command){ .queue = queue, .buffers = { buffer }, .bytes_written = size,
                                        .is_blocking = blocking, .event = event });
    trace_log(CALL_clEnqueueWriteBuffer, "queue=%p memory=%p bytes=%zu blocking=%u code=%d", (void *)queue,
              (void *)buffer, size, blocking, code);
    return code;
}

cl_int clEnqueueReadBufferRect(cl_command_queue queue, cl_mem buffer, cl_bool blocking,
                                 const size_t *buffer_origin, const size_t *host_origin, const size_t *region,
                                 size_t buffer_row, size_t buffer_slice, size_t host_row, size_t host_slice,
                                 void *host, cl_uint count, const cl_event *list, cl_event *event) {
    cl_int code;
    size_t size = region ? region[0] * region[1] * region[2] : 0;
    if (!trace_refuse(CALL_clEnqueueReadBufferRect, &code))
        code = REAL(clEnqueueReadBufferRect)(queue, buffer, blocking, buffer_origin, host_origin, region, buffer_row,
                                               buffer_slice, host_row, host_slice, host, count, list, event);
    if (code == CL_SUCCESS)
        trace_command(&(struct command){ .queue = queue, .buffers = { buffer }, .bytes_read = size,
                                        .is_blocking = blocking, .event = event });
    trace_log(CALL_clEnqueueReadBufferRect, "queue=%p memory=%p bytes=%zu blocking=%u code=%d", (void *)queue,
              (void *)buffer, size, blocking, code);
    return code;
}

cl_int clEnqueueWriteBufferRect(cl_command_queue queue, cl_mem buffer, cl_bool blocking,
                                 const size_t *buffer_origin, const size_t *host_origin, const size_t *region,
                                 size_t buffer_row, size_t buffer_slice, size_t host_row, size_t host_slice,
                                 const void *host, cl_uint count, const cl_event *list, cl_event *event) {
    cl_int code;
    size_t size = region ? region[0] * region[1] * region[2] : 0;
    if (!trace_refuse(CALL_clEnqueueWriteBufferRect, &code))
        code = REAL(clEnqueueWriteBufferRect)(queue, buffer, blocking, buffer_origin, host_origin, region, buffer_row,
                                               buffer_slice, host_row, host_slice, host, count, list, event);
    if (code == CL_SUCCESS)
        trace_command(&(struct command){ .queue = queue, .buffers = { buffer }, .bytes_written = size,
                                        .is_blocking = blocking, .event = event });
    trace_log(CALL_clEnqueueWriteBufferRect, "queue=%p memory=%p bytes=%zu blocking=%u code=%d", (void *)queue,
              (void *)buffer, size, blocking, code);
    return code;
}

cl_int clEnqueueCopyBuffer(cl_command_queue queue, cl_mem source, cl_mem target, size_t source_offset,
                           size_t target_offset, size_t size, cl_uint count, const cl_event *list,
                           cl_event *event) {
    cl_int code;
    if (!trace_refuse(CALL_clEnqueueCopyBuffer, &code))
        code = REAL(clEnqueueCopyBuffer)(queue, source, target, source_offset, target_offset, size,
                                         count, list, event);
    if (code == CL_SUCCESS)
        trace_command(&(struct command){ .queue = queue, .buffers = { source, target }, .event = event });
    trace_log(CALL_clEnqueueCopyBuffer, "queue=%p memory=%p target=%p bytes=%zu code=%d", (void *)queue,
              (void *)source, (void *)target, size, code);
    return code;
}

cl_int clEnqueueFillBuffer(cl_command_queue queue, cl_mem buffer, const void *pattern, size_t pattern_size,
                           size_t offset, size_t size, cl_uint count, const cl_event *list,
                           cl_event *event) {
    cl_int code;
    if (!trace_refuse(CALL_clEnqueueFillBuffer, &code))
        code = REAL(clEnqueueFillBuffer)(queue, buffer, pattern, pattern_size, offset, size, count, list,
                                         event);
    if (code == CL_SUCCESS)
        trace_command(&(struct command){ .queue = queue, .buffers = { buffer }, .event = event });
    trace_log(CALL_clEnqueueFillBuffer, "queue=%p memory=%p bytes=%zu code=%d", (void *)queue,
              (void *)buffer, size, code);
    return code;
}

void *clEnqueueMapBuffer(cl_command_queue queue, cl_mem buffer, cl_bool blocking, cl_map_flags flags,
                         size_t offset, size_t size, cl_uint count, const cl_event *list,
                         cl_event *event, cl_int *out) {
    void *mapped = NULL;
    cl_int code = CL_SUCCESS;
    CREATE(mapped, code, clEnqueueMapBuffer, queue, buffer, blocking, flags, offset, size, count, list,
           event);
    if (code == CL_SUCCESS)
        trace_command(&(struct command){ .queue = queue, .buffers = { buffer }, .is_blocking = blocking,
                                        .event = event });
    trace_log(CALL_clEnqueueMapBuffer, "queue=%p memory=%p bytes=%zu blocking=%u code=%d", (void *)queue,
              (void *)buffer, size, blocking, code);
    HAND_OUT(out, code);
    return mapped;
}

cl_int clEnqueueUnmapMemObject(cl_command_queue queue, cl_mem buffer, void *mapped, cl_uint count,
                               const cl_event *list, cl_event *event) {
    cl_int code;
    if (!trace_refuse(CALL_clEnqueueUnmapMemObject, &code))
        code = REAL(clEnqueueUnmapMemObject)(queue, buffer, mapped, count, list, event);
    if (code == CL_SUCCESS)
        trace_command(&(struct command){ .queue = queue, .buffers = { buffer }, .event = event });
    trace_log(CALL_clEnqueueUnmapMemObject, "queue=%p memory=%p code=%d", (void *)queue, (void *)buffer, code);
    return code;
}

cl_int clEnqueueMigrateMemObjects(cl_command_queue queue, cl_uint object_count, const cl_mem *objects,
                                  cl_mem_migration_flags flags, cl_uint count, const cl_event *list,
                                  cl_event *event) {
    cl_int code;
    if (!trace_refuse(CALL_clEnqueueMigrateMemObjects, &code))
        code = REAL(clEnqueueMigrateMemObjects)(queue, object_count, objects, flags, count, list, event);
    if (code == CL_SUCCESS) {
        for (cl_uint i = 0; i < object_count; i++)
            trace_command(&(struct command){ .queue = queue, .buffers = { objects[i] } });
        trace_command(&(struct command){ .queue = queue, .event = event });
    }
    trace_log(CALL_clEnqueueMigrateMemObjects, "queue=%p objects=%u code=%d", (void *)queue, object_count,
              code);
    return code;
}

cl_int clEnqueueNDRangeKernel(cl_command_queue queue, cl_kernel kernel, cl_uint dimensions,
                              const size_t *offset, const size_t *global, const size_t *local,
                              cl_uint count, const cl_event *list, cl_event *event) {
    cl_int code;
    if (!trace_refuse(CALL_clEnqueueNDRangeKernel, &code))
        code = REAL(clEnqueueNDRangeKernel)(queue, kernel, dimensions, offset, global, local, count, list,
                                            event);
    if (code == CL_SUCCESS)
        trace_command(&(struct command){ .queue = queue, .kernel = kernel, .event = event });
    char name[KERNEL_NAME];
    trace_kernel_name(kernel, name);
    trace_log(CALL_clEnqueueNDRangeKernel, "queue=%p kernel=%p name=%s code=%d", (void *)queue,
              (void *)kernel, name, code);
    return code;
}

cl_int clEnqueueNativeKernel(cl_command_queue queue, void (CL_CALLBACK *function)(void *), void *args,
                             size_t size, cl_uint object_count, const cl_mem *objects,
                             const void **places, cl_uint count, const cl_event *list, cl_event *event) {
    cl_int code;
    if (!trace_refuse(CALL_clEnqueueNativeKernel, &code))
        code = REAL(clEnqueueNativeKernel)(queue, function, args, size, object_count, objects, places,
                                           count, list, event);
    if (code == CL_SUCCESS) {
        for (cl_uint i = 0; i < object_count; i++)
            trace_command(&(struct command){ .queue = queue, .buffers = { objects[i] } });
        trace_command(&(struct command){ .queue = queue, .event = event });
    }
    trace_log(CALL_clEnqueueNativeKernel, "queue=%p objects=%u code=%d", (void *)queue, object_count, code);
    return code;
}

#define ORDER(name) \
    cl_int name(cl_command_queue queue, cl_uint count, const cl_event *list, cl_event *event) { \
        cl_int code; \
        if (!trace_refuse(CALL_##name, &code)) \
            code = REAL(name)(queue, count, list, event); \
        if (code == CL_SUCCESS) \
            trace_command(&(struct command){ .queue = queue, .event = event }); \
        trace_log(CALL_##name, "queue=%p code=%d", (void *)queue, code); \
        return code; \
    }
ORDER(clEnqueueMarkerWithWaitList)
ORDER(clEnqueueBarrierWithWaitList)
