/* sampler: logits to a token.
 *
 * The chain works on float32 scores as transformers does. After the processors (see
 * logits_processors.h), and what a grammar forbids, each step sees the softmax of what the step before it left:
 *   temperature t          z / t
 *   top_k k                drop z below the k-th largest
 *   top_p p                drop, from the least likely up, while their sum is at most 1 - p;
 *                          of equal scores the lower id goes first
 *   min_p m                drop what is less likely than m times the likeliest
 *   typical_p t            keep those whose information is nearest the entropy, of mass t
 *   epsilon_cutoff e       drop what is less likely than e
 *   eta_cutoff e           drop what is less likely than min(e, sqrt(e) exp(-entropy))
 * keep_least tokens stay in any case. Sums are kept in double. The vocabulary is never
 * sorted: top_k keeps a heap of k scores, top_p takes the likeliest tokens off a heap
 * until it has enough. */
#include "runtime/sampler.h"

#include "runtime/logits_processors.h"

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
    struct logits_processors *processors;
    int32_t *history;               /* [history_capacity]; prompt and what came after it */
    uint32_t history_count, history_capacity, prompt_count;
    bool has_forgotten;             /* out of memory for the history */
    const uint32_t *allowed;        /* borrowed; NULL: all tokens */
    float *scores;                  /* [vocab]; of the present call */
    float *heap;                    /* [vocab]; top_k */
    struct candidate *candidates;   /* [vocab]; what is left */
};

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
        sampler->settings.keep_least += !settings->keep_least;
        sampler->processors = logits_processors_new(settings, vocab);
        sampler->scores = calloc(vocab, sizeof *sampler->scores);
        sampler->heap = calloc(vocab, sizeof *sampler->heap);
        sampler->candidates = calloc(vocab, sizeof *sampler->candidates);
        seed_random(sampler->random, settings->seed);
        if (sampler->processors && sampler->scores && sampler->heap && sampler->candidates)
            return sampler;
    }
    sampler_free(sampler);
    error_set(err, ERROR_FAILED, "cannot make a sampler for %u tokens: out of memory", vocab);
    return NULL;
}

void sampler_free(struct sampler *sampler) {
    if (!sampler)
        return;
    logits_processors_free(sampler->processors);
    free(sampler->history);
    free(sampler->scores);
    free(sampler->heap);
    free(sampler->candidates);
    free(sampler);
}

void sampler_accept(struct sampler *sampler, int32_t id) {
    if (sampler->history_count == sampler->history_capacity) {
        uint32_t capacity = sampler->history_capacity ? 2 * sampler->history_capacity : 256;
        int32_t *longer = realloc(sampler->history, (size_t)capacity * sizeof *longer);
        if (!longer) {
            sampler->has_forgotten = true;
            return;
        }
        sampler->history = longer;
        sampler->history_capacity = capacity;
    }
    sampler->history[sampler->history_count++] = id;
}

void sampler_prompt(struct sampler *sampler, const int32_t *ids, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        sampler_accept(sampler, ids[i]);
    sampler->prompt_count = sampler->history_count;
}

void sampler_allow(struct sampler *sampler, const uint32_t *allowed) {
    sampler->allowed = allowed;
}

const int32_t *sampler_history(const struct sampler *sampler, uint32_t *count) {
    *count = sampler->history_count;
    return sampler->history;
}

static void drop_forbidden(struct sampler *sampler) {
    for (uint32_t i = 0; i < sampler->vocab; i += 32) {
        uint32_t word = sampler->allowed[i / 32], end = sampler->vocab - i < 32 ? sampler->vocab - i : 32;
        for (uint32_t j = 0; j < end && word != UINT32_MAX; j++)
            if (!(word >> j & 1))
                sampler->scores[i + j] = -INFINITY;
    }
}

/* scores = logits after the processors, and of what is allowed. False where one is NaN. */
static bool start_scores(struct sampler *sampler, const float *logits, const int32_t *history, uint32_t count,
                         uint32_t new_count) {
    bool has_nan = sampler->has_forgotten;
    for (uint32_t i = 0; i < sampler->vocab; i++) {
        has_nan |= isnan(logits[i]);
        sampler->scores[i] = logits[i];
    }
    logits_process(sampler->processors, history, count, new_count, sampler->scores);
    if (sampler->allowed)
        drop_forbidden(sampler);
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
static uint32_t keep_top_p(struct candidate *candidates, uint32_t count, float largest, float top_p,
                           uint32_t least) {
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
    } while (left > 0 && (kept < wanted || count - left < least));
    memmove(candidates, candidates + left, (count - left) * sizeof *candidates);
    return count - left;
}

static int compare_scores(const void *left, const void *right) {
    const struct candidate *a = left, *b = right;
    return goes_before(b, a) - goes_before(a, b);
}

/* Drop what has less than `share` of the mass, and is not among the `least` likeliest. */
static uint32_t keep_likely(struct candidate *candidates, uint32_t count, float largest, double share,
                            uint32_t least) {
    double wanted = share * sum_weights(candidates, count, largest);
    if (least > 1)
        qsort(candidates, count, sizeof *candidates, compare_scores);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++)
        if (weight(candidates[i].score, largest) >= wanted || candidates[i].score >= largest
            || (least > 1 && i < least))
            candidates[kept++] = candidates[i];
    return kept;
}

static double entropy_of(const struct candidate *candidates, uint32_t count, float largest, double sum) {
    double entropy = 0;
    for (uint32_t i = 0; i < count; i++) {
        double share = weight(candidates[i].score, largest) / sum;
        if (share > 0)
            entropy -= share * log(share);
    }
    return entropy;
}

/* A candidate for typical_p: how far its information is from the entropy. */
struct distance {
    float from_entropy;
    uint32_t at;
};

static int compare_distances(const void *left, const void *right) {
    const struct distance *a = left, *b = right;
    return a->from_entropy != b->from_entropy ? (a->from_entropy > b->from_entropy ? 1 : -1)
                                              : (a->at > b->at) - (a->at < b->at);
}

/* 0 where memory runs out. */
static uint32_t keep_typical(struct candidate *candidates, uint32_t count, float largest, float typical_p,
                             uint32_t least) {
    struct distance *order = malloc(count * sizeof *order);
    bool *keeps = calloc(count, sizeof *keeps);
    uint32_t kept = 0;
    if (order && keeps) {
        double sum = sum_weights(candidates, count, largest), log_sum = log(sum), mass = 0;
        double entropy = entropy_of(candidates, count, largest, sum);
        for (uint32_t i = 0; i < count; i++) {
            double information = log_sum - ((double)candidates[i].score - (double)largest);
            order[i] = (struct distance){ (float)fabs(information - entropy), i };
        }
        qsort(order, count, sizeof *order, compare_distances);
        uint32_t last = 0;
        for (; last + 1 < count; last++) {
            mass += weight(candidates[order[last].at].score, largest) / sum;
            if (mass >= (double)typical_p)
                break;
        }
        for (uint32_t i = 0; i < count; i++)
            keeps[order[i].at] = i < least || order[i].from_entropy <= order[last].from_entropy;
        for (uint32_t i = 0; i < count; i++)
            if (keeps[i])
                candidates[kept++] = candidates[i];
    }
    free(order);
    free(keeps);
    return kept;
}

/* From temperature on: sampler->scores to candidates; how many are left, 0 for none. */
static uint32_t run_warpers(struct sampler *sampler, float *largest) {
    const struct sampler_settings *settings = &sampler->settings;
    struct candidate *candidates = sampler->candidates;
    uint32_t keep = settings->keep_least;
    if (settings->temperature != 1)
        for (uint32_t i = 0; i < sampler->vocab; i++)
            sampler->scores[i] /= settings->temperature;
    float least = -INFINITY;
    uint32_t top_k = settings->top_k > keep ? settings->top_k : keep;
    if (settings->top_k && top_k < sampler->vocab)
        least = kth_largest(sampler, top_k);
    uint32_t count = 0;
    for (uint32_t i = 0; i < sampler->vocab; i++)
        if (sampler->scores[i] >= least && sampler->scores[i] > -INFINITY)
            candidates[count++] = (struct candidate){ sampler->scores[i], (int32_t)i };
    if (settings->top_p < 1)
        count = keep_top_p(candidates, count, *largest, settings->top_p, keep);
    if (settings->min_p > 0) {
        double likeliest = 1 / sum_weights(candidates, count, *largest);
        count = keep_likely(candidates, count, *largest, (double)settings->min_p * likeliest, keep);
    }
    if (settings->typical_p < 1) {
        count = keep_typical(candidates, count, *largest, settings->typical_p, keep);
        *largest = -INFINITY;   /* the likeliest may be gone */
        for (uint32_t i = 0; i < count; i++)
            *largest = fmaxf(*largest, candidates[i].score);
    }
    if (settings->epsilon_cutoff > 0)
        count = keep_likely(candidates, count, *largest, (double)settings->epsilon_cutoff, keep);
    if (settings->eta_cutoff > 0) {
        double eta = (double)settings->eta_cutoff, sum = sum_weights(candidates, count, *largest);
        double bound = sqrt(eta) * exp(-entropy_of(candidates, count, *largest, sum));
        count = keep_likely(candidates, count, *largest, fmin(eta, bound), keep);
    }
    return count;
}

/* Run the chain: how many candidates are left, 0 for none; *largest is the best score. */
static uint32_t run_chain(struct sampler *sampler, const float *logits, float *largest) {
    const struct sampler_settings *settings = &sampler->settings;
    if (!start_scores(sampler, logits, sampler->history, sampler->history_count,
                      sampler->history_count - sampler->prompt_count))
        return 0;
    int32_t best = best_of(sampler);
    if (best < 0)
        return 0;
    bool greedy = settings->greedy || settings->temperature == 0;
    *largest = greedy ? sampler->scores[best] : sampler->scores[best] / settings->temperature;
    /* A temperature so low that the scores overflow decides like 0. */
    if (greedy || (isinf(*largest) && isfinite(sampler->scores[best]))) {
        *largest = 0;
        sampler->candidates[0] = (struct candidate){ .score = 0, .id = best };
        return 1;
    }
    return isinf(*largest) ? 0 : run_warpers(sampler, largest);
}

bool sampler_filter(struct sampler *sampler, const int32_t *history, uint32_t count, uint32_t new_count,
                    float *scores) {
    const struct sampler_settings *settings = &sampler->settings;
    if (!start_scores(sampler, scores, history, count, new_count))
        return false;
    if (settings->greedy || settings->temperature == 0) {
        memcpy(scores, sampler->scores, sampler->vocab * sizeof *scores);
        return true;
    }
    int32_t best = best_of(sampler);
    float largest = best < 0 ? -INFINITY : sampler->scores[best] / settings->temperature;
    uint32_t left = isinf(largest) ? 0 : run_warpers(sampler, &largest);
    for (uint32_t i = 0; i < sampler->vocab; i++)
        scores[i] = -INFINITY;
    for (uint32_t i = 0; i < left; i++)
        scores[sampler->candidates[i].id] = sampler->candidates[i].score;
    return true;
}

double sampler_random(struct sampler *sampler) {
    return next_random(sampler->random);
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
