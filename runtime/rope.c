#include "runtime/rope.h"

#include <math.h>
#include <stdlib.h>

/* transformers: longrope 1 / (factor * theta^(2i/d)), llama3 and linear
 * (1 / theta^(2i/d)) / divisor; each operation rounded to float32. */
static float frequency(const struct rope_parameters *parameters, const float *factors, uint32_t pair) {
    float exponent = (float)(2 * pair) / (float)parameters->rotary_dim;
    float power = powf(parameters->theta, exponent);
    switch (parameters->scaling) {
    case ROPE_LONGROPE:
        return 1.0f / (factors[pair] * power);
    case ROPE_LLAMA3:
    case ROPE_LINEAR:
        return 1.0f / power / factors[pair];
    case ROPE_PLAIN:
        break;
    }
    return 1.0f / power;
}

bool rope_init(struct rope *rope, const struct rope_parameters *parameters, struct error *err) {
    *rope = (struct rope){
        .pair_count = parameters->rotary_dim / 2,
        .attention_factor = parameters->attention_factor,
        .original_context = parameters->scaling == ROPE_LONGROPE ? parameters->original_context : 0,
    };
    bool is_scaled = parameters->scaling != ROPE_PLAIN;
    bool is_long = parameters->scaling == ROPE_LONGROPE;
    if ((is_scaled && !parameters->short_factors) || (is_long && !parameters->long_factors))
        return error_set(err, ERROR_FAILED, "the model's rope scaling has no factors; its config is damaged");
    for (int which = 0; which < 2; which++) {
        float *values = malloc((rope->pair_count + 1) * sizeof *values);
        if (!values) {
            rope_release(rope);
            return error_set(err, ERROR_FAILED, "cannot compute rope frequencies: out of memory");
        }
        const float *factors = which && is_long ? parameters->long_factors : parameters->short_factors;
        for (uint32_t pair = 0; pair < rope->pair_count; pair++)
            values[pair] = frequency(parameters, factors, pair);
        rope->frequencies[which] = values;
    }
    return true;
}

void rope_release(struct rope *rope) {
    free(rope->frequencies[0]);
    free(rope->frequencies[1]);
    *rope = (struct rope){ 0 };
}

void rope_fill(const struct rope *rope, bool long_factors, const int32_t *positions, uint32_t count,
               float *table) {
    const float *frequencies = rope->frequencies[long_factors];
    for (uint32_t token = 0; token < count; token++)
        for (uint32_t pair = 0; pair < rope->pair_count; pair++) {
            float angle = (float)positions[token] * frequencies[pair];
            *table++ = cosf(angle) * rope->attention_factor;
            *table++ = sinf(angle) * rope->attention_factor;
        }
}
