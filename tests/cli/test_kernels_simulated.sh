#!/bin/sh
# The kernel tests on oclgrind, which reports reads and writes outside buffers and races.
# usage: tests/cli/test_kernels_simulated.sh            BUILD=DIR
#
# oclgrind exits with the program's status, so its findings are read from its log.
# Without --uninitialized: oclgrind 21.10 takes values that come out of fma() and of
# vector built-ins for uninitialized.
build=${BUILD:-build}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
programs=$(ls tests/test_kernel_*.c) || exit 1
echo "1..$(echo "$programs" | wc -l)"

reason=
command -v oclgrind > /dev/null || reason="no simulated kernels: oclgrind is not installed"
case $build in *-san*) reason="no simulated kernels: oclgrind and the sanitizers do not go together" ;; esac
[ -z "$reason" ] || echo "# skip: $reason"

number=0 failed=0
for source in $programs; do
    name=$(basename "$source" .c)
    number=$((number + 1))
    if [ -n "$reason" ]; then echo "ok $number - $name # SKIP $reason"; continue; fi
    : > "$work/findings"
    CMOCKA_MESSAGE_OUTPUT=TAP timeout 600 oclgrind --data-races --log "$work/findings" \
        "$build/tests/$name" > "$work/log" 2>&1
    status=$?
    # cmocka spells a skipped test "not ok 3 # SKIP name".
    ran=$(grep -c '^ok ' "$work/log")
    skipped=$(grep -c '^not ok [0-9]* # SKIP' "$work/log")
    bad=$(grep -v '# SKIP' "$work/log" | grep -c '^not ok ')
    if [ "$status" -ne 0 ] || [ "$bad" -gt 0 ] || [ -s "$work/findings" ] || [ $((ran + skipped)) -eq 0 ] ||
        ! grep -q '^# device: Oclgrind' "$work/log"; then
        bad=1
    fi
    if [ "$bad" -eq 0 ] && [ "$ran" -gt 0 ]; then
        echo "ok $number - $name: $ran cases"
    elif [ "$bad" -eq 0 ]; then
        echo "# skip: $(sed -n 's/^# skip: //p' "$work/log" | head -n 1)"
        echo "ok $number - $name # SKIP every case"
    else
        echo "# exit $status, $ran cases"
        tail -n 30 "$work/log" | sed 's/^/# /'
        head -n 40 "$work/findings" | sed 's/^/# /'
        echo "not ok $number - $name"
        failed=1
    fi
done
exit $failed
