#!/usr/bin/env bash
# Runs every gate over the tree, a built build folder (build/dev) and one that is configured to compile each source
# alone, from which clang takes the sources and their flags (the same one).
#   lint.sh [BUILT [CONFIGURED]]
# All of them run; the exit status is 1 if any failed.
set -euo pipefail
cd "$(dirname "$0")/.."
readonly build=${1:-build/dev}
readonly listed=${2:-$build}
failed=()

gate() {  # gate NAME COMMAND...
  local name=$1 start=$SECONDS
  shift
  if "$@"; then
    echo "lint: $name ok ($((SECONDS - start)) s)"
  else
    echo "lint: $name FAILED" >&2
    failed+=("$name")
  fi
}

check_format() { scripts/sources.sh | xargs clang-format --dry-run --Werror; }

check_shell() {
  local file
  while read -r file; do
    [[ -f $file ]] || continue
    case $(head -c 64 "$file" | head -n 1 | tr -d '\0') in
      '#!'*bash* | '#!/bin/sh'*) bash -n "$file" || return 1 ;;
    esac
  done < <(git ls-files --cached --others --exclude-standard)
}

check_python() {
  git ls-files -z --cached --others --exclude-standard -- '*.py' |
    xargs -0 -r python3 -c 'import ast, sys; [ast.parse(open(f).read(), f) for f in sys.argv[1:]]'
}

gate layers python3 scripts/check_layers.py
gate views python3 scripts/check_views.py
gate options python3 scripts/check_options.py
gate words python3 scripts/check_words.py
gate exceptions python3 scripts/check_exceptions.py
gate shell check_shell
gate python check_python
gate types python3 scripts/check_types.py
gate format check_format
gate headers python3 scripts/check_headers.py --build "$listed"
gate symbols python3 scripts/check_symbols.py --library "$build/lib/gpuroom/libgpuroom.so"
gate compat_symbols python3 scripts/check_symbols.py --library "$build/lib/gpuroom/libgpuroom_compat.so" \
  --exports src/compat/exports.txt --needs libgpuroom.so
gate threads python3 scripts/check_clang.py threads --build "$listed"
gate tidy python3 scripts/check_clang.py tidy --build "$listed"

if [[ ${#failed[@]} -gt 0 ]]; then
  echo "lint: failed: ${failed[*]}" >&2
  exit 1
fi
echo "lint: all gates passed"
