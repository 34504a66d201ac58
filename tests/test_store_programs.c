/* Programs that drivers built, as the store keeps them. */
#include "tests/support.h"

#include "db/plan_store.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SIZE = 5000 };

struct place {
    char path[128];
    struct plan_store *store;
    struct device device;
    unsigned char binary[SIZE];
};

static const struct program_key some_key = {
    .name = "kernels/x.cl", .launches = "small",
    .source_hash = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
};

static struct place *open_place(void) {
    struct place *place = calloc(1, sizeof *place);
    assert_non_null(place);
    snprintf(place->path, sizeof place->path, "%s/plans.db", test_folder());
    struct error err = { 0 };
    place->store = plan_store_open(place->path, STORE_CREATE, &err);
    if (!place->store)
        fail_msg("%s", err.text);
    place->device = (struct device){ .type = DEVICE_CPU, .alignment = 64, .memory_bytes = 1 << 30,
                                     .max_buffer_bytes = 1 << 30, .platform = "P", .name = "N", .short_name = "cpu0",
                                     .driver = "1.0", .usable = true };
    ASSERT_OK(plan_store_save_device(place->store, &place->device, &err), err);
    for (int i = 0; i < SIZE; i++)
        place->binary[i] = (unsigned char)(i * i >> 3);
    return place;
}

static void close_place(struct place *place) {
    static const char *const ends[] = { "", "-wal", "-shm" };
    plan_store_close(place->store);
    for (int i = 0; i < 3; i++) {
        char path[128];
        snprintf(path, sizeof path, "%.120s%s", place->path, ends[i]);
        unlink(path);
    }
    free(place);
}

static void keep(struct place *place) {
    struct error err = { 0 };
    const struct kernel_store kernels = plan_store_kernels(place->store);
    ASSERT_OK(kernels.keep_program(kernels.context, &place->device, &some_key, place->binary, SIZE, &err), err);
}

static unsigned char *find(struct place *place, const struct device *device, const struct program_key *key,
                           size_t *size, struct error *reason) {
    const struct kernel_store kernels = plan_store_kernels(place->store);
    *size = 0;
    return kernels.find_program(kernels.context, device, key, size, reason);
}

/* Over a connection of its own. */
static int64_t sql(struct place *place, const char *text) {
    sqlite3 *db;
    sqlite3_stmt *statement;
    assert_int_equal(sqlite3_open(place->path, &db), SQLITE_OK);
    if (sqlite3_prepare_v2(db, text, -1, &statement, NULL) != SQLITE_OK)
        fail_msg("%s: %s", text, sqlite3_errmsg(db));
    int code = sqlite3_step(statement);
    int64_t value = code == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : 0;
    if (code != SQLITE_ROW && code != SQLITE_DONE)
        fail_msg("%s: %s", text, sqlite3_errmsg(db));
    sqlite3_finalize(statement);
    sqlite3_close(db);
    return value;
}

static void a_binary_comes_back_as_it_was_kept(void **state) {
    (void)state;
    struct place *place = open_place();
    struct error reason;
    size_t size;
    assert_null(find(place, &place->device, &some_key, &size, &reason));
    assert_string_equal(reason.text, "");
    keep(place);
    unsigned char *binary = find(place, &place->device, &some_key, &size, &reason);
    assert_non_null(binary);
    assert_int_equal(size, SIZE);
    assert_memory_equal(binary, place->binary, SIZE);
    assert_true(sql(place, "select length(binary) < binary_bytes from program"));
    free(binary);
    close_place(place);
}

static void a_binary_is_for_its_source_launches_device_and_driver_alone(void **state) {
    (void)state;
    struct place *place = open_place();
    struct error reason;
    size_t size;
    keep(place);
    for (int i = 0; i < 4; i++) {
        struct device device = place->device;
        struct program_key key = some_key;
        if (i == 0)
            key.source_hash[5] = 'f';
        if (i == 1)
            snprintf(key.launches, sizeof key.launches, "small,large");
        if (i == 2)
            device.name[0] = 'M';
        if (i == 3)
            device.driver[0] = '2';
        assert_null(find(place, &device, &key, &size, &reason));
        assert_string_equal(reason.text, "");
    }
    close_place(place);
}

static void a_new_binary_replaces_the_old_and_those_of_another_driver(void **state) {
    (void)state;
    struct place *place = open_place();
    struct error reason;
    size_t size;
    keep(place);
    place->binary[7]++;
    keep(place);
    assert_int_equal(sql(place, "select count(*) from program"), 1);
    unsigned char *binary = find(place, &place->device, &some_key, &size, &reason);
    assert_non_null(binary);
    assert_int_equal(binary[7], place->binary[7]);
    free(binary);
    place->device.driver[0] = '2';
    keep(place);
    assert_int_equal(sql(place, "select count(*) from program where driver = '2.0'"), 1);
    assert_int_equal(sql(place, "select count(*) from program"), 1);
    close_place(place);
}

static void a_damaged_binary_is_refused_with_the_reason(void **state) {
    (void)state;
    static const char *const damages[] = {
        "update program set binary = zeroblob(length(binary))",
        "update program set binary = substr(binary, 1, length(binary) / 2)",
        "update program set binary = substr(binary, 1, length(binary) - 1)",
        "update program set binary = cast(hex(binary) || '00' as blob)",
        "update program set binary = x''",
        "update program set binary_bytes = binary_bytes - 1",
        "update program set binary_bytes = binary_bytes + 1",
        "update program set binary_bytes = 0",
        "update program set binary_bytes = -1",
        "update program set binary_bytes = 9223372036854775807",
        "update program set binary_bytes = 67108865",
        "update program set checksum = replace(checksum, substr(checksum, 1, 1), 'x')",
        "update program set checksum = ''",
    };
    struct place *place = open_place();
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
        struct error reason;
        size_t size;
        keep(place);
        sql(place, damages[i]);
        unsigned char *binary = find(place, &place->device, &some_key, &size, &reason);
        if (binary || !reason.text[0])
            fail_msg("not refused: %s", damages[i]);
    }
    close_place(place);
}

/* The store of somebody else: its rows are read, its machine code is not run. */
static void code_that_another_user_kept_is_refused(void **state) {
    (void)state;
    struct place *place = open_place();
    char folder[4200];
    struct error reason;
    size_t size;
    keep(place);
    snprintf(folder, sizeof folder, "%s/somebody", test_folder());
    setenv("XDG_DATA_HOME", folder, 1);
    assert_null(find(place, &place->device, &some_key, &size, &reason));
    assert_non_null(strstr(reason.text, "another user's"));
    keep(place);
    unsigned char *binary = find(place, &place->device, &some_key, &size, &reason);
    assert_non_null(binary);
    free(binary);
    unsetenv("XDG_DATA_HOME");
    close_place(place);
}

static void what_cannot_be_kept_is_no_more_than_a_reason(void **state) {
    (void)state;
    struct place *place = open_place();
    const struct kernel_store kernels = plan_store_kernels(place->store);
    struct error reason = { 0 };
    struct device other = place->device;
    other.name[0] = 'M';
    assert_false(kernels.keep_program(kernels.context, &place->device, &some_key, place->binary, 0, &reason));
    assert_false(kernels.keep_program(kernels.context, &place->device, &some_key, place->binary,
                                      (size_t)PROGRAM_MOST_BYTES + 1, &reason));
    assert_false(kernels.keep_program(kernels.context, &other, &some_key, place->binary, SIZE, &reason));
    assert_non_null(strstr(reason.text, "does not know the device"));
    close_place(place);
}

static void a_variant_is_found_on_the_cpu_and_driver_where_it_was_kept(void **state) {
    (void)state;
    struct place *place = open_place();
    struct error err = { 0 };
    const struct kernel_store kernels = plan_store_kernels(place->store);
    const struct variant_key key = { "matmul int8", "q4_0/r16", "vnni,avx2,plain" };
    const struct variant_key other = { "matmul int8", "q8_0/r16", "vnni,avx2,plain" };
    const struct variant_key later = { "matmul int8", "q4_0/r16", "new,vnni,avx2,plain" };
    struct device device = place->device;
    char variant[32] = "x";
    kernels.find_variant(kernels.context, &device, &key, variant);
    assert_string_equal(variant, "");
    ASSERT_OK(kernels.keep_variant(kernels.context, &device, &key, "vnni", 0.5, &err), err);
    ASSERT_OK(kernels.keep_variant(kernels.context, &device, &key, "avx2", 0.25, &err), err);   /* replaces */
    kernels.find_variant(kernels.context, &device, &key, variant);
    assert_string_equal(variant, "avx2");
    kernels.find_variant(kernels.context, &device, &other, variant);
    assert_string_equal(variant, "");
    kernels.find_variant(kernels.context, &device, &later, variant);
    assert_string_equal(variant, "");
    device.driver[0] = '2';
    kernels.find_variant(kernels.context, &device, &key, variant);
    assert_string_equal(variant, "");
    device = place->device;
    sql(place, "update tuning set parameters = 'cpu=0123456789abcdef'");
    kernels.find_variant(kernels.context, &device, &key, variant);
    assert_string_equal(variant, "");
    ASSERT_OK(kernels.keep_variant(kernels.context, &device, &key, "plain", 0.5, &err), err);
    assert_int_equal(sql(place, "select count(*) from tuning"), 1);
    sql(place, "update tuning set variant = printf('%.200c', 'x')");
    kernels.find_variant(kernels.context, &device, &key, variant);
    assert_string_equal(variant, "");
    close_place(place);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_binary_comes_back_as_it_was_kept),
        cmocka_unit_test(a_binary_is_for_its_source_launches_device_and_driver_alone),
        cmocka_unit_test(a_new_binary_replaces_the_old_and_those_of_another_driver),
        cmocka_unit_test(a_damaged_binary_is_refused_with_the_reason),
        cmocka_unit_test(code_that_another_user_kept_is_refused),
        cmocka_unit_test(a_variant_is_found_on_the_cpu_and_driver_where_it_was_kept),
        cmocka_unit_test(what_cannot_be_kept_is_no_more_than_a_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
