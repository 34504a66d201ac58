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
    double start[PASSES], end[PASSES];
};

static void *read_words(void *context) {
    struct reader *reader = context;
    for (int pass = 0; pass < PASSES; pass++) {
        uint64_t sums[16] = { 0 };
        pthread_barrier_wait(reader->barrier);
        reader->start[pass] = bench_now(CLOCK_MONOTONIC);
        for (size_t i = 0; i + 16 <= reader->count; i += 16) {
            __builtin_prefetch(reader->words + i + 512);
            __builtin_prefetch(reader->words + i + 520);
            for (size_t j = 0; j < 16; j++)
                sums[j] += reader->words[i + j];
        }
        for (size_t j = 0; j < 16; j++)
            reader->sum += sums[j];
        reader->end[pass] = bench_now(CLOCK_MONOTONIC);
    }
    return NULL;
}

/* By the readers' own clocks: one who waits for them may wake when they are nearly done. */
static double pass_seconds(const struct reader *readers, size_t count, int pass) {
    double start = readers[0].start[pass], end = readers[0].end[pass];
    for (size_t i = 1; i < count; i++) {
        start = readers[i].start[pass] < start ? readers[i].start[pass] : start;
        end = readers[i].end[pass] > end ? readers[i].end[pass] : end;
    }
    return end - start;
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
    if (!memory || pthread_barrier_init(&barrier, NULL, (unsigned)threads)) {
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
    for (size_t i = 0; i < threads; i++)
        pthread_join(readers[i].thread, NULL);
    for (int pass = 0; pass < PASSES; pass++) {
        double rate = (double)(words * 8 * threads) / pass_seconds(readers, threads, pass);
        best = rate > best ? rate : best;
    }
    printf("%.0f\n", best);
    pthread_barrier_destroy(&barrier);
    free(memory);
    return 0;
}
