/* store_programs: what drivers made of our kernels, deflated. Asked from the threads of
 * several devices, over the store's one connection: hence the lock. */
#include "common/compress.h"
#include "common/host_cpu.h"
#include "common/model.h"
#include "db/plan_store.h"
#include "db/statement.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Rows of a device beyond this are left over from kernels that changed. */
#define MOST_PROGRAMS "512"

/* What a binary is for, so that none can stand in the place of another. */
static void sign(struct plan_store *store, const struct device *device, const struct program_key *key,
                 const void *binary, size_t size, char hex[65]) {
    char label[sizeof device->driver + sizeof key->source_hash + sizeof key->launches];
    snprintf(label, sizeof label, "%s %s %s", key->source_hash, key->launches, device->driver);
    own_key_sign(&store->key, label, binary, size, hex);
}

static bool is_damaged(struct error *reason, const struct program_key *key, const char *how) {
    return error_set(reason, ERROR_FAILED, "the stored binary of '%s' is damaged: %s", key->name, how);
}

/* The row under `statement` as a binary; NULL, with the reason, where it is not what was kept. */
static unsigned char *inflate_row(struct statement *row, const struct device *device,
                                  const struct program_key *key, size_t *size, struct error *reason) {
    size_t deflated_size;
    const void *deflated = take_blob(row, &deflated_size);
    uint64_t bytes = take_u64(row);
    char wanted[65], present[65];
    take_text(row, wanted, sizeof wanted);
    if (!statement_sound(row, reason))
        return NULL;
    if (!deflated || bytes == 0 || bytes > PROGRAM_MOST_BYTES) {
        is_damaged(reason, key, "its size cannot be");
        return NULL;
    }
    unsigned char *binary = malloc(bytes);
    if (!binary) {
        error_set(reason, ERROR_FAILED, "cannot read the stored binary of '%s': out of memory", key->name);
        return NULL;
    }
    if (decompress_bytes(deflated, deflated_size, binary, bytes, key->name, reason)) {
        sign(row->store, device, key, binary, bytes, present);
        if (present[0] && strcmp(wanted, present) == 0) {
            *size = bytes;
            return binary;
        }
        is_damaged(reason, key, "its checksum is another, or another user's");
    }
    free(binary);
    return NULL;
}

static unsigned char *find_program(void *context, const struct device *device, const struct program_key *key,
                                   size_t *size, struct error *reason) {
    struct plan_store *store = context;
    struct statement find;
    char identity[DEVICE_IDENTITY_SIZE];
    unsigned char *binary = NULL;
    bool failed;
    device_identity(device, identity, sizeof identity);
    *reason = (struct error){ 0 };
    if (!store->has_key)
        return NULL;
    pthread_mutex_lock(&store->lock);
    if (statement_open(&find, store, "read a stored binary",
                       "SELECT p.binary, p.binary_bytes, p.checksum FROM device d JOIN program p ON p.device = d.id "
                       "WHERE d.identity = ? AND p.driver = ? AND p.source_hash = ? AND p.launches = ?", reason)) {
        put_text(&find, identity);
        put_text(&find, device->driver);
        put_text(&find, key->source_hash);
        put_text(&find, key->launches);
        if (statement_row(&find, &failed, reason))
            binary = inflate_row(&find, device, key, size, reason);
    }
    statement_close(&find);
    pthread_mutex_unlock(&store->lock);
    return binary;
}

/* Binaries for another driver are refused by this one. */
static bool drop_old(struct plan_store *store, int64_t device, const char *driver, const char *what,
                     struct error *err) {
    struct statement drop = { 0 };
    bool ok = statement_open(&drop, store, what, "DELETE FROM program WHERE device = ?1 AND (driver <> ?2 OR id NOT IN "
                             "(SELECT id FROM program WHERE device = ?1 ORDER BY id DESC LIMIT " MOST_PROGRAMS "))",
                             err);
    if (ok) {
        put_i64(&drop, device);
        put_text(&drop, driver);
        ok = statement_run(&drop, err);
    }
    statement_close(&drop);
    return ok;
}

/* The row of a device that is in the store already. */
static bool find_device(struct plan_store *store, const struct device *device, const char *what, int64_t *row,
                        struct error *err) {
    struct statement find;
    char identity[DEVICE_IDENTITY_SIZE];
    bool failed = true, found = false;
    device_identity(device, identity, sizeof identity);
    if (statement_open(&find, store, what, "SELECT id FROM device WHERE identity = ?", err)) {
        put_text(&find, identity);
        found = statement_row(&find, &failed, err);
        if (found)
            *row = take_i64(&find);
    }
    statement_close(&find);
    return found || (!failed && error_set(err, ERROR_FAILED, "cannot %s: the store does not know the device '%s'",
                                          what, device->name));
}

static bool save_program(struct plan_store *store, const struct device *device, const struct program_key *key,
                         const void *deflated, size_t deflated_size, const char checksum[65], size_t size,
                         struct error *err) {
    static const char what[] = "keep a program";
    struct statement save = { 0 };
    char now[32];
    int64_t row = 0;
    if (!store_begin_write(store, what, err))
        return false;
    store_now(now);
    bool ok = find_device(store, device, what, &row, err) &&
              statement_open(&save, store, what, "INSERT OR REPLACE INTO program (device, driver, name, source_hash, "
                             "launches, binary, binary_bytes, checksum, created) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                             err);
    if (ok) {
        put_i64(&save, row);
        put_text(&save, device->driver);
        put_text(&save, key->name);
        put_text(&save, key->source_hash);
        put_text(&save, key->launches);
        put_blob(&save, deflated, deflated_size);
        put_u64(&save, size);
        put_text(&save, checksum);
        put_text(&save, now);
        ok = statement_run(&save, err);
    }
    statement_close(&save);
    return store_end(store, ok && drop_old(store, row, device->driver, what, err), what, err);
}

static bool keep_program(void *context, const struct device *device, const struct program_key *key,
                         const unsigned char *binary, size_t size, struct error *reason) {
    struct plan_store *store = context;
    if (size == 0 || size > PROGRAM_MOST_BYTES)
        return error_set(reason, ERROR_FAILED, "the binary of '%s' is too large to be kept", key->name);
    size_t capacity = compress_bound(size);
    unsigned char *deflated = malloc(capacity);
    size_t deflated_size = deflated ? compress_bytes(binary, size, 6, deflated, capacity) : 0;
    bool ok = deflated_size > 0 ||
              error_set(reason, ERROR_FAILED, "cannot keep the binary of '%s': out of memory", key->name);
    if (ok) {
        char checksum[65];
        sign(store, device, key, binary, size, checksum);
        pthread_mutex_lock(&store->lock);
        ok = save_program(store, device, key, deflated, deflated_size, checksum, size, reason);
        pthread_mutex_unlock(&store->lock);
    }
    free(deflated);
    return ok;
}

/* ---- variants ---- */

#define PARAMETERS_SIZE 128

/* A variant may have instructions that another CPU lacks, and a later version of the programs has others. */
static void write_parameters(const struct variant_key *key, char parameters[PARAMETERS_SIZE]) {
    char cpu[HOST_CPU_SIZE], hex[65];
    host_cpu_describe(cpu, sizeof cpu);
    sha256_hex(cpu, strlen(cpu), hex);
    snprintf(parameters, PARAMETERS_SIZE, "cpu=%.16s among=%s", hex, key->among);
}

static void find_variant(void *context, const struct device *device, const struct variant_key *key,
                         char variant[32]) {
    struct plan_store *store = context;
    struct statement find;
    char identity[DEVICE_IDENTITY_SIZE], parameters[PARAMETERS_SIZE];
    bool failed;
    device_identity(device, identity, sizeof identity);
    write_parameters(key, parameters);
    variant[0] = '\0';
    pthread_mutex_lock(&store->lock);
    if (statement_open(&find, store, "read a kernel's best form",
                       "SELECT t.variant FROM device d JOIN tuning t ON t.device = d.id WHERE d.identity = ? AND "
                       "t.driver = ? AND t.operation = ? AND t.format = ? AND t.row_count = 0 AND t.column_count = 0 "
                       "AND t.token_count = 0 AND t.parameters = ?", NULL)) {
        put_text(&find, identity);
        put_text(&find, device->driver);
        put_text(&find, key->operation);
        put_text(&find, key->format);
        put_text(&find, parameters);
        if (statement_row(&find, &failed, NULL))
            take_text(&find, variant, 32);
        if (!statement_sound(&find, NULL))
            variant[0] = '\0';
    }
    statement_close(&find);
    pthread_mutex_unlock(&store->lock);
}

static bool save_variant(struct plan_store *store, const struct device *device, const struct variant_key *key,
                         const char *variant, double seconds, struct error *err) {
    static const char what[] = "keep a kernel's best form";
    struct statement save = { 0 };
    char now[32], parameters[PARAMETERS_SIZE];
    int64_t row = 0;
    if (!store_begin_write(store, what, err))
        return false;
    store_now(now);
    write_parameters(key, parameters);
    bool ok = find_device(store, device, what, &row, err) &&
              statement_open(&save, store, what, "INSERT OR REPLACE INTO tuning (device, driver, operation, format, "
                             "row_count, column_count, token_count, variant, parameters, local_size, unordered, seconds, "
                             "measured) VALUES (?, ?, ?, ?, 0, 0, 0, ?, ?, 0, 0, ?, ?)", err);
    if (ok) {
        put_i64(&save, row);
        put_text(&save, device->driver);
        put_text(&save, key->operation);
        put_text(&save, key->format);
        put_text(&save, variant);
        put_text(&save, parameters);
        put_double(&save, seconds);
        put_text(&save, now);
        ok = statement_run(&save, err);
    }
    statement_close(&save);
    return store_end(store, ok, what, err);
}

static bool keep_variant(void *context, const struct device *device, const struct variant_key *key,
                         const char *variant, double seconds, struct error *reason) {
    struct plan_store *store = context;
    pthread_mutex_lock(&store->lock);
    bool ok = save_variant(store, device, key, variant, seconds, reason);
    pthread_mutex_unlock(&store->lock);
    return ok;
}

struct kernel_store plan_store_kernels(struct plan_store *store) {
    store->has_key = own_key_read(&store->key, NULL);
    return (struct kernel_store){ .context = store, .find_program = find_program,
                                  .keep_program = store->read_only || !store->has_key ? NULL : keep_program,
                                  .find_variant = find_variant,
                                  .keep_variant = store->read_only ? NULL : keep_variant };
}
