#!/usr/bin/env bash
# Runs what needs a real GPU (or, with --sim PROFILE, what can do without one)
# against a build directory, and prints a table. See README.md beside this file.
#   tests/gpu/run.sh [--quick] [--only NAME,...] [--build DIR] [--sim PROFILE]
# Results: results.json, summary.txt and logs.tar.gz under ${OUT:-build/gpu-results}.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"

build="${root}/build/gpu"
arguments=()
while (($#)); do
  case "$1" in
    --build) build="$(realpath -m "${2:?--build needs a folder}")"; shift ;;
    --build=*) build="$(realpath -m "${1#--build=}")" ;;
    *) arguments+=("$1") ;;
  esac
  shift
done

if [[ ! -x "${build}/bin/gpuroom" || ! -e "${build}/bin/bench_call_overhead" ]]; then
  echo "tests/gpu: ${build} has no gpuroom with benchmarks yet; building it" >&2
  if ! { cmake --preset gpu -S "${root}" -B "${build}" && cmake --build "${build}"; }; then
    echo "tests/gpu: the build failed; build on a machine that has 'make deps' done and bring ${build}/bin and" \
      "${build}/lib along" >&2
    exit 2
  fi
fi
cd "${root}"
exec python3 "${root}/tests/gpu/harness/main.py" --build "${build}" ${arguments[@]+"${arguments[@]}"}
