#!/bin/sh
# The store when things go wrong: two planners at once, a newer or damaged file, a read-only place.
. tests/cli/tap.sh
phiplan=$BUILD/phiplan phirun=$BUILD/phirun
unset POCL_DEVICES
model=$(data models/phi3-tiny)
run "$phiplan" devices --json
if [ -z "$model" ] || ! grep -q '"usable": true' "$work/out"; then
    skip_test "two planners can save at once" "no usable OpenCL device, or no models/phi3-tiny"
    finish
fi
sql() { sqlite3 -batch "$1" "$2" 2> /dev/null; }

# ---- two at once, on a store that neither finds ----
"$phiplan" "$model" --ctx 64 --name one > "$work/one" 2>&1 & one=$!
"$phiplan" "$model" --ctx 64 --name two > "$work/two" 2>&1 & two=$!
wait $one; first=$?
wait $two; second=$?
equal "two planners can save at once" "0 0" "$first $second"
run "$phiplan" list --json
equal "and both plans are there" 2 "$(grep -c '"plan":' "$work/out")"
for name in one two; do
    run "$phirun" "$model" --plan $name --raw -p hello -n 2
    expect "plan '$name' runs" 0
done
if command -v sqlite3 > /dev/null; then
    equal "the store is whole" "ok 0" "$(sql "$PHI_STORE" 'pragma integrity_check') $(sql "$PHI_STORE" \
        'select count(*) from pragma_foreign_key_check')"
fi

# ---- a file that this program must not touch ----
# refused NAME FILE STATUS TEXT: by both programs, and not a byte of it changes
refused() {
    before=$(sha256sum < "$2")
    run "$phiplan" "$model" --ctx 64 --db "$2"
    expect "phiplan refuses $1" 1 "$3"
    true_that "and names the file" grep -qF "$2" "$work/err"
    run "$phiplan" list --db "$2"
    expect "so does 'list'" 1 "$3"
    run "$phirun" "$model" --raw -p hello -n 2 --db "$2"
    expect "phirun refuses $1" 1 "$3"
    equal "nothing of it changed" "$before" "$(sha256sum < "$2")"
}
if command -v sqlite3 > /dev/null; then
    sql "$PHI_STORE" 'pragma wal_checkpoint(truncate)' > /dev/null
    cp "$PHI_STORE" "$work/newer.db"
    sql "$work/newer.db" 'pragma journal_mode = delete; pragma user_version = 9999' > /dev/null
    refused "a store of a newer program" "$work/newer.db" "newer"
    # A page in the middle of the plans, and a file that ends early.
    cp "$PHI_STORE" "$work/damaged.db"
    size=$(wc -c < "$work/damaged.db")
    dd if=/dev/zero of="$work/damaged.db" bs=1 seek=4096 count=8192 conv=notrunc 2> /dev/null
    refused "a damaged store" "$work/damaged.db" "damaged"
    cp "$PHI_STORE" "$work/short.db"
    truncate -s $((size / 2)) "$work/short.db"
    refused "a store that lost its end" "$work/short.db" "damaged"
else
    skip_test "a newer and a damaged store are refused" "no sqlite3 program"
fi

# ---- a place where nothing can be written ----
mkdir -p "$work/read-only" "$work/other-home"
cp "$PHI_STORE" "$work/read-only/plans.db"
as_other=
if [ "$(id -u)" -eq 0 ]; then   # to root nothing is read-only
    as_other="setpriv --reuid=65534 --regid=65534 --clear-groups env HOME=$work/other-home XDG_CACHE_HOME=$work/other-home POCL_CACHE_DIR=$work/other-home/pocl"
    mkdir -p "$work/other-home/pocl"
    chown -R 65534:65534 "$work/other-home"
    chmod 755 "$work"
fi
chmod 444 "$work/read-only/plans.db"
chmod 555 "$work/read-only"
if [ -n "$as_other" ] && ! $as_other test -r "$model/config.json" -a -x "$BUILD/phirun" 2> /dev/null; then
    skip_test "a read-only store serves phirun" "no way to be another user than root here"
else
    run $as_other "$phirun" "$model" --plan one --raw -p hello -n 2 --db "$work/read-only/plans.db"
    expect "a read-only store serves phirun" 0 "read-only"
    run $as_other "$phiplan" list --db "$work/read-only/plans.db"
    expect "and lists its plans" 0 "phi3-tiny"
    run $as_other "$phiplan" "$model" --ctx 64 --db "$work/read-only/plans.db"
    expect "no plan can be saved there" 1 "read-only"
    run $as_other "$phiplan" rm 1 --db "$work/read-only/plans.db"
    expect "or removed" 1 "read-only"
    true_that "nothing was written beside it" test "$(ls "$work/read-only")" = plans.db
fi
chmod 755 "$work/read-only"
finish
