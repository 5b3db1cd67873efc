#!/usr/bin/env bash
# Runs the benchmarks of a build directory (default: build/gpu) with and without
# gpuroom and prints a table; on the simulated driver where there is no GPU.
#   bench/run.sh [BUILD] [options of tests/gpu/run.sh]
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
build="${1:-${root}/build/gpu}"
shift || true
driver=()
if ! nvidia-smi > /dev/null 2>&1; then
  echo "bench: no GPU here; the simulated driver's times say nothing about a GPU" >&2
  driver=(--sim '6GiB,host=16GiB')
fi
steps=call_overhead,alloc_cost,read_speed,small_step,small_step_allocators,allocation_cost
exec "${root}/tests/gpu/run.sh" --build "${build}" --only "${steps}" \
  ${driver[@]+"${driver[@]}"} "$@"
