#include "common/opencl.h"

#include "common/user_folder.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* cl_nv_device_attribute_query: tokens that Khronos' headers leave out */
#ifndef CL_DEVICE_PCI_BUS_ID_NV
#define CL_DEVICE_PCI_BUS_ID_NV 0x4008
#define CL_DEVICE_PCI_SLOT_ID_NV 0x4009
#define CL_DEVICE_PCI_DOMAIN_ID_NV 0x400A
#endif

#define MOST_PLATFORMS 64
#define MOST_DEVICES 256      /* of one platform */

/* ---- codes ---- */

const char *opencl_error_name(cl_int code) {
#define CODE(name) case name: return #name
    switch (code) {
    CODE(CL_SUCCESS); CODE(CL_DEVICE_NOT_FOUND); CODE(CL_DEVICE_NOT_AVAILABLE);
    CODE(CL_COMPILER_NOT_AVAILABLE); CODE(CL_MEM_OBJECT_ALLOCATION_FAILURE);
    CODE(CL_OUT_OF_RESOURCES); CODE(CL_OUT_OF_HOST_MEMORY); CODE(CL_PROFILING_INFO_NOT_AVAILABLE);
    CODE(CL_MEM_COPY_OVERLAP); CODE(CL_IMAGE_FORMAT_MISMATCH); CODE(CL_IMAGE_FORMAT_NOT_SUPPORTED);
    CODE(CL_BUILD_PROGRAM_FAILURE); CODE(CL_MAP_FAILURE); CODE(CL_MISALIGNED_SUB_BUFFER_OFFSET);
    CODE(CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST); CODE(CL_COMPILE_PROGRAM_FAILURE);
    CODE(CL_LINKER_NOT_AVAILABLE); CODE(CL_LINK_PROGRAM_FAILURE); CODE(CL_DEVICE_PARTITION_FAILED);
    CODE(CL_KERNEL_ARG_INFO_NOT_AVAILABLE); CODE(CL_INVALID_VALUE); CODE(CL_INVALID_DEVICE_TYPE);
    CODE(CL_INVALID_PLATFORM); CODE(CL_INVALID_DEVICE); CODE(CL_INVALID_CONTEXT);
    CODE(CL_INVALID_QUEUE_PROPERTIES); CODE(CL_INVALID_COMMAND_QUEUE); CODE(CL_INVALID_HOST_PTR);
    CODE(CL_INVALID_MEM_OBJECT); CODE(CL_INVALID_IMAGE_FORMAT_DESCRIPTOR); CODE(CL_INVALID_IMAGE_SIZE);
    CODE(CL_INVALID_SAMPLER); CODE(CL_INVALID_BINARY); CODE(CL_INVALID_BUILD_OPTIONS);
    CODE(CL_INVALID_PROGRAM); CODE(CL_INVALID_PROGRAM_EXECUTABLE); CODE(CL_INVALID_KERNEL_NAME);
    CODE(CL_INVALID_KERNEL_DEFINITION); CODE(CL_INVALID_KERNEL); CODE(CL_INVALID_ARG_INDEX);
    CODE(CL_INVALID_ARG_VALUE); CODE(CL_INVALID_ARG_SIZE); CODE(CL_INVALID_KERNEL_ARGS);
    CODE(CL_INVALID_WORK_DIMENSION); CODE(CL_INVALID_WORK_GROUP_SIZE); CODE(CL_INVALID_WORK_ITEM_SIZE);
    CODE(CL_INVALID_GLOBAL_OFFSET); CODE(CL_INVALID_EVENT_WAIT_LIST); CODE(CL_INVALID_EVENT);
    CODE(CL_INVALID_OPERATION); CODE(CL_INVALID_GL_OBJECT); CODE(CL_INVALID_BUFFER_SIZE);
    CODE(CL_INVALID_MIP_LEVEL); CODE(CL_INVALID_GLOBAL_WORK_SIZE); CODE(CL_INVALID_PROPERTY);
    CODE(CL_INVALID_IMAGE_DESCRIPTOR); CODE(CL_INVALID_COMPILER_OPTIONS); CODE(CL_INVALID_LINKER_OPTIONS);
    CODE(CL_INVALID_DEVICE_PARTITION_COUNT); CODE(CL_PLATFORM_NOT_FOUND_KHR);
    }
#undef CODE
    return "an OpenCL error code of its own";
}

bool opencl_failed(struct error *err, cl_int code, const char *what, ...) {
    char subject[sizeof ((struct error *)0)->text];
    va_list args;
    va_start(args, what);
    vsnprintf(subject, sizeof subject, what, args);
    va_end(args);
    return error_set(err, ERROR_FAILED, "%s: %s (%d)", subject, opencl_error_name(code), (int)code);
}

/* ---- ICD files and folders ---- */

static bool ends_with_icd(const char *name) {
    size_t length = strlen(name);
    return length > 4 && !strcmp(name + length - 4, ".icd");
}

static bool is_folder(const char *path) {
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

static int by_text(const void *left, const void *right) {
    return strcmp(*(char *const *)left, *(char *const *)right);
}

static bool add_path(char ***paths, uint32_t *count, const char *path) {
    char **grown = realloc(*paths, (*count + 1) * sizeof *grown);
    if (!grown)
        return false;
    *paths = grown;
    char resolved[PATH_MAX];
    /* A bare library name is for the dynamic linker to find, not a path. */
    bool is_path = strchr(path, '/') || ends_with_icd(path);
    grown[*count] = strdup(is_path && realpath(path, resolved) ? resolved : path);
    if (!grown[*count])
        return false;
    ++*count;
    return true;
}

static bool add_folder(char ***paths, uint32_t *count, const char *folder) {
    DIR *stream = opendir(folder);
    if (!stream)
        return true;   /* no folder, no drivers: the loader sees it so, too */
    bool fine = true;
    for (struct dirent *entry; fine && (entry = readdir(stream));) {
        char path[PATH_MAX];
        int length = snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (ends_with_icd(entry->d_name) && length > 0 && (size_t)length < sizeof path)
            fine = add_path(paths, count, path);
    }
    closedir(stream);
    return fine;
}

void opencl_free_icds(char **paths, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        free(paths[i]);
    free(paths);
}

/* The rules of ocl-icd, see libOpenCL(7): OCL_ICD_VENDORS is a folder, an .icd
 * file (first looked for beside the others) or a library; OPENCL_VENDOR_PATH
 * is another folder; an empty value counts as none. */
bool opencl_list_icds(char ***paths, uint32_t *count, struct error *err) {
    const char *folder = getenv("OPENCL_VENDOR_PATH");
    if (!folder || !*folder)
        folder = "/etc/OpenCL/vendors";
    const char *chosen = getenv("OCL_ICD_VENDORS");
    bool fine;
    *paths = NULL;
    *count = 0;
    if (!chosen || !*chosen) {
        fine = add_folder(paths, count, folder);
    } else if (is_folder(chosen)) {
        fine = add_folder(paths, count, chosen);
    } else {
        char beside[PATH_MAX];
        int length = snprintf(beside, sizeof beside, "%s/%s", folder, chosen);
        bool is_beside = ends_with_icd(chosen) && !strchr(chosen, '/') && length > 0 &&
                         (size_t)length < sizeof beside && access(beside, F_OK) == 0;
        fine = add_path(paths, count, is_beside ? beside : chosen);
    }
    if (!fine) {
        opencl_free_icds(*paths, *count);
        *paths = NULL;
        *count = 0;
        return error_set(err, ERROR_FAILED, "cannot list the OpenCL drivers: out of memory");
    }
    if (*count)
        qsort(*paths, *count, sizeof **paths, by_text);
    return true;
}

static int remove_entry(const char *path, const struct stat *status, int flag, struct FTW *walk) {
    (void)status, (void)flag, (void)walk;
    return remove(path);
}

/* Temporary folders are called STEM-NAMESPACE-PID-XXXXXX: when their process is gone, which
 * was killed then, the next one removes them. Process ids mean nothing in another namespace. */
static const char *const temporary_stems[] = { "phi-icd", "phi-pocl" };

enum { MOST_TEMPORARY = 8 };

/* Those of this process, so that they can be removed when it ends in another thread. More than the
 * table holds are left to the next start. */
static struct {
    pthread_mutex_t lock;
    char folders[MOST_TEMPORARY][PATH_MAX];   /* "": free */
} temporary = { .lock = PTHREAD_MUTEX_INITIALIZER };

static const char *temporary_root(void) {
    const char *root = getenv("TMPDIR");
    return root && *root ? root : "/tmp";
}

static unsigned long pid_namespace(void) {
    struct stat status;
    return stat("/proc/self/ns/pid", &status) == 0 ? (unsigned long)status.st_ino : 0;
}

static bool is_abandoned(const char *root, const char *name, char path[PATH_MAX]) {
    const unsigned long here = pid_namespace();
    for (size_t i = 0; i < sizeof temporary_stems / sizeof *temporary_stems; i++) {
        size_t length = strlen(temporary_stems[i]);
        unsigned long space;
        long pid;
        int end = 0;
        struct stat status;
        if (strncmp(name, temporary_stems[i], length) || sscanf(name + length, "-%lu-%ld-%n", &space, &pid, &end) != 2 ||
            !end || strlen(name + length + end) != 6 || space != here || pid <= 0)
            continue;
        int size = snprintf(path, PATH_MAX, "%s/%s", root, name);
        return kill((pid_t)pid, 0) != 0 && errno == ESRCH && size > 0 && size < PATH_MAX &&
               lstat(path, &status) == 0 && S_ISDIR(status.st_mode) && status.st_uid == geteuid();
    }
    return false;
}

static void remove_abandoned(const char *root) {
    DIR *stream = opendir(root);
    char path[PATH_MAX];
    for (struct dirent *entry; stream && (entry = readdir(stream));)
        if (is_abandoned(root, entry->d_name, path))
            opencl_remove_icd_folder(path);
    if (stream)
        closedir(stream);
}

static bool make_temporary(const char *stem, char folder[PATH_MAX], struct error *err) {
    const char *root = temporary_root();
    static bool is_swept;
    if (!is_swept)
        remove_abandoned(root);
    is_swept = true;
    int length = snprintf(folder, PATH_MAX, "%s/%s-%lu-%ld-XXXXXX", root, stem, pid_namespace(), (long)getpid());
    pthread_mutex_lock(&temporary.lock);
    bool is_made = length > 0 && length < PATH_MAX && mkdtemp(folder);
    size_t place = 0;
    while (place < MOST_TEMPORARY && temporary.folders[place][0])
        place++;
    if (is_made && place < MOST_TEMPORARY)
        memcpy(temporary.folders[place], folder, (size_t)length + 1);
    pthread_mutex_unlock(&temporary.lock);
    if (!is_made) {
        error_set(err, ERROR_FAILED, "cannot make the temporary folder '%s': %s; set TMPDIR to a place "
                  "that can be written", folder, strerror(errno));
        folder[0] = '\0';
        return false;
    }
    return true;
}

bool opencl_make_icd_folder(const char *const *icd_paths, uint32_t count, char folder[PATH_MAX],
                            struct error *err) {
    if (!make_temporary("phi-icd", folder, err))
        return false;
    for (uint32_t i = 0; i < count; i++) {
        char link[PATH_MAX + 32];
        snprintf(link, sizeof link, "%s/%03u.icd", folder, i);
        bool fine;
        if (ends_with_icd(icd_paths[i])) {
            fine = symlink(icd_paths[i], link) == 0;
        } else {   /* a library by itself: wrap it in a file of one line */
            FILE *file = fopen(link, "w");
            fine = file && fprintf(file, "%s\n", icd_paths[i]) > 0;
            if (file && fclose(file) != 0)
                fine = false;
        }
        if (!fine) {
            error_set(err, ERROR_FAILED, "cannot link the driver '%s' into '%s': %s", icd_paths[i],
                      folder, strerror(errno));
            opencl_remove_icd_folder(folder);
            return false;
        }
    }
    return true;
}

void opencl_remove_icd_folder(char folder[PATH_MAX]) {
    if (!folder[0])
        return;
    pthread_mutex_lock(&temporary.lock);
    nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    for (size_t i = 0; i < MOST_TEMPORARY; i++)
        if (!strcmp(temporary.folders[i], folder))
            temporary.folders[i][0] = '\0';
    pthread_mutex_unlock(&temporary.lock);
    folder[0] = '\0';
}

void opencl_abandon(void) {
    pthread_mutex_lock(&temporary.lock);   /* for good */
    for (size_t i = 0; i < MOST_TEMPORARY; i++)
        if (temporary.folders[i][0])
            nftw(temporary.folders[i], remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- what this process arranged in its environment ---- */

/* One variable that was changed, with what it was. The environment belongs to
 * the process, hence the only state of this file. */
struct borrowed_variable {
    const char *name;
    bool is_changed;
    char *before;               /* owned; NULL: was not set */
    char folder[PATH_MAX];      /* temporary, to be removed; "" for none */
};
static struct borrowed_variable vendors = { .name = "OCL_ICD_VENDORS" };
static struct borrowed_variable pocl_cache = { .name = "POCL_CACHE_DIR" };

static void give_back(struct borrowed_variable *variable) {
    if (variable->is_changed) {
        if (variable->before)
            setenv(variable->name, variable->before, 1);
        else
            unsetenv(variable->name);
    }
    free(variable->before);
    variable->before = NULL;
    variable->is_changed = false;
    opencl_remove_icd_folder(variable->folder);
}

static bool borrow(struct borrowed_variable *variable, const char *value, struct error *err) {
    const char *before = getenv(variable->name);
    char *copy = before ? strdup(before) : NULL;
    if ((before && !copy) || setenv(variable->name, value, 1) != 0) {
        free(copy);
        return error_set(err, ERROR_FAILED, "cannot set %s: out of memory", variable->name);
    }
    variable->before = copy;
    variable->is_changed = true;
    return true;
}

/* PoCL keeps compiled kernels in a folder and fails outright without one. */
static bool arrange_pocl_cache(struct error *err) {
    const char *present = getenv("POCL_CACHE_DIR");
    if (present && *present)
        return true;
    struct text path;
    text_init(&path);
    bool is_usable = user_folder_append(&path, USER_CACHE, "pocl/") && !path.failed &&
                     user_folder_make(path.bytes, "compiled kernels", NULL) &&
                     access(path.bytes, R_OK | W_OK | X_OK) == 0;
    if (is_usable)
        path.bytes[path.length - 1] = '\0';
    bool ok = (is_usable || make_temporary("phi-pocl", pocl_cache.folder, err)) &&
              borrow(&pocl_cache, is_usable ? path.bytes : pocl_cache.folder, err);
    text_release(&path);
    return ok;
}

bool opencl_choose_icds(const char *const *icd_paths, uint32_t count, struct error *err) {
    if (!arrange_pocl_cache(err))
        return false;
    if (!count)
        return true;
    give_back(&vendors);
    if (!opencl_make_icd_folder(icd_paths, count, vendors.folder, err))
        return false;
    if (!borrow(&vendors, vendors.folder, err)) {
        opencl_remove_icd_folder(vendors.folder);
        return false;
    }
    return true;
}

const char *opencl_selecting_variable(void) {
    static const char *const names[] = { "OCL_ICD_VENDORS", "OPENCL_VENDOR_PATH" };
    for (size_t i = 0; i < sizeof names / sizeof *names && !vendors.is_changed; i++) {
        const char *value = getenv(names[i]);
        if (value && *value)
            return names[i];
    }
    return NULL;
}

void opencl_shutdown(void) {
    give_back(&vendors);
    give_back(&pocl_cache);
}

/* ---- devices ---- */

/* Copy what a driver says as one clean line of ASCII, blanks around it cut: it goes
 * into JSON, the store and the identity, and must be the same text everywhere. */
static void copy_line(const char *source, char *target, size_t size) {
    size_t used = 0;
    while (*source && isspace((unsigned char)*source))
        source++;
    for (; *source && used + 1 < size; source++)
        target[used++] = (unsigned char)*source >= 0x7f ? '?' : (unsigned char)*source < 0x20 ? ' ' : *source;
    while (used && target[used - 1] == ' ')
        used--;
    target[used] = '\0';
}

/* "" where the driver does not answer. */
static void device_text(cl_device_id id, cl_device_info what, char *target, size_t size) {
    char answer[4096] = "";
    target[0] = '\0';
    if (clGetDeviceInfo(id, what, sizeof answer - 1, answer, NULL) == CL_SUCCESS)
        copy_line(answer, target, size);
}

/* 0 where the driver does not answer with exactly this size. */
static cl_uint device_uint(cl_device_id id, cl_device_info what) {
    cl_uint value = 0;
    size_t size = 0;
    return clGetDeviceInfo(id, what, sizeof value, &value, &size) == CL_SUCCESS &&
           size == sizeof value ? value : 0;
}

static cl_ulong device_ulong(cl_device_id id, cl_device_info what) {
    cl_ulong value = 0;
    size_t size = 0;
    return clGetDeviceInfo(id, what, sizeof value, &value, &size) == CL_SUCCESS &&
           size == sizeof value ? value : 0;
}

static void read_uuid(cl_device_id id, char uuid[33]) {
    unsigned char bytes[CL_UUID_SIZE_KHR] = { 0 };
    size_t size = 0;
    bool is_set = false;
    if (clGetDeviceInfo(id, CL_DEVICE_UUID_KHR, sizeof bytes, bytes, &size) != CL_SUCCESS ||
        size != sizeof bytes)
        return;
    for (size_t i = 0; i < sizeof bytes; i++) {
        snprintf(uuid + 2 * i, 3, "%02x", bytes[i]);
        is_set |= bytes[i] != 0;
    }
    if (!is_set)
        uuid[0] = '\0';
}

/* The common extension first; older drivers know only their vendor's token. */
static void read_pci(cl_device_id id, char *pci, size_t size) {
    cl_device_pci_bus_info_khr info = { 0 };
    size_t answered = 0;
    if (clGetDeviceInfo(id, CL_DEVICE_PCI_BUS_INFO_KHR, sizeof info, &info, &answered) == CL_SUCCESS &&
        answered == sizeof info) {
        snprintf(pci, size, "%04x:%02x:%02x.%x", info.pci_domain, info.pci_bus, info.pci_device,
                 info.pci_function);
        return;
    }
    char vendor[256];
    device_text(id, CL_DEVICE_VENDOR, vendor, sizeof vendor);
    cl_uint bus = 0, slot = 0;
    if (strstr(vendor, "NVIDIA") &&
        clGetDeviceInfo(id, CL_DEVICE_PCI_BUS_ID_NV, sizeof bus, &bus, NULL) == CL_SUCCESS &&
        clGetDeviceInfo(id, CL_DEVICE_PCI_SLOT_ID_NV, sizeof slot, &slot, NULL) == CL_SUCCESS)
        snprintf(pci, size, "%04x:%02x:%02x.%x", device_uint(id, CL_DEVICE_PCI_DOMAIN_ID_NV), bus,
                 slot >> 3, slot & 7);
}

/* Software renderers say what they please; they are the CPU in truth. */
static bool is_software(const char *name) {
    static const char *const names[] = { "llvmpipe", "softpipe", "swrast", "SwiftShader" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcasestr(name, names[i]))
            return true;
    return false;
}

/* A power of two, since sizes are rounded to it; a driver may report anything. */
static uint64_t sound_alignment(uint64_t reported) {
    uint64_t alignment = 64;
    while (alignment < reported)
        alignment *= 2;
    return alignment;
}

static void describe(cl_device_id id, const char *platform, const char *icd, struct device *info) {
    *info = (struct device){ .usable = true };
    copy_line(platform, info->platform, sizeof info->platform);
    info->vendor_id = device_uint(id, CL_DEVICE_VENDOR_ID);
    device_text(id, CL_DEVICE_NAME, info->name, sizeof info->name);
    read_uuid(id, info->uuid);
    read_pci(id, info->pci, sizeof info->pci);
    if (icd)
        snprintf(info->icd, sizeof info->icd, "%s", icd);
    device_text(id, CL_DRIVER_VERSION, info->driver, sizeof info->driver);
    device_text(id, CL_DEVICE_VERSION, info->version, sizeof info->version);
    info->memory_bytes = device_ulong(id, CL_DEVICE_GLOBAL_MEM_SIZE);
    info->max_buffer_bytes = device_ulong(id, CL_DEVICE_MAX_MEM_ALLOC_SIZE);
    info->compute_units = device_uint(id, CL_DEVICE_MAX_COMPUTE_UNITS);
    info->unified_memory = device_uint(id, CL_DEVICE_HOST_UNIFIED_MEMORY) != 0;
    info->alignment = sound_alignment(device_uint(id, CL_DEVICE_MEM_BASE_ADDR_ALIGN) / 8);

    cl_ulong type = device_ulong(id, CL_DEVICE_TYPE);
    if (type & CL_DEVICE_TYPE_CPU || is_software(info->name))
        info->type = DEVICE_CPU;
    else if (type & CL_DEVICE_TYPE_GPU)
        info->type = info->unified_memory ? DEVICE_IGPU : DEVICE_GPU;
    else
        info->type = DEVICE_ACCELERATOR;
    info->is_cpu_pool = info->type == DEVICE_CPU || info->type == DEVICE_IGPU;

    if (!device_uint(id, CL_DEVICE_AVAILABLE))
        snprintf(info->reason, sizeof info->reason, "its driver says that it is not available");
    else if (!device_uint(id, CL_DEVICE_COMPILER_AVAILABLE))
        snprintf(info->reason, sizeof info->reason, "its driver has no compiler");
    else if (!info->memory_bytes || !info->max_buffer_bytes)
        snprintf(info->reason, sizeof info->reason, "its driver reports no memory");
    info->usable = !info->reason[0];
}

/* Ordinals and names from a sorted copy. */
static bool name_devices(struct opencl_devices *found) {
    struct device_list sorted = { 0 };
    uint32_t *place = calloc((size_t)found->count + 1, sizeof *place);
    bool fine = place != NULL;
    for (uint32_t i = 0; fine && i < found->count; i++)
        fine = device_list_append(&sorted, &found->devices[i].info);
    fine = fine && device_name_places(&sorted, place);
    for (uint32_t i = 0; fine && i < found->count; i++)
        found->devices[place[i]].info = sorted.devices[i];
    device_list_release(&sorted);
    free(place);
    return fine;
}

bool opencl_enumerate(struct opencl_devices *found, const char *icd, struct error *err) {
    *found = (struct opencl_devices){ 0 };
    cl_platform_id platforms[MOST_PLATFORMS];
    cl_uint platform_count = 0;
    cl_int code = clGetPlatformIDs(MOST_PLATFORMS, platforms, &platform_count);
    if (code == CL_PLATFORM_NOT_FOUND_KHR)
        return true;
    if (code != CL_SUCCESS)
        return opencl_failed(err, code, "cannot list the OpenCL platforms");
    for (cl_uint p = 0; p < platform_count && p < MOST_PLATFORMS; p++) {
        cl_device_id ids[MOST_DEVICES];
        cl_uint id_count = 0;
        char platform[1024] = "";
        if (clGetPlatformInfo(platforms[p], CL_PLATFORM_NAME, sizeof platform - 1, platform, NULL) != CL_SUCCESS)
            snprintf(platform, sizeof platform, "unnamed");
        /* Clover and rusticl answer so when they have nothing to offer. */
        if (clGetDeviceIDs(platforms[p], CL_DEVICE_TYPE_ALL, MOST_DEVICES, ids, &id_count) != CL_SUCCESS)
            continue;
        if (id_count > MOST_DEVICES)
            id_count = MOST_DEVICES;
        struct opencl_device *grown =
            realloc(found->devices, (found->count + (size_t)id_count + 1) * sizeof *grown);
        if (!grown)
            goto no_memory;
        found->devices = grown;
        for (cl_uint d = 0; d < id_count; d++) {
            struct opencl_device *device = &found->devices[found->count++];
            *device = (struct opencl_device){ .platform = platforms[p], .id = ids[d] };
            describe(ids[d], platform, icd, &device->info);
        }
    }
    if (name_devices(found))
        return true;

no_memory:
    opencl_devices_release(found);
    return error_set(err, ERROR_FAILED, "cannot list the OpenCL devices: out of memory");
}

void opencl_devices_release(struct opencl_devices *found) {
    free(found->devices);
    *found = (struct opencl_devices){ 0 };
}

const struct opencl_device *opencl_find(const struct opencl_devices *found,
                                        const struct device *wanted) {
    char left[DEVICE_IDENTITY_SIZE], right[DEVICE_IDENTITY_SIZE];
    device_identity(wanted, left, sizeof left);
    for (uint32_t i = 0; i < found->count; i++) {
        device_identity(&found->devices[i].info, right, sizeof right);
        if (!strcmp(left, right))
            return &found->devices[i];
    }
    return NULL;
}

/* ---- contexts and queues ---- */

cl_context opencl_context(const cl_device_id *ids, uint32_t count, struct error *err) {
    cl_platform_id platform = NULL;
    cl_int code = count ? clGetDeviceInfo(ids[0], CL_DEVICE_PLATFORM, sizeof platform, &platform, NULL)
                        : CL_INVALID_VALUE;
    cl_context context = NULL;
    if (code == CL_SUCCESS) {
        const cl_context_properties properties[] = { CL_CONTEXT_PLATFORM,
                                                     (cl_context_properties)platform, 0 };
        context = clCreateContext(properties, count, ids, NULL, NULL, &code);
    }
    if (code != CL_SUCCESS) {
        opencl_failed(err, code, "cannot create an OpenCL context of %u devices", count);
        return NULL;
    }
    return context;
}

cl_command_queue opencl_queue(cl_context context, cl_device_id id, struct error *err) {
    cl_int code = CL_SUCCESS;
    cl_command_queue queue = clCreateCommandQueue(context, id, 0, &code);
    if (code != CL_SUCCESS) {
        char name[256];
        device_text(id, CL_DEVICE_NAME, name, sizeof name);
        opencl_failed(err, code, "cannot create a queue on the device '%s'", name);
        return NULL;
    }
    return queue;
}
