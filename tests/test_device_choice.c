#include "tests/support.h"

#include "planner/device_choice.h"

#include <stdio.h>
#include <string.h>

#define GIB (1ull << 30)

/* gpu0 8 GiB, igpu0 and two CPU devices on 32 GiB of host RAM, one broken GPU. */
static struct device devices[] = {
    { .type = DEVICE_GPU, .short_name = "gpu0", .memory_bytes = 8 * GIB, .max_buffer_bytes = 2 * GIB, .usable = true },
    { .type = DEVICE_GPU, .short_name = "gpu1", .memory_bytes = 4 * GIB, .reason = "wrong answer" },
    { .type = DEVICE_IGPU, .short_name = "igpu0", .memory_bytes = 16 * GIB, .max_buffer_bytes = 4 * GIB,
      .is_cpu_pool = true, .usable = true },
    { .type = DEVICE_CPU, .short_name = "cpu0", .memory_bytes = 32 * GIB, .max_buffer_bytes = 8 * GIB,
      .is_cpu_pool = true, .usable = true },
    { .type = DEVICE_CPU, .short_name = "cpu1", .memory_bytes = 32 * GIB, .max_buffer_bytes = 8 * GIB,
      .is_cpu_pool = true, .usable = true, .alias_of = "cpu0" },
};
static const struct device_list list = { devices, 5 };
static const struct host_memory host = { 32 * GIB, 20 * GIB };

/* "gpu0:7.6 cpu0:20" in GiB, in order; or the sentence. */
static const char *chosen(const struct plan_request *request, struct device_choice *choice) {
    static char text[600];
    struct error err = { 0 };
    struct text notes;
    text_init(&notes);
    text[0] = '\0';
    if (!device_choice_make(&list, NULL, request, &host, choice, &notes, &err)) {
        snprintf(text, sizeof text, "%d %.500s", err.kind, err.text);
    } else {
        for (uint32_t i = 0; i < choice->count; i++)
            snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s:%.2f", i ? " " : "",
                     devices[choice->chosen[i].index].short_name, (double)choice->chosen[i].budget_bytes / GIB);
    }
    text_release(&notes);
    return text;
}

static void requests_choose_devices_and_budgets(void **state) {
    (void)state;
    static const struct { struct plan_request request; const char *expected; } cases[] = {
        /* A GPU keeps 5 % back; host RAM is what is available; aliases and broken ones stay out. */
        { { .policy = "" }, "gpu0:7.60 igpu0:12.80 cpu0:20.00" },
        { { .devices = "cpu1,gpu0" }, "cpu1:20.00 gpu0:7.60" },
        { { .devices = " 0 , cpu " }, "gpu0:7.60 cpu0:20.00" },
        { { .exclude = "igpu0" }, "gpu0:7.60 cpu0:20.00" },
        { { .max_memory = "0=8GiB,cpu=24GiB" }, "gpu0:8.00 igpu0:12.80 cpu0:24.00" },
        { { .max_memory = "2=1GiB,gpu0=64GiB" }, "gpu0:8.00 igpu0:1.00 cpu0:20.00" },
        { { .max_memory = "cpu1=512MiB" }, "gpu0:7.60 igpu0:12.80 cpu0:20.00 cpu1:0.50" },
        { { .max_memory = "cpu=10%,gpu0=50%" }, "gpu0:4.00 igpu0:3.20 cpu0:3.20" },
        { { .pins = "ffn.*=cpu1" }, "gpu0:7.60 igpu0:12.80 cpu0:20.00 cpu1:20.00" },
        { { .pins = "embed=host" }, "gpu0:7.60 igpu0:12.80 cpu0:20.00" },
        { { .devices = "cpu0", .pins = "ffn.*=cpu1" },
          "2 units are pinned to 'cpu1', which --devices or --exclude leaves out" },
        { { .devices = "gpu7" },
          "2 --devices: this machine has no device 'gpu7'; it has gpu0, gpu1, igpu0, cpu0, cpu1 (see phiplan devices)" },
        { { .devices = "3" },
          "2 --devices: this machine has no device '3'; it has gpu0, gpu1, igpu0, cpu0, cpu1 (see phiplan devices)" },
        { { .devices = "gpu1" }, "1 device 'gpu1' cannot be used: wrong answer" },
        { { .devices = "cpu0", .exclude = "cpu0" }, "2 'cpu0' is named in --devices and in --exclude" },
        { { .max_memory = "8GiB" }, "2 --max-memory: '8GiB' names no device; write for example gpu0=8GiB,cpu=24GiB" },
        { { .max_memory = "gpu0=8G" }, "2 --max-memory: '8G' is no amount of memory; write for example 8GiB, 500MB, "
          "a whole number of bytes or 80%" },
        { { .exclude = "gpu0,gpu1,igpu0,cpu0,cpu1" }, "1 no device is left: 'gpu0' is excluded by --exclude; "
          "see phiplan devices" },
        { { .pins = "ffn.*" }, "2 --pin: 'ffn.*' is not PATTERN=DEVICE; write for example ffn.*=cpu1" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct device_choice choice;
        const char *got = chosen(&cases[i].request, &choice);
        if (strcmp(got, cases[i].expected) != 0)
            fail_msg("case %zu: \"%s\" instead of \"%s\"", i, got, cases[i].expected);
    }
}

static void devices_left_out_have_a_reason(void **state) {
    (void)state;
    struct device_choice choice;
    struct plan_request request = { .exclude = "igpu0" };
    chosen(&request, &choice);
    assert_int_equal(choice.left_out_count, 3);
    assert_string_equal(choice.left_out[0].reason, "unusable: wrong answer");
    assert_string_equal(choice.left_out[1].reason, "excluded by --exclude");
    assert_string_equal(choice.left_out[2].reason, "the same silicon as 'cpu0', which is faster");
    assert_int_equal(choice.left_out[2].index, 4);
}

static void buffers_are_limited_for_all_or_by_name(void **state) {
    (void)state;
    struct device_choice choice;
    struct plan_request request = { .max_buffer = "64MiB,cpu0=1MiB" };
    chosen(&request, &choice);
    assert_int_equal(choice.chosen[0].max_buffer_bytes, 64u << 20);
    assert_int_equal(choice.chosen[2].max_buffer_bytes, 1u << 20);
    struct plan_request larger = { .max_buffer = "64GiB" };
    chosen(&larger, &choice);
    assert_int_equal(choice.chosen[0].max_buffer_bytes, 2 * GIB);
}

static void odd_amounts_are_pointed_out(void **state) {
    (void)state;
    struct device_choice choice;
    struct error err = { 0 };
    struct text notes;
    text_init(&notes);
    struct plan_request request = { .max_memory = "gpu0=8gb" };
    ASSERT_OK(device_choice_make(&list, NULL, &request, &host, &choice, &notes, &err), err);
    assert_int_equal(choice.chosen[0].budget_bytes, 1000000000);
    assert_non_null(strstr(notes.bytes, "'8gb' counts bits"));
    text_clear(&notes);
    struct plan_request bare = { .max_memory = "gpu0=16,cpu0=0,cpu1=16777216", .max_buffer = "512" };
    ASSERT_OK(device_choice_make(&list, NULL, &bare, &host, &choice, &notes, &err), err);
    assert_string_equal(notes.bytes, "--max-memory: 'gpu0=16' is 16 bytes; for 16 GiB write 16GiB\n"
                                     "--max-buffer: '512' is 512 bytes; for 512 MiB write 512MiB\n");
    text_release(&notes);
}

/* ---- patterns ---- */

static bool draw(void *context, uint32_t unit, int32_t position, struct error *err) {
    (void)err;
    ((char *)context)[unit] = position < 0 ? 'h' : (char)('0' + position);
    return true;
}

static void patterns_cover_units_and_later_ones_win(void **state) {
    (void)state;
    struct device_choice choice;
    struct error err = { 0 };
    struct plan_request request = { .devices = "cpu0,cpu1" };
    chosen(&request, &choice);
    char drawn[] = "......";   /* embed, attn.0, ffn.0, attn.1, ffn.1, head */
    ASSERT_OK(device_choice_patterns(&list, &choice, "--pin", "ffn.*=cpu1,*.1=cpu0,embed=host", 6, draw, drawn, &err),
              err);
    assert_string_equal(drawn, "h.100.");
    assert_false(device_choice_patterns(&list, &choice, "--pin", "block.*=cpu1", 6, draw, drawn, &err));
    assert_int_equal(err.kind, ERROR_USAGE);
    assert_string_equal(err.text, "--pin: no unit is called 'block.*'; they are embed, attn.0, ffn.0, ... head");
    /* Forbidding a device that takes no part changes nothing. */
    ASSERT_OK(device_choice_patterns(&list, &choice, "--forbid", "*=gpu0", 6, draw, drawn, &err), err);
    assert_string_equal(drawn, "h.100.");
}

static void a_limit_of_the_pool_names_no_device(void **state) {
    (void)state;
    struct plan_request request = { .max_memory = "cpu=4GiB" };
    assert_false(device_choice_names_devices(&request));
    struct plan_request named = { .max_memory = "cpu=4GiB,cpu1=1GiB" };
    assert_true(device_choice_names_devices(&named));
    struct plan_request pinned = { .pins = "head=cpu0" };
    assert_true(device_choice_names_devices(&pinned));
}

static void devices_and_pins_name_what_is_worth_measuring(void **state) {
    (void)state;
    struct plan_request request = { .devices = "gpu0,cpu", .pins = "head=cpu1,block.1=host" };
    assert_true(device_choice_names(&list, &request, 0));
    assert_false(device_choice_names(&list, &request, 2));
    assert_true(device_choice_names(&list, &request, 3));
    assert_true(device_choice_names(&list, &request, 4));
    struct plan_request nothing = { .max_memory = "cpu1=4GiB", .exclude = "gpu0" };
    for (uint32_t i = 0; i < list.count; i++)
        assert_false(device_choice_names(&list, &nothing, i));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_choose_devices_and_budgets),
        cmocka_unit_test(devices_left_out_have_a_reason),
        cmocka_unit_test(buffers_are_limited_for_all_or_by_name),
        cmocka_unit_test(odd_amounts_are_pointed_out),
        cmocka_unit_test(patterns_cover_units_and_later_ones_win),
        cmocka_unit_test(a_limit_of_the_pool_names_no_device),
        cmocka_unit_test(devices_and_pins_name_what_is_worth_measuring),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
