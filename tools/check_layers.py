#!/usr/bin/env python3
"""Compares every #include of the project with the layers.

The rooms of src/ and what each may include stand in cmake/rooms.txt. The other folders:
  include/sheaf/   public headers: each other, Arrow and the standard library
  apps/            public headers, their own folder and every room but `testing`
  examples/        public headers and libraries only, as a user's program
  tests/           everything; tests/install_consumer/ what examples may
  benchmarks/, fuzz/, simulation/    everything
Own code is included from the roots src/ and include/ ("platform/cache.h", "sheaf/store.h"),
apps, tests, benchmarks, fuzz and simulation from the project's root ("tests/cluster.h").

usage: check_layers.py [ROOT]      prints one line per bad include; exit status 1 if any
"""

import pathlib
import re
import sys

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)
SOURCES = ("*.h", "*.cc", "*.cpp")
# Headers that pure rooms may not see: operating system, threads, clocks, files. They may
# lock (their objects may be shared by threads) and name durations, so not mutex and chrono.
IMPURE = re.compile(
    r"^(thread|condition_variable|future|semaphore|latch|barrier|stop_token|atomic|"
    r"random|fstream|iostream|filesystem|"
    r"(sys|linux|netinet)/.*|unistd\.h|pthread\.h|fcntl\.h|time\.h|ctime|signal\.h)$"
)
# A test, or a header for the tests beside it (test_x.h).
TEST_FILE = re.compile(r"(_test\.cc|_benchmark\.cc|/test_\w+\.h)$")
PURE = ("format", "codec", "directory", "lease")
UNLIMITED = ("tests", "benchmarks", "fuzz", "simulation")
FOLDERS = ("apps", "examples") + UNLIMITED


def read_rooms(text):
    """{room: set of rooms that it may include} from the text of cmake/rooms.txt."""
    rooms = {}
    for line in text.splitlines():
        line = line.split("#")[0].strip()
        if not line:
            continue
        room, _, below = line.partition(":")
        rooms[room.strip()] = set(below.split())
        unknown = rooms[room.strip()] - set(rooms)
        if unknown:
            raise ValueError(f"{room} names {sorted(unknown)}, which must come before it")
    return rooms


def target_of(path, rooms):
    """The part of the project that an include of `path` reaches, or None for a library."""
    first, _, rest = path.partition("/")
    if first == "sheaf" and rest:
        return "public"
    if first in rooms and rest:
        return first
    if first in FOLDERS + ("src", "include") and rest:
        return first
    return None


def check_include(source, quote, path, rooms):
    """Why `source` (relative to the root) may not include `path`; None if it may."""
    if source.startswith("tests/install_consumer/"):
        source = "examples/consumer.cpp"
    parts = source.split("/")
    target = target_of(path, rooms)
    if "../" in path:
        return "goes up a folder: include from src/ or include/"
    if target is None:
        if quote == '"':
            return "not a header of the project: write <...>, or start at src/ or include/"
        return check_library(parts, path)
    if target in ("src", "include"):
        return f"starts at the project's root: leave out {target}/"
    if quote == "<" and parts[0] != "examples":
        return "a header of the project: write \"...\""
    if parts[0] in UNLIMITED or target == "public":
        return None
    is_test = bool(TEST_FILE.search(source))
    if TEST_FILE.search(path) and not is_test and parts[1] != "testing":
        return "only tests may include what is for tests"
    if parts[0] in ("include", "examples"):
        return "only public headers (sheaf/...) are allowed here"
    if parts[0] == "apps":
        allowed = set(rooms) - {"testing"} | {"apps"}
        if is_test:
            allowed.add("testing")
        return None if target in allowed else f"apps may not include {target}/"
    room = parts[1]
    allowed = rooms[room] | {room}
    if is_test:
        allowed = allowed | {"testing"}
    return None if target in allowed else f"room {room} may not include {target}/"


def check_library(parts, path):
    """Why a file at `parts` may not include the library header `path`; None if it may."""
    if parts[0] == "include" and "/" in path and not path.startswith("arrow/"):
        return "public headers may include only Arrow, each other and the standard library"
    is_pure = parts[0] == "src" and parts[1] in PURE and not TEST_FILE.search("/".join(parts))
    if is_pure and IMPURE.match(path):
        return f"room {parts[1]} is pure: no OS, thread, clock or I/O"
    return None


def check_tree(root):
    """One line per bad include below `root`."""
    rooms = read_rooms((root / "cmake/rooms.txt").read_text())
    problems = []
    for folder in ("include", "src") + FOLDERS:
        for pattern in SOURCES:
            for file in sorted((root / folder).rglob(pattern)):
                source = file.relative_to(root).as_posix()
                parts = source.split("/")
                if folder == "src" and (len(parts) < 3 or parts[1] not in rooms):
                    problems.append(f"{source}: in no room of cmake/rooms.txt")
                    continue
                text = file.read_text()
                for match in INCLUDE.finditer(text):
                    reason = check_include(source, match[1], match[2], rooms)
                    if reason:
                        line = text.count("\n", 0, match.start(2)) + 1
                        problems.append(f"{source}:{line}: {match[2]}: {reason}")
    return problems


def main():
    default = pathlib.Path(__file__).resolve().parent.parent
    root = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default
    problems = check_tree(root)
    print("\n".join(problems + [f"layers: {len(problems)} bad includes"]))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
