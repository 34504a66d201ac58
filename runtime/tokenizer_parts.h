/* tokenizer_parts: what a tokenizer is made of, for the files that read one.
 *
 *   text -> cut at added tokens -> normalizer -> cut at normalized added tokens
 *        -> pretokenizer -> bpe -> ids, with `prefix` and `suffix` round them
 *   ids  -> pieces -> decoder -> text                                           */
#ifndef RUNTIME_TOKENIZER_PARTS_H
#define RUNTIME_TOKENIZER_PARTS_H

#include "common/file_map.h"
#include "common/json.h"
#include "runtime/added_tokens.h"
#include "runtime/normalizer.h"
#include "runtime/pretokenizer.h"
#include "runtime/token_decoder.h"
#include "runtime/tokenizer.h"
#include "runtime/tokenizer_bpe.h"

enum { EOS_LIMIT = 16, SPECIAL_IDS_LIMIT = 64 };

/* A text of this size needs about 3 GB while it is encoded as one piece. */
#define TOKENIZE_LIMIT ((size_t)64 << 20)

/* What the model's files say of ids. Part of tokenizer images as it is: no pointers. */
struct tokenizer_ids {
    int32_t bos;                         /* -1: none */
    uint32_t size;                       /* largest id + 1 */
    uint32_t end;                        /* ids from `size` up to here decode to nothing: the padding
                                            rows of the model's vocabulary */
    uint32_t prefix_count, suffix_count, eos_count;
    int32_t prefix[SPECIAL_IDS_LIMIT], suffix[SPECIAL_IDS_LIMIT];
    int32_t eos[EOS_LIMIT];
};

/* Whatever is read from the model's files is kept by tokenizer_image.c, too. */
struct tokenizer {
    struct bpe bpe;
    struct piece_table added_pieces;     /* ids and contents of the added tokens */
    struct piece_table normal_pieces;    /* contents that normalizing changed: these ids decode to
                                            them and are never skipped (as in the reference) */
    struct added_tokens raw, normalized; /* looked for before and after normalizing */
    uint8_t *is_special;                 /* [ids.size] */
    struct tokenizer_ids ids;
    struct normalizer *normalizer;
    struct pretokenizer *pretokenizer;
    struct token_decoder *decoder;
    char *bos_text, *eos_text, *chat_template;   /* owned; NULL: none */
    json_t *named_texts;                 /* owned; of other special tokens, by name: "pad_token"; NULL: none */
    char *stages;                        /* owned: the JSON that the stages were read from; NULL: none kept */
    struct file_map image;               /* that tables lie in; empty where they were filled here */
};

/* Readers fill an empty tokenizer; on failure tokenizer_close() clears up. */
bool tokenizer_read_json(struct tokenizer *tokenizer, const json_t *root, const char *file, struct error *err);
bool tokenizer_read_config(struct tokenizer *tokenizer, const struct model_source *source, struct error *err);
bool tokenizer_read_gguf(struct tokenizer *tokenizer, const char *path, struct error *err);
/* The bytes of a tokenizer.model; tokenizer_config.json and added_tokens.json, which
 * may be NULL. After tokenizer_read_config(), whose names of tokens count first. */
bool tokenizer_read_spm(struct tokenizer *tokenizer, const void *bytes, size_t size, const json_t *config,
                        const json_t *added, const char *file, struct error *err);

/* One of tokenizer.json's descriptions of an added token. */
bool tokenizer_read_added_token(struct tokenizer *tokenizer, const json_t *item, const char *file, struct error *err);
/* The file's JSON; NULL with *ok still true where it is not there. */
json_t *tokenizer_read_beside(const struct model_source *source, const char *name, bool *ok, struct error *err);

/* For the readers: an added token; a stop id, unless it is there; stages from JSON. */
bool tokenizer_add_token(struct tokenizer *tokenizer, const char *content, size_t length, int32_t id,
                         unsigned flags, struct error *err);
void tokenizer_add_eos(struct tokenizer *tokenizer, int32_t id);
bool tokenizer_read_stages(struct tokenizer *tokenizer, const json_t *root, const char *file, struct error *err);

/* An empty tokenizer, and what comes after everything is read. */
struct tokenizer *tokenizer_new(struct error *err);
bool tokenizer_finish(struct tokenizer *tokenizer, struct error *err);

/* The piece of an id for decoding, with its length; NULL: decodes to nothing. */
const char *tokenizer_spelling(const struct tokenizer *tokenizer, int32_t id, size_t *length);

#endif
