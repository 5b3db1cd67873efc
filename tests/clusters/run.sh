#!/usr/bin/env bash
# Runs the tests under torchrun, Ray and Slurm, on the simulated driver, with what `make clusters-check` has built and
# installed. Some minutes, and some 100 MB from PyPI the first time. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly ray=2.60.0
readonly tools=build/clusters
export GPUROOM_BUILD_DIR=${GPUROOM_BUILD_DIR:-$PWD/build/dev}

if ! "$tools/bin/python" -c "import ray, sys; sys.exit(ray.__version__ != '$ray')" 2>/dev/null; then
  rm -rf "$tools"
  /usr/bin/python3 -m venv "$tools"
  "$tools/bin/pip" install --quiet --disable-pip-version-check "ray==$ray" pytest
fi
cd tests/clusters
# torchrun and Slurm: the distribution's, with its Python. Each file has its own line, so that one that is skipped is seen.
/usr/bin/python3 -B -m pytest -q -rs -p no:cacheprovider --durations=3 torchrun_test.py "$@"
/usr/bin/python3 -B -m pytest -q -rs -p no:cacheprovider --durations=3 slurm_test.py "$@"
"../../$tools/bin/python" -B -m pytest -q -rs -p no:cacheprovider --durations=3 ray_test.py "$@"
