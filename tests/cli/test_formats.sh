#!/bin/sh
# The same values in other files give the same bits: parts, versions, types, buffers.
. tests/cli/tap.sh

export POCL_DEVICES=pthread
phiplan=$BUILD/phiplan phirun=$BUILD/phirun rewrite=tests/tools/rewrite_model.py
gguf=$(data models/gguf/quantizable-tiny-Q4_1.gguf) folder=$(data models/llama-tiny)
ids=1,2,3,500,7,8,9,10,11,12,13,14,15,16,17,18

# logits NAME FILE MODEL [OPTION...]: plan with the options, then the logits of both classes
logits() {
    name=$1 file=$2 model=$3
    shift 3
    run "$phiplan" "$model" --ctx 64 "$@"
    expect "$name: a plan" 0
    run "$phirun" logits "$model" --ids $ids --exact --out "$file.exact"
    expect "$name: exact logits" 0
    run "$phirun" logits "$model" --ids $ids --out "$file.int8"
    expect "$name: logits" 0
}
# same NAME FILE FILE
same() {
    for class in exact int8; do
        cmp -s "$2.$class" "$3.$class" && pass "$1: the same bits ($class)" || fail "$1: the same bits ($class)"
    done
}

logits "a GGUF" "$work/whole" "$gguf"
logits "a folder" "$work/folder" "$folder"

# ---- buffers smaller than a matrix
logits "buffers of 64 KiB" "$work/small" "$gguf" --max-buffer 64KiB --micro-batch 16
same "buffers of 64 KiB" "$work/whole" "$work/small"
run "$phiplan" "$gguf" --ctx 64
logits "a folder in buffers of 64 KiB" "$work/small-folder" "$folder" --max-buffer 64KiB --micro-batch 16
same "a folder in buffers of 64 KiB" "$work/folder" "$work/small-folder"
run "$phiplan" "$gguf" --ctx 64 --max-buffer 100
true_that "buffers that hold no row are refused" test "$status" -eq 1 -o "$status" -eq 2

# ---- other files
command -v python3 > /dev/null || { skip_test "files in parts and mixtures" "no python3"; finish; }
python3 $rewrite split "$gguf" "$work/model"
logits "a GGUF in parts" "$work/parts" "$work/model-00001-of-00002.gguf"
same "a GGUF in parts" "$work/whole" "$work/parts"
run "$phirun" tokenize "$work/model-00002-of-00002.gguf" "Hello"
expect "any part names the model" 0
mv "$work/model-00002-of-00002.gguf" "$work/hidden"
run "$phirun" "$work/model-00001-of-00002.gguf" --ids 1,2
expect "a missing part is named" 1 "model-00002-of-00002.gguf"

python3 $rewrite v2 "$gguf" "$work/old.gguf"
logits "GGUF version 2 with an array of 4 Mi numbers" "$work/old" "$work/old.gguf"
same "GGUF version 2" "$work/whole" "$work/old"

python3 $rewrite mix "$folder" "$work/mixed"
logits "float32 and bfloat16 in two shards" "$work/mixed" "$work/mixed"
same "float32 and bfloat16 in two shards" "$work/folder" "$work/mixed"

python3 $rewrite f8 "$folder" "$work/f8"
run "$phiplan" "$work/f8" --dry-run
expect "a type that is not supported is named" 1 "stored as F8_E4M3, which is not supported; take a checkpoint of F32, F16 or BF16"
finish
