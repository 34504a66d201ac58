/* cl_trace_table: what cl_trace knows of the program's OpenCL objects, its counts,
 * its list of calls that shall fail, and its files. Thread-safe. */
#ifndef TESTS_CL_TRACE_TABLE_H
#define TESTS_CL_TRACE_TABLE_H

#define CL_TARGET_OPENCL_VERSION 300
#define CL_USE_DEPRECATED_OPENCL_1_1_APIS
#define CL_USE_DEPRECATED_OPENCL_1_2_APIS
#include <CL/cl.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Every function that is wrapped, with its default code of failure. */
#define CALLS(X) \
    X(clCreateContext, CL_OUT_OF_HOST_MEMORY) X(clCreateContextFromType, CL_OUT_OF_HOST_MEMORY) \
    X(clRetainContext, CL_OUT_OF_RESOURCES) X(clReleaseContext, CL_OUT_OF_RESOURCES) \
    X(clCreateCommandQueue, CL_OUT_OF_RESOURCES) \
    X(clCreateCommandQueueWithProperties, CL_OUT_OF_RESOURCES) \
    X(clRetainCommandQueue, CL_OUT_OF_RESOURCES) X(clReleaseCommandQueue, CL_OUT_OF_RESOURCES) \
    X(clCreateBuffer, CL_MEM_OBJECT_ALLOCATION_FAILURE) \
    X(clCreateSubBuffer, CL_MEM_OBJECT_ALLOCATION_FAILURE) \
    X(clRetainMemObject, CL_OUT_OF_RESOURCES) X(clReleaseMemObject, CL_OUT_OF_RESOURCES) \
    X(clCreateProgramWithSource, CL_OUT_OF_HOST_MEMORY) \
    X(clCreateProgramWithBinary, CL_INVALID_BINARY) \
    X(clBuildProgram, CL_BUILD_PROGRAM_FAILURE) X(clCompileProgram, CL_COMPILE_PROGRAM_FAILURE) \
    X(clLinkProgram, CL_LINK_PROGRAM_FAILURE) \
    X(clRetainProgram, CL_OUT_OF_RESOURCES) X(clReleaseProgram, CL_OUT_OF_RESOURCES) \
    X(clCreateKernel, CL_OUT_OF_HOST_MEMORY) X(clSetKernelArg, CL_OUT_OF_RESOURCES) \
    X(clRetainKernel, CL_OUT_OF_RESOURCES) X(clReleaseKernel, CL_OUT_OF_RESOURCES) \
    X(clCreateUserEvent, CL_OUT_OF_HOST_MEMORY) X(clWaitForEvents, CL_OUT_OF_RESOURCES) \
    X(clRetainEvent, CL_OUT_OF_RESOURCES) X(clReleaseEvent, CL_OUT_OF_RESOURCES) \
    X(clEnqueueReadBuffer, CL_OUT_OF_RESOURCES) X(clEnqueueWriteBuffer, CL_OUT_OF_RESOURCES) \
    X(clEnqueueReadBufferRect, CL_OUT_OF_RESOURCES) X(clEnqueueWriteBufferRect, CL_OUT_OF_RESOURCES) \
    X(clEnqueueCopyBuffer, CL_OUT_OF_RESOURCES) X(clEnqueueFillBuffer, CL_OUT_OF_RESOURCES) \
    X(clEnqueueMapBuffer, CL_MAP_FAILURE) X(clEnqueueUnmapMemObject, CL_OUT_OF_RESOURCES) \
    X(clEnqueueMigrateMemObjects, CL_OUT_OF_RESOURCES) \
    X(clEnqueueNDRangeKernel, CL_OUT_OF_RESOURCES) X(clEnqueueNativeKernel, CL_OUT_OF_RESOURCES) \
    X(clEnqueueMarkerWithWaitList, CL_OUT_OF_RESOURCES) \
    X(clEnqueueBarrierWithWaitList, CL_OUT_OF_RESOURCES) \
    X(clFinish, CL_OUT_OF_RESOURCES) X(clFlush, CL_OUT_OF_RESOURCES)

enum call {
#define X(name, code) CALL_##name,
    CALLS(X)
#undef X
    CALL_COUNT
};

enum kind { CONTEXT, QUEUE, MEMORY, PROGRAM, KERNEL, EVENT, KIND_COUNT };

enum { KERNEL_NAME = 64 };   /* bytes kept of a kernel's name */

/* The driver's own function; after the first trace_refuse(). */
void *trace_real(enum call call);

/* Count the call. True: it shall fail with *code. */
bool trace_refuse(enum call call, cl_int *code);

/* One line of the log, where one is wanted. */
void trace_log(enum call call, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* After a successful call. `parent`: the buffer of a sub-buffer, else NULL. */
void trace_created(enum kind kind, void *handle);
void trace_queue(void *handle, cl_device_id id);
void trace_buffer(void *handle, cl_context context, void *parent, uint64_t bytes, cl_mem_flags flags);
void trace_kernel(void *handle, const char *name);
void trace_argument(void *kernel, uint32_t index, size_t size, const void *value);
void trace_retained(void *handle);

/* Before the driver's own release: after it another thread may get the address. */
void trace_released(void *handle);

void trace_kernel_name(void *kernel, char name[KERNEL_NAME]);

/* One command on a queue: attributes its buffers, counts its event and bytes. */
struct command {
    cl_command_queue queue;
    cl_mem buffers[2];
    uint64_t bytes_read, bytes_written;
    bool is_blocking;
    cl_kernel kernel;
    const cl_event *event;       /* where the driver put it; NULL: not asked for */
};

void trace_command(const struct command *command);

#endif
