#include "runtime/grammar_automaton.h"

#include "runtime/grammar_parts.h"

#include <stdlib.h>
#include <string.h>

#define MOST_WAYS (1u << 16)     /* of one state: a list of so many words */
#define MOST_SEEN (1u << 18)     /* nodes and stacks that are met on the way to them */
#define SEEN_SLOTS (2 * MOST_SEEN)

/* ---- classes of bytes ---- */

/* Split the classes so that no set cuts one. */
static void find_classes(struct automaton *automaton) {
    const struct grammar *grammar = automaton->grammar;
    automaton->class_count = 1;
    for (uint32_t i = 0; i < grammar->set_count; i++) {
        uint16_t inside[256];
        bool has_outside[256] = { false };
        memset(inside, 0xff, sizeof inside);
        for (unsigned byte = 0; byte < 256; byte++)
            if (!byte_set_has(&grammar->sets[i], byte))
                has_outside[automaton->class_of[byte]] = true;
        for (unsigned byte = 0; byte < 256; byte++) {
            uint8_t old = automaton->class_of[byte];
            if (!byte_set_has(&grammar->sets[i], byte) || !has_outside[old])
                continue;
            if (inside[old] == 0xffff)
                inside[old] = (uint16_t)automaton->class_count++;
            automaton->class_of[byte] = (uint8_t)inside[old];
        }
    }
}

static bool find_set_classes(struct automaton *automaton) {
    const struct grammar *grammar = automaton->grammar;
    automaton->set_classes = calloc((size_t)grammar->set_count + 1, automaton->class_count);
    if (!automaton->set_classes)
        return false;
    for (uint32_t i = 0; i < grammar->set_count; i++)
        for (unsigned byte = 0; byte < 256; byte++)
            if (byte_set_has(&grammar->sets[i], byte))
                automaton->set_classes[(size_t)i * automaton->class_count + automaton->class_of[byte]] = 1;
    return true;
}

/* ---- tables ---- */

static uint32_t hash_pair(uint32_t a, uint32_t b) {
    uint64_t hash = ((uint64_t)a << 32 | b) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(hash >> 32);
}

static uint32_t hash_ways(const struct automaton_way *ways, uint32_t count, bool can_end) {
    uint32_t hash = can_end;
    for (uint32_t i = 0; i < count; i++)
        hash = hash_pair(hash ^ ways[i].node, ways[i].frame + 0x85ebca6bu * hash);
    return hash;
}

static bool grow_slots(struct automaton *automaton, uint32_t **slots, uint32_t *mask, bool of_states) {
    uint32_t wider = *mask ? 2 * *mask + 1 : 1023, *fresh = calloc((size_t)wider + 1, sizeof *fresh);
    uint32_t count = of_states ? automaton->state_count : automaton->frame_count;
    if (!fresh) {
        automaton->failed = true;
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = of_states ? automaton->states[i].hash
                                : hash_pair(automaton->frames[i].node, automaton->frames[i].parent);
        for (at &= wider; fresh[at];)
            at = (at + 1) & wider;
        fresh[at] = i + 1;
    }
    free(*slots);
    *slots = fresh;
    *mask = wider;
    return true;
}

static uint32_t add_frame(struct automaton *automaton, uint32_t node, uint32_t parent) {
    if (2 * automaton->frame_count >= automaton->frame_mask
        && !grow_slots(automaton, &automaton->frame_slots, &automaton->frame_mask, false))
        return 0;
    uint32_t at = hash_pair(node, parent) & automaton->frame_mask;
    for (; automaton->frame_slots[at]; at = (at + 1) & automaton->frame_mask) {
        const struct automaton_frame *frame = &automaton->frames[automaton->frame_slots[at] - 1];
        if (frame->node == node && frame->parent == parent)
            return automaton->frame_slots[at] - 1;
    }
    if (!grammar_grow((void **)&automaton->frames, &automaton->frame_capacity, automaton->frame_count,
                      sizeof *automaton->frames, &automaton->failed))
        return 0;
    automaton->frames[automaton->frame_count] = (struct automaton_frame){ node, parent };
    automaton->frame_slots[at] = ++automaton->frame_count;
    return automaton->frame_count - 1;
}

/* The state of these sorted ways. */
static uint32_t add_state(struct automaton *automaton, const struct automaton_way *ways, uint32_t count,
                          bool can_end) {
    if (2 * automaton->state_count >= automaton->state_mask
        && !grow_slots(automaton, &automaton->state_slots, &automaton->state_mask, true))
        return AUTOMATON_FAILED;
    uint32_t hash = hash_ways(ways, count, can_end), at = hash & automaton->state_mask;
    for (; automaton->state_slots[at]; at = (at + 1) & automaton->state_mask) {
        const struct automaton_state *state = &automaton->states[automaton->state_slots[at] - 1];
        if (state->hash == hash && state->count == count && state->can_end == can_end
            && (!count || memcmp(automaton->ways + state->first, ways, count * sizeof *ways) == 0))
            return automaton->state_slots[at] - 1;
    }
    uint32_t classes = automaton->class_count, index = automaton->state_count;
    if (automaton_bytes(automaton) > automaton->memory_limit) {
        automaton->too_many = true;
        return AUTOMATON_FAILED;
    }
    while (automaton->way_count + count > automaton->way_capacity)
        if (!grammar_grow((void **)&automaton->ways, &automaton->way_capacity, automaton->way_capacity,
                          sizeof *ways, &automaton->failed))
            return AUTOMATON_FAILED;
    while ((uint64_t)(index + 1) * classes > automaton->next_capacity)
        if (!grammar_grow((void **)&automaton->next, &automaton->next_capacity, automaton->next_capacity,
                          sizeof *automaton->next, &automaton->failed))
            return AUTOMATON_FAILED;
    if (!grammar_grow((void **)&automaton->states, &automaton->state_capacity, index, sizeof *automaton->states,
                      &automaton->failed))
        return AUTOMATON_FAILED;
    if (count)
        memcpy(automaton->ways + automaton->way_count, ways, count * sizeof *ways);
    automaton->states[index] = (struct automaton_state){ automaton->way_count, count, hash, can_end, NULL };
    automaton->way_count += count;
    memset(automaton->next + (size_t)index * classes, 0xff, classes * sizeof *automaton->next);
    automaton->state_slots[at] = ++automaton->state_count;
    return index;
}

/* ---- making a state ---- */

/* Put a way on the work list, unless it was there. */
static void visit(struct automaton *automaton, uint32_t node, uint32_t frame) {
    uint32_t at = hash_pair(node + 1, frame) & (SEEN_SLOTS - 1);
    for (; automaton->seen_slots[at]; at = (at + 1) & (SEEN_SLOTS - 1)) {
        const struct automaton_way *seen = &automaton->seen[automaton->seen_slots[at] - 1];
        if (seen->node == node && seen->frame == frame)
            return;
    }
    if (automaton->seen_count == MOST_SEEN || !automaton->work_left) {
        automaton->too_many = true;
        return;
    }
    automaton->work_left--;
    if (!grammar_grow((void **)&automaton->seen, &automaton->seen_capacity, automaton->seen_count,
                      sizeof *automaton->seen, &automaton->failed)
        || !grammar_grow((void **)&automaton->work, &automaton->work_capacity, automaton->work_count,
                         sizeof *automaton->work, &automaton->failed))
        return;
    automaton->seen[automaton->seen_count] = (struct automaton_way){ node, frame };
    automaton->seen_slots[at] = ++automaton->seen_count;
    automaton->work[automaton->work_count++] = (struct automaton_way){ node, frame };
}

static int compare_ways(const void *left, const void *right) {
    const struct automaton_way *a = left, *b = right;
    if (a->node != b->node)
        return a->node < b->node ? -1 : 1;
    return (a->frame > b->frame) - (a->frame < b->frame);
}

/* Follow everything on the work list to the nodes that read bytes; the state of those. */
static uint32_t finish_state(struct automaton *automaton) {
    const struct grammar *grammar = automaton->grammar;
    bool can_end = false;
    automaton->found_count = 0;
    while (automaton->work_count && !automaton->failed && !automaton->too_many) {
        struct automaton_way way = automaton->work[--automaton->work_count];
        const struct grammar_node *node = &grammar->nodes[way.node];
        switch (node->kind) {
        case NODE_END:
            if (way.frame)
                visit(automaton, automaton->frames[way.frame].node, automaton->frames[way.frame].parent);
            else
                can_end = true;
            break;
        case NODE_SPLIT:
            visit(automaton, node->a, way.frame);
            visit(automaton, node->b, way.frame);
            break;
        case NODE_CALL:
            /* Nothing to come back for: lists that call themselves at their end need no stack. */
            visit(automaton, grammar->entries[node->a],
                  node->b == GRAMMAR_END ? way.frame : add_frame(automaton, node->b, way.frame));
            break;
        case NODE_BYTES:
            if (automaton->found_count == MOST_WAYS)
                automaton->too_many = true;
            else if (grammar_grow((void **)&automaton->found, &automaton->found_capacity, automaton->found_count,
                                  sizeof *automaton->found, &automaton->failed))
                automaton->found[automaton->found_count++] = way;
            break;
        }
    }
    automaton->work_count = 0;
    for (uint32_t i = 0; i < automaton->seen_count; i++) {   /* empty the table for the next one */
        uint32_t at = hash_pair(automaton->seen[i].node + 1, automaton->seen[i].frame) & (SEEN_SLOTS - 1);
        while (automaton->seen_slots[at]) {
            automaton->seen_slots[at] = 0;
            at = (at + 1) & (SEEN_SLOTS - 1);
        }
    }
    automaton->seen_count = 0;
    if (automaton->failed || automaton->too_many)
        return AUTOMATON_FAILED;
    if (automaton->found_count > 1)
        qsort(automaton->found, automaton->found_count, sizeof *automaton->found, compare_ways);
    return add_state(automaton, automaton->found, automaton->found_count, can_end);
}

uint32_t automaton_find_next(struct automaton *automaton, uint32_t state, unsigned class_index) {
    if (automaton->failed || automaton->too_many)
        return AUTOMATON_FAILED;
    struct automaton_state from = automaton->states[state];
    automaton->work_left -= from.count / 16 < automaton->work_left ? from.count / 16 : automaton->work_left;
    for (uint32_t i = 0; i < from.count; i++) {
        struct automaton_way way = automaton->ways[from.first + i];
        const struct grammar_node *node = &automaton->grammar->nodes[way.node];
        if (automaton->set_classes[(size_t)node->a * automaton->class_count + class_index])
            visit(automaton, node->b, way.frame);
    }
    bool is_dead = !automaton->work_count && !automaton->failed && !automaton->too_many;
    uint32_t next = is_dead ? AUTOMATON_DEAD : finish_state(automaton);
    if (next != AUTOMATON_FAILED)
        automaton->next[(size_t)state * automaton->class_count + class_index] = next;
    return next;
}

uint32_t automaton_read(struct automaton *automaton, uint32_t state, const void *bytes, size_t size) {
    const uint8_t *at = bytes;
    for (size_t i = 0; i < size && state != AUTOMATON_DEAD && state != AUTOMATON_FAILED; i++)
        state = automaton_step(automaton, state, at[i]);
    return state;
}

/* ---- as a whole ---- */

void automaton_allow(struct automaton *automaton, uint64_t work) {
    automaton->work_left = work;
}

size_t automaton_bytes(const struct automaton *automaton) {
    return automaton->frame_count * (sizeof *automaton->frames + 2 * sizeof(uint32_t))
           + automaton->way_count * sizeof *automaton->ways + automaton->mask_bytes
           + automaton->state_count * (sizeof *automaton->states + (2 + automaton->class_count) * sizeof(uint32_t));
}

/* The dead state, the empty stack and the start. */
static bool begin(struct automaton *automaton, bool finds_start) {
    automaton->frame_count = automaton->way_count = automaton->state_count = 0;
    automaton->mask_bytes = 0;
    automaton->too_many = false;
    automaton->work_left = MOST_SEEN;
    free(automaton->frame_slots);
    free(automaton->state_slots);
    automaton->frame_slots = automaton->state_slots = NULL;
    automaton->frame_mask = automaton->state_mask = 0;
    add_frame(automaton, GRAMMAR_END, 0);
    if (add_state(automaton, NULL, 0, false) == AUTOMATON_FAILED)
        return false;
    memset(automaton->next, 0, automaton->class_count * sizeof *automaton->next);   /* dead stays dead */
    if (!finds_start)
        return !automaton->failed;
    visit(automaton, automaton->grammar->entries[automaton->grammar->root], 0);
    automaton->start = finish_state(automaton);
    return automaton->start != AUTOMATON_FAILED;
}

bool automaton_has_failed(const struct automaton *automaton) {
    return automaton->failed || automaton->too_many;
}

bool automaton_error(const struct automaton *automaton, struct error *err) {
    if (automaton->too_many)
        return error_set(err, ERROR_USAGE, "the grammar can read the text so far in too many ways; make its "
                         "alternatives differ at their beginning");
    return error_set(err, ERROR_FAILED, "cannot follow the grammar: out of memory");
}

struct automaton *automaton_new(const struct grammar *grammar, size_t memory_limit, struct error *err) {
    struct automaton *automaton = calloc(1, sizeof *automaton);
    if (!automaton) {
        error_set(err, ERROR_FAILED, "cannot follow the grammar: out of memory");
        return NULL;
    }
    automaton->grammar = grammar;
    automaton->memory_limit = memory_limit;
    automaton->seen_slots = calloc(SEEN_SLOTS, sizeof *automaton->seen_slots);
    find_classes(automaton);
    if (automaton->seen_slots && find_set_classes(automaton) && begin(automaton, true))
        return automaton;
    automaton_error(automaton, err);
    automaton_free(automaton);
    return NULL;
}

static void free_masks(struct automaton *automaton) {
    for (uint32_t i = 0; i < automaton->state_count; i++)
        free(automaton->states[i].mask);
}

void automaton_free(struct automaton *automaton) {
    if (!automaton)
        return;
    free_masks(automaton);
    free(automaton->set_classes);
    free(automaton->frames);
    free(automaton->ways);
    free(automaton->states);
    free(automaton->next);
    free(automaton->frame_slots);
    free(automaton->state_slots);
    free(automaton->work);
    free(automaton->found);
    free(automaton->seen_slots);
    free(automaton->seen);
    free(automaton);
}

bool automaton_can_end(const struct automaton *automaton, uint32_t state) {
    return automaton->states[state].can_end;
}

bool automaton_can_go_on(const struct automaton *automaton, uint32_t state) {
    return automaton->states[state].count > 0;
}

/* The frame of `from` with all below it, in `to`. *path: scratch of the caller. */
static uint32_t copy_frame(struct automaton *to, const struct automaton_frame *from, uint32_t frame,
                           uint32_t **path, uint32_t *capacity) {
    uint32_t depth = 0, copy = 0;
    for (; frame; frame = from[frame].parent) {
        if (!grammar_grow((void **)path, capacity, depth, sizeof **path, &to->failed))
            return 0;
        (*path)[depth++] = frame;
    }
    while (depth-- > 0 && !to->failed)
        copy = add_frame(to, from[(*path)[depth]].node, copy);
    return copy;
}

bool automaton_trim(struct automaton *automaton, uint32_t *states, uint32_t count, struct error *err) {
    struct automaton old = *automaton;
    uint32_t *path = NULL, path_capacity = 0;
    struct automaton_way *ways = NULL;
    uint32_t way_capacity = 0;
    bool ok;
    free_masks(&old);
    automaton->frames = NULL;
    automaton->ways = NULL;
    automaton->states = NULL;
    automaton->frame_capacity = automaton->way_capacity = automaton->state_capacity = 0;
    automaton->frame_slots = automaton->state_slots = NULL;
    ok = begin(automaton, true);
    for (uint32_t i = 0; ok && i < count; i++) {
        struct automaton_state state = old.states[states[i]];
        for (uint32_t j = 0; ok && j < state.count; j++) {
            struct automaton_way way = old.ways[state.first + j];
            way.frame = copy_frame(automaton, old.frames, way.frame, &path, &path_capacity);
            ok = grammar_grow((void **)&ways, &way_capacity, j, sizeof *ways, &automaton->failed);
            if (ok)
                ways[j] = way;
        }
        if (!ok || automaton->failed)
            break;
        if (state.count > 1)
            qsort(ways, state.count, sizeof *ways, compare_ways);
        if (states[i] != AUTOMATON_DEAD)
            states[i] = add_state(automaton, ways, state.count, state.can_end);
        ok = states[i] != AUTOMATON_FAILED;
    }
    ok = ok && !automaton->failed;
    free(path);
    free(ways);
    free(old.frames);
    free(old.ways);
    free(old.states);
    free(old.frame_slots);
    free(old.state_slots);
    return ok || automaton_error(automaton, err);
}
