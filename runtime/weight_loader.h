/* weight_loader: the weight buffers of one device, each from the cheapest source.
 *
 *   unified memory   the artifact's or the model's own pages, mapped and used in place
 *   otherwise        copied to the device: from the artifact, else from the model's files,
 *                    packed on the way where the layout wants it
 *
 * What is used in place stays mapped until weight_loader_release(), which comes after the
 * buffers are released. */
#ifndef RUNTIME_WEIGHT_LOADER_H
#define RUNTIME_WEIGHT_LOADER_H

#include "common/artifact.h"
#include "common/opencl.h"

struct weight_loader {
    /* set by the caller, borrowed */
    const struct model *model;
    const struct artifact *const *artifacts;   /* [unit_count]; NULL where the unit has none; itself may be NULL */
    cl_context context;
    cl_command_queue queue;
    const char *device;            /* name, for sentences */
    bool in_place;                 /* the device reads host memory */

    /* kept here */
    struct file_map *maps;         /* ranges of the model's files */
    size_t map_count, map_capacity;
    uint64_t stored_bytes;         /* of the weights in the buffers made, as the model stores them */
};

/* An entry's bytes on a device, not filled; the caller releases them. NULL on failure. `device`: its
 * name, for the sentence. */
cl_mem device_buffer_new(cl_context context, cl_mem_flags flags, const struct buffer_spec *spec, const char *device,
                         struct error *err);

/* The buffer of a BUFFER_WEIGHTS entry, filled; the caller releases it. NULL on failure. */
cl_mem weight_loader_buffer(struct weight_loader *loader, const struct buffer_spec *spec, struct error *err);

/* The bytes of a BUFFER_STREAMED entry (spec->used_bytes) to `target`, in which they alone
 * stay in memory. From one thread at a time. */
bool weight_loader_read(const struct weight_loader *loader, const struct buffer_spec *spec, void *target,
                        struct error *err);
void weight_loader_release(struct weight_loader *loader);

#endif
