#!/bin/sh
# A golden conversation: what the terminal shows of phirun chat, from the first word to the last.
# usage: tests/cli/test_conversation.sh            WRITE=1 makes the golden file again
. tests/cli/tap.sh

export POCL_DEVICES=pthread TERM=dumb NO_COLOR=1
phiplan=$BUILD/phiplan phirun=$BUILD/phirun model=$work/phi3-tiny
golden=tests/data/goldens/chat/conversation.txt

# With room for an answer that Ctrl-C has to stop.
cp -r "$(data models/phi3-tiny)" "$model"
sed -i 's/_position_embeddings": 512/_position_embeddings": 8192/' "$model/config.json"
run "$phiplan" "$model" --ctx 2048
expect "phiplan makes a plan" 0

# More than the context takes, in turns, after a system message.
python3 - "$work/long.json" <<'MAKE'
import json, sys
turns = [{"role": "system", "content": "Be brief."}]
for i in range(60):
    turns.append({"role": "user", "content": "Question %d. " % i + "one two three four five " * 4})
    turns.append({"role": "assistant", "content": "Answer %d." % i})
json.dump({"messages": turns}, open(sys.argv[1], "w"))
MAKE

{   printf 'await > \n'
    turn() { printf 'send %s\nawait > \n' "$1"; }
    turn '/system Be brief.'
    turn 'Hello there'
    turn 'And more'
    turn '/regen'
    turn '/undo'
    turn 'Tell me a story'
    turn "/save $work/talk.json"
    turn '/reset'
    turn "/load $work/talk.json"
    turn '/regen'
    turn '/set max-new-tokens 100000'
    printf 'send Go on\nawait Go on\nawait e\nkeys 03\nawait (stopped)\nawait > \n'
    turn '/undo'
    turn '/set max-new-tokens 8'
    turn "/load $work/long.json"
    turn 'What was the first question?'
    turn '/nonsense'
    turn 'Thank you'
    turn "/save $work/end.json"
    printf 'send /exit\nend\n'
} > "$work/steps"
run python3 tests/tools/terminal.py "$phirun" chat "$model" --exact --ignore-eos -n 8 < "$work/steps"
expect "the conversation comes to its end" 0
# As it stands on the screen, without what cannot be the same twice.
tr -d '\r' < "$work/out" | sed -e "s,$work,WORK,g" -e "s/^$(printf '\033')\[Kphirun: hashing.*$(printf '\033')\[K//" | sed -e '/^> Go on$/,/(stopped)$/c\
> Go on\
...(stopped)' > "$work/shown"
[ -n "$WRITE" ] && cp "$work/shown" "$golden"
if cmp -s "$golden" "$work/shown"; then pass "and is the golden one"
else fail "and is the golden one" "$(diff "$golden" "$work/shown")"; fi

# The golden answers are those of runs from nothing.
message() { sqlite3 :memory: "select json_extract(readfile('$work/$1'), '\$.messages[$2].content')"; }
answer() { # messages of talk.json before the one to come
    sqlite3 :memory: "select json_group_array(json(value)) from (select value from json_each(readfile('$work/talk.json'), '\$.messages') limit $1)" > "$work/messages"
    "$phirun" template "$model" --messages "$work/messages" > "$work/rendered"
    "$phirun" tokenize "$model" -f "$work/rendered" --json > "$work/ids"
    "$phirun" "$model" --exact --ignore-eos -n 8 --ids "$(sqlite3 :memory: "select json_extract(readfile('$work/ids'), '\$.ids')" | tr -d '[]')"
}
equal "the first answer is that of a run from nothing" "$(message talk.json 2)" "$(answer 2)"
equal "so is the one after /undo" "$(message talk.json 4)" "$(answer 4)"
equal "the full context kept the system message" "Be brief." "$(message end.json 0)"
equal "and the last question" "Thank you" "$(message end.json '#-2')"
finish
