/* fuzz_safetensors: any bytes as a safetensors file. */
#include "common/safetensors.h"
#include "tests/support_fuzz.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    struct error err = { 0 };
    struct safetensors head;
    if (!safetensors_open(&head, fuzz_file(bytes, size), &err)) {
        if (err.kind != ERROR_FAILED || !err.text[0] || head.tensors)
            abort();
        return 0;
    }
    for (uint32_t i = 0; i < head.tensor_count; i++) {
        const struct safetensors_tensor *tensor = &head.tensors[i];
        uint64_t rows = 1, made;
        for (uint32_t k = 0; k < tensor->rank; k++)
            rows *= tensor->shape[k];
        if (!tensor_bytes(tensor->type, rows, 1, &made) || made != tensor->size_bytes || tensor->offset > size
            || made > size - tensor->offset || strlen(tensor->name) > size)
            abort();
    }
    safetensors_release(&head);
    return 0;
}
