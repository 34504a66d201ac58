#include "kernels/matmul_variants.h"

#include "kernels/ops_internal.h"

#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#define TYPE_BIT(type) (1u << (type))
#define TYPES_OF_16_BITS (TYPE_BIT(TENSOR_F16) | TYPE_BIT(TENSOR_BF16))
#define FLOAT_TYPES (TYPES_OF_16_BITS | TYPE_BIT(TENSOR_F32))
#define QUANTISED_TYPES (TYPE_BIT(TENSOR_TYPE_COUNT) - 1 - FLOAT_TYPES)
#define PACKED_TYPES (TYPE_BIT(TENSOR_Q8_0) | TYPE_BIT(TENSOR_Q4_0) | TYPE_BIT(TENSOR_Q4_1) | TYPE_BIT(TENSOR_Q4_K) | \
                      TYPE_BIT(TENSOR_Q6_K))

static bool runs_as_gpu(cl_device_id id) {
    return !ops_is_cpu(id);
}

/* PoCL compiles for the CPU of this process and takes inline assembly; others refuse
 * it, and simulators do not run it. */
static bool is_pocl_cpu(cl_device_id id) {
    cl_platform_id platform = NULL;
    char name[128] = "";
    if (!ops_is_cpu(id) || clGetDeviceInfo(id, CL_DEVICE_PLATFORM, sizeof platform, &platform, NULL) ||
        clGetPlatformInfo(platform, CL_PLATFORM_NAME, sizeof name, name, NULL))
        return false;
    return !strcmp(name, "Portable Computing Language");
}

#if defined(__x86_64__)
/* What the assembly of both kernels/tile_avx2.h and kernels/tile_rows_avx2.h uses: a processor or a
 * virtual machine may have AVX2 without the others. Not every compiler's __builtin_cpu_supports()
 * knows "f16c"; AVX2 says that the system saves the registers. */
static bool has_avx2(cl_device_id id) {
    unsigned a, b, c, d;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __get_cpuid(1, &a, &b, &c, &d) &&
           (c & bit_F16C) && is_pocl_cpu(id);
}

/* What kernels/tile_rows_avx512.h uses, and kernels/matmul_rows.cl for a few tokens. */
static bool has_avx512(cl_device_id id) {
    return has_avx2(id) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq");
}

static bool has_avx512_vnni(cl_device_id id) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vnni") && is_pocl_cpu(id);
}
#else
static bool has_avx2(cl_device_id id) {
    (void)id;
    return false;
}
#define has_avx512 has_avx2
#define has_avx512_vnni has_avx2
#endif

bool ops_has_f16c(cl_device_id id) {
    return has_avx2(id);
}

/* Several rows at a time pay there, too, if converting a half takes more instructions. */
static bool is_cpu_without_f16c(cl_device_id id) {
    return ops_is_cpu(id) && !has_avx2(id);
}

static const struct matmul_variant variants[] = {
    { .name = "avx512", .source = "kernels/matmul_rows.cl", .defines = "ROWS_AVX2 ROWS_AVX512",
      .numeric = NUMERIC_FLOAT, .layout = LAYOUT_ROWS, .types = TYPES_OF_16_BITS, .rows = 4, .tile = 4,
      .cpu_local = 1, .gpu_local = 1, .shares_rows = true, .needs_proof = true, .runs_on = has_avx512 },
    { .name = "avx2", .source = "kernels/matmul_rows.cl", .defines = "ROWS_AVX2", .numeric = NUMERIC_FLOAT,
      .layout = LAYOUT_ROWS, .types = TYPES_OF_16_BITS, .rows = 4, .tile = 4, .cpu_local = 1, .gpu_local = 1,
      .shares_rows = true, .needs_proof = true, .runs_on = has_avx2 },
    { .name = "rows", .source = "kernels/matmul_rows.cl", .defines = "", .numeric = NUMERIC_FLOAT,
      .layout = LAYOUT_ROWS, .types = TYPES_OF_16_BITS, .rows = 4, .tile = 4, .cpu_local = 1, .gpu_local = 1,
      .shares_rows = true, .runs_on = is_cpu_without_f16c },
    { .name = "plain", .source = "kernels/matmul_float.cl", .defines = "", .numeric = NUMERIC_FLOAT,
      .layout = LAYOUT_ROWS, .types = FLOAT_TYPES | QUANTISED_TYPES,
      .rows = 1, .tile = 4, .cpu_local = 4, .gpu_local = 64 },
    { .name = "plain", .source = "kernels/matmul_q8.cl", .defines = "", .numeric = NUMERIC_INT8,
      .layout = LAYOUT_ROWS, .types = QUANTISED_TYPES, .rows = 4, .tile = 8, .cpu_local = 1, .gpu_local = 64 },
    { .name = "plain", .source = "kernels/matmul_r16_float.cl", .defines = "", .numeric = NUMERIC_FLOAT,
      .layout = LAYOUT_R16, .types = PACKED_TYPES, .rows = 1, .tile = 4, .cpu_local = 16, .gpu_local = 64 },
    { .name = "vnni", .source = "kernels/matmul_r16.cl", .defines = "DOT4_VNNI", .numeric = NUMERIC_INT8,
      .layout = LAYOUT_R16, .types = PACKED_TYPES, .rows = 16, .tile = 8, .cpu_local = 1, .gpu_local = 1,
      .shares_rows = true, .needs_proof = true, .runs_on = has_avx512_vnni },
    { .name = "avx2", .source = "kernels/matmul_r16.cl", .defines = "DOT4_AVX2", .numeric = NUMERIC_INT8,
      .layout = LAYOUT_R16, .types = PACKED_TYPES, .rows = 16, .tile = 8, .cpu_local = 1, .gpu_local = 1,
      .shares_rows = true, .needs_proof = true, .runs_on = has_avx2 },
    { .name = "scalar", .source = "kernels/matmul_r16.cl", .defines = "DOT4_SCALAR", .numeric = NUMERIC_INT8,
      .layout = LAYOUT_R16, .types = PACKED_TYPES, .rows = 1, .tile = 8, .cpu_local = 16, .gpu_local = 64,
      .runs_on = runs_as_gpu },
    { .name = "plain", .source = "kernels/matmul_r16.cl", .defines = "", .numeric = NUMERIC_INT8,
      .layout = LAYOUT_R16, .types = PACKED_TYPES, .rows = 16, .tile = 8, .cpu_local = 1, .gpu_local = 1,
      .shares_rows = true },
};

uint32_t matmul_find_variants(cl_device_id id, enum numeric_class numeric, enum weight_layout layout,
                              enum tensor_type type, const struct matmul_variant *found[OPS_MOST_VARIANTS]) {
    uint32_t count = 0;
    for (size_t i = 0; i < sizeof variants / sizeof *variants && count < OPS_MOST_VARIANTS; i++) {
        const struct matmul_variant *variant = &variants[i];
        if (variant->numeric == numeric && variant->layout == layout && variant->types & TYPE_BIT(type) &&
            (!variant->runs_on || variant->runs_on(id)))
            found[count++] = variant;
    }
    return count;
}

uint32_t ops_variants(cl_device_id id, enum numeric_class numeric, enum weight_layout layout,
                      enum tensor_type type, const char *names[OPS_MOST_VARIANTS]) {
    const struct matmul_variant *found[OPS_MOST_VARIANTS];
    uint32_t count = matmul_find_variants(id, numeric, layout, type, found);
    for (uint32_t i = 0; i < count; i++)
        names[i] = found[i]->name;
    return count;
}
