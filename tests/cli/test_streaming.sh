#!/bin/sh
# A model of three times the memory that it may use: refused, then streamed, with the same
# tokens and no more memory.
. tests/cli/tap.sh
export POCL_DEVICES=pthread POCL_CACHE_DIR="$XDG_CACHE_HOME/phi/pocl"
mkdir -p "$POCL_CACHE_DIR"
phiplan=$BUILD/phiplan
phirun=$BUILD/phirun
trace=$BUILD/tests/cl_trace.so
command -v sqlite3 > /dev/null || { skip_test "weights are streamed" "no sqlite3"; finish; }

ids() { tr -d ' \n' < "$work/out" | grep -o '"ids":\[[^]]*\]'; }

# stream MODEL LIMIT_BYTES: LIMIT is a third of the weights or less
stream() {
    what=$(basename "$1")
    run "$phiplan" "$1" --ctx 64 --micro-batch 8
    expect "$what is planned where it fits" 0
    run "$phirun" "$1" --ids 1,2,3,4,5 -n 12 --ignore-eos --json
    expect "$what runs" 0 '"ids"'
    resident=$(ids)
    run "$phiplan" "$1" --ctx 64 --micro-batch 8 --name small --max-memory "cpu=$2"
    expect "$what does not fit $2 bytes, and --stream is the way on" 1 "--stream would fit"
    run "$phiplan" "$1" --ctx 64 --micro-batch 8 --name small --max-memory "cpu=$2" --stream
    expect "with --stream it does" 0 "streams "
    true_that "the plan says what that costs a token" grep -q "fit nowhere: 'cpu0' reads .* for every token" "$work/out"
    weights=$(sqlite3 "$PHI_STORE" "select sum(weight_bytes) from shard where plan = (select max(id) from plan)")
    true_that "the weights are three times the memory" test "$weights" -ge $((3 * $2))
    true_that "the store knows which units are streamed" test \
        "$(sqlite3 "$PHI_STORE" "select count(*) from plan_layers where residency = 'streamed'")" -gt 0
    run env LD_PRELOAD="$trace" ASAN_OPTIONS=verify_asan_link_order=0:detect_leaks=0 CL_TRACE_OUT="$work/trace.json" \
        "$phirun" "$1" --plan small --ids 1,2,3,4,5 -n 12 --ignore-eos --json
    expect "$what runs streamed" 0 '"ids"'
    equal "with the same tokens" "$resident" "$(ids)"
    peak=$(python3 -c 'import json, sys
trace = json.load(open(sys.argv[1]))
print(max(sum(d["peak_bytes"] for d in trace["devices"]), trace["unattributed"]["peak_bytes"]))' "$work/trace.json")
    planned=$(sqlite3 "$PHI_STORE" "select weight_bytes + kv_bytes + scratch_bytes + staging_bytes + slack_bytes
        from plan_device where plan = (select max(id) from plan) and weight_bytes + kv_bytes > 0")
    true_that "no more memory than planned ($peak of $planned)" test "$peak" -le "$planned" -a "$peak" -gt 0
    true_that "and that is what it may use" test "$planned" -le "$2"
}

model=$(data models/phi3-tiny)
if [ -e "$model" ]; then
    stream "$model" 1000000
    run "$phiplan" why cpu0
    expect "why says what is streamed" 0 "streams "
    run "$phirun" "$model" --plan small --ids 1,2,3 -n 2 --ignore-eos -v
    expect "-v says how much was read" 0 "streamed "
    run "$phiplan" "$model" --stream --policy hf-balanced --max-memory cpu=1GB
    expect "a policy that fixes the placement does not stream" 2 "--stream goes with"
else
    skip_test "phi3-tiny is streamed" "no models/phi3-tiny"
fi
model=build/models/SmolLM2-135M-Instruct.Q4_1.gguf
if [ -e "$model" ]; then stream "$model" 32000000; else skip_test "SmolLM2 is streamed" "no $model"; fi
finish
