#!/usr/bin/env python3
"""The curves and tables of docs/scale.md, from docs/benchmarks/scale-*.json alone.

usage: tools/scale_curves.py docs/benchmarks/scale-NAME.json
           draws docs/scale/*.svg and writes the tables of docs/scale.md anew
       tools/scale_curves.py --collect BENCH.json... --counted SIMULATE.txt... --save NAME.json
           makes that file of what `sheaf_bench --benchmark_filter=Scale/` wrote
           (--benchmark_out) and of what `simulate --scale N` printed

No dependency but Python. Times are those of the processor, medians of the repetitions.
"""

import argparse
import json
import math
import pathlib
import re
import statistics

import bench_ratios

ROOT = pathlib.Path(__file__).resolve().parent.parent
MICROSECONDS = {"ns": 1e-3, "us": 1, "ms": 1e3, "s": 1e6}
FEW, MANY = 10_000, 1_000_000
LOOKS_PER_SECOND, BEATS_PER_SECOND = 20, 10
COLOURS = ("#1b6ca8", "#c8553d", "#3a7d44", "#8e5ea2", "#b8860b", "#555555")


def collect(reports, counted, path):
    """Summary of several runs of the benchmark, and of the simulator's counts."""
    times, counters, context = {}, {}, None
    for name in reports:
        with open(name) as file:
            report = json.load(file)
        context = report["context"]
        for run in report["benchmarks"]:
            if run.get("run_type") == "aggregate":
                continue
            what, nodes, tables = re.match(r"Scale/(\w+)/(\d+)/(\d+)", run["name"]).groups()
            # Manual time is that of the processor, too (NodeDeath).
            which = "real_time" if "manual_time" in run["name"] else "cpu_time"
            key = f"{what}/{nodes}/{tables}"
            times.setdefault(key, []).append(run[which] * MICROSECONDS[run["time_unit"]])
            counters.setdefault(key, {}).update(
                {k: v for k, v in run.items() if k.endswith("bytes") or k == "deaths"}
            )
    counts = []
    for name in counted:
        with open(name) as file:
            counts += [json.loads(line) for line in file if line.startswith("{")]
    content = {
        "commit": bench_ratios.commit(),
        "date": context["date"][:10],
        "machine": bench_ratios.machine(),
        "caches": context.get("caches", []),
        "microseconds": {
            key: {
                "median": round(statistics.median(values), 3),
                "least": round(min(values), 3),
                "largest": round(max(values), 3),
                "repetitions": len(values),
            }
            for key, values in sorted(times.items())
        },
        "counters": {key: value for key, value in sorted(counters.items()) if value},
        "counted": sorted(counts, key=lambda c: (c["messages_over"], c["nodes"])),
    }
    with open(path, "w") as file:
        json.dump(content, file, indent=1)
        file.write("\n")


class Figures:
    """What the file has, by name, number of nodes and number of tables."""

    def __init__(self, content):
        self.content = content

    def time(self, what, nodes, tables=FEW):
        entry = self.content["microseconds"].get(f"{what}/{nodes}/{tables}")
        return None if entry is None else entry["median"]

    def counter(self, name, nodes, tables=FEW):
        for what in ("ControlArea", "LeaderChange", "NodeDeath"):
            found = self.content["counters"].get(f"{what}/{nodes}/{tables}", {})
            if name in found:
                return found[name]
        return None

    def nodes(self, tables=FEW):
        keys = (key.split("/") for key in self.content["microseconds"])
        return sorted({int(key[1]) for key in keys if int(key[2]) == tables})

    def share_of_core(self, nodes):
        """In per cent: what a daemon without work does all the time, but for its rings."""
        each_look = self.time("LookAtNodes", nodes) + self.time("ReadEpochs", nodes)
        busy_us = LOOKS_PER_SECOND * each_look + BEATS_PER_SECOND * self.time("Heartbeat", nodes)
        return busy_us / 1e6 * 100

    def death(self, nodes):
        """Of one node at one survivor, beside the look that finds it."""
        deaths = self.counter("deaths", nodes)
        if not deaths:
            return None
        return (self.time("NodeDeath", nodes) - self.time("LookAtNodes", nodes)) / deaths


def si(value):
    """Three digits at most."""
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(digits, 2)}f}".replace(",", " ")


def chart(title, unit, series, across="nodes"):
    """Lines through measured points, both axes logarithmic, as SVG."""
    width, height, left, top, right, bottom = 640, 360, 70, 40, 190, 48
    points = [p for line in series.values() for p in line if p[1] is not None]
    x_range = [math.log10(f(p[0] for p in points)) for f in (min, max)]
    y_range = [math.floor(math.log10(min(p[1] for p in points))),
               math.ceil(math.log10(max(p[1] for p in points)))]
    if y_range[0] == y_range[1]:
        y_range[1] += 1

    def x_of(value):
        share = (math.log10(value) - x_range[0]) / (x_range[1] - x_range[0])
        return left + share * (width - left - right)

    def y_of(value):
        share = (math.log10(value) - y_range[0]) / (y_range[1] - y_range[0])
        return height - bottom - share * (height - top - bottom)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{left}" y="22" font-size="14">{title}</text>',
    ]
    for power in range(y_range[0], y_range[1] + 1):
        y = y_of(10.0**power)
        label = f"{10**power:,}".replace(",", " ") if power >= 0 else f"{10.0**power:g}"
        out.append(f'<line x1="{left}" y1="{y:.1f}" x2="{width - right}" y2="{y:.1f}" '
                   'stroke="#dddddd"/>')
        out.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    for value in sorted({p[0] for p in points}):
        label = f"{value:,}".replace(",", " ")
        out.append(f'<text x="{x_of(value):.1f}" y="{height - bottom + 18}" '
                   f'text-anchor="middle">{label}</text>')
    out.append(f'<text x="{left}" y="{height - 10}">{across}; upwards: {unit}</text>')
    for number, (name, line) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        line = [(x_of(x), y_of(y)) for x, y in line if y is not None]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in line)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" '
                   'stroke-width="2"/>')
        out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in line]
        y = top + 8 + 18 * number
        out.append(f'<rect x="{width - right + 12}" y="{y - 8}" width="10" height="10" '
                   f'fill="{colour}"/>')
        out.append(f'<text x="{width - right + 28}" y="{y + 1}">{name}</text>')
    return "\n".join(out) + "\n</svg>\n"


def line_of(figures, what, scale=1.0):
    return [(n, t * scale) for n in figures.nodes() if (t := figures.time(what, n)) is not None]


def curves(figures):
    """name of the file: SVG"""
    nodes = figures.nodes()
    deaths = [(n, d) for n in nodes if (d := figures.death(n)) is not None and d > 0]
    yield "look-up", chart("One look-up, one open (10 000 tables)", "µs of CPU", {
        "open": line_of(figures, "OpenByName"),
        "look-up": line_of(figures, "LookUp"),
        "look-up, absent": line_of(figures, "LookUpAbsent"),
        "epoch lines": line_of(figures, "ReadEpochs"),
        "the same one by one": line_of(figures, "ReadEpochsOneByOne"),
    })
    yield "scans", chart("What looks at all nodes (10 000 tables)", "ms of CPU", {
        "leader change": line_of(figures, "LeaderChange", 1e-3),
        "`ls`": line_of(figures, "ListNames", 1e-3),
        "reclaim scan": line_of(figures, "ReclaimScan", 1e-3),
        "look at the nodes": line_of(figures, "LookAtNodes", 1e-3),
        "a death, each survivor": [(n, d * 1e-3) for n, d in deaths],
    })
    yield "heartbeat", chart("A daemon that has nothing to do", "per cent of one core", {
        "heartbeat and looks": [(n, figures.share_of_core(n)) for n in nodes],
    })
    yield "memory", chart("Control area of one node", "MiB", {
        "reserved for rings": [(n, n * 256 / 1024) for n in nodes],
        "admit and ring ends": [(n, n * 128 / 2**20) for n in nodes],
        "in use, rings apart": [(n, figures.counter("resident_bytes", n) / 2**20)
                                for n in nodes],
    })
    by_tables = {}
    for what, name in (("LeaderChange", "leader change"), ("ListNames", "`ls`")):
        for count in (1, 16, 256, 1024):
            points = [(t, v * 1e-3) for t in (FEW, MANY)
                      if (v := figures.time(what, count, t)) is not None]
            if len(points) > 1:
                by_tables[f"{name}, {count} nodes"] = points
    if by_tables:
        yield "tables", chart("What looks at all tables", "ms of CPU", by_tables, "tables")


def measured(figures):
    """Table: every structure by number of nodes."""
    nodes = figures.nodes()
    rows = [
        ("epoch lines, one by one (before)", "µs", lambda n: figures.time("ReadEpochsOneByOne", n)),
        ("epoch lines, together", "µs", lambda n: figures.time("ReadEpochs", n)),
        ("look-up", "µs", lambda n: figures.time("LookUp", n)),
        ("look-up, absent", "µs", lambda n: figures.time("LookUpAbsent", n)),
        ("open by name, with its table", "µs", lambda n: figures.time("OpenByName", n)),
        ("look at the nodes", "µs", lambda n: figures.time("LookAtNodes", n)),
        ("idle daemon, share of a core", "%", figures.share_of_core),
        ("death of a node, each survivor", "µs", figures.death),
        ("reclaim scan, 500 leases a node", "µs", lambda n: figures.time("ReclaimScan", n)),
        ("leader change, 10 000 tables", "ms", lambda n: figures.time("LeaderChange", n) / 1e3),
        ("`ls`, 10 000 tables", "ms", lambda n: figures.time("ListNames", n) / 1e3),
        ("control area in use", "MiB", lambda n: figures.counter("resident_bytes", n) / 2**20),
    ]
    out = ["| | | " + " | ".join(f"N = {n:,}".replace(",", " ") for n in nodes) + " |",
           "|---|---|" + "---|" * len(nodes)]
    for name, unit, value in rows:
        cells = [si(v) if (v := value(n)) is not None else "-" for n in nodes]
        out.append(f"| {name} | {unit} | " + " | ".join(cells) + " |")
    return "\n".join(out)


def million(figures):
    """Table: with a million tables."""
    nodes = figures.nodes(MANY)
    out = ["| 1 000 000 tables | | " +
           " | ".join(f"N = {n:,}".replace(",", " ") for n in nodes) + " |",
           "|---|---|" + "---|" * len(nodes)]
    for what, name, unit, scale in (
        ("LookUp", "look-up", "µs", 1),
        ("LookUpAbsent", "look-up, absent", "µs", 1),
        ("OpenByName", "open by name, with its table", "µs", 1),
        ("LeaderChange", "leader change", "s", 1e-6),
        ("ListNames", "`ls`", "s", 1e-6),
    ):
        cells = [si(v * scale) if (v := figures.time(what, n, MANY)) is not None else "-"
                 for n in nodes]
        out.append(f"| {name} | {unit} | " + " | ".join(cells) + " |")
    cells = [si(v / 2**20) if (v := figures.counter("leader_bytes", n, MANY)) is not None else "-"
             for n in nodes]
    out.append("| control area of the leader | MiB | " + " | ".join(cells) + " |")
    return "\n".join(out)


def counted(figures):
    """Table: lines and messages of whole daemons."""
    counts = [c for c in figures.content["counted"] if c["messages_over"] == "sockets"]
    nodes = sorted({c["nodes"] for c in counts})
    names = []
    for count in counts:
        quiet = abs(count["lines"]) < 2 and abs(count["messages"]) < 0.1
        if count["what"] not in names and not quiet:
            names.append(count["what"])
    out = ["| lines / messages | " + " | ".join(f"N = {n}" for n in nodes) + " |",
           "|---|" + "---|" * len(nodes)]
    for name in names:
        cells = []
        for n in nodes:
            found = [c for c in counts if c["what"] == name and c["nodes"] == n]
            cells.append("-" if not found else
                         f"{found[0]['lines']:.0f} / {found[0]['messages']:.1f}")
        out.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(out)


def write(figures):
    """Tables between their marks, and curves."""
    page = ROOT / "docs/scale.md"
    text = page.read_text()
    for name, table in (("measured", measured), ("million", million), ("counted", counted)):
        text = re.sub(rf"(<!-- {name} -->\n).*?(<!-- end -->)",
                      lambda found, table=table: found[1] + table(figures) + "\n" + found[2],
                      text, flags=re.S)
    page.write_text(text)
    for name, svg in curves(figures):
        (ROOT / f"docs/scale/{name}.svg").write_text(svg)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("summary", nargs="?", help="docs/benchmarks/scale-NAME.json")
    parser.add_argument("--collect", nargs="+", default=[])
    parser.add_argument("--counted", nargs="+", default=[])
    parser.add_argument("--save", help="with --collect: the summary that is made")
    arguments = parser.parse_args()
    if arguments.save:
        collect(arguments.collect, arguments.counted, arguments.save)
    if arguments.summary:
        with open(arguments.summary) as file:
            write(Figures(json.load(file)))


if __name__ == "__main__":
    main()
