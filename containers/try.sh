#!/usr/bin/env bash
# Runs gpuroom in an image: the demonstration on the simulated driver, and doctor, which has to get as far as its verdict.
#
#   containers/try.sh IMAGE [PROGRAM...]     PROGRAM runs the image: default `docker run --rm`
set -euo pipefail

readonly image=$1
shift
[[ $# -gt 0 ]] || set -- docker run --rm
"$@" "$image" gpuroom demo --sim 256MiB,host=1GiB
status=0
"$@" "$image" gpuroom doctor || status=$?
# 0: all is well; 1: a check failed, which it has said; 3: no GPU here.
[[ $status -eq 0 || $status -eq 1 || $status -eq 3 ]]
