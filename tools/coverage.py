#!/usr/bin/env python3
"""Lines of include/, src/ and apps/ that a run executed, file by file, from gcc's counters.

usage: coverage.py BUILD_FOLDER
"""

import collections
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDERS = ("include/", "src/", "apps/")


def main():
    counts = collections.defaultdict(dict)  # {file: {line: times executed}}
    for counters in pathlib.Path(sys.argv[1]).resolve().rglob("*.gcda"):
        report = subprocess.run(
            ["gcov", "--json-format", "--stdout", counters],
            check=True, capture_output=True, cwd=counters.parent).stdout
        for document in report.splitlines():
            for file in json.loads(document)["files"]:
                lines = counts[file["file"].removeprefix(f"{ROOT}/")]
                for line in file["lines"]:
                    number = line["line_number"]
                    lines[number] = lines.get(number, 0) + line["count"]
    total = executed = 0
    for file in sorted(f for f in counts if f.startswith(FOLDERS) and "_test." not in f):
        lines = counts[file].values()
        hit = sum(1 for count in lines if count)
        print(f"{100 * hit / len(lines):6.1f} %  {hit:5} of {len(lines):5}  {file}")
        total, executed = total + len(lines), executed + hit
    print(f"{100 * executed / max(total, 1):6.1f} %  {executed} of {total} lines")


if __name__ == "__main__":
    main()
