"""What bench_plans.py and bench_predictions.py share: the two programs, their store, medians."""
import os
import shutil
import sqlite3
import subprocess
import sys


def fail(text):
    sys.exit("%s: %s" % (os.path.basename(sys.argv[0]), text))


class Bench:
    """One store of its own in `folder`, one model, one set of devices."""

    def __init__(self, build, model, folder, devices):
        self.build, self.model, self.folder = build, model, folder
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        self.store = os.path.join(folder, "plans.db")
        self.environment = dict(os.environ, PHI_STORE=self.store, POCL_DEVICES=devices)

    def copy(self, folder):
        """The same with a store of its own that knows as much."""
        other = Bench(self.build, self.model, folder, self.environment["POCL_DEVICES"])
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        return other

    def run(self, program, *arguments):
        command = [os.path.join(self.build, program)] + [str(a) for a in arguments]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        if done.returncode:
            fail("%s ended with %d:\n%s" % (" ".join(command), done.returncode, done.stderr))
        return done.stdout

    def query(self, sql, *values):
        with sqlite3.connect(self.store) as connection:
            return connection.execute(sql, values).fetchall()

    def plan(self, name, prompt, new, *options):
        self.run("phiplan", self.model, "--ctx", prompt + new, "--prompt", prompt, "--new", new, "--name", name, *options)

    def devices(self):
        return [row[0] for row in self.query("select short_name from device where usable and alias_of = '' order by 1")]

    def placement(self, name):
        """The device of each unit behind the embedding."""
        rows = self.query("select s.device from shard s join plan p on p.id = s.plan where p.name = ? and "
                          "p.superseded_at is null and s.unit > 0 order by s.unit, s.part_begin", name)
        return tuple(row[0] for row in rows)

    def measure(self, name, prompt, new):
        """Tokens/s of the prompt and of the new tokens behind it."""
        rates = []
        for test in ("-p", prompt, "-n", 0), ("-p", 0, "-n", new, "-d", prompt):
            lines = self.run("phirun", "bench", self.model, "--plan", name, "-r", 1, "-o", "csv", *test).splitlines()
            rates.append(float(lines[1].split(",")[3]))
        return rates


def median(values):
    values = sorted(values)
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2


def describe(placement):
    """Runs of units: "cpu0 0-29, cpu1 30-60"; alternating halves as one run."""
    text, start = [], 0
    while start < len(placement):
        end = start + 1
        step = 2 if start + 3 < len(placement) and placement[start] == placement[start + 2] != placement[start + 1] \
            and placement[start + 1] == placement[start + 3] else 1
        while end < len(placement) and placement[end] == placement[start + (end - start) % step]:
            end += 1
        names = "/".join(placement[start:start + step])
        text.append("%s %d-%d" % (names, start + 1, end) if end - start > 1 else "%s %d" % (names, end))
        start = end
    return ", ".join(text)
