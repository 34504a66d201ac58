/* ops_attention: the launches of attention. How the work is cut follows the device; the
 * result does not depend on it. */
#include "kernels/ops_internal.h"

#include "kernels/attention_span.h"

#include <limits.h>

_Static_assert(PAGE_TOKENS == KV_PAGE_TOKENS, "kernels and buffers disagree on the page");

/* Work-items (on a GPU: groups of them) that keep a compute unit busy: more than one, since
 * they are not alike. And the spans from which on sharing them out is worth another launch. */
#define CPU_ITEMS_OF_UNIT 4
#define GPU_GROUPS_OF_UNIT 8
#define CPU_LEAST_SPANS 4
#define GPU_LEAST_SPANS 2

/* Queries that share a work-item read the keys once; but there must be work for every core. */
static void share_keys(const struct ops *ops, struct attention_args *args, struct launch *launch) {
    arg_int group = args->head_count / args->kv_head_count;
    args->heads_per_item = group < ATTENTION_LANES ? group : ATTENTION_LANES;
    args->tokens_per_item = ATTENTION_LANES / args->heads_per_item;
    for (;;) {
        arg_int parts = (group + args->heads_per_item - 1) / args->heads_per_item;
        arg_int tiles = (args->token_count + args->tokens_per_item - 1) / args->tokens_per_item;
        *launch = (struct launch){ { (size_t)args->kv_head_count * (size_t)parts, (size_t)tiles }, 1, 1 };
        if (args->tokens_per_item == 1 ||
            (!ops->attention_splits &&
             launch->items[0] * launch->items[1] >= CPU_ITEMS_OF_UNIT * (size_t)ops->compute_units))
            return;
        args->tokens_per_item = (args->tokens_per_item + 1) / 2;
    }
}

/* Most spans of a query: those that its keys fill, and one more where a window begins within. */
static arg_int most_spans(const struct attention_args *args) {
    const arg_int least = SPAN_PAGES * PAGE_TOKENS;
    arg_int keys = args->key_count > 0 ? args->key_count : args->page_columns * PAGE_TOKENS;
    arg_int spans = (keys + least - 1) / least;
    if (args->window > 0 && args->window < keys && (args->window + least - 2) / least + 1 < spans)
        spans = (args->window + least - 2) / least + 1;
    return spans < 1 ? 1 : spans < MOST_SPANS ? spans : MOST_SPANS;
}

/* How many share the keys of a query, where `items` would be launched with one. */
static void split_keys(const struct ops *ops, struct attention_args *args, size_t items, uint64_t out_values) {
    const uint64_t queries = (uint64_t)args->token_count * (uint64_t)args->head_count;
    const arg_int slots = most_spans(args), least = ops->is_cpu ? CPU_LEAST_SPANS : GPU_LEAST_SPANS;
    const uint64_t result = queries * (uint64_t)args->head_dim;
    const uint64_t room = queries * (uint64_t)slots * ((uint64_t)args->head_dim + 2);
    const size_t wanted = (size_t)ops->compute_units * (ops->is_cpu ? CPU_ITEMS_OF_UNIT : GPU_GROUPS_OF_UNIT);
    size_t splits = ops->attention_splits ? ops->attention_splits
                  : slots >= least && items ? (wanted + items - 1) / items : 1;
    args->span_slots = slots;
    args->split_count = splits < (size_t)slots ? (arg_int)splits : slots;
    args->room_begin = 0;
    if (args->split_count > 1 && result + room <= out_values && result <= INT_MAX)
        args->room_begin = (arg_int)result;
    else
        args->split_count = 1;
}

bool op_attention(struct ops *ops, cl_mem qkv, cl_mem k, cl_mem v, cl_mem positions,
                  cl_mem sequences, cl_mem page_table, cl_mem out, uint64_t out_values,
                  const struct attention_args *args, struct error *err) {
    if (args->head_dim > 256 || args->kv_head_count < 1 || args->head_count % args->kv_head_count)
        return error_set(err, ERROR_FAILED, "the kernel 'attention' does not take %d heads of %d over %d "
                         "KV heads", (int)args->head_count, (int)args->head_dim, (int)args->kv_head_count);
    struct attention_args shared = *args;
    struct launch launch = { { (size_t)args->head_count, (size_t)args->token_count }, ATTENTION_GROUP, ATTENTION_GROUP };
    const bool is_tiled = ops->fixed[KERNEL_ATTENTION_TILE] != NULL;
    if (is_tiled)
        share_keys(ops, &shared, &launch);
    split_keys(ops, &shared, launch.items[0] * launch.items[1], out_values);
    launch.items[0] *= (size_t)shared.split_count * (is_tiled ? 1 : ATTENTION_GROUP);
    const struct kernel_argument arguments[] = {
        ARGUMENT(shared), ARGUMENT(qkv), ARGUMENT(k), ARGUMENT(v), ARGUMENT(positions),
        ARGUMENT(sequences), ARGUMENT(page_table), ARGUMENT(out)
    };
    const struct kernel_argument join_arguments[] = { ARGUMENT(shared), ARGUMENT(positions), ARGUMENT(out) };
    const struct launch join = {
        { (size_t)args->head_count * (((size_t)args->head_dim + 15) / 16), (size_t)args->token_count }, 16, 64
    };
    return ops_launch_fixed(ops, is_tiled ? KERNEL_ATTENTION_TILE : KERNEL_ATTENTION, &launch, arguments,
                            COUNT_OF(arguments), err) &&
           ((shared.split_count == 1 && !ops->rehearsed_items) ||
            ops_launch_fixed(ops, KERNEL_ATTENTION_JOIN, &join, join_arguments, COUNT_OF(join_arguments), err));
}
