/* fuzz_device_map: any bytes as a device map or a plan in JSON; what is read is printed,
 * read again and must be the same. */
#include "planner/device_map.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

#define REQUIRE(condition) do { if (!(condition)) abort(); } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    struct error err = { 0 };
    struct device_map map = { 0 }, again = { 0 };
    struct plan_request request = { 0 };
    struct text first, second, notes;
    text_init(&first);
    text_init(&second);
    text_init(&notes);
    if (device_map_read((const char *)bytes, size, "fuzz", &map, &err)) {
        device_map_print(&map, &first);
        if (map.count) {
            REQUIRE(device_map_read(first.bytes, first.length, "fuzz", &again, &err));
            device_map_print(&again, &second);
            REQUIRE(first.length == second.length && memcmp(first.bytes, second.bytes, first.length) == 0);
        }
    } else {
        REQUIRE(err.kind != ERROR_NONE && err.text[0]);
    }
    err = (struct error){ 0 };
    REQUIRE(device_map_read_request((const char *)bytes, size, "fuzz", true, &request, &notes, &err) || err.text[0]);
    device_map_release(&map);
    device_map_release(&again);
    text_release(&first);
    text_release(&second);
    text_release(&notes);
    return 0;
}
