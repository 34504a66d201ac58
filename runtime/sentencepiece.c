#include "runtime/sentencepiece.h"

#include "runtime/piece_table.h"

#include <stdlib.h>
#include <string.h>

/* A message, or what is left of it. */
struct message {
    const uint8_t *at, *end;
};

/* The low three bits of a field's key. */
enum wire { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

struct field {
    uint64_t number;
    enum wire wire;
    uint64_t value;          /* of the kinds that are numbers */
    struct message bytes;    /* WIRE_BYTES */
};

struct reader {
    struct sentencepiece *model;
    uint32_t capacity;
    const char *file;
    struct error *err;
};

static bool read_varint(struct message *message, uint64_t *value) {
    *value = 0;
    for (unsigned shift = 0; shift < 64 && message->at < message->end; shift += 7) {
        uint8_t byte = *message->at++;
        *value |= (uint64_t)(byte & 127) << shift;
        if (byte < 128)
            return true;
    }
    return false;
}

static bool read_fixed(struct message *message, size_t size, uint64_t *value) {
    if ((size_t)(message->end - message->at) < size)
        return false;
    *value = 0;
    memcpy(value, message->at, size);   /* little endian, as everything here */
    message->at += size;
    return true;
}

/* False where the message is damaged; groups, long out of use, count as that. */
static bool read_field(struct message *message, struct field *field) {
    uint64_t key, length;
    if (!read_varint(message, &key))
        return false;
    *field = (struct field){ .number = key >> 3, .wire = (enum wire)(key & 7) };
    switch (key & 7) {
    case WIRE_VARINT:
        return read_varint(message, &field->value);
    case WIRE_64:
        return read_fixed(message, 8, &field->value);
    case WIRE_32:
        return read_fixed(message, 4, &field->value);
    case WIRE_BYTES:
        if (!read_varint(message, &length) || length > (size_t)(message->end - message->at))
            return false;
        field->bytes = (struct message){ message->at, message->at + length };
        message->at += length;
        return true;
    default:
        return false;
    }
}

static bool damaged(const struct reader *reader) {
    return error_set(reader->err, ERROR_FAILED, "'%s' is no SentencePiece model or is damaged", reader->file);
}

static struct sentencepiece_piece *next_piece(struct reader *reader) {
    struct sentencepiece *model = reader->model;
    if (model->count == PIECE_ID_LIMIT) {
        error_set(reader->err, ERROR_FAILED, "'%s' has more than %d pieces", reader->file, PIECE_ID_LIMIT);
        return NULL;
    }
    if (model->count == reader->capacity) {
        uint32_t capacity = reader->capacity ? reader->capacity * 2 : 1024;
        struct sentencepiece_piece *grown = realloc(model->pieces, capacity * sizeof *grown);
        if (!grown) {
            error_set(reader->err, ERROR_FAILED, "cannot read '%s': out of memory", reader->file);
            return NULL;
        }
        model->pieces = grown;
        reader->capacity = capacity;
    }
    return &model->pieces[model->count++];
}

static bool read_piece(struct reader *reader, struct message message) {
    struct sentencepiece_piece *piece = next_piece(reader);
    struct field field;
    if (!piece)
        return false;
    *piece = (struct sentencepiece_piece){ .bytes = "", .type = PIECE_NORMAL };
    while (message.at < message.end) {
        if (!read_field(&message, &field))
            return damaged(reader);
        if (field.number == 1 && field.wire == WIRE_BYTES) {
            piece->bytes = (const char *)field.bytes.at;
            /* A file is shorter than 4 GiB: see sentencepiece_read(). */
            piece->length = (uint32_t)(field.bytes.end - field.bytes.at);
        } else if (field.number == 2 && field.wire == WIRE_32) {
            uint32_t bits = (uint32_t)field.value;
            memcpy(&piece->score, &bits, sizeof bits);
        } else if (field.number == 3 && field.wire == WIRE_VARINT) {
            piece->type = field.value >= PIECE_NORMAL && field.value <= PIECE_BYTE ? (enum piece_type)field.value
                                                                                  : PIECE_UNUSED;
        }
    }
    return true;
}

/* Ids are int32, negative ones as varints of ten bytes. */
static int64_t id_of(const struct field *field) {
    int32_t id = (int32_t)(uint32_t)field->value;
    return id < 0 ? -1 : id;
}

static bool read_trainer(struct reader *reader, struct message message) {
    struct field field;
    while (message.at < message.end) {
        if (!read_field(&message, &field))
            return damaged(reader);
        if (field.wire != WIRE_VARINT)
            continue;
        switch (field.number) {
        case 3: reader->model->kind = field.value; break;
        case 35: reader->model->byte_fallback = field.value; break;
        case 40: reader->model->unknown_id = id_of(&field); break;
        case 41: reader->model->bos_id = id_of(&field); break;
        case 42: reader->model->eos_id = id_of(&field); break;
        default: break;
        }
    }
    return true;
}

static bool read_normalizer(struct reader *reader, struct message message) {
    struct field field;
    while (message.at < message.end) {
        if (!read_field(&message, &field))
            return damaged(reader);
        if (field.number == 2 && field.wire == WIRE_BYTES)
            reader->model->has_character_map = field.bytes.at < field.bytes.end;
        else if (field.number == 3 && field.wire == WIRE_VARINT)
            reader->model->space_prefix = field.value;
        else if (field.number == 4 && field.wire == WIRE_VARINT)
            reader->model->removes_spaces = field.value;
    }
    return true;
}

static bool read_model(struct reader *reader, struct message message) {
    struct field field;
    while (message.at < message.end) {
        if (!read_field(&message, &field))
            return damaged(reader);
        if (field.wire != WIRE_BYTES)
            continue;
        if ((field.number == 1 && !read_piece(reader, field.bytes))
            || (field.number == 2 && !read_trainer(reader, field.bytes))
            || (field.number == 3 && !read_normalizer(reader, field.bytes)))
            return false;
    }
    return reader->model->count || damaged(reader);
}

bool sentencepiece_read(struct sentencepiece *model, const void *bytes, size_t size, const char *file,
                        struct error *err) {
    /* What a file that leaves a field out means. */
    *model = (struct sentencepiece){ .kind = SENTENCEPIECE_UNIGRAM, .space_prefix = true, .removes_spaces = true,
                                     .unknown_id = 0, .bos_id = 1, .eos_id = 2 };
    struct reader reader = { .model = model, .file = file, .err = err };
    struct message message = { bytes, (const uint8_t *)bytes + size };
    if (size < UINT32_MAX ? read_model(&reader, message) : damaged(&reader))
        return true;
    sentencepiece_release(model);
    return false;
}

void sentencepiece_release(struct sentencepiece *model) {
    free(model->pieces);
    *model = (struct sentencepiece){ 0 };
}
