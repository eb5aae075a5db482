#!/usr/bin/env python3
"""Adds up the tests of several ctest runs: `N passed, M failed, K skipped`, the last line.

usage: count_tests.py [--stages-failed N] PRESET...

Reads build/PRESET/ctest.xml (ctest --output-junit). A run without that file counts as one
failed test. A test program that ctest runs as a whole counts by its own report,
build/PRESET/gtest/NAME.xml. Exit status 1 if a test or a stage failed.
"""

import argparse
import collections
import pathlib
import sys
import textwrap
import xml.etree.ElementTree as ElementTree

WHOLE = ".whole"  # Ends the names of the tests that run a program as a whole.
SHOWN_LINES = 25  # Of what a failed test printed: its end says what was wrong.


def count_whole(report):
    """Cases of one GoogleTest report by verdict."""
    counts = collections.Counter()
    for case in ElementTree.parse(report).iter("testcase"):
        if case.find("failure") is not None:
            counts["failed"] += 1
        elif case.find("skipped") is not None or case.get("status") == "notrun":
            counts["skipped"] += 1
        else:
            counts["passed"] += 1
    return counts


def count_run(folder):
    """Tests of one ctest run by verdict; failed ones are printed with what they said last."""
    counts = collections.Counter()
    report = folder / "ctest.xml"
    if not report.exists():
        print(f"{folder.name}: no tests ran")
        return collections.Counter(failed=1)
    for case in ElementTree.parse(report).iter("testcase"):
        name = case.get("name")
        verdict = {"run": "passed", "fail": "failed"}.get(case.get("status"), "skipped")
        whole = folder / "gtest" / (name.removesuffix(WHOLE) + ".xml")
        if verdict == "failed":
            print(f"{folder.name}: failed: {name}")
            said = (case.findtext("system-out") or "").splitlines()[-SHOWN_LINES:]
            print(textwrap.indent("\n".join(said), "    "))
        if name.endswith(WHOLE) and whole.exists():
            inner = count_whole(whole)
            if verdict == "failed" and not inner["failed"]:
                inner["failed"] = 1  # It ended badly after its last case.
            counts += inner
        else:
            counts[verdict] += 1
    return counts


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--stages-failed", type=int, default=0)
    parser.add_argument("presets", nargs="+")
    options = parser.parse_args()
    build = pathlib.Path(__file__).resolve().parent.parent / "build"
    total = sum((count_run(build / preset) for preset in options.presets), collections.Counter())
    line = f"{total['passed']} passed, {total['failed']} failed"
    if total["skipped"]:
        line += f", {total['skipped']} skipped"
    if options.stages_failed and not total["failed"]:
        print(f"{options.stages_failed} stages failed")
    print(line)
    return 1 if total["failed"] or options.stages_failed else 0


if __name__ == "__main__":
    sys.exit(main())
