/* host_cpu: which processor this process runs on, for the keys of machine code. */
#ifndef COMMON_HOST_CPU_H
#define COMMON_HOST_CPU_H

#include <stddef.h>

#define HOST_CPU_SIZE 256

/* Vendor, model, the instructions that it and the operating system offer, in one line that
 * is the same on each of its cores and at each start. At most HOST_CPU_SIZE bytes. */
void host_cpu_describe(char *text, size_t size);

#endif
