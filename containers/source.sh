#!/usr/bin/env bash
# Puts one pinned source into a folder. Used by the Dockerfiles.
#
#   source.sh archive URL SHA256 FOLDER [LOCAL]    a .tar.gz, without its top folder
#   source.sh git URL COMMIT FOLDER [LOCAL]        a commit with its submodules
#
# LOCAL, a file or folder below /sources (containers/sources in the checkout), is used instead of the network. A file has
# to have the digest; a folder is taken as it is.
set -euo pipefail

fail() {
  echo "source: $*" >&2
  exit 1
}

[[ $# -eq 4 || $# -eq 5 ]] || fail "usage: source.sh archive|git URL SHA256|COMMIT FOLDER [LOCAL]"
readonly kind=$1 url=$2 pin=$3 folder=$4 local_name=${5:-}
readonly sources=${GPUROOM_SOURCES:-/sources}

unpack() {  # unpack ARCHIVE
  echo "$pin  $1" | sha256sum --check --quiet - 2>/dev/null ||
    fail "'$1' has not the sha256 $pin; take the file of that version, or change the pin beside it"
  tar -xzf "$1" -C "$folder" --strip-components=1
}

mkdir -p "$folder"
if [[ -n $local_name ]]; then
  readonly there=$sources/$local_name
  if [[ -d $there ]]; then
    cp -a "$there/." "$folder/"
  elif [[ -f $there ]]; then
    [[ $kind == archive ]] || fail "'$local_name' is a file; a source from git has to be a folder"
    unpack "$there"
  else
    fail "containers/sources/$local_name is not there; put it there, or leave the build argument out"
  fi
elif [[ $kind == archive ]]; then
  file=$(mktemp)
  curl -fsSL --retry 3 -o "$file" "$url" || fail "$url cannot be fetched; put the file into containers/sources and name it"
  unpack "$file"
  rm -f "$file"
elif [[ $kind == git ]]; then
  git -C "$folder" init -q
  git -C "$folder" fetch -q --depth 1 "$url" "$pin" ||
    fail "$pin of $url cannot be fetched; put a checkout into containers/sources and name it"
  git -C "$folder" checkout -q FETCH_HEAD
  git -C "$folder" submodule update -q --init --recursive --depth 1
else
  fail "'$kind' is neither archive nor git"
fi
