#!/usr/bin/env bash
# Builds the image of vLLM with docker buildx, for this machine's architecture. What docker-bake.hcl takes comes from the
# environment; VLLM_URL and VLLM_SHA256 name the source of another release. What is too old is refused before anything runs.
#
#   VLLM_VERSION=0.26.0 IMAGE_SUFFIX=-cu13 containers/build.sh
set -euo pipefail
cd "$(dirname "$0")/.."

containers/floor.sh arguments
machine=$(uname -m)
case $machine in
  x86_64) platform=linux/amd64 ;;
  aarch64) platform=linux/arm64 ;;
  *)
    echo "containers: there are no images for $machine; use x86-64 or 64-bit Arm" >&2
    exit 1
    ;;
esac
arguments=(vllm --set "vllm.platform=$platform" --load)
if [[ -n ${VLLM_URL:-} ]]; then
  arguments+=(--set "vllm.args.VLLM_URL=$VLLM_URL" --set "vllm.args.VLLM_SHA256=${VLLM_SHA256:-}")
elif [[ ${VLLM_VERSION:-0.26.0} != 0.26.0 ]]; then
  echo "containers: VLLM_VERSION $VLLM_VERSION has no pin here; give VLLM_URL and VLLM_SHA256 of its source, too" >&2
  exit 1
fi
exec docker buildx bake -f containers/docker-bake.hcl "${arguments[@]}"
