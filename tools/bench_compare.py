#!/usr/bin/env python3
"""Benchmarks of this checkout beside those of another commit, in turns.

usage: tools/bench_compare.py COMMIT [--filter REGEX] [--rounds 3]

Builds COMMIT in build/bench-base/, then runs its benchmarks and ours one after the other, ROUNDS
times, so that both meet the same machine. Prints new time / old time of each benchmark: the ratio of
the medians, and the least and largest ratio of any two rounds; the slowest first. A benchmark whose
least ratio is above 1 was slower in every round. Both reports are kept, as build/bench/bench.json and
build/bench-base/bench.json (tools/bench_ratios.py reads them). Build ours first: `make bench-compare`
does.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys

from bench_ratios import Times, ratio_of

ROOT = pathlib.Path(__file__).resolve().parent.parent
BASE = ROOT / "build/bench-base"
PROGRAM = "build/bench/bin/sheaf_bench"


def build(commit):
    """COMMIT's benchmarks, in a folder of their own, with this checkout's set-up."""
    source = BASE / "source"
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    subprocess.run(["tar", "-x", "-C", source], input=archive.stdout, check=True)
    (source / ".deps").symlink_to(ROOT / ".deps")
    for command in (["--preset", "bench"], ["--build", "--preset", "bench"]):
        subprocess.run(["cmake", *command], cwd=source, stdout=subprocess.DEVNULL, check=True)
    return source / PROGRAM


def run(program, name_filter, report):
    """Each benchmark once; appends what it says to `report`."""
    output = BASE / "round.json"
    subprocess.run(
        [
            program,
            f"--benchmark_filter={name_filter}",
            f"--benchmark_out={output}",
            "--benchmark_out_format=json",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    one = json.loads(output.read_text())
    report.setdefault("context", one["context"])
    report.setdefault("benchmarks", []).extend(one["benchmarks"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("commit")
    parser.add_argument("--filter", default=".")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    programs = {"old": build(options.commit), "new": ROOT / PROGRAM}
    reports = {"old": {}, "new": {}}
    for turn in range(options.rounds):
        for which, program in programs.items():
            print(f"round {turn + 1} of {options.rounds}: {which}", file=sys.stderr)
            run(program, options.filter, reports[which])
    (BASE / "bench.json").write_text(json.dumps(reports["old"]))
    (ROOT / "build/bench/bench.json").write_text(json.dumps(reports["new"]))

    old, new = Times(reports["old"]), Times(reports["new"])
    names = set(old.of) & set(new.of)
    rows = [(ratio_of(new.of[name], old.of[name]), name) for name in names]
    for (median, least, largest), name in sorted(rows, reverse=True):
        verdict = "slower in every round" if least > 1 else ""
        print(f"{name:60} {median:6.2f} ({least:.2f} to {largest:.2f})  {verdict}".rstrip())


if __name__ == "__main__":
    main()
