#!/bin/sh
# Compiles tests/cache_smoke.cc for every architecture that src/platform knows and runs it, the
# foreign ones in qemu's user emulation. Fails if one fails; says which it must leave out because
# a compiler or qemu is missing; ends with 77 ("skipped") if it could run none but the host's own.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
foreign=0

# smoke <name> <compiler> <how to run, may be empty>
smoke() {
  for tool in "$2" ${3:+"$3"}; do
    if ! command -v "$tool" >/dev/null; then
      echo "$1: left out, no $tool (Debian: g++-aarch64-linux-gnu, g++-powerpc64le-linux-gnu, qemu-user)"
      return 0
    fi
  done
  "$2" -std=c++20 -O2 -Wall -Wextra -Wconversion -Wshadow -Werror -static -I"$root/src" \
    "$root"/tests/cache_smoke.cc "$root"/src/base/check.cc "$root"/src/platform/cache_instructions.cc \
    "$root"/src/platform/cache_x86.cc "$root"/src/platform/cache_aarch64.cc \
    "$root"/src/platform/cache_power.cc -o "$work/$1"
  printf '%s: ' "$1"
  ${3:+"$3"} "$work/$1"
  if [ -n "$3" ]; then foreign=$((foreign + 1)); fi
}

smoke host "${CXX:-g++}" ""
smoke aarch64 aarch64-linux-gnu-g++ qemu-aarch64
smoke ppc64le powerpc64le-linux-gnu-g++ qemu-ppc64le
if [ "$foreign" -eq 0 ]; then exit 77; fi
