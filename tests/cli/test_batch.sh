#!/bin/sh
# phirun batch: prompts and results as lines of JSON, through kills and mistakes.
. tests/cli/tap.sh

export POCL_DEVICES=pthread
phiplan=$BUILD/phiplan phirun=$BUILD/phirun model=$(data models/phi3-tiny)
line() { sed -n "${2}p" "$1" > "$work/one"; sqlite3 :memory: "select json_extract(readfile('$work/one'), '$3')"; }

run "$phirun" batch "$model" "$work/in"
expect "batch needs an output" 2 "-o FILE"
run "$phiplan" "$model" --ctx 256
expect "phiplan makes a plan" 0
cat > "$work/in" <<'LINES'
{"prompt": "Hello there", "max_new_tokens": 8, "id": "a"}
{"messages": [{"role": "user", "content": "Hello there"}], "max_new_tokens": 8}

{"prompt": "broken"
{"prompt": "Hello there", "temperature": -1}
{"nothing": null}
{"prompt": "Hello there you", "max_new_tokens": 4, "num_beams": 3, "num_return_sequences": 2}
{"prompt": "Hello again"}
LINES
run "$phirun" "$model" --exact -p 'Hello there' -n 8
single=$out
run "$phirun" "$model" --exact -p 'Hello again' -n 5
last=$out
run "$phirun" batch "$model" "$work/in" -o "$work/out1" --exact -n 5
expect "bad lines do not end it, and are told at its end" 1 "3 of 7 lines failed; see '$work/out1'"
equal "one result a line that holds something" 7 "$(wc -l < "$work/out1")"
equal "in order" "1 2 4 5 6 7 8" "$(sqlite3 :memory: "select group_concat(json_extract(value, '$.line'), ' ') from json_each('[' || (select replace(trim(readfile('$work/out1'), char(10)), char(10), ',')) || ']')")"
equal "the text is that of a single prompt" "$single" "$(line "$work/out1" 1 '$.text')"
equal "so it is for messages" "$single" "$(line "$work/out1" 2 '$.text')"
equal "the id comes back" a "$(line "$work/out1" 1 '$.id')"
for n in 3 4 5; do true_that "line $n of the results is an error" test -n "$(line "$work/out1" $n '$.error')"; done
equal "a line's beams give all their sequences" 2 "$(line "$work/out1" 6 '$.sequences[#-1]' > /dev/null; sqlite3 :memory: "select json_array_length(readfile('$work/one'), '$.sequences')")"
equal "the last has the option of the command" "$last" "$(line "$work/out1" 7 '$.text')"
true_that "a mistake in the JSON is, with its line and column" grep -q "line 4 of '$work/in' is not valid JSON: column " "$work/out1"
true_that "an unknown key is named, with its line" grep -q "line 6 has the unknown key 'nothing'" "$work/out1"
{ printf '{"prompt": "Hello there", "max_new_tokens": 8'
    "$phirun" batch --help | sed -n '/How to generate/,$s/.* --\([a-z-]*\) .*/\1/p' | grep -v '^max-new-tokens$' | tr '-' '_' | sed 's/.*/, "&": null/' | tr -d '\n'
    echo '}'; } > "$work/null"
true_that "every option is a key" test "$(tr ',' '\n' < "$work/null" | wc -l)" -gt 24
run "$phirun" batch "$model" "$work/null" -o "$work/out3" --exact
equal "every option is a key of a line, and null is as if it were not there" "$single" "$(line "$work/out3" 1 '$.text')"

run sh -c 'cd "$1" && shift && exec "$@" < in' sh "$work" "$phirun" batch "$(cd "$model" && pwd)" - -o - --exact -n 5
expect "- is standard input, and standard output" 1 "3 of 7 lines failed; see their results"
sed "s,of '$work/in',of '-'," "$work/out1" > "$work/one"
true_that "with the results of a file" cmp "$work/out" "$work/one"
true_that "in none of that name" test ! -e "$work/-"

# ---- again
cp "$work/out1" "$work/out2"
run "$phirun" batch "$model" "$work/in" -o "$work/out2" --exact -n 5
expect "what is done is not done again, nor forgotten" 1 "7 of 7 results, 3 of them failed; nothing is left"
cmp -s "$work/out1" "$work/out2" && pass "and stays as it is" || fail "and stays as it is"
head -c 300 "$work/out1" > "$work/out2"
run "$phirun" batch "$model" "$work/in" -o "$work/out2" --exact -n 5
cmp -s "$work/out1" "$work/out2" && pass "a torn line is made again" || fail "a torn line is made again" "$(cat "$work/out2")"
cp "$work/out1" "$work/out2"
printf '{"line":8,"in' >> "$work/out2"
cp "$work/out2" "$work/before"
printf 'User: {prompt}' > "$work/form"
for other in '-n 6' '-n 5 --raw' '-n 5 --temperature 1' '-n 5 --ignore-eos' '-n 5 --system Brief' "-n 5 --template $work/form" '-n 5 --plan other'; do
    run "$phirun" batch "$model" "$work/in" -o "$work/out2" --exact $other
    expect "results of other options are not gone on from: $other" 2 "'$work/out2' were made with another model, plan or options"
done
run "$phirun" batch "$model" "$work/in" -o "$work/out2" -n 5
expect "nor those of another arithmetic" 2 "were made with"
true_that "and nothing of them is lost" cmp "$work/before" "$work/out2"
cp "$work/out1" "$work/out2"
sed 's/Hello there/Hello then/' "$work/in" > "$work/changed"
run "$phirun" batch "$model" "$work/changed" -o "$work/out2" --exact -n 5
expect "another input is refused" 2 "results of this input"
printf 'my notes' > "$work/notes"
run "$phirun" batch "$model" "$work/in" -o "$work/notes"
expect "and so is a file of something else" 2 "something else"
equal "which stays" "my notes" "$(cat "$work/notes")"

# ---- killed again and again
i=0
while [ $i -lt 12 ]; do i=$((i + 1)); echo "{\"prompt\": \"Number $i of a list\", \"max_new_tokens\": 60, \"id\": $i}"; done > "$work/many"
run "$phirun" batch "$model" "$work/many" -o "$work/whole" --ignore-eos -v
expect "a run of its own" 0
true_that "prompts run together" grep -q 'prompts at a time: up to [2-8]' "$work/err"
tries=0 : > "$work/killed"
while [ "$(wc -l < "$work/killed")" -lt 12 ] && [ $tries -lt 40 ]; do
    tries=$((tries + 1)) before=$(wc -l < "$work/killed")
    "$phirun" batch "$model" "$work/many" -o "$work/killed" --ignore-eos 2> /dev/null &
    child=$!
    # Give it time for a line or two.
    wait_for=0
    while [ "$(wc -l < "$work/killed")" -lt $((before + 2)) ] && [ $wait_for -lt 500 ] && kill -0 $child 2> /dev/null; do
        sleep 0.02; wait_for=$((wait_for + 1)); done
    kill -9 $child 2> /dev/null
    wait $child 2> /dev/null
done
true_that "it was killed more than once" test $tries -gt 1
cmp -s "$work/whole" "$work/killed" && pass "after kill -9 no line is lost or repeated" || fail "after kill -9 no line is lost or repeated"

# ---- a plan whose memory is just enough for one
sqlite3 "$PHI_STORE" "update plan_device set budget_bytes = weight_bytes + kv_bytes + scratch_bytes + staging_bytes"
run "$phirun" batch "$model" "$work/many" -o "$work/tight" --ignore-eos -v
expect "is run one by one" 0 "prompts at a time: up to 1"
cmp -s "$work/whole" "$work/tight" && pass "with the same results" || fail "with the same results"
finish
