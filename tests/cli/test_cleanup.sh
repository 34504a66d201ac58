#!/bin/sh
# However a run ends, it leaves no process, no lock and no temporary file, and the store whole; what
# a killed one leaves is cleared by the next start, which works at once.
. tests/cli/tap.sh
export POCL_DEVICES=pthread POCL_CACHE_DIR="$XDG_CACHE_HOME/phi/pocl" TMPDIR="$work/tmp"
mkdir -p "$POCL_CACHE_DIR" "$TMPDIR"
phiplan=$BUILD/phiplan
phirun=$BUILD/phirun
trace=$BUILD/tests/cl_trace.so
slow=$BUILD/tests/other_time.so
export ASAN_OPTIONS=verify_asan_link_order=0:detect_leaks=0
model=$(data models/phi3-tiny)
packed=$(data models/gguf/quantizable-tiny-Q4_1.gguf)
if [ ! -e "$model" ] || [ ! -e "$packed" ] || ! command -v sqlite3 > /dev/null; then
    skip_test "nothing is left behind" "no models/phi3-tiny, no models/gguf/quantizable-tiny-Q4_1.gguf, or no sqlite3"
    finish
fi

# The processes of this script that are phirun or phiplan.
alive() {
    grep -lsz "TMPDIR=$TMPDIR\$" /proc/[0-9]*/environ | while read -r file; do
        process=${file%/environ}
        case $(readlink "$process/exe") in */phirun|*/phiplan) echo "$process" ;; esac; done
}
no_process() { [ -z "$(alive)" ]; }
# Files under a name that only lasts until they are whole.
parts() {
    find "$XDG_CACHE_HOME/phi" "$XDG_DATA_HOME" "$work/kept" -path "$POCL_CACHE_DIR" -prune -o -type f -print 2> /dev/null |
        grep -E '\.([A-Za-z0-9]{6}|[0-9]+|phi-part|part)$'
}
has_part() { [ -n "$(parts)" ]; }
has_folder() { [ -n "$(ls -A "$TMPDIR")" ]; }
# A child of phiplan whose command line holds TEXT.
has_child() {
    for process in $(alive); do tr '\0' ' ' < "$process/cmdline" | grep -F ' __probe ' | grep -qF -- "$1" && return; done
    false
}
# until COMMAND...: at most 20 s
until_true() { tries=0; while ! "$@" > /dev/null 2>&1 && [ $tries -lt 200 ]; do sleep 0.1; tries=$((tries + 1)); done; }

# left WHAT: nothing is left, and the store can be written
left() {
    until_true no_process   # who was killed may still be dying
    equal "nothing is left: $1" "" "$(ls -A "$TMPDIR"; parts; alive)"
    equal "and the store is whole and free: $1" ok \
        "$(sqlite3 "$PHI_STORE" 'begin immediate; pragma integrity_check; rollback' 2>&1)"
}
# again WHAT: the next run works at once
again() {
    run "$phirun" "$model" --ids 1,2,3 -n 2 --ignore-eos
    expect "the next run works: $1" 0
}
# The signals reach a program that a shell started in the background only where it catches them:
# shells let such jobs ignore SIGINT.
input=/dev/null
start() { env -- "$@" > "$work/out" 2> "$work/err" < "$input" & job=$!; }
await() { wait "$job"; status=$?; out=$(cat "$work/out"); err=$(cat "$work/err"); }
# strike SIGNAL...: one after the other, and apart: of two at once one may be lost
strike() {
    kill -"$1" "$job"
    [ $# -eq 1 ] || { sleep 0.05; kill -"$2" "$job" 2> /dev/null; }
    await 2> /dev/null
}
# status_of SIGNALS: how a program ends by them
status_of() { case $1 in TERM) echo 143 ;; KILL) echo 137 ;; *) echo 130 ;; esac; }

run "$phiplan" "$model" --ctx 256 --micro-batch 8
expect "a plan is made" 0
left "a plan"
again "a plan"
left "a run"

# ---- phirun

run "$phirun" "$model" --ids 1,2,999999 -n 2
true_that "an error ends a run" test "$status" -ne 0
left "an error"

run env LD_PRELOAD="$trace" CL_TRACE_FAIL=clEnqueueNDRangeKernel:20+ "$phirun" "$model" --ids 1,2,3 -n 4
expect "a kernel that fails ends a run" 1
left "a kernel that fails"

run env LD_PRELOAD="$trace" CL_TRACE_FAIL=clEnqueueNDRangeKernel:20:crash "$phirun" "$model" --ids 1,2,3 -n 4
true_that "so does one that crashes" test "$status" -ne 0
again "a kernel that crashes"
left "a kernel that crashes"

# The driver does not come back: the watchdog's ten minutes pass in four seconds.
run env LD_PRELOAD="$trace:$slow" OTHER_TIME_WAITS=150 CL_TRACE_FAIL=clEnqueueReadBuffer:3:hang \
    "$phirun" "$model" --ids 1,2,3 -n 8 --ignore-eos
expect "the watchdog ends a run whose driver hangs" 1 "the devices made no progress for 600 s"
left "the watchdog"
again "the watchdog"

# The first signal cannot end such a run, the second does.
start LD_PRELOAD="$trace" CL_TRACE_FAIL=clEnqueueReadBuffer:3:hang "$phirun" "$model" --ids 1,2,3 -n 8 --ignore-eos
until_true has_folder
sleep 1
kill -INT "$job"
sleep 0.3
strike INT
expect "a second signal ends a run whose driver hangs" 130
left "two signals"
again "two signals"

# It hangs while the KV of the prompt is written to a file.
mkdir "$work/kept"
start LD_PRELOAD="$trace" CL_TRACE_FAIL=clEnqueueReadBuffer:2+:hang "$phirun" "$model" --ids 1,2,3 -n 1 --ignore-eos \
    --prompt-cache "$work/kept/kv"
until_true has_part
true_that "a prompt cache is being written" has_part
strike INT INT
expect "two signals end it" 130
left "a prompt cache that was being written"

for signal in TERM KILL; do
    for delay in 0.05 0.4; do
        start "$phirun" bench "$model" -p 16 -n 16 -r 1000
        sleep $delay
        strike $signal
        expect "SIG$signal after $delay s ends a run" "$(status_of $signal)"
        [ $signal = TERM ] || again "SIG$signal after $delay s"
        left "SIG$signal after $delay s"
    done
done
start "$phirun" bench "$model" -p 16 -n 16 -r 1000
until_true has_folder
strike KILL
true_that "a killed run leaves its folder" has_folder
again "a killed run"
left "a killed run"

# Nothing comes, and nothing ends: only a signal does. The descriptor keeps a writer.
mkfifo "$work/fifo"
exec 9<> "$work/fifo"
input=$work/fifo
for what in "chat $model" "$model -f -" "batch $model - -o $work/kept/results"; do
    start "$phirun" $what
    sleep 0.6
    strike TERM
    expect "SIGTERM ends a run that waits for input: ${what%% *}" 143
done
input=/dev/null
exec 9>&-
left "waiting for input"

# ---- phiplan: while a driver is probed, weights are packed, kernels are built

mkdir "$work/vendors"
echo "$BUILD/tests/fake_icd_hang.so" > "$work/vendors/hang.icd"
for signals in TERM INT 'INT INT' KILL; do
    start OCL_ICD_VENDORS="$work/vendors" "$phiplan" "$model" --name another
    until_true has_child hang.icd
    strike $signals
    expect "phiplan ends while it probes: $signals" "$(status_of "$signals")"
    if [ "$signals" = KILL ]; then
        true_that "a killed phiplan leaves its folder" has_folder
        again "a killed phiplan"
    fi
    left "phiplan probes, $signals"
done

run "$phiplan" "$packed" --ctx 64 --micro-batch 8
expect "packed weights" 0
artifacts=$XDG_CACHE_HOME/phi/artifacts
some=$(find "$artifacts" -type f -name 'ffn*' | sort | head -1)
true_that "are in files" test -n "$some"
plans=$(sqlite3 "$PHI_STORE" 'select count(*) from plan')
for signals in TERM INT 'INT INT' KILL; do
    rm -f "$some"
    start LD_PRELOAD="$slow" OTHER_TIME_FILES=20 "$phiplan" "$packed" --ctx 64 --micro-batch 8
    until_true has_part
    strike $signals
    expect "phiplan ends while it packs: $signals" "$(status_of "$signals")"
    if [ "$signals" = KILL ]; then
        true_that "a killed phiplan leaves half a file" has_part
        run "$phiplan" "$packed" --ctx 64 --micro-batch 8
        expect "the next one works" 0
        true_that "and makes the whole one" test -e "$some"
    fi
    left "phiplan packs, $signals"
done
equal "plans were made by those that came to their end" $((plans + 1)) "$(sqlite3 "$PHI_STORE" 'select count(*) from plan')"

# The first program that is built is the one with a known answer.
for signals in TERM 'INT INT' KILL; do
    sqlite3 "$PHI_STORE" 'delete from program'
    start LD_PRELOAD="$trace" CL_TRACE_FAIL=clBuildProgram:2:hang "$phiplan" "$packed" --ctx 64 --micro-batch 8
    until_true has_child "$PHI_STORE"
    sleep 0.3
    strike $signals
    expect "phiplan ends while it builds kernels: $signals" "$(status_of "$signals")"
    if [ "$signals" = KILL ]; then
        run "$phiplan" "$packed" --ctx 64 --micro-batch 8
        expect "the next one works at once" 0
    fi
    left "phiplan builds kernels, $signals"
done

# ---- phiplan: at any time; and where the kernels of the probe fail

for signal in TERM KILL; do
    for delay in 0.03 0.12 0.4; do
        rm -f "$some"
        start "$phiplan" "$packed" --ctx 64 --micro-batch 8
        sleep $delay
        strike $signal
        true_that "SIG$signal after $delay s ends phiplan, if it still runs" \
            test "$status" -eq 0 -o "$status" -eq "$(status_of $signal)"
        if [ $signal = KILL ]; then
            run "$phiplan" "$packed" --ctx 64 --micro-batch 8
            expect "the next one works: after $delay s" 0
        fi
        left "phiplan, SIG$signal after $delay s"
    done
done
for failure in 1+ 1:crash; do
    run env LD_PRELOAD="$trace" CL_TRACE_FAIL=clEnqueueNDRangeKernel:$failure "$phiplan" "$model" --name another
    expect "a device without a kernel that works is none" 1 "'cpu0'"
    left "a probe that fails, $failure"
done

# ---- phirun --replan: phiplan runs as its child

for signals in TERM 'INT INT' KILL; do
    start OCL_ICD_VENDORS="$work/vendors" PHI_STORE="$work/none.db" "$phirun" "$model" --ids 1,2,3 --replan
    until_true has_child hang.icd
    strike $signals
    expect "phirun ends while it plans again: $signals" "$(status_of "$signals")"
    [ "$signals" != KILL ] || again "a killed replan"
    left "planning again, $signals"
done
finish
