# tap: sourced by the scripts beside it. Each check prints one TAP line; `finish`
# prints the plan and sets the exit status.
# In the environment: BUILD (build folder), SHARED (large reference data, may be missing).
BUILD=$(cd "${BUILD:-build}" && pwd)
SHARED=${SHARED:-../shared}
tap_count=0 tap_failed=0
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
# Nothing of the user's is read or written.
export HOME="$work/home" XDG_DATA_HOME="$work/data" XDG_CACHE_HOME="${PHI_TEST_CACHE:-$work/cache}" PHI_STORE="$work/plans.db"
# What PoCL compiles depends on the sources alone: the scripts share it.
export POCL_CACHE_DIR="$BUILD/tests/pocl"
mkdir -p "$POCL_CACHE_DIR"
unset HF_HUB_CACHE HUGGINGFACE_HUB_CACHE HF_HOME
mkdir -p "$HOME"

pass() { tap_count=$((tap_count + 1)); echo "ok $tap_count - $1"; }
fail() { tap_count=$((tap_count + 1)); tap_failed=$((tap_failed + 1)); echo "not ok $tap_count - $1"; shift
    for line in "$@"; do echo "$line" | sed 's/^/#   /'; done; }
skip_test() { tap_count=$((tap_count + 1)); echo "ok $tap_count # SKIP $1"; echo "# skip: $2"; }

# run COMMAND...: sets $status, $out, $err (the files $work/out and $work/err hold both in full)
run() { "$@" > "$work/out" 2> "$work/err"; status=$?; out=$(cat "$work/out"); err=$(cat "$work/err"); }

# expect NAME STATUS [TEXT]: the last run ended with STATUS and its output or talk holds TEXT
expect() {
    if [ "$status" -ne "$2" ]; then fail "$1" "exit $status instead of $2" "$out" "$err"
    elif [ $# -gt 2 ] && ! cat "$work/out" "$work/err" | grep -qF -- "$3"; then fail "$1" "no '$3' in:" "$out" "$err"
    else pass "$1"; fi
}
# equal NAME EXPECTED ACTUAL
equal() { if [ "$2" = "$3" ]; then pass "$1"; else fail "$1" "expected: $2" "actual:   $3"; fi; }
# true_that NAME COMMAND...: the command succeeds
true_that() { name=$1; shift; if "$@" > /dev/null 2>&1; then pass "$name"; else fail "$name" "failed: $*"; fi; }
# cpu_ms TIMES LIMIT COMMAND...: sets $best to the fewest milliseconds that processors worked for the
# command in so many runs, or in fewer where one keeps below the limit; empty where it fails. What
# else a busy machine does is not counted, as it would be by the clock, but slows the work; so does
# a slower machine: each run is measured by a loop beside it, which takes 10 ms where nothing does.
cpu_ms() {
    best=$(python3 -c '
import resource, subprocess, sys, time
def children():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1e3 * (used.ru_utime + used.ru_stime)
def loop():
    start, x = time.process_time(), 0
    for i in range(200000):
        x += i & 7
    return 1e3 * (time.process_time() - start)
best = 1e9
for _ in range(int(sys.argv[1])):
    if best >= float(sys.argv[2]):
        before, beside = children(), loop()
        subprocess.run(sys.argv[3:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        beside = (beside + loop()) / 2
        best = min(best, (children() - before) * min(1, 10 / beside))
print(round(best))' "$@")
}
# data NAME: the path of reference data, or nothing
data() { for root in tests/data "$SHARED"; do [ -e "$root/$1" ] && { echo "$root/$1"; return; }; done; }
finish() { echo "1..$tap_count"; [ "$tap_failed" -eq 0 ] && [ "$tap_count" -gt 0 ]; exit; }
