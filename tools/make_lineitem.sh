#!/usr/bin/env bash
# Makes TPC-H's lineitem as a Parquet file; small ones in small row groups, of which each of
# some nodes takes its share.
#   tools/make_lineitem.sh 0.1 FILE
set -euo pipefail
scale=$1 file=$2
generator=$(dirname "$0")/../.deps/venv/bin/tpchgen-cli
groups=()
case $scale in 0.0*) groups=(--row-group-bytes=128KiB) ;; 0*) groups=(--row-group-bytes=1MiB) ;; esac
echo "making TPC-H lineitem at scale $scale ..." >&2
folder=$(mktemp -d "$(dirname "$file")/lineitem-XXXXXX")
trap 'rm -rf "$folder"' EXIT
"$generator" parquet -s "$scale" --tables=lineitem "${groups[@]}" --output-dir "$folder" >&2
mv "$folder/lineitem.parquet" "$file"
