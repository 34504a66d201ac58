/* safetensors: the head of one .safetensors file as named tensors. Never reads
 * tensor data. Tensors that cannot be weights here (integers, float64, float8,
 * more than four dimensions) are checked but not listed. */
#ifndef COMMON_SAFETENSORS_H
#define COMMON_SAFETENSORS_H

#include "common/error.h"
#include "common/tensor_type.h"

#include <stddef.h>
#include <stdint.h>

struct safetensors_tensor {
    char *name;
    enum tensor_type type;
    uint32_t rank;
    uint64_t shape[4];    /* shape[rank - 1] is the innermost (columns); 1 from rank on */
    uint64_t offset;      /* absolute */
    uint64_t size_bytes;
};

struct safetensors {
    uint64_t file_size;
    uint32_t tensor_count;
    struct safetensors_tensor *tensors;
    /* The first matrix that is not listed for its type, "F8_E4M3" or the like; "" for none. */
    char unusable_name[128], unusable_type[16];
};

bool safetensors_open(struct safetensors *head, const char *path, struct error *err);
void safetensors_release(struct safetensors *head);

#endif
