#!/bin/sh
# Write the demo model as a Phi-3 checkpoint in Hugging Face layout, for the golden
# test of real weights. usage: make_phi3_smollm2.sh MODEL.gguf FOLDER SHARED
# Needs SHARED/tools/smollm2_to_phi3.py and, from pip, numpy, gguf, safetensors and
# tokenizers (in a virtual environment beside FOLDER). Says why where it cannot.
gguf=$1 folder=$2 converter=$3/tools/smollm2_to_phi3.py
[ ! -f "$folder/tokenizer_config.json" ] || exit 0
[ -f "$converter" ] || { echo "no reference tools at $3: the Phi-3 rewriting of the demo model is left out"; exit 0; }
[ -f "$gguf" ] || { echo "no $gguf: the Phi-3 rewriting of the demo model is left out"; exit 0; }
venv=$(dirname "$folder")/venv
rm -rf "$folder.part"
if ! { [ -x "$venv/bin/python3" ] || python3 -m venv "$venv"; } > "$folder.log" 2>&1 \
    || ! "$venv/bin/python3" -m pip install --quiet --disable-pip-version-check numpy gguf safetensors tokenizers >> "$folder.log" 2>&1 \
    || ! "$venv/bin/python3" "$converter" "$gguf" "$folder.part" >> "$folder.log" 2>&1; then
    tail -n 3 "$folder.log"
    echo "the Phi-3 rewriting of the demo model could not be made"
    exit 0
fi
mv "$folder.part" "$folder"
