/* grammar_automaton: where a text stands in a grammar, as a number.
 *
 * A state is the set of all ways to read the text so far; a way is a node and the stack of
 * nodes to go back to. Equal stacks and equal states are kept once, and each state remembers
 * where its bytes lead: so reading on is a table lookup nearly always, and a text that comes
 * back to where it was (the next character of a string) comes back to the same number.
 * Memory is bounded: see automaton_trim(). */
#ifndef RUNTIME_GRAMMAR_AUTOMATON_H
#define RUNTIME_GRAMMAR_AUTOMATON_H

#include "runtime/grammar.h"

#include <stdbool.h>

#define AUTOMATON_DEAD 0u                /* no way is left */
#define AUTOMATON_FAILED UINT32_MAX      /* too many ways at once, or no memory; see the sentence */

/* A way to go on: a node that reads a byte, and a stack. */
struct automaton_way {
    uint32_t node, frame;
};

struct automaton_frame {
    uint32_t node, parent;     /* the node to go back to, and the stack below; frame 0: empty */
};

struct automaton_state {
    uint32_t first, count;     /* of its ways */
    uint32_t hash;
    bool can_end;
    void *mask;                /* of the user of the states; freed with them */
};

struct automaton {
    const struct grammar *grammar;
    uint8_t class_of[256];          /* bytes that the grammar never tells apart have one class */
    uint32_t class_count;
    uint8_t *set_classes;           /* [set_count][class_count] whether a set has the class */
    struct automaton_frame *frames;
    struct automaton_way *ways;
    struct automaton_state *states;
    uint32_t *next;                 /* [state_count][class_count]; AUTOMATON_FAILED: not known yet */
    uint32_t frame_count, way_count, state_count, start;
    uint32_t frame_capacity, way_capacity, state_capacity, next_capacity;
    uint32_t *frame_slots, *state_slots;    /* open addressing: index + 1; 0: empty */
    uint32_t frame_mask, state_mask;
    size_t mask_bytes;              /* kept by the user of the masks */
    /* of the state that is being made */
    struct automaton_way *work, *found;
    uint32_t work_count, work_capacity, found_count, found_capacity;
    uint32_t *seen_slots;           /* [SEEN_SLOTS] index + 1 into seen */
    struct automaton_way *seen;
    uint32_t seen_count, seen_capacity;
    bool failed, too_many;
    size_t memory_limit;
    uint64_t work_left;
};

/* `grammar` is borrowed. Past `memory_limit` bytes it fails. */
struct automaton *automaton_new(const struct grammar *grammar, size_t memory_limit, struct error *err);
void automaton_free(struct automaton *automaton);   /* NULL is fine */

/* The state after one more byte: AUTOMATON_DEAD, or AUTOMATON_FAILED. */
uint32_t automaton_find_next(struct automaton *automaton, uint32_t state, unsigned class_index);
static inline uint32_t automaton_step_class(struct automaton *automaton, uint32_t state, unsigned class_index) {
    uint32_t next = automaton->next[(size_t)state * automaton->class_count + class_index];
    return next != AUTOMATON_FAILED ? next : automaton_find_next(automaton, state, class_index);
}
static inline uint32_t automaton_step(struct automaton *automaton, uint32_t state, uint8_t byte) {
    return automaton_step_class(automaton, state, automaton->class_of[byte]);
}
uint32_t automaton_read(struct automaton *automaton, uint32_t state, const void *bytes, size_t size);

/* How much making states may cost from now on, in nodes visited; a state of a usual grammar
 * costs some tens. Spent: AUTOMATON_FAILED. */
void automaton_allow(struct automaton *automaton, uint64_t work);

bool automaton_can_end(const struct automaton *automaton, uint32_t state);
bool automaton_can_go_on(const struct automaton *automaton, uint32_t state);

size_t automaton_bytes(const struct automaton *automaton);

/* Forget everything but these states, which get new numbers. False: out of memory; then all
 * that is left is automaton_free(). */
bool automaton_trim(struct automaton *automaton, uint32_t *states, uint32_t count, struct error *err);

bool automaton_has_failed(const struct automaton *automaton);
/* The sentence for AUTOMATON_FAILED. Always false. */
bool automaton_error(const struct automaton *automaton, struct error *err);

#endif
