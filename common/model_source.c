#include "common/model_source.h"

#include "common/file_map.h"
#include "common/text.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

void model_source_release(struct model_source *source) {
    free(source->argument);
    free(source->path);
    *source = (struct model_source){ 0 };
}

static char *join(const char *directory, size_t length, const char *name) {
    char *path = NULL;
    return asprintf(&path, "%.*s/%s", (int)length, directory, name) < 0 ? NULL : path;
}

char *model_source_file(const struct model_source *source, const char *name) {
    const char *slash = source->kind == SOURCE_GGUF ? strrchr(source->path, '/') : NULL;
    return join(source->path, slash ? (size_t)(slash - source->path) : strlen(source->path), name);
}

/* ---- names of .gguf files ---- */

static bool ends_with(const char *name, const char *suffix) {
    size_t length = strlen(name), tail = strlen(suffix);
    return length > tail && strcasecmp(name + length - tail, suffix) == 0;
}

/* "...-00002-of-00003.gguf": where the five digits of the part begin, else NULL. */
static char *part_digits(char *name) {
    static const char shape[] = "-00000-of-00000.gguf";
    size_t length = strlen(name), tail = sizeof shape - 1;
    if (length <= tail)
        return NULL;
    char *at = name + length - tail;
    for (size_t i = 0; i < tail; i++)
        if (shape[i] == '0' ? !isdigit((unsigned char)at[i]) : shape[i] != at[i])
            return NULL;
    return at + 1;
}

static bool is_later_part(char *name) {
    const char *part = part_digits(name);
    return part && strncmp(part, "00001", 5) != 0;
}

/* ---- directories and files ---- */

static bool has_file(const char *directory, const char *name) {
    char *path = join(directory, strlen(directory), name);
    bool found = path && access(path, F_OK) == 0;
    free(path);
    return found;
}

/* The .gguf files of a directory, parts of a split one counted once. *name is
 * the last one seen; the caller frees it. */
static bool count_ggufs(const char *directory, uint32_t *count, char **name, struct error *err) {
    *count = 0;
    *name = NULL;
    DIR *stream = opendir(directory);
    if (!stream)
        return error_set(err, ERROR_FAILED, "cannot list '%s': %s", directory, strerror(errno));
    struct dirent *entry;
    bool ok = true;
    while (ok && (entry = readdir(stream))) {
        if (!ends_with(entry->d_name, ".gguf") || is_later_part(entry->d_name))
            continue;
        free(*name);
        *name = strdup(entry->d_name);
        ok = *name || error_set(err, ERROR_FAILED, "cannot list '%s': out of memory", directory);
        (*count)++;
    }
    closedir(stream);
    return ok;
}

/* Tokenizer files alone make a directory too: that is enough for some commands,
 * and model_open() says what is missing for the others. */
static bool use_directory(struct model_source *source, const char *directory, struct error *err) {
    char *absolute = realpath(directory, NULL);
    if (!absolute)
        return error_set(err, ERROR_FAILED, "cannot use '%s': %s", directory, strerror(errno));
    if (has_file(absolute, "config.json") || has_file(absolute, "tokenizer.json")
        || has_file(absolute, "tokenizer.model")) {
        source->kind = SOURCE_DIRECTORY;
        source->path = absolute;
        return true;
    }
    uint32_t count;
    char *name;
    bool ok = count_ggufs(absolute, &count, &name, err);
    if (ok && count == 1) {
        source->kind = SOURCE_GGUF;
        source->path = join(absolute, strlen(absolute), name);
        ok = source->path || error_set(err, ERROR_FAILED, "cannot use '%s': out of memory", directory);
    } else if (ok && count) {
        ok = error_set(err, ERROR_FAILED, "'%s' holds %u models in .gguf files and no config.json; name one of the "
                       "files, such as '%s/%s'", directory, count, directory, name);
    } else if (ok) {
        ok = error_set(err, ERROR_FAILED, "'%s' holds no model: it has neither a config.json nor a .gguf file",
                       directory);
    }
    free(name);
    free(absolute);
    return ok;
}

static bool begins_like_gguf(const char *path) {
    char magic[4];
    int descriptor = file_open(path, NULL, NULL);
    bool ok = descriptor >= 0 && file_read_at(descriptor, path, 0, magic, sizeof magic, NULL)
           && memcmp(magic, "GGUF", 4) == 0;
    if (descriptor >= 0)
        close(descriptor);
    return ok;
}

/* The directory is made absolute, the last component kept: a link in the Hugging
 * Face cache points at a blob, beside which the other parts are not found. */
static bool use_file(struct model_source *source, const char *file, struct error *err) {
    if (!ends_with(file, ".gguf") && !begins_like_gguf(file))
        return error_set(err, ERROR_FAILED, "'%s' is not a model: expected a .gguf file or a directory with "
                         "config.json%s", file, ends_with(file, ".safetensors") ? "; name its directory" : "");
    const char *slash = strrchr(file, '/');
    char *directory = slash ? strndup(file, (size_t)(slash - file) + 1) : strdup(".");
    char *absolute = directory ? realpath(directory, NULL) : NULL;
    free(directory);
    if (!absolute)
        return error_set(err, ERROR_FAILED, "cannot use '%s': %s", file, strerror(errno));
    source->kind = SOURCE_GGUF;
    source->path = join(absolute, strlen(absolute), slash ? slash + 1 : file);
    free(absolute);
    if (!source->path)
        return error_set(err, ERROR_FAILED, "cannot use '%s': out of memory", file);
    char *part = part_digits(source->path);
    if (part)
        memcpy(part, "00001", 5);
    return true;
}

/* ---- the Hugging Face cache ---- */

/* As Python's expanduser and expandvars do: a leading "~", $NAME and ${NAME};
 * unset names stay as they are. NULL only when out of memory. */
static char *expand(const char *value) {
    struct text text;
    text_init(&text);
    if (value[0] == '~' && (!value[1] || value[1] == '/')) {
        const char *home = getenv("HOME");
        if (!home || !*home) {
            const struct passwd *user = getpwuid(getuid());
            home = user ? user->pw_dir : "/";
        }
        text_append(&text, home);
        value++;
    }
    while (*value) {
        const char *name = value + 1, *end;
        bool braced = *value == '$' && *name == '{';
        name += braced;
        for (end = name; *value == '$' && (isalnum((unsigned char)*end) || *end == '_'); end++)
            ;
        char variable[128];
        size_t length = (size_t)(end - name);
        const char *found = NULL;
        if (*value == '$' && length && length < sizeof variable && (!braced || *end == '}')) {
            memcpy(variable, name, length);
            variable[length] = '\0';
            found = getenv(variable);
        }
        if (found) {
            text_append(&text, found);
            value = end + braced;
        } else {
            text_append_char(&text, *value++);
        }
    }
    return text_take(&text);
}

static char *cache_root(void) {
    static const struct { const char *variable, *below; } places[] = {
        { "HF_HUB_CACHE", "" }, { "HUGGINGFACE_HUB_CACHE", "" }, { "HF_HOME", "/hub" },
        { "XDG_CACHE_HOME", "/huggingface/hub" },
    };
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        const char *value = getenv(places[i].variable);
        if (!value || !*value)
            continue;
        char *expanded = expand(value), *root = NULL;
        if (expanded && asprintf(&root, "%s%s", expanded, places[i].below) < 0)
            root = NULL;
        free(expanded);
        return root;
    }
    return expand("~/.cache/huggingface/hub");
}

/* Letters, digits, '.', '_', '-' and, where `slashes` are allowed, '/' between
 * components; none of which is empty or begins with a dot, so that nothing
 * leads out of the cache. */
static bool is_safe(const char *name, size_t length, bool slashes) {
    bool at_start = true;
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)name[i];
        if (c == '/' ? !slashes || at_start : !isalnum(c) && !strchr("._-", c))
            return false;
        if (at_start && c == '.')
            return false;
        at_start = c == '/';
    }
    return length > 0 && length < 200 && !at_start;
}

struct hub_name {
    const char *organisation, *name, *revision;   /* borrowed */
    int organisation_length, name_length;
};

static bool parse_hub_name(const char *argument, struct hub_name *hub) {
    const char *slash = strchr(argument, '/');
    if (!slash)
        return false;
    size_t length = strcspn(slash + 1, "@");
    const char *at = slash + 1 + length;
    *hub = (struct hub_name){ argument, slash + 1, *at ? at + 1 : "main", (int)(slash - argument), (int)length };
    return is_safe(argument, (size_t)(slash - argument), false) && is_safe(slash + 1, length, false)
        && is_safe(hub->revision, strlen(hub->revision), true);
}

static bool is_full_sha(const char *revision) {
    return strlen(revision) == 40 && strspn(revision, "0123456789abcdef") == 40;
}

/* The snapshot of a revision; NULL where the cache does not have it. */
static char *snapshot_of(const char *repository, const char *revision) {
    char *path = NULL, *commit = NULL, *snapshot = NULL;
    struct stat status;
    if (!is_full_sha(revision)) {
        if (asprintf(&path, "%s/refs/%s", repository, revision) < 0)
            return NULL;
        commit = file_read_all(path, 256, NULL, NULL);
        free(path);
        if (commit)
            commit[strcspn(commit, " \t\r\n")] = '\0';
    }
    const char *name = commit ? commit : revision;
    if (!is_safe(name, strlen(name), false) || asprintf(&snapshot, "%s/snapshots/%s", repository, name) < 0)
        snapshot = NULL;
    free(commit);
    if (snapshot && (stat(snapshot, &status) != 0 || !S_ISDIR(status.st_mode))) {
        free(snapshot);
        snapshot = NULL;
    }
    return snapshot;
}

static bool use_hub(struct model_source *source, const struct hub_name *hub, struct error *err) {
    struct stat status;
    bool ok = false;
    char *repository = NULL, *snapshot = NULL, *root = cache_root();
    if (!root || asprintf(&repository, "%s/models--%.*s--%.*s", root, hub->organisation_length,
                          hub->organisation, hub->name_length, hub->name) < 0) {
        repository = NULL;
        error_set(err, ERROR_FAILED, "cannot look for '%s': out of memory", source->argument);
    } else if (stat(repository, &status) != 0) {
        error_set(err, ERROR_FAILED, "'%s' is neither a path nor in the Hugging Face cache '%s'; nothing is "
                  "downloaded here, fetch it with 'hf download %.*s/%.*s' or name a directory or a .gguf file",
                  source->argument, root, hub->organisation_length, hub->organisation, hub->name_length, hub->name);
    } else if (!(snapshot = snapshot_of(repository, hub->revision))) {
        error_set(err, ERROR_FAILED, "the Hugging Face cache '%s' has '%.*s/%.*s' but not its revision '%s'; fetch "
                  "it with 'hf download', or name another after '@'", root, hub->organisation_length,
                  hub->organisation, hub->name_length, hub->name, hub->revision);
    } else {
        source->from_hub = true;
        ok = use_directory(source, snapshot, err);
    }
    free(snapshot);
    free(repository);
    free(root);
    return ok;
}

bool model_source_resolve(struct model_source *source, const char *argument, struct error *err) {
    struct stat status;
    struct hub_name hub;
    bool ok;
    *source = (struct model_source){ .argument = strdup(argument) };
    if (!source->argument)
        return error_set(err, ERROR_FAILED, "cannot use '%s': out of memory", argument);
    if (stat(argument, &status) == 0)
        ok = S_ISDIR(status.st_mode) ? use_directory(source, argument, err) : use_file(source, argument, err);
    else if (errno != ENOENT && errno != ENOTDIR)
        ok = error_set(err, ERROR_FAILED, "cannot use '%s': %s", argument, strerror(errno));
    else if (parse_hub_name(argument, &hub))
        ok = use_hub(source, &hub, err);
    else
        ok = error_set(err, ERROR_FAILED, "there is no '%s'; expected a directory with config.json, a .gguf file, or "
                       "org/name of a model in the Hugging Face cache", argument);
    if (!ok)
        model_source_release(source);
    return ok;
}
