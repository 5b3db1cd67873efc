"""`make vllm-seams`: the table of the seams against the signatures of vLLM's releases, and the gate tripping."""

import json
import shutil
import subprocess
import sys

import pytest
from conftest import SOURCE

SCRIPT = SOURCE / "scripts" / "vllm_seams.py"
FIXTURES = SOURCE / "tests" / "python" / "vllm_seams"


def table(script=SCRIPT):
    done = subprocess.run([sys.executable, "-B", str(script)], capture_output=True, text=True)
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


@pytest.fixture
def tree(tmp_path):
    """A copy of what the script needs, to be changed."""
    for folder in ("scripts", "python", "tests/python/vllm_seams"):
        shutil.copytree(SOURCE / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_every_release_has_what_it_needs():
    code, lines = table()
    assert code == 0 and len(lines) == 7 * len(list(FIXTURES.glob("*.json")))
    assert any(line.startswith("0.26.0") and line.endswith("yes") for line in lines)


@pytest.mark.parametrize("parameters", [None, ["self", "config"]])
def test_a_release_that_lacks_one_is_a_failure_with_its_reason(tree, parameters):
    fixture = tree / "tests/python/vllm_seams/0.26.0.json"
    signatures = json.loads(fixture.read_text())
    signatures["vllm.v1.worker.gpu_worker"]["Worker.initialize_from_config"] = parameters
    fixture.write_text(json.dumps(signatures))
    code, lines = table(tree / "scripts" / "vllm_seams.py")
    (failed,) = [line for line in lines if line.startswith("0.26.0") and "no: " in line]
    assert code == 1 and "Worker.initialize_from_config" in failed
    assert "is not there" in failed if parameters is None else "has the parameters (self, config)" in failed


def test_signatures_are_taken_where_they_are_defined(tree):
    unpacked = tree / "unpacked"
    worker = unpacked / "vllm/v1/worker"
    worker.mkdir(parents=True)
    (unpacked / "vllm-9.8.7.dist-info").mkdir()
    (worker / "gpu_worker.py").write_text(
        "from .utils import request_memory\nclass Worker:\n  def load_model(self, *, dummy=False, **more): pass\n")
    (worker / "utils.py").write_text("def request_memory(init_snapshot, cache_config): pass\n")
    subprocess.run([sys.executable, "-B", str(tree / "scripts/vllm_seams.py"), "--take", str(unpacked)], check=True, capture_output=True)
    taken = json.loads((tree / "tests/python/vllm_seams/9.8.7.json").read_text())
    assert taken["vllm.v1.worker.gpu_worker"]["Worker.load_model"] == ["self", "dummy", "more"]
    assert taken["vllm.v1.worker.gpu_worker"]["request_memory"] == ["init_snapshot", "cache_config"]
    assert taken["vllm.v1.worker.gpu_worker"]["Worker.init_device"] is None
