#!/bin/sh
# Make the seeds of the fuzz programs again, byte for byte.
# usage: sh tests/data/fuzz/make_seeds.sh [FOLDER]
cd "${1:-$(dirname "$0")}" || exit 1
mkdir -p fuzz_gguf fuzz_safetensors fuzz_tokenizer fuzz_chat_template fuzz_sentencepiece fuzz_model_config fuzz_store fuzz_device_map fuzz_prompt_cache fuzz_grammar fuzz_artifact

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

cat > fuzz_tokenizer/sentencepiece << 'END'
{"added_tokens":[{"id":0,"content":"<unk>","special":true,"normalized":false},{"id":1,"content":"<s>","special":true,"rstrip":true},{"id":9,"content":"<|end|>","special":true,"rstrip":true,"normalized":false}],
"normalizer":{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"▁"},{"type":"Replace","pattern":{"String":" "},"content":"▁"}]},"pre_tokenizer":null,
"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"special_tokens":{"<s>":{"id":"<s>","ids":[1],"tokens":["<s>"]}}},
"decoder":{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]},
"model":{"type":"BPE","unk_token":"<unk>","fuse_unk":true,"byte_fallback":true,"vocab":{"<unk>":0,"<0x0A>":2,"<0xC3>":3,"▁":4,"l":5,"o":6,"ll":7,"lo":8,"llo":10},"merges":[["l","l"],["l","o"],["ll","o"]]}}
END
cat > fuzz_tokenizer/byte_level << 'END'
{"added_tokens":[{"id":9,"content":"</s>","special":true,"lstrip":true,"single_word":true},{"id":10,"content":"world","normalized":true}],"normalizer":{"type":"NFC"},
"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Digits","individual_digits":true},{"type":"Split","pattern":{"Regex":"(?i:'s|'ll)| ?\\p{L}+|\\s+(?!\\S)|[^\\s\\p{L}]+"},"behavior":"Isolated","invert":false},{"type":"ByteLevel","add_prefix_space":true,"use_regex":false}]},
"post_processor":{"type":"Sequence","processors":[{"type":"ByteLevel"}]},"decoder":{"type":"ByteLevel"},
"model":{"ignore_merges":true,"vocab":{"Ġ":0,"l":1,"ll":2,"Ã":3,"©":4,"Ċ":5,"1":6,"lll":7},"merges":["l l","ll l"]}}
END
cat > fuzz_tokenizer/stages << 'END'
{"added_tokens":[],"normalizer":{"type":"Sequence","normalizers":[{"type":"NFKD"},{"type":"Strip"},{"type":"Replace","pattern":{"Regex":" {2,}"},"content":"_"}]},
"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Punctuation","behavior":"MergedWithPrevious"},{"type":"Split","pattern":{"String":"l"},"behavior":"Contiguous","invert":true},{"type":"Metaspace","replacement":"▁","prepend_scheme":"first","split":true},{"type":"WhitespaceSplit"},{"type":"ByteLevel"}]},
"decoder":{"type":"Sequence","decoders":[{"type":"Metaspace","replacement":"▁","prepend_scheme":"always"},{"type":"Strip","content":"l","start":1,"stop":1},{"type":"Fuse"}]},
"model":{"type":"BPE","unk_token":"l","vocab":{"l":0,"e":1,"▁":2,"â":3,"el":4},"merges":["e l"]}}
END
f32() { string "$1"; u32 9; u32 6; u64 "$2"; }
{   # a SentencePiece vocabulary without a tensor
    head_of 3 0 6
    text_key tokenizer.ggml.model llama
    string tokenizer.ggml.tokens; u32 9; u32 8; u64 7
    for piece in '<unk>' '<s>' '<|end|>' '<0x0A>' 'l' 'o' 'lo'; do string "$piece"; done
    string tokenizer.ggml.token_type; u32 9; u32 5; u64 7
    for type in 2 3 3 6 1 1 1; do u32 $type; done
    f32 tokenizer.ggml.scores 7; for score in 0 0 0 0 3212836864 3221225472 3225419776; do u32 $score; done
    string tokenizer.ggml.bos_token_id; u32 4; u32 1
    text_key tokenizer.chat_template '{{ bos_token }}'
} > fuzz_tokenizer/sentencepiece.gguf
{   # a byte-level vocabulary
    head_of 3 0 5
    text_key tokenizer.ggml.model gpt2
    text_key tokenizer.ggml.pre llama-bpe
    string tokenizer.ggml.tokens; u32 9; u32 8; u64 5
    for piece in 'l' 'Ġ' 'll' '<|end|>' '[PAD4]'; do length=$(printf %s "$piece" | wc -c); u64 "$length"; printf %s "$piece"; done
    string tokenizer.ggml.token_type; u32 9; u32 5; u64 5
    for type in 1 1 1 3 5; do u32 $type; done
    string tokenizer.ggml.merges; u32 9; u32 8; u64 1; string 'l l'
} > fuzz_tokenizer/byte_level.gguf

cat > fuzz_chat_template/turns << 'END'
{%- if messages[0]['role'] == "system" and not tools is defined or 'x' in messages[0].content %}{% set rest = messages[1:] %}{% else -%}
  {% set rest = messages | list %}{# note #}
{% endif %}{% set ns = namespace(n=0, s='') %}
{%+ for m in rest %}{% set ns.n = ns.n + loop.index0 * 2 % 3 - -1 // 2 %}{{ bos_token ~ m.role + '\n\u00e9\x41' }}{{- m.content.split('</think>')[-1].strip('\n') | trim }}
{% else %}none{% endfor -%}
{{ ns.n if ns.n > 0 and loop is not defined else raise_exception("no") }}{{ ['a', "b" 'c'][0] }}{% generation %}{{ rest[::-1]|length }}{% endgeneration %}
END
cat > fuzz_chat_template/filters << 'END'
{{ messages|selectattr('role', 'equalto', "user")|list|length }}{{ (messages|first).content.replace('H', 'J') }}{{ x|default('d') is string }}{{ messages[1].get('k', 3) }}{{ messages[1].content.startswith(' ') != true }}
{% for m in messages %}{{ loop.first }}{{ loop.revindex }}{% if loop.last %}{{ none }}{% elif m is mapping %}{{ m.content in ['a'] }}{% endif %}{% endfor %}
END
cat > fuzz_chat_template/macros << 'END'
{%- macro show(value, depth=0) -%}
{%- if value is mapping %}{ {%- for k, v in value.items() | list %}{{ k }}: {{ show(v, depth=depth + 1) }}{{ ", " if not loop.last }}{% endfor -%} }
{%- elif value is iterable and value is not string %}[{% for v in value if v is not none %}{{ show(v, depth + 1) }}{% endfor %}]{% else %}{{ value | tojson(indent=2) }}{% endif -%}
{%- endmacro %}{% for tool in tools %}{{ show(tool.function) }}{% endfor %}
{% macro box(t) %}<{{ t }}>{{ caller(t ~ 1) }}{{ varargs }}{{ kwargs }}</{{ t }}>{% endmacro %}{% call(x) box('a') %}{{ x }}{% endcall %}
{% filter upper | replace("A", 'b') %}a{% raw %}{{ {% x %}{% endraw %}{% endfilter %}{% set y | trim %} z {% endset %}{% with a = 1, b = y %}{{ a }}{{ b }}{% endwith %}
{% for n in [[1], []] recursive %}{{ loop.depth }}{{ loop.cycle('o', 'e') }}{{ loop.changed(n) }}{% if n is iterable %}{{ loop(n) }}{% endif %}{% if loop.nextitem is defined %}{% continue %}{% endif %}{% break %}{% endfor %}
END
cat > fuzz_chat_template/values << 'END'
{{ [3, 1, 2] | sort(reverse=true) | join('-') }}{{ messages | map(attribute='role') | unique | list }}{{ {'b': 1, 'a': (2, 3.5e2)} | dictsort | tojson(sort_keys=true, separators=(',', ':')) }}{{ tools[0].function.parameters | items | list }}
{{ "%s %5.2f|%-4d" | format("x", 1.5, n) }}{{ '{} {1}'.format(1, 2) if false }}{{ 7 // -2 ** 2 % 3 - +1 }}{{ 1 < 2 <= 3 != 4 not in [5] }}{{ 'abc'[::-1][0:2] ~ messages[-1:] }}{{ range(1, 9, 3) | sum }}{{ dict(a=1, **{'b': 2}) }}
{{ " a\u00e9\x41\101\n" | trim | title | capitalize | indent(2, true) }}{{ 'a-b'.rpartition('-') }}{{ 'x y'.split(maxsplit=1) }}{{ 'aXb'.partition('X') }}{{ '12' | int + '1.5' | float | round(1) }}{{ -3 | abs }}{{ n is divisibleby 3 }}{{ messages | selectattr('tool_calls', 'defined') | map(attribute='tool_calls.0.id', default='-') | first }}{{ strftime_now('%d %b %Y') }}
END

# Protocol buffers: a field of bytes is its key, its length, its bytes.
piece() { printf '\n'; byte $((${#1} + 2 + $2)); printf '\n'; byte ${#1}; printf %s "$1"; }
sentencepiece() {   # kind 2: BPE; normalizer: no spaces removed
    piece '<unk>' 2; byte 24; byte 2
    piece '<s>' 2; byte 24; byte 3
    piece '<0x0A>' 2; byte 24; byte 6
    piece l 5; byte 21; u32 3212836864
    piece o 5; byte 21; u32 3221225472
    piece lo 5; byte 21; u32 3225419776
    piece x 2; byte 24; byte 4
    byte 18; byte 8; byte 24; byte 2; byte 200; byte 2; byte 0; byte 152; byte 2; byte 1
    byte 26; byte 2; byte 32; byte 0
}
sentencepiece > fuzz_sentencepiece/pieces
{ sentencepiece; printf '\n%s' '{"legacy":false,"add_eos_token":true,"added_tokens_decoder":{"7":{"content":"<|end|>","special":true,"rstrip":true},"1":{"content":"<s>","special":true}}}'; } > fuzz_sentencepiece/config
{ sentencepiece; printf '\n%s' '{"more":{"<|end|>":7,"<|user|>":8,"<|assistant|>":9}}'; } > fuzz_sentencepiece/added

common='"hidden_size":64,"intermediate_size":96,"num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,"vocab_size":100,"max_position_embeddings":128,"rms_norm_eps":1e-05,"torch_dtype":"bfloat16","eos_token_id":[1,2],"hidden_act":"silu"'
{   printf '{"model_type":"phi3",%s,"original_max_position_embeddings":32,"rope_theta":10000.0,"sliding_window":16,"rope_scaling":{"type":"longrope","short_factor":[1,1,1,1,1,1,1,1],"long_factor":[1,1,1,1.5,2,2,2,4]}}' "$common"
    printf '\0{"eos_token_id":7,"do_sample":true,"temperature":0.5,"top_k":3}\0{"weight_map":{"lm_head.weight":"model-00001-of-00002.safetensors"}}'
} > fuzz_model_config/phi3
printf '{"model_type":"llama",%s,"head_dim":32,"rope_parameters":{"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":64,"rope_theta":500000.0},"tie_word_embeddings":true}' "$common" > fuzz_model_config/llama
printf '{"model_type":"qwen2",%s,"use_sliding_window":false,"sliding_window":8,"max_window_layers":1,"layer_types":["full_attention","full_attention"]}' "$common" > fuzz_model_config/qwen2

printf '\144\000\000\002\005abcde' > fuzz_store/changes
printf '{"": 0}' > fuzz_device_map/whole
printf '{"m\303\266del": 0, "\325\203.layers": "cpu", "\360\237\230\200": "disk"}' > fuzz_device_map/letters
printf '{"model.embed_tokens": 0, "model.layers.0": 1, "model.layers.1.mlp": "cuda:1", "attn.2": "gpu0", "lm_head": "cpu", "model.norm": "disk"}' > fuzz_device_map/modules
printf '{"plan":null,"name":"default","request":{"ctx":512,"prompt":342,"new":170,"micro_batch":256,"kv":"f16","weights":"keep","policy":"fastest","rope":"auto"},"devices":[{"device":"host","units":["embed"]},{"device":"cpu0","units":["attn.0","ffn.0","head"]}]}' > fuzz_device_map/plan

# A cache of one block and one head: 40 tokens, two pages. The fuzz program makes the checksums.
letters() { head -c "$2" /dev/zero | tr '\0' "$1"; }
prompt_cache() {   # kind, bytes of a vector, deflated (1) or not (0), bytes of each page in the file
    byte "$1"; printf 'phi-kv\n\0'; u32 1; u32 0; letters a 64; letters b 64
    u32 $(($1 % 3)); u32 1; u32 1; u32 "$2"; u32 32; u32 40; u64 $((240 + 160 + 160 + 2 * $4)); zeros 64
    for token in 1 2 3 4 5 6 7 8 9 10; do u32 $token; u32 7; u32 $token; u32 9; done
    for page in 1 2; do u64 "$4"; u32 "$3"; u32 0; zeros 64; done
}
{ prompt_cache 3 8 0 512; zeros 1024; } > fuzz_prompt_cache/float
{ prompt_cache 4 4 0 256; for page in 1 2; do letters 5 256; done; } > fuzz_prompt_cache/half
# 128 zeros deflated, as zlib does, then the 128 low bytes.
{ prompt_cache 4 4 1 140; for page in 1 2; do printf '\170\001\143\140\030\130\000\000\000\200\000\001'; letters 1 128; done; } > fuzz_prompt_cache/deflated
{ prompt_cache 5 34 0 2176; for page in 1 2; do letters 1 2176; done; } > fuzz_prompt_cache/int8

printf 'root ::= "[" item (", " item){0,3} "]" # a list\nitem ::= [^\\]"\\x00-\\x1f]+ | "\\u00e9\\U0001F999" | "(" root ")" | [a-cx-z]{2,} .?\n\000abcdefgh' > fuzz_grammar/list
printf 'root ::= expr\nexpr ::= term (ws [-+] ws term)*\nterm ::= [0-9]{1,3} | "(" ws expr ws ")"\nws ::= (" "\n  | "\\t")? |\n  ""\n\0001234567' > fuzz_grammar/expressions
printf '{"type":"object","properties":{"a":{"type":"integer","minimum":-3,"maximum":120},"b":{"type":["string","null"],"maxLength":4},"c":{"enum":[1,"x",{"k":[]}]}},"required":["b"],"additionalProperties":{"$ref":"#/$defs/n"},"$defs":{"n":{"anyOf":[{"type":"number","exclusiveMinimum":0},{"const":null}]}}}\000abcdefgh' > fuzz_grammar/object
printf '{"type":"array","prefixItems":[{"pattern":"^[A-Z]\\\\d{2,3}(a|b)?$"},{"format":"date-time"}],"items":{"oneOf":[{"type":"boolean"},{"$ref":"#"}]},"minItems":1,"maxItems":4}\0001234567' > fuzz_grammar/array
printf '{"allOf":[{"type":"object","properties":{"a":{"type":"number"}}},{"properties":{"a":{"type":"integer"}},"required":["a"]}],"anyOf":[{"minProperties":1},true],"additionalProperties":false}\000xyz' > fuzz_grammar/merged

# The first byte: which parts of the header are made right, pages.
artifact_head() {   # version, entries
    printf 'phi-art\n'; u32 "$1"; u32 "$2"; u64 8192; u32 0; u32 1; u32 1; u32 0
    for i in 1 2 3 4 5 6 7 8; do printf aaaaaaaa; done
    printf ffn.0; zeros 19; printf keep; zeros 12; zeros 128
}
artifact_entry() { u32 "$1"; u32 "$2"; u32 "$3"; u32 0; u64 "$4"; u64 "$5"; u64 "$6"; u64 "$7"; u64 "$8"; }   # role, type, layout, rows from, rows, columns, place, bytes
{ byte 23; artifact_head 1 2; artifact_entry 0 0 0 0 1 64 4096 256; artifact_entry 5 4 1 0 16 32 4096 512; } > fuzz_artifact/two
{ byte 55; artifact_head 1 2; artifact_entry 6 1 0 8 4 16 4096 128; artifact_entry 6 3 0 0 2 64 8192 136; zeros 1700; printf abc; } > fuzz_artifact/rows
{ byte 11; artifact_head 2 0; } > fuzz_artifact/short
