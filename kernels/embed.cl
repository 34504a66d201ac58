/* embed: out[t] = row ids[t] of the table, as float.
 *
 *   table  [row_count][columns]  WEIGHTS_..., rows row_begin on of the vocabulary
 *   ids    [tokens]              int32; other rows are left as they are
 *   out    [tokens][columns]     float
 *
 * Launch: (columns / 32 rounded up, tokens) work-items, 32 columns each.
 * Host:   kernels/ops.c, op_embed(). Test: tests/test_kernel_embed.c. */
#include "kernels/numerics.h"
#include "kernels/kernel_args.h"
#include "kernels/row_floats.h"

kernel void embed(struct embed_args args, global const uchar *restrict table,
                  global const int *restrict ids, global float *restrict out) {
    int group = get_global_id(0), token = get_global_id(1);
    if (group * 32 >= args.columns || token >= args.token_count)
        return;
    int id = ids[token];
    if (id < args.row_begin || id - args.row_begin >= args.row_count)
        return;
    store_group(row_at(table, id - args.row_begin, args.columns), group, args.columns,
                out + (size_t)token * args.columns);
}
