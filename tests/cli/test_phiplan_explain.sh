#!/bin/sh
# What phiplan says about its plans: check, why, diff, simulated machines, pictures.
. tests/cli/tap.sh
phiplan=$BUILD/phiplan phirun=$BUILD/phirun

run "$phiplan" check
expect "without a plan there is nothing to check" 3

# ---- devices that are not here ----
mkdir -p "$work/phi3"
cat > "$work/phi3/config.json" <<'JSON'
{"architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "hidden_size": 3072, "intermediate_size": 8192,
 "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32064,
 "max_position_embeddings": 131072, "original_max_position_embeddings": 4096, "rms_norm_eps": 1e-05,
 "rope_theta": 10000.0, "rope_scaling": null, "sliding_window": 262144, "hidden_act": "silu", "tie_word_embeddings": false,
 "bos_token_id": 1, "eos_token_id": 32000, "pad_token_id": 32000, "torch_dtype": "float16"}
JSON
workload() { sed -n 's/.* workload \([0-9.]*\) s$/\1/p' "$work/out" | head -1; }
run "$phiplan" "$work/phi3" --simulate docs/two_cards.json
expect "a plan for simulated devices is made" 0 "gpu0"
expect "and says what it is" 0 "for devices that are described, not here"
expect "and why it is not kept" 0 "none: one for simulated devices is not saved"
true_that "and leaves the slow device out" grep -q "^cpu0    nothing: not needed" "$work/out"
fastest=$(workload)
run "$phiplan" "$work/phi3" --simulate docs/two_cards.json --policy hf-balanced --max-memory 0=8GiB,1=3GiB,cpu=24GiB
expect "Accelerate's map overflows the second card once there is KV" 1 "puts 3.64 GiB on 'gpu1' with KV and scratch"
for policy in fill balanced hf-sequential hf-balanced; do
    run "$phiplan" "$work/phi3" --simulate docs/two_cards.json --policy $policy --max-memory 0=6GiB,1=2GiB,cpu=24GiB
    true_that "no policy beats the search: $policy takes $(workload) s, fastest $fastest s" \
        awk "BEGIN { exit !($(workload) + 0 >= $fastest) }"
done
true_that "nothing is stored" [ ! -e "$PHI_STORE" ]
run "$phiplan" "$work/phi3" --simulate docs/two_cards.json --json
expect "simulated plans have no hardware key" 0 '"hardware_key": null'
cat > "$work/four.json" <<'JSON'
{"host_memory": "12GiB", "devices": [{"type": "gpu", "memory": "3GiB"}, {"type": "gpu", "memory": "2GiB", "decode_bytes_per_s": 90e9},
 {"type": "igpu", "memory": "8GiB"}, {"type": "cpu", "memory": "12GiB"}]}
JSON
case $BUILD in
*-san) skip_test "Phi-3-mini on four devices is planned within 100 ms" "a build with sanitizers is slower" ;;
*) cpu_ms 20 100 "$phiplan" "$work/phi3" --simulate "$work/four.json"
   true_that "Phi-3-mini on four devices is planned within 100 ms ($best ms)" test "$best" -lt 100 ;;
esac
run "$phiplan" "$work/phi3" --simulate docs/two_cards.json --format svg
expect "a plan is drawn" 0 "</svg>"
if command -v xmllint > /dev/null; then true_that "the drawing is sound XML" xmllint --noout "$work/out"; fi
if command -v rsvg-convert > /dev/null; then
    true_that "and can be rendered" rsvg-convert "$work/out" -o "$work/out.png"
fi
run "$phiplan" "$work/phi3" --simulate docs/two_cards.json --slices off --format dot
expect "a plan is a graph" 0 '"gpu1" -> "gpu0"'
bad() { echo "$2" > "$work/bad.json"; run "$phiplan" "$work/phi3" --simulate "$work/bad.json"; expect "$1" 2 "$3"; }
bad "an unknown key is named" '{"devices": [{"type": "gpu", "memory": "1GiB", "speed": 1}]}' "no key 'speed'"
bad "an unknown type is named" '{"devices": [{"type": "tpu", "memory": "1GiB"}]}' "not 'tpu'"
bad "a rate must be above 0" '{"devices": [{"type": "gpu", "memory": "1GiB", "launch_s": -1}]}' "no number above 0"
bad "a device has memory" '{"devices": [{"type": "gpu"}]}' "has no 'memory'"
bad "there are devices" '{"devices": []}' "describes 0 'devices'"
run "$phiplan" "$work/phi3" --simulate "$work/nothing.json"
expect "a file that is not there is named" 1 "nothing.json"
run "$phiplan" list --simulate docs/two_cards.json
expect "only plans are simulated" 2 "--simulate is for"

# ---- plans on this machine ----
export POCL_DEVICES="pthread basic"
model=$(data models/phi3-tiny)
run "$phiplan" devices --json
if [ -z "$model" ] || ! grep -q '"usable": true' "$work/out"; then
    skip_test "predictions are compared with runs" "no usable OpenCL device, or no models/phi3-tiny"
    finish
fi
two=$(grep -c '"usable": true' "$work/out")
run "$phiplan" "$model" --ctx 256 --devices cpu0
expect "a plan is made" 0 "plan       1 'default'"
run "$phiplan" check
expect "a plan that never ran cannot be checked" 1 "no run to compare with yet"
run "$phirun" bench "$model" -p 64 -n 32 -r 4
expect "a bench is recorded" 0 "pp64"
if command -v sqlite3 > /dev/null; then
    equal "each repetition is a run" 8 "$(sqlite3 "$PHI_STORE" "select count(*) from run where kind = 'bench'")"
fi
run "$phiplan" check --dry-run --json
expect "a dry check shows and keeps nothing" 0 '"phase": "decode"'
before=$(sqlite3 "$PHI_STORE" "select count(*) from probe where what like 'fit.%'" 2> /dev/null)
run "$phiplan" check
expect "predictions are compared with runs" 0 "now predicted"
if command -v sqlite3 > /dev/null; then
    equal "a dry check had fitted nothing" 0 "$before"
    equal "the constants are kept" 4 "$(sqlite3 "$PHI_STORE" "select count(*) from probe where what like 'fit.%'")"
    equal "the view agrees with the new predictions within 15 % in the median" 1 "$(sqlite3 "$PHI_STORE" \
        "select abs(avg(decode_error)) < 0.15 from (select decode_error from prediction_error
         where decode_error is not null order by decode_error limit 2 offset 1)")"
fi
predicted() { sed -n 's/^predicted  prefill \([0-9.]*\) tok.*decode \([0-9.]*\) tok.*/\1 \2/p' "$work/out"; }
run "$phiplan" show
shown=$(predicted)
run "$phiplan" "$model" --ctx 256 --devices cpu0 --dry-run
equal "the next plan predicts the same" "$shown" "$(predicted)"
run "$phiplan" why cpu0
expect "a device that holds everything cannot be spared" 0 "without it  there is no other device"
run "$phiplan" why gpu9
expect "a device that the plan does not know is named" 2 "knows no device 'gpu9'"
if [ "$two" -gt 1 ] && "$phiplan" devices --json | grep -q '"device": "cpu1"'; then
    run "$phiplan" "$model" --ctx 256 --policy fill --devices cpu0,cpu1 --max-memory cpu0=2MiB,cpu1=1GiB --name split
    expect "a plan on two devices is made" 0 "cpu1"
    run "$phiplan" why cpu0
    expect "the need of one more block is told" 0 "for one more block with its KV"
    expect "and by how much it is short" 0 "short by    "
    expect "and what doing without it would take" 0 "without it  cpu1 would hold everything"
    run "$phiplan" why 1 cpu1
    true_that "a plan may be named" grep -q "plan 1" "$work/out" "$work/err"
    run "$phiplan" diff 1 2
    expect "two plans are compared" 0 "--policy"
    expect "unit by unit" 0 "elsewhere"
    true_that "with seconds as a plan's table has them" grep -Eq '^workload +[0-9.]+ s +[0-9.]+ s$' "$work/out"
    run "$phiplan" diff default split
    expect "also by their names" 0 "--policy"
    run "$phiplan" diff 1 2 --json
    expect "also as JSON" 0 '"units_moved"'
    run "$phiplan" "$model" --ctx 256 --devices cpu0,cpu1 --max-memory cpu1=10KiB --name alone
    run "$phiplan" why cpu1 --json
    expect "a device that holds nothing says what it needs" 0 '"short_by_bytes"'
    true_that "and is short" sh -c "! grep -q '\"short_by_bytes\": 0' '$work/out'"
    if command -v sqlite3 > /dev/null; then
        equal "what a hop between them takes was measured" 1 \
            "$(sqlite3 "$PHI_STORE" 'select count(*) from link where hop_seconds between 1e-9 and 1')"
    fi
else
    skip_test "two devices are explained" "POCL_DEVICES gives no second device here"
fi
run "$phiplan" export --format svg
expect "a stored plan is drawn" 0 "</svg>"
true_that "with the cost of its hops" grep -q ' ms</text>' "$work/out"
run "$phiplan" export --format dot
expect "or written as a graph" 0 "digraph plan"
run "$phirun" "$model" --plan fresh --replan --raw -p hello -n 2
expect "phirun --replan plans where there is no plan" 0 "planning '"
run "$phirun" "$model" --plan fresh --raw -p hello -n 2
true_that "once" sh -c "[ $status -eq 0 ] && ! grep -q planning '$work/err'"
run env POCL_DEVICES=pthread "$phirun" "$model" --plan fresh --raw -p hello -n 2
expect "a stale plan ends with 4" 4 "POCL_DEVICES"
run env POCL_DEVICES=pthread "$phirun" "$model" --plan fresh --replan --raw -p hello -n 2
expect "phirun --replan plans again and runs" 0 "saved"
if command -v sqlite3 > /dev/null; then
    fresh=$(sqlite3 "$PHI_STORE" "select max(id) from plan where name = 'fresh'")
    run "$phirun" "$model" --plan=$fresh --replan --raw -p hello -n 2
    expect "a numbered plan is planned again under its name" 0 "planning '"
    equal "as one of another number" fresh "$(sqlite3 "$PHI_STORE" "select name from plan where id > $fresh")"
    sqlite3 "$PHI_STORE" "update plan set name = '77' where id = 1"
    run "$phiplan" show 77
    expect "a number that is no id may be a name" 0 "plan       1 '77'"
    run "$phirun" "$model" --plan 77 --raw -p hello -n 1
    expect "to phirun, too" 0
    sqlite3 "$PHI_STORE" "update plan set name = 'fresh', hardware_key = printf('%064d', 1) where id = 1"
    run "$phiplan" show fresh
    expect "a name that several plans have is refused with their numbers" 2 ", 1 (phi3-tiny); give one of these numbers"
fi
run "$phiplan" show nothing-of-this-name
expect "what is neither a plan nor a model is said so" 1 "no plan is called so, and as a model: there is no 'nothing-of-this-name'"
run "$phiplan" diff 1 1
expect "a plan is like itself" 0 "are the same"
run "$phiplan" diff 1
expect "diff wants two plans" 2 "diff wants two plans"
run "$phiplan" why
expect "why wants a device" 2 "no DEVICE given"
chmod 500 "$work"; chmod 400 "$PHI_STORE"
if [ "$(id -u)" -ne 0 ]; then
    run "$phiplan" check
    expect "a read-only store is said to be one" 1 "read-only"
fi
chmod 700 "$work"; chmod 600 "$PHI_STORE"
finish
