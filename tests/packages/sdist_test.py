"""The source distribution of `make sdist` builds where no header that it needs is installed, by pip alone."""

import os
import pathlib
import tarfile

import bare
import pytest
from conftest import SOURCE

DIST = pathlib.Path(os.environ.get("GPUROOM_DIST", SOURCE / "dist"))


@pytest.fixture(scope="module")
def archive():
    found = sorted(DIST.glob("gpuroom-*.tar.gz"))
    assert len(found) == 1, f"{DIST} should hold one source distribution, and holds {found}; run 'make nightly'"
    return found[0]


def test_holds_the_headers_of_others_but_not_cuda_s(archive):
    names = {name.split("/", 1)[-1] for name in tarfile.open(archive).getnames()}
    for header in ("fmt/format.h", "nlohmann/json.hpp", "CLI/CLI.hpp", "xxhash.h", "THIRD_PARTY_NOTICES.txt"):
        assert f"third_party/{header}" in names
    assert {"CMakeLists.txt", "src/base/size.cc", "python/gpuroom/__init__.py", "LICENSE"} <= names
    assert not [name for name in names if name.endswith("/cuda.h") or name.startswith(("tests/", "build/", ".ci"))]


IN_A_BASE = """
for header in fmt/format.h nlohmann/json.hpp CLI/CLI.hpp xxhash.h cuda.h; do [ ! -e "/usr/include/$header" ]; done
python3 -m venv /opt/v
/opt/v/bin/pip install --quiet /mnt/{archive}
/opt/v/bin/gpuroom --version
/opt/v/bin/gpuroom run --sim 1GiB,host=1GiB -- /opt/v/bin/python -c 'import gpuroom; print(gpuroom.library_path())'
echo all is well
"""


def test_builds_in_a_bare_debian(archive, tmp_path):
    packages = ["python3", "python3-venv", "python3-dev", "g++", "ca-certificates"]
    root = bare.make(tmp_path, "bookworm", os.uname().machine, packages)
    bare.share_network(root)
    done = bare.enter(root, IN_A_BASE.format(archive=archive.name), DIST)
    assert done.returncode == 0 and done.stdout.endswith("all is well\n"), done.stdout
