#!/usr/bin/env bash
# Prints the C and C++ sources of the project, those not yet added to git included.
set -euo pipefail
cd "$(dirname "$0")/.."
git ls-files --cached --others --exclude-standard -- '*.h' '*.cc' '*.c' '*.cu' |
  while read -r file; do if [[ -f $file ]]; then echo "$file"; fi; done
