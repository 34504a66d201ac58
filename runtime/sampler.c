/* sampler: logits to a token.
 *
 * The chain works on float32 scores as transformers does; each step sees the
 * softmax of what the step before it left:
 *   repetition_penalty r   each distinct id seen: z < 0 ? z * r : z / r
 *   temperature t          z / t
 *   top_k k                drop z below the k-th largest
 *   top_p p                drop, from the least likely up, while their sum is at most 1 - p;
 *                          of equal scores the lower id goes first; one token stays
 *   min_p m                drop what is less likely than m times the likeliest
 * Sums are kept in double. The vocabulary is never sorted: top_k keeps a heap of
 * k scores, top_p takes the likeliest tokens off a heap until it has enough. */
#include "runtime/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct candidate {
    float score;
    int32_t id;
};

struct sampler {
    struct sampler_settings settings;
    uint32_t vocab;
    uint64_t random[4];             /* state of the generator */
    uint32_t seen_count;
    int32_t *seen;                  /* [vocab]; the distinct ids, seen_count of them */
    bool *is_seen;                  /* [vocab] */
    float *scores;                  /* [vocab]; of the present call */
    float *heap;                    /* [vocab]; top_k */
    struct candidate *candidates;   /* [vocab]; what is left */
};

struct sampler_settings sampler_defaults(void) {
    return (struct sampler_settings){ .greedy = true, .temperature = 1, .top_p = 1, .repetition_penalty = 1 };
}

bool sampler_check(const struct sampler_settings *settings, struct error *err) {
    if (!(settings->temperature >= 0) || !isfinite(settings->temperature))
        return error_set(err, ERROR_USAGE, "temperature '%g' makes no sense; give 0 (greedy) or more",
                         (double)settings->temperature);
    if (!(settings->top_p >= 0 && settings->top_p <= 1))
        return error_set(err, ERROR_USAGE, "top-p '%g' is not a share; give 0 to 1", (double)settings->top_p);
    if (!(settings->min_p >= 0 && settings->min_p <= 1))
        return error_set(err, ERROR_USAGE, "min-p '%g' is not a share; give 0 to 1", (double)settings->min_p);
    if (!(settings->repetition_penalty > 0) || !isfinite(settings->repetition_penalty))
        return error_set(err, ERROR_USAGE, "repetition penalty '%g' makes no sense; give more than 0 (1: none)",
                         (double)settings->repetition_penalty);
    return true;
}

/* The generator is xoshiro256** (Blackman and Vigna), its state filled by splitmix64
 * from the seed, as its authors advise: an all-zero state cannot come out. */
static void seed_random(uint64_t state[4], uint64_t seed) {
    for (int i = 0; i < 4; i++) {
        seed += 0x9e3779b97f4a7c15u;
        uint64_t z = seed;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        state[i] = z ^ (z >> 31);
    }
}

static uint64_t rotate_left(uint64_t value, int bits) {
    return value << bits | value >> (64 - bits);
}

/* Uniform in [0, 1), 53 bits. */
static double next_random(uint64_t s[4]) {
    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t shifted = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = rotate_left(s[3], 45);
    return (double)(result >> 11) * 0x1p-53;
}

struct sampler *sampler_new(const struct sampler_settings *settings, uint32_t vocab, struct error *err) {
    if (!sampler_check(settings, err))
        return NULL;
    if (!vocab || vocab > INT32_MAX) {
        error_set(err, ERROR_FAILED, "cannot sample from a vocabulary of %u tokens", vocab);
        return NULL;
    }
    struct sampler *sampler = calloc(1, sizeof *sampler);
    if (sampler) {
        sampler->settings = *settings;
        sampler->vocab = vocab;
        sampler->seen = calloc(vocab, sizeof *sampler->seen);
        sampler->is_seen = calloc(vocab, sizeof *sampler->is_seen);
        sampler->scores = calloc(vocab, sizeof *sampler->scores);
        sampler->heap = calloc(vocab, sizeof *sampler->heap);
        sampler->candidates = calloc(vocab, sizeof *sampler->candidates);
        seed_random(sampler->random, settings->seed);
        if (sampler->seen && sampler->is_seen && sampler->scores && sampler->heap && sampler->candidates)
            return sampler;
    }
    sampler_free(sampler);
    error_set(err, ERROR_FAILED, "cannot make a sampler for %u tokens: out of memory", vocab);
    return NULL;
}

void sampler_free(struct sampler *sampler) {
    if (!sampler)
        return;
    free(sampler->seen);
    free(sampler->is_seen);
    free(sampler->scores);
    free(sampler->heap);
    free(sampler->candidates);
    free(sampler);
}

void sampler_accept(struct sampler *sampler, int32_t id) {
    if (id < 0 || (uint32_t)id >= sampler->vocab || sampler->is_seen[id])
        return;
    sampler->is_seen[id] = true;
    sampler->seen[sampler->seen_count++] = id;
}

/* scores = logits after the penalty. False where one is NaN. */
static bool start_scores(struct sampler *sampler, const float *logits) {
    bool has_nan = false;
    for (uint32_t i = 0; i < sampler->vocab; i++) {
        has_nan |= isnan(logits[i]);
        sampler->scores[i] = logits[i];
    }
    float penalty = sampler->settings.repetition_penalty;
    if (penalty != 1)
        for (uint32_t i = 0; i < sampler->seen_count; i++) {
            float *score = &sampler->scores[sampler->seen[i]];
            *score = *score < 0 ? *score * penalty : *score / penalty;
        }
    return !has_nan;
}

/* The lowest id of the largest score; -1 where all are minus infinity. */
static int32_t best_of(const struct sampler *sampler) {
    int32_t best = -1;
    float largest = -INFINITY;
    for (uint32_t i = 0; i < sampler->vocab; i++)
        if (sampler->scores[i] > largest) {
            largest = sampler->scores[i];
            best = (int32_t)i;
        }
    return best;
}

/* The k-th largest score, k < vocab, from a heap of k scores whose least is on top. */
static float kth_largest(struct sampler *sampler, uint32_t k) {
    float *heap = sampler->heap;
    for (uint32_t i = 0; i < sampler->vocab; i++) {
        float score = sampler->scores[i];
        uint32_t at;
        if (i < k) {
            for (at = i; at > 0 && heap[(at - 1) / 2] > score; at = (at - 1) / 2)
                heap[at] = heap[(at - 1) / 2];
        } else if (score > heap[0]) {
            for (at = 0;;) {
                uint32_t child = 2 * at + 1;
                if (child >= k)
                    break;
                child += child + 1 < k && heap[child + 1] < heap[child];
                if (heap[child] >= score)
                    break;
                heap[at] = heap[child];
                at = child;
            }
        } else {
            continue;
        }
        heap[at] = score;
    }
    return heap[0];
}

static bool goes_before(const struct candidate *a, const struct candidate *b) {
    return a->score > b->score || (a->score == b->score && a->id > b->id);
}

/* Let candidates[at] sink to its place below: a heap with the likeliest on top. */
static void sift(struct candidate *candidates, uint32_t count, uint32_t at) {
    struct candidate moving = candidates[at];
    for (uint32_t child; (child = 2 * at + 1) < count; at = child) {
        child += child + 1 < count && goes_before(&candidates[child + 1], &candidates[child]);
        if (!goes_before(&candidates[child], &moving))
            break;
        candidates[at] = candidates[child];
    }
    candidates[at] = moving;
}

static double weight(float score, float largest) {
    return (double)expf(score - largest);
}

static double sum_weights(const struct candidate *candidates, uint32_t count, float largest) {
    double sum = 0;
    for (uint32_t i = 0; i < count; i++)
        sum += weight(candidates[i].score, largest);
    return sum;
}

/* The likeliest go to the end of the array as they leave the heap; then to its start. */
static uint32_t keep_top_p(struct candidate *candidates, uint32_t count, float largest, float top_p) {
    double wanted = (double)top_p * sum_weights(candidates, count, largest), kept = 0;
    for (uint32_t i = count / 2; i-- > 0;)
        sift(candidates, count, i);
    uint32_t left = count;
    do {
        struct candidate best = candidates[0];
        candidates[0] = candidates[--left];
        sift(candidates, left, 0);
        candidates[left] = best;
        kept += weight(best.score, largest);
    } while (left > 0 && kept < wanted);
    memmove(candidates, candidates + left, (count - left) * sizeof *candidates);
    return count - left;
}

/* Run the chain: how many candidates are left, 0 for none; *largest is the best score. */
static uint32_t run_chain(struct sampler *sampler, const float *logits, float *largest) {
    const struct sampler_settings *settings = &sampler->settings;
    struct candidate *candidates = sampler->candidates;
    if (!start_scores(sampler, logits))
        return 0;
    int32_t best = best_of(sampler);
    if (best < 0)
        return 0;
    bool greedy = settings->greedy || settings->temperature == 0;
    *largest = greedy ? sampler->scores[best] : sampler->scores[best] / settings->temperature;
    /* A temperature so low that the scores overflow decides like 0. */
    if (greedy || (isinf(*largest) && isfinite(sampler->scores[best]))) {
        *largest = 0;
        candidates[0] = (struct candidate){ .score = 0, .id = best };
        return 1;
    }
    if (isinf(*largest))
        return 0;

    if (settings->temperature != 1)
        for (uint32_t i = 0; i < sampler->vocab; i++)
            sampler->scores[i] /= settings->temperature;
    float least = -INFINITY;
    if (settings->top_k && settings->top_k < sampler->vocab)
        least = kth_largest(sampler, settings->top_k);
    uint32_t count = 0;
    for (uint32_t i = 0; i < sampler->vocab; i++)
        if (sampler->scores[i] >= least && sampler->scores[i] > -INFINITY)
            candidates[count++] = (struct candidate){ sampler->scores[i], (int32_t)i };
    if (settings->top_p < 1)
        count = keep_top_p(candidates, count, *largest, settings->top_p);
    if (settings->min_p > 0) {
        uint32_t kept = 0;
        for (uint32_t i = 0; i < count; i++)
            if (weight(candidates[i].score, *largest) >= (double)settings->min_p)
                candidates[kept++] = candidates[i];
        count = kept;
    }
    return count;
}

int32_t sampler_choose(struct sampler *sampler, const float *logits) {
    float largest;
    const struct candidate *candidates = sampler->candidates;
    uint32_t count = run_chain(sampler, logits, &largest);
    if (count <= 1)
        return count ? candidates[0].id : -1;
    double target = next_random(sampler->random) * sum_weights(candidates, count, largest), sum = 0;
    int32_t chosen = -1;
    for (uint32_t i = 0; i < count && sum <= target; i++) {
        double share = weight(candidates[i].score, largest);
        sum += share;
        if (share > 0)   /* rounding at the end must not reach one that cannot come */
            chosen = candidates[i].id;
    }
    return chosen;
}

static int compare_ids(const void *left, const void *right) {
    const struct candidate *a = left, *b = right;
    return (a->id > b->id) - (a->id < b->id);
}

uint32_t sampler_survivors(struct sampler *sampler, const float *logits, int32_t *ids,
                           float *probabilities) {
    float largest = 0;
    uint32_t count = run_chain(sampler, logits, &largest);
    double sum = sum_weights(sampler->candidates, count, largest);
    qsort(sampler->candidates, count, sizeof *sampler->candidates, compare_ids);
    for (uint32_t i = 0; i < count; i++) {
        ids[i] = sampler->candidates[i].id;
        probabilities[i] = (float)(weight(sampler->candidates[i].score, largest) / sum);
    }
    return count;
}
