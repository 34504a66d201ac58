#!/usr/bin/env python3
"""How far predictions are from what is measured, after one `phiplan check`.

usage: bench_predictions.py BUILD MODEL... [--runs 10] [--learn 10] [--prompt 256] [--new 64]
       [--devices POCL_DEVICES [--pin UNITS=DEVICE]...]

For each model and each set of devices: a plan in two stores, runs to learn from in one and runs that count in the
other, then one check of the first. The runs take turns, each a process of its own: a machine that grows slower
would else pass for a wrong prediction. The same once more for a plan that uses both devices. The error is the
median of what was measured / predicted - 1; beside it, how far the runs lie from their own median, in the median,
since no prediction comes nearer than that to a single run. Exit 1: an error is above 15 %.

--devices and --pin take the place of the sets tried otherwise; other platforms than PoCL are whatever the environment
gives (RUSTICL_ENABLE=llvmpipe)."""
import argparse
import os
import sys

from bench_support import Bench, median

LIMIT = 0.15
CASES = (("pthread", ()), ("pthread basic", ()), ("pthread basic", ("--pin", "*.[0-9]=cpu0", "--pin", "*.[12][0-9]=cpu1")))


def predicted(bench):
    """What the plan says now: tokens/s of the prompt and of the new tokens behind it, for each run alike."""
    return [bench.query("select avg(%s_predicted) from prediction_error where kind = 'bench' and %s_measured is not null"
                        % (phase, phase))[0][0] for phase in ("prefill", "decode")]


def show(phase, rates, before, after):
    middle = median(rates)
    print("    %-8s %9.2f measured  %9.2f predicted  %+6.1f %%   (%+.1f %% before the check; runs lie %.1f %% apart)" % (
        phase, middle, after, 100 * (middle / after - 1), 100 * (middle / before - 1),
        100 * median([abs(rate / middle - 1) for rate in rates])), flush=True)
    return abs(middle / after - 1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("model", nargs="+")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--learn", type=int, default=10)
    parser.add_argument("--prompt", type=int, default=256)
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--devices")
    parser.add_argument("--pin", action="append", default=[])
    given = parser.parse_args()
    ok = True
    own = (given.devices, [word for rule in given.pin for word in ("--pin", rule)])
    for model in given.model:
        for devices, options in [own] if given.devices is not None else CASES:
            folder = os.path.join(given.build, "bench-predictions")
            learning = Bench(given.build, model, os.path.join(folder, "learning"), devices)
            learning.plan("default", given.prompt, given.new, *options)
            counting = learning.copy(os.path.join(folder, "counting"))
            used = sorted(set(learning.placement("default")))
            print("%s, POCL_DEVICES='%s', on %s" % (os.path.basename(model), devices, " + ".join(used)), flush=True)
            measured = []
            for turn in range(max(given.learn, given.runs)):
                if turn < given.learn:
                    learning.measure("default", given.prompt, given.new)
                if turn < given.runs:
                    measured.append(counting.measure("default", given.prompt, given.new))
            before = predicted(learning)
            learning.run("phiplan", "check")
            after = predicted(learning)
            for phase, name in enumerate(("prefill", "decode")):
                ok = show(name, [rate[phase] for rate in measured], before[phase], after[phase]) <= LIMIT and ok
    print("after a check: %s" % ("all within 15 %" if ok else "not all within 15 %"))
    return 0 if ok else 1


sys.exit(main())
