/* The memory side of accelerate_map.h: max_memory, balancing, and the policies that
 * choose among them. */
#include "planner/accelerate_map.h"

#include "planner/device_choice.h"
#include "planner/size_text.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- max_memory ---- */

/* Numbers first, then the CPU, then the disk. */
static int64_t rank(int32_t device) {
    return device >= 0 ? device : (int64_t)INT32_MAX - device;
}

bool accelerate_memory_add(struct accelerate_memory *memory, int32_t device, uint64_t bytes,
                           struct error *err) {
    uint32_t at = 0;
    if (bytes > ACCELERATE_MAX_BYTES)
        bytes = ACCELERATE_MAX_BYTES;
    while (at < memory->count && rank(memory->devices[at].device) < rank(device))
        at++;
    if (at == memory->count || memory->devices[at].device != device) {
        if (memory->count == ACCELERATE_MAX_DEVICES)
            return error_set(err, ERROR_USAGE, "--max-memory names more than %d devices", ACCELERATE_MAX_DEVICES);
        memmove(&memory->devices[at + 1], &memory->devices[at],
                (memory->count - at) * sizeof memory->devices[0]);
        memory->count++;
    }
    memory->devices[at].device = device;
    memory->devices[at].bytes = bytes;
    return true;
}

struct memory_reader { struct accelerate_memory *memory; struct text *notes; };

static bool read_amount(void *context, const char *word, struct error *err) {
    struct memory_reader *reader = context;
    struct size_value size;
    size_t length = strcspn(word, "=");
    int32_t device = -1;
    if (!word[length])
        return error_set(err, ERROR_USAGE, "--max-memory: '%s' names no device; write for example "
                         "0=8GiB,1=3GiB,cpu=24GiB", word);
    while (length && isspace((unsigned char)word[length - 1]))
        length--;
    if (length == 3 && strncmp(word, "cpu", 3) == 0)
        device = DEVICE_MAP_CPU;
    else if (length == 4 && strncmp(word, "disk", 4) == 0)
        device = DEVICE_MAP_DISK;
    else if (length && length < 6 && strspn(word, "0123456789") == length)
        device = (int32_t)strtol(word, NULL, 10);
    else
        return error_set(err, ERROR_USAGE, "--max-memory: '%.*s' is no device for a map that Accelerate reads: it "
                         "knows numbers, cpu and disk", (int)(length < 40 ? length : 40), word);
    if (!size_parse_limit("--max-memory", word, &size, reader->notes, err))
        return false;
    if (size.is_percent)
        return error_set(err, ERROR_USAGE, "--max-memory: '%s' is a part of nothing known: the map is made without "
                         "looking at devices; give an amount such as 8GiB", word);
    return accelerate_memory_add(reader->memory, device, size.bytes, err);
}

bool accelerate_memory_parse(const char *list, struct accelerate_memory *memory, struct text *notes,
                             struct error *err) {
    struct memory_reader reader = { memory, notes };
    *memory = (struct accelerate_memory){ 0 };
    if (!each_word(list, read_amount, &reader, err))
        return false;
    return memory->count || error_set(err, ERROR_USAGE, "this map wants --max-memory, for example "
                                      "0=8GiB,1=3GiB,cpu=24GiB: it is made without looking at devices");
}

/* ---- balancing ---- */

static bool has_tensors(const struct module_tree *tree, uint32_t node) {
    return module_is_leaf(tree, node) && tree->nodes[node].bytes > 0;
}

/* Room beyond an even share, as each library reckons it: 1.25 times a block or, where
 * that is more, the mean (Accelerate) or the largest (transformers) of the leaves. */
static uint64_t share_buffer(const struct module_tree *tree, enum accelerate_dialect dialect) {
    uint64_t block = 0, sum = 0, largest = 0, leaves = 0;
    for (uint32_t i = 1; i < tree->count; i++) {
        const struct module_node *node = &tree->nodes[i];
        bool is_first = node->is_block && !block;
        if (is_first || (node->is_block && dialect == TRANSFORMERS_5 && node->bytes > block))
            block = node->bytes;
        if (!has_tensors(tree, i))
            continue;
        sum += node->bytes;
        leaves++;
        if (node->bytes > largest)
            largest = node->bytes;
    }
    uint64_t leaf = dialect == TRANSFORMERS_5 ? largest : (uint64_t)((double)sum / (double)(leaves ? leaves : 1));
    return (uint64_t)(1.25 * (double)(block > leaf ? block : leaf));
}

static uint64_t *limit_of(struct accelerate_memory *memory, int32_t device) {
    for (uint32_t i = 0; i < memory->count; i++)
        if (memory->devices[i].device == device)
            return &memory->devices[i].bytes;
    return NULL;
}

static void lower(uint64_t *limit, uint64_t most) {
    if (*limit > most)
        *limit = most;
}

/* Device 0 gets what the others leave over. */
static bool lower_zero(const struct module_tree *tree, uint32_t used, struct accelerate_memory *memory,
                       struct error *err) {
    uint64_t others = 0, total = tree->nodes[0].bytes;
    for (uint32_t i = 0; i < used; i++) {
        const uint64_t *limit = limit_of(memory, (int32_t)i);
        if (!limit)
            return error_set(err, ERROR_USAGE, "balancing with a low device 0 wants devices numbered 0, 1, ... without "
                             "a gap, and there is no %u; number them so, or use hf-balanced", i);
        others += i ? *limit : 0;
    }
    lower(limit_of(memory, 0), total > others ? total - others : 0);
    return true;
}

bool accelerate_balance(const struct module_tree *tree, enum accelerate_dialect dialect, bool low_zero,
                        struct accelerate_memory *memory, struct error *err) {
    uint32_t used = 0, last = 0;
    if (dialect == ACCELERATE_1 && limit_of(memory, DEVICE_MAP_DISK))
        return error_set(err, ERROR_USAGE, "a disk cannot be balanced: Accelerate fails on it too; leave disk= out of "
                         "--max-memory (the disk takes what is left over anyway) or use hf-sequential");
    for (uint32_t i = 0; i < memory->count; i++) {
        if (memory->devices[i].device >= 0 && memory->devices[i].bytes) {
            used++;
            last = i;
        }
    }
    if (!used)
        return true;
    low_zero = low_zero && used > 1;
    uint64_t share = tree->nodes[0].bytes / (low_zero ? used - 1 : used) + share_buffer(tree, dialect);
    for (uint32_t i = 0; i < last; i++)
        if (memory->devices[i].bytes && !(low_zero && memory->devices[i].device == 0))
            lower(&memory->devices[i].bytes, share);
    return !low_zero || lower_zero(tree, used, memory, err);
}

/* ---- policies ---- */

static const struct policy {
    const char *name;
    enum accelerate_dialect dialect;
    bool balances, low_zero;
} policies[] = {
    { "hf-sequential", ACCELERATE_1, false, false },
    { "hf-balanced", ACCELERATE_1, true, false },
    { "hf-balanced-low-0", ACCELERATE_1, true, true },
    { "hf-auto", TRANSFORMERS_5, true, false },
};

static const struct policy *find_policy(const char *name) {
    for (size_t i = 0; i < sizeof policies / sizeof *policies; i++)
        if (strcmp(policies[i].name, name) == 0)
            return &policies[i];
    return NULL;
}

bool accelerate_is_policy(const char *policy) {
    return find_policy(policy) != NULL;
}

uint32_t accelerate_dtype_bytes(const char *dtype) {
    static const struct { const char *name; uint32_t bytes; } types[] = {
        { "float32", 4 }, { "float", 4 }, { "f32", 4 },  { "float16", 2 }, { "half", 2 }, { "f16", 2 },
        { "bfloat16", 2 }, { "bf16", 2 }, { "int8", 1 },
    };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcasecmp(types[i].name, dtype) == 0)
            return types[i].bytes;
    return 0;
}

bool accelerate_policy_map(const struct model *model, const char *policy, const char *dtype,
                           struct accelerate_memory *memory, struct device_map *map, struct error *err) {
    const struct policy *known = find_policy(policy);
    if (!known)
        return error_set(err, ERROR_USAGE, "'%s' is no policy of Accelerate", policy);
    uint32_t value_bytes = accelerate_dtype_bytes(dtype);
    /* Accelerate takes all tensors at the dtype given; transformers knows that the rotary
     * buffers stay float32. */
    bool narrow = known->dialect == ACCELERATE_1 && value_bytes && value_bytes < 4;
    struct module_sizes sizes = { value_bytes, narrow ? value_bytes : 4 };
    struct accelerate_options options = { .dialect = known->dialect };
    struct module_tree *tree = module_tree_new(model, &sizes, err);
    bool ok = tree && (!known->balances || accelerate_balance(tree, known->dialect, known->low_zero, memory, err)) &&
              accelerate_infer(tree, memory, &options, map, err);
    module_tree_free(tree);
    return ok;
}
