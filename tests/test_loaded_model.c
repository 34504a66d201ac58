#include "tests/support.h"

#include "common/interruption.h"
#include "runtime/loaded_model.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

/* loaded_model_open() where nobody sees its standard error. */
static bool open_unseen(struct loaded_model *loaded, const struct run_options *options, struct error *err) {
    const struct load_request request = { 0 };
    int seen = dup(STDERR_FILENO), unseen = open("/dev/null", O_WRONLY | O_CLOEXEC);
    assert_true(seen >= 0 && unseen >= 0 && dup2(unseen, STDERR_FILENO) >= 0);
    bool ok = loaded_model_open(loaded, options, &request, err);
    dup2(seen, STDERR_FILENO);
    close(seen);
    close(unseen);
    return ok;
}

/* A model of gigabytes is hashed for long: a service that is stopped must not wait for it. */
static void a_signal_ends_hashing_where_no_progress_is_shown(void **state) {
    (void)state;
    char store[512];
    struct loaded_model loaded;
    struct error err = { 0 };
    struct run_options options = { .model = test_data("models/llama-tiny"), .db = store, .plan_name = "default",
                                   .verify = true };
    if (!options.model)
        SKIP_BECAUSE("no models/llama-tiny");
    snprintf(store, sizeof store, "%s/plans.db", test_folder());
    struct plan_store *made = plan_store_open(store, STORE_CREATE, &err);
    ASSERT_OK(made, err);
    plan_store_close(made);

    assert_false(open_unseen(&loaded, &options, &err));
    assert_int_equal(err.kind, ERROR_NO_PLAN);
    loaded_model_close(&loaded);
    interrupted_by = SIGTERM;
    assert_false(open_unseen(&loaded, &options, &err));
    assert_int_equal(err.kind, ERROR_INTERRUPTED);
    loaded_model_close(&loaded);
    interrupted_by = 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_signal_ends_hashing_where_no_progress_is_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
