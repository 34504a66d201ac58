#!/usr/bin/env python3
"""How far predictions are from what is measured, after one `phiplan check`.

usage: bench_predictions.py BUILD MODEL... [--runs 10] [--learn 10] [--prompt 256] [--new 64]

For each model and each set of devices: a plan, as many runs to learn from, one check, and then the runs that
count, each a process of its own. The same once more for a plan that uses both devices. An error is
measured / predicted - 1; of the runs' absolute errors the median counts. Exit 1: one is above 15 %."""
import argparse
import os
import sys

from bench_support import Bench, median

LIMIT = 0.15
CASES = (("pthread", ()), ("pthread basic", ()), ("pthread basic", ("--pin", "*.[0-9]=cpu0", "--pin", "*.[12][0-9]=cpu1")))


def errors(bench, name, column, last):
    rows = bench.query("select e.%s from prediction_error e join plan p on p.id = e.plan where p.name = ? and "
                       "p.superseded_at is null and e.kind = 'bench' and e.%s is not null order by e.run desc limit ?"
                       % (column, column), name, last)
    return [row[0] for row in rows]


def measure(bench, count, given):
    for _ in range(count):
        bench.measure("default", given.prompt, given.new)


def show(phase, found):
    worst = max(found, key=abs)
    print("    %-8s median error %+6.1f %%, median of its size %5.1f %%, worst %+6.1f %%" % (
        phase, 100 * median(found), 100 * median([abs(e) for e in found]), 100 * worst))
    return median([abs(e) for e in found])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("model", nargs="+")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--learn", type=int, default=10)
    parser.add_argument("--prompt", type=int, default=256)
    parser.add_argument("--new", type=int, default=64)
    given = parser.parse_args()
    ok = True
    for model in given.model:
        for devices, options in CASES:
            bench = Bench(given.build, model, os.path.join(given.build, "bench-predictions"), devices)
            bench.plan("default", given.prompt, given.new, *options)
            used = sorted(set(bench.placement("default")))
            print("%s, POCL_DEVICES='%s', on %s" % (os.path.basename(model), devices, " + ".join(used)), flush=True)
            measure(bench, given.learn, given)
            for phase in "prefill", "decode":
                found = errors(bench, "default", phase + "_error", given.learn)
                print("    %-8s %+.1f %% before the check" % (phase, 100 * median(found)))
            bench.run("phiplan", "check")
            measure(bench, given.runs, given)
            for phase in "prefill", "decode":
                size = show(phase, errors(bench, "default", phase + "_error", given.runs))
                ok = ok and size <= LIMIT
    print("after a check: %s" % ("all within 15 %" if ok else "not all within 15 %"))
    return 0 if ok else 1


sys.exit(main())
