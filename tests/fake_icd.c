/* fake_icd: OpenCL drivers that misbehave, for tests of the probe. The Makefile
 * builds one library for each of them:
 *   fake_icd_crash   dies of SIGSEGV while its platforms are listed
 *   fake_icd_hang    never returns from that
 *   fake_icd_noise   writes to stdout and stderr, then offers no platform */
#define CL_TARGET_OPENCL_VERSION 120
#define CL_USE_DEPRECATED_OPENCL_1_1_APIS
#include <CL/cl_ext.h>

#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

cl_int clIcdGetPlatformIDsKHR(cl_uint count, cl_platform_id *platforms, cl_uint *found) {
    (void)count, (void)platforms;
#ifdef FAKE_ICD_crash
    raise(SIGSEGV);
#endif
#ifdef FAKE_ICD_hang
    for (;;)
        pause();
#endif
#ifdef FAKE_ICD_noise
    printf("{\"kind\": \"device\", \"name\": \"from a driver that talks\"}\n");
    fflush(stdout);
    fprintf(stderr, "fake driver: no such hardware\n");
#endif
    if (found)
        *found = 0;
    return -1001;   /* CL_PLATFORM_NOT_FOUND_KHR */
}

/* The loader insists on finding these two before it asks for platforms. */
cl_int clGetPlatformInfo(cl_platform_id platform, cl_platform_info what, size_t size, void *value,
                         size_t *size_out) {
    (void)platform, (void)what, (void)size, (void)value, (void)size_out;
    return CL_INVALID_PLATFORM;
}

void *clGetExtensionFunctionAddress(const char *name) {
    if (!strcmp(name, "clIcdGetPlatformIDsKHR"))
        return (void *)(uintptr_t)clIcdGetPlatformIDsKHR;
    return strcmp(name, "clGetPlatformInfo") ? NULL : (void *)(uintptr_t)clGetPlatformInfo;
}
