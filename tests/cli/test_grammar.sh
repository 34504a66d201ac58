#!/bin/sh
# Constrained output: --grammar and --json-schema through every command that writes text.
. tests/cli/tap.sh

export POCL_DEVICES=pthread NO_COLOR=1
phiplan=$BUILD/phiplan phirun=$BUILD/phirun model=$(data models/phi3-tiny)
valid() { sqlite3 :memory: "select json_valid(readfile('$1'))"; }
json() { sqlite3 :memory: "select json_extract(readfile('$1'), '$2')"; }
line() { sed -n "${1}p" "$work/results" > "$work/one"; json "$work/one" "$2"; }

cat > "$work/list.gbnf" <<'GRAMMAR'
# one to three small numbers
root ::= "[" number ("," number){0,2} "]"
number ::= [1-9] [0-9]{0,2}
GRAMMAR
cat > "$work/schema.json" <<'SCHEMA'
{"type": "object", "properties": {"name": {"type": "string", "maxLength": 6}, "age": {"type": "integer", "minimum": 0, "maximum": 99},
 "kind": {"enum": ["cat", "dog"]}, "tags": {"type": "array", "items": {"type": "string", "maxLength": 3}, "maxItems": 2}},
 "required": ["name", "age", "kind"]}
SCHEMA
printf 'root ::= "x"\nroot ::= [' > "$work/bad.gbnf"
printf '{"not": {}}' > "$work/bad.json"

# ---- mistakes
run "$phiplan" "$model" --ctx 256
expect "phiplan makes a plan" 0
run "$phirun" "$model" -p Hello --grammar "$work/nothing"
expect "a grammar that is not there is named" 1 "$work/nothing"
run "$phirun" "$model" -p Hello --grammar "$work/bad.gbnf"
expect "a mistake in a grammar is told with its line" 2 "line 2 of the grammar: the rule 'root' is defined twice"
run "$phirun" "$model" -p Hello --json-schema "$work/bad.json"
expect "a keyword that no grammar can express is named" 2 "'not' cannot be expressed"
run "$phirun" "$model" -p Hello --json-schema "$work/list.gbnf"
expect "a schema that is no JSON is named" 1 "is not valid JSON"
run "$phirun" "$model" -p Hello --grammar "$work/list.gbnf" --json-schema "$work/schema.json"
expect "a text follows one of them" 2 "a grammar and a JSON schema"

# ---- generating
whole=0
for seed in 1 2; do
    run "$phirun" "$model" -p Hello --grammar "$work/list.gbnf" --temperature 1.5 --seed $seed -n 30
    printf %s "$out" | grep -qxE '\[[1-9][0-9]{0,2}(,[1-9][0-9]{0,2}){0,2}\]' && whole=$((whole + 1))
    run "$phirun" "$model" -p Hello --json-schema "$work/schema.json" --temperature 1.5 --seed $seed -n 200
    [ "$(valid "$work/out")" = 1 ] && [ "$(json "$work/out" '$.age')" -le 99 ] && case $(json "$work/out" '$.kind') in cat|dog) ;; *) false;; esac &&
        whole=$((whole + 1))
done
equal "hot samples parse" 4 $whole
run "$phirun" "$model" -p Hello --json-schema "$work/schema.json" -n 200 --json
equal "a whole text is not called cut" "" "$(json "$work/out" '$.sequences[0].complete')"
equal "it ends by itself" eos "$(json "$work/out" '$.sequences[0].finish_reason')"
run "$phirun" "$model" -p Hello --json-schema "$work/schema.json" -n 3 --json
equal "one that ran out of tokens is" 0 "$(json "$work/out" '$.sequences[0].complete')"
expect "and that is told" 0 "(length) before its grammar does: it is not whole; allow more with -n"
run "$phirun" "$model" -p Hello --json-schema "$work/schema.json" --max-time 0.000001
expect "of time, more time is proposed" 0 "(time) before its grammar does: it is not whole; allow more with --max-time"
run "$phirun" "$model" -p Hello --grammar "$work/list.gbnf" -n 30 --num-beams 3 --num-return-sequences 2
equal "beams follow it" 2 "$(grep -cxE '\[[0-9,]+\]' "$work/out")"
run "$phirun" "$model" -p Hello --grammar "$work/list.gbnf" -n 30 --speculate ngram -v
expect "guesses follow it, and -v says so" 0 "grammar"
true_that "their text parses" grep -qxE '\[[0-9,]+\]' "$work/out"

# ---- batch and chat
cat > "$work/in" <<'LINES'
{"prompt": "a", "grammar": "root ::= \"yes\" | \"no\""}
{"prompt": "a", "json_schema": {"type": "array", "items": {"const": 7}, "minItems": 2, "maxItems": 2}}
{"prompt": "a", "grammar": "root ::= root"}
{"prompt": "a"}
{"prompt": "a", "max_new_tokens": 1, "json_schema": {"const": "longer than one token"}}
LINES
run "$phirun" batch "$model" "$work/in" -o "$work/results" -n 40 --grammar "$work/list.gbnf"
expect "batch takes a grammar a line" 1 "1 of 5 lines failed"
case $(line 1 '$.text') in yes|no) pass "the first follows its own";; *) fail "the first follows its own" "$(cat "$work/results")";; esac
equal "a schema of the second's" "[7,7]" "$(line 2 '$.text' | tr -d ' \n')"
case $(line 3 '$.error') in *"begins with itself"*) pass "a mistake is the line's";; *) fail "a mistake is the line's" "$(line 3 '$')";; esac
true_that "the fourth follows the command line's" sh -c 'printf %s "$0" | grep -qxE "\[[0-9,]+\]"' "$(line 4 '$.text')"
equal "what is cut says so" 0 "$(line 5 '$.complete')"
printf 'Hello\n/set grammar default\n/set json-schema %s\nAgain\n' "$work/schema.json" > "$work/lines"
run sh -c '"$@" < "$0"' "$work/lines" "$phirun" chat "$model" --grammar "$work/list.gbnf" --temperature 1.5 --seed 3 -n 100
expect "chat follows it" 0
true_that "first the grammar" sh -c 'head -n 1 "$0" | grep -qxE "\[[0-9,]+\]"' "$work/out"
tail -n +2 "$work/out" > "$work/second"
equal "then the schema" 1 "$(valid "$work/second")"

# ---- bad words need the tokenizer, too
run "$phirun" "$model" -p Hello --bad-words the -n 2
expect "words can be banned on the command line" 0
finish
