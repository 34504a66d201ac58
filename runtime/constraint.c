#include "runtime/constraint.h"

#include "runtime/grammar_automaton.h"
#include "runtime/token_trie.h"

#include <stdlib.h>
#include <string.h>

#define MEMORY_LIMIT ((size_t)256 << 20)
#define TRIM_FROM (MEMORY_LIMIT / 4)
#define WORK_LIMIT ((uint64_t)50 << 20)    /* of one mask: a second or two */

#define MOST_CLASSES 63u             /* that have a bit; the others share the last one */
#define OTHER_CLASSES ((uint64_t)1 << MOST_CLASSES)

/* What can be said of a state without a walk: any `length` bytes of these classes lead on. */
struct stretch {
    uint32_t state;                  /* AUTOMATON_DEAD: the place is empty */
    uint32_t next;                   /* after one such byte */
    uint32_t length;
    uint64_t classes;
};
enum { STRETCHES = 2048, LONGEST_STRETCH = 24 };

struct constraint {
    const struct token_trie *trie;   /* borrowed */
    struct grammar *grammar;
    struct automaton *automaton;
    uint32_t words;                  /* of a mask */
    uint32_t *allowed;               /* [words] of the last call */
    struct stretch stretches[STRETCHES];   /* those found last, by state */
    uint64_t *below;                 /* [node_count] the classes of all bytes below a node, one bit each */
};

static void constraint_free(struct constraint *constraint) {
    if (!constraint)
        return;
    automaton_free(constraint->automaton);
    grammar_free(constraint->grammar);
    free(constraint->allowed);
    free(constraint->below);
    free(constraint);
}

void constraint_store_release(struct constraint_store *store) {
    constraint_free(store->constraint);
    token_trie_free(store->trie);
    free(store->text);
    *store = (struct constraint_store){ 0 };
}

static uint64_t class_bit(const struct automaton *automaton, uint8_t byte) {
    unsigned class_index = automaton->class_of[byte];
    return class_index < MOST_CLASSES ? (uint64_t)1 << class_index : OTHER_CLASSES;
}

/* A node's children lie between it and its skip; going backwards they are done before it. */
static bool find_classes_below(struct constraint *constraint, struct error *err) {
    const struct token_trie *trie = constraint->trie;
    uint64_t *below = constraint->below = calloc((size_t)trie->node_count + 1, sizeof *below);
    if (!below)
        return error_set(err, ERROR_FAILED, "cannot follow the grammar: out of memory");
    uint64_t sums[TRIE_MOST_DEPTH + 2] = { 0 };   /* of the nodes of a depth that were met since their parent */
    for (uint32_t i = trie->node_count; i-- > 0;) {
        const struct trie_node *node = &trie->nodes[i];
        below[i] = sums[node->depth + 1];
        sums[node->depth + 1] = 0;
        sums[node->depth] |= below[i] | class_bit(constraint->automaton, node->byte);
    }
    return true;
}

struct constraint *constraint_open(struct constraint_store *store, const char *text, const struct tokenizer *tokenizer,
                                   uint32_t vocab, struct error *err) {
    if (store->trie && (store->tokenizer != tokenizer || store->trie->vocab != vocab))
        constraint_store_release(store);
    if (store->constraint && strcmp(store->text, text) == 0 && !automaton_has_failed(store->constraint->automaton))
        return store->constraint;
    constraint_free(store->constraint);
    store->constraint = NULL;
    free(store->text);
    store->text = strdup(text);
    if (!store->trie)
        store->trie = token_trie_new(tokenizer, vocab, err);
    store->tokenizer = tokenizer;
    if (!store->trie)
        return NULL;
    struct constraint *constraint = store->text ? calloc(1, sizeof *constraint) : NULL;
    if (constraint) {
        constraint->trie = store->trie;
        constraint->words = (vocab + 31) / 32;
        constraint->allowed = calloc(constraint->words, sizeof *constraint->allowed);
        constraint->grammar = grammar_parse(text, strlen(text), "the grammar", err);
        if (constraint->grammar && constraint->allowed)
            constraint->automaton = automaton_new(constraint->grammar, MEMORY_LIMIT, err);
        if (constraint->automaton && find_classes_below(constraint, err))
            return store->constraint = constraint;
    }
    if (!constraint || !constraint->allowed)
        error_set(err, ERROR_FAILED, "cannot follow the grammar: out of memory");
    constraint_free(constraint);
    return NULL;
}

uint32_t constraint_start(const struct constraint *constraint) {
    return constraint->automaton->start;
}

/* Strings, names and the like read most of the vocabulary the same way, byte after byte: the
 * bytes that lead on as an 'e' does. */
static struct stretch make_stretch(struct automaton *automaton, uint32_t state) {
    struct stretch stretch = { .state = state, .next = automaton_step(automaton, state, 'e') };
    if (stretch.next == AUTOMATON_DEAD || stretch.next == AUTOMATON_FAILED)
        return stretch;
    for (unsigned i = 0; i < automaton->class_count && i < MOST_CLASSES; i++)
        if (automaton_step_class(automaton, state, i) == stretch.next)
            stretch.classes |= (uint64_t)1 << i;
    return stretch;
}

static const struct stretch *find_stretch(struct automaton *automaton, struct stretch *stretches, uint32_t state) {
    struct stretch *found = &stretches[state % STRETCHES];
    if (found->state == state)
        return found;
    struct stretch stretch = make_stretch(automaton, state), at = stretch;
    while (stretch.classes && stretch.length < LONGEST_STRETCH && (at.classes & stretch.classes) == stretch.classes) {
        stretch.length++;
        if (at.next == at.state)
            stretch.length = TRIE_MOST_DEPTH;
        else if (stretches[at.next % STRETCHES].state == at.next)
            at = stretches[at.next % STRETCHES];
        else
            at = make_stretch(automaton, at.next);
    }
    *found = stretch;
    return found;
}

/* The bits of the tokens whose bytes all lead on from `state`. */
static bool fill_mask(struct constraint *constraint, uint32_t state, uint32_t *mask) {
    const struct token_trie *trie = constraint->trie;
    struct automaton *automaton = constraint->automaton;
    uint32_t states[TRIE_MOST_DEPTH + 1] = { state };   /* before the byte of each depth */
    automaton_allow(automaton, WORK_LIMIT);
    for (uint32_t i = 0; i < trie->node_count;) {
        const struct trie_node *node = &trie->nodes[i];
        uint32_t next = automaton_step(automaton, states[node->depth], node->byte);
        if (next == AUTOMATON_DEAD) {
            i = node->skip;
            continue;
        }
        if (next == AUTOMATON_FAILED)
            return false;
        uint32_t last = node->first + node->count;
        i++;
        if (node->below) {
            const struct stretch *stretch = find_stretch(automaton, constraint->stretches, next);
            states[node->depth + 1] = next;
            if (node->below <= stretch->length && !(constraint->below[i - 1] & ~stretch->classes)) {
                i = node->skip;
                last = i < trie->node_count ? trie->nodes[i].first : trie->id_count;
            }
        }
        for (uint32_t j = node->first; j < last; j++) {
            uint32_t id = (uint32_t)trie->ids[j];
            mask[id >> 5] |= 1u << (id & 31);
        }
    }
    return true;
}

static const uint32_t *find_mask(struct constraint *constraint, uint32_t state, struct error *err) {
    struct automaton *automaton = constraint->automaton;
    if (automaton->states[state].mask)
        return automaton->states[state].mask;
    uint32_t *mask = calloc(constraint->words, sizeof *mask);
    if (!mask || !fill_mask(constraint, state, mask)) {
        if (mask)
            automaton_error(automaton, err);
        else
            error_set(err, ERROR_FAILED, "cannot follow the grammar: out of memory");
        free(mask);
        return NULL;
    }
    automaton->mask_bytes += constraint->words * sizeof *mask;
    automaton->states[state].mask = mask;
    return mask;
}

static bool has_any(const uint32_t *mask, uint32_t words) {
    for (uint32_t i = 0; i < words; i++)
        if (mask[i])
            return true;
    return false;
}

/* No token that begins with a space: the tree has them together. */
static void drop_spaces(const struct token_trie *trie, uint32_t *mask) {
    for (uint32_t i = 0; i < trie->node_count; i = trie->nodes[i].skip)
        for (uint32_t j = i; trie->nodes[i].byte == ' ' && j < trie->nodes[i].skip; j++)
            for (uint32_t k = 0; k < trie->nodes[j].count; k++) {
                uint32_t id = (uint32_t)trie->ids[trie->nodes[j].first + k];
                mask[id >> 5] &= ~(1u << (id & 31));
            }
}

const uint32_t *constraint_allowed(struct constraint *constraint, uint32_t state, bool drops_space,
                                   const int32_t *end_ids, uint32_t end_count, struct error *err) {
    const uint32_t *mask = find_mask(constraint, state, err);
    if (!mask)
        return NULL;
    uint32_t *allowed = constraint->allowed;
    memcpy(allowed, mask, constraint->words * sizeof *mask);
    if (drops_space)
        drop_spaces(constraint->trie, allowed);
    bool can_end = automaton_can_end(constraint->automaton, state);
    for (uint32_t i = 0; i < end_count; i++) {
        uint32_t id = (uint32_t)end_ids[i];
        if (id >= constraint->trie->vocab)
            continue;
        allowed[id >> 5] &= ~(1u << (id & 31));
        allowed[id >> 5] |= (uint32_t)can_end << (id & 31);
    }
    if (has_any(allowed, constraint->words))
        return allowed;
    error_set(err, ERROR_USAGE, "the model's vocabulary has no token with which the text could go on as the grammar "
              "wants it");
    return NULL;
}

bool constraint_accept(struct constraint *constraint, uint32_t *state, int32_t id, struct error *err) {
    size_t size;
    const uint8_t *bytes = token_trie_bytes(constraint->trie, id, &size);
    automaton_allow(constraint->automaton, WORK_LIMIT);
    uint32_t next = size ? automaton_read(constraint->automaton, *state, bytes, size) : AUTOMATON_DEAD;
    if (next == AUTOMATON_FAILED)
        return automaton_error(constraint->automaton, err);
    if (next == AUTOMATON_DEAD)
        return error_set(err, ERROR_FAILED, "token %d is not what the grammar allows", (int)id);
    *state = next;
    return true;
}

bool constraint_can_end(const struct constraint *constraint, uint32_t state) {
    return automaton_can_end(constraint->automaton, state);
}

bool constraint_is_complete(const struct constraint *constraint, uint32_t state) {
    return automaton_can_end(constraint->automaton, state) && !automaton_can_go_on(constraint->automaton, state);
}

bool constraint_trim(struct constraint *constraint, uint32_t *states, uint32_t count, struct error *err) {
    if (automaton_bytes(constraint->automaton) < TRIM_FROM)
        return true;
    memset(constraint->stretches, 0, sizeof constraint->stretches);
    return automaton_trim(constraint->automaton, states, count, err);
}

bool constraint_accepts(struct constraint *constraint, const int32_t *ids, uint32_t count, const int32_t *end_ids,
                        uint32_t end_count) {
    uint32_t state = constraint_start(constraint);
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t j = 0; j < end_count; j++)
            if (ids[i] == end_ids[j])
                return constraint_can_end(constraint, state);
        if (!constraint_accept(constraint, &state, ids[i], NULL))
            return false;
    }
    return constraint_can_end(constraint, state);
}
