/* opencl: the door to the OpenCL ICD loader.
 *
 * Nobody else includes <CL/...>. ICDs are loaded by the first call made here:
 * opencl_choose_icds() must come before it. */
#ifndef COMMON_OPENCL_H
#define COMMON_OPENCL_H

#include "common/device.h"
#include "common/error.h"

#include <limits.h>

#undef CL_TARGET_OPENCL_VERSION
#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>
#include <CL/cl_ext.h>

/* "CL_OUT_OF_RESOURCES"; never NULL. */
const char *opencl_error_name(cl_int code);

/* err: "<what>: <name of the code> (<code>)". Always returns false. */
bool opencl_failed(struct error *err, cl_int code, const char *what, ...)
    __attribute__((format(printf, 3, 4)));

/* Make a private folder with links to just these .icd files, point
 * OCL_ICD_VENDORS at it, and give PoCL a cache folder it can write to
 * (POCL_CACHE_DIR, unless the user set it): $XDG_CACHE_HOME/phi/pocl, else a
 * temporary one. What was made is removed by opencl_shutdown(). Without files
 * (count 0) only the cache folder is arranged. */
bool opencl_choose_icds(const char *const *icd_paths, uint32_t count, struct error *err);
/* Removes the temporary folders and puts the environment back as it was, so that
 * a program started later chooses for itself; safe to call twice. */
void opencl_shutdown(void);

/* Remove all folders of this process, from any thread, where it ends at once: no other one is made. */
void opencl_abandon(void);

/* The private folder alone, for the environment of a child process; remove it when
 * the child has ended. An entry that does not end in ".icd" is a library. */
bool opencl_make_icd_folder(const char *const *icd_paths, uint32_t count, char folder[PATH_MAX],
                            struct error *err);
void opencl_remove_icd_folder(char folder[PATH_MAX]);   /* "" is fine; leaves "" */

/* The .icd files that the loader would read, absolute and sorted (where
 * OCL_ICD_VENDORS names a library: that). The caller frees them. */
bool opencl_list_icds(char ***paths, uint32_t *count, struct error *err);
void opencl_free_icds(char **paths, uint32_t count);

/* The variable by which the user selects drivers, "OCL_ICD_VENDORS" or "OPENCL_VENDOR_PATH"; NULL where
 * neither is set, or opencl_choose_icds() has put its own choice in its place. */
const char *opencl_selecting_variable(void);

/* An OpenCL device that is present in this process. */
struct opencl_device {
    struct device info;
    cl_platform_id platform;
    cl_device_id id;
};

struct opencl_devices {
    struct opencl_device *devices;
    uint32_t count;
};

/* Every device of every platform; platforms without devices are normal. `icd`
 * is copied into each info; may be NULL. info.ordinal and short_name are set as
 * device_name_all() would for the devices seen here, in the order of
 * enumeration. */
bool opencl_enumerate(struct opencl_devices *found, const char *icd, struct error *err);
void opencl_devices_release(struct opencl_devices *found);

/* The present device with the identity of `wanted`, or NULL. */
const struct opencl_device *opencl_find(const struct opencl_devices *found,
                                        const struct device *wanted);

/* One context for all the devices of a platform that a caller uses, one in-order
 * queue a device. The caller releases them with the OpenCL calls. */
cl_context opencl_context(const cl_device_id *ids, uint32_t count, struct error *err);
cl_command_queue opencl_queue(cl_context context, cl_device_id id, struct error *err);

#endif
