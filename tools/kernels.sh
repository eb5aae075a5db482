#!/usr/bin/env bash
# make test-kernels: guests with kernels of their own, over memory that they have in common
# (tests/kernels/run.py; its options may be given). Says why and ends well where the packages
# cannot be had, unless SHEAF_KERNELS=required.
set -euo pipefail
cd "$(dirname "$0")/.."

skip() {
  echo "test-kernels: skipped: $1"
  [ "${SHEAF_KERNELS:-}" = required ] && exit 1
  exit 0
}

[ "$(uname -m)" = x86_64 ] || skip "the guests are of x86-64, this host is $(uname -m)"
[ "$(id -u)" = 0 ] || skip "virtiofsd must be root to share this host's files"
# Four guests have 640 MiB each and two devices of 512 MiB in common.
free_mib=$(awk '/MemAvailable/ {print int($2 / 1024)}' /proc/meminfo)
[ "$free_mib" -ge 4096 ] || skip "4096 MiB of memory are needed, $free_mib MiB are free"
tools/setup.sh kernels || skip "packages for QEMU guests could not be installed"
if [ ! -e build/kernels/package ]; then
  apt-cache show linux-image-cloud-amd64 >/dev/null 2>&1 || apt-get update -q >/dev/null 2>&1 ||
    skip "apt knows no kernel package"
fi
exec python3 tests/kernels/run.py --build build/release "$@"
