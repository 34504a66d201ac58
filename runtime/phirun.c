/* phirun: generate text with a plan that phiplan made. It decides no placement. */
#include "common/interruption.h"
#include "runtime/commands.h"
#include "runtime/replan.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

bool output_failed(struct error *err) {
    /* Nobody reads any more: an end as by the signal, which needs no sentence. */
    if (errno == EPIPE && !interrupted_by)
        interrupted_by = SIGPIPE;
    return error_set(err, ERROR_FAILED, "cannot write to standard output: %s", strerror(errno));
}

bool finish_output(struct error *err) {
    if (fflush(stdout) == 0 && !ferror(stdout))
        return true;
    return output_failed(err);
}

bool write_output(const char *bytes, size_t size, struct error *err) {
    fwrite(bytes, 1, size, stdout);
    return finish_output(err);
}

int main(int argc, char **argv) {
    static bool (*const commands[])(const struct run_options *, struct error *) = {
        [COMMAND_GENERATE] = command_generate, [COMMAND_BENCH] = command_bench,
        [COMMAND_TOKENIZE] = command_tokenize, [COMMAND_TEMPLATE] = command_template,
        [COMMAND_LOGITS] = command_logits, [COMMAND_CHAT] = command_chat,
        [COMMAND_PERPLEXITY] = command_perplexity, [COMMAND_COMPARE] = command_compare,
        [COMMAND_BATCH] = command_batch,
    };
    struct run_options options;
    struct error err = { 0 };
    interruption_catch();
    bool ok = run_options_parse(&options, argc, argv, &err);
    if (ok && options.help) {
        run_options_help(options.command, options.command == COMMAND_GENERATE);
        ok = finish_output(&err);
    } else if (ok && options.version) {
        puts("phirun 0.1");
        ok = finish_output(&err);
    } else if (ok) {
        ok = commands[options.command](&options, &err);
        if (!ok && options.replan && !interrupted_by && (err.kind == ERROR_STALE || err.kind == ERROR_NO_PLAN))
            ok = replan_and_restart(&options, argv, &err);
    }
    run_options_release(&options);
    if (interrupted_by)
        return 128 + interrupted_by;
    if (!ok)
        fprintf(stderr, "phirun: %s\n", err.text);
    return ok ? 0 : error_exit_code(err.kind);
}
