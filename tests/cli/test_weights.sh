#!/bin/sh
# Weights converted at plan time, end to end: made once, kept apart, taken with the plan.
. tests/cli/tap.sh

export POCL_DEVICES=pthread POCL_CACHE_DIR="$XDG_CACHE_HOME/phi/pocl" XDG_CACHE_HOME="$work/own"
mkdir -p "$POCL_CACHE_DIR"
phiplan=$BUILD/phiplan
phirun=$BUILD/phirun
model=$(data models/quantizable-tiny)
if [ ! -e "$model/config.json" ] || ! command -v sqlite3 > /dev/null; then
    skip_test "weights are converted" "no models/quantizable-tiny, or no sqlite3"
    finish
fi
ids_of() { grep -o '"ids":\[[^]]*\]' "$work/out"; }
files() { find "$XDG_CACHE_HOME/phi/artifacts" -mindepth 2 -type f | sort; }   # not the list of stores

run "$phiplan" "$model" --ctx 64 --micro-batch 16 --name kept
expect "a float model is planned as it is" 0 'f16'
equal "and nothing is packed" "" "$(files 2> /dev/null)"
run "$phiplan" "$model" --ctx 64 --micro-batch 16 --dry-run
true_that "its speeds were measured" sh -c "! grep -q 'not measured' '$work/out'"
run "$phiplan" "$model" --ctx 64 --micro-batch 16 --weights q8_0 --dry-run
expect "those of a format that was not are said to be guessed" 0 "from the speeds of other formats: q8_0 was not measured"
run "$phiplan" "$model" --ctx 64 --micro-batch 16 --weights auto --dry-run
expect "and of those that were weighed" 0 "q8_0 and q4_0 were not measured"
run "$phiplan" "$model" --ctx 64 --micro-batch 16 --weights f16 --dry-run
expect "a conversion that changes nothing is said to" 0 "--weights f16 changes nothing: the weights are f16 already"
run "$phiplan" "$model" --ctx 64 --micro-batch 16 --weights q8_0
expect "and as q8_0" 0 '--weights q8_0 makes'
plan=$(sqlite3 "$PHI_STORE" "select max(id) from plan")
equal "the plan keeps the request" q8_0 "$(sqlite3 "$PHI_STORE" "select weights from plan where id = $plan")"
equal "every unit of matrices says its format" "" \
    "$(sqlite3 "$PHI_STORE" "select unit, format from shard where plan = $plan and unit > 0 and format not in ('q8_0', 'q8_0/r16')")"
equal "its shards add up to its weights" \
    "$(sqlite3 "$PHI_STORE" "select model_weight_bytes from plan where id = $plan")" \
    "$(sqlite3 "$PHI_STORE" "select sum(weight_bytes) from shard where plan = $plan")"
equal "every unit of matrices has a file" \
    "$(sqlite3 "$PHI_STORE" "select count(*) from shard where plan = $plan and unit > 0")" "$(files | wc -l)"
true_that "which are named by the format" sh -c "find '$XDG_CACHE_HOME/phi/artifacts' -type f | grep -q _q8_0_"
run "$phirun" "$model" --ids 1,2,3 -n 8 --ignore-eos --json
expect "it runs" 0 '"ids"'
true_that "from the packed files" sh -c "! grep -q 'packed in memory' '$work/err'"
ids=$(ids_of)

before=$(cd "$XDG_CACHE_HOME/phi/artifacts" && find . -type f -exec stat -c '%n %i %Y' {} + | sort)
run "$phiplan" "$model" --ctx 64 --micro-batch 16 --weights q8_0
after=$(cd "$XDG_CACHE_HOME/phi/artifacts" && find . -type f -exec stat -c '%n %i %Y' {} + | sort)
equal "planning again uses the same files" "$before" "$after"
rm "$(files | head -1)"
run "$phirun" "$model" --ids 1,2,3 -n 8 --ignore-eos --json
equal "without a file the result is the same" "$ids" "$(ids_of)"
true_that "and what is proposed keeps the plan's options" \
    grep -q "run: phiplan $model --ctx 64 --micro-batch 16 --weights q8_0\$" "$work/err"
run "$phirun" "$model" --plan kept --ids 1,2,3 -n 8 --ignore-eos --json
expect "the plan of the files' own values still runs" 0 '"ids"'
run "$phirun" compare "$model" kept default --ids "$(seq -s, 1 40)" --json
expect "what that costs is measured" 0 '"kl_divergence"'
true_that "as a little" sh -c "grep -o '\"kl_divergence\":[0-9.]*' '$work/out' | awk -F: '{ exit !(\$2 > 0 && \$2 < 0.05) }'"

run "$phiplan" show
expect "the stored plan is shown, with what its weights became" 0 'quantizable-tiny  phi3 q8_0, '
run "$phiplan" show "$(sqlite3 "$PHI_STORE" "select max(id) from plan where name = 'kept'")"
expect "or what they are" 0 'quantizable-tiny  phi3 f16, '
run "$phiplan" why cpu0
expect "and explained with its own sizes" 0
run "$phiplan" "$model" --ctx 64 --micro-batch 16 --weights q4_0 --dry-run
expect "a dry run shows q4_0" 0 '--weights q4_0 makes'
run "$phiplan" "$model" --ctx 64 --micro-batch 16 --weights auto --dry-run --json
expect "auto shows what it chose from" 0 '"weights": ['
equal "and takes one" 1 "$(grep -c '"chosen": true' "$work/out")"
run "$phiplan" "$model" --weights q5_1
expect "other types are wrong usage" 2 "--weights takes keep, f16, q8_0, q4_0, auto, not 'q5_1'"

sqlite3 "$PHI_STORE" "update shard set format = 'q3_k' where plan = (select max(id) from plan where name = 'kept') and unit = 3"
run "$phirun" "$model" --plan kept --ids 1,2,3 -n 4
expect "an unknown format is refused with its name" 4 "'q3_k'"
true_that "and the command that plans it again" grep -q "run: phiplan .* --name kept" "$work/err"
run "$phiplan" check "$(sqlite3 "$PHI_STORE" "select max(id) from plan where name = 'kept'")"
true_that "phiplan names it, too" grep -q "plan again: phiplan .* --name kept" "$work/err"
for name in kept default; do
    sqlite3 "$PHI_STORE" "select id from plan where name = '$name'" | while read -r id; do "$phiplan" rm "$id" > /dev/null 2>&1; done
done
run "$phiplan" gc
expect "gc" 0
equal "leaves nothing without plans" "" "$(files)"
finish
