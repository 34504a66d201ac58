#include "planner/device_choice.h"

#include "planner/size_text.h"

#include <ctype.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GPU_RESERVE_BYTES (256ull << 20)

bool each_word(const char *list, word_visit *visit, void *context, struct error *err) {
    while (*list) {
        size_t length = strcspn(list, ",");
        const char *first = list, *last = list + length;
        while (first < last && isspace((unsigned char)*first))
            first++;
        while (last > first && isspace((unsigned char)last[-1]))
            last--;
        char word[512];
        if ((size_t)(last - first) >= sizeof word)
            return error_set(err, ERROR_USAGE, "'%.40s...' is too long", first);
        memcpy(word, first, (size_t)(last - first));
        word[last - first] = '\0';
        if (word[0] && !visit(context, word, err))
            return false;
        list += length + (list[length] == ',');
    }
    return true;
}

/* ---- names ---- */

static bool is_number(const char *text) {
    return *text && strspn(text, "0123456789") == strlen(text) && strlen(text) < 4;
}

bool device_choice_find(const struct device_list *list, const char *name, uint32_t *index, struct error *err) {
    long number = is_number(name) ? strtol(name, NULL, 10) : -1;
    const bool first_cpu = strcmp(name, "cpu") == 0;
    char known[300] = "";
    size_t used = 0;
    for (uint32_t i = 0; i < list->count; i++) {
        const struct device *device = &list->devices[i];
        bool is_cpu = device->type == DEVICE_CPU;
        if (!device->short_name[0])
            continue;   /* a driver that could not list its devices */
        if (strcmp(name, device->short_name) == 0 || (!is_cpu && number-- == 0) ||
            (first_cpu && is_cpu && device->usable && !device->alias_of[0])) {
            *index = i;
            return true;
        }
        if (used < sizeof known)
            used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "",
                                     device->short_name);
    }
    return error_set(err, ERROR_USAGE, "this machine has no device '%s'; it has %s (see phiplan devices)",
                     name, known[0] ? known : "none");
}

struct naming {
    const struct device_list *list;
    uint32_t count;
    uint32_t indices[PLAN_MAX_DEVICES];
    const char *option;
};

static bool add_name(void *context, const char *word, struct error *err) {
    struct naming *naming = context;
    uint32_t index;
    if (!device_choice_find(naming->list, word, &index, err))
        return error_prefix(err, "%s", naming->option);
    for (uint32_t i = 0; i < naming->count; i++)
        if (naming->indices[i] == index)
            return true;
    if (naming->count == PLAN_MAX_DEVICES)
        return error_set(err, ERROR_USAGE, "%s names more than %d devices", naming->option, PLAN_MAX_DEVICES);
    naming->indices[naming->count++] = index;
    return true;
}

static bool contains(const struct naming *naming, uint32_t index) {
    for (uint32_t i = 0; i < naming->count; i++)
        if (naming->indices[i] == index)
            return true;
    return false;
}

/* ---- limits ---- */

struct limit { bool given; struct size_value size; };

struct limits {
    const struct device_list *list;
    const char *option;
    struct limit device[PLAN_MAX_DEVICES];   /* by position in the list */
    struct limit pool;                       /* "cpu=" */
    struct limit all;                        /* without a name: only --max-buffer */
    bool may_be_bare;
    struct text *notes;
};

static bool add_limit(void *context, const char *word, struct error *err) {
    struct limits *limits = context;
    char name[64];
    const char *equals = strchr(word, '=');
    struct limit limit = { .given = true };
    if (!equals && !limits->may_be_bare)
        return error_set(err, ERROR_USAGE, "%s: '%s' names no device; write for example gpu0=8GiB,cpu=24GiB",
                         limits->option, word);
    if (!size_parse_limit(limits->option, word, &limit.size, limits->notes, err))
        return false;
    if (!equals) {
        limits->all = limit;
        return true;
    }
    snprintf(name, sizeof name, "%.*s", (int)(equals - word < 63 ? equals - word : 63), word);
    while (name[0] && isspace((unsigned char)name[strlen(name) - 1]))
        name[strlen(name) - 1] = '\0';
    if (strcmp(name, "cpu") == 0) {
        limits->pool = limit;
        return true;
    }
    uint32_t index;
    if (!device_choice_find(limits->list, name, &index, err))
        return error_prefix(err, "%s", limits->option);
    if (index >= PLAN_MAX_DEVICES)
        return error_set(err, ERROR_USAGE, "%s: at most %d devices can be limited", limits->option,
                         PLAN_MAX_DEVICES);
    limits->device[index] = limit;
    return true;
}

static uint64_t limit_bytes(const struct limit *limit, uint64_t whole) {
    uint64_t bytes = limit->size.is_percent ? (uint64_t)((double)whole * limit->size.percent / 100)
                                            : limit->size.bytes;
    return bytes < whole ? bytes : whole;
}

/* ---- which devices a pattern names ---- */

static bool split_pattern(const char *word, char pattern[256], char device[64], const char *option,
                          struct error *err) {
    const char *equals = strrchr(word, '=');
    if (!equals || equals == word || !equals[1] || equals - word >= 256 || strlen(equals + 1) >= 64)
        return error_set(err, ERROR_USAGE, "%s: '%s' is not PATTERN=DEVICE; write for example ffn.*=cpu1",
                         option, word);
    snprintf(pattern, 256, "%.*s", (int)(equals - word), word);
    snprintf(device, 64, "%s", equals + 1);
    return true;
}

static bool add_pinned(void *context, const char *word, struct error *err) {
    char pattern[256], device[64];
    if (!split_pattern(word, pattern, device, "--pin", err))
        return false;
    return strcmp(device, "host") == 0 || add_name(context, device, err);
}

/* ---- the choice ---- */

static uint64_t memory_budget(const struct device *device, uint64_t memory, const struct limit *limit,
                              uint64_t pool_bytes) {
    /* A CPU's memory is the host's, whatever its driver reports that day. */
    if (device->type == DEVICE_CPU)
        return limit->given ? limit_bytes(limit, pool_bytes) : pool_bytes;
    const uint64_t reported = memory;
    if (device->is_cpu_pool && pool_bytes < memory)
        memory = pool_bytes;
    if (limit->given)
        return limit_bytes(limit, memory);
    /* An integrated GPU's driver reports much of the same RAM. */
    if (device->is_cpu_pool)
        return memory < reported / 5 * 4 ? memory : reported / 5 * 4;
    /* What the driver, the display and program binaries take. */
    uint64_t reserve = memory / 20 > GPU_RESERVE_BYTES ? memory / 20 : GPU_RESERVE_BYTES;
    return memory - (reserve < memory / 2 ? reserve : memory / 2);
}

static bool leave_out(struct device_choice *choice, uint32_t index, const char *format, const char *subject) {
    if (choice->left_out_count < PLAN_MAX_DEVICES) {
        struct left_out_device *entry = &choice->left_out[choice->left_out_count++];
        entry->index = index;
        snprintf(entry->reason, sizeof entry->reason, format, subject);
    }
    return true;
}

/* Decide on one device of the list; an error only for what was asked for by name. */
static bool consider(const struct device_list *list, uint32_t index, const struct naming *wanted,
                     const struct naming *excluded, const struct limits *memory, const struct naming *pinned,
                     struct device_choice *choice, struct error *err) {
    const struct device *device = &list->devices[index];
    if (!device->short_name[0])
        return true;
    const bool limited = index < PLAN_MAX_DEVICES && memory->device[index].given;
    const bool named = contains(wanted, index) || contains(pinned, index) || limited;
    if (contains(pinned, index) && (contains(excluded, index) || (wanted->count && !contains(wanted, index))))
        return error_set(err, ERROR_USAGE, "units are pinned to '%s', which --devices or --exclude leaves out",
                         device->short_name);
    if (contains(excluded, index)) {
        if (contains(wanted, index))
            return error_set(err, ERROR_USAGE, "'%s' is named in --devices and in --exclude", device->short_name);
        return leave_out(choice, index, "%s", "excluded by --exclude");
    }
    if (!device->usable) {
        if (contains(wanted, index) || contains(pinned, index))
            return error_set(err, ERROR_FAILED, "device '%s' cannot be used: %s", device->short_name,
                             device->reason);
        return leave_out(choice, index, "unusable: %s", device->reason);
    }
    if (wanted->count && !contains(wanted, index))
        return leave_out(choice, index, "%s", "not named in --devices");
    if (device->alias_of[0] && !named)
        return leave_out(choice, index, "the same silicon as '%s', which is faster", device->alias_of);
    if (choice->count == PLAN_MAX_DEVICES)
        return leave_out(choice, index, "%s", "a plan holds at most 16 devices");
    choice->chosen[choice->count++].index = index;
    return true;
}

bool device_choice_make(const struct device_list *list, const uint64_t *memory_bytes,
                        const struct plan_request *request,
                        const struct host_memory *host, struct device_choice *choice,
                        struct text *notes, struct error *err) {
    struct naming wanted = { .list = list, .option = "--devices" };
    struct naming excluded = { .list = list, .option = "--exclude" };
    struct naming pinned = { .list = list, .option = "--pin" };
    struct limits memory = { .list = list, .option = "--max-memory", .notes = notes };
    struct limits buffers = { .list = list, .option = "--max-buffer", .notes = notes, .may_be_bare = true };
    *choice = (struct device_choice){ 0 };
    if (!each_word(request->devices, add_name, &wanted, err) ||
        !each_word(request->exclude, add_name, &excluded, err) ||
        !each_word(request->pins, add_pinned, &pinned, err) ||
        !each_word(request->max_memory, add_limit, &memory, err) ||
        !each_word(request->max_buffer, add_limit, &buffers, err))
        return false;

    /* First those asked for by name, in that order; the others follow for their reasons. */
    for (uint32_t i = 0; i < wanted.count; i++)
        if (!consider(list, wanted.indices[i], &wanted, &excluded, &memory, &pinned, choice, err))
            return false;
    for (uint32_t i = 0; i < list->count; i++)
        if (!contains(&wanted, i) && !consider(list, i, &wanted, &excluded, &memory, &pinned, choice, err))
            return false;
    if (!choice->count && !choice->left_out_count)
        return error_set(err, ERROR_FAILED, "this machine shows no OpenCL device that works; install a driver such as "
                         "pocl-opencl-icd, then see phiplan devices");
    if (!choice->count)
        return error_set(err, ERROR_FAILED, "no device is left: '%s' is %s; see phiplan devices",
                         list->devices[choice->left_out[0].index].short_name, choice->left_out[0].reason);

    choice->pool_bytes = memory.pool.given ? limit_bytes(&memory.pool, host->total_bytes) : host->available_bytes;
    static const struct limit none;
    for (uint32_t i = 0; i < choice->count; i++) {
        struct chosen_device *chosen = &choice->chosen[i];
        const struct device *device = &list->devices[chosen->index];
        const bool tabled = chosen->index < PLAN_MAX_DEVICES;
        uint64_t whole = device->memory_bytes;
        if (memory_bytes && memory_bytes[chosen->index] < whole)
            whole = memory_bytes[chosen->index];
        chosen->budget_bytes = memory_budget(device, whole, tabled ? &memory.device[chosen->index] : &none,
                                             choice->pool_bytes);
        const struct limit *buffer = tabled && buffers.device[chosen->index].given
                                         ? &buffers.device[chosen->index] : &buffers.all;
        chosen->max_buffer_bytes = buffer->given ? limit_bytes(buffer, device->max_buffer_bytes)
                                                 : device->max_buffer_bytes;
    }
    return true;
}

/* ---- patterns over units ---- */

struct matching {
    const struct device_list *list;
    const struct device_choice *choice;
    const char *option;
    uint32_t unit_count;
    pattern_apply *apply;
    void *context;
};

static bool match_pattern(void *context, const char *word, struct error *err) {
    const struct matching *matching = context;
    char pattern[256], device[64], name[24];
    int32_t position = -1;
    if (!split_pattern(word, pattern, device, matching->option, err))
        return false;
    if (strcmp(device, "host") != 0) {
        uint32_t index;
        if (!device_choice_find(matching->list, device, &index, err))
            return error_prefix(err, "%s", matching->option);
        for (uint32_t i = 0; i < matching->choice->count; i++)
            if (matching->choice->chosen[i].index == index)
                position = (int32_t)i;
        if (position < 0)
            return true;   /* forbidden on a device that takes no part anyway */
    }
    bool matched = false;
    for (uint32_t unit = 0; unit < matching->unit_count; unit++) {
        plan_unit_name(matching->unit_count, unit, name);
        if (fnmatch(pattern, name, 0) != 0)
            continue;
        matched = true;
        if (!matching->apply(matching->context, unit, position, err))
            return error_prefix(err, "%s '%s'", matching->option, word);
    }
    return matched || error_set(err, ERROR_USAGE, "%s: no unit is called '%s'; they are embed, attn.0, ffn.0, "
                                "... head", matching->option, pattern);
}

bool device_choice_patterns(const struct device_list *list, const struct device_choice *choice,
                            const char *option, const char *patterns, uint32_t unit_count,
                            pattern_apply *apply, void *context, struct error *err) {
    struct matching matching = { list, choice, option, unit_count, apply, context };
    return each_word(patterns, match_pattern, &matching, err);
}

static bool is_pool_limit(void *context, const char *word, struct error *err) {
    (void)context, (void)err;
    return strncmp(word, "cpu=", 4) == 0;
}

bool device_choice_names_devices(const struct plan_request *request) {
    return request->devices[0] || request->exclude[0] || request->pins[0] || request->forbids[0] ||
           !each_word(request->max_memory, is_pool_limit, NULL, NULL);
}

bool device_choice_names(const struct device_list *list, const struct plan_request *request, uint32_t index) {
    struct naming named = { .list = list, .option = "--devices" };
    struct error ignored = { 0 };   /* device_choice_make() says it */
    return each_word(request->devices, add_name, &named, &ignored) &&
           each_word(request->pins, add_pinned, &named, &ignored) && contains(&named, index);
}
