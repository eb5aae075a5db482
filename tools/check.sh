#!/usr/bin/env bash
# Format, layers, file sizes; clang-tidy on the files that differ from a commit.
#   tools/check.sh [BASE]   BASE: a commit (default origin/main), or `all` for every file
set -uo pipefail
cd "$(dirname "$0")/.."
base=${1:-origin/main}
jobs=${JOBS:-$(nproc)}
failed=0

sources() { git ls-files --cached --others --exclude-standard -- "$@"; }

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
  } | sort -u
}

report() {  # <name> <exit status>
  echo "check: $1: $([ "$2" = 0 ] && echo clean || echo FAILED)"
  [ "$2" = 0 ] || failed=1
}

sources '*.h' '*.cc' '*.cpp' | xargs -r clang-format-19 --dry-run --Werror
report format $?
tools/check_layers.py; report layers $?
tools/check_budget.py; report budget $?

cmake --preset clang --log-level=WARNING >/dev/null &&
  cmake --build --preset clang --target sheaf_schemas_generate >/dev/null || exit 1
changed_sources | grep -v '^tests/install_consumer/' >build/clang/tidy.txt
echo "check: clang-tidy: $(wc -l <build/clang/tidy.txt) files"
xargs -r -P "$jobs" -n 1 clang-tidy-19 -p build/clang --quiet <build/clang/tidy.txt \
  2> >(grep -v 'warnings generated\|Processing file' >&2)
report clang-tidy $?
exit $failed
