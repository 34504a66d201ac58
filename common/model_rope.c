#include "common/model_build.h"

#include <math.h>
#include <stdlib.h>

float longrope_attention_factor(double factor, uint32_t original_context) {
    if (factor <= 1 || original_context < 2)
        return 1;
    return (float)sqrt(1 + log(factor) / log(original_context));
}

static bool new_divisors(struct rope_parameters *rope, struct error *err) {
    free(rope->short_factors);
    rope->short_factors = calloc(rope->rotary_dim / 2, sizeof *rope->short_factors);
    return rope->short_factors || error_set(err, ERROR_FAILED, "out of memory for the rope factors");
}

/* Wavelengths above original / low are stretched by the factor, those below
 * original / high stay, in between the two are mixed. */
bool rope_llama3_divisors(struct rope_parameters *rope, struct error *err) {
    const double factor = rope->llama3_factor, low = rope->llama3_low, high = rope->llama3_high;
    const double original = rope->original_context;
    if (!new_divisors(rope, err))
        return false;
    for (uint32_t i = 0; i < rope->rotary_dim / 2; i++) {
        double length = 2 * M_PI * pow(rope->theta, 2.0 * i / rope->rotary_dim);
        double divisor = 1;
        if (length > original / low) {
            divisor = factor;
        } else if (length >= original / high) {
            double smooth = (original / length - low) / (high - low);
            divisor = 1 / ((1 - smooth) / factor + smooth);
        }
        rope->short_factors[i] = (float)divisor;
    }
    return true;
}

bool rope_linear_divisors(struct rope_parameters *rope, float factor, struct error *err) {
    if (!new_divisors(rope, err))
        return false;
    for (uint32_t i = 0; i < rope->rotary_dim / 2; i++)
        rope->short_factors[i] = factor;
    return true;
}

bool rope_factors_are_sound(const float *factors, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        if (!isfinite(factors[i]) || factors[i] <= 0)
            return false;
    return true;
}
