#!/bin/sh
# The whole way once: plan a real model, let it answer, look at the stored plan.
# usage: demo.sh BUILD MODEL
build=$1 model=$2
export PHI_STORE="$build/demo/plans.db"
mkdir -p "$build/demo"
show() { printf '\n$ %s\n' "$*"; }
show phiplan "$model"
"$build/phiplan" "$model" || exit 1
question='What is gravity? Answer in two sentences.'
show phirun "$model" -p "'$question'" -n 120
"$build/phirun" "$model" -p "$question" -n 120 || exit 1
query='select id, name, model, size, devices, context, decode_tok_s from plan_overview'
show sqlite3 "$PHI_STORE" "'$query'"
sqlite3 -header -column "$PHI_STORE" "$query"
