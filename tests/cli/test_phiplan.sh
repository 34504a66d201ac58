#!/bin/sh
# phiplan as a person uses it: usage, dry runs from headers, plans, the store.
. tests/cli/tap.sh
phiplan=$BUILD/phiplan

# ---- usage ----
run "$phiplan" --help
expect "help goes to standard output" 0 "usage: phiplan"
true_that "help fits 80 columns" awk 'length > 80 { exit 1 }' "$work/out"
run "$phiplan" help
expect "so does the command" 0 "usage: phiplan"
run sh -c "'$phiplan' help > /dev/full"
expect "a full disk is told of" 1 "cannot write to standard output: No space left on device"
run "$phiplan" lst
expect "a mistyped command is no model" 1 "or the command 'list', see phiplan --help"
run "$phiplan" plan lst
true_that "where a model is wanted, none is meant" sh -c "! grep -q command '$work/err'"
run "$phiplan" --version
expect "the version is told" 0 "phiplan"
run "$phiplan"
expect "no model is wrong usage" 2 "no MODEL given"
run "$phiplan" x --no-such-option
expect "an unknown option is wrong usage" 2 "there is no option '--no-such-option'; see phiplan --help"
run "$phiplan" x --verif
expect "an option is typed whole" 2 "there is no option '--verif' (did you mean '--verify'?); see phiplan --help"
run "$phiplan" x --db
expect "a value that is missing is wrong usage" 2 "option '--db' needs a value; see phiplan --help"
run "$phiplan" x --slices some
expect "a word that an option does not know is wrong usage" 2 "--slices takes auto, off, not 'some'"
run "$phiplan" "$work/nothing-here"
true_that "a model that is not there fails" test "$status" -eq 1 -o "$status" -eq 2
run "$phiplan" show
expect "there is no plan in an empty store" 3
run "$phiplan" list
expect "an empty store lists nothing" 0 "no plan is stored yet"

# ---- a dry run needs headers and nothing else ----
# Phi-3-mini's shapes in float16: one real header, 7.6 GB of hole.
huge=$work/huge
mkdir -p "$huge"
cat > "$huge/config.json" <<'JSON'
{"architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "hidden_size": 3072, "intermediate_size": 8192,
 "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32064,
 "max_position_embeddings": 4096, "original_max_position_embeddings": 4096, "rms_norm_eps": 1e-05,
 "rope_theta": 10000.0, "rope_scaling": null, "sliding_window": 2047, "hidden_act": "silu", "tie_word_embeddings": false,
 "bos_token_id": 1, "eos_token_id": 32000, "pad_token_id": 32000, "torch_dtype": "bfloat16"}
JSON
awk 'function tensor(name, rows, columns,    size, shape) {
         size = rows * (columns ? columns : 1) * 2
         shape = columns ? rows "," columns : rows
         printf "%s\"%s\":{\"dtype\":\"BF16\",\"shape\":[%s],\"data_offsets\":[%.0f,%.0f]}", sep, name, shape, at, at + size
         at += size; sep = ","
     }
     BEGIN {
         printf "{"
         tensor("model.embed_tokens.weight", 32064, 3072)
         for (i = 0; i < 32; i++) {
             p = "model.layers." i "."
             tensor(p "input_layernorm.weight", 3072)
             tensor(p "self_attn.qkv_proj.weight", 9216, 3072)
             tensor(p "self_attn.o_proj.weight", 3072, 3072)
             tensor(p "post_attention_layernorm.weight", 3072)
             tensor(p "mlp.gate_up_proj.weight", 16384, 3072)
             tensor(p "mlp.down_proj.weight", 3072, 8192)
         }
         tensor("model.norm.weight", 3072)
         tensor("lm_head.weight", 32064, 3072)
         printf "}"
     }' > "$work/head.json"
length=$(wc -c < "$work/head.json")
# The length of the head: 8 bytes, little-endian.
{ n=$length; for i in 1 2 3 4 5 6 7 8; do printf "\\$(printf %03o $((n % 256)))"; n=$((n / 256)); done
  cat "$work/head.json"; } > "$huge/model.safetensors"
truncate -s $((8 + length + 7642159104)) "$huge/model.safetensors"

limit='ulimit -v 262144;'
case $BUILD in *-san) limit= ;; esac   # the sanitizers' shadow memory alone is larger
run sh -c "$limit '$phiplan' '$huge' --dry-run --json"
expect "a 7.6 GB checkpoint is sized within 256 MiB of address space" 0 '"weight_bytes": 7642159104'
true_that "a dry run shows null for hashes" grep -q '"weights_hash": null' "$work/out"
true_that "a dry run writes nothing" [ ! -e "$PHI_STORE" ]
case $BUILD in
*-san) skip_test "a dry run takes less than 100 ms" "a build with sanitizers is slower" ;;
*) cpu_ms 20 100 "$phiplan" "$huge" --dry-run
   true_that "a dry run takes less than 100 ms ($best ms)" [ "$best" -lt 100 ] ;;
esac
if command -v fincore > /dev/null; then
    resident=$(fincore -nb -o RES "$huge/model.safetensors" | tr -d ' ')
    true_that "no weight page is resident afterwards ($resident bytes are)" [ "$resident" -le 262144 ]
else
    skip_test "no weight page is resident afterwards" "no fincore (util-linux) on this machine"
fi
run "$phiplan" "$huge" --dry-run --max-memory cpu=4GiB
expect "a model that does not fit is told what it needs" 1 "the model does not fit: it needs"
run "$phiplan" "$huge" --dry-run --max-memory cpu=8GiB
expect "a context that would fit is told" 1 "would fit"
run "$phiplan" "$huge" --dry-run --ctx 100000
expect "a context beyond the model's is refused" 2 "--ctx 100000 exceeds"
mkdir -p "$work/only-config"
cp "$huge/config.json" "$work/only-config/"
run "$phiplan" "$work/only-config" --dry-run --json
expect "config.json alone is enough for a dry run" 0 '"weight_bytes": 7642159104'
run "$phiplan" "$work/only-config" --dry-run --json --dtype q4_0
expect "--dtype changes the type of the weights" 0 '"architecture": "phi3"'
run "$phiplan" "$work/only-config"
expect "config.json alone is not enough for a plan" 1

# ---- devices and plans ----
model=$(data models/phi3-tiny)
run "$phiplan" devices --json
expect "the devices are listed" 0 "["
usable=$(grep -c '"usable": true' "$work/out")
if [ -z "$model" ] || [ "$usable" -eq 0 ]; then
    skip_test "a plan is made, stored and shown" "no usable OpenCL device, or no models/phi3-tiny"
    finish
fi
# A disk without room, in a name space of its own.
mkdir -p "$work/full"
if unshare -rm mount -t tmpfs -o size=64k none "$work/full" 2> /dev/null; then
    run unshare -rm sh -c "mount -t tmpfs -o size=64k none '$work/full' && unset POCL_CACHE_DIR &&
        mkdir -p '$work/full/phi/pocl' && { cat /dev/zero > '$work/full/zeros'; true; } 2> /dev/null;
        XDG_CACHE_HOME='$work/full' POCL_DEVICES=basic '$phiplan' '$model' --ctx 128 --db '$work/full.db'"
    expect "a full disk is named where kernels cannot be built" 1 "cannot be written: No space left on device"
else
    skip_test "a full disk is named where kernels cannot be built" "no user name spaces here"
fi
run "$phiplan" "$model" --ctx 128
expect "a plan is made" 0 "plan       1 'default', saved"
run "$phiplan" show --json
expect "the newest plan is shown" 0 '"plan": 1'
key=$(grep -c '"weights_hash": "[0-9a-f]\{64\}"' "$work/out")
equal "a stored plan has its hash" 1 "$key"
run "$phiplan" show "$model"
expect "a plan is found by its model" 0 "phi3-tiny"
measured() { sqlite3 "$PHI_STORE" "select count(*), max(measured), min(measured) from probe" 2> /dev/null; }
before=$(measured)
run "$phiplan" "$model" --ctx 64 --name short --json
expect "a second name is a second plan" 0 '"name": "short"'
equal "what was measured once is not measured again" "$before" "$(measured)"
run "$phiplan" list --json
equal "both are listed" 2 "$(grep -c '"plan":' "$work/out")"
run "$phiplan" "$model" --ctx 96
run "$phiplan" list
equal "a new plan of the same name supersedes the old" 2 "$(grep -c phi3-tiny "$work/out")"
run "$phiplan" show 1
expect "and the old one says so" 0 "superseded by plan 3, which phirun uses instead"
run "$phiplan" show 3
true_that "the new one does not" sh -c "! grep -q superseded '$work/out'"
run sh -c "'$phiplan' list > /dev/full"
expect "a full disk is told of here, too" 1 "cannot write to standard output: No space left on device"
run "$phiplan" rm 2
expect "a plan can be removed" 0 "removed plan 2"
run "$phiplan" show 2
expect "and is gone" 3
run "$phiplan" "$model" --dry-run
expect "a dry run uses the devices of the last survey" 0 "none: a dry run saves nothing"
true_that "they are not assumed ones" sh -c "! grep -q assumed '$work/out'"
if command -v sqlite3 > /dev/null; then
    sum=$(sqlite3 "$PHI_STORE" "select sum(weight_bytes) from shard where plan = (select max(id) from plan)")
    whole=$(sqlite3 "$PHI_STORE" "select model_weight_bytes from plan order by id desc limit 1")
    equal "the shards of a plan add up to the model" "$whole" "$sum"
else
    skip_test "the shards of a plan add up to the model" "no sqlite3 program"
fi
run "$phiplan" "$model" --db "$work/other.db" --ctx 64
expect "--db names another store" 0 "plan       1 'default'"
if command -v sqlite3 > /dev/null; then
    sqlite3 "$work/other.db" "update plan set model_name = char(27) || '[31mred'"
    cp "$work/other.db" "$work/others.db"
    run "$phiplan" rm 1 --db "$work/others.db"
    expect "a plan with such a name can be removed" 0 "of ?[31mred"
    sqlite3 "$work/other.db" "update plan set unit_count = 0"
    run "$phiplan" list --db "$work/other.db"
    expect "a name from another's store is listed" 0 "?[31mred"
    equal "and does not steer the terminal" 0 "$(tr -dc '\033' < "$work/out" | wc -c)"
    run timeout 30 "$phiplan" show --db "$work/other.db"
    expect "a plan that cannot be is refused at once" 1 "has 0 units"
    run "$phiplan" rm 1 --db "$work/other.db"
    expect "but it can be removed" 0 "removed plan 1"
fi
run "$phiplan" "$model" --devices gpu77
expect "a device that is not there is named" 2 "no device 'gpu77'"
echo "not a database, but long enough to be read as one ................................" > "$work/bad.db"
run "$phiplan" "$model" --db "$work/bad.db"
expect "a damaged store is refused" 1
equal "and left as it was" "not a database" "$(head -c 14 "$work/bad.db")"

# ---- two devices on one CPU ----
export POCL_DEVICES="pthread basic"
run "$phiplan" devices --json
if [ "$(grep -c '"usable": true' "$work/out")" -lt 2 ] || ! grep -q '"device": "cpu1"' "$work/out"; then
    skip_test "a model is split over two devices" "POCL_DEVICES gives no second device here"
    finish
fi
run "$phiplan" "$model" --ctx 64 --micro-batch 16 --policy fill --devices cpu0,cpu1 --max-memory cpu0=2MiB,cpu1=1GiB --json
expect "a model is split over two devices" 0 '"device": "cpu1"'
first=$(sqlite3 "$PHI_STORE" "select count(*) from shard where device = 'cpu0' and plan = (select max(id) from plan)" 2> /dev/null)
second=$(sqlite3 "$PHI_STORE" "select count(*) from shard where device = 'cpu1' and plan = (select max(id) from plan)" 2> /dev/null)
if command -v sqlite3 > /dev/null; then
    true_that "both hold units ($first and $second)" test "$first" -gt 0 -a "$second" -gt 0
    equal "the devices were measured together, once" 1 "$(sqlite3 "$PHI_STORE" 'select count(*) from link')"
fi
run "$phiplan" "$model" --ctx 64 --pin 'ffn.*=cpu1' --pin '*.0=cpu0' --json
expect "units go where they are pinned" 0 '"ffn.1"'
run "$phiplan" "$model" --ctx 64 --devices cpu0 --max-memory cpu0=1MiB
expect "a device that is too small is told" 1 "cpu0"
run timeout --preserve-status -s INT 0.3 "$phiplan" "$model" --probe
expect "Ctrl-C ends a probe with 130" 130
run timeout --preserve-status -s TERM 0.3 "$phiplan" "$model" --probe
expect "SIGTERM ends it with 143" 143
finish
