#include "common/model_arch.h"

#include "common/text.h"

#include <string.h>

#define HF "model.layers.%u."
#define GG "blk.%u."

static const struct tensor_names hf_fused = {
    "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight", {
        [ROLE_ATTN_NORM] = HF "input_layernorm.weight",
        [ROLE_Q] = HF "self_attn.qkv_proj.weight",
        [ROLE_K] = HF "self_attn.qkv_proj.weight",
        [ROLE_V] = HF "self_attn.qkv_proj.weight",
        [ROLE_O] = HF "self_attn.o_proj.weight",
        [ROLE_FFN_NORM] = HF "post_attention_layernorm.weight",
        [ROLE_GATE] = HF "mlp.gate_up_proj.weight",
        [ROLE_UP] = HF "mlp.gate_up_proj.weight",
        [ROLE_DOWN] = HF "mlp.down_proj.weight",
    }
};

static const struct tensor_names hf_split = {
    "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight", {
        [ROLE_ATTN_NORM] = HF "input_layernorm.weight",
        [ROLE_Q] = HF "self_attn.q_proj.weight",
        [ROLE_K] = HF "self_attn.k_proj.weight",
        [ROLE_V] = HF "self_attn.v_proj.weight",
        [ROLE_Q_BIAS] = HF "self_attn.q_proj.bias",
        [ROLE_K_BIAS] = HF "self_attn.k_proj.bias",
        [ROLE_V_BIAS] = HF "self_attn.v_proj.bias",
        [ROLE_Q_NORM] = HF "self_attn.q_norm.weight",
        [ROLE_K_NORM] = HF "self_attn.k_norm.weight",
        [ROLE_O] = HF "self_attn.o_proj.weight",
        [ROLE_FFN_NORM] = HF "post_attention_layernorm.weight",
        [ROLE_GATE] = HF "mlp.gate_proj.weight",
        [ROLE_UP] = HF "mlp.up_proj.weight",
        [ROLE_DOWN] = HF "mlp.down_proj.weight",
    }
};

static const struct tensor_names gguf_fused = {
    "token_embd.weight", "output_norm.weight", "output.weight", {
        [ROLE_ATTN_NORM] = GG "attn_norm.weight",
        [ROLE_Q] = GG "attn_qkv.weight",
        [ROLE_K] = GG "attn_qkv.weight",
        [ROLE_V] = GG "attn_qkv.weight",
        [ROLE_O] = GG "attn_output.weight",
        [ROLE_FFN_NORM] = GG "ffn_norm.weight",
        [ROLE_GATE] = GG "ffn_up.weight",
        [ROLE_UP] = GG "ffn_up.weight",
        [ROLE_DOWN] = GG "ffn_down.weight",
    }
};

static const struct tensor_names gguf_split = {
    "token_embd.weight", "output_norm.weight", "output.weight", {
        [ROLE_ATTN_NORM] = GG "attn_norm.weight",
        [ROLE_Q] = GG "attn_q.weight",
        [ROLE_K] = GG "attn_k.weight",
        [ROLE_V] = GG "attn_v.weight",
        [ROLE_Q_BIAS] = GG "attn_q.bias",
        [ROLE_K_BIAS] = GG "attn_k.bias",
        [ROLE_V_BIAS] = GG "attn_v.bias",
        [ROLE_Q_NORM] = GG "attn_q_norm.weight",
        [ROLE_K_NORM] = GG "attn_k_norm.weight",
        [ROLE_O] = GG "attn_output.weight",
        [ROLE_FFN_NORM] = GG "ffn_norm.weight",
        [ROLE_GATE] = GG "ffn_gate.weight",
        [ROLE_UP] = GG "ffn_up.weight",
        [ROLE_DOWN] = GG "ffn_down.weight",
    }
};

static const struct model_arch table[] = {
    { "phi3", ARCH_LONGROPE | ARCH_WINDOW, &hf_fused, &gguf_fused, 1e-5f, 4096, 0, 0 },
    { "llama", ARCH_GGUF_PAIRS, &hf_split, &gguf_split, 1e-6f, 2048, 0, 0 },
    { "mistral", ARCH_WINDOW, &hf_split, NULL, 1e-6f, 131072, 0, 4096 },
    { "qwen2", ARCH_QKV_BIAS | ARCH_WINDOW_SWITCH, &hf_split, &gguf_split, 1e-6f, 32768, 0, 4096 },
    { "qwen3", ARCH_QK_NORM | ARCH_WINDOW_SWITCH, &hf_split, &gguf_split, 1e-6f, 32768, 128, 4096 },
};
enum { ARCH_COUNT = sizeof table / sizeof *table };

const struct model_arch *model_arch_find(const char *name, const struct model_arch *more) {
    for (; more && more->name; more++)
        if (strcmp(more->name, name) == 0)
            return more;
    for (int i = 0; i < ARCH_COUNT; i++)
        if (strcmp(table[i].name, name) == 0)
            return &table[i];
    return NULL;
}

bool model_arch_unsupported(const char *name, const char *path, struct error *err) {
    struct text names;
    text_init(&names);
    for (int i = 0; i < ARCH_COUNT; i++)
        text_append_format(&names, "%s%s", i == 0 ? "" : i + 1 < ARCH_COUNT ? ", " : " and ", table[i].name);
    error_set(err, ERROR_FAILED, "'%s' is a model of the architecture '%.100s'; supported are %s", path, name,
              names.bytes);
    text_release(&names);
    return false;
}

bool model_arch_has(const struct model_arch *arch, enum block_role role) {
    switch (role) {
    case ROLE_Q_BIAS:
    case ROLE_K_BIAS:
    case ROLE_V_BIAS:
        return arch->flags & ARCH_QKV_BIAS;
    case ROLE_Q_NORM:
    case ROLE_K_NORM:
        return arch->flags & ARCH_QK_NORM;
    default:
        return true;
    }
}
