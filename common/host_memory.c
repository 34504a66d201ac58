#include "common/host_memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "MemTotal:       24671120 kB" */
static bool meminfo_field(const char *meminfo, const char *field, uint64_t *bytes) {
    const char *line = strstr(meminfo, field);
    if (!line || (line != meminfo && line[-1] != '\n'))
        return false;
    unsigned long long kib = strtoull(line + strlen(field), NULL, 10);
    return kib && !__builtin_mul_overflow(kib, 1024u, bytes);
}

static uint64_t smaller(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* Memory of a control group that cannot be given back: page cache can. */
static uint64_t group_use(const char *stat) {
    static const char *const fields[] = { "anon ", "total_rss " };   /* versions 2 and 1 */
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        const char *line = strstr(stat, fields[i]);
        if (line && (line == stat || line[-1] == '\n'))
            return strtoull(line + strlen(fields[i]), NULL, 10);
    }
    return 0;
}

/* "max", or version 1's huge number, is no limit. */
static void apply_limit(struct host_memory *host, const char *group_limit, const char *group_stat) {
    uint64_t limit = strtoull(group_limit, NULL, 10), use = group_use(group_stat);
    if (!limit)
        return;
    uint64_t left = use < limit ? limit - use : 0;
    host->total_bytes = smaller(host->total_bytes, limit);
    host->available_bytes = smaller(host->available_bytes, left);
}

static bool read_meminfo(const char *meminfo, struct host_memory *host, struct error *err) {
    *host = (struct host_memory){ 0 };
    if (!meminfo_field(meminfo, "MemTotal:", &host->total_bytes))
        return error_set(err, ERROR_FAILED, "cannot read '/proc/meminfo': no MemTotal in it");
    if (!meminfo_field(meminfo, "MemAvailable:", &host->available_bytes))
        host->available_bytes = host->total_bytes;
    return true;
}

static void read_text(const char *path, char *text, size_t size) {
    FILE *file = fopen(path, "r");
    size_t length = file ? fread(text, 1, size - 1, file) : 0;
    text[length] = '\0';
    if (file)
        fclose(file);
}

/* One group and those above it, up to the folder where they are mounted. */
static void apply_groups(struct host_memory *host, const char *mount, char *group, const char *limit_file) {
    for (;;) {
        char path[4096], limit[64], stat[8192];
        snprintf(path, sizeof path, "%s%s/%s", mount, group, limit_file);
        read_text(path, limit, sizeof limit);
        snprintf(path, sizeof path, "%s%s/memory.stat", mount, group);
        read_text(path, stat, sizeof stat);
        apply_limit(host, limit, stat);
        char *slash = strrchr(group, '/');
        if (!slash)
            return;
        *slash = '\0';
    }
}

/* A line is "number:controllers:/path", version 2's "0::/path". In a container the path may be
 * of outside, and the container's own group be what is mounted: only that is found then. */
static void apply_all_groups(struct host_memory *host, const char *groups, const char *root) {
    char line[2048], mount[2048];
    for (; *groups; groups += strcspn(groups, "\n"), groups += *groups == '\n') {
        snprintf(line, sizeof line, "%.*s", (int)strcspn(groups, "\n"), groups);
        char *controllers = strchr(line, ':'), *path = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!path)
            continue;
        *path++ = '\0';
        if (strcmp(path, "/") == 0 || strstr(path, "/.."))
            *path = '\0';
        if (!controllers[1]) {
            apply_groups(host, root, path, "memory.max");
        } else if (strcmp(controllers + 1, "memory") == 0) {
            snprintf(mount, sizeof mount, "%s/memory", root);
            apply_groups(host, mount, path, "memory.limit_in_bytes");
        }
    }
}

bool host_memory_parse(const char *meminfo, const char *groups, const char *root, struct host_memory *host,
                       struct error *err) {
    if (!read_meminfo(meminfo, host, err))
        return false;
    apply_all_groups(host, groups, root);
    host->available_bytes = smaller(host->available_bytes, host->total_bytes / 5 * 4);
    return true;
}

bool host_memory_read(struct host_memory *host, struct error *err) {
    char meminfo[8192], groups[8192];
    read_text("/proc/meminfo", meminfo, sizeof meminfo);
    read_text("/proc/self/cgroup", groups, sizeof groups);
    return host_memory_parse(meminfo, groups, "/sys/fs/cgroup", host, err);
}
