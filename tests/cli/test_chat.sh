#!/bin/sh
# phirun chat, through a pipe and through a pseudo-terminal.
. tests/cli/tap.sh

export POCL_DEVICES=pthread TERM=xterm NO_COLOR=
pipe=
phiplan=$BUILD/phiplan phirun=$BUILD/phirun model=$(data models/phi3-tiny)
demo=build/models/SmolLM2-135M-Instruct.Q4_1.gguf
json() { sqlite3 :memory: "select json_extract(readfile('$1'), '$2')"; }
talk() { printf '%s\n' "$@" > "$work/lines"; run sh -c '"$@" < "$0"' "$work/lines" "$phirun" chat "$model" --exact -n 8; }
# terminal STEPS...: phirun chat with $arguments, driven by tests/tools/terminal.py with $pipe
terminal() { printf '%s\n' "$@" > "$work/steps"; run python3 tests/tools/terminal.py $pipe "$phirun" chat "$model" $arguments < "$work/steps"; }

run "$phirun" chat
expect "chat without a model is wrong usage" 2 "phirun chat MODEL"
run "$phirun" chat --help
expect "chat has its own help" 0 "--system"
run "$phiplan" "$model" --ctx 128
expect "phiplan makes a plan" 0

# ---- a pipe: one line, one turn
run "$phirun" "$model" --exact -n 8 -p 'Hello there'
single=$out
talk 'Hello there'
expect "a line is a turn" 0
equal "its answer is that of a single prompt" "$single" "$out"
talk 'Hello there' 'And more'
printf '[{"role":"user","content":"Hello there"},{"role":"assistant","content":%s},{"role":"user","content":"And more"}]' \
    "$(sqlite3 :memory: "select json_quote('$(printf %s "$single" | sed "s/'/''/g")')")" > "$work/messages"
second=$(tail -n +2 "$work/out")
run "$phirun" template "$model" --messages "$work/messages"
printf %s "$out" > "$work/rendered"
ids=$("$phirun" tokenize "$model" -f "$work/rendered" --json > "$work/ids"; json "$work/ids" '$.ids' | tr -d '[]')
run "$phirun" "$model" --exact -n 8 --ids "$ids"
equal "the second answer is that of the whole conversation, run from nothing" "$second" "$out"

talk 'Hello there' '/regen' '/undo' '/undo'
equal "/regen gives the greedy answer again" "$single
$single" "$out"
expect "/undo takes it back, and says when nothing is left" 0 "nothing to undo"
talk 'Hello there' '/set temperature 2' '/set seed 5' '/regen' '/set seed 5' '/regen' '/regen' '/set temperature default' '/regen'
true_that "/set temperature changes the answer" test "$(sed -n 1p "$work/out")" != "$(sed -n 2p "$work/out")"
equal "/set seed repeats it" "$(sed -n 2p "$work/out")" "$(sed -n 3p "$work/out")"
true_that "the next answer has the next seed" test "$(sed -n 3p "$work/out")" != "$(sed -n 4p "$work/out")"
equal "default takes a setting back" "$single" "$(sed -n 5p "$work/out")"
mkfifo "$work/fifo"
talk '/set temperature warm' '/set nonsense 1' '/set db x' '/nonsense' '/save' "/save $work/fifo" '/load /nowhere/x' '//help'
expect "mistakes are told and do not end it" 0 "no command '/nonsense'"
equal "each of them" 7 "$(grep -c '^phirun: ' "$work/err")"
true_that "what is no file is not replaced" test -p "$work/fifo"
equal "// is a question, nothing else answers" 1 "$(grep -c . "$work/out")"

talk '/system Be brief' '/system' '/system none' '/system'
equal "/system says what it did" "(the system message is set)
(Be brief)
(there is no system message)
(there is no system message)" "$err"
talk '/system Be brief' 'Hello there' "/save $work/talk.json" '/reset' '/stats'
expect "/save says what it wrote" 0 "3 messages saved"
equal "the file has the system message" "Be brief" "$(json "$work/talk.json" '$.messages[0].content')"
equal "and the answer" "$(head -1 "$work/out")" "$(json "$work/talk.json" '$.messages[2].content')"
expect "/reset keeps the system message" 0 "(1 messages"
first=$(head -1 "$work/out")
talk "/load $work/talk.json" /regen
equal "/load goes on with it" "$first" "$out"
echo mine > "$work/bytes.json.part"
talk "$(printf 'caf\351')" "/save $work/bytes.json"
equal "bytes that are no UTF-8 do not stop it" "caf�" "$(json "$work/bytes.json" '$.messages[0].content')"
equal "files with other names stay as they are" mine "$(cat "$work/bytes.json.part")"
printf '{"messages":[{"role":"user"}]}' > "$work/bad.json"
talk 'Hello there' "/load $work/bad.json" '/stats'
expect "a file without content is refused" 0 "needs a role and a content"
expect "and the conversation stays" 0 "(2 messages"

# ---- the context fills up
long='one two three four five six seven eight nine ten'
talk "/system $long" "$long" "$long" "$long" "$long" '/stats' "/save $work/full.json"
expect "a full context is announced" 0 "the context of 128 tokens is full: the oldest"
equal "the system message stays" "$long" "$(json "$work/full.json" '$.messages[0].content')"
equal "every question was answered" 4 "$(grep -c . "$work/out")"
talk "$long $long $long $long $long $long $long $long $long" 'Hello there'
expect "a message larger than the context is told, with the command" 0 "phiplan"
equal "and the next is answered" "$single" "$out"

# ---- a terminal
arguments='--exact -n 8'
terminal 'await > ' 'send Hello there' 'await > ' 'send /regen' 'await > ' 'keys 04' end
expect "Ctrl-D ends" 0
equal "both answers are shown" 2 "$(grep -cF -- "$(printf %s "$single" | cut -c 1-20)" "$work/out")"
terminal 'await > ' 'send /stats' 'await 0 messages' 'await > ' 'keys 1b5b41' 'await /stats' 'keys 0d' 'await 0 messages' 'send /exit' end
expect "the arrow brings a line back, /exit ends" 0
terminal 'await > ' 'keys 486558017f6c04' 'keys 03' 'await Ctrl-D or /exit ends' 'await > ' 'send /exit' end
expect "Ctrl-C at the prompt ends nothing" 0
terminal 'await > ' 'send Hello \' 'await   ' 'send there' 'await > ' 'send /stats' 'await 2 messages' 'send /exit' end
expect "a backslash goes on in the next line" 0
terminal 'await > ' 'signal TERM' end
expect "SIGTERM ends with 143" 143
equal "of the prompt the mark is coloured, and nothing after it" "$(printf '\033[1;32m>\033[0m ')" \
    "$(tr '\r' '\n' < "$work/out" | grep -m 1 '>')"
true_that "colours on a terminal" grep -q "$(printf '\033\\[2m')" "$work/out"
NO_COLOR=1
terminal 'await > ' 'send /exit' end
expect "no colours with NO_COLOR" 0
true_that "none at all" test -z "$(grep "$(printf '\033\\[2m')" "$work/out")"
NO_COLOR=

# An answer that would take long is stopped, the program goes on.
cp -r "$model" "$work/phi3-tiny"
model=$work/phi3-tiny
sed -i 's/_position_embeddings": 512/_position_embeddings": 8192/' "$model/config.json"
run "$phiplan" "$model" --ctx 8192
expect "a plan with room for a long answer" 0
arguments='--ignore-eos'
terminal 'await > ' 'send Hello there' 'keys 0a' 'await there' 'await e' 'keys 03' 'await stopped' 'await > ' 'send /stats' 'await 2 messages' \
    'send /undo' 'await 0 messages' 'send /exit' end
expect "Ctrl-C stops the answer and not the program" 0

# ---- a signal while text is written: nobody reads it, so that phirun waits in write()
pipe="--pipe $work/piped"
terminal 'await > ' 'send Hello there' rest 'signal INT' 'pause 0.2' flow 'await stopped' 'await > ' "send /save $work/cut.json" \
    'await 2 messages' 'send /exit' end
expect "it ends the answer, not the program" 0
true_that "what was being written is not lost" test -s "$work/piped"
equal "and all of the answer came through" "$(json "$work/cut.json" '$.messages[1].content')" "$(cat "$work/piped")"
pipe=
yes 'The quick brown fox jumps over the lazy dog.' | head -400 > "$work/long"
printf '%s\n' rest 'signal INT' 'pause 0.2' flow end > "$work/steps"
run python3 tests/tools/terminal.py --pipe "$work/piped" "$phirun" tokenize "$model" -f "$work/long" < "$work/steps"
expect "other results are written to their end, too" 130
true_that "as without a signal" sh -c '"$@" | cmp - "$0"' "$work/piped" "$phirun" tokenize "$model" -f "$work/long"

# ---- the demo model
model=$demo arguments='-n 24'
if [ -e "$demo" ]; then
    run "$phiplan" "$demo" --ctx 512
    terminal 'await > ' 'send My name is Anna. What is the capital of Italy?' 'await > ' 'send /exit' end
    expect "the demo model talks" 0 "Rome"
    printf '{"type": "object", "properties": {"name": {"type": "string", "maxLength": 9}, "age": {"type": "integer", "minimum": 1, "maximum": 20}}, "required": ["name", "age"]}' > "$work/schema"
    run "$phirun" "$demo" -p 'Describe a dog as JSON.' --json-schema "$work/schema" --temperature 1.5 --seed 5 -n 100
    equal "and writes JSON, hot as it is" "1 1" "$(sqlite3 :memory: "select json_valid(readfile('$work/out')) || ' ' || (json_extract(readfile('$work/out'), '$.age') between 1 and 20)")"
else
    skip_test "the demo model talks" "no $demo; make demo-model fetches it"
fi
finish
