#!/usr/bin/env python3
"""What comes before and beside tokens per second: the start, the memory, and company.

usage: bench_start.py BUILD MODEL [--pairs 5] [--new 32] [--skip start,memory,company]

start    from the start of the process to the first visible byte of the answer to one raw prompt; plan stored, page cache
         warm; in turns with llama.cpp's llama-completion ($LLAMA_COMPLETION, or in PATH) where it is installed
memory   the most that a process held (PSS: pages of the model's files count once), against weights + KV of the plan
company  decode of two phirun at once, and of one beside a process that keeps one core busy, against decode alone

Figures are medians of the pairs; a first round of each is not counted."""
import argparse
import json
import os
import shutil
import subprocess
import sys
import time

from bench_support import Bench, median

PROMPT = "The quick brown fox jumps over the lazy dog. Then"


def peers(model):
    found = {"phirun": None}
    llama = os.environ.get("LLAMA_COMPLETION") or shutil.which("llama-completion")
    if llama and model.endswith(".gguf"):
        found["llama.cpp"] = [llama, "-m", model, "-t", str(os.cpu_count()), "-no-cnv", "--no-warmup", "--no-display-prompt",
                              "--temp", "0", "--simple-io", "--ignore-eos"]
    return found


def pss(pid):
    try:
        with open("/proc/%d/smaps_rollup" % pid) as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))
    except (OSError, StopIteration):
        return 0   # it has just ended


def first_byte(command, environment):
    """Seconds from the start to the first byte that is no white space, then to the end of the process."""
    begin = time.monotonic()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                               stdin=subprocess.DEVNULL)
    seconds = None
    while True:
        byte = os.read(process.stdout.fileno(), 1)
        if byte and not byte.isspace() and seconds is None:
            seconds = time.monotonic() - begin
        if not byte:
            break
    if process.wait() or seconds is None:
        sys.exit("bench_start.py: %s ended with %d" % (" ".join(command), process.returncode))
    return seconds


def most_memory(command, environment):
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               stdin=subprocess.DEVNULL)
    most = 0
    while process.poll() is None:
        most = max(most, pss(process.pid))
        time.sleep(0.05)
    if process.returncode:
        sys.exit("bench_start.py: %s ended with %d" % (" ".join(command), process.returncode))
    return most


def decode(bench, new):
    command = [os.path.join(bench.build, "phirun"), "bench", bench.model, "-p", "0", "-n", str(new), "-r", "1", "-o", "json"]
    return subprocess.Popen(command, env=bench.environment, stdout=subprocess.PIPE, text=True)


def rate(process):
    out = process.communicate()[0]
    if process.returncode:
        sys.exit("bench_start.py: phirun ended with %d" % process.returncode)
    return json.loads(out)[0]["tokens_per_s"]


def show_start(bench, commands, pairs):
    taken = {name: [] for name in commands}
    for turn in range(pairs + 1):
        for name, command in commands.items():
            seconds = first_byte(command + ["-n", "4"], bench.environment)
            if turn:
                taken[name].append(seconds)
    ours = median(taken["phirun"])
    for name, seconds in taken.items():
        print("start to first token   %-10s %7.3f s%s" % (name, median(seconds), "" if name == "phirun" else
              "   phirun takes %.2f of it" % (ours / median(seconds))), flush=True)


def show_memory(bench, commands, new):
    rows = bench.query("select sum(weight_bytes), sum(kv_bytes) from shard s join plan p on p.id = s.plan "
                       "where p.superseded_at is null")
    weights, kv = rows[0]
    for name, command in commands.items():
        most = most_memory(command + ["-n", str(new)], bench.environment)
        print("most memory (PSS)      %-10s %7.0f MB   %+.0f MB beyond weights %.0f + KV %.0f MB" % (
            name, most / 1e6, (most - weights - kv) / 1e6, weights / 1e6, kv / 1e6), flush=True)


def show_company(bench, pairs, new):
    alone, two, busy = [], [], []
    for turn in range(pairs + 1):
        one = rate(decode(bench, new))
        both = [decode(bench, new), decode(bench, new)]
        pair = [rate(process) for process in both]
        other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        beside = rate(decode(bench, new))
        other.kill()
        other.wait()
        if turn:
            alone.append(one)
            two.append(min(pair) / one)
            busy.append(beside / one)
    print("decode alone           phirun     %7.1f tokens/s" % median(alone))
    print("slower of two at once  phirun     %7.2f of it" % median(two))
    print("beside a busy core     phirun     %7.2f of it" % median(busy), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("model")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--new", type=int, default=32)
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--skip", default="")
    options = parser.parse_args()
    skip = options.skip.split(",")
    bench = Bench(options.build, options.model, os.path.join(options.build, "bench-start"), os.environ.get("POCL_DEVICES", "pthread"))
    bench.run("phiplan", options.model, "--ctx", options.context)
    commands = peers(options.model)
    commands["phirun"] = [os.path.join(options.build, "phirun"), options.model, "--raw", "--greedy", "--ignore-eos"]
    for name, command in commands.items():
        command += ["-p", PROMPT] + (["-c", str(options.context)] if name != "phirun" else [])
    print("%s, medians of %d rounds in turns" % (os.path.basename(options.model), options.pairs))
    if "start" not in skip:
        show_start(bench, commands, options.pairs)
    if "memory" not in skip:
        show_memory(bench, commands, options.new)
    if "company" not in skip:
        show_company(bench, options.pairs, 4 * options.new)


if __name__ == "__main__":
    main()
