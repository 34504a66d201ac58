/* piece_table: strings with ids, found either way.
 *
 * Ids need not be dense. The pieces may hold any byte, NUL included, and are
 * NUL-terminated besides. */
#ifndef RUNTIME_PIECE_TABLE_H
#define RUNTIME_PIECE_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PIECE_ID_LIMIT (1 << 22)   /* the largest vocabularies in use have 2^18 pieces */

struct piece_place {
    uint32_t offset;   /* into `pool`; 0: the id has no piece */
    uint32_t length;
};

struct piece_table {
    char *pool;
    size_t pool_size, pool_capacity;
    struct piece_place *places;   /* [id_end] */
    uint32_t id_end, id_capacity;
    int32_t *slots;               /* [slot_mask + 1] open addressing; -1: empty */
    uint32_t slot_mask, used_slots;
    uint64_t seed;                /* made anew for each table that is filled: no file can aim at collisions */
    bool is_borrowed;             /* the arrays lie in an image; nothing can be added */
};

bool piece_table_init(struct piece_table *table);   /* false: out of memory */
void piece_table_release(struct piece_table *table);

/* An id keeps its first piece; a piece that comes again belongs to the later id.
 * False where `id` is out of range or memory is. */
bool piece_table_add(struct piece_table *table, int32_t id, const char *bytes, size_t length);

int32_t piece_table_find(const struct piece_table *table, const char *bytes, size_t length);   /* -1: none */
const char *piece_table_piece(const struct piece_table *table, int32_t id, size_t *length);    /* NULL: none */

/* A seed for hashes in tables that are filled from files. */
uint64_t piece_seed(void);

#endif
