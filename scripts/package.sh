#!/usr/bin/env bash
# Builds what is handed out, into dist/.
#
#   scripts/package.sh wheel [x86_64|aarch64]   a wheel for every Linux with glibc 2.28 or newer
#   scripts/package.sh deb [x86_64|aarch64]     a .deb package of the same binaries
#   scripts/package.sh sdist                    the sources, with the headers that a build needs
#
# Without an architecture it is this machine's. The compiler is Zig's, from PyPI, into build/tools; both packages of an
# architecture share the build folder build/dist-ARCH. Needs what `scripts/deps.sh build wheel` installs.
set -euo pipefail
cd "$(dirname "$0")/.."

zig_version=$(sed -n 's/^ziglang==\([0-9.]*\).*/\1/p' packaging/zig.txt)
readonly zig_version
readonly tools=build/tools

fail() {
  echo "package: $*" >&2
  exit 1
}

# The first python3 that has pip: the one early in PATH may not be the distribution's.
find_python() {
  for python in python3 /usr/bin/python3; do
    if "$python" -m pip --version >/dev/null 2>&1; then return 0; fi
  done
  fail "python3 with pip was not found; run scripts/deps.sh build wheel"
}

install_zig() {
  zig=$PWD/$tools/ziglang/zig
  [[ -x $zig && $("$zig" version) == "$zig_version" ]] && return 0
  echo "package: fetching ziglang $zig_version from PyPI"
  rm -rf "$tools"
  "$python" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --target "$tools" \
    --require-hashes -r packaging/zig.txt || fail "ziglang could not be fetched; check the network"
}

# What CMake is told beside the project's own settings for a release.
cmake_arguments() {
  arguments=(--toolchain="$PWD/cmake/zig.cmake" -DGPUROOM_ARCH="$arch" -DGPUROOM_ZIG="$zig")
}

# What dist/ has of an earlier version stays out of the way of who installs or tests what is there.
forget() {  # forget NAME-PATTERN
  find dist -maxdepth 1 -name "$1" -delete 2>/dev/null || true
}

build_wheel() {
  forget "gpuroom-*_$arch.whl"
  local IFS=';'
  SKBUILD_BUILD_DIR=build/dist-$arch SKBUILD_WHEEL_TAGS=py3-none-manylinux_2_28_$arch \
    SKBUILD_CMAKE_ARGS="${arguments[*]}" "$python" -m pip wheel --no-deps --wheel-dir dist .
}

build_deb() {
  local -A debian=([x86_64]=amd64 [aarch64]=arm64)
  command -v dpkg-deb >/dev/null || fail "dpkg-deb was not found; build the package on Debian or Ubuntu"
  cmake --preset dist -B "build/dist-$arch" "${arguments[@]}"
  cmake --build "build/dist-$arch" --target gpuroom_product
  rm -rf "build/deb-$arch"
  cpack --config "build/dist-$arch/CPackConfig.cmake" -B "$PWD/build/deb-$arch"
  mkdir -p dist
  forget "gpuroom_*_${debian[$arch]}.deb"
  cp "build/deb-$arch"/*.deb dist/
}

# The headers of other projects, which `make deps` installs, go along: who builds from a source distribution may not
# have them. cuda.h stays behind, as its licence wants; pip fetches it from NVIDIA.
build_sdist() {
  local folder=third_party header
  rm -rf "$folder"
  mkdir -p "$folder"
  trap 'rm -rf third_party' EXIT
  for header in fmt nlohmann CLI xxhash.h; do
    for include in /usr/include /usr/local/include; do
      if [[ -e $include/$header ]]; then
        cp -rL "$include/$header" "$folder/"
        break
      fi
    done
    [[ -e $folder/$header ]] || fail "the headers of $header were not found; run 'make deps'"
  done
  cp packaging/THIRD_PARTY_NOTICES.txt "$folder/"
  rm -rf "$tools-sdist"
  forget 'gpuroom-*.tar.gz'
  "$python" -m pip install --quiet --disable-pip-version-check --target "$tools-sdist" build
  PYTHONPATH=$tools-sdist "$python" -m build --sdist --outdir dist .
}

readonly what=${1-} arch=${2:-$(uname -m)}
case $what in
  wheel | deb)
    [[ $arch == x86_64 || $arch == aarch64 ]] || fail "unknown architecture '$arch'; use x86_64 or aarch64"
    find_python
    install_zig
    cmake_arguments
    "build_$what"
    ;;
  sdist)
    find_python
    build_sdist
    ;;
  *) fail "unknown package '$what'; use wheel, deb or sdist" ;;
esac
