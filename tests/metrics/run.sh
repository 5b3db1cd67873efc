#!/usr/bin/env bash
# Scrapes a simulated node with the real Prometheus server, asks it for every panel of docs/grafana-dashboard.json, and has
# promtool judge the text. `make metrics-check` installs Prometheus and calls this; half a minute. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/../.."

# A test that is skipped would look like one that passed.
for program in prometheus promtool; do
  command -v "$program" >/dev/null || { echo "metrics-check: $program is missing; run scripts/deps.sh nightly" >&2; exit 1; }
done
python=python3
"$python" -c "import pytest" 2>/dev/null || python=/usr/bin/python3
export GPUROOM_SOURCE_DIR=$PWD GPUROOM_BUILD_DIR=${GPUROOM_BUILD_DIR:-$PWD/build/dev}
"$python" -B -m pytest -q -rs -p no:cacheprovider tests/metrics/dashboard_test.py "$@"
"$python" -B -m pytest -q -rs -p no:cacheprovider tests/cli/metrics_test.py -k promtool
