#!/usr/bin/env bash
# Refuses what is older than these containers are for: CUDA 13, PyTorch 2.9, vLLM 0.18.1.
#
#   floor.sh arguments     looks at VLLM_VERSION, CUDA_ARCHITECTURES and BASE_IMAGE alone: before a build, on any machine
#   floor.sh image         looks at the CUDA and the PyTorch of the image that this runs in, too
#
# REDUCED=1 builds without CUDA and PyTorch, for `make containers-check`; then only the arguments are looked at.
set -euo pipefail

fail() {
  echo "containers: $*" >&2
  exit 1
}

# Whether version $1 is $2 or newer. "2.9.0a0+git" counts as 2.9.0.
at_least() {
  local version=${1%%[!0-9.]*}
  [[ $(printf '%s\n%s\n' "$2" "$version" | sort -V | head -n 1) == "$2" ]]
}

check_arguments() {
  local version=${VLLM_VERSION:-}
  if [[ -n $version ]]; then
    [[ $version =~ ^[0-9]+(\.[0-9]+)+[a-z0-9.]*$ ]] || fail "VLLM_VERSION '$version' is no version; write one such as 0.26.0"
    at_least "$version" 0.18.1 || fail "VLLM_VERSION $version is older than 0.18.1, the oldest that these containers build"
  fi
  local architecture
  for architecture in ${CUDA_ARCHITECTURES:-}; do
    [[ $architecture =~ ^[0-9]+\.[0-9]a?(\+PTX)?$ ]] ||
      fail "CUDA_ARCHITECTURES has '$architecture'; write numbers such as '9.0a' or '9.0a 10.0a'"
  done
  [[ -z ${BASE_IMAGE+set} || $BASE_IMAGE =~ ^[a-z0-9][a-zA-Z0-9./:@_-]*$ ]] ||
    fail "BASE_IMAGE '$BASE_IMAGE' is no image; write one such as nvcr.io/nvidia/pytorch:25.12-py3"
}

cuda_version() {
  if [[ -n ${CUDA_VERSION:-} ]]; then
    echo "$CUDA_VERSION"
  elif command -v nvcc >/dev/null; then
    nvcc --version | sed -n 's/.*release \([0-9.]*\).*/\1/p'
  fi
}

check_image() {
  local cuda pytorch
  cuda=$(cuda_version)
  [[ -n $cuda ]] || fail "the base image has no CUDA compiler; use nvcr.io/nvidia/pytorch, or an image made from it"
  at_least "$cuda" 13 || fail "the base image has CUDA $cuda; these containers need 13.0 or newer"
  pytorch=$(python3 -c 'import torch; print(torch.__version__)' 2>/dev/null) ||
    fail "the base image has no PyTorch; use nvcr.io/nvidia/pytorch, or an image made from it"
  at_least "$pytorch" 2.9 || fail "the base image has PyTorch $pytorch; these containers need 2.9 or newer"
}

case ${1:-} in
  arguments) check_arguments ;;
  image)
    check_arguments
    [[ ${REDUCED:-0} == 1 ]] || check_image
    ;;
  *) fail "usage: floor.sh arguments|image" ;;
esac
