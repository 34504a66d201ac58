/* device: names, identities and lists of devices; no OpenCL here. */
#include "common/device.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const type_names[] = {
    [DEVICE_GPU] = "gpu", [DEVICE_IGPU] = "igpu", [DEVICE_CPU] = "cpu", [DEVICE_ACCELERATOR] = "accel",
};
enum { TYPE_COUNT = sizeof type_names / sizeof *type_names };

const char *device_type_name(enum device_type type) {
    return (unsigned)type < TYPE_COUNT ? type_names[type] : "unknown";
}

bool device_type_from_name(const char *name, enum device_type *type) {
    for (unsigned i = 0; i < TYPE_COUNT; i++)
        if (strcmp(name, type_names[i]) == 0) {
            *type = (enum device_type)i;
            return true;
        }
    return false;
}

void device_list_release(struct device_list *list) {
    if (!list)
        return;
    free(list->devices);
    *list = (struct device_list){ 0 };
}

bool device_list_append(struct device_list *list, const struct device *device) {
    struct device *grown = realloc(list->devices, ((size_t)list->count + 1) * sizeof *grown);
    if (!grown)
        return false;
    list->devices = grown;
    list->devices[list->count++] = *device;
    return true;
}

/* Driver strings may hold anything: what would end a field or a line becomes '_'. */
static void append_field(char *text, size_t size, const char *field) {
    size_t used = strlen(text);
    for (; *field && used + 1 < size; field++)
        text[used++] = *field == '|' || iscntrl((unsigned char)*field) ? '_' : *field;
    if (used < size)
        text[used] = '\0';
}

/* All of the identity but the ordinal; ends with '|'. */
static void identity_without_ordinal(const struct device *device, char *text, size_t size) {
    char vendor[16];
    snprintf(vendor, sizeof vendor, "0x%04" PRIx32, device->vendor_id);
    const char *address = device->uuid[0] ? device->uuid : device->pci;
    const char *const fields[] = { device->platform, vendor, device->name,
                                   device_type_name(device->type), address };
    text[0] = '\0';
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        append_field(text, size, fields[i]);
        size_t used = strlen(text);
        snprintf(text + used, size - used, "|");
    }
}

void device_identity(const struct device *device, char *text, size_t size) {
    if (!size)
        return;
    identity_without_ordinal(device, text, size);
    size_t used = strlen(text);
    snprintf(text + used, size - used, "%" PRIu32, device->ordinal);
}

struct sort_entry {
    char identity[DEVICE_IDENTITY_SIZE];
    uint32_t place;   /* in the list as it came: keeps equal devices in order of enumeration */
    struct device device;
};

static int compare_entries(const void *left, const void *right) {
    const struct sort_entry *a = left, *b = right;
    if (a->device.type != b->device.type)
        return a->device.type < b->device.type ? -1 : 1;
    int order = strcmp(a->identity, b->identity);
    return order ? order : (a->place > b->place) - (a->place < b->place);
}

bool device_name_all(struct device_list *list) {
    return device_name_places(list, NULL);
}

bool device_name_places(struct device_list *list, uint32_t *place) {
    if (!list->count)
        return true;
    struct sort_entry *entries = calloc(list->count, sizeof *entries);
    if (!entries)
        return false;
    for (uint32_t i = 0; i < list->count; i++) {
        entries[i].place = i;
        entries[i].device = list->devices[i];
        identity_without_ordinal(&list->devices[i], entries[i].identity, sizeof entries[i].identity);
    }
    qsort(entries, list->count, sizeof *entries, compare_entries);

    uint32_t next_of_type[TYPE_COUNT] = { 0 };
    for (uint32_t i = 0; i < list->count; i++) {
        struct device *device = &list->devices[i];
        *device = entries[i].device;
        if (place)
            place[i] = entries[i].place;
        bool is_twin = i > 0 && strcmp(entries[i].identity, entries[i - 1].identity) == 0;
        device->ordinal = is_twin ? list->devices[i - 1].ordinal + 1 : 0;
        unsigned type = (unsigned)device->type < TYPE_COUNT ? device->type : DEVICE_ACCELERATOR;
        snprintf(device->short_name, sizeof device->short_name, "%s%" PRIu32, type_names[type],
                 next_of_type[type]++);
    }
    free(entries);
    return true;
}

bool device_precedes(const struct device *a, const struct device *b) {
    if (a->type != b->type)
        return a->type < b->type;
    return strtoul(a->short_name + strcspn(a->short_name, "0123456789"), NULL, 10) <
           strtoul(b->short_name + strcspn(b->short_name, "0123456789"), NULL, 10);
}
