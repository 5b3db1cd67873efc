#!/usr/bin/env bash
# Instructions that the pool takes for one allocate and free of a cached size, counted by
# callgrind: a number that does not depend on how fast or busy the machine is.
#   bench/pool_instructions.sh [BUILD] (default: build/gpu, a release build with benchmarks)
#
# Two runs that differ in their pairs alone are subtracted, so that what comes before and
# after does not count.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
build="${1:-${root}/build/gpu}"
program="${build}/bin/bench_pool_hot_path"
[[ -x "${program}" ]] || {
  echo "pool_instructions: ${program} was not found; build the target bench_pool_hot_path first" >&2
  exit 1
}
command -v valgrind > /dev/null || {
  echo "pool_instructions: valgrind was not found; run scripts/deps.sh bench" >&2
  exit 1
}
folder="$(mktemp -d)"
trap 'rm -rf "${folder}"' EXIT

count() {  # count PAIRS SIZE: instructions of the whole run
  valgrind --tool=callgrind --callgrind-out-file="${folder}/out" "${program}" "--pairs=$1" "--size=$2" \
    > "${folder}/log" 2>&1 || {
    cat "${folder}/log" >&2
    exit 1
  }
  sed -n 's/^summary: \([0-9]*\).*/\1/p' "${folder}/out"
}

for size in 512 64KiB 1MiB 4MiB; do
  few="$(count 1000 "${size}")"
  many="$(count 11000 "${size}")"
  echo "${size}: $(((many - few) / 10000)) instructions"
done
