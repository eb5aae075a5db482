#!/usr/bin/env python3
"""Sheaf on separate kernels: boots guests that have two devices in common, a PCI BAR
(ivshmem) and /dev/dax0.0, and runs a cluster on each of the two, with a daemon in every
guest as on real hosts. Called by tools/kernels.sh (make test-kernels).

  run.py --build build/release [--guests 4] [--backend pci] [--only freeze] [--brief]
"""

import argparse
import concurrent.futures
import json
import pathlib
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import image  # noqa: E402
from guest import BAR_MIB, DAX_MIB, Failure, Guest, accelerator  # noqa: E402

SUSPECT_MS = 2000
WINDOW_MIB = 128  # four in a device
DATA_MIB = 84
EVENTUALLY_SECONDS = 90
ROWS = 500_000
SCALE = "0.1"  # of the demo's lineitem

PATHS = {"pci": "/sys/bus/pci/devices/0000:00:02.0/resource2", "devdax": "/dev/dax0.0"}


def say(text):
    print(text, flush=True)


def require(claim, text):
    if not claim:
        raise Failure(text)


class Cluster:
    """One cluster over all guests, node K in guest K."""

    def __init__(self, guests, backend, programs, table_file, lineitem):
        self.guests = guests
        self.backend = backend
        self.name = "k" + backend
        self.programs = programs
        self.table_file = table_file
        self.lineitem = lineitem

    def file(self):
        text = f"""name = "{self.name}"
backend = "{self.backend}"
coherence = "software"
settle_class = "arrived"
segment_size = "{DATA_MIB}MiB"
slots_max = 4096
lease_pages_max = 64
nodes_max = 8
records_size = "16MiB"
heartbeat_ms = 50
suspect_after_ms = {SUSPECT_MS}
"""
        for guest in self.guests:
            text += f"""
[[node]]
id = {guest.number}
host = "{guest.name}"
path = "{PATHS[self.backend]}"
offset = "{guest.number * WINDOW_MIB}MiB"
address = "{guest.address}:{7100 + len(self.backend)}"
"""
        return text

    def environment(self, guest):
        return (f"cd /tmp; export SHEAF_RUNTIME_DIR=/run/sheaf SHEAF_CLUSTER={self.name} "
                f"SHEAF_NODE={guest.number} PATH={self.programs}/bin:"
                f"{self.programs}/examples:$PATH;")

    def run(self, guest, command, expect=0, timeout=120):
        return guest.run(self.environment(guest) + command, expect, timeout)

    def json(self, guest, command):
        return json.loads(self.run(guest, "sheaf --json " + command))

    def on_all(self, do):
        """What `do`(guest) returns, of all guests at once."""
        with concurrent.futures.ThreadPoolExecutor(len(self.guests)) as pool:
            return list(pool.map(do, self.guests))

    def json_on_all(self, command):
        return self.on_all(lambda guest: json.loads(self.run(guest, command(guest))))

    def share_of(self, guest):
        return f"--part {guest.number} --of {len(self.guests)}"

    def spawn(self, guest, command):
        return guest.spawn("bash -c '" + self.environment(guest) + "exec " + command + "'")

    def config_path(self):
        return f"/tmp/{self.name}.toml"

    def start_daemon(self, guest):
        guest.write(self.config_path(), self.file())
        ready, log = f"/tmp/{self.name}.ready", f"/tmp/{self.name}.log"
        self.run(guest, f"rm -f {ready}; sheafd --config {self.config_path()} "
                        f"--node {guest.number} --ready-fd 3 3>{ready} >{log} 2>&1 & "
                        f"for i in $(seq 600); do [ -s {ready} ] && exit 0; "
                        f"kill -0 $! 2>/dev/null || break; sleep 0.1; done; "
                        f"cat {log}; exit 1")

    def states(self, guest):
        return [node["state"] for node in self.json(guest, "nodes")]

    def await_state(self, guest, number, state):
        start = time.monotonic()
        while True:
            states = self.states(guest)
            if states[number] == state:
                return
            require(time.monotonic() - start < EVENTUALLY_SECONDS,
                    f"{guest.name} sees {states}: node {number} is not {state}")

    def await_all_up(self):
        def await_others(guest):
            start = time.monotonic()
            while (states := self.states(guest)) != ["up"] * len(self.guests):
                require(time.monotonic() - start < EVENTUALLY_SECONDS,
                        f"{guest.name} sees {states}")
        self.on_all(await_others)

    def share(self, guest):
        handle, total = self.run(guest, f"handle_between_hosts share {ROWS}").split()
        return handle, total

    def open(self, guest, handle):
        return self.run(guest, f"handle_between_hosts open {handle} </dev/null").strip()

    def sums(self, guest, table):
        return self.json(guest, f"verify {table}")


# ---- Scenarios: each leaves the cluster as it found it, up on all guests.

def doctor(cluster):
    """Each guest says what the device is, and its cache operations work on it."""
    reports = cluster.json_on_all(lambda guest: "sheaf --json doctor")
    for guest, report in zip(cluster.guests, reports):
        found = [d for d in report["devices"] if d["path"] == PATHS[cluster.backend]]
        require(found, f"{guest.name}: no {PATHS[cluster.backend]} in {report['devices']}")
        require(found[0]["self_test_passed"] and found[0]["writable"], str(found))
        require(found[0]["kind"] == cluster.backend, str(found))
        require(report["machine"]["cache_self_test_passed"], str(report["machine"]))


def refuse_strangers(cluster):
    """Bytes of somebody else stay; --force overwrites them."""
    guest = cluster.guests[0]
    guest.write(cluster.config_path(), cluster.file())
    guest.write("/tmp/poke.py", "import mmap, sys\n"
                "file = open(sys.argv[1], 'r+b')\n"
                "memory = mmap.mmap(file.fileno(), 2 << 20)\n"
                "memory[0:8] = b'stranger'\n")
    cluster.run(guest, f"python3 /tmp/poke.py {PATHS[cluster.backend]}")
    format_it = f"sheaf format --config {cluster.config_path()} --node 0"
    out = cluster.run(guest, format_it, expect=1)
    require("not Sheaf's" in out and "--force" in out, out)
    cluster.run(guest, format_it + " --force")
    out = cluster.run(guest, format_it, expect=1)
    require("there is a segment" in out, out)


def join(cluster):
    """Every guest's daemon formats its segment, or goes on with it; all see all."""
    cluster.on_all(cluster.start_daemon)
    cluster.await_all_up()


def refuse_second_daemon(cluster):
    """A node whose heart beats in another guest is not started a second time."""
    guest = cluster.guests[-1]
    start = f"sheafd --config {cluster.config_path()} --node 0"
    out = cluster.run(guest, start, expect=1)
    require("node 0 is on another host" in out, out)
    out = cluster.run(guest, f"SHEAF_HOST={cluster.guests[0].name} {start}", expect=1)
    require("its heart beats" in out, out)


def by_handle(cluster):
    """What each guest shares, the next one opens: no message between nodes."""
    for guest in cluster.guests:
        handle, total = cluster.share(guest)
        reader = cluster.guests[(guest.number + 1) % len(cluster.guests)]
        got = cluster.open(reader, handle)
        require(got == total, f"{reader.name} read {got}, {guest.name} wrote {total}")


def by_name(cluster, guests=None):
    """Put at the leader, read by all: equal checksums of every column."""
    guests = guests or cluster.guests
    first = guests[0]
    cluster.run(first, f"sheaf put --checksum t {cluster.table_file}")
    expected = cluster.sums(first, "t")
    for guest in guests[1:]:
        got = cluster.sums(guest, "t")
        require(got == expected, f"{guest.name}: {got}\n{first.name}: {expected}")
    cluster.run(first, "sheaf rm t")


def names_from_everywhere(cluster):
    """Put at every node by name, read at every other one: messages between nodes."""
    for guest in cluster.guests:
        name = f"t{guest.number}"
        cluster.run(guest, f"sheaf put --checksum {name} {cluster.table_file}")
        expected = cluster.sums(guest, name)
        for reader in cluster.guests:
            require(cluster.sums(reader, name) == expected, f"{reader.name}: {name}")
    for guest in cluster.guests:
        # Not at its home: that one is told.
        cluster.run(guest, f"sheaf rm t{(guest.number + 1) % len(cluster.guests)}")


def demo(cluster):
    """A part of lineitem put in each guest, all rows queried in each, and each one's own
    rows: the answers of the file on this host, and no byte copied."""
    file = cluster.lineitem
    ran = subprocess.run([cluster.programs / "bin/demo", "query-file", f"lineitem={file}"],
                         check=True, capture_output=True)
    expected = json.loads(ran.stdout)
    put = cluster.json_on_all(
        lambda guest: f"demo put-part lineitem={file} {cluster.share_of(guest)}")
    own = cluster.json_on_all(
        lambda guest: f"demo sum-own lineitem {cluster.share_of(guest)}")
    read = cluster.json_on_all(lambda guest: "demo query lineitem")
    merged = json.loads(cluster.run(cluster.guests[-1], "demo merge-sums lineitem"))
    for one in put + own + read:
        require(one["bytes_copied"] == 0, f"copied: {one}")
    for one in read:
        require(one["rows"] == expected["rows"], f"rows: {one}")
        require(len(one["chunks_on"]) == len(cluster.guests), f"chunks: {one}")
    for answer in [one["answer"] for one in read] + [merged["answer"]]:
        require(answer == expected["answer"], f"{answer}\nnot {expected['answer']}")
    for rows in (put, own):
        require(sum(one["rows"] for one in rows) == expected["rows"], str(rows))
    for table in ("lineitem", "lineitem-sums"):
        cluster.run(cluster.guests[0], f"sheaf rm {table}")
    slowest = {key: max(one[key] for one in ones)
               for ones, key in ((put, "load_seconds"), (put, "put_seconds"),
                                 (read, "open_seconds"), (read, "query_seconds"))}
    return f"{expected['rows']} rows, 0 bytes copied, " + ", ".join(
        f"{key.removesuffix('_seconds')} {value:.2f} s" for key, value in slowest.items())


def pause(cluster, halt, resume):
    """A guest that stands still past the suspect time is withdrawn, comes back, and its
    reader sees what it saw."""
    first, guest = cluster.guests[0], cluster.guests[-1]
    handle, total = cluster.share(first)
    reader = cluster.spawn(guest, f"handle_between_hosts open {handle}")
    require(guest.line(reader) == total, "the reader's sum before")
    halt(guest)
    try:
        cluster.await_state(first, guest.number, "withdrawn")
    finally:
        resume(guest)
    cluster.await_state(first, guest.number, "up")
    got = guest.line(reader, "again")
    require(got == total, f"after the pause {got}, before {total}")
    other, total = cluster.share(guest)
    require(cluster.open(first, other) == total, "what it shares afterwards")


def freeze(cluster):
    """QMP stop, cont: the guest's own clock stands still."""
    pause(cluster, Guest.freeze, Guest.thaw)


def stall(cluster):
    """SIGSTOP, SIGCONT: its clock goes on."""
    pause(cluster, Guest.stall, Guest.go_on)


def put_part(cluster, guest):
    return f"sheaf put parts {cluster.table_file} {cluster.share_of(guest)}"


def halt_in_put_of_part(cluster, guest):
    """Its part's bytes are there; no other node knows of them yet."""
    put = cluster.spawn(guest, "env SHEAF_FAULT=client.part.after-bytes=pause "
                        + put_part(cluster, guest))
    start = time.monotonic()
    while guest.run(f"cut -d\\  -f3 /proc/{put}/stat").strip() != "T":
        require(time.monotonic() - start < EVENTUALLY_SECONDS, "the put does not stop")


def power_cut(cluster):
    """A guest dies with a reader, tables of its own, and in the middle of the put of a
    part; the others go on; started again it finds its tables, and puts its part."""
    first, guest = cluster.guests[0], cluster.guests[-1]
    of_first, total = cluster.share(first)
    of_guest, total_of_guest = cluster.share(guest)
    reader = cluster.spawn(guest, f"handle_between_hosts open {of_first}")
    require(guest.line(reader) == total, "the reader's sum")
    for other in cluster.guests[:-1]:
        cluster.run(other, put_part(cluster, other))
    halt_in_put_of_part(cluster, guest)
    guest.kill()
    cluster.await_state(first, guest.number, "withdrawn")
    require(cluster.open(first, of_guest) == total_of_guest, "a table of the dead")
    by_name(cluster, cluster.guests[:-1])
    staged, = cluster.json(first, "parts")
    require(staged["present"] == list(range(guest.number)), f"parts: {staged}")
    cluster.run(first, "sheaf stat parts", expect=1)
    guest.start()
    guest.wait()
    cluster.start_daemon(guest)
    cluster.await_all_up()
    require(cluster.open(guest, of_guest) == total_of_guest, "its own table")
    require(cluster.open(first, of_guest) == total_of_guest, "its table, at another node")
    cluster.run(guest, put_part(cluster, guest))
    parts = cluster.json(first, "parts parts")
    require([part["node"] for part in parts] == list(range(len(cluster.guests))),
            str(parts))
    require(cluster.sums(first, "parts") == cluster.sums(guest, "parts"), "sums of parts")
    cluster.run(first, "sheaf rm parts")


def down_and_up(cluster):
    """Each guest ends its node and keeps it; the next start goes on."""
    handle, total = cluster.share(cluster.guests[0])
    cluster.on_all(lambda guest: cluster.run(guest, "sheaf down --keep"))
    cluster.run(cluster.guests[0], "sheaf fsck")
    join(cluster)
    require(cluster.open(cluster.guests[-1], handle) == total, "a table that was kept")


def give_up(cluster):
    """A segment is not given up while another guest reads from it; then it is, and is
    formatted anew while the others go on."""
    first, guest = cluster.guests[0], cluster.guests[-1]
    handle, total = cluster.share(first)
    reader = cluster.spawn(guest, f"handle_between_hosts open {handle}")
    require(guest.line(reader) == total, "the reader's sum")
    out = cluster.run(first, "sheaf down", expect=1)
    require(f"sessions of node {guest.number}" in out, out)
    require(guest.line(reader, "again") == total, "the reader's sum afterwards")
    guest.run(f"kill {reader}")
    cluster.run(first, "for i in $(seq 50); do sheaf down && exit 0; sleep 0.2; done; exit 1")
    cluster.start_daemon(first)
    cluster.await_all_up()
    out = cluster.run(guest, f"handle_between_hosts open {handle} </dev/null", expect=1)
    by_handle(cluster)
    by_name(cluster)
    for guest in cluster.guests:
        cluster.run(guest, "sheaf down")


SCENARIOS = [doctor, refuse_strangers, join, refuse_second_daemon, by_handle, by_name,
             demo, names_from_everywhere, freeze, stall, power_cut, down_and_up, give_up]
BRIEF = {"pci": [join, demo], "devdax": [join, demo, power_cut]}


def run_cluster(cluster, scenarios):
    failed = 0
    for scenario in scenarios:
        label = f"{cluster.backend:7} {scenario.__name__}"
        start = time.monotonic()
        try:
            verdict = scenario(cluster)
            verdict = "ok" + (f": {verdict}" if verdict else "")
        except Failure as failure:
            verdict, failed = f"FAILED: {failure}", failed + 1
        say(f"{label:36} {time.monotonic() - start:6.1f} s  {verdict}")
        if failed and scenario is join:
            break
    return failed


def make_table(build, path):
    """Rows of every kind that a guest decodes in a moment."""
    python = build.parent.parent / ".deps/venv/bin/python"
    subprocess.run([python, "-c", """
import sys, pyarrow as pa, pyarrow.parquet as pq
n = 50_000
pq.write_table(pa.table({
    "id": pa.array(range(n)), "half": pa.array([i / 2 for i in range(n)]),
    "name": pa.array([None if i % 7 == 0 else f"name {i}" for i in range(n)]),
    "word": pa.array([f"w{i % 100}" for i in range(n)]).dictionary_encode(),
    "list": pa.array([list(range(i % 4)) for i in range(n)]),
}), sys.argv[1])
""", path], check=True)


def make_lineitem(root):
    """As the demo's (tools/demo.sh), made once."""
    file = root / f".deps/demo-data/lineitem-{SCALE}.parquet"
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        subprocess.run([root / "tools/make_lineitem.sh", SCALE, file], check=True)
    return file.resolve()  # guests have this host's files, at the same paths


def scenarios_of(backend, arguments):
    if arguments.brief:
        return BRIEF[backend]
    return [scenario for scenario in SCENARIOS
            if arguments.only in (None, scenario.__name__) or scenario is join]


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--guests", type=int, default=4, choices=(2, 3, 4))
    parser.add_argument("--backend", choices=tuple(PATHS))
    parser.add_argument("--only", help="one scenario, and what it needs")
    parser.add_argument("--brief", action="store_true", help="the demo, and one power cut")
    arguments = parser.parse_args()
    build = arguments.build.resolve()
    begin = time.monotonic()
    kernel, initial_files = image.prepare(build.parent / "kernels")
    table_file = build.parent / "kernels/table.parquet"
    make_table(build, table_file)
    lineitem = make_lineitem(build.parent.parent)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sheaf-kernels-", dir="/dev/shm"))
    for name, size_mib in (("dax", DAX_MIB), ("bar", BAR_MIB)):
        with open(folder / name, "wb") as file:
            file.truncate(size_mib << 20)
    port = free_port()
    guests = [Guest(k, folder, kernel, initial_files, port)
              for k in range(arguments.guests)]
    failed = 0
    try:
        for guest in guests:
            guest.start()
        for guest in guests:
            guest.wait()
        say(f"{len(guests)} guests are up after {time.monotonic() - begin:.1f} s "
            f"({accelerator()[1]}, {kernel})")
        for backend in PATHS:
            if arguments.backend in (None, backend):
                failed += run_cluster(Cluster(guests, backend, build, table_file, lineitem),
                                      scenarios_of(backend, arguments))
    except Failure as failure:
        say(f"FAILED: {failure}")
        failed += 1
    finally:
        for guest in guests:
            guest.kill()
        shutil.rmtree(folder, ignore_errors=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    say(f"{time.monotonic() - begin:.1f} s in all ({used.ru_utime + used.ru_stime:.0f} s of "
        f"processors), {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
