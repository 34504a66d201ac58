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
    ran=$(grep -c '^ok ' "$work/log")
    if [ "$status" -eq 0 ] && [ "$ran" -gt 0 ] && grep -q '^# device: Oclgrind' "$work/log" &&
        ! grep -q '^not ok ' "$work/log" && [ ! -s "$work/findings" ]; then
        echo "ok $number - $name: $ran cases"
    else
        echo "# exit $status, $ran cases"
        tail -n 30 "$work/log" | sed 's/^/# /'
        head -n 40 "$work/findings" | sed 's/^/# /'
        echo "not ok $number - $name"
        failed=1
    fi
done
exit $failed
