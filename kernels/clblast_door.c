#include "kernels/clblast_door.h"

#include <clblast_c.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>

/* Devices have threads of their own, and the library is one. */
static struct {
    pthread_once_t once;
    void *library;
    __typeof__(&CLBlastSgemm) sgemm;
    char reason[160];
} door = { .once = PTHREAD_ONCE_INIT };

static void open_door(void) {
    door.library = dlopen("libclblast.so.1", RTLD_NOW | RTLD_LOCAL);
    if (door.library)
        *(void **)&door.sgemm = dlsym(door.library, "CLBlastSgemm");
    const char *reason = door.sgemm ? NULL : dlerror();
    if (!door.sgemm)
        snprintf(door.reason, sizeof door.reason, "%s", reason ? reason : "it has no matrix product");
}

bool clblast_is_there(struct error *err) {
    pthread_once(&door.once, open_door);
    return door.sgemm || error_set(err, ERROR_FAILED, "CLBlast cannot be used: %s; install libclblast1, or plan "
                                   "again without it", door.reason);
}

bool clblast_multiply(cl_command_queue queue, const struct clblast_product *product, struct error *err) {
    if (!clblast_is_there(err))
        return false;
    if (!product->token_count || !product->rows)
        return true;
    CLBlastStatusCode code = door.sgemm(
        CLBlastLayoutRowMajor, CLBlastTransposeNo, CLBlastTransposeYes, product->token_count, product->rows,
        product->columns, 1.0f, product->x, 0, product->columns, product->weights, 0, product->columns,
        product->accumulate ? 1.0f : 0.0f, product->y, product->y_offset, product->y_stride, &queue, NULL);
    return code == CLBlastSuccess ||
           error_set(err, ERROR_FAILED, "CLBlast cannot multiply %zu x %zu by %zu x %zu values: its status is %d",
                     product->token_count, product->columns, product->columns, product->rows, (int)code);
}
