/* model_source: what the MODEL argument means, resolved to files on this machine.
 *
 *   a directory       config.json beside tokenizer files and *.safetensors
 *   a file            *.gguf
 *   org/name[@rev]    looked up in the local Hugging Face cache; nothing is ever
 *                     downloaded. Root: HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE,
 *                     $HF_HOME/hub, $XDG_CACHE_HOME/huggingface/hub,
 *                     ~/.cache/huggingface/hub; the first that is set wins.
 * A path that exists wins over a hub name. */
#ifndef COMMON_MODEL_SOURCE_H
#define COMMON_MODEL_SOURCE_H

#include "common/error.h"

enum model_source_kind { SOURCE_DIRECTORY, SOURCE_GGUF };

struct model_source {
    enum model_source_kind kind;
    char *argument;   /* as it was typed */
    char *path;       /* the directory, or the (first) .gguf file; absolute */
    bool from_hub;    /* argument was org/name: callers print what it resolved to */
};

bool model_source_resolve(struct model_source *source, const char *argument, struct error *err);
void model_source_release(struct model_source *source);

/* `name` inside the source's directory (for a GGUF: beside the file). The caller
 * owns the string; NULL only when out of memory. Does not check that it exists. */
char *model_source_file(const struct model_source *source, const char *name);

#endif
