#!/usr/bin/env python3
"""Sheaf on separate kernels: boots guests that have two devices in common, a PCI BAR
(ivshmem) and /dev/dax0.0, and runs a cluster on each of the two, with a daemon in every
guest as on real hosts. Called by tools/kernels.sh (make test-kernels).

  run.py --build build/release [--guests 3] [--backend pci] [--only freeze] [--messages]
"""

import argparse
import json
import pathlib
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
WINDOW_MIB = 100
DATA_MIB = 56
EVENTUALLY_SECONDS = 90
ROWS = 500_000

PATHS = {"pci": "/sys/bus/pci/devices/0000:00:02.0/resource2", "devdax": "/dev/dax0.0"}


def say(text):
    print(text, flush=True)


def require(claim, text):
    if not claim:
        raise Failure(text)


class Cluster:
    """One cluster over all guests, node K in guest K."""

    def __init__(self, guests, backend, programs, table_file, messages):
        self.guests = guests
        self.messages = messages
        self.backend = backend
        self.name = "k" + backend
        self.programs = programs
        self.table_file = table_file

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
        if self.messages:
            text += 'messages = "rings"\n'
        for guest in self.guests:
            text += f"""
[[node]]
id = {guest.number}
host = "{guest.name}"
path = "{PATHS[self.backend]}"
offset = "{guest.number * WINDOW_MIB}MiB"
"""
            if self.messages:
                text += f'address = "{guest.address}:{7100 + len(self.backend)}"\n'
        return text

    def environment(self, guest):
        return (f"cd /tmp; export SHEAF_RUNTIME_DIR=/run/sheaf SHEAF_CLUSTER={self.name} "
                f"SHEAF_NODE={guest.number} PATH={self.programs}/bin:"
                f"{self.programs}/examples:$PATH;")

    def run(self, guest, command, expect=0, timeout=120):
        return guest.run(self.environment(guest) + command, expect, timeout)

    def json(self, guest, command):
        return json.loads(self.run(guest, "sheaf --json " + command))

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
        for guest in self.guests:
            for other in self.guests:
                self.await_state(guest, other.number, "up")

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
    for guest in cluster.guests:
        report = cluster.json(guest, "doctor")
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
    for guest in cluster.guests:
        cluster.start_daemon(guest)
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


def power_cut(cluster):
    """A guest dies with a reader and tables of its own; the others go on; started again
    it finds its tables."""
    first, guest = cluster.guests[0], cluster.guests[-1]
    of_first, total = cluster.share(first)
    of_guest, total_of_guest = cluster.share(guest)
    reader = cluster.spawn(guest, f"handle_between_hosts open {of_first}")
    require(guest.line(reader) == total, "the reader's sum")
    guest.kill()
    cluster.await_state(first, guest.number, "withdrawn")
    require(cluster.open(first, of_guest) == total_of_guest, "a table of the dead")
    by_name(cluster, cluster.guests[:-1])
    guest.start()
    guest.wait()
    cluster.start_daemon(guest)
    cluster.await_all_up()
    require(cluster.open(guest, of_guest) == total_of_guest, "its own table")
    require(cluster.open(first, of_guest) == total_of_guest, "its table, at another node")


def down_and_up(cluster):
    """Each guest ends its node and keeps it; the next start goes on."""
    handle, total = cluster.share(cluster.guests[0])
    for guest in cluster.guests:
        cluster.run(guest, "sheaf down --keep")
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
             names_from_everywhere, freeze, stall, power_cut, down_and_up, give_up]
NEED_MESSAGES = [names_from_everywhere]


def run_cluster(cluster, only):
    failed = 0
    for scenario in SCENARIOS:
        label = f"{cluster.backend:7} {scenario.__name__}"
        if scenario in NEED_MESSAGES and not cluster.messages:
            say(f"{label:36} skipped: daemons of several hosts do not talk yet")
            continue
        if only and scenario.__name__ != only and scenario is not join:
            continue
        start = time.monotonic()
        try:
            scenario(cluster)
            verdict = "ok"
        except Failure as failure:
            verdict, failed = f"FAILED: {failure}", failed + 1
        say(f"{label:36} {time.monotonic() - start:6.1f} s  {verdict}")
        if verdict != "ok" and scenario is join:
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


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--guests", type=int, default=3, choices=(2, 3, 4))
    parser.add_argument("--backend", choices=tuple(PATHS))
    parser.add_argument("--only", help="one scenario, and what it needs")
    parser.add_argument("--messages", action="store_true",
                        help="also scenarios for which daemons must talk")
    arguments = parser.parse_args()
    build = arguments.build.resolve()
    begin = time.monotonic()
    kernel, initial_files = image.prepare(build.parent / "kernels")
    table_file = build.parent / "kernels/table.parquet"
    make_table(build, table_file)
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
                failed += run_cluster(Cluster(guests, backend, build, table_file,
                                              arguments.messages), arguments.only)
    except Failure as failure:
        say(f"FAILED: {failure}")
        failed += 1
    finally:
        for guest in guests:
            guest.kill()
        shutil.rmtree(folder, ignore_errors=True)
    say(f"{time.monotonic() - begin:.1f} s in all, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
