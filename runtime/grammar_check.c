/* What would make reading endless: rules that begin with themselves, rules that cannot end. */
#include "runtime/grammar_parts.h"

#include <stdlib.h>

/* "From this node the rule's end can be reached", with or without reading bytes: worked out
 * backwards from the end, each node once. */
struct reach {
    const struct grammar *grammar;
    bool reads;             /* bytes may be read on the way */
    bool *nodes;            /* [node_count] */
    uint32_t *firsts;       /* [node_count + rule_count + 1] where the users of a node, or of a rule, begin */
    uint32_t *users;        /* the nodes that go on to it, or call it */
    uint32_t *work;         /* [node_count] nodes that became true */
    uint32_t work_count;
};

static bool holds(const struct reach *reach, uint32_t index) {
    const struct grammar *grammar = reach->grammar;
    const struct grammar_node *node = &grammar->nodes[index];
    switch (node->kind) {
    case NODE_END: return true;
    case NODE_SPLIT: return reach->nodes[node->a] || reach->nodes[node->b];
    case NODE_BYTES: return reach->reads && reach->nodes[node->b];
    case NODE_CALL: return reach->nodes[grammar->entries[node->a]] && reach->nodes[node->b];
    }
    return false;
}

/* For each node: count (or, with `users`, enter) whom its truth can make true. A call depends
 * on the first node of the rule. */
static void find_users(struct reach *reach, bool enters) {
    const struct grammar *grammar = reach->grammar;
    for (uint32_t i = 0; i < grammar->node_count; i++) {
        const struct grammar_node *node = &grammar->nodes[i];
        uint32_t on[2] = { node->b, node->kind == NODE_SPLIT ? node->a : 0 };
        unsigned count = node->kind == NODE_END ? 0 : node->kind == NODE_BYTES ? 1 : 2;
        if (node->kind == NODE_CALL)
            on[1] = grammar->entries[node->a];
        for (unsigned j = 0; j < count; j++)
            if (enters)
                reach->users[--reach->firsts[on[j]]] = i;
            else
                reach->firsts[on[j]]++;
    }
}

static bool find_reach(struct reach *reach) {
    const struct grammar *grammar = reach->grammar;
    uint32_t count = grammar->node_count;
    reach->nodes = calloc(count, sizeof *reach->nodes);
    reach->firsts = calloc((size_t)count + 1, sizeof *reach->firsts);
    reach->users = calloc(2 * (size_t)count, sizeof *reach->users);
    reach->work = calloc(count, sizeof *reach->work);
    if (!reach->nodes || !reach->firsts || !reach->users || !reach->work)
        return false;
    find_users(reach, false);
    for (uint32_t i = 1; i <= count; i++)
        reach->firsts[i] += reach->firsts[i - 1];
    find_users(reach, true);
    reach->nodes[GRAMMAR_END] = true;
    reach->work[reach->work_count++] = GRAMMAR_END;
    while (reach->work_count) {
        uint32_t node = reach->work[--reach->work_count];
        for (uint32_t i = reach->firsts[node]; i < reach->firsts[node + 1]; i++) {
            uint32_t user = reach->users[i];
            if (!reach->nodes[user] && holds(reach, user)) {
                reach->nodes[user] = true;
                reach->work[reach->work_count++] = user;
            }
        }
    }
    return true;
}

static void reach_release(struct reach *reach) {
    free(reach->nodes);
    free(reach->firsts);
    free(reach->users);
    free(reach->work);
}

/* Rules in the order of a walk: from a rule to those that it calls. A walk that meets a rule
 * which it is still in has found a circle. */
enum visit { UNSEEN, OPEN, CLOSED };

struct walk {
    const struct grammar *grammar;
    const bool *can_be_empty;   /* [node_count]; NULL: every call is followed, not only the first ones */
    uint8_t *rules;             /* [rule_count] enum visit */
    uint32_t *seen;             /* [node_count] whether the node was met */
    uint32_t *stack;            /* [2 * node_count + 2 * rule_count] nodes that are left; rule marks */
    uint32_t stack_count;
    uint32_t circle;            /* a rule that leads back to itself */
};

#define CLOSES 0x80000000u      /* on the stack: the rule in the other bits is done */

static void push_node(struct walk *walk, uint32_t node) {
    if (walk->seen[node])
        return;
    walk->seen[node] = 1;
    walk->stack[walk->stack_count++] = node;
}

static void enter(struct walk *walk, uint32_t rule) {
    if (walk->can_be_empty && walk->rules[rule] == OPEN && walk->circle == NO_RULE)
        walk->circle = rule;
    if (walk->rules[rule] != UNSEEN)
        return;
    walk->rules[rule] = OPEN;
    walk->stack[walk->stack_count++] = CLOSES | rule;
    push_node(walk, walk->grammar->entries[rule]);
}

/* Nodes of one rule are no other's, and GRAMMAR_END needs no visit: each is met once. A node
 * that calls is left when the called rule is closed, since that lies above it on the stack;
 * what follows the call goes below. */
static void walk_from(struct walk *walk, uint32_t rule) {
    const struct grammar *grammar = walk->grammar;
    enter(walk, rule);
    while (walk->stack_count) {
        uint32_t top = walk->stack[--walk->stack_count];
        if (top & CLOSES) {
            walk->rules[top & ~CLOSES] = CLOSED;
            continue;
        }
        const struct grammar_node *node = &grammar->nodes[top];
        if (node->kind == NODE_SPLIT) {
            push_node(walk, node->b);
            push_node(walk, node->a);
        } else if (node->kind == NODE_BYTES && !walk->can_be_empty) {
            push_node(walk, node->b);
        } else if (node->kind == NODE_CALL) {
            if (!walk->can_be_empty || walk->can_be_empty[grammar->entries[node->a]])
                push_node(walk, node->b);
            enter(walk, node->a);
        }
    }
}

static bool walk_start(struct walk *walk) {
    size_t nodes = walk->grammar->node_count, rules = walk->grammar->rule_count;
    walk->circle = NO_RULE;
    walk->rules = calloc(rules, sizeof *walk->rules);
    walk->seen = calloc(nodes, sizeof *walk->seen);
    walk->stack = calloc(nodes + rules + 2, sizeof *walk->stack);
    return walk->rules && walk->seen && walk->stack;
}

static void walk_release(struct walk *walk) {
    free(walk->rules);
    free(walk->seen);
    free(walk->stack);
}

static const char *name_of(const struct grammar_source *source, uint32_t rule) {
    return source->rules[rule].name ? source->rules[rule].name : "a group";
}

bool grammar_check(const struct grammar *grammar, const struct grammar_source *source, struct error *err) {
    struct reach empty = { .grammar = grammar }, ends = { .grammar = grammar, .reads = true };
    struct walk left = { .grammar = grammar }, all = { .grammar = grammar };
    bool ok = find_reach(&empty) && find_reach(&ends) && walk_start(&left) && walk_start(&all);
    if (!ok)
        error_set(err, ERROR_FAILED, "cannot read %s: out of memory", source->name);
    left.can_be_empty = empty.nodes;
    if (ok) {
        walk_from(&all, grammar->root);
        for (uint32_t i = 0; i < grammar->rule_count; i++)
            if (all.rules[i] != UNSEEN)
                walk_from(&left, i);
    }
    if (ok && left.circle != NO_RULE)
        ok = error_set(err, ERROR_USAGE, "%s: the rule '%.60s' begins with itself, which could go on for ever; put "
                       "what repeats behind, as in: list ::= item (\",\" item)*", source->name,
                       name_of(source, left.circle));
    for (uint32_t i = 0; ok && i < grammar->rule_count; i++)
        if (all.rules[i] != UNSEEN && !ends.nodes[grammar->entries[i]])
            ok = error_set(err, ERROR_USAGE, "%s: the rule '%.60s' can never end", source->name, name_of(source, i));
    reach_release(&empty);
    reach_release(&ends);
    walk_release(&left);
    walk_release(&all);
    return ok;
}
