#!/bin/sh
# Units in slices over two devices: a plan imported with slices, one sliced by SQL, and one
# that the planner slices. The tokens are those of the whole units.
. tests/cli/tap.sh
phiplan=$BUILD/phiplan phirun=$BUILD/phirun
export POCL_DEVICES="pthread basic"

tiny=$(data models/phi3-tiny)
quantised=$(data models/gguf/quantizable-tiny-Q4_1.gguf)
if [ -z "$tiny" ] || ! command -v python3 > /dev/null || ! command -v sqlite3 > /dev/null; then
    skip_test "units in slices" "no models/phi3-tiny, no python3 or no sqlite3"
    finish
fi
if [ "$("$phiplan" devices --json 2> "$work/err" | python3 -c 'import json, sys
print(sum(d["usable"] for d in json.load(sys.stdin)))')" -lt 2 ]; then
    skip_test "units in slices" "fewer than two OpenCL devices"
    finish
fi

# tokens FILE: the new ids of a run; loaded FILE: whether every device has what was planned
tokens() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["sequences"][0]["ids"])' "$1"; }
loaded() { python3 -c 'import json, sys
devices = json.load(open(sys.argv[1]))["devices"]
print(len(devices), all(d["bytes_planned"] == d["bytes_loaded"] for d in devices))' "$1"; }
generate() { run "$phirun" "$1" --ids 5,6,7,8,9 -n 10 --ignore-eos --json; cp "$work/out" "$work/$2"; }

run "$phiplan" "$tiny" --ctx 128 --slices off
expect "a plan of whole units" 0 "blocks 0-2, head"
generate "$tiny" whole.json
expect "runs" 0

# ---- a plan imported with slices ----
"$phiplan" export --format json > "$work/plan.json"
cat > "$work/slice.py" <<'PYTHON'
import json, sys
plan = json.load(open(sys.argv[1]))
names = [d["device"] for d in plan["devices"] if d["device"] != "host"]
for d in plan["devices"]:
    if d["device"] == names[0]:
        d["units"] = ["attn.0[0:1]", "ffn.0[1:2]", "attn.1", "ffn.1[0:1]", "attn.2[1:4]", "ffn.2", "head[0:20]"]
    elif d["device"] == names[1]:
        d["units"] = ["attn.0[1:4]", "ffn.0[0:1]", "ffn.1[1:2]", "attn.2[0:1]", sys.argv[2]]
json.dump(plan, open(sys.argv[3], "w"))
PYTHON
python3 "$work/slice.py" "$work/plan.json" "head[20:63]" "$work/sliced.json"
run "$phiplan" import "$work/sliced.json" "$tiny"
expect "a plan with slices is imported" 0 "block 0 (62 %), ffn 1 (50 %), attn 2 (25 %), head (68 %)"
generate "$tiny" sliced.json.out
expect "and runs" 0
equal "with the tokens of whole units" "$(tokens "$work/whole.json")" "$(tokens "$work/sliced.json.out")"
equal "each device loads its slices" "3 True" "$(loaded "$work/sliced.json.out")"
equal "plan_layers shows the parts" "0-0,1-3" \
    "$(sqlite3 "$PHI_STORE" "select group_concat(parts) from plan_layers where plan = 2 and name = 'attn.0'")"
"$phiplan" export --format json | python3 -c 'import json, sys
print(*[u for d in json.load(sys.stdin)["devices"] for u in d["units"] if "head" in u or "ffn.0" in u])' > "$work/names"
true_that "the export has the slices" grep -q "head\[20:63\]" "$work/names"
run "$phiplan" export --format accelerate
expect "Accelerate's maps have no words for slices" 1 "sliced over 2 shards"
run "$phiplan" export --format dot
expect "a graph shows them" 0 "attn 2 (25 %)"
run "$phiplan" diff 1 2
expect "diff counts them" 0 "5 units"
for bad in "head[21:63]" "head[20" "head[0:20]"; do
    python3 "$work/slice.py" "$work/plan.json" "$bad" "$work/bad.json"
    run "$phiplan" import "$work/bad.json" "$tiny"
    true_that "slices such as $bad are refused in a sentence" [ "$status" -eq 2 -a -n "$err" ]
done

# ---- a plan sliced by SQL: the packed file stays that of the whole unit ----
[ -n "$quantised" ] || quantised=$tiny
run "$phiplan" "$quantised" --ctx 128 --slices off
expect "a plan of a quantised model" 0
generate "$quantised" whole.json
id=$(sqlite3 "$PHI_STORE" "select max(id) from plan")
other=$(sqlite3 "$PHI_STORE" "select device from plan_device where plan = $id and device not in (select device from shard where plan = $id) limit 1")
sqlite3 "$PHI_STORE" "update shard set part_end = 1 where plan = $id and unit in (1, 2, 3);
    insert into shard (plan, unit, unit_name, part_begin, part_end, device, format, residency, artifact, weight_bytes, kv_bytes)
    select plan, unit, unit_name, 1, 2, '$other', format, residency, artifact, 0, 0 from shard where plan = $id and unit in (1, 2, 3)"
generate "$quantised" sql.json
expect "a plan sliced by SQL runs" 0
equal "with the same tokens" "$(tokens "$work/whole.json")" "$(tokens "$work/sql.json")"
true_that "on both devices" python3 -c 'import json, sys
assert all(d["bytes_loaded"] > 0 for d in json.load(open(sys.argv[1]))["devices"][-2:])' "$work/sql.json"
sqlite3 "$PHI_STORE" "update shard set part_end = 3 where plan = $id and unit = 2 and part_begin = 1"
run "$phirun" "$quantised" --ids 5 -n 1
expect "parts that the unit does not have are refused" 4 "parts 1 to 3 of 'ffn.0', which has 2"
finish
