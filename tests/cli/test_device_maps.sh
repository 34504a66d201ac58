#!/bin/sh
# Device maps as a person brings and takes them: Accelerate's policies from a config.json
# alone, export, import.
. tests/cli/tap.sh
phiplan=$BUILD/phiplan

# ---- maps for devices that are not here ----
goldens=$(data goldens/accelerate/device_maps.json)
if [ -z "$goldens" ] || ! command -v python3 > /dev/null; then
    skip_test "every golden comes out of the program byte for byte" "no goldens/accelerate/device_maps.json, or no python3"
else
    cat > "$work/compare.py" <<'PYTHON'
import json, os, subprocess, sys
program, goldens, work = sys.argv[1:]
policies = {"sequential": "hf-sequential", "balanced": "hf-balanced", "balanced_low_0": "hf-balanced-low-0", "auto": "hf-auto"}
equal = refused = 0
for model in json.load(open(goldens))["models"]:
    folder = os.path.join(work, model["name"])
    os.makedirs(folder)
    config = dict(model["config"])
    rotary = 2 * model["buffers"]["model.rotary_emb.inv_freq"][0][0]
    config["partial_rotary_factor"] = rotary / (config["hidden_size"] // config["num_attention_heads"])
    json.dump(config, open(os.path.join(folder, "config.json"), "w"))
    for which, cases in (("accelerate", model["cases"]), ("transformers", model["transformers5"]["cases"])):
        for case in cases:
            memory = ",".join(f"{k}={v}" for k, v in case["max_memory"])
            for run in case["runs"]:
                if "no_split" in run or "fallback_allocation" in run or (which == "transformers" and run["mode"] != "auto"):
                    continue
                done = subprocess.run([program, folder, "--policy", policies[run["mode"]], "--dtype", case["dtype"], "--max-memory",
                                       memory, "--dry-run", "--format", "accelerate"], capture_output=True, text=True)
                where = (model["name"], case["name"], case["dtype"], run["mode"])
                if "map" not in run:
                    assert done.returncode == 2 and done.stdout == "" and len(done.stderr) > 40, (where, done)
                    refused += 1
                else:
                    assert done.returncode == 0 and done.stdout == json.dumps(run["map"]) + "\n", (where, done)
                    equal += 1
print(equal, refused)
PYTHON
    run python3 "$work/compare.py" "$phiplan" "$goldens" "$work"
    counts=$out
    expect "every golden comes out of the program byte for byte (maps, refusals: $counts)" 0
    true_that "and there are many" test "${counts% *}" -gt 700 -a "${counts#* }" -ge 30
    true_that "no store was made for it" [ ! -e "$PHI_STORE" ]
fi

only=$work/only-config
mkdir -p "$only"
cat > "$only/config.json" <<'JSON'
{"model_type": "phi3", "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 32, "num_attention_heads": 32,
 "num_key_value_heads": 32, "vocab_size": 32064, "tie_word_embeddings": false, "torch_dtype": "bfloat16"}
JSON
run "$phiplan" "$only" --policy hf-sequential --max-memory 0=8GiB,1=3GiB,cpu=24GiB --dry-run --format accelerate
equal "without --dtype the config's type counts" '{"": 0}' "$out"
run "$phiplan" "$only" --policy hf-sequential --dtype float32 --max-memory 0=8Gb,cpu=24GiB --dry-run --format accelerate
expect "bits are warned of" 0 "phiplan: --max-memory: '8Gb' counts bits"
run "$phiplan" "$only" --policy hf-auto --max-memory gpu0=8GiB --dry-run --format accelerate
expect "a name of ours is no device of Accelerate's" 2 "knows numbers, cpu and disk"
run "$phiplan" "$only" --policy hf-auto --max-memory 0=50% --dry-run --format accelerate
expect "a share of nothing known is refused" 2 "part of nothing known"
run "$phiplan" "$only" --policy hf-auto --max-memory 0=8GiB --pin 'ffn.*=gpu0' --dry-run --format accelerate
expect "and so are pins" 2 "mean nothing"
run "$phiplan" "$only" --dtype int8 --dry-run
expect "int8 is nothing to plan with" 2 "--dtype int8"

# ---- plans ----
model=$(data models/phi3-tiny)
export POCL_DEVICES="pthread basic"
run "$phiplan" devices --json
if [ -z "$model" ] || ! grep -q '"device": "cpu1"' "$work/out" || [ "$(grep -c '"usable": true' "$work/out")" -lt 2 ]; then
    skip_test "plans by maps" "POCL_DEVICES gives no two devices here, or no models/phi3-tiny"
    finish
fi
run "$phiplan" "$model" --ctx 128 --policy hf-balanced --devices cpu0,cpu1
expect "a policy of Accelerate makes a plan" 0 "plan       1 'default'"
run "$phiplan" export --format accelerate
equal "it exports as a map" '{"model.embed_tokens": "cpu", "model.layers.0": "cpu", "model.layers.1": "cpu", "model.layers.2": "cpu", "model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "cpu"}' "$out"
cp "$work/out" "$work/cpu.json"
run "$phiplan" import "$work/cpu.json" "$model" --dry-run
expect "which can be imported" 0 "policy import"
odd="$work/odd$(printf '\033')[1m.json"
"$phiplan" export 1 > "$odd" 2> /dev/null
run "$phiplan" import "$odd" "$model" --dry-run
expect "what import does not take is said, without what a file's name would do to a terminal" 0 \
    "phiplan: '$work/odd?[1m.json' was made with --devices"
cat > "$work/map.json" <<'JSON'
{"model.embed_tokens": "cpu", "model.layers.0": "cpu", "model.layers.1": "cpu1", "model.layers.2.self_attn": "cpu0",
 "model.layers.2.input_layernorm": "cpu0", "model.layers.2": "cpu1", "model.norm": "cpu1", "lm_head": "cpu0"}
JSON
run "$phiplan" import "$work/map.json" "$model" --ctx 96 --kv f32 --name mixed
expect "a map with names of ours makes a plan" 0 "'mixed', saved"
true_that "its blocks are where the map says" grep -q 'cpu1    block 1, ffn 2 ' "$work/out"
true_that "the norm that goes elsewhere is mentioned" grep -q "'model.norm' goes with 'lm_head'" "$work/err"
run "$phiplan" export 2
expect "export writes JSON by itself" 0 '"policy": "import"'
cp "$work/out" "$work/plan.json"
run "$phiplan" import "$work/plan.json" "$model" --name again --json
expect "what was exported as JSON is imported" 0 '"name": "again"'
units() { python3 -c 'import json, sys; p = json.load(open(sys.argv[1])); print([[d["device"], d["units"]] for d in p["devices"]], p["request"]["ctx"], p["request"]["kv"])' "$1"; }
command -v python3 > /dev/null && equal "with the same units and context" "$(units "$work/plan.json")" "$(units "$work/out")"
run "$BUILD/phirun" "$model" --plan mixed -p Hello -n 8 --greedy
mixed=$out
run "$BUILD/phirun" "$model" --plan default -p Hello -n 8 --greedy
equal "phirun says the same by either plan" "$out" "$mixed"
true_that "and says something" test -n "$mixed"

# ---- refusals ----
echo '{"": 0}' > "$work/bad.json"
run "$phiplan" import "$work/bad.json" "$model"
expect "a device that is not here is named" 2 "no device '0'"
echo '{"": "cpu", "model.layers.0.self_attn.o_proj": "cpu1"}' > "$work/bad.json"
run "$phiplan" import "$work/bad.json" "$model"
expect "a torn layer is refused with its keys" 2 "'model.layers.0.self_attn.o_proj' is on cpu1 and 'model.layers.0.self_attn.qkv_proj' on cpu"
echo '{"": "cpu", "model.layers.1": "disk"}' > "$work/bad.json"
run "$phiplan" import "$work/bad.json" "$model"
expect "disk is refused with the reason" 2 "on disk (key 'model.layers.1')"
echo '{"": "cpu", "model.layers.3": "cpu1"}' > "$work/bad.json"
run "$phiplan" import "$work/bad.json" "$model"
expect "a map of a larger model is refused" 2 "'model.layers.3'"
echo 'not JSON' > "$work/bad.json"
run "$phiplan" import "$work/bad.json" "$model"
expect "what is no JSON is refused" 2 "bad.json"
run "$phiplan" import "$work/nothing.json" "$model"
expect "a file that is not there fails" 1 "nothing.json"
run "$phiplan" import "$work/map.json" "$model" --policy fill
expect "a map and a policy are one too many" 2 "leave one out"
run "$phiplan" import "$work/map.json"
expect "import wants a model" 2 "import wants a FILE"
run "$phiplan" "$model" --policy hf-sequential --max-memory 0=8GiB,cpu=24GiB
expect "devices that are not here are for a dry run" 2 "--dry-run --format accelerate"
run "$phiplan" "$model" --policy hf-sequential --max-memory cpu=100KB
expect "what fits nowhere is refused" 2 "on disk"
run "$phiplan" list --format accelerate
expect "a list is no map" 2 "--format accelerate is for plans"
run "$phiplan" export --format table
expect "a table is not exported" 2 "phiplan show"
run "$phiplan" export 77
expect "there is no plan 77" 3
finish
