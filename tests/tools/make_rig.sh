#!/bin/sh
# Gather OpenCL platforms for `make check-rig` in FOLDER/vendors: every driver of this system,
# and Intel's CPU runtime from pip (400 MB on the disk; its licence is the Intel EULA for
# Developer Tools). What cannot be had is left out, with the reason.
# usage: make_rig.sh FOLDER
folder=$1
runtime='intel-opencl-rt==2026.2.0 intel-cmplr-lib-rt==2026.2.0 tbb==2023.2.0'
mkdir -p "$folder/vendors" || exit 1
folder=$(cd "$folder" && pwd)

sh tests/tools/install_packages.sh mesa-opencl-icd || echo "rig: without Mesa's llvmpipe: its package cannot be installed"
for icd in /etc/OpenCL/vendors/*.icd; do
    [ -f "$icd" ] && cp "$icd" "$folder/vendors/"
done

# Its libraries find each other beside themselves; the loader that comes along is left out.
fetch_intel() {
    [ "$(uname -m)" = x86_64 ] || { echo "it is for x86_64"; return 1; }
    # shellcheck disable=SC2086
    python3 -m pip download --quiet --disable-pip-version-check --no-deps -d "$work" $runtime > "$work/log" 2>&1 \
        || { tail -n 1 "$work/log"; return 1; }
    mkdir "$work/lib"
    for wheel in "$work"/*.whl; do
        unzip -q -j -o "$wheel" '*/libintelocl.so.*' '*/libcommon_clang.so.*' '*.rtl' '*/cllibrary*.o' '*/libocl_svml_*' \
            '*/cl.cfg' '*/libtbb.so.12' '*/libtbbmalloc.so.2' '*/libimf.so' '*/libsvml.so' '*/libirng.so' \
            '*/libintlc.so.5' -d "$work/lib" > "$work/log" 2>&1   # 11: some names are not in this one
        [ $? -le 11 ] || { tail -n 1 "$work/log"; return 1; }
    done
    ls "$work"/lib/libintelocl.so.* > /dev/null 2>&1 || { echo "no libintelocl.so in its package"; return 1; }
    rm -rf "$folder/lib"
    mv "$work/lib" "$folder/lib"
    ls "$folder"/lib/libintelocl.so.* | head -n 1 > "$folder/vendors/intel.icd"
}
if [ ! -f "$folder/vendors/intel.icd" ]; then
    work=$(mktemp -d "$folder/fetch.XXXXXX") || exit 1
    trap 'rm -rf "$work"' EXIT
    trap 'exit 130' INT TERM
    echo "rig: fetching Intel's CPU runtime with pip"
    fetch_intel > "$work/reason" || echo "rig: without Intel's CPU runtime: $(cat "$work/reason")"
fi
