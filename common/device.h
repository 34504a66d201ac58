/* device: what is known of one OpenCL device, as plain data.
 *
 * Filled by the probe's child process (planner) and by the runtime's own
 * enumeration; stored and compared without OpenCL. The identity fields decide
 * the hardware key. Memory sizes, driver and versions are not part of it: they
 * change under a stable machine, so a plan keeps them as preconditions. */
#ifndef COMMON_DEVICE_H
#define COMMON_DEVICE_H

#include "common/error.h"

#include <stddef.h>
#include <stdint.h>

enum device_type { DEVICE_GPU, DEVICE_IGPU, DEVICE_CPU, DEVICE_ACCELERATOR };
const char *device_type_name(enum device_type type);          /* "gpu", "igpu", "cpu", "accel" */
bool device_type_from_name(const char *name, enum device_type *type);

struct device {
    /* identity: in the hardware key */
    char platform[128];       /* CL_PLATFORM_NAME */
    uint32_t vendor_id;
    char name[256];           /* CL_DEVICE_NAME */
    enum device_type type;
    char uuid[33];            /* 32 hex digits where cl_khr_device_uuid answers; else "" */
    char pci[32];             /* "0000:03:00.0" where known; else "" */
    uint32_t ordinal;         /* among devices equal in all of the above, in order of enumeration */

    /* how to find it again */
    char icd[256];            /* path of the .icd file that brought it; "" where unknown */
    char short_name[16];      /* "gpu0", "igpu0", "cpu0": from the sorted identities, see device_name_all() */

    /* preconditions and properties */
    char driver[128];         /* CL_DRIVER_VERSION */
    char version[128];        /* CL_DEVICE_VERSION */
    uint64_t memory_bytes;    /* reported */
    uint64_t max_buffer_bytes;
    uint64_t alignment;       /* bytes, a power of two; CL_DEVICE_MEM_BASE_ADDR_ALIGN / 8, at least 64 */
    uint32_t compute_units;
    bool unified_memory;
    bool is_cpu_pool;         /* its memory is host RAM: CPUs and integrated GPUs */

    /* verdict of the probe */
    bool usable;
    char reason[256];         /* why not; "" where usable */
    char alias_of[16];        /* short name of a faster device on the same silicon; "" for none */
};

struct device_list {
    struct device *devices;
    uint32_t count;
};

void device_list_release(struct device_list *list);
bool device_list_append(struct device_list *list, const struct device *device);  /* copies; false: no memory */

/* Sort by identity (GPUs, integrated GPUs, CPUs, rest; then the identity text),
 * set the ordinals and the short names. False, the list untouched: no memory. */
bool device_name_all(struct device_list *list);
/* The same; place[i] [list->count] tells where device i was before. */
bool device_name_places(struct device_list *list, uint32_t *place);

/* Whether one named device comes before another in that order. */
bool device_precedes(const struct device *a, const struct device *b);

/* The identity as one line of text: platform|vendor|name|type|UUID or PCI address|ordinal.
 * DEVICE_IDENTITY_SIZE bytes always hold it. */
#define DEVICE_IDENTITY_SIZE 512
void device_identity(const struct device *device, char *text, size_t size);

/* SHA-256 over the sorted identity lines, 64 hex digits: the hardware key of a
 * plan that uses exactly these devices. */
bool device_hardware_key(const struct device *const *devices, uint32_t count, char key[65],
                         struct error *err);

#endif
