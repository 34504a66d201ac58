#!/bin/sh
# Make the seeds of fuzz_gguf and fuzz_safetensors again, byte for byte.
# usage: sh tests/data/fuzz/make_seeds.sh [FOLDER]
cd "${1:-$(dirname "$0")}" || exit 1
mkdir -p fuzz_gguf fuzz_safetensors

byte() { printf "\\$(printf %03o $(($1 & 255)))"; }
u32() { byte "$1"; byte $(($1 >> 8)); byte $(($1 >> 16)); byte $(($1 >> 24)); }
u64() { u32 "$1"; u32 $(($1 >> 32)); }
string() { u64 ${#1}; printf %s "$1"; }
head_of() { printf GGUF; u32 "$1"; u64 "$2"; u64 "$3"; }    # version, tensors, keys
text_key() { string "$1"; u32 8; string "$2"; }
zeros() { head -c "$1" /dev/zero; }

{ head_of 3 0 0; } > fuzz_gguf/empty
{   # a key of every kind
    head_of 3 0 13
    text_key general.architecture phi3
    string u8; u32 0; byte 200
    string i8; u32 1; byte 200
    string u16; u32 2; byte 1; byte 2
    string i16; u32 3; byte 1; byte 255
    string a; u32 4; u32 70000
    string i32; u32 5; u32 4294967295
    string b; u32 6; u32 1065353216
    string bool; u32 7; byte 1
    string u64; u32 10; u64 5
    string c; u32 11; u64 5
    string d; u32 12; u64 4607182418800017408
    string general.alignment; u32 4; u32 64
} > fuzz_gguf/kinds
{   # arrays: strings, float32, int32, arrays
    head_of 2 0 4
    string a; u32 9; u32 8; u64 3; string x; string ''; string yz
    string b; u32 9; u32 6; u64 2; u32 0; u32 1065353216
    string c; u32 9; u32 5; u64 2; u32 1; u32 4294967295
    string d; u32 9; u32 9; u64 2; u32 0; u64 2; byte 1; byte 2; u32 8; u64 1; string q
} > fuzz_gguf/arrays
{   # tensors: F32 of 4 x 2, Q4_0 of 32; data from 160 on
    head_of 3 2 1
    text_key general.architecture llama
    string w; u32 2; u64 4; u64 2; u32 0; u64 0
    string q; u32 1; u64 32; u32 2; u64 32
} > fuzz_gguf/tensors
size=$(wc -c < fuzz_gguf/tensors)
zeros $(((size + 31) / 32 * 32 - size + 50)) >> fuzz_gguf/tensors

safetensors() { u64 ${#1}; printf %s "$1"; zeros "$2"; }
safetensors '{}' 0 > fuzz_safetensors/empty
safetensors '{"__metadata__":{"format":"pt"},"w":{"dtype":"F16","shape":[4,2],"data_offsets":[0,16]},"b":{"dtype":"BF16","shape":[],"data_offsets":[16,18]}}' 18 > fuzz_safetensors/two
safetensors '{"i":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},"f":{"dtype":"F32","shape":[1,2,1,1],"data_offsets":[8,16]}}' 16 > fuzz_safetensors/kinds
