#!/bin/sh
# What phiplan says about its plans: check, why, diff, simulated machines, pictures.
. tests/cli/tap.sh
phiplan=$BUILD/phiplan phirun=$BUILD/phirun

run "$phiplan" check
expect "without a plan there is nothing to check" 3

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
        "select abs(decode_error) < 0.15 from prediction_error where decode_error is not null
         order by decode_error limit 1 offset 1")"
fi
predicted() { sed -n 's/^predicted  prefill \([0-9.]*\) tok.*decode \([0-9.]*\) tok.*/\1 \2/p' "$work/out"; }
run "$phiplan" show
shown=$(predicted)
run "$phiplan" "$model" --ctx 256 --devices cpu0 --dry-run
equal "the next plan predicts the same" "$shown" "$(predicted)"
chmod 500 "$work"; chmod 400 "$PHI_STORE"
if [ "$(id -u)" -ne 0 ]; then
    run "$phiplan" check
    expect "a read-only store is said to be one" 1 "read-only"
fi
chmod 700 "$work"; chmod 600 "$PHI_STORE"
finish
