#include "kernels/kernel_program.h"

#include "common/embedded.h"
#include "common/host_cpu.h"
#include "common/model.h"
#include "common/text.h"
#include "kernels/ops_internal.h"

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
 * correctly, and fma() where a GPU has no instruction for it.
 * The same text for the same device: it is part of a driver's cache key.
 * Without -w, PoCL counts on stderr its warnings that vectors of 16 floats depend
 * on the CPU's features, which its own library is built for. */
static bool write_options(cl_device_id id, const char *defines, char *options, size_t size) {
    cl_device_fp_config config = 0;
    clGetDeviceInfo(id, CL_DEVICE_SINGLE_FP_CONFIG, sizeof config, &config, NULL);
    size_t used = (size_t)snprintf(options, size, "-cl-std=CL1.2 -w%s%s",
                                   config & CL_FP_CORRECTLY_ROUNDED_DIVIDE_SQRT
                                       ? " -cl-fp32-correctly-rounded-divide-sqrt" : "",
                                   config & CL_FP_FMA || ops_is_cpu(id) ? "" : " -D FMA_OF_FLOATS");
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

static cl_program compile(cl_context context, cl_device_id id, const struct embedded_file *source,
                          const char *options, struct error *err) {
    cl_int code;
    /* The API takes pointers to non-const pointers and does not write. */
    cl_program program = clCreateProgramWithSource(context, (cl_uint)source->line_count,
                                                   (const char **)(void *)source->lines, NULL, &code);
    if (!program) {
        opencl_failed(err, code, "cannot create the program '%s'", source->name);
        return NULL;
    }
    code = clBuildProgram(program, 1, &id, options, NULL, NULL);
    if (code != CL_SUCCESS) {
        report_build(program, id, source->name, code, err);
        clReleaseProgram(program);
        return NULL;
    }
    return program;
}

/* The source of that name and what the compiler is told. */
static const struct embedded_file *prepare(cl_device_id id, const char *name, const char *defines, char *options,
                                           size_t size, struct error *err) {
    const struct embedded_file *source = find_source(name);
    if (!source)
        error_set(err, ERROR_FAILED, "cannot build '%s': no such source in this program", name);
    else if (!write_options(id, defines, options, size))
        error_set(err, ERROR_FAILED, "cannot build '%s': its options are too long", name);
    else
        return source;
    return NULL;
}

cl_program kernel_program_build(cl_context context, cl_device_id id, const char *name,
                                const char *defines, struct error *err) {
    char options[256];
    const struct embedded_file *source = prepare(id, name, defines, options, sizeof options, err);
    return source ? compile(context, id, source, options, err) : NULL;
}

/* ---- binaries ---- */

static bool write_key(cl_device_id id, const struct embedded_file *source, const char *options,
                      const struct program_request *request, struct program_key *key) {
    char version[256] = "", cpu[HOST_CPU_SIZE];
    struct text text;
    host_cpu_describe(cpu, sizeof cpu);
    clGetDeviceInfo(id, CL_DEVICE_VERSION, sizeof version - 1, version, NULL);
    text_init(&text);
    text_append_format(&text, "%s\n%s\n%s\n", version, cpu, options);
    for (size_t i = 0; i < source->line_count; i++)
        text_append(&text, source->lines[i]);
    bool ok = !text.failed;
    if (ok)
        sha256_hex(text.bytes, text.length, key->source_hash);
    text_release(&text);
    snprintf(key->name, sizeof key->name, "%s%s%s", request->source, request->defines[0] ? " " : "",
             request->defines);
    snprintf(key->launches, sizeof key->launches, "%s", request->launches);
    return ok;
}

/* NULL where the store has none or the driver refuses it; why is in built->why_compiled. */
static cl_program load(cl_context context, cl_device_id id, const char *options, const struct kernel_store *store,
                       const struct device *device, struct built_program *built) {
    struct error reason = { 0 };
    size_t size = 0;
    unsigned char *binary = store->find_program(store->context, device, &built->key, &size, &reason);
    snprintf(built->why_compiled, sizeof built->why_compiled, "%s", reason.text);
    if (!binary)
        return NULL;
    cl_int code, status = CL_SUCCESS;
    const unsigned char *const_binary = binary;
    cl_program program = clCreateProgramWithBinary(context, 1, &id, &size, &const_binary, &status, &code);
    if (code == CL_SUCCESS && status != CL_SUCCESS)
        code = status;
    if (program && code == CL_SUCCESS)
        code = clBuildProgram(program, 1, &id, options, NULL, NULL);
    free(binary);
    if (code == CL_SUCCESS)
        return program;
    if (program)
        clReleaseProgram(program);
    snprintf(built->why_compiled, sizeof built->why_compiled, "the driver refuses the stored binary of '%s': %s",
             built->key.name, opencl_error_name(code));
    return NULL;
}

static bool make_kernels(struct built_program *built, const struct program_request *request, struct error *err) {
    for (int i = 0; i < PROGRAM_MOST_KERNELS && request->kernels[i]; i++) {
        cl_int code;
        built->kernels[i] = clCreateKernel(built->program, request->kernels[i], &code);
        if (!built->kernels[i])
            return opencl_failed(err, code, "cannot create the kernel '%s'", request->kernels[i]);
    }
    return true;
}

void kernel_program_release(struct built_program *built) {
    for (int i = 0; i < PROGRAM_MOST_KERNELS; i++)
        if (built->kernels[i])
            clReleaseKernel(built->kernels[i]);
    if (built->program)
        clReleaseProgram(built->program);
    *built = (struct built_program){ 0 };
}

bool kernel_program_open(cl_context context, cl_device_id id, const struct program_request *request,
                         const struct kernel_store *store, const struct device *device,
                         struct built_program *built, struct error *err) {
    char options[256];
    *built = (struct built_program){ 0 };
    const struct embedded_file *source = prepare(id, request->source, request->defines, options, sizeof options, err);
    if (!source)
        return false;
    if (store && write_key(id, source, options, request, &built->key)) {
        struct error reason = { 0 };
        built->program = load(context, id, options, store, device, built);
        if (built->program && make_kernels(built, request, &reason))
            return true;
        struct program_key key = built->key;
        char why[sizeof built->why_compiled];
        snprintf(why, sizeof why, "%s", built->program ? reason.text : built->why_compiled);
        kernel_program_release(built);
        built->key = key;
        memcpy(built->why_compiled, why, sizeof why);
    }
    built->is_compiled = true;
    built->program = compile(context, id, source, options, err);
    if (built->program && make_kernels(built, request, err))
        return true;
    kernel_program_release(built);
    return false;
}

bool kernel_program_keep(const struct built_program *built, cl_device_id id, const struct kernel_store *store,
                         const struct device *device, struct error *reason) {
    cl_device_id ids[64];
    size_t sizes[64] = { 0 }, sizes_bytes = 0;
    unsigned char *binaries[64] = { 0 };
    cl_uint count = 0, place = 0;
    /* A program belongs to all devices of its context, and was built for one. */
    cl_int code = clGetProgramInfo(built->program, CL_PROGRAM_NUM_DEVICES, sizeof count, &count, NULL);
    if (code == CL_SUCCESS && count > sizeof ids / sizeof *ids)
        return error_set(reason, ERROR_FAILED, "cannot keep '%s': its context has %u devices", built->key.name, count);
    if (code == CL_SUCCESS)
        code = clGetProgramInfo(built->program, CL_PROGRAM_DEVICES, count * sizeof *ids, ids, NULL);
    if (code == CL_SUCCESS)
        code = clGetProgramInfo(built->program, CL_PROGRAM_BINARY_SIZES, sizeof sizes, sizes, &sizes_bytes);
    while (code == CL_SUCCESS && place < count && ids[place] != id)
        place++;
    /* PoCL lists all of them as devices, but has sizes and binaries for the one alone. */
    if (sizes_bytes == sizeof *sizes) {
        count = 1;
        place = 0;
    }
    if (code != CL_SUCCESS || place == count || sizes[place] == 0 || sizes[place] > PROGRAM_MOST_BYTES)
        return error_set(reason, ERROR_FAILED, "cannot keep '%s': its driver gives no binary", built->key.name);
    bool ok = (binaries[place] = malloc(sizes[place])) != NULL ||
              error_set(reason, ERROR_FAILED, "cannot keep '%s': out of memory", built->key.name);
    if (ok)   /* NULL entries are skipped */
        code = clGetProgramInfo(built->program, CL_PROGRAM_BINARIES, count * sizeof *binaries, binaries, NULL);
    if (ok && code != CL_SUCCESS)
        ok = opencl_failed(reason, code, "cannot take the binary of '%s'", built->key.name);
    ok = ok && store->keep_program(store->context, device, &built->key, binaries[place], sizes[place], reason);
    free(binaries[place]);
    return ok;
}
