#!/usr/bin/env python3
"""Holds the size of files: a header 200 lines, a source file 500 (functions: clang-tidy, 70).

A ratchet: tools/budget.txt lists accepted exceptions as "path lines". A listed file may not
grow past its number, and leaves the list when it meets the budget.

usage: check_budget.py [ROOT]
"""

import pathlib
import sys

BUDGET = {".h": 200, ".cc": 500, ".cpp": 500}
FOLDERS = ("include", "src", "apps", "examples", "tests", "benchmarks", "fuzz",
           "simulation")


def read_exceptions(text):
    """{path: accepted lines} from the text of tools/budget.txt."""
    rows = (line.split("#")[0].split() for line in text.splitlines())
    return {row[0]: int(row[1]) for row in rows if row}


def check_file(path, lines, exceptions):
    """Why `path` with so many `lines` breaks the budget; None if it does not."""
    budget = BUDGET[pathlib.Path(path).suffix]
    accepted = exceptions.get(path)
    if accepted is None:
        return f"{path}: {lines} lines, {budget} allowed: split it" if lines > budget else None
    if lines > accepted:
        return f"{path}: {lines} lines, grew past its accepted {accepted}"
    if lines <= budget:
        return f"{path}: meets the budget now, take it out of tools/budget.txt"
    return None


def check_tree(root):
    exceptions = read_exceptions((root / "tools/budget.txt").read_text())
    files = [f for folder in FOLDERS for f in (root / folder).rglob("*") if f.suffix in BUDGET]
    paths = {f.relative_to(root).as_posix(): f for f in files}
    problems = [f"{path}: listed, but not there" for path in exceptions if path not in paths]
    for path, file in sorted(paths.items()):
        problems.append(check_file(path, len(file.read_text().splitlines()), exceptions))
    return [problem for problem in problems if problem]


def main():
    default = pathlib.Path(__file__).resolve().parent.parent
    root = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default
    problems = check_tree(root)
    print("\n".join(problems + [f"budget: {len(problems)} problems"]))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
