/* Expressions to the network, from back to front: each is compiled for the node that follows. */
#include "runtime/grammar_parts.h"

#include <stdlib.h>
#include <string.h>

#define MOST_NODES (1u << 20)
#define MOST_SETS (1u << 16)
#define SMALL_LITERAL 4u

struct compiler {
    struct grammar_source *source;
    struct grammar *grammar;
    uint32_t node_capacity, set_capacity;
    uint32_t *set_slots;           /* [set_mask + 1] open addressing: set + 1; 0: empty */
    uint32_t set_mask;
    bool failed, is_too_large;
};

static uint32_t add_node(struct compiler *compiler, enum grammar_node_kind kind, uint32_t a, uint32_t b) {
    struct grammar *grammar = compiler->grammar;
    if (grammar->node_count == MOST_NODES)
        compiler->is_too_large = true;
    if (compiler->is_too_large || !grammar_grow((void **)&grammar->nodes, &compiler->node_capacity, grammar->node_count,
                                                sizeof *grammar->nodes, &compiler->failed))
        return GRAMMAR_END;
    grammar->nodes[grammar->node_count] = (struct grammar_node){ kind, a, b };
    return grammar->node_count++;
}

static uint32_t hash_set(const struct byte_set *set) {
    uint64_t hash = 14695981039346656037u;
    for (int i = 0; i < 8; i++)
        hash = (hash ^ set->bits[i]) * 1099511628211u;
    return (uint32_t)(hash ^ hash >> 32);
}

static bool grow_slots(struct compiler *compiler) {
    const struct grammar *grammar = compiler->grammar;
    uint32_t mask = compiler->set_mask ? 2 * compiler->set_mask + 1 : 255;
    uint32_t *slots = calloc((size_t)mask + 1, sizeof *slots);
    if (!slots) {
        compiler->failed = true;
        return false;
    }
    for (uint32_t i = 0; i < grammar->set_count; i++) {
        uint32_t at = hash_set(&grammar->sets[i]) & mask;
        while (slots[at])
            at = (at + 1) & mask;
        slots[at] = i + 1;
    }
    free(compiler->set_slots);
    compiler->set_slots = slots;
    compiler->set_mask = mask;
    return true;
}

static uint32_t add_set(struct compiler *compiler, const struct byte_set *set) {
    struct grammar *grammar = compiler->grammar;
    if (2 * grammar->set_count >= compiler->set_mask && !grow_slots(compiler))
        return 0;
    uint32_t at = hash_set(set) & compiler->set_mask;
    for (; compiler->set_slots[at]; at = (at + 1) & compiler->set_mask)
        if (memcmp(&grammar->sets[compiler->set_slots[at] - 1], set, sizeof *set) == 0)
            return compiler->set_slots[at] - 1;
    if (grammar->set_count == MOST_SETS)
        compiler->is_too_large = true;
    if (compiler->is_too_large
        || !grammar_grow((void **)&grammar->sets, &compiler->set_capacity, grammar->set_count, sizeof *grammar->sets,
                         &compiler->failed))
        return 0;
    grammar->sets[grammar->set_count] = *set;
    compiler->set_slots[at] = ++grammar->set_count;
    return grammar->set_count - 1;
}

static void set_bytes(struct byte_set *set, uint32_t from, uint32_t to) {
    for (uint32_t byte = from; byte <= to; byte++)
        set->bits[byte >> 5] |= 1u << (byte & 31);
}

/* ---- characters as bytes ---- */

/* Ways into a class: for each node that the first byte leads to, the set of first bytes. */
struct head {
    struct byte_set set;
    uint32_t next;
};

/* The nodes after the first byte that were made for this class already. */
struct tail {
    uint8_t from, to;
    uint32_t next, node;
};

struct class {
    struct compiler *compiler;
    struct head *heads;
    struct tail *tails;
    uint32_t head_count, head_capacity, tail_count, tail_capacity;
};

static uint32_t tail_of(struct class *class, uint8_t from, uint8_t to, uint32_t next) {
    struct compiler *compiler = class->compiler;
    /* What can be shared was made last, mostly. */
    for (uint32_t i = class->tail_count; i-- > 0 && class->tail_count - i <= 16;)
        if (class->tails[i].from == from && class->tails[i].to == to && class->tails[i].next == next)
            return class->tails[i].node;
    struct byte_set set = { { 0 } };
    set_bytes(&set, from, to);
    uint32_t node = add_node(compiler, NODE_BYTES, add_set(compiler, &set), next);
    if (grammar_grow((void **)&class->tails, &class->tail_capacity, class->tail_count, sizeof *class->tails,
                     &compiler->failed))
        class->tails[class->tail_count++] = (struct tail){ from, to, next, node };
    return node;
}

/* Characters whose spellings are all byte ranges, one after the other. */
static void add_spelling(struct class *class, const uint8_t *from, const uint8_t *to, unsigned length, uint32_t next) {
    for (unsigned i = length; i-- > 1;)
        next = tail_of(class, from[i], to[i], next);
    for (uint32_t i = class->head_count; i-- > 0 && class->head_count - i <= 64;)
        if (class->heads[i].next == next) {
            set_bytes(&class->heads[i].set, from[0], to[0]);
            return;
        }
    if (!grammar_grow((void **)&class->heads, &class->head_capacity, class->head_count, sizeof *class->heads,
                      &class->compiler->failed))
        return;
    struct head *head = &class->heads[class->head_count++];
    *head = (struct head){ .next = next };
    set_bytes(&head->set, from[0], to[0]);
}

static void spell(uint32_t code, unsigned length, uint8_t *bytes) {
    static const uint8_t marks[] = { 0, 0, 0xc0, 0xe0, 0xf0 };
    for (unsigned i = length; i-- > 1; code >>= 6)
        bytes[i] = (uint8_t)(0x80 | (code & 0x3f));
    bytes[0] = (uint8_t)(marks[length] | code);
}

/* Cut a range whose spellings have one length until all but one byte are either the same or
 * every continuation byte there is. */
static void add_codes(struct class *class, uint32_t from, uint32_t to, unsigned length, uint32_t next) {
    for (unsigned i = 1; i < length; i++) {
        uint32_t low = (1u << 6 * i) - 1;
        if ((from & ~low) == (to & ~low))
            continue;
        if (from & low) {
            add_codes(class, from, from | low, length, next);
            add_codes(class, (from | low) + 1, to, length, next);
            return;
        }
        if ((to & low) != low) {
            add_codes(class, from, (to & ~low) - 1, length, next);
            add_codes(class, to & ~low, to, length, next);
            return;
        }
    }
    uint8_t first[4], last[4];
    spell(from, length, first);
    spell(to, length, last);
    add_spelling(class, first, last, length, next);
}

static uint32_t compile_class(struct compiler *compiler, const struct code_range *ranges, uint32_t count,
                              uint32_t next) {
    static const uint32_t ends[] = { 0x80, 0x800, 0x10000, 0x110000 };
    struct class class = { .compiler = compiler };
    for (uint32_t i = 0; i < count && !compiler->failed && !compiler->is_too_large; i++) {
        uint32_t from = ranges[i].from;
        for (unsigned length = 1; length <= 4 && from <= ranges[i].to; length++) {
            uint32_t to = ranges[i].to < ends[length - 1] ? ranges[i].to : ends[length - 1] - 1;
            if (from > to)
                continue;
            add_codes(&class, from, to, length, next);
            from = to + 1;
        }
    }
    uint32_t entry = GRAMMAR_END;
    for (uint32_t i = class.head_count; i-- > 0;) {
        uint32_t node = add_node(compiler, NODE_BYTES, add_set(compiler, &class.heads[i].set), class.heads[i].next);
        entry = i + 1 == class.head_count ? node : add_node(compiler, NODE_SPLIT, node, entry);
    }
    free(class.heads);
    free(class.tails);
    return entry;
}

static int compare_ranges(const void *left, const void *right) {
    const struct code_range *a = left, *b = right;
    return (a->from > b->from) - (a->from < b->from);
}

bool code_ranges_normalize(const struct code_range *ranges, uint32_t count, bool negate, struct code_range **out,
                           uint32_t *out_count) {
    /* Each range, the surrogates and the end can cut off one more. */
    struct code_range *sorted = calloc((size_t)count + 1, sizeof *sorted);
    struct code_range *result = calloc(2 * (size_t)count + 4, sizeof *result);
    *out = result;
    *out_count = 0;
    if (!sorted || !result) {
        free(sorted);
        free(result);
        *out = NULL;
        return false;
    }
    uint32_t joined = 0, used = 0;
    if (count) {
        memcpy(sorted, ranges, count * sizeof *sorted);
        qsort(sorted, count, sizeof *sorted, compare_ranges);
    }
    for (uint32_t i = 0; i < count; i++)
        if (joined && sorted[i].from <= sorted[joined - 1].to + 1)
            sorted[joined - 1].to = sorted[i].to > sorted[joined - 1].to ? sorted[i].to : sorted[joined - 1].to;
        else
            sorted[joined++] = sorted[i];
    uint32_t from = 0;
    for (uint32_t i = 0; i <= joined; i++) {
        struct code_range range;
        if (!negate && i == joined)
            break;
        if (!negate) {
            range = sorted[i];
        } else {
            uint32_t before = i < joined ? sorted[i].from : 0x110000;
            range = (struct code_range){ from, before - 1 };
            bool is_empty = before == from;
            from = i < joined ? sorted[i].to + 1 : from;
            if (is_empty)
                continue;
        }
        /* without the surrogates, which UTF-8 cannot spell */
        if (range.from < 0xd800 && range.to >= 0xd800)
            result[used++] = (struct code_range){ range.from, 0xd7ff };
        if (range.to > 0xdfff && range.from < 0xe000)
            result[used++] = (struct code_range){ 0xe000, range.to };
        if (range.to < 0xd800 || range.from > 0xdfff)
            result[used++] = range;
    }
    free(sorted);
    *out_count = used;
    return true;
}

/* ---- expressions ---- */

static uint32_t compile(struct compiler *compiler, uint32_t index, uint32_t next);

static uint32_t compile_literal(struct compiler *compiler, const struct expression *literal, uint32_t next) {
    for (uint32_t i = literal->count; i-- > 0;) {
        struct byte_set set = { { 0 } };
        uint8_t byte = compiler->source->bytes[literal->first + i];
        set_bytes(&set, byte, byte);
        next = add_node(compiler, NODE_BYTES, add_set(compiler, &set), next);
    }
    return next;
}

/* A part that stands at several places is a rule of its own there, unless it is small: so the
 * network's size does not multiply with repetitions in repetitions. */
static uint32_t compile_part(struct compiler *compiler, uint32_t index, bool is_repeated, uint32_t next) {
    struct expression *part = &compiler->source->expressions[index];
    bool is_small = part->kind == EXPRESSION_RULE || part->kind == EXPRESSION_CLASS
                    || (part->kind == EXPRESSION_LITERAL && part->count <= SMALL_LITERAL);
    if (!is_repeated || is_small)
        return compile(compiler, index, next);
    if (part->rule == NO_RULE) {
        uint32_t rule = grammar_add_rule(compiler->source, NULL, 0, 0);
        if (compiler->source->failed)
            return GRAMMAR_END;
        part->rule = rule;
        compiler->source->rules[rule].expression = index;
    }
    return add_node(compiler, NODE_CALL, part->rule, next);
}

static uint32_t compile_repeat(struct compiler *compiler, struct expression repeat, uint32_t next) {
    uint32_t end = next;
    uint64_t copies = (uint64_t)repeat.min + (repeat.max == REPEAT_FOREVER ? 1 : repeat.max - repeat.min);
    bool is_repeated = copies > 1;
    if (repeat.max == REPEAT_FOREVER) {
        uint32_t loop = add_node(compiler, NODE_SPLIT, end, end);
        uint32_t body = compile_part(compiler, repeat.first, is_repeated, loop);
        if (!compiler->is_too_large && !compiler->failed)
            compiler->grammar->nodes[loop].a = body;
        next = loop;
    } else {
        for (uint32_t i = repeat.min; i < repeat.max && !compiler->is_too_large && !compiler->failed; i++)
            next = add_node(compiler, NODE_SPLIT, compile_part(compiler, repeat.first, is_repeated, next), end);
    }
    for (uint32_t i = 0; i < repeat.min && !compiler->is_too_large && !compiler->failed; i++)
        next = compile_part(compiler, repeat.first, is_repeated, next);
    return next;
}

static uint32_t compile(struct compiler *compiler, uint32_t index, uint32_t next) {
    struct expression expression = compiler->source->expressions[index];
    uint32_t entry = next;
    if (compiler->is_too_large || compiler->failed)
        return GRAMMAR_END;
    switch (expression.kind) {
    case EXPRESSION_LITERAL: return compile_literal(compiler, &expression, next);
    case EXPRESSION_CLASS:
        return compile_class(compiler, compiler->source->ranges + expression.first, expression.count, next);
    case EXPRESSION_RULE: return add_node(compiler, NODE_CALL, expression.first, next);
    case EXPRESSION_SEQUENCE:
        for (uint32_t i = expression.count; i-- > 0;)
            entry = compile(compiler, compiler->source->children[expression.first + i], entry);
        return entry;
    case EXPRESSION_CHOICE:
        for (uint32_t i = expression.count; i-- > 0;) {
            uint32_t one = compile(compiler, compiler->source->children[expression.first + i], next);
            entry = i + 1 == expression.count ? one : add_node(compiler, NODE_SPLIT, one, entry);
        }
        return entry;
    case EXPRESSION_REPEAT: return compile_repeat(compiler, expression, next);
    }
    return entry;
}

struct grammar *grammar_compile(struct grammar_source *source, struct error *err) {
    struct compiler compiler = { .source = source, .grammar = calloc(1, sizeof *compiler.grammar) };
    struct grammar *grammar = compiler.grammar;
    uint32_t capacity = 0;
    compiler.failed = !grammar || source->failed;
    if (grammar)
        add_node(&compiler, NODE_END, 0, 0);
    /* Groups become rules while this runs. */
    for (uint32_t i = 0; i < source->rule_count && !compiler.failed && !compiler.is_too_large; i++) {
        if (!grammar_grow((void **)&grammar->entries, &capacity, i, sizeof *grammar->entries, &compiler.failed))
            break;
        grammar->entries[i] = compile(&compiler, source->rules[i].expression, GRAMMAR_END);
        grammar->rule_count = i + 1;
        compiler.failed |= source->failed;
        if (compiler.is_too_large)
            error_set(err, ERROR_USAGE, "%s is too large: its repetitions and classes need more than %u nodes",
                      source->name, MOST_NODES);
    }
    free(compiler.set_slots);
    if (compiler.failed)
        error_set(err, ERROR_FAILED, "cannot read %s: out of memory", source->name);
    if (!compiler.failed && !compiler.is_too_large)
        return grammar;
    grammar_free(grammar);
    return NULL;
}

void grammar_free(struct grammar *grammar) {
    if (!grammar)
        return;
    free(grammar->nodes);
    free(grammar->sets);
    free(grammar->entries);
    free(grammar);
}

struct grammar *grammar_parse(const char *text, size_t size, const char *name, struct error *err) {
    struct grammar_source source = { .name = name };
    struct grammar *grammar = NULL;
    uint32_t root = NO_RULE;
    if (size > GRAMMAR_TEXT_LIMIT) {
        error_set(err, ERROR_USAGE, "%s is larger than %zu MiB", name, GRAMMAR_TEXT_LIMIT >> 20);
        return NULL;
    }
    bool ok = grammar_read(&source, text, size, err);
    for (uint32_t i = 0; ok && i < source.rule_count; i++)
        if (strcmp(source.rules[i].name, "root") == 0)
            root = i;
    if (ok && root == NO_RULE)
        ok = error_set(err, ERROR_USAGE, "%s has no rule 'root'", name);
    grammar = ok ? grammar_compile(&source, err) : NULL;
    if (grammar) {
        grammar->root = root;
        if (!grammar_check(grammar, &source, err)) {
            grammar_free(grammar);
            grammar = NULL;
        }
    }
    grammar_source_release(&source);
    return grammar;
}
