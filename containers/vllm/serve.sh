#!/bin/sh
# The entry of the image: `gpuroom run` with the options in GPUROOM_RUN_OPTIONS (words between spaces; default: none, which
# is all of the HBM and the host memory that the container can spare), in front of vLLM's server with the arguments given.
# "gpuroom" or "vllm" as the first argument runs that instead.
set -eu
case ${1:-} in
  gpuroom | bash | sh) exec "$@" ;;
  vllm) shift; set -- vllm "$@" ;;
  *) set -- vllm serve "$@" ;;
esac
# shellcheck disable=SC2086  # options are words
exec gpuroom run ${GPUROOM_RUN_OPTIONS:-} -- "$@"
