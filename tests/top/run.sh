#!/usr/bin/env bash
# Tests the view of `gpuroom top`: by Textual's pilot, and on a terminal of tmux. `make top-check` installs what it needs and
# calls this; a minute. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/../.."

# A test that is skipped would look like one that passed.
command -v tmux >/dev/null || { echo "top-check: tmux is missing; run scripts/deps.sh nightly" >&2; exit 1; }
export GPUROOM_SOURCE_DIR=$PWD GPUROOM_BUILD_DIR=${GPUROOM_BUILD_DIR:-$PWD/build/dev}
build/top/venv/bin/python -B -m pytest -q -rs -p no:cacheprovider tests/top/view_test.py tests/top/tmux_test.py "$@"
