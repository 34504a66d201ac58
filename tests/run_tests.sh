#!/bin/sh
# Run test programs and scripts that speak TAP; end with one line of totals.
# usage: tests/run_tests.sh PROGRAM...      exit 0 only if something ran and nothing failed
#
# JOBS=N   so many programs at a time (default: the number of cores). Scripts run one after
#          the other, and alone: they look at times and at what processes leave behind.
# SHOW=RE  show the lines of their output that match, too
export CMOCKA_MESSAGE_OUTPUT=TAP

# One program; prints its line and, where it failed, its log.
run_one() {
    program=$1
    log=$(mktemp) || exit 1
    started=$(date +%s)
    case $program in
    *.sh) timeout -k 10 900 sh "$program" > "$log" 2>&1 ;;
    *) timeout -k 10 900 "$program" > "$log" 2>&1 ;;
    esac
    status=$?
    again=
    # The leak checker cannot stop every driver's threads; the other sanitizers can do without it.
    if [ "$status" -ne 0 ] && grep -q 'LeakSanitizer has encountered a fatal error' "$log"; then
        again="    the leak checker failed; run again without it"
        ASAN_OPTIONS=detect_leaks=0 timeout -k 10 900 "$program" > "$log" 2>&1
        status=$?
    fi
    # cmocka spells a skipped test "not ok 3 # SKIP name".
    skip=$(grep -ciE '^(not )?ok [0-9]+ (- .*)?# skip' "$log")
    ok=$(grep -viE '# skip' "$log" | grep -c '^ok ') bad=$(grep -viE '# skip' "$log" | grep -c '^not ok ')
    # A program that died, or that ran nothing, has failed, whatever it printed.
    if [ "$bad" -eq 0 ] && { [ "$status" -ne 0 ] || [ $((ok + skip)) -eq 0 ]; }; then bad=1; fi
    printf '%-44s %4d passed %3d failed %3d skipped  %4ds\n' "$program" "$ok" "$bad" "$skip" $(($(date +%s) - started))
    [ -z "$again" ] || echo "$again"
    grep -i '^# skip' "$log" | sort | uniq -c | sed 's/^/    /'
    [ -z "$SHOW" ] || grep -e "$SHOW" "$log" | sed 's/^/    /'
    [ "$bad" -eq 0 ] || { echo "---- $program (exit $status)"; grep -v '^ok ' "$log" | tail -n 60; echo "----"; }
    rm -f "$log"
}

# As one of several at a time: the whole report at once, when nobody else prints.
if [ "$1" = --one ]; then
    report=$(run_one "$2")
    exec 9> "$3"
    flock 9
    echo "$report"
    exit
fi

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
for program in "$@"; do
    case $program in *.sh) ;; *) echo "$program" ;; esac
done > "$work/programs"
{
    xargs -P "${JOBS:-$(nproc)}" -I '{}' sh "$0" --one '{}' "$work/lock" < "$work/programs"
    for program in "$@"; do
        case $program in *.sh) run_one "$program" ;; esac
    done
} | tee "$work/reports"
# Every program has its line: one that is missing has failed too.
awk -v expected=$# '
    $3 == "passed" && $5 == "failed" && $7 == "skipped" { lines++; passed += $2; failed += $4; skipped += $6 }
    END {
        failed += expected - lines
        printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped
        exit failed > 0 || passed == 0
    }' "$work/reports"
