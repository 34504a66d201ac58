#!/bin/sh
# Packed weights end to end: phiplan makes them, phirun maps them, anyone may delete them.
. tests/cli/tap.sh

# Packed weights, which gc removes, are not shared with other tests.
export POCL_DEVICES=pthread XDG_CACHE_HOME="$work/own"
phiplan=$BUILD/phiplan
phirun=$BUILD/phirun
model=$(data models/gguf/quantizable-tiny-Q4_1.gguf)
if [ ! -e "$model" ] || ! command -v sqlite3 > /dev/null; then
    skip_test "units are packed" "no models/gguf/quantizable-tiny-Q4_1.gguf, or no sqlite3"
    finish
fi

# Beside their folders lies the list of stores.
packed_files() { find "$XDG_CACHE_HOME/phi/artifacts" -mindepth 2 -type f | wc -l; }

run "$phiplan" "$model" --ctx 64 --micro-batch 16 --json
expect "a model is planned" 0 '"plan"'
packed=$(sqlite3 "$PHI_STORE" "select count(*) from shard where format = 'r16'")
if [ "$packed" -eq 0 ]; then
    skip_test "units are packed" "rows were found faster on this machine"
    finish
fi
files=$(packed_files)
equal "every packed unit has a file" "$packed" "$files"
equal "and a row" "$packed" "$(sqlite3 "$PHI_STORE" "select count(*) from shard s join artifact a on a.id = s.artifact where s.format = 'r16'")"
run "$phirun" "$model" --ids 1,2,3 -n 8 --ignore-eos --json
expect "it runs" 0 '"ids"'
ids=$(grep -o '"ids":\[[^]]*\]' "$work/out")

some=$(find "$XDG_CACHE_HOME/phi/artifacts" -mindepth 2 -type f | sort | head -1)
rm "$some"
run "$phirun" "$model" --ids 1,2,3 -n 8 --ignore-eos --json
expect "it runs without one of the files" 0 '"ids"'
equal "with the same result" "$ids" "$(grep -o '"ids":\[[^]]*\]' "$work/out")"
true_that "and says what to do" grep -q "packed in memory.*run: phiplan" "$work/err"
printf 'x' > "$some"
run "$phirun" "$model" --ids 1,2,3 -n 8 --ignore-eos --json
expect "a damaged file is not used" 0 '"ids"'
true_that "and named" grep -q "damaged" "$work/err"
run "$phiplan" "$model" --ctx 64 --micro-batch 16
expect "planning again repairs it" 0
run "$phirun" "$model" --ids 1,2,3 -n 8 --ignore-eos --json
equal "silently used again" "" "$(grep 'packed in memory' "$work/err")"
run "$phirun" "$model" --ids 1,2,3 -n 8 --ignore-eos --exact --json
expect "--exact runs on the packed layout" 0 '"ids"'

plan=$(sqlite3 "$PHI_STORE" "select max(id) from plan")
touch "$(dirname "$some")/stray"
# As another phiplan that packs.
( exec 9> "$some.aB3dE7"; flock 9; : > "$work/locked"; exec sleep 60 ) > "$work/sleep" 2>&1 & writer=$!
while [ ! -e "$work/locked" ]; do sleep 0.05; done
run "$phiplan" gc
true_that "gc leaves what is being written" test -e "$some.aB3dE7"
kill "$writer"; rm -f "$some.aB3dE7"
run "$phiplan" gc
expect "gc removes what is superseded, and strays" 0
equal "but nothing that the plan needs" "$files" "$(packed_files)"
run env XDG_CACHE_HOME="$XDG_CACHE_HOME/." "$phiplan" gc
equal "also where the folder is spelled in another way" "$files" "$(packed_files)"
equal "and the current plan stays" "$plan" "$(sqlite3 "$PHI_STORE" "select group_concat(id) from plan")"

# ---- stores share the files ----
mkdir "$work/shelf"
own=$(realpath "$PHI_STORE") other=$(realpath "$work/shelf")/other.db list=$XDG_CACHE_HOME/phi/artifacts/stores
default=$XDG_DATA_HOME/phi/plans.db
cp "$PHI_STORE" "$other"
run "$phiplan" "$model" --ctx 64 --micro-batch 16 --db "$work/shelf/../shelf/other.db"
expect "another store has a plan with the same files" 0
run "$phiplan" "$model" --ctx 64 --micro-batch 16
equal "each of the two is noted once" "$(printf '%s\n' "$own" "$other" | sort)" "$(sort "$list")"
cp "$other" "$work/sound.db"

truncate -s 6000 "$other"
run "$phiplan" gc
expect "a store that cannot be read stops gc" 1 "removed 1 superseded plan, but no packed weights: "
true_that "with its path and what to do" grep -q "'$other' is damaged.*move it away, then run phiplan gc again\$" "$work/err"
equal "no packed file is gone" "$files" "$(packed_files)"
equal "but the superseded plan is" 1 "$(sqlite3 "$PHI_STORE" "select count(*) from plan")"
cp "$work/sound.db" "$other"

run "$phiplan" rm "$(sqlite3 "$PHI_STORE" "select id from plan")"
touch "$(dirname "$some")/stray"
before=$(sha256sum < "$other")
chmod 555 "$work/shelf"
run "$phiplan" gc
chmod 755 "$work/shelf"
expect "gc of a store without plans removes what no store uses" 0 "and 1 file of packed weights"
equal "but nothing that the other one needs" "$files" "$(packed_files)"
equal "whose store is as it was" "$before other.db" "$(sha256sum < "$other") $(ls "$work/shelf")"

rm "$other"
mkdir -p "$(dirname "$default")"
cp "$work/sound.db" "$default"
run "$phiplan" gc
equal "what the default store needs stays, though nobody noted it" "$files" "$(packed_files)"
equal "a store that is gone is noted no more" "$own" "$(cat "$list")"
rm "$default"
run "$phiplan" gc
equal "without plans nothing is left" 0 "$(packed_files)"
finish
