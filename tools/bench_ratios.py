#!/usr/bin/env python3
"""Ratios within one benchmark run, beside what is asked of them.

usage: tools/bench_ratios.py build/bench/bench.json

Speeds of different runs or machines do not compare; ratios of one run do. Prints a table and exits
with 0 whatever it says: it reports, it does not judge.
"""

import json
import sys


def load(path):
    """Real time in nanoseconds of each benchmark: the median where there are repetitions."""
    scale = {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9}
    times = {}
    with open(path) as file:
        for run in json.load(file)["benchmarks"]:
            name = run.get("run_name", run["name"])
            if run.get("run_type") == "aggregate" and run.get("aggregate_name") != "median":
                continue
            for suffix in ("/manual_time", "/real_time"):
                name = name.replace(suffix, "")
            parts = [p for p in name.split("/") if not p.startswith(("iterations:", "repeats:"))]
            times["/".join(parts)] = run["real_time"] * scale[run["time_unit"]]
    return times


def spread(times, prefix):
    """Largest over smallest time of the benchmarks that differ in their argument only."""
    values = [t for name, t in times.items() if name.startswith(prefix + "/")]
    return max(values) / min(values) if values else None


def over(times, numerator, denominator):
    if numerator not in times or denominator not in times:
        return None
    return times[numerator] / times[denominator]


GIB = 1 << 30


def rows(times):
    yield "put, 1 KiB to 4 GiB: slowest / fastest", spread(times, "PutBuiltBySize"), "at most 2"
    yield "open, 1 KiB to 4 GiB: slowest / fastest", spread(times, "OpenBySize"), "at most 2"
    yield "put, 1 to 1,000 columns: slowest / fastest", spread(times, "PutBuiltByColumns"), ""
    yield "open, 1 to 1,000 columns: slowest / fastest", spread(times, "OpenByColumns"), ""
    for size, text in ((64 << 20, "64 MiB"), (GIB, "1 GiB")):
        yield (
            f"copying put, speed / bare streaming copy, {text}",
            over(times, f"BareStreamingCopy/{size}", f"PutCopied/{size}"),
            "at least 0.85",
        )
    yield (
        "copying put, cold / warm time, 1 GiB",
        over(times, f"PutCopiedCold/{GIB}", f"PutCopied/{GIB}"),
        "",
    )
    yield (
        "sum over an opened table, speed / private memory, 1 GiB",
        over(times, f"SumPrivate/{GIB}", f"SumOpened/{GIB}"),
        "at least 0.95",
    )
    yield (
        "open + sum in a fresh process, 4 KiB / huge pages, 1 GiB",
        over(times, f"OpenAndSumInFreshProcess/{GIB}/0", f"OpenAndSumInFreshProcess/{GIB}/1"),
        "",
    )
    pools = sorted({name.split("/", 1)[1] for name in times if name.startswith("AllocateFree")})
    for case in pools:
        yield f"pool: {case}", times[f"AllocateFree/{case}"], "(ns)"


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    times = load(sys.argv[1])
    for what, value, wanted in rows(times):
        text = "not run" if value is None else f"{value:.2f}"
        print(f"{what:60} {text:>10}  {wanted}")


if __name__ == "__main__":
    main()
