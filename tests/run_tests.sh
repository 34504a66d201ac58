#!/bin/sh
# Run test programs and scripts that speak TAP; end with one line of totals.
# usage: tests/run_tests.sh PROGRAM...      exit 0 only if something ran and nothing failed
export CMOCKA_MESSAGE_OUTPUT=TAP
passed=0 failed=0 skipped=0
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
for program in "$@"; do
    started=$(date +%s)
    case $program in
    *.sh) timeout -k 10 900 sh "$program" > "$log" 2>&1 ;;
    *) timeout -k 10 900 "$program" > "$log" 2>&1 ;;
    esac
    status=$?
    # The leak checker cannot stop every driver's threads; the other sanitizers can do without it.
    if [ "$status" -ne 0 ] && grep -q 'LeakSanitizer has encountered a fatal error' "$log"; then
        echo "    $program: the leak checker failed; run again without it"
        ASAN_OPTIONS=detect_leaks=0 timeout -k 10 900 "$program" > "$log" 2>&1
        status=$?
    fi
    # cmocka spells a skipped test "not ok 3 # SKIP name".
    skip=$(grep -ciE '^(not )?ok [0-9]+ (- .*)?# skip' "$log")
    ok=$(grep -viE '# skip' "$log" | grep -c '^ok ') bad=$(grep -viE '# skip' "$log" | grep -c '^not ok ')
    # A program that died, or that ran nothing, has failed, whatever it printed.
    if [ "$bad" -eq 0 ] && { [ "$status" -ne 0 ] || [ $((ok + skip)) -eq 0 ]; }; then bad=1; fi
    printf '%-44s %4d passed %3d failed %3d skipped  %4ds\n' "$program" "$ok" "$bad" "$skip" $(($(date +%s) - started))
    grep -i '^# skip' "$log" | sort | uniq -c | sed 's/^/    /'
    [ "$bad" -eq 0 ] || { echo "---- $program (exit $status)"; grep -v '^ok ' "$log" | tail -n 60; echo "----"; }
    passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + skip))
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ $((passed + failed)) -gt 0 ]
