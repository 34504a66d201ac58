#include "tests/support.h"

#include "common/device.h"

#include <stdio.h>
#include <string.h>

static struct device make(const char *platform, const char *name, enum device_type type) {
    struct device device = { .vendor_id = 0x10de, .type = type, .usable = true };
    snprintf(device.platform, sizeof device.platform, "%s", platform);
    snprintf(device.name, sizeof device.name, "%s", name);
    return device;
}

static void short_names_follow_the_identity_not_the_enumeration(void **state) {
    (void)state;
    const struct device cpu = make("Portable Computing Language", "cpu-x", DEVICE_CPU);
    const struct device second = make("Vendor", "card B", DEVICE_GPU);
    const struct device first = make("Vendor", "card A", DEVICE_GPU);
    const struct device igpu = make("Clover", "integrated", DEVICE_IGPU);
    const struct device *const orders[2][4] = { { &cpu, &second, &first, &igpu },
                                                { &igpu, &first, &cpu, &second } };
    for (int order = 0; order < 2; order++) {
        struct device_list list = { 0 };
        for (int i = 0; i < 4; i++)
            assert_true(device_list_append(&list, orders[order][i]));
        assert_true(device_name_all(&list));
        static const char *const names[] = { "gpu0", "gpu1", "igpu0", "cpu0" };
        for (int i = 0; i < 4; i++)
            assert_string_equal(list.devices[i].short_name, names[i]);
        assert_string_equal(list.devices[1].name, "card B");
        assert_string_equal(list.devices[3].name, "cpu-x");
        device_list_release(&list);
        assert_null(list.devices);
    }
}

static void equal_devices_are_told_apart_by_their_ordinal(void **state) {
    (void)state;
    struct device_list list = { 0 };
    struct device device = make("Vendor", "card", DEVICE_GPU);
    for (uint64_t i = 1; i <= 3; i++) {
        device.memory_bytes = i;
        assert_true(device_list_append(&list, &device));
    }
    strcpy(device.uuid, "00112233445566778899aabbccddeeff");
    assert_true(device_list_append(&list, &device));
    assert_true(device_name_all(&list));
    char identities[4][DEVICE_IDENTITY_SIZE];
    for (uint32_t i = 0; i < 4; i++)
        device_identity(&list.devices[i], identities[i], sizeof identities[i]);
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < i; j++)
            assert_string_not_equal(identities[i], identities[j]);
    assert_string_equal(identities[0], "Vendor|0x10de|card|gpu|00112233445566778899aabbccddeeff|0");
    assert_string_equal(identities[1], "Vendor|0x10de|card|gpu||0");
    assert_string_equal(identities[3], "Vendor|0x10de|card|gpu||2");
    assert_int_equal(list.devices[1].memory_bytes, 1);   /* order of enumeration kept */
    assert_int_equal(list.devices[3].memory_bytes, 3);
    device_list_release(&list);
}

static void a_name_cannot_break_the_identity_line(void **state) {
    (void)state;
    struct device device = make("a|b", "line\nbreak", DEVICE_ACCELERATOR);
    strcpy(device.pci, "0000:03:00.0");
    char identity[DEVICE_IDENTITY_SIZE];
    device_identity(&device, identity, sizeof identity);
    assert_string_equal(identity, "a_b|0x10de|line_break|accel|0000:03:00.0|0");
    char small[8];
    device_identity(&device, small, sizeof small);
    assert_string_equal(small, "a_b|0x1");
    memset(device.platform, 'p', sizeof device.platform - 1);
    memset(device.name, 'n', sizeof device.name - 1);
    memset(device.uuid, 'u', sizeof device.uuid - 1);
    device.ordinal = UINT32_MAX;
    device.vendor_id = UINT32_MAX;
    device_identity(&device, identity, sizeof identity);
    assert_string_equal(strrchr(identity, '|'), "|4294967295");
}

static void type_names_are_read_back(void **state) {
    (void)state;
    for (int i = DEVICE_GPU; i <= DEVICE_ACCELERATOR; i++) {
        enum device_type type = DEVICE_GPU;
        assert_true(device_type_from_name(device_type_name((enum device_type)i), &type));
        assert_int_equal(type, i);
    }
    enum device_type type = DEVICE_CPU;
    assert_false(device_type_from_name("tpu", &type));
    assert_int_equal(type, DEVICE_CPU);
}

static void the_hardware_key_is_that_of_the_set_of_devices(void **state) {
    (void)state;
    struct error err = { 0 };
    struct device card = make("Vendor", "card", DEVICE_GPU), cpu = make("PoCL", "cpu", DEVICE_CPU);
    const struct device *one[] = { &card, &cpu }, *two[] = { &cpu, &card };
    char key[65], same[65], other[65];
    ASSERT_OK(device_hardware_key(one, 2, key, &err), err);
    /* printf 'PoCL|0x10de|cpu|cpu||0\nVendor|0x10de|card|gpu||0\n' | sha256sum */
    assert_string_equal(key, "7b129ac5fa4ee39bfd3c28ac76d9740b673f43c261ef0d1c3849484735225af2");
    card.memory_bytes = 1;   /* a precondition, not identity */
    strcpy(cpu.driver, "new");
    ASSERT_OK(device_hardware_key(two, 2, same, &err), err);
    assert_string_equal(key, same);
    ASSERT_OK(device_hardware_key(one, 1, other, &err), err);
    assert_string_not_equal(key, other);
    card.ordinal = 1;
    ASSERT_OK(device_hardware_key(one, 2, other, &err), err);
    assert_string_not_equal(key, other);
    assert_false(device_hardware_key(one, 0, other, &err));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(short_names_follow_the_identity_not_the_enumeration),
        cmocka_unit_test(equal_devices_are_told_apart_by_their_ordinal),
        cmocka_unit_test(a_name_cannot_break_the_identity_line),
        cmocka_unit_test(type_names_are_read_back),
        cmocka_unit_test(the_hardware_key_is_that_of_the_set_of_devices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
