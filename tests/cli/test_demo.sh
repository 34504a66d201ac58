#!/bin/sh
# What `make demo` does after building, in a build folder of its own.
. tests/cli/tap.sh
model=$(pwd)/build/models/SmolLM2-135M-Instruct.Q4_1.gguf
if [ ! -f "$model" ]; then
    skip_test "the demo plans, answers and shows its plan" "no demo model at build/models (make demo-model)"
    finish
fi
mkdir "$work/build"
ln -s "$BUILD/phiplan" "$BUILD/phirun" "$work/build"
run sh tests/tools/demo.sh "$work/build" "$model"
expect "the demo plans, answers and shows its plan" 0 "blocks 0-29, head"
answer=$(sed -n '/^\$ phirun/,/^\$ sqlite3/p' "$work/out" | sed '1d;$d')
true_that "the answer is about the question" sh -c 'echo "$0" | grep -qi gravity' "$answer"
true_that "the stored plan is the last thing shown" sh -c 'tail -n 1 "$0" | grep -q SmolLM2' "$work/out"
# The GGUF and its rewriting as a Phi-3 checkpoint are the same network.
phi3=$(pwd)/build/models/phi3-smollm2
if [ -d "$phi3" ]; then
    export PHI_STORE="$work/build/demo/plans.db"
    "$BUILD/phiplan" "$phi3" > "$work/log" 2>&1
    "$BUILD/phiplan" "$model" >> "$work/log" 2>&1
    run "$BUILD/phirun" "$phi3" -p 'What is the capital of France?' -n 24 --exact
    as_phi3=$out
    run "$BUILD/phirun" "$model" -p 'What is the capital of France?' -n 24 --exact
    equal "the Phi-3 checkpoint answers like the GGUF it came from" "$as_phi3" "$out"
    true_that "and knows Paris" sh -c 'echo "$0" | grep -q Paris' "$out"
else
    skip_test "the Phi-3 checkpoint answers like the GGUF it came from" "no build/models/phi3-smollm2"
fi
finish
