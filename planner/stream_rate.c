#include "planner/stream_rate.h"

#include "common/clock.h"
#include "common/file_map.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define BLOCK_BYTES (4u << 20)
#define MOST_BYTES (128u << 20)
#define MOST_SECONDS 0.3
#define DIRECT_ALIGNMENT 4096u

/* B/s of reading from the start; `flags` are added to those of opening. */
static double measure(const char *path, int flags, void *block) {
    int file = open(path, O_RDONLY | O_CLOEXEC | flags);
    if (file < 0)
        return 0;
    double started = seconds_now(), seconds = 0;
    uint64_t bytes = 0;
    while (bytes < MOST_BYTES && seconds < MOST_SECONDS) {
        ssize_t count = pread(file, block, BLOCK_BYTES, (off_t)bytes);
        if (count <= 0)
            break;
        bytes += (uint64_t)count;
        seconds = seconds_now() - started;
        if (count < (ssize_t)BLOCK_BYTES)
            break;   /* the end; reading on would not be aligned */
    }
    close(file);
    return seconds > 0 ? (double)bytes / seconds : 0;
}

double stream_rate_measure(const struct model *model, const struct host_memory *host) {
    uint64_t total = 0;
    uint32_t largest = 0;
    for (uint32_t i = 0; i < model->file_count; i++) {
        total += model->files[i].size_bytes;
        if (model->files[i].size_bytes > model->files[largest].size_bytes)
            largest = i;
    }
    void *block = aligned_alloc(DIRECT_ALIGNMENT, BLOCK_BYTES);
    if (!block || !model->has_weights || !model->file_count) {
        free(block);
        return 0;
    }
    const char *path = model->files[largest].path;
    double rate = 0;
    if (total <= host->available_bytes) {
        measure(path, 0, block);        /* into the cache */
        rate = measure(path, 0, block);
    } else {
        rate = measure(path, O_DIRECT, block);
    }
    /* A file system without direct reads: what there is. */
    if (!(rate > 0))
        rate = measure(path, 0, block);
    free(block);
    return rate;
}
