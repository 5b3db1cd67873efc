#!/usr/bin/env bash
# Instructions of one call beside many live allocations, on the simulated driver: numbers that do not depend on how fast
# or busy the machine is (bench/instructions.h).
#   bench/scaling_instructions.sh [--hottest] [BUILD] (default: build/gpu, a release build with benchmarks)
#
# Each line: what lives, its state, the call, instructions with 1,000 live ones and with the most, and the same without
# gpuroom, which is what the simulated driver takes by itself. The most are 1,000,000 small allocations and 100,000
# ranges or handles. States: `fits`, all in HBM; `spilled`, a tenth on the host; `asleep`, all of it; `expect`, the same
# as fits under GPUROOM_EXPECT.
#
# Fails where a call takes more than twice as much beside the most. --hottest: the calls that programs make most, with
# few live ones alone; fails where one adds a tenth more than bench/scaling_golden.txt says. That is of the preset dev
# by g++ 12 on x86-64: where BUILD is not such a one, the status is 77.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
hottest=0
[[ "${1:-}" == --hottest ]] && {
  hottest=1
  shift
}
build="${1:-${root}/build/gpu}"
program="${build}/bin/bench_scaling"
library="${build}/lib/gpuroom/libgpuroom.so"
[[ -x "${program}" && -f "${library}" ]] || {
  echo "scaling_instructions: build the targets bench_scaling, gpuroom_library and gpuroom_sim_cuda in ${build}" >&2
  exit 1
}
export LD_LIBRARY_PATH="${build}/lib/gpuroom/sim" GPUROOM_SIM=800GiB,host=800GiB GPUROOM_CONTROL=0
export GPUROOM_HOST_LIMIT=$((780 << 30)) GPUROOM_HOST_KEEP=0 GPUROOM_RESERVE=0
# No ledger, at which a process looks by the clock.
export GPUROOM_LEDGER=/dev/null/ledger GPUROOM_LOG=error
# Requests of 2 MiB are ranges, and nothing gives way to them.
export GPUROOM_RANGE_THRESHOLD=$((2 << 20)) GPUROOM_RESIDENT_BELOW=$((2 << 20))

count() {  # count PRELOADED KIND STATE LIVE CALL: instructions a call
  local each=$((2 << 20)) arguments=("--kind=$2" "--live=$4" "--call=$5" --calls=4) variables=()
  [[ "$2" == small ]] && each=4096
  case "$3" in
    spilled) variables=("GPUROOM_HBM_LIMIT=$(($4 * each / 10 * 9))") ;;
    expect) variables=("GPUROOM_EXPECT=$(($4 * each * 2))") ;;
    asleep) arguments+=(--asleep=1) ;;
  esac
  env GPUROOM_HBM_LIMIT=$((780 << 30)) "${variables[@]}" LD_PRELOAD="$1" "${program}" "${arguments[@]}"
}

failed=0
compare() {  # compare KIND STATE MOST CALL...
  local kind="$1" state="$2" most="$3" call few many plain
  shift 3
  for call in "$@"; do
    few="$(count "${library}" "${kind}" "${state}" 1000 "${call}")"
    many="$(count "${library}" "${kind}" "${state}" "${most}" "${call}")"
    plain=0
    case "${state}.${call}" in
      asleep.* | *.describe | *.hint | *.stats) ;;  # the driver has no such call
      *) plain="$(count "" "${kind}" "${state}" 1000 "${call}")" ;;
    esac
    echo "${kind} ${state} ${call}: ${few} with 1000, ${many} with ${most}, ${plain} without gpuroom"
    if ((many > 2 * few)); then
      echo "scaling_instructions: ${kind} ${state} ${call} grows with what lives" >&2
      failed=1
    fi
  done
}

compare_golden() {  # compare_golden KIND STATE CALL INSTRUCTIONS
  local added=$(($(count "${library}" "$1" "$2" 1000 "$3") - $(count "" "$1" "$2" 1000 "$3")))
  echo "$1 $2 $3: adds ${added}, $4 before"
  if ((added * 10 > $4 * 11)); then
    echo "scaling_instructions: $1 $2 $3 adds ${added} instructions; $4 were measured before" >&2
    failed=1
  fi
}

if ((hottest)); then
  grep -q '^CMAKE_BUILD_TYPE:STRING=Debug$' "${build}/CMakeCache.txt" || exit 77
  [[ "$(uname -m) $(c++ -dumpversion)" == "x86_64 12" ]] || exit 77
  while read -r kind state call instructions; do
    compare_golden "${kind}" "${state}" "${call}" "${instructions}"
  done < "${root}/bench/scaling_golden.txt"
  exit "${failed}"
fi
for state in fits spilled; do
  compare small "${state}" 1000000 alloc_free query mem_info describe hint stats
  compare range "${state}" 100000 alloc_free query mem_info describe hint stats capture_free
  compare handle "${state}" 100000 alloc_free query describe hint stats
done
compare range asleep 100000 alloc_free query
compare handle asleep 100000 alloc_free query
compare range expect 100000 alloc_free
exit "${failed}"
