#!/usr/bin/env bash
# Builds the models and runs every configuration of cases.txt; each case states the verdict
# that it expects.
# Exit status 0 = all as expected. Nothing is written into the source tree.
#   ./run.sh ci               the most telling cases, under a minute on one core
#   ./run.sh [quick]          about 4 minutes on one core, up to 2 GiB
#   ./run.sh full             adds the large ones (about half an hour, up to 10 GiB)
#   ./run.sh quick replace    only the cases whose command contains the word
#   ./run.sh trace lease_q0_n2 fence bug=grantinc     one run, with its counterexample
# BUILD=<folder> keeps the binaries there; otherwise they go to a temporary folder and are
# removed at the end.
set -u
here=$(cd "$(dirname "$0")" && pwd)
if [ -n "${BUILD:-}" ]; then
  out=$BUILD
  mkdir -p "$out" || exit 2
else
  out=$(mktemp -d) || exit 2
  trap 'rm -rf "$out"' EXIT
fi
CXX=${CXX:-g++}

# A binary is named <model>_q<posted writes>[_n<nodes>]; built when a case first needs it.
build() {
  local name=$1 model q n=2
  model=${name%%_*}
  q=${name#*_q}
  case $q in *_n*) n=${q#*_n}; q=${q%%_n*};; esac
  "$CXX" -O2 -std=c++17 -Wall "-DPOST=$q" "-DNODES=$n" "$here/$model.cpp" -o "$out/$name" || exit 2
}

if [ "${1:-}" = trace ]; then
  shift
  name=$1
  shift
  build "$name"
  "$out/$name" "$@"
  exit
fi

mode=${1:-quick}
only=${2:-}
case $mode in ci | quick | full) ;; *) echo "usage: run.sh [ci|quick|full] [word] | trace <binary> <args>" >&2; exit 2 ;; esac
built=' '
bad=0
n=0
while IFS='|' read -r level want cmd what; do
  case "$level" in
    '' | '#'*) continue ;;
    quick) [ "$mode" != ci ] || continue ;;
    full) [ "$mode" = full ] || continue ;;
  esac
  case "$cmd" in *"$only"*) ;; *) continue ;; esac
  want=$(echo $want)
  set -- $cmd
  name=$1
  shift
  case "$built" in *" $name "*) ;; *) build "$name"; built="$built$name " ;; esac
  res=$("$out/$name" "$@" quiet | tail -1)
  n=$((n + 1))
  case "$res" in
    *VIOLATION*) got=$(echo "$res" | sed -E 's/.*VIOLATION ([A-Za-z0-9\/]+).*/\1/') ;;
    *ok*) got=ok ;;
    *) got="?" ;;
  esac
  if [ "$got" = "$want" ]; then v=PASS; else v=FAIL; bad=$((bad + 1)); fi
  printf '%s  want %-5s got %-5s  %-62s %s\n      %s\n' "$v" "$want" "$got" "$cmd" "--$what" "$(echo "$res" | sed 's/^ *//')"
done < "$here/cases.txt"
echo "$n cases, $bad not as expected"
[ "$bad" = 0 ] && [ "$n" != 0 ]
