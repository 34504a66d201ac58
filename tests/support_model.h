/* support_model: models made in memory, for tests of sizes and placement. */
#ifndef TESTS_SUPPORT_MODEL_H
#define TESTS_SUPPORT_MODEL_H

#include "common/model.h"

struct support_shape {
    uint32_t hidden, intermediate, blocks, heads, kv_heads, head_dim, vocab;
    enum tensor_type q_type, k_type, v_type;   /* attention inputs */
    enum tensor_type type;                     /* every other matrix; norms are float32 */
    bool has_bias, has_qk_norm, is_tied;
};

/* Phi-3-mini's, all float16. */
extern const struct support_shape support_phi3_mini;

/* Separate q, k, v, gate and up tensors; no file behind them. Ends the test where
 * memory runs out. */
struct model *support_model(const struct support_shape *shape);

#endif
