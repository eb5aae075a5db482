#!/usr/bin/env bash
# Format, layers, file sizes; clang-tidy on the files that differ from a commit.
#   tools/check.sh [--fix] [BASE]
# BASE: a commit (default origin/main), or `all` for every file. With --fix it mends what
# needs no thought first: the #include lists of those files, and the format of all.
set -uo pipefail
cd "$(dirname "$0")/.."
fix=
if [ "${1:-}" = --fix ]; then fix=1; shift; fi
base=${1:-origin/main}
jobs=${JOBS:-$(nproc)}
failed=0

# The models of docs/model/ are written in their checker's dense style, not in ours.
folders='^(include|src|apps|examples|tests|benchmarks|fuzz|simulation|cmake)/'

sources() { git ls-files --cached --others --exclude-standard -- "$@" | grep -E "$folders"; }

# Sources that differ from $base, and those that include a header which does.
changed_sources() {
  local fork header
  fork=$(git merge-base "$base" HEAD 2>/dev/null) || { sources '*.cc' '*.cpp'; return; }
  {
    git diff --name-only --diff-filter=d "$fork" -- '*.cc' '*.cpp'
    git ls-files --others --exclude-standard -- '*.cc' '*.cpp'
    git diff --name-only --diff-filter=d "$fork" -- '*.h' | while read -r header; do
      header=${header#src/}
      git grep -lF "\"${header#include/}\"" -- '*.cc' '*.cpp'
    done
  } | grep -E "$folders" | sort -u
}

report() {  # <name> <exit status>
  echo "check: $1: $([ "$2" = 0 ] && echo clean || echo FAILED)"
  [ "$2" = 0 ] || failed=1
}

# tidy <file> <option>...; a test may be slow, crash on what is wrong, and set the
# environment of its process: what would say so, and the slow analyzer, are not for tests.
not_for_tests=-clang-analyzer-*,-performance-*,-concurrency-mt-unsafe
not_for_tests+=,-bugprone-unchecked-optional-access
not_for_tests+=,-bugprone-implicit-widening-of-multiplication-result
export not_for_tests
tidy() {
  local file=$1 checks=
  shift
  case $file in *_test.cc | *_benchmark.cc | src/testing/* | fuzz/*) checks=--checks=$not_for_tests ;; esac
  # The filter takes away a count of warnings in other people's headers.
  clang-tidy-19 -p build/clang --quiet $checks "$@" "$file" \
    2> >(grep -Ev 'warnings? generated|Processing file' >&2)
}
export -f tidy

cmake --preset clang --log-level=WARNING >/dev/null &&
  cmake --build --preset clang --target sheaf_schemas_generate >/dev/null || exit 1
files=$(changed_sources | grep -Ev '^tests/install_consumer/')

if [ "$fix" ]; then
  # One after the other: two must not mend one header at the same time.
  for file in $files; do
    tidy "$file" --checks=-*,misc-include-cleaner --fix --format-style=file >/dev/null
  done
  sources '*.h' '*.cc' '*.cpp' | xargs -r clang-format-19 -i
fi

sources '*.h' '*.cc' '*.cpp' | xargs -r clang-format-19 --dry-run --Werror
report format $?
tools/check_layers.py; report layers $?
tools/check_budget.py; report budget $?
echo "check: clang-tidy: $(wc -w <<<"$files") files"
xargs -r -P "$jobs" -I{} bash -c 'tidy {}' <<<"$files"
report clang-tidy $?
exit $failed
