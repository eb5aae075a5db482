#!/usr/bin/env bash
# Runs a command with a small cluster of its own around it; used for the examples.
#   tools/with_cluster.sh <program sheaf> <command>...
set -euo pipefail
sheaf=$1
shift
SHEAF_RUNTIME_DIR=$(mktemp -d)
export SHEAF_RUNTIME_DIR SHEAF_CLUSTER=test-$$

cleanup() {
  "$sheaf" down >/dev/null || true
  rm -rf "$SHEAF_RUNTIME_DIR"
}
trap cleanup EXIT
"$sheaf" up --nodes 2 --size 256MiB
"$@"
