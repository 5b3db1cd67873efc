#!/usr/bin/env bash
# Prints how many compilers may run at a time: one for each 4 GiB of memory that is free, and no more than processors. A
# CUDA compiler takes 2 to 4 GiB. MAX_JOBS, where it is set to a number, goes before.
set -euo pipefail
if [[ ${MAX_JOBS:-auto} != auto ]]; then
  echo "$MAX_JOBS"
  exit 0
fi
available=$(awk '/^MemAvailable/ {print int($2 / 4194304)}' /proc/meminfo)
processors=$(nproc)
jobs=$((available < processors ? available : processors))
echo $((jobs < 1 ? 1 : jobs))
