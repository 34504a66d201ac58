#include "runtime/piece_table.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

uint64_t piece_seed(void) {
    uint64_t seed;
    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != sizeof seed)
        seed = (uintptr_t)&seed;
    return seed;
}

static uint64_t mix(uint64_t a, uint64_t b) {
    a = (a ^ b) * 0x9e3779b97f4a7c15u;
    return a ^ a >> 29;
}

static uint64_t hash_of(uint64_t seed, const char *s, size_t length) {
    uint64_t hash = mix(seed, length), word;
    for (; length >= sizeof word; s += sizeof word, length -= sizeof word) {
        memcpy(&word, s, sizeof word);
        hash = mix(hash, word);
    }
    word = 0;
    memcpy(&word, s, length);
    hash = mix(hash, word);
    return mix(hash, hash >> 32 ^ seed);
}

bool piece_table_init(struct piece_table *table) {
    *table = (struct piece_table){ .seed = piece_seed() };
    table->slot_mask = 255;
    table->slots = malloc((table->slot_mask + 1) * sizeof *table->slots);
    table->pool_capacity = 4096;
    table->pool = malloc(table->pool_capacity);
    if (!table->slots || !table->pool)
        return false;
    memset(table->slots, 0xff, (table->slot_mask + 1) * sizeof *table->slots);
    table->pool[0] = '\0';   /* so that no piece lies at offset 0 */
    table->pool_size = 1;
    return true;
}

void piece_table_release(struct piece_table *table) {
    if (!table->is_borrowed) {
        free(table->pool);
        free(table->places);
        free(table->slots);
    }
    *table = (struct piece_table){ 0 };
}

/* The slot that holds the piece, or the empty one where it would go. */
static uint32_t find_slot(const struct piece_table *table, const char *bytes, size_t length) {
    uint32_t slot = (uint32_t)hash_of(table->seed, bytes, length) & table->slot_mask;
    for (;; slot = (slot + 1) & table->slot_mask) {
        int32_t id = table->slots[slot];
        if (id < 0)
            return slot;
        const struct piece_place *place = &table->places[id];
        if (place->length == length && memcmp(table->pool + place->offset, bytes, length) == 0)
            return slot;
    }
}

static bool grow_slots(struct piece_table *table) {
    uint32_t old_count = table->slot_mask + 1;
    int32_t *old = table->slots;
    int32_t *slots = malloc((size_t)old_count * 2 * sizeof *slots);
    if (!slots)
        return false;
    memset(slots, 0xff, (size_t)old_count * 2 * sizeof *slots);
    table->slots = slots;
    table->slot_mask = old_count * 2 - 1;
    for (uint32_t i = 0; i < old_count; i++)
        if (old[i] >= 0) {
            const struct piece_place *place = &table->places[old[i]];
            slots[find_slot(table, table->pool + place->offset, place->length)] = old[i];
        }
    free(old);
    return true;
}

static bool reserve_id(struct piece_table *table, uint32_t id) {
    if (id >= table->id_capacity) {
        uint32_t capacity = table->id_capacity ? table->id_capacity : 1024;
        while (capacity <= id)
            capacity *= 2;
        struct piece_place *places = realloc(table->places, capacity * sizeof *places);
        if (!places)
            return false;
        table->places = places;
        table->id_capacity = capacity;
    }
    for (; table->id_end <= id; table->id_end++)
        table->places[table->id_end] = (struct piece_place){ 0, 0 };
    return true;
}

static bool reserve_pool(struct piece_table *table, size_t more) {
    if (more > UINT32_MAX - table->pool_size)
        return false;
    size_t need = table->pool_size + more, capacity = table->pool_capacity;
    if (need <= capacity)
        return true;
    while (capacity < need)
        capacity *= 2;
    char *pool = realloc(table->pool, capacity);
    if (!pool)
        return false;
    table->pool = pool;
    table->pool_capacity = capacity;
    return true;
}

bool piece_table_add(struct piece_table *table, int32_t id, const char *bytes, size_t length) {
    if (id < 0 || id >= PIECE_ID_LIMIT || length >= UINT32_MAX || !reserve_pool(table, length + 1)
        || !reserve_id(table, (uint32_t)id))
        return false;
    if (table->used_slots >= table->slot_mask / 2 && !grow_slots(table))
        return false;
    uint32_t slot = find_slot(table, bytes, length);
    struct piece_place *place = &table->places[id];
    if (place->offset)
        return true;
    place->offset = (uint32_t)table->pool_size;
    place->length = (uint32_t)length;
    memcpy(table->pool + table->pool_size, bytes, length);
    table->pool[table->pool_size + length] = '\0';
    table->pool_size += length + 1;
    table->used_slots += table->slots[slot] < 0;
    table->slots[slot] = id;
    return true;
}

int32_t piece_table_find(const struct piece_table *table, const char *bytes, size_t length) {
    return table->slots[find_slot(table, bytes, length)];
}

const char *piece_table_piece(const struct piece_table *table, int32_t id, size_t *length) {
    if (id < 0 || (uint32_t)id >= table->id_end || !table->places[id].offset)
        return NULL;
    if (length)
        *length = table->places[id].length;
    return table->pool + table->places[id].offset;
}
