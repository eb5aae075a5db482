#!/usr/bin/env bash
# Lets libFuzzer try each target of build/fuzz for some seconds, from the seeds and what
# earlier runs found (build/fuzz/corpus/). What breaks a decoder is left in build/fuzz/.
#   tools/fuzz.sh SECONDS
set -euo pipefail
cd "$(dirname "$0")/.."
for target in build/fuzz/fuzz/*_fuzz; do
  name=$(basename "$target" _fuzz)
  mkdir -p "build/fuzz/corpus/$name"
  mapfile -t seeds < <(find fuzz/corpus/"$name"* tests/data/"$name"* -type f 2>/dev/null)
  cp -n -t "build/fuzz/corpus/$name" "${seeds[@]}" 2>/dev/null || true
  "$target" -max_total_time="$1" -artifact_prefix=build/fuzz/ -print_final_stats=1 \
    "build/fuzz/corpus/$name"
done
