#!/bin/sh
# The bench: its table, its data and its charts, with a stand-in for llama.cpp's server.
. tests/cli/tap.sh

export POCL_DEVICES=pthread
model=$(data models/gguf/quantizable-tiny-Q4_1.gguf)
if [ ! -e "$model" ] || ! command -v python3 > /dev/null || ! [ -x "$BUILD/tests/bench_read" ]; then
    skip_test "the bench runs" "no models/gguf/quantizable-tiny-Q4_1.gguf, no python3, or no bench_read"
    finish
fi
cat > "$work/server" <<'END'
#!/usr/bin/env python3
import http.server, json, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def reply(self, value):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(value).encode())
    def do_GET(self):
        self.reply({"status": "ok"})
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert len(asked["prompt"]) == 24 and asked["n_predict"] == 8 and not asked["cache_prompt"]
        self.reply({"timings": {"prompt_per_second": 0.5, "predicted_per_second": 0.25}})
    def log_message(self, *arguments):
        pass
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
END
chmod +x "$work/server"
mkdir "$work/build"
for name in phiplan phirun tests; do ln -s "$BUILD/$name" "$work/build/$name"; done
export LLAMA_SERVER="$work/server"
run python3 tests/tools/bench.py "$work/build" "$model" --pairs 1 --prompt 24 --new 8 --depths 0,16
expect "the bench runs" 0 "| phirun |"
true_that "and compares with the peer" grep -q '^| llama.cpp | 0.50 | [0-9.]* times | 0.25 | [0-9.]* times |$' "$work/out"
true_that "and with the read limit" grep -q '^| read limit |  |  | [0-9.]* | [0-9.]* times |$' "$work/out"
true_that "and says what is not compared, and what not counted" \
    sh -c "grep -q 'Not compared: OpenVINO' '$work/out' && grep -q 'Not counted: loading' '$work/out'"
true_that "and how a token grows with the context" grep -q '^| 16 | [0-9.]* | [0-9.]* |$' "$work/out"
equal "the data lie beside it" 4 "$(wc -l < "$work/build/bench/bench.csv")"
for chart in speed growth; do
    true_that "the chart $chart.svg is sound, for light and dark" sh -c "python3 -c 'import sys, xml.dom.minidom as m; m.parse(sys.argv[1])' '$work/build/bench/$chart.svg' && grep -q 'prefers-color-scheme: dark' '$work/build/bench/$chart.svg'"
done
run "$BUILD/tests/bench_read" 100
expect "the read limit wants a sensible size" 2 "usage"
finish
