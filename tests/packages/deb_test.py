"""The .deb packages of `make deb` and `make deb-arm64`: the same set as `make install`, and dpkg installs and removes it."""

import os
import pathlib
import re

import bare
import pytest
from conftest import SOURCE, files_below, passes
from install_test import FILES

DIST = pathlib.Path(os.environ.get("GPUROOM_DIST", SOURCE / "dist"))
ARCHITECTURES = ["x86_64", "aarch64"]


def package_of(architecture):
    found = sorted(DIST.glob(f"gpuroom_*_{bare.DEBIAN[architecture]}.deb"))
    assert len(found) == 1, f"{DIST} should hold one package for {architecture}, and holds {found}; run 'make nightly'"
    return found[0]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def package(request):
    return package_of(request.param)


def test_holds_what_make_install_does(package, tmp_path):
    passes("dpkg-deb", "--extract", package, tmp_path)
    files = files_below(tmp_path / "usr")
    # The list is for `make uninstall`; dpkg keeps its own.
    assert {name for name in files if not name.startswith("include/")} == FILES - {"share/gpuroom/files.txt"}
    assert "include/gpuroom/gpuroom.h" in files


def test_depends_on_the_c_library_that_it_needs(package, tmp_path):
    passes("dpkg-deb", "--extract", package, tmp_path)
    libc = re.search(r"libc6 \(>= (\d+)\.(\d+)\)", passes("dpkg-deb", "--field", package, "Depends"))
    said = tuple(map(int, libc.groups()))
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.read_bytes()[:4] == b"\x7fELF":
            needed = re.findall(r"GLIBC_(\d+)\.(\d+)", passes("readelf", "--version-info", "--wide", path))
            assert max((int(major), int(minor)) for major, minor in needed) <= said, path.name
            libraries = re.findall(r"\(NEEDED\).*\[(.*)\]", passes("readelf", "--dynamic", "--wide", path))
            assert not [name for name in libraries if "stdc++" in name or "gcc_s" in name], path.name


IN_A_BASE = """
find / -xdev \\( -path /proc -o -path /tmp -o -path /mnt -o -path /var/lib/dpkg -o -path /var/log \\) -prune -o -print 2>/dev/null | sort > /tmp/before
dpkg --force-depends,bad-path -i /mnt/{package}
gpuroom --version
gpuroom run --sim 1GiB,host=1GiB -- /bin/sh -c 'echo "$LD_PRELOAD"' | grep /usr/lib/gpuroom/libgpuroom.so
gpuroom demo --sim 64MiB,host=256MiB
status=0; gpuroom doctor || status=$?; [ "$status" = 3 ]
dpkg --force-depends,bad-path -r gpuroom
find / -xdev \\( -path /proc -o -path /tmp -o -path /mnt -o -path /var/lib/dpkg -o -path /var/log \\) -prune -o -print 2>/dev/null | sort > /tmp/after
comm -13 /tmp/before /tmp/after > /tmp/left; cat /tmp/left; [ ! -s /tmp/left ]
echo all is well
"""


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("suite", ["bullseye", "bookworm"])
def test_dpkg_installs_and_removes_it(tmp_path, suite, architecture):
    """In a system whose packages are unpacked but not configured: dpkg does not know that the C library is there, and
    misses ldconfig, which this package does not need."""
    kept = os.environ.get("GPUROOM_BASES")
    folder = pathlib.Path(kept) if kept else tmp_path
    root = folder / f"{suite}-{architecture}"
    if not root.exists():
        bare.make(folder, suite, architecture, ["python3", "python3-pip", "python3-venv"])
    done = bare.enter(root, IN_A_BASE.format(package=package_of(architecture).name), DIST)
    assert done.returncode == 0 and done.stdout.endswith("all is well\n"), done.stdout
