#!/usr/bin/env bash
# Installs what a build needs and this machine lacks, and nothing else.
#
#   scripts/deps.sh [build] [test] [lint] [wheel] [nightly] [arm64] [bench] [fuzz] [clusters] [containers] [docs]
#   (default: build)
#
# Packages come from the distribution (Debian 12 or newer, Ubuntu 22.04 or
# newer) through apt-get, as root or through sudo. cuda.h and cudaTypedefs.h, all
# of CUDA that a build needs, come from an installed CUDA 13 toolkit or else from
# NVIDIA's wheel on PyPI, into build/deps/cuda/include. A second run finds
# everything in place and does nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly cuda_wheel=nvidia-cuda-runtime==13.0.96
readonly cuda_wheel_sha256=7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548
readonly cuda_include=build/deps/cuda/include
readonly os_release=${GPUROOM_OS_RELEASE:-/etc/os-release}  # tests set another
readonly include=${GPUROOM_SYSTEM_INCLUDE:-/usr/include}

fail() {
  echo "deps: $*" >&2
  exit 1
}

missing=()
need() {  # need PACKAGE COMMAND-OR-PATH...: notes the package unless all are there
  local package=$1 probe
  shift
  for probe in "$@"; do
    case $probe in
      /*) [[ -e $probe ]] || { missing+=("$package"); return; } ;;
      *) command -v "$probe" >/dev/null || { missing+=("$package"); return; } ;;
    esac
  done
}

have_cuda_header() {
  local folder
  for folder in "$cuda_include" "${CUDA_HOME:-/usr/local/cuda}/include" /usr/local/cuda/include; do
    grep -qsE '#define CUDA_VERSION 1[3-9]' "$folder/cuda.h" && [[ -e "$folder/cudaTypedefs.h" ]] && return 0
  done
  return 1
}

# A python3 early in PATH may be another than the distribution's, and lack what
# the distribution's has.
python_with() {
  local python
  for python in python3 /usr/bin/python3; do
    if "$python" -c "import $1" >/dev/null 2>&1; then
      echo "$python"
      return 0
    fi
  done
  return 1
}

# Python.h of the python3 in PATH, or the distribution's (cmake/python.cmake).
have_python_header() {
  local folder
  for folder in "$(python3 -c "import sysconfig; print(sysconfig.get_path('include'))" 2>/dev/null)" "$include"/python3*; do
    [[ -e $folder/Python.h ]] && return 0
  done
  return 1
}

need_build() {
  need g++ g++
  need cmake cmake
  need ninja-build ninja
  need python3 python3
  need nlohmann-json3-dev "$include/nlohmann/json.hpp"
  need libcli11-dev "$include/CLI/CLI.hpp"
  need libfmt-dev "$include/fmt/format.h"
  need libxxhash-dev "$include/xxhash.h"
  if ! have_cuda_header; then
    need ca-certificates /etc/ssl/certs/ca-certificates.crt
    python_with pip >/dev/null || missing+=(python3-pip)
  fi
}

need_test() {
  have_python_header || missing+=(python3-dev)
  need libgtest-dev "$include/gtest/gtest.h"
  python_with pytest >/dev/null || missing+=(python3-pytest)
  python_with matplotlib >/dev/null || missing+=(python3-matplotlib)
  need man-db man
  need pkg-config pkg-config
  need zsh zsh
}

need_lint() {
  need clang clang++
  need clang-format clang-format
  need clang-tidy clang-tidy
  need git git
  python_with mypy >/dev/null || missing+=(mypy)
  python_with pytest >/dev/null || missing+=(python3-pytest)
}

need_wheel() {
  have_python_header || missing+=(python3-dev)
  python_with pip >/dev/null || missing+=(python3-pip)
}

need_nightly() {
  need_wheel
  need mmdebstrap mmdebstrap
  need qemu-user-static qemu-aarch64-static
  need fish fish
  need prometheus promtool
  need tmux tmux
  python_with venv >/dev/null || missing+=(python3-venv)
}

need_clusters() {
  need slurm-wlm slurmctld slurmd srun
  need munge munged
  /usr/bin/python3 -c "import torch" >/dev/null 2>&1 || missing+=(python3-torch)
  python_with venv >/dev/null || missing+=(python3-venv)
}

need_containers() {
  need buildah buildah
  need crun crun
  need mmdebstrap mmdebstrap
  need shellcheck shellcheck
  python_with venv >/dev/null || missing+=(python3-venv)
}

need_docs() {
  /usr/bin/python3 -c "import ensurepip" >/dev/null 2>&1 || missing+=(python3-venv)
}

need_arm64() {
  need g++-aarch64-linux-gnu aarch64-linux-gnu-g++
  need libc6-dev-arm64-cross /usr/aarch64-linux-gnu/include/stdlib.h
  need qemu-user qemu-aarch64
  need googletest /usr/src/googletest/googletest/CMakeLists.txt
  need python3 python3
}

need_bench() {
  need valgrind valgrind
}

need_fuzz() {
  need clang clang++
}

# libFuzzer and the sanitizers' runtimes: a part of clang in some distributions, and a package beside it, of the same
# version, in others.
need_fuzz_runtime() {
  local version
  compgen -G "$(clang++ -print-runtime-dir)/libclang_rt.fuzzer*.a" >/dev/null && return 0
  version=$(clang++ -dumpversion)
  missing+=("libclang-rt-${version%%.*}-dev")
}

install_missing() {
  [[ ${#missing[@]} -gt 0 ]] || return 0
  local family
  family=$(. "$os_release" 2>/dev/null && echo "${ID:-} ${ID_LIKE:-}") || family=
  if [[ ! " $family " =~ \ (debian|ubuntu)\  ]] || ! command -v apt-get >/dev/null; then
    fail "this is neither Debian nor Ubuntu; install what these packages hold there, and run it again: ${missing[*]}"
  fi
  local as_root=()
  if [[ $(id -u) -ne 0 ]]; then
    command -v sudo >/dev/null ||
      fail "not root and no sudo; ask an administrator to run: apt-get install ${missing[*]}"
    as_root=(sudo)
  fi
  echo "deps: installing with ${as_root[*]:+sudo }apt-get: ${missing[*]}"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq update ||
    fail "apt-get update failed; check this machine's network and its apt sources"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null ||
    fail "apt-get install failed; on Ubuntu the 'universe' component has to be enabled"
}

fetch_cuda_header() {
  have_cuda_header && return 0
  local python folder=build/deps/wheel
  python=$(python_with pip) || fail "python3 with pip was not found, to fetch $cuda_wheel"
  echo "deps: fetching $cuda_wheel from PyPI for its headers"
  rm -rf "$folder"
  # The header is the same for every architecture; one wheel, one checksum.
  "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
    --platform manylinux2014_x86_64 --dest "$folder" "$cuda_wheel" ||
    fail "$cuda_wheel could not be fetched; check the network, or install a CUDA 13 toolkit"
  echo "$cuda_wheel_sha256  $(echo "$folder"/*.whl)" | sha256sum --check --quiet ||
    fail "$cuda_wheel is not the file that was expected; do not use it"
  mkdir -p "$cuda_include"
  "$python" - "$folder"/*.whl "$cuda_include" <<'PYTHON'
import pathlib
import sys
import zipfile

wheel, folder = sys.argv[1:]
for name in "cuda.h", "cudaTypedefs.h":
    data = zipfile.ZipFile(wheel).read(f"nvidia/cu13/include/{name}")
    pathlib.Path(folder, name).write_bytes(data)
PYTHON
  rm -rf "$folder"
}

[[ $# -gt 0 ]] || set -- build
for purpose in "$@"; do
  case $purpose in
    build | test | lint | wheel | nightly | arm64 | bench | fuzz | clusters | containers | docs) "need_$purpose" ;;
    *) fail "unknown purpose '$purpose'; use build, test, lint, wheel, nightly, arm64, bench, fuzz, clusters, containers or docs" ;;
  esac
done
install_missing
for purpose in "$@"; do
  if [[ $purpose == build ]]; then fetch_cuda_header; fi
  if [[ $purpose == fuzz ]]; then
    missing=()
    need_fuzz_runtime
    install_missing
  fi
done
