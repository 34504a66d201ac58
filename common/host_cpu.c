#include "common/host_cpu.h"

#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/utsname.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

void host_cpu_describe(char *text, size_t size) {
    struct utsname system;
    int used = snprintf(text, size, "%s %lx %lx", uname(&system) == 0 ? system.machine : "?",
                        getauxval(AT_HWCAP), getauxval(AT_HWCAP2));
#if defined(__x86_64__)
    /* Leaves and their registers that say what a CPU can do; others hold the number of the
     * core that happens to answer, or its caches. */
    enum { A = 1, B = 2, C = 4, D = 8 };
    static const struct {
        unsigned leaf, subleaf, registers;
    } asked[] = {
        { 0, 0, B | C | D }, { 1, 0, A | C | D }, { 7, 0, B | C | D }, { 7, 1, A | B | C | D },
        { 0xd, 0, A }, { 0x80000001u, 0, C | D },
    };
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        unsigned answer[4] = { 0 };
        __get_cpuid_count(asked[i].leaf, asked[i].subleaf, &answer[0], &answer[1], &answer[2], &answer[3]);
        for (int r = 0; r < 4; r++)
            if (asked[i].registers & (1u << r) && used > 0 && (size_t)used < size)
                used += snprintf(text + used, size - (size_t)used, " %x", answer[r]);
    }
#else
    (void)used;
#endif
}
