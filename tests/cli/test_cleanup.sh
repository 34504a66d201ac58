#!/bin/sh
# However a run ends, it leaves no process, no lock and no temporary file; what a killed one
# leaves is cleared by the next start.
. tests/cli/tap.sh
export POCL_DEVICES=pthread POCL_CACHE_DIR="$XDG_CACHE_HOME/phi/pocl" TMPDIR="$work/tmp"
mkdir -p "$POCL_CACHE_DIR" "$TMPDIR"
phiplan=$BUILD/phiplan
phirun=$BUILD/phirun
trace=$BUILD/tests/cl_trace.so
export ASAN_OPTIONS=verify_asan_link_order=0:detect_leaks=0
model=$(data models/phi3-tiny)
[ -e "$model" ] || { skip_test "nothing is left behind" "no models/phi3-tiny"; finish; }

# left WHAT: nothing is in the temporary folder, and no process has it in its environment
left() {
    equal "nothing is left: $1" "" "$(ls -A "$TMPDIR")"
    alive=$(grep -lsz "TMPDIR=$TMPDIR\$" /proc/[0-9]*/environ | while read -r file; do
        process=${file%/environ}
        case $(readlink "$process/exe") in */phirun|*/phiplan) echo "$process" ;; esac; done)
    equal "and no process: $1" "" "$alive"
}
# again WHAT: the next run works at once
again() {
    run "$phirun" "$model" --ids 1,2,3 -n 2 --ignore-eos
    expect "the next run works: $1" 0
}
# until COMMAND...: at most 20 s
until_true() { tries=0; while ! "$@" > /dev/null 2>&1 && [ $tries -lt 200 ]; do sleep 0.1; tries=$((tries + 1)); done; }
has_folder() { [ -n "$(ls -A "$TMPDIR")" ]; }
# The signals reach a program that a shell started in the background only where it catches them:
# shells let such jobs ignore SIGINT.
start() { env -- "$@" > "$work/out" 2> "$work/err" & job=$!; }
await() { wait "$job"; status=$?; out=$(cat "$work/out"); err=$(cat "$work/err"); }

run "$phiplan" "$model" --ctx 256 --micro-batch 8
expect "a plan is made" 0
left "a plan"

again "a plan"
left "a run"

run "$phirun" "$model" --ids 1,2,999999 -n 2
true_that "an error ends a run" test "$status" -ne 0
left "an error"

run env LD_PRELOAD="$trace" CL_TRACE_FAIL=clEnqueueNDRangeKernel:20+ "$phirun" "$model" --ids 1,2,3 -n 4
expect "a kernel that fails ends a run" 1
left "a kernel that fails"

start "$phirun" bench "$model" -p 16 -n 16 -r 1000
until_true has_folder
sleep 0.5
kill -TERM "$job"
await
expect "SIGTERM ends a run" 143
left "SIGTERM"

# The driver does not come back: the first signal cannot end the run, the second does.
start LD_PRELOAD="$trace" CL_TRACE_FAIL=clEnqueueReadBuffer:3:hang "$phirun" "$model" --ids 1,2,3 -n 8 --ignore-eos
until_true has_folder
sleep 1
kill -INT "$job"
sleep 0.3
kill -INT "$job"
await
expect "a second signal ends a run whose driver hangs" 130
left "two signals"
again "two signals"

start "$phirun" bench "$model" -p 16 -n 16 -r 1000
until_true has_folder
sleep 0.5
kill -KILL "$job"
await
true_that "a killed run leaves its folder" has_folder
again "a killed run"
left "a killed run"

# A temporary file of packed weights whose writer is gone.
packed=$(data models/gguf/quantizable-tiny-Q4_1.gguf)
if [ -e "$packed" ]; then
    export XDG_CACHE_HOME="$work/own"
    run "$phiplan" "$packed" --ctx 64 --micro-batch 8
    some=$(find "$XDG_CACHE_HOME/phi/artifacts" -type f 2> /dev/null | sort | head -1)
    if [ -n "$some" ]; then
        cp "$some" "$some.Ab3dEf"
        rm "$some"
        run "$phiplan" "$packed" --ctx 64 --micro-batch 8
        equal "half a file of packed weights is cleared" "" "$(find "$XDG_CACHE_HOME/phi/artifacts" -name '*.??????' | grep Ab3dEf)"
        true_that "and made again" test -e "$some"
    fi
fi
finish
