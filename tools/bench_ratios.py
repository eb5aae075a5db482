#!/usr/bin/env python3
"""Ratios within one benchmark run, beside what is asked of them.

usage: tools/bench_ratios.py build/bench/bench.json [--save docs/benchmarks/NAME.json]

Speeds of different runs or machines do not compare; ratios of one run do. Prints a table: the ratio
of the medians of the repetitions, and the least and largest ratio of any two of them. With --save
writes that table, the medians and what the machine is. Exits with 0 whatever the ratios are: it
reports, it does not judge.
"""

import argparse
import json
import statistics
import subprocess

NANOSECONDS = {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9}
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


def ratio_of(above, below):
    """(of the medians, least, largest) of the times of two benchmarks."""
    return (
        statistics.median(above) / statistics.median(below),
        min(above) / max(below),
        max(above) / min(below),
    )


class Times:
    """Nanoseconds of each benchmark, one for each repetition."""

    def __init__(self, report):
        self.of = {}
        self.counters = {}
        for run in report["benchmarks"]:
            if run.get("run_type") == "aggregate":
                continue
            name = run.get("run_name", run["name"])
            parts = [
                part
                for part in name.split("/")
                if part not in ("manual_time", "real_time")
                and not part.startswith(("iterations:", "repeats:"))
            ]
            nanoseconds = run["real_time"] * NANOSECONDS[run["time_unit"]]
            self.of.setdefault("/".join(parts), []).append(nanoseconds)
            self.counters.setdefault("/".join(parts), []).append(run)

    def median(self, name):
        return statistics.median(self.of[name])

    def ratio(self, numerator, denominator):
        """(of the medians, least, largest); None if either was not run."""
        if numerator not in self.of or denominator not in self.of:
            return None
        return ratio_of(self.of[numerator], self.of[denominator])

    def counter(self, name, counter):
        """(median, least, largest) of what a benchmark counts itself; None if not run."""
        if name not in self.counters:
            return None
        values = [run[counter] for run in self.counters[name]]
        return statistics.median(values), min(values), max(values)

    def slowest_over_fastest(self, family):
        """Among the benchmarks of `family`, which differ in their argument only."""
        names = [name for name in self.of if name.startswith(family + "/")]
        if not names:
            return None
        return self.ratio(max(names, key=self.median), min(names, key=self.median))


def rows(times):
    """(what, ratio or None, what is asked)"""
    flat = times.slowest_over_fastest
    for kind, suffix in (("warm", ""), ("cold", "Cold")):
        for verb, family in (("put", "PutBuiltBySize"), ("open", "OpenBySize")):
            yield (
                f"{verb}, {kind}, 1 KiB to 4 GiB: slowest / fastest",
                flat(family + suffix),
                "at most 2",
            )
    yield "put, 1 to 1,000 columns: slowest / fastest", flat("PutBuiltByColumns"), ""
    yield "open, 1 to 1,000 columns: slowest / fastest", flat("OpenByColumns"), ""
    for size, text in ((64 * MIB, "64 MiB"), (GIB, "1 GiB")):
        yield (
            f"copying put, speed / bare streaming copy, warm, {text}",
            times.ratio(f"BareStreamingCopy/{size}", f"PutCopied/{size}"),
            "at least 0.85",
        )
    yield (
        "copying put, cold / warm time, 1 GiB",
        times.ratio(f"PutCopiedCold/{GIB}", f"PutCopied/{GIB}"),
        "",
    )
    yield (
        "sum over an opened table, speed / private memory, 1 GiB",
        times.ratio(f"SumPrivate/{GIB}", f"SumOpened/{GIB}"),
        "at least 0.95",
    )
    yield (
        "open + sum in a fresh process, 4 KiB / huge pages, 1 GiB",
        times.ratio(f"OpenAndSumInFreshProcess/{GIB}/0", f"OpenAndSumInFreshProcess/{GIB}/1"),
        "",
    )
    for case, size, text, wanted in (
        ("AllocateFree", 64, "allocate + free, 64 B", "at most 3"),
        ("AllocateFree", 4 * KIB, "allocate + free, 4 KiB", "at most 3"),
        ("AllocateFirstTouchFree", MIB, "allocate + first touch + free, 1 MiB", "below 1"),
        ("AllocateFirstTouchFree", 16 * MIB, "allocate + first touch + free, 16 MiB", "below 1"),
        ("AllocateTouchFree", MIB, "allocate + touch + free, 1 MiB", ""),
        ("StringBuilder", 10**6, "build 1,000,000 strings", ""),
    ):
        yield (
            f"pool, time / Arrow's default pool: {text}",
            times.ratio(f"Pool{case}/region/{size}", f"Pool{case}/default/{size}"),
            wanted,
        )
    ring, rings = "MessageThroughRing/Spinning", "RequestThroughRings"
    for above, below, text, wanted in (
        ("MessageOverSockets/Tcp", ring, "TCP / ring, spinning", "at least 20"),
        ("MessageOverSockets/TcpSpinning", ring, "TCP, spinning / ring, spinning", ""),
        ("MessageOverSockets/Unix", ring, "UNIX socket / ring, spinning", ""),
        ("MessageOverSockets/Tcp", f"{rings}/Spinning", "TCP / daemons over rings, spinning", ""),
        ("RequestOverConnection", f"{rings}/Spinning", "daemons, sockets / rings, spinning", ""),
        ("RequestOverConnection", f"{rings}/Blocking", "daemons, sockets / rings, blocking", ""),
    ):
        for size in (64, 16 * KIB):
            yield (
                f"round trip of {size} B: {text}",
                times.ratio(f"{above}/{size}", f"{below}/{size}"),
                wanted if size == 64 else "",
            )
    yield (
        "find a name among 1,000,000 / among 10, software coherence",
        times.ratio(f"FindName/{10**6}", "FindName/10"),
        "at most 2",
    )
    yield (
        "build 1 GiB, another node's memory / own",
        times.ratio("BuildBy/1", "BuildBy/0"),
        "at most 1.01",
    )
    for build, text in (("BuildBy", "build"), ("BuildAndPutIncoherentBy", "build and write back")):
        yield (
            f"extents of 1 GiB of another node / {text} there",
            times.ratio("AcquireBy/1", f"{build}/1"),
            "at most 0.01",
        )
    for what, counter, wanted in (
        ("microseconds a part, 16 columns", "us_per_part", "below 5"),
        ("microseconds a part, 1 of its 16 columns", "us_per_part_1_of_16_columns", ""),
        ("time / of the same chunks in one put", "ratio_to_one_put", ""),
    ):
        yield (
            f"open 400 parts on 4 nodes: {what}",
            times.counter("OpenOfParts", counter),
            wanted,
        )


def machine():
    """Processor, number of cores and kernel, without the machine's name."""
    with open("/proc/cpuinfo") as file:
        models = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    kernel = subprocess.run(["uname", "-rm"], capture_output=True, text=True, check=True)
    return {
        "processor": models[0] if models else "unknown",
        "cores": len(models),
        "kernel": kernel.stdout.strip(),
    }


def commit():
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True
    )
    return described.stdout.strip() or "unknown"


def save(path, report, times):
    """The table, the medians and their spread, with where they come from."""
    counters = {
        run["run_name"].split("/manual_time")[0]: run["page_bytes"]
        for run in report["benchmarks"]
        if "page_bytes" in run
    }
    content = {
        "commit": commit(),
        "date": report["context"]["date"][:10],
        "machine": machine(),
        "caches": report["context"].get("caches", []),
        "page_bytes": counters,
        "ratios": [
            {"what": what, "asked": asked, "median": None, "least": None, "largest": None}
            if ratio is None
            else {
                "what": what,
                "asked": asked,
                "median": round(ratio[0], 3),
                "least": round(ratio[1], 3),
                "largest": round(ratio[2], 3),
            }
            for what, ratio, asked in rows(times)
        ],
        "nanoseconds": {
            name: {
                "median": round(times.median(name), 1),
                "least": round(min(values), 1),
                "largest": round(max(values), 1),
                "repetitions": len(values),
            }
            for name, values in times.of.items()
        },
    }
    with open(path, "w") as file:
        json.dump(content, file, indent=1)
        file.write("\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("report", help="what --benchmark_out wrote")
    parser.add_argument("--save", help="write a summary there, as JSON")
    arguments = parser.parse_args()
    with open(arguments.report) as file:
        report = json.load(file)
    times = Times(report)
    for what, ratio, asked in rows(times):
        text = "not run" if ratio is None else f"{ratio[0]:.2f}"
        spread = "" if ratio is None else f"({ratio[1]:.2f} to {ratio[2]:.2f})"
        print(f"{what:66} {text:>8} {spread:18} {asked}")
    if arguments.save:
        save(arguments.save, report, times)


if __name__ == "__main__":
    main()
