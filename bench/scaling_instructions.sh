#!/usr/bin/env bash
# Instructions of one call beside many live allocations, counted by callgrind on the simulated driver: numbers that do
# not depend on how fast or busy the machine is.
#   bench/scaling_instructions.sh [BUILD] (default: build/gpu, a release build with benchmarks)
#
# Each line: what lives, whether a tenth of it is spilled, the call, instructions with 1,000 live ones and with the
# most, and the same without gpuroom, which is what the simulated driver takes by itself. The most are 1,000,000 small
# allocations; of ranges and handles 25,000, since valgrind gives a process 128 GiB of addresses.
#
# Fails where a call takes more than twice as much beside the most, and where one of the five that programs make most
# takes a tenth more than bench/scaling_golden.txt says: that is of g++ 12 on x86-64, so a change of compiler changes
# it too.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
build="${1:-${root}/build/gpu}"
program="${build}/bin/bench_scaling"
library="${build}/lib/gpuroom/libgpuroom.so"
[[ -x "${program}" && -f "${library}" ]] || {
  echo "scaling_instructions: build the targets bench_scaling, gpuroom_library and gpuroom_sim_cuda in ${build}" >&2
  exit 1
}
command -v valgrind > /dev/null || {
  echo "scaling_instructions: valgrind was not found; run scripts/deps.sh bench" >&2
  exit 1
}
readonly calls=64
folder="$(mktemp -d)"
trap 'rm -rf "${folder}"' EXIT
export LD_LIBRARY_PATH="${build}/lib/gpuroom/sim" GPUROOM_SIM=400GiB,host=400GiB GPUROOM_CONTROL=0
export GPUROOM_HOST_LIMIT=$((380 << 30)) GPUROOM_HOST_KEEP=0 GPUROOM_RESERVE=0
# No ledger, at which a process looks by the clock.
export GPUROOM_LEDGER=/dev/null/ledger GPUROOM_LOG=error
# Requests of 2 MiB are ranges, and nothing gives way to them.
export GPUROOM_RANGE_THRESHOLD=$((2 << 20)) GPUROOM_RESIDENT_BELOW=$((2 << 20))

count() {  # count PRELOADED KIND STATE LIVE CALL: instructions a call
  local limit=$((390 << 30))
  [[ "$3" == spilled ]] && limit=$(($4 * (2 << 20) / 10 * 9))
  GPUROOM_HBM_LIMIT="${limit}" LD_PRELOAD="$1" valgrind --tool=callgrind --instr-atstart=no \
    --callgrind-out-file="${folder}/out" "${program}" "--kind=$2" "--live=$4" "--call=$5" "--calls=${calls}" \
    > "${folder}/log" 2>&1 || {
    cat "${folder}/log" >&2
    exit 1
  }
  echo $(($(sed -n 's/^totals: \([0-9]*\).*/\1/p' "${folder}/out") / calls))
}

failed=0
compare() {  # compare KIND STATE MOST CALL
  local few many plain=0
  few="$(count "${library}" "$1" "$2" 1000 "$4")"
  many="$(count "${library}" "$1" "$2" "$3" "$4")"
  case "$4" in
    describe | hint | stats) ;;  # the driver has no such call
    *) plain="$(count "" "$1" "$2" 1000 "$4")" ;;
  esac
  echo "$1 $2 $4: ${few} with 1000, ${many} with $3, ${plain} without gpuroom"
  if ((many > 2 * few)); then
    echo "scaling_instructions: $1 $2 $4 grows with what lives" >&2
    failed=1
  fi
  local golden
  golden="$(sed -n "s/^$1 $2 $4 //p" "${root}/bench/scaling_golden.txt")"
  if [[ -n "${golden}" ]] && (((few - plain) * 10 > golden * 11)); then
    echo "scaling_instructions: $1 $2 $4 adds $((few - plain)) instructions; ${golden} were measured before" >&2
    failed=1
  fi
}

for call in alloc_free query mem_info describe hint stats; do compare small fits 1000000 "${call}"; done
for state in fits spilled; do
  for call in alloc_free query mem_info describe hint stats capture_free; do
    compare range "${state}" 25000 "${call}"
  done
  for call in alloc_free query describe hint stats; do compare handle "${state}" 25000 "${call}"; done
done
exit "${failed}"
