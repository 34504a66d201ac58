#!/bin/sh
# A start with everything cached: no compiler runs, no tokenizer is read, nothing is packed.
# Also with a cache of PoCL's that is empty, since the store has what was launched; and damage
# in the store costs a compilation, nothing else.
. tests/cli/tap.sh

export POCL_DEVICES=pthread
phiplan=$BUILD/phiplan
phirun=$BUILD/phirun
model=$(data models/gguf/quantizable-tiny-Q4_1.gguf)
if [ ! -e "$model" ] || ! command -v sqlite3 > /dev/null; then
    skip_test "a start compiles nothing" "no models/gguf/quantizable-tiny-Q4_1.gguf, or no sqlite3"
    finish
fi

run "$phiplan" "$model" --ctx 64 --micro-batch 16
expect "a model is planned" 0
stored=$(sqlite3 "$PHI_STORE" "select count(*) from program")
true_that "its programs are in the store" [ "$stored" -ge 6 ]
last=$(sqlite3 "$PHI_STORE" "select max(id) from program")
run "$phiplan" "$model" --ctx 64 --micro-batch 16
equal "and made once" "$last" "$(sqlite3 "$PHI_STORE" "select max(id) from program")"

# start ARGUMENTS...: a prompt and eight tokens by a PoCL that has never compiled anything
start() {
    rm -rf "$work/pocl" "$work/calls"
    mkdir "$work/pocl"
    run env POCL_CACHE_DIR="$work/pocl" POCL_DEBUG=llvm CL_TRACE_OUT="$work/calls" LD_PRELOAD="$BUILD/tests/cl_trace.so" \
        ASAN_OPTIONS=verify_asan_link_order=0:detect_leaks=0 \
        "$phirun" "$model" --ids 1,2,3 -n 8 --ignore-eos --json -v "$@"
    ids=$(grep -o '"ids":\[[^]]*\]' "$work/out")
    sources=$(grep -o '"clCreateProgramWithSource": *[0-9]*' "$work/calls" | grep -o '[0-9]*$')
    sources=$((${sources:-0} + $(grep -o '"clCompileProgram": *[0-9]*' "$work/calls" | grep -o '[0-9]*$' || echo 0)))
    generated=$(grep -c 'fn llvm_codegen' "$work/err")
}

start
true_that "the first start reads the tokenizer" grep -q "tokenizer had to be read" "$work/err"
start
expect "it runs" 0 '"ids"'
wanted=$ids
equal "the next one does not" "" "$(grep 'tokenizer had to be read' "$work/err")"
equal "nor does it pack" "" "$(grep 'had to be packed' "$work/err")"
equal "from binaries alone" 0 "$sources"
equal "and no kernel is specialised" 0 "$generated"
equal "which -v need not say" "" "$(grep 'had to be compiled' "$work/err")"

# --exact has kernels of its own, which are made with the others.
start --exact
expect "--exact runs" 0 '"ids"'
equal "from binaries, too" 0 "$sources"
equal "none of which is specialised" 0 "$generated"

# Any program will do; this one is quick to compile.
for damage in "update program set binary = zeroblob(length(binary))" "update program set binary_bytes = 1 << 40" "delete from program"; do
    sqlite3 "$PHI_STORE" "$damage where name like '%quantise%'"
    start
    expect "it runs after: $damage" 0 '"ids"'
    equal "with the same answer" "$wanted" "$ids"
    equal "by one compilation" 1 "$sources"
    true_that "which takes a compiler" [ "$generated" -gt 0 ]
    true_that "and of which -v speaks" grep -q "1 program had to be compiled, 1 of them kept" "$work/err"
done
start
equal "what was compiled is kept" 0 "$sources"
equal "specialised as before" 0 "$generated"


sqlite3 "$PHI_STORE" "delete from program where name like '%quantise%'"
chmod a-w "$PHI_STORE"
if [ -w "$PHI_STORE" ]; then
    skip_test "a store that cannot be written serves all the same" "this user writes everywhere"
else
    start
    expect "a store that cannot be written serves all the same" 0 '"ids"'
    true_that "and -v says that nothing was kept" grep -q "1 program had to be compiled, 0 of them kept" "$work/err"
fi
finish
