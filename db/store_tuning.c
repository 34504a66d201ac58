/* store_tuning: which kernels were found best. */
#include "db/plan_store.h"
#include "db/statement.h"
#include "db/store_devices.h"

#include <stdio.h>
#include <string.h>

bool plan_store_save_tuning(struct plan_store *store, const struct device *device,
                            const struct tuning_choice *choice, struct error *err) {
    static const char what[] = "record the best kernel";
    struct statement drop = { 0 }, save = { 0 };
    char now[32];
    int64_t row;
    if (!store_begin_write(store, what, err))
        return false;
    store_now(now);
    bool ok = store_device_row(store, device, what, &row, err) &&
              statement_open(&drop, store, what, "DELETE FROM tuning WHERE device = ? AND operation = ? AND format = ? "
                             "AND row_count = 0 AND column_count = 0 AND token_count = 0", err);
    if (ok) {
        put_i64(&drop, row);
        put_text(&drop, choice->operation);
        put_text(&drop, choice->format);
        ok = statement_run(&drop, err);
    }
    ok = ok && statement_open(&save, store, what, "INSERT INTO tuning (device, driver, operation, format, row_count, "
                              "column_count, token_count, variant, parameters, local_size, unordered, seconds, measured) "
                              "VALUES (?, ?, ?, ?, 0, 0, 0, ?, '', 0, ?, ?, ?)", err);
    if (ok && choice->variant[0]) {
        put_i64(&save, row);
        put_text(&save, device->driver);
        put_text(&save, choice->operation);
        put_text(&save, choice->format);
        put_text(&save, choice->variant);
        put_i64(&save, choice->unordered);
        put_double(&save, choice->seconds);
        put_text(&save, now);
        ok = statement_run(&save, err);
    }
    statement_close(&drop);
    statement_close(&save);
    return store_end(store, ok, what, err);
}

bool plan_store_tuning(struct plan_store *store, const struct device *device, struct tuning_choice *choice,
                       struct error *err) {
    static const char what[] = "find the best kernel";
    struct statement find;
    char identity[DEVICE_IDENTITY_SIZE];
    bool failed = true;
    device_identity(device, identity, sizeof identity);
    choice->variant[0] = '\0';
    if (statement_open(&find, store, what, "SELECT t.variant, t.unordered, t.seconds FROM tuning t JOIN device d "
                       "ON d.id = t.device WHERE d.identity = ? AND t.driver = ? AND t.operation = ? AND t.format = ? "
                       "AND t.row_count = 0 AND t.column_count = 0 AND t.token_count = 0", err)) {
        put_text(&find, identity);
        put_text(&find, device->driver);
        put_text(&find, choice->operation);
        put_text(&find, choice->format);
        if (statement_row(&find, &failed, err)) {
            take_text(&find, choice->variant, sizeof choice->variant);
            choice->unordered = take_bool(&find);
            choice->seconds = take_double(&find);
            failed = !statement_sound(&find, err);
        }
    }
    statement_close(&find);
    return !failed;
}

bool plan_store_gemm_types(struct plan_store *store, const struct device *device, bool types[TENSOR_TYPE_COUNT],
                           struct error *err) {
    for (int t = 0; t < TENSOR_TYPE_COUNT; t++) {
        const struct tensor_type_info *info = tensor_type_info((enum tensor_type)t);
        struct tuning_choice choice = { .operation = "matmul" };
        types[t] = false;
        if (info->is_quantised)
            continue;
        snprintf(choice.format, sizeof choice.format, "%s", info->name);
        if (!plan_store_tuning(store, device, &choice, err))
            return false;
        types[t] = strcmp(choice.variant, "clblast") == 0;
    }
    return true;
}
