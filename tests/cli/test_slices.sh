#!/bin/sh
# Units in slices over two devices: a plan imported with slices, one sliced by SQL, and one
# that the planner slices. The tokens are those of the whole units.
. tests/cli/tap.sh
phiplan=$BUILD/phiplan phirun=$BUILD/phirun
export POCL_DEVICES="pthread basic"

tiny=$(data models/phi3-tiny)
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

run "$phiplan" "$tiny" --ctx 128 --slices off --pin 'attn.*=cpu0,ffn.*=cpu0,head=cpu0'
expect "a plan of whole units" 0 "blocks 0-2, head"
generate "$tiny" whole.json
expect "runs" 0

"$phiplan" export --format json > "$work/plan.json"

# ---- sliced by SQL ----
other=$(sqlite3 "$PHI_STORE" "select device from plan_device where device not in (select device from shard) limit 1")
sqlite3 "$PHI_STORE" "update shard set part_end = 1 where unit in (1, 2, 3);
    insert into shard (plan, unit, unit_name, part_begin, part_end, device, format, residency, artifact, weight_bytes, kv_bytes)
    select plan, unit, unit_name, 1, iif(unit = 2, 2, 4), '$other', format, residency, artifact, 0, 0 from shard
    where unit in (1, 2, 3)"
generate "$tiny" sql.json
expect "a plan sliced by SQL runs" 0
equal "with the same tokens" "$(tokens "$work/whole.json")" "$(tokens "$work/sql.json")"
true_that "on both devices" python3 -c 'import json, sys
assert all(d["bytes_loaded"] > 0 for d in json.load(open(sys.argv[1]))["devices"][-2:])' "$work/sql.json"
sqlite3 "$PHI_STORE" "update shard set part_end = 3 where unit = 2 and part_begin = 1"
run "$phirun" "$tiny" --ids 5 -n 1
expect "parts that the unit does not have are refused" 4 "parts 1 to 3 of 'ffn.0', which has 2"

# ---- a plan imported with slices ----
cat > "$work/slice.py" <<'PYTHON'
import json, sys
plan = json.load(open(sys.argv[1]))
names = ["cpu0", "cpu1"]
for d in plan["devices"]:
    if d["device"] == names[0]:
        d["units"] = ["attn.0[0:1]", "ffn.0[1:2]", "attn.1", "ffn.1[0:1]", "attn.2[1:4]", "ffn.2", "head[0:20]"]
    elif d["device"] == names[1]:
        d["units"] = ["attn.0[1:4]", "ffn.0[0:1]", "ffn.1[1:2]", "attn.2[0:1]", sys.argv[2]]
json.dump(plan, open(sys.argv[3], "w"))
PYTHON
python3 "$work/slice.py" "$work/plan.json" "head[20:63]" "$work/sliced.json"
run "$phiplan" import "$work/sliced.json" "$tiny"
expect "a plan with slices is imported" 0 "blocks 0-2 (50 %), head (68 %)"
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
expect "a graph shows them" 0 "blocks 0-2 (50 %), head (68 %)"
run "$phiplan" diff 1 2
expect "diff counts them" 0 "units, "
for bad in "head[21:63]" "head[20" "head[0:20]"; do
    python3 "$work/slice.py" "$work/plan.json" "$bad" "$work/bad.json"
    run "$phiplan" import "$work/bad.json" "$tiny"
    true_that "slices such as $bad are refused in a sentence" [ "$status" -eq 2 -a -n "$err" ]
done

# ---- a plan that the planner slices: no half of the whole units fits either device ----
set -- "$tiny" --ctx 256 --micro-batch 8 --max-memory cpu0=1760KiB,cpu1=1760KiB
run "$phiplan" "$@" --slices off
expect "whole units do not fit" 1 "no split into whole half-blocks"
run "$phiplan" "$@"
expect "in slices they do" 0 "head ("
run env LD_PRELOAD="$BUILD/tests/cl_trace.so" ASAN_OPTIONS=verify_asan_link_order=0:detect_leaks=0 CL_TRACE_OUT="$work/trace.json" \
    "$phirun" "$tiny" --ids 5,6,7,8,9 -n 10 --ignore-eos --json
cp "$work/out" "$work/planned.json"
expect "and run" 0
equal "with the tokens of whole units, again" "$(tokens "$work/whole.json")" "$(tokens "$work/planned.json")"
equal "each device loads its slices, again" "3 True" "$(loaded "$work/planned.json")"
equal "and allocates what the plan says" "$(sqlite3 "$PHI_STORE" "select weight_bytes + kv_bytes + scratch_bytes + staging_bytes + slack_bytes as all_bytes
    from plan_device where plan = (select max(id) from plan) and weight_bytes > 0 order by all_bytes" | tr '\n' ' ')" \
    "$(python3 -c 'import json, sys
print(*sorted(d["bytes"] for d in json.load(open(sys.argv[1]))["devices"]), "")' "$work/trace.json")"

finish
