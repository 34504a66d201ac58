/* bench_read: how fast this machine reads memory, a thread a core.
 *
 * usage: bench_read BYTES    prints bytes/s, the fastest of 9 passes over so many bytes
 *
 * What a token reads passes through the caches in the same way: the limit of decoding is
 * this figure at the bytes of a token. A limit is what can be had: hence the fastest. */
#include "tests/support_bench.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PASSES 9
#define MOST_THREADS 256

struct reader {
    pthread_t thread;
    pthread_barrier_t *barrier;
    const uint64_t *words;
    size_t count;
    uint64_t sum;        /* so that the reading is not left out */
};

static void *read_words(void *context) {
    struct reader *reader = context;
    for (int pass = 0; pass < PASSES; pass++) {
        uint64_t sums[16] = { 0 };
        pthread_barrier_wait(reader->barrier);
        for (size_t i = 0; i + 16 <= reader->count; i += 16) {
            __builtin_prefetch(reader->words + i + 512);
            __builtin_prefetch(reader->words + i + 520);
            for (size_t j = 0; j < 16; j++)
                sums[j] += reader->words[i + j];
        }
        for (size_t j = 0; j < 16; j++)
            reader->sum += sums[j];
        pthread_barrier_wait(reader->barrier);
    }
    return NULL;
}

int main(int argument_count, char **arguments) {
    static struct reader readers[MOST_THREADS];
    pthread_barrier_t barrier;
    double best = 0;
    size_t bytes = argument_count == 2 ? strtoull(arguments[1], NULL, 10) : 0;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    size_t threads = cores < 1 ? 1 : cores > MOST_THREADS ? MOST_THREADS : (size_t)cores;
    if (bytes < 1 << 16 || bytes > (size_t)1 << 36) {
        fputs("usage: bench_read BYTES (64 KiB to 64 GiB)\n", stderr);
        return 2;
    }
    size_t words = bytes / 8 / threads;
    uint64_t *memory = aligned_alloc(4096, (words * 8 * threads + 4095) / 4096 * 4096);
    if (!memory || pthread_barrier_init(&barrier, NULL, (unsigned)threads + 1)) {
        fputs("bench_read: out of memory\n", stderr);
        return 1;
    }
    memset(memory, 1, words * 8 * threads);
    for (size_t i = 0; i < threads; i++) {
        readers[i] = (struct reader) { .barrier = &barrier, .words = memory + i * words, .count = words };
        if (pthread_create(&readers[i].thread, NULL, read_words, &readers[i])) {
            fputs("bench_read: no more threads\n", stderr);
            return 1;
        }
    }
    for (int pass = 0; pass < PASSES; pass++) {
        pthread_barrier_wait(&barrier);
        double start = bench_now(CLOCK_MONOTONIC);
        pthread_barrier_wait(&barrier);
        double rate = (double)(words * 8 * threads) / (bench_now(CLOCK_MONOTONIC) - start);
        best = rate > best ? rate : best;
    }
    for (size_t i = 0; i < threads; i++)
        pthread_join(readers[i].thread, NULL);
    printf("%.0f\n", best);
    pthread_barrier_destroy(&barrier);
    free(memory);
    return 0;
}
