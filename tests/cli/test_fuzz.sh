#!/bin/sh
# Every fuzz target for a fixed, short number of runs from its seeds.
# usage: tests/cli/test_fuzz.sh            RUNS=N for more
runs=${RUNS:-20000}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
sources=$(ls tests/fuzz_*.c) || exit 1
echo "1..$(echo "$sources" | wc -l)"

skip_all() {
    number=0
    echo "# skip: $1"
    for source in $sources; do number=$((number + 1)); echo "ok $number - $(basename "$source" .c) # SKIP $1"; done
    exit 0
}
command -v clang > /dev/null || skip_all "no fuzzing: clang is not installed"
echo 'int LLVMFuzzerTestOneInput(const unsigned char *b, unsigned long n) { return b && n > 1 ? 0 : 0; }' > "$work/probe.c"
clang -w -fsanitize=fuzzer,address -o "$work/probe" "$work/probe.c" 2> /dev/null && "$work/probe" -runs=1 2> /dev/null ||
    skip_all "no fuzzing: clang is here without libFuzzer (libclang-rt)"

# Without the caller's make flags: the fuzz build has its own.
env -u MAKEFLAGS -u MAKELEVEL make -s -j"$(nproc)" fuzz > "$work/build.log" 2>&1 || {
    sed 's/^/# /' "$work/build.log" | tail -n 30
    echo "not ok 1 - the fuzz programs build"
    exit 1
}
number=0 failed=0
for source in $sources; do
    name=$(basename "$source" .c)
    number=$((number + 1))
    count=$runs
    [ "$name" = fuzz_store ] && count=$((runs / 20))   # each writes and opens a database
    mkdir -p "$work/$name"
    cp "tests/data/fuzz/$name/"* "$work/$name/" 2> /dev/null
    if "build-fuzz/tests/$name" -runs="$count" -seed=1 -max_len=8192 -timeout=10 -rss_limit_mb=1024 \
        -print_final_stats=1 -artifact_prefix="$work/crash-" "$work/$name" > "$work/log" 2>&1; then
        echo "ok $number - $name: $count runs"
    else
        tail -n 40 "$work/log" | sed 's/^/# /'
        for crash in "$work"/crash-*; do
            [ -f "$crash" ] && echo "# input in base64: $(head -c 4096 "$crash" | base64 -w 0)"
        done
        rm -f "$work"/crash-*
        echo "not ok $number - $name: $count runs"
        failed=1
    fi
done
exit $failed
