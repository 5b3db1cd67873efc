#!/usr/bin/env bash
# Installs a built release below a prefix, or removes it again. `make install` and `make uninstall` call it.
#
#   scripts/install.sh check PREFIX            fails where PREFIX cannot be written to
#   scripts/install.sh install PREFIX [BUILD]  copies what BUILD (build/release) holds below PREFIX
#   scripts/install.sh uninstall PREFIX        removes what was installed there, and nothing else
#
# DESTDIR, if set, goes before PREFIX, for who makes packages. What is installed is listed in
# PREFIX/share/gpuroom/files.txt, which is written first: an installation that fails half-way is removed by that list.
set -euo pipefail

fail() {
  echo "install: $*" >&2
  exit 1
}

check() {
  local folder=$target
  while [[ ! -e $folder ]]; do folder=$(dirname "$folder"); done
  [[ -d $folder ]] || fail "'$folder' is no folder; name another with PREFIX=DIR"
  [[ -w $folder ]] ||
    fail "'$folder' cannot be written to; run it as root (sudo make $what), or name a folder of yours: PREFIX=\$HOME/.local"
}

# Removes the files that the list names, and then the folders of theirs that are empty.
uninstall() {
  [[ -f $list ]] || fail "'$list' was not found; is gpuroom installed below '$target'? PREFIX=DIR names another folder"
  local files file folder
  mapfile -t files <"$list"
  for file in "${files[@]}"; do
    rm -f -- "$target/$file" || echo "install: '$target/$file' is left" >&2
  done
  printf '%s\n' "${files[@]%/*}" | sort -ru | while IFS= read -r folder; do
    (cd "$target" && rmdir -p --ignore-fail-on-non-empty -- "$folder" 2>/dev/null) || true
  done
}

install_all() {
  stage=$(mktemp -d)
  trap 'rm -rf "$stage"' EXIT
  env -u DESTDIR cmake --install "$build" --prefix "$stage" >/dev/null ||
    fail "'$build' holds no complete release build; run 'make install'"
  if [[ -f $list ]]; then uninstall; fi  # an older version may have files that this one has not
  mkdir -p "$(dirname "$list")"
  (cd "$stage" && find . -type f -printf '%P\n' | sort) >"$list"
  echo share/gpuroom/files.txt >>"$list"
  if ! tar -C "$stage" -cf - . | tar -C "$target" --no-same-owner -xf -; then
    uninstall
    fail "the files could not be written below '$target', and those that were are removed again"
  fi
  echo "install: $(wc -l <"$list") files below $target"
}

[[ $# -ge 2 ]] || fail "usage: scripts/install.sh check|install|uninstall PREFIX [BUILD]"
readonly what=$1 target=${DESTDIR:-}$2 build=${3:-build/release}
readonly list=$target/share/gpuroom/files.txt
[[ $2 == /* ]] || fail "PREFIX '$2' is relative; give an absolute path"
case $what in
  check) check ;;
  install) check && install_all ;;
  uninstall) check && uninstall ;;
  *) fail "unknown action '$what'; use check, install or uninstall" ;;
esac
