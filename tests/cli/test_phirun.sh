#!/bin/sh
# phirun and phiplan together, as their users call them.
. tests/cli/tap.sh

export POCL_DEVICES=pthread
phiplan=$BUILD/phiplan phirun=$BUILD/phirun
model=$(data models/phi3-tiny-longrope) golden=$(data goldens/logits/phi3-tiny-longrope.json)
json() { sqlite3 :memory: "select json_extract(readfile('$1'), '$2')"; }
sql() { sqlite3 "$PHI_STORE" "$1"; }
prompt=$(json "$golden" '$.prompts[2].ids' | tr -d '[]')

# ---- help and mistakes
run "$phirun" --help
expect "help goes to standard output" 0 "usage: phirun MODEL"
equal "help leaves standard error empty" "" "$err"
run "$phirun" tokenize --help
expect "each command says what it does" 0 "Prints the token ids of a text"
run "$phirun"
expect "no model is wrong usage" 2 "no model given"
run "$phirun" x --verif
expect "an option is typed whole" 2 "there is no option '--verif' (did you mean '--verify'?); see phirun --help"
run "$phirun" chat x --db
expect "a value that is missing is wrong usage" 2 "option '--db' needs a value; see phirun chat --help"
run "$phirun" "$work/nothing" -p x
expect "a model that is not there is named" 1 "$work/nothing"
run "$phirun" "$model" --ids 1,2
expect "without a plan, exit 3 and the command to type" 3 "run: phiplan $model"

# ---- plan, then generate
run "$phiplan" "$model" --ctx 256
expect "phiplan makes a plan" 0
run "$phirun" "$model" --ids "$prompt" --exact --json -n 40 --ignore-eos
expect "phirun generates with it" 0
equal "the tokens are those of transformers" "$(json "$golden" '$.prompts[2].greedy.ids')" "$(json "$work/out" '$.sequences[0].ids')"
equal "the JSON says why it ended" length "$(json "$work/out" '$.sequences[0].finish_reason')"
equal "bytes loaded are bytes planned" "$(json "$work/out" '$.devices[0].bytes_planned')" "$(json "$work/out" '$.devices[0].bytes_loaded')"
first=$(json "$work/out" '$.sequences[0].ids[0]')
run "$phirun" "$model" --ids "$prompt" --exact --json --eos "$first"
equal "an end token ends it and is among the ids" "[$first]" "$(json "$work/out" '$.sequences[0].ids')"
equal "and is the reason" eos "$(json "$work/out" '$.sequences[0].finish_reason')"
run "$phirun" "$model" --ids "$prompt" -v -n 4
expect "-v shows bytes by device" 0 "bytes loaded"
equal "every run has a row in the store" 3 "$(sql "select count(*) from run where kind in ('generate', 'exact')")"
equal "no text is stored" 0 "$(sql "select count(*) from run where settings like '%$first,%'")"
run "$phirun" "$model" -p Hello --temperature 1 --seed 7 -n 20
sampled=$out
run "$phirun" "$model" -p Hello --temperature 1 --seed 7 -n 20
equal "the same seed gives the same text" "$sampled" "$out"
run "$phirun" "$model" -p Hello --temperature 1 --seed 8 -n 20
true_that "another seed gives another" test "$sampled" != "$out"
run "$phirun" "$model" --ids "$prompt" --ids 99999999
expect "an id outside the vocabulary is named" 2 "99999999"
run "$phirun" "$model" --ids "$(seq -s, 1 300)"
expect "a prompt longer than the context is wrong usage with the command" 2 "; plan again: phiplan $model --ctx 384"
run "$phirun" "$model" --ids "$(seq -s, 1 400)"
expect "but not where the model was made for less" 2 "the model was made for 384 tokens, which no plan exceeds: shorten the text"
run "$phirun" perplexity "$model" --ids "$(seq -s, 1 400)" --window 390
expect "nor for a window" 2 "made for 384 tokens, which no plan exceeds: take a smaller --window"
run sh -c 'printf Hello | "$0" "$1" --raw -n 3' "$phirun" "$model"
expect "the prompt may come from standard input" 0
for empty in "-p|" "-f|/dev/null"; do
    run "$phirun" "$model" "${empty%|*}" "${empty#*|}" -n 3
    expect "an empty prompt is refused: ${empty%|*}" 2 "the prompt is empty; give text with -p"
done
run "$phirun" "$model" -p '' --system Brief -n 3
expect "beside a system message it is not" 0
printf '%s\n' 'await reading from standard input; end it with Ctrl-D' 'keys 48656c6c6f0a04' end > "$work/steps"
run python3 tests/tools/terminal.py "$phirun" "$model" -n 3 < "$work/steps"
expect "at a terminal it is said that it is awaited" 0

run "$phirun" "$model" --ids "$(seq -s, 1 250)" --ignore-eos
expect "a full context ends the answer, and that is said" 0 "the answer ends here: the context of 256 tokens is full; plan again: phiplan $model --ctx 384"
run "$phirun" "$model" --ids "$(seq -s, 1 250)" --ignore-eos -n 3
equal "what was asked for is no news" "" "$err"

# ---- logits, bench, tokenize, template
run "$phirun" logits "$model" --ids 1,2,3 --out "$work/logits"
expect "logits are written" 0
equal "as float32 [positions][vocab]" $((3 * 1000 * 4)) "$(wc -c < "$work/logits")"
run "$phirun" logits "$model" --ids 1,2,3 --out "$work/last" --last
tail -c 4000 "$work/logits" | cmp -s - "$work/last" && pass "--last gives the same bits as the last row" || fail "--last gives the same bits as the last row"
run "$phirun" bench "$model" -p 16 -n 4 -r 2 -o json
expect "bench measures" 0
equal "both tests" "pp16 tg4" "$(json "$work/out" '$[0].test') $(json "$work/out" '$[1].test')"
equal "every repetition of the bench is in the store" 4 "$(sql "select count(*) from run where kind = 'bench'")"
run "$phirun" tokenize "$model" "Hello" --json
expect "tokenize prints ids and pieces" 0 '"pieces"'
run "$phirun" tokenize "$model" --decode "$(json "$work/out" '$.ids' | tr -d '[]')"
equal "and back" Hello "$out"
printf '[{"role":"user","content":"Hi"}]' > "$work/messages.json"
run "$phirun" template "$model" --messages "$work/messages.json"
expect "template renders the conversation" 0 "Hi"
printf 'Say {prompt} now' > "$work/form"
run "$phirun" "$model" -p Hello --template "$work/form" --full-text -n 1
expect "a file with a placeholder is a prompt template" 0 "Say Hello now"
run "$phirun" "$model" -p "$(printf 'caf\351 noir')" --raw --full-text --json -n 1
expect "bytes that are no UTF-8 do not take the answer along" 0 '"text":"caf� noir'

# ---- stale plans
sql "update plan_device set driver = 'older' where plan = (select max(id) from plan)"
run "$phirun" "$model" --ids 1,2 -n 1
expect "another driver is exit 4 with old and new value" 4 "was 'older'"
run "$phiplan" "$model" --ctx 256
expect "planning again repairs it" 0
run "$phirun" "$model" --ids 1,2 -n 1
expect "and it runs" 0
POCL_DEVICES=basic run "$phirun" "$model" --ids 1,2 -n 1
expect "a variable that hides the device is exit 4" 4 "POCL_DEVICES"
run env OCL_ICD_VENDORS="$work/none" "$phirun" "$model" --ids 1,2 -n 1
expect "one that selects no driver, too" 4 "0 others found with OCL_ICD_VENDORS='$work/none'; plan it again"
run env OPENCL_VENDOR_PATH="$work/none" "$phirun" "$model" --ids 1,2 -n 1
expect "or another folder of drivers" 4 "0 others found with OPENCL_VENDOR_PATH='$work/none'; plan it again"
mkdir "$work/vendors" && cp "$(sql "select icd from plan_device where plan = (select max(id) from plan) and device = 'cpu0'")" "$work/vendors"
run env OCL_ICD_VENDORS="$work/vendors" "$phirun" "$model" --ids 1,2 -n 1
expect "a copy of the driver's file brings the same device" 0
cp -r "$model" "$work/copy" && chmod -R u+w "$work/copy"
run "$phiplan" "$work/copy" --ctx 64
run "$phirun" "$work/copy" --ids 1,2 -n 1
expect "a copy of the model runs" 0
printf 'x' | dd of="$work/copy/model-00002-of-00003.safetensors" bs=1 seek=500000 conv=notrunc 2> /dev/null
run "$phirun" "$work/copy" --ids 1,2 -n 1
expect "a changed weight file is exit 4 and named" 4 "weights hash"
truncate -s 600000 "$work/copy/model-00002-of-00003.safetensors"
run "$phirun" "$work/copy" --ids 1,2 -n 1
expect "a truncated file is one clear sentence" 1 "model-00002-of-00003.safetensors"

# ---- two devices
export POCL_DEVICES="pthread basic"
run "$phirun" logits "$model" --ids "$prompt" --out "$work/one" --exact
run "$phiplan" "$model" --ctx 256 --policy fill --devices cpu0,cpu1 --max-memory cpu0=4MiB,cpu1=1GiB
expect "a plan over two devices" 0
true_that "both hold something" test "$(sql "select count(distinct device) from shard where plan = (select max(id) from plan) and device != 'host'")" = 2
run "$phirun" logits "$model" --ids "$prompt" --out "$work/one" --exact
expect "two devices compute" 0
sql "update plan_device set budget_bytes = 1 << 30 where plan = (select max(id) from plan)"
planned() { sql "select coalesce(sum(weight_bytes), 0) from shard where plan = (select max(id) from plan) and device = '$1'"; }
sql "update shard set device = 'cpu0' where plan = (select max(id) from plan) and device != 'host'"
run "$phirun" logits "$model" --ids "$prompt" --out "$work/two" --exact -v
expect "layers moved by SQL run where they were put" 0 "cpu0"
cmp -s "$work/one" "$work/two" && pass "with the same bits" || fail "with the same bits"
run "$phirun" "$model" --ids "$prompt" --json -n 2
equal "and their bytes are loaded there" "$(planned cpu0)" "$(sqlite3 :memory: "select sum(json_extract(value, '$.bytes_loaded')) from json_each(readfile('$work/out'), '$.devices') where json_extract(value, '$.device') = 'cpu0'")"
sql "delete from shard where plan = (select max(id) from plan) and unit = 2"
run "$phirun" "$model" --ids 1,2 -n 1
expect "a plan with a missing unit is refused" 1 "ffn.0"
export POCL_DEVICES=pthread

# ---- ends well
run "$phiplan" "$model" --ctx 256
for signal in INT TERM; do
    "$phirun" "$model" --ids "$prompt" --ignore-eos > "$work/out" 2> "$work/err" &
    child=$!
    tries=0
    while [ ! -s "$work/out" ] && [ $tries -lt 200 ]; do sleep 0.02; tries=$((tries + 1)); done
    kill -$signal $child
    wait $child
    status=$?
    want=$([ $signal = INT ] && echo 130 || echo 143)
    # A short text may have been finished before the signal came.
    if [ "$status" -eq 0 ]; then skip_test "SIG$signal ends with $want" "the run was over before the signal"
    else equal "SIG$signal ends with $want" "$want" "$status"; fi
    true_that "and the text so far is kept" test -s "$work/out"
done
equal "no process is left" "" "$(ps -o pid= --ppid $$ | xargs -r ps -o comm= -p | grep phirun)"
if [ -w /dev/full ]; then
    "$phirun" "$model" --ids "$prompt" -n 4 > /dev/full 2> "$work/err"
    status=$? out='' err=$(cat "$work/err")
    expect "a full disk is an error" 1 "standard output"
fi
for command in "$model --ids $prompt --ignore-eos" '--help' "tokenize $model Hello"; do
    run python3 -c '
import os, subprocess, sys
out, into = os.pipe()
os.close(out)
sys.exit(subprocess.run(sys.argv[1:], stdout=into).returncode)' "$phirun" $command
    expect "a closed pipe ends it as its signal does: ${command%% *}" 141
    equal "without a word" "" "$err"
done
head -c 100 /dev/urandom > "$work/broken.db"
run "$phirun" "$model" --ids 1,2 --db "$work/broken.db"
true_that "a damaged store is refused" test "$status" -eq 1 -o "$status" -eq 3
equal "and left as it was" 100 "$(wc -c < "$work/broken.db")"
finish
