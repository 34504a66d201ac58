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

bool host_memory_parse(const char *meminfo, const char *group_limit, const char *group_stat,
                       struct host_memory *host, struct error *err) {
    *host = (struct host_memory){ 0 };
    if (!meminfo_field(meminfo, "MemTotal:", &host->total_bytes))
        return error_set(err, ERROR_FAILED, "cannot read '/proc/meminfo': no MemTotal in it");
    if (!meminfo_field(meminfo, "MemAvailable:", &host->available_bytes))
        host->available_bytes = host->total_bytes;
    /* "max", or version 1's huge number, is no limit. */
    uint64_t limit = strtoull(group_limit, NULL, 10), use = group_use(group_stat);
    if (limit && limit < host->total_bytes) {
        host->total_bytes = limit;
        uint64_t left = use < limit ? limit - use : 0;
        if (left < host->available_bytes)
            host->available_bytes = left;
    }
    uint64_t most = host->total_bytes / 5 * 4;
    if (host->available_bytes > most)
        host->available_bytes = most;
    return true;
}

static void read_text(const char *path, char *text, size_t size) {
    FILE *file = fopen(path, "r");
    size_t length = file ? fread(text, 1, size - 1, file) : 0;
    text[length] = '\0';
    if (file)
        fclose(file);
}

bool host_memory_read(struct host_memory *host, struct error *err) {
    char meminfo[8192], limit[64], stat[8192];
    read_text("/proc/meminfo", meminfo, sizeof meminfo);
    read_text("/sys/fs/cgroup/memory.max", limit, sizeof limit);
    read_text("/sys/fs/cgroup/memory.stat", stat, sizeof stat);
    if (!limit[0]) {
        read_text("/sys/fs/cgroup/memory/memory.limit_in_bytes", limit, sizeof limit);
        read_text("/sys/fs/cgroup/memory/memory.stat", stat, sizeof stat);
    }
    return host_memory_parse(meminfo, limit, stat, host, err);
}
