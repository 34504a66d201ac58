/* prompt_cache: what --prompt-cache FILE does: a timeline's KV out of a file before the prompt
 * is run, and into it afterwards.
 *
 * It only ever saves time. A file that is damaged, of something else or cannot be written is
 * told once, on standard error, and the run goes on without. The KV is that of the tokens
 * whatever the plan's placement, so that the text is the same. */
#ifndef RUNTIME_PROMPT_CACHE_H
#define RUNTIME_PROMPT_CACHE_H

#include "runtime/kv_file.h"
#include "runtime/loaded_model.h"
#include "runtime/session.h"

struct prompt_cache {
    const char *path;           /* borrowed; NULL: there is no cache, and nothing is done */
    struct kv_file_key key;
    bool is_told;               /* the one warning */
    bool is_foreign;            /* not ours to replace */
    bool is_damaged;            /* to be replaced, whatever it says that it has */
    bool is_saved;              /* the file has what this run could put there */
    uint32_t restored;          /* tokens */
};

void prompt_cache_init(struct prompt_cache *cache, const char *path, const struct loaded_model *loaded);

/* Into the session what the file has in common with the prompt, all but its last token;
 * `prompt` NULL: everything that the file has and the context takes. */
void prompt_cache_restore(struct prompt_cache *cache, struct session *session, const int32_t *prompt,
                          uint32_t count);

/* Write what the session holds, unless the file has the tokens wanted[0 .. count) already. */
void prompt_cache_save(struct prompt_cache *cache, const struct session *session, const int32_t *wanted,
                       uint32_t count);

#endif
