#include "kernels/kernel_program.h"

#include "common/embedded.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct embedded_file *find_source(const char *name) {
    for (const struct embedded_file *file = embedded_kernels; file->name; file++)
        if (!strcmp(file->name, name))
            return file;
    return NULL;
}

/* "-D A -D B", and what this device needs to round division and square root
 * correctly. The same text for the same device: it is part of a driver's cache key.
 * Without -w, PoCL counts on stderr its warnings that vectors of 16 floats depend
 * on the CPU's features, which its own library is built for. */
static bool write_options(cl_device_id id, const char *defines, char *options, size_t size) {
    cl_device_fp_config config = 0;
    clGetDeviceInfo(id, CL_DEVICE_SINGLE_FP_CONFIG, sizeof config, &config, NULL);
    size_t used = (size_t)snprintf(options, size, "-cl-std=CL1.2 -w%s",
                                   config & CL_FP_CORRECTLY_ROUNDED_DIVIDE_SQRT
                                       ? " -cl-fp32-correctly-rounded-divide-sqrt" : "");
    while (used < size && *defines) {
        int length = (int)strcspn(defines, " ");
        used += (size_t)snprintf(options + used, size - used, " -D %.*s", length, defines);
        defines += length;
        defines += strspn(defines, " ");
    }
    return used < size;
}

static void report_build(cl_program program, cl_device_id id, const char *name, cl_int code,
                         struct error *err) {
    char head[480] = "the driver gave no log";
    size_t size = 0;
    if (clGetProgramBuildInfo(program, id, CL_PROGRAM_BUILD_LOG, 0, NULL, &size) == CL_SUCCESS && size > 1) {
        char *log = malloc(size);
        if (log && clGetProgramBuildInfo(program, id, CL_PROGRAM_BUILD_LOG, size, log, NULL) == CL_SUCCESS)
            snprintf(head, sizeof head, "%.*s", (int)(size - 1), log);
        free(log);
    }
    for (char *c = head; *c; c++)
        if (*c == '\n')
            *c = ' ';
    error_set(err, ERROR_FAILED, "cannot build '%s' (%s): %s", name, opencl_error_name(code), head);
}

cl_program kernel_program_build(cl_context context, cl_device_id id, const char *name,
                                const char *defines, struct error *err) {
    const struct embedded_file *source = find_source(name);
    char options[256];
    if (!source) {
        error_set(err, ERROR_FAILED, "cannot build '%s': no such source in this program", name);
        return NULL;
    }
    if (!write_options(id, defines, options, sizeof options)) {
        error_set(err, ERROR_FAILED, "cannot build '%s': its options are too long", name);
        return NULL;
    }
    cl_int code;
    /* The API takes pointers to non-const pointers and does not write. */
    cl_program program = clCreateProgramWithSource(context, (cl_uint)source->line_count,
                                                   (const char **)(void *)source->lines, NULL, &code);
    if (!program) {
        opencl_failed(err, code, "cannot create the program '%s'", name);
        return NULL;
    }
    code = clBuildProgram(program, 1, &id, options, NULL, NULL);
    if (code != CL_SUCCESS) {
        report_build(program, id, name, code, err);
        clReleaseProgram(program);
        return NULL;
    }
    return program;
}
