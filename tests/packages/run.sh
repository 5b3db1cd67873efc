#!/usr/bin/env bash
# Tests the packages in dist/ (or $GPUROOM_DIST): what they hold, and that they install, run and go again in bare
# systems. `make nightly` makes them and calls this; it takes some 20 minutes. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly tools=build/nightly
if [[ ! -x $tools/bin/pytest ]]; then
  /usr/bin/python3 -m venv "$tools"
  "$tools/bin/pip" install --quiet --disable-pip-version-check pytest abi3audit auditwheel build
fi
# Bases of Debian are made once for all tests, and kept while they run.
GPUROOM_BASES=$(mktemp -d)
export GPUROOM_BASES GPUROOM_DIST=${GPUROOM_DIST:-$PWD/dist} GPUROOM_SOURCE_DIR=$PWD
trap 'rm -rf "$GPUROOM_BASES"' EXIT
cd tests/packages
"../../$tools/bin/python" -B -m pytest -q -rs -p no:cacheprovider wheel_test.py deb_test.py sdist_test.py "$@"
