#!/bin/sh
# phirun perplexity and compare, and generate()'s options from the command line.
. tests/cli/tap.sh

export POCL_DEVICES=pthread
phiplan=$BUILD/phiplan phirun=$BUILD/phirun
model=$(data models/phi3-tiny-longrope) golden=$(data goldens/logits/phi3-tiny-longrope.json)
json() { sqlite3 :memory: "select json_extract(readfile('$1'), '$2')"; }
near() { awk -v a="$1" -v b="$2" -v e="$3" 'BEGIN { d = a - b; exit !(a != "" && d <= e && -d <= e) }'; }
ids=$(json "$golden" '$.perplexity.ids' | tr -d '[]')
prompt=$(json "$golden" '$.prompts[2].ids' | tr -d '[]')
"$phiplan" "$model" --ctx 256 > "$work/log" 2>&1
"$phiplan" "$model" --ctx 256 --name other >> "$work/log" 2>&1

run "$phirun" perplexity "$model" --ids "$ids" --whole --exact --json
expect "perplexity is measured" 0
true_that "its sum is that of transformers" near "$(json "$golden" '$.perplexity.sum_logprob')" "$(json "$work/out" '$.sum_logprob')" 0.01
equal "every token but the first counts" 199 "$(json "$work/out" '$.tokens')"
run "$phirun" perplexity "$model" --ids "$ids" --window 50 --json
equal "without --whole the second halves count" 96 "$(json "$work/out" '$.tokens')"
run "$phirun" perplexity "$model"
expect "a text is needed" 2 "-f FILE"
run "$phirun" compare "$model" default other --ids "$ids" --json
expect "two plans are compared" 0
equal "the same numbers agree everywhere" 1.0 "$(json "$work/out" '$.top1_agreement')"
true_that "and do not diverge" near 0 "$(json "$work/out" '$.kl_divergence')" 1e-9
run "$phirun" compare "$model" 1 2 --ids "1,2,3,4" --window 4
expect "by number, too" 0 "KL(1 || 2) 0.000000"
run "$phirun" compare "$model" 1 7 --ids "1,2,3,4"
expect "a number that no plan has is named" 3 "there is no plan 7"
run "$phirun" compare "$model" default --ids "$ids"
expect "one plan is not two" 2 "two plans"
run "$phirun" compare "$model" default other --ids "$ids" --replan
expect "which of two plans to make again cannot be said" 2 "no option '--replan'"

run "$phirun" "$model" --ids "$prompt" -n 20 --num-beams 3 --num-return-sequences 2 --json
equal "beams give as many sequences as asked for" 2 "$(sqlite3 :memory: "select json_array_length(readfile('$work/out'), '$.sequences')")"
true_that "the best comes first" awk 'BEGIN { exit !(ARGV[1] >= ARGV[2]) }' "$(json "$work/out" '$.sequences[0].score')" "$(json "$work/out" '$.sequences[1].score')"
run "$phirun" "$model" --ids "$prompt" -n 20 --num-return-sequences 2
expect "greedy gives one sequence" 2 "greedy decoding gives one sequence"
run "$phirun" "$model" --ids "$prompt" -n 3 --logit-bias 17=1000 --json
equal "a bias decides" "[17,17,17]" "$(json "$work/out" '$.sequences[0].ids')"
run "$phirun" "$model" --ids "$prompt" -n 3 --logit-bias 17=1000 --bad-words-ids 17,17 --json
true_that "a ban is stronger" test "$(json "$work/out" '$.sequences[0].ids[1]')" != 17
run "$phirun" "$model" --ids "$prompt" -n 60 --json
plain=$(json "$work/out" '$.sequences[0].ids')
run "$phirun" "$model" --ids "$prompt" -n 60 --speculate ngram --json
equal "guesses change no token" "$plain" "$(json "$work/out" '$.sequences[0].ids')"
run "$phirun" "$model" --ids "$prompt" -n 200 --max-time 0.000001 --json
equal "time can run out" time "$(json "$work/out" '$.sequences[0].finish_reason')"
run "$phirun" "$model" --ids "$prompt" -n 4 --typical-p 0.5 --seed 3 -v
expect "-v tells the settings in effect" 0 "typical-p 0.5, seed 3"
printf '[INST] <<SYS>>\nBe brief.\n<</SYS>>\n{command} [/INST]' > "$work/form"
run "$phirun" "$model" --template "$work/form" -p 'Open the window' -n 4 --do-sample --top-k 10 --top-p 0.95 --temperature 0.6 --full-text
expect "a prompt of one's own, sampled, in one line" 0 "Open the window [/INST]"
finish
