#!/usr/bin/env python3
"""Lets libFuzzer try the targets of build/fuzz, one after the other, and says what it saw.

usage: fuzz.py MINUTES [TARGET...]      all targets when none is named

Each target starts from its seeds (fuzz/corpus/TARGET/, tests/data/TARGET*) and what earlier
runs found (build/fuzz/corpus/TARGET/), with the words of fuzz/TARGET.dict if there is one.
An input that breaks a decoder, takes long or much memory is a finding: it stays in
build/fuzz/findings/, and the exit status is 1. At the end a table: how much was tried, and
how many lines of the target's decoders the corpus reaches; which files those are stands in
the target's source, after "Decoders:".
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build/fuzz"
FINDINGS = BUILD / "findings"
# No decoder needs a second for one input, or much more memory than the input has.
LIMITS = ["-timeout=10", "-rss_limit_mb=2048", "-malloc_limit_mb=32"]


class Target:
    def __init__(self, program):
        self.program = program
        self.name = program.name.removesuffix("_fuzz")
        self.corpus = BUILD / "corpus" / self.name
        self.log = BUILD / "logs" / f"{self.name}.log"
        self.profile = BUILD / "profile" / f"{self.name}.profraw"
        self.executions = 0
        self.failed = False
        self.findings = []
        self.lines = {}  # {decoder's source file: (lines reached, lines)}
        for file in (self.corpus, self.log.parent, self.profile.parent, FINDINGS):
            file.mkdir(parents=True, exist_ok=True)

    def decoders(self):
        """The source files whose coverage counts."""
        text = (ROOT / "fuzz" / f"{self.name}_fuzz.cc").read_text()
        match = re.search(r"^// Decoders:((?:[^\n]|\n//)*)", text, re.MULTILINE)
        if not match:
            sys.exit(f"fuzz: fuzz/{self.name}_fuzz.cc does not say what its decoders are")
        return re.findall(r"(?:src|include)/\S+\.(?:cc|h)", match[1])

    def copy_seeds(self):
        seeds = [*(ROOT / "fuzz/corpus" / self.name).glob("*")]
        seeds += (ROOT / "tests/data").glob(f"{self.name}*")
        for seed in seeds:
            shutil.copy(seed, self.corpus / seed.name)

    def run(self, options, log):
        command = [self.program, *LIMITS, f"-artifact_prefix={FINDINGS}/{self.name}-"]
        # In memory: some targets make files for each input, and a finding leaves them.
        with tempfile.TemporaryDirectory(prefix="sheaf-fuzz-", dir="/dev/shm") as scratch:
            done = subprocess.run(
                [*command, *options, self.corpus], cwd=BUILD, stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(os.environ, TMPDIR=scratch, LLVM_PROFILE_FILE=str(self.profile)))
        return done.returncode == 0

    def fuzz(self, seconds):
        self.copy_seeds()
        options = [f"-max_total_time={seconds}", "-print_final_stats=1"]
        words = ROOT / "fuzz" / f"{self.name}.dict"
        if words.exists():
            options.append(f"-dict={words}")
        before = set(FINDINGS.iterdir())
        with self.log.open("w") as log:
            self.failed = not self.run(options, log)
        self.findings = sorted(set(FINDINGS.iterdir()) - before)
        text = self.log.read_text(errors="replace")
        # The statistics, or, after a finding, the last line that counts.
        counts = re.findall(r"number_of_executed_units:\s*(\d+)|^#(\d+)\t", text, re.MULTILINE)
        self.executions = max((int(a or b) for a, b in counts), default=0)

    def measure(self):
        """Runs the corpus once more, and reads what it reached."""
        self.profile.unlink(missing_ok=True)
        with self.log.open("a") as log:
            self.failed |= not self.run(["-runs=0"], log)
        if not self.profile.exists():
            return
        data = self.profile.with_suffix(".profdata")
        subprocess.run(["llvm-profdata-19", "merge", "-sparse", self.profile, "-o", data],
                       check=True)
        report = subprocess.run(
            ["llvm-cov-19", "export", "-summary-only", f"-instr-profile={data}",
             self.program, *(ROOT / file for file in self.decoders())],
            check=True, capture_output=True, text=True).stdout
        for file in json.loads(report)["data"][0]["files"]:
            lines = file["summary"]["lines"]
            self.lines[file["filename"].removeprefix(f"{ROOT}/")] = (
                lines["covered"], lines["count"])

    def percent(self):
        total = sum(count for _, count in self.lines.values())
        reached = sum(hit for hit, _ in self.lines.values())
        return f"{100 * reached / total:.1f} %" if total else "-"

    def row(self):
        findings = len(self.findings) or int(self.failed)
        return (self.name, f"{self.executions}", f"{len(list(self.corpus.iterdir()))}",
                f"{findings}", self.percent())


def print_table(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        numbers = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))
        print("  ".join([row[0].ljust(widths[0]), *numbers]))


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    seconds = max(1, round(float(sys.argv[1]) * 60))
    targets = [Target(program) for program in sorted((BUILD / "fuzz").glob("*_fuzz"))]
    unknown = set(sys.argv[2:]) - {target.name for target in targets}
    if unknown or not targets:
        sys.exit(f"fuzz: no target {' '.join(sorted(unknown))} in {BUILD}/fuzz")
    targets = [t for t in targets if not sys.argv[2:] or t.name in sys.argv[2:]]
    for target in targets:
        print(f"fuzz: {target.name} for {seconds} s, log in {target.log}", flush=True)
        target.fuzz(seconds)
        target.measure()
        for finding in target.findings:
            print(f"fuzz: FINDING {finding}\n      again: {target.program} {finding}")
    print("\nlines of the decoders that the corpora reach")
    print_table([(file, f"{hit} of {count}", target.name)
                 for target in targets for file, (hit, count) in target.lines.items()]
                or [("", "", "")])
    print()
    print_table([("target", "executions", "corpus", "findings", "lines"),
                 *(target.row() for target in targets)])
    sys.exit(any(target.failed for target in targets))


if __name__ == "__main__":
    main()
