/* store_devices: device rows, for the other files of db/. */
#ifndef DB_STORE_DEVICES_H
#define DB_STORE_DEVICES_H

#include "common/device.h"
#include "db/statement.h"

/* Insert or update by identity, inside the caller's transaction; *row: device.id. */
bool store_device_row(struct plan_store *store, const struct device *device, const char *what,
                      int64_t *row, struct error *err);

/* Columns of `device d` that take_identity() takes. */
#define IDENTITY_COLUMNS \
    "d.platform, d.vendor_id, d.name, d.type, d.uuid, d.pci, d.ordinal, d.usable, d.reason, d.alias_of"
void take_identity(struct statement *statement, struct device *device);

/* icd, driver, version, memory, largest buffer, alignment, compute units, unified, CPU pool. */
void take_properties(struct statement *statement, struct device *device);

#endif
