#include "common/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint32_t unit_count(const struct model *model) {
    return 2 + 2 * model->block_count;
}

struct unit unit_at(const struct model *model, uint32_t index) {
    if (index == 0)
        return (struct unit){ UNIT_EMBED, 0 };
    if (index > 2 * model->block_count)
        return (struct unit){ UNIT_HEAD, 0 };
    return (struct unit){ index % 2 ? UNIT_ATTN : UNIT_FFN, (index - 1) / 2 };
}

uint32_t unit_index(const struct model *model, struct unit unit) {
    switch (unit.kind) {
    case UNIT_EMBED: break;
    case UNIT_ATTN: return 1 + 2 * unit.block;
    case UNIT_FFN: return 2 + 2 * unit.block;
    case UNIT_HEAD: return 1 + 2 * model->block_count;
    }
    return 0;
}

static uint32_t parts_of(uint32_t total, uint32_t part) {
    return total / part + (total % part != 0);
}

uint32_t unit_part_count(const struct model *model, struct unit unit) {
    switch (unit.kind) {
    case UNIT_EMBED: break;
    case UNIT_ATTN: return model->kv_head_count;
    case UNIT_FFN: return parts_of(model->intermediate_size, UNIT_FFN_PART_COLUMNS);
    case UNIT_HEAD: return parts_of(model->vocab_size, UNIT_HEAD_PART_ROWS);
    }
    return 1;
}

void unit_name(struct unit unit, char name[24]) {
    switch (unit.kind) {
    case UNIT_EMBED: strcpy(name, "embed"); break;
    case UNIT_ATTN: snprintf(name, 24, "attn.%u", unit.block); break;
    case UNIT_FFN: snprintf(name, 24, "ffn.%u", unit.block); break;
    case UNIT_HEAD: strcpy(name, "head"); break;
    }
}

/* Decimal digits only and no leading zero: a name has one spelling. */
static bool block_from_digits(const struct model *model, const char *digits, uint32_t *block) {
    uint32_t value = 0;
    if (!*digits || (digits[0] == '0' && digits[1]))
        return false;
    for (; *digits; digits++) {
        if (*digits < '0' || *digits > '9')
            return false;
        value = value * 10 + (uint32_t)(*digits - '0');
        if (value >= model->block_count)
            return false;
    }
    *block = value;
    return true;
}

bool unit_from_name(const struct model *model, const char *name, struct unit *unit) {
    struct unit found = { UNIT_EMBED, 0 };
    if (strcmp(name, "embed") == 0)
        found.kind = UNIT_EMBED;
    else if (strcmp(name, "head") == 0)
        found.kind = UNIT_HEAD;
    else if (strncmp(name, "attn.", 5) == 0 && block_from_digits(model, name + 5, &found.block))
        found.kind = UNIT_ATTN;
    else if (strncmp(name, "ffn.", 4) == 0 && block_from_digits(model, name + 4, &found.block))
        found.kind = UNIT_FFN;
    else
        return false;
    *unit = found;
    return true;
}
