#!/usr/bin/env python3
"""Where the plan that phiplan chooses ranks among placements that are measured one by one.

usage: bench_plans.py BUILD MODEL [--devices "pthread basic"] [--rounds 3] [--prompt 256] [--new 64] [--memory LIMIT]

Swept: every third of the blocks and the head on either of two devices, and attention on one, feed-forward
on the other. phiplan chooses twice: with what the probe measured, and once `phiplan check` has seen a few
runs on each device alone. Rounds are interleaved, so that a disturbance hits all placements alike; a
placement's time is its median. A row a placement goes to BUILD/bench-plans/plans.csv. Exit 1: the second
choice is more than 5 % slower than the fastest."""
import argparse
import csv
import itertools
import os
import sys

from bench_support import Bench, describe, fail, median

WITHIN = 1.05


def thirds(units, devices):
    """Placements of whole thirds of the blocks and of the head."""
    blocks = (units - 1) // 2
    for choice in itertools.product(devices, repeat=4):
        placement = [choice[min(2, 3 * block // blocks)] for block in range(blocks) for _ in range(2)]
        yield tuple(placement + [choice[3]])


def pairs(units, devices):
    blocks = (units - 1) // 2
    for a, b in itertools.permutations(devices, 2):
        for head in devices:
            yield (a, b) * blocks + (head,)


def pins(placement):
    """--pin options for a placement, short enough for a request: shell patterns of block numbers."""
    names = ["head" if u == len(placement) - 1 else "%s.%d" % ("ffn" if u % 2 else "attn", u // 2)
             for u in range(len(placement))]
    options = []
    for kind in "attn", "ffn", "head":
        found = {}
        for name, device in zip(names, placement):
            if name.startswith(kind):
                found.setdefault(device, []).append(name)
        common = max(found, key=lambda device: len(found[device]))
        options += ["--pin", "%s=%s" % ("head" if kind == "head" else kind + ".*", common)]
        for device in found:
            if device != common:
                for ten, numbers in itertools.groupby(found[device], key=lambda n: int(n.split(".")[1]) // 10):
                    digits = "".join(n[-1] for n in numbers)
                    options += ["--pin", "%s.%s[%s]=%s" % (kind, ten or "", digits, device)]
    return options


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("model")
    parser.add_argument("--devices", default="pthread basic")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompt", type=int, default=256)
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--memory", default="", help="--max-memory for the choices, so that both devices are needed")
    given = parser.parse_args()
    folder = os.path.join(given.build, "bench-plans")
    bench = Bench(given.build, given.model, folder, given.devices)
    limit = ["--max-memory", given.memory] if given.memory else []

    def plan(name, *options):
        bench.plan(name, given.prompt, given.new, *options)
        placement = bench.placement(name)
        names.setdefault(placement, name)
        return placement

    def measure(placement):
        prefill, decode = bench.measure(names[placement], given.prompt, given.new)
        rounds.setdefault(placement, []).append((given.prompt / prefill + given.new / decode, prefill, decode))

    names, rounds = {}, {}
    first = plan("first", *limit)
    devices = bench.devices()[:2]
    if len(devices) < 2:
        fail("POCL_DEVICES='%s' gives no second device" % given.devices)
    wanted = list(dict.fromkeys(list(thirds(len(first), devices)) + list(pairs(len(first), devices))))
    for number, placement in enumerate(wanted):
        if plan("sweep-%d" % number, *pins(placement)) != placement:
            fail("the pins %s gave another placement" % pins(placement))
    alone = [placement for placement in names if len(set(placement)) == 1]
    for turn in range(given.rounds):
        for placement in list(names):
            measure(placement)
        print("round %d of %d measured, %d placements" % (turn + 1, given.rounds, len(names)), file=sys.stderr)
    for placement in alone:
        plan_id = bench.query("select id from plan where name = ? and superseded_at is null", names[placement])[0][0]
        bench.run("phiplan", "check", plan_id)
    second = plan("second", *limit)
    while len(rounds.get(second, [])) < given.rounds:
        measure(second)

    results = sorted((median([r[0] for r in taken]), placement) for placement, taken in rounds.items())
    fastest = results[0][0]
    with open(os.path.join(folder, "plans.csv"), "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["rank", "workload_s", "over_fastest", "prefill_tokens_per_s", "decode_tokens_per_s", "chosen",
                         "placement"])
        print("rank  workload  over fastest  prefill   decode  placement (units 1-%d)" % len(first))
        for rank, (seconds, placement) in enumerate(results, 1):
            chosen = " ".join(name for name, one in (("first", first), ("second", second)) if one == placement)
            prefill, decode = (median([r[i] for r in rounds[placement]]) for i in (1, 2))
            writer.writerow([rank, "%.4f" % seconds, "%.4f" % (seconds / fastest), "%.2f" % prefill, "%.2f" % decode,
                             chosen, describe(placement)])
            if rank <= 5 or chosen or rank == len(results):
                print("%4d  %6.3f s  %11.1f %%  %7.1f  %7.1f  %s%s" % (
                    rank, seconds, 100 * (seconds / fastest - 1), prefill, decode, describe(placement),
                    "   <- " + chosen + " choice" if chosen else ""))
    times = {placement: seconds for seconds, placement in results}
    ok = times[second] <= WITHIN * fastest
    print("the plan that phiplan chose: %.1f %% slower than the fastest of %d from the probe alone, %.1f %% after a check "
          "(%s)" % (100 * (times[first] / fastest - 1), len(results), 100 * (times[second] / fastest - 1),
                    "within 5 %" if ok else "not within 5 %"))
    return 0 if ok else 1


sys.exit(main())
