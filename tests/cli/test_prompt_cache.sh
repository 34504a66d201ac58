#!/bin/sh
# --prompt-cache: the same text, through other plans, other prompts, damage and kills.
. tests/cli/tap.sh

export POCL_DEVICES="pthread basic"
phiplan=$BUILD/phiplan phirun=$BUILD/phirun model=$(data models/phi3-tiny)
cache=$work/cache.kv
reused() { sqlite3 :memory: "select json_extract(readfile('$work/out'), '$.cached_tokens')"; }
long='one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen'
long="$long $long $long"

run "$phiplan" "$model" --ctx 512 --devices cpu0
expect "phiplan makes a plan" 0
run "$phiplan" "$model" --ctx 384 --name other --devices cpu0,cpu1 --pin 'attn.*=cpu1' --pin 'ffn.*=cpu0'
expect "and one on two devices" 0
run "$phirun" "$model" --raw -p "$long" -n 12
cp "$work/out" "$work/plain"
same() { cmp -s "$work/plain" "$work/out" && pass "$1" || fail "$1" "$(cat "$work/out")" "$err"; }
run "$phirun" "$model" --raw -p "$long" -n 12 --prompt-cache "$cache"
same "the text is the same where the cache is made"
run "$phirun" "$model" --raw -p "$long" -n 12 --prompt-cache "$cache"
same "and where it is used"
equal "without a word" "" "$err"
run "$phirun" "$model" --raw -p "$long" -n 12 --prompt-cache "$cache" --plan other --json
sqlite3 :memory: "select json_extract(readfile('$work/out'), '$.sequences[0].text')" > "$work/text"
true_that "and by a plan on two devices" cmp "$work/plain" "$work/text"
tokens=$(sqlite3 :memory: "select json_extract(readfile('$work/out'), '$.prompt_tokens')")
equal "all but the last token of the prompt are not run again" $((tokens - 1)) "$(reused)"
equal "nor counted as prefill of the plan" cached "$(sqlite3 "$PHI_STORE" 'select kind from run order by id desc limit 1')"
# ---- files that cannot be used
warned() { # NAME TEXT: the last run had the plain text, exit 0 and one warning with TEXT
    same "$1"
    expect "$1: told" 0 "$2"
    equal "$1: once" 1 "$(grep -c . "$work/err")"
}
for size in 5 2000; do
    head -c $size "$cache" > "$work/cut.kv"
    run "$phirun" "$model" --raw -p "$long" -n 12 --prompt-cache "$work/cut.kv"
    warned "a cache of $size bytes is ignored" "is damaged"
    run "$phirun" "$model" --raw -p "$long" -n 12 --prompt-cache "$work/cut.kv" --json
    true_that "and made again" test "$(reused)" -gt 50
done
echo "my notes" > "$work/notes"
run "$phirun" "$model" --raw -p "$long" -n 12 --prompt-cache "$work/notes"
warned "a file of something else is ignored" "no prompt cache"
equal "and stays" "my notes" "$(cat "$work/notes")"
run "$phirun" "$model" --raw -p "$long" -n 12 --prompt-cache "$work/nowhere/cache.kv"
warned "a folder that is not there" "not kept"
run "$phirun" "$model" --raw -p "$long" -n 12 --prompt-cache /dev/full
warned "a device" "not a regular file"
cp -r "$model" "$work/otherwise"
echo >> "$work/otherwise/config.json"
run "$phiplan" "$work/otherwise" --ctx 256 --devices cpu0
run "$phirun" "$work/otherwise" --raw -p "$long" -n 12 --prompt-cache "$cache"
warned "the cache of another model" "another model"

# ---- killed while it writes
printf 'half a file' > "$cache.phi-part"
run "$phirun" "$model" --raw -p "$long" -n 1 --prompt-cache "$cache"
true_that "what a killed run left is cleared" test ! -e "$cache.phi-part"
tries=0
while [ $tries -lt 4 ]; do
    tries=$((tries + 1))
    "$phirun" "$model" --raw -p "$tries $long" -n 1 --prompt-cache "$cache" > /dev/null 2>> "$work/kills" &
    child=$!
    sleep 0.0$((2 * tries))
    kill -9 $child 2> /dev/null
    wait $child 2> /dev/null
done
run "$phirun" "$model" --raw -p "$long" -n 12 --prompt-cache "$cache"
same "after kill -9 the text is right"
equal "the cache whole" "" "$err$(cat "$work/kills")"
equal "and alone" 1 "$(ls "$cache"* | wc -l)"

# ---- an answer that crosses LongRoPE's switch: at its end the prompt's keys are other ones
longrope=$(data models/phi3-tiny-longrope)
ids=$(seq -s , 5 7 285)
run "$phiplan" "$longrope" --ctx 256 --devices cpu0
run "$phirun" "$longrope" --ids "$ids" -n 30 --ignore-eos
cp "$work/out" "$work/plain"
run "$phirun" "$longrope" --ids "$ids" -n 30 --ignore-eos --prompt-cache "$work/long.kv"
same "an answer across LongRoPE's switch is the same with a cache"
run "$phirun" "$longrope" --ids "$ids" -n 30 --ignore-eos --prompt-cache "$work/long.kv" -v
same "and from it"
expect "which has the prompt as it was before the switch" 0 "prompt cache: 40 more tokens"

# ---- a conversation
printf 'Hello there\nAnd more\n' > "$work/lines"
run sh -c '"$@" < "$0"' "$work/lines" "$phirun" chat "$model" -n 8
cp "$work/out" "$work/plain"
run sh -c '"$@" < "$0"' "$work/lines" "$phirun" chat "$model" -n 8 --prompt-cache "$work/chat.kv"
same "a conversation is the same with a cache"
printf 'Hello there\n/stats\nAnd more\n' > "$work/lines"
run sh -c '"$@" < "$0"' "$work/lines" "$phirun" chat "$model" -n 8 --prompt-cache "$work/chat.kv"
same "and when it is begun again"
expect "which runs one token of the first prompt" 0 "prompt tokens, 1 of them new"
finish
