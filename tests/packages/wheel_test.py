"""The wheels of `make wheel` and `make wheel-arm64`: what they hold, and that pip installs and removes them anywhere.

GPUROOM_DIST names their folder. What this takes of the machine is in `scripts/deps.sh nightly`, and auditwheel and
abi3audit, which tests/packages/run.sh brings.
"""

import json
import os
import pathlib
import re
import shutil
import sys
import zipfile
from email.parser import Parser

import bare
import pytest
from conftest import SOURCE, clean_environment, files_below, passes, run

DIST = pathlib.Path(os.environ.get("GPUROOM_DIST", SOURCE / "dist"))
ARCHITECTURES = ["x86_64", "aarch64"]
NEWEST_GLIBC = (2, 28)
C_LIBRARY = re.compile(r"(lib(c|m|dl|pthread|rt)\.so\.\d|ld-linux-(x86-64|aarch64)\.so\.\d)")
BINARIES = {
    "gpuroom/_native/lib/gpuroom/libgpuroom.so", "gpuroom/_native/lib/gpuroom/gpuroom-demo",
    "gpuroom/_native/lib/gpuroom/python/cumem_allocator.abi3.so",
    "gpuroom/_native/lib/gpuroom/sim/libcuda.so.1", "gpuroom/_native/lib/gpuroom/sim/libnvidia-ml.so.1",
}  # fmt: skip
SIM = "1GiB,host=1GiB"
HERE = os.uname().machine
CLASSIFIER = re.compile(r"Programming Language :: Python :: (3\.\d+)")
VERSIONS = CLASSIFIER.findall((SOURCE / "pyproject.toml").read_text())  # every Python that the wheels promise to work with


def wheel_of(architecture):
    found = sorted(DIST.glob(f"gpuroom-*-py3-none-manylinux_2_28_{architecture}.whl"))
    assert len(found) == 1, f"{DIST} should hold one wheel for {architecture}, and holds {found}; run 'make nightly'"
    return found[0]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def wheel(request):
    return wheel_of(request.param)


@pytest.fixture(scope="module")
def unpacked(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unpacked")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def binaries(folder):
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and path.read_bytes()[:4] == b"\x7fELF"]


def metadata_folder(unpacked):
    return next(unpacked.glob("gpuroom-*.dist-info"))


# What the wheels hold.


def test_holds_every_binary(unpacked):
    scripts = {path.relative_to(unpacked).as_posix() for path in unpacked.glob("*.data/scripts/*")}
    assert len(scripts) == 1 and scripts.pop().endswith("/gpuroom")
    native = {path.relative_to(unpacked).as_posix() for path in binaries(unpacked)}
    assert {name for name in native if ".data/" not in name} == BINARIES


def test_needs_nothing_newer_than_glibc_2_28(unpacked):
    for path in binaries(unpacked):
        versions = re.findall(r"GLIBC_(\d+)\.(\d+)", passes("readelf", "--version-info", "--wide", path))
        newest = max((int(major), int(minor)) for major, minor in versions)
        assert (2, 2) <= newest <= NEWEST_GLIBC, f"{path.name} needs glibc {newest}"


def test_needs_no_library_but_the_c_library(unpacked):
    for path in binaries(unpacked):
        needed = re.findall(r"\(NEEDED\).*\[(.*)\]", passes("readelf", "--dynamic", "--wide", path))
        assert needed and not [name for name in needed if not C_LIBRARY.fullmatch(name)], f"{path.name}: {needed}"


def test_the_library_exports_what_it_should(unpacked):
    passes(sys.executable, SOURCE / "scripts/check_symbols.py", "--library",
           unpacked / "gpuroom/_native/lib/gpuroom/libgpuroom.so")  # fmt: skip


def test_metadata_is_complete(unpacked):
    metadata = Parser().parsestr((metadata_folder(unpacked) / "METADATA").read_text())
    assert metadata["Name"] == "gpuroom" and metadata["Requires-Python"] == ">=3.9"
    version = re.search(r"project\(gpuroom VERSION ([0-9.]+)", (SOURCE / "CMakeLists.txt").read_text()).group(1)
    assert metadata["Version"] == version
    assert metadata["License-Expression"] == "Apache-2.0"
    urls = dict(line.split(", ") for line in metadata.get_all("Project-URL"))
    assert {"Homepage", "Documentation", "Source", "Issues", "Changelog"} <= set(urls)
    assert all(url.startswith("https://") for url in urls.values())
    assert CLASSIFIER.findall("\n".join(metadata.get_all("Classifier"))) == [f"3.{minor}" for minor in range(9, 15)]
    assert metadata["Description-Content-Type"] == "text/markdown"
    links = re.findall(r"\]\(([^)]+)\)", metadata.get_payload())
    assert links and not [link for link in links if not link.startswith(("https://", "http://", "#"))]


def test_licences_and_a_bill_of_materials_come_along(unpacked):
    names = files_below(metadata_folder(unpacked) / "licenses")
    assert {pathlib.PurePath(name).name for name in names} == {"LICENSE", "THIRD_PARTY_NOTICES.txt"}
    bill = json.loads((metadata_folder(unpacked) / "sboms/gpuroom.cdx.json").read_text())
    assert bill["bomFormat"] == "CycloneDX" and bill["metadata"]["component"]["name"] == "gpuroom"
    parts = {part["name"]: part for part in bill["components"]}
    assert {"fmt", "CLI11", "nlohmann-json", "xxhash", "LLVM libc++"} == set(parts)
    for part in parts.values():
        assert re.fullmatch(r"\d+\.\d+\.\d+", part["version"]) and part["licenses"], part
        assert re.fullmatch(r"pkg:[\w/.-]+@v?[\d.]+", part.get("purl", "pkg:x/y@1")), part


def test_auditwheel_finds_it_clean(wheel):
    output = " ".join(passes(sys.executable, "-m", "auditwheel", "show", wheel).split())
    assert re.search(r'consistent with the following platform tag: "manylinux_2_(\d+)_', output), output
    assert int(re.search(r'platform tag: "manylinux_2_(\d+)_', output).group(1)) <= NEWEST_GLIBC[1]


def test_the_extension_module_keeps_to_the_stable_abi_of_3_9(unpacked):
    module = unpacked / "gpuroom/_native/lib/gpuroom/python/cumem_allocator.abi3.so"
    status, output = run(sys.executable, "-m", "abi3audit", "--strict", "--assume-minimum-abi3", "3.9", module)
    assert status == 0, output


# Installed on this machine.


def pythons():
    """Every Python from 3.9 on that is here."""
    found = {}
    places = [pathlib.Path(folder) for folder in os.environ["PATH"].split(":")]
    places += sorted((pathlib.Path.home() / ".pyenv/versions").glob("*/bin"))
    for place in places:
        for path in sorted(place.glob("python3*")):
            if re.fullmatch(r"python3(\.\d+)?", path.name) and ".pyenv/shims" not in str(path):
                status, output = run(path, "-c", "import venv, ensurepip, sys; print('%d.%d' % sys.version_info[:2])")
                if status == 0 and tuple(map(int, output.split("."))) >= (3, 9):
                    found.setdefault(output.strip(), path)
    return found


PYTHONS = pythons()


class Environment:
    """A virtual environment in which the wheel for this machine is installed."""

    def __init__(self, folder, python, *first):
        self.folder, self.bin = folder, folder / "bin"
        passes(python, "-m", "venv", folder)
        if first:
            self.pip("install", "--no-deps", *first)
        self.before = self.files()
        self.pip("install", "--no-index", wheel_of(HERE))

    def pip(self, *arguments):
        return passes(self.bin / "python", "-m", "pip", "--disable-pip-version-check", *arguments)

    def files(self):
        return {path for path in self.folder.rglob("*") if "__pycache__" not in path.parts}

    def passes(self, program, *arguments, **options):
        return passes(self.bin / program, *arguments, **options)


def check_that_it_works(environment):
    folder = environment.folder
    assert environment.passes("gpuroom", "--version").startswith("gpuroom ")
    assert (environment.bin / "gpuroom").read_bytes()[:4] == b"\x7fELF"
    status, output = run(environment.bin / "gpuroom", "doctor")
    assert status in (0, 1, 3) and "internal error" not in output
    program = """
import gpuroom, os, sys
assert gpuroom._library.load().preloaded
print(gpuroom.library_path(), gpuroom.__version__, os.environ["GPUROOM_SIM"])
"""
    output = environment.passes("gpuroom", "run", "--sim", SIM, "--", environment.bin / "python", "-c", program).split()
    assert pathlib.Path(output[0]).is_relative_to(folder) and output[2] == SIM
    assert environment.passes("python", "-m", "gpuroom", "--version").split()[1] == output[1]
    demo = json.loads(environment.passes("gpuroom", "demo", "--sim", "64MiB,host=256MiB", "--json"))
    assert demo
    program = "import gpuroom.cumem as c; print(c._load(c.path()).__name__, c.path())"
    module = environment.passes("python", "-c", program).split()
    assert module[0] == "cumem_allocator" and pathlib.Path(module[1]).is_relative_to(folder)


@pytest.mark.parametrize("version", VERSIONS)
def test_installs_works_and_leaves_nothing(version, tmp_path):
    if version not in PYTHONS:
        pytest.skip(f"Python {version} is not on this machine, so the wheel was not tried with it here")
    environment = Environment(tmp_path / "venv", PYTHONS[version])
    check_that_it_works(environment)
    environment.pip("uninstall", "--yes", "gpuroom")
    assert environment.files() == environment.before


def test_the_command_starts_without_python(tmp_path):
    """A link to it, as pipx and uv make them, from a folder outside; and no python3 in PATH."""
    environment = Environment(tmp_path / "venv", next(iter(PYTHONS.values())))
    link = tmp_path / "gpuroom"
    link.symlink_to(environment.bin / "gpuroom")
    output = passes(link, "run", "--sim", SIM, "--", "/bin/sh", "-c", 'echo "$LD_PRELOAD"',
                    env=clean_environment(PATH="/nonexistent"))  # fmt: skip
    assert pathlib.Path(output.strip()).is_relative_to(tmp_path / "venv")


def test_installs_into_a_target_folder(tmp_path):
    python = next(iter(PYTHONS.values()))
    passes(python, "-m", "venv", tmp_path / "venv")
    passes(tmp_path / "venv/bin/python", "-m", "pip", "install", "--no-index", "--target", tmp_path / "target", wheel_of(HERE))
    command = tmp_path / "target/bin/gpuroom"
    output = passes(command, "run", "--sim", SIM, "--", "/bin/sh", "-c", 'echo "$LD_PRELOAD"').strip()
    assert pathlib.Path(output).is_relative_to(tmp_path / "target")
    variables = clean_environment(PYTHONPATH=str(tmp_path / "target"))
    assert passes(tmp_path / "venv/bin/python", "-m", "gpuroom", "--version", env=variables).startswith("gpuroom ")


@pytest.mark.parametrize("other", ["headroom-ai", "headroom"])  # other people's, on PyPI
def test_leaves_other_people_s_packages_alone(other, tmp_path):
    python = PYTHONS.get("3.12") or next(iter(PYTHONS.values()))
    environment = Environment(tmp_path / "venv", python, other)
    theirs = {path: path.read_bytes() for path in environment.before if path.is_file()}
    check_that_it_works(environment)
    assert {path: path.read_bytes() for path in theirs} == theirs
    environment.pip("uninstall", "--yes", "gpuroom")
    assert environment.files() == environment.before
    assert {path: path.read_bytes() for path in theirs} == theirs


def test_a_wheel_for_another_architecture_is_refused_in_a_sentence(tmp_path):
    other = wheel_of(next(name for name in ARCHITECTURES if name != HERE))
    passes(next(iter(PYTHONS.values())), "-m", "venv", tmp_path / "venv")
    status, output = run(tmp_path / "venv/bin/python", "-m", "pip", "install", "--no-index", other)
    assert status == 1 and "is not a supported wheel on this platform" in output


# Installed in bare systems.

IN_A_BASE = """
python3 --version
{install}
{bin}gpuroom --version
status=0; {bin}gpuroom doctor > /tmp/doctor 2>&1 || status=$?
cat /tmp/doctor; [ "$status" = 3 ]
{bin}gpuroom run --sim 1GiB,host=1GiB -- {bin}python3 -c '
import gpuroom
assert gpuroom._library.load().preloaded
print("preloaded", gpuroom.library_path(), gpuroom.__version__)'
{bin}python3 -m gpuroom run --sim 1GiB,host=1GiB -- /bin/sh -c 'echo "$LD_PRELOAD"' | grep libgpuroom.so
{bin}python3 -c 'import gpuroom.cumem as c; print(c._load(c.path()).__name__)' | grep cumem_allocator
{uninstall}
! find / -xdev \\( -path /proc -o -path /tmp -o -path /mnt \\) -prune -o -iname '*gpuroom*' -print 2>/dev/null | grep .
echo all is well
"""
PACKAGES = ["python3", "python3-pip", "python3-venv"]
VENV = {"install": "python3 -m venv /opt/v; /opt/v/bin/pip install --no-index /mnt/{wheel}",
        "bin": "/opt/v/bin/", "uninstall": "/opt/v/bin/pip uninstall --yes gpuroom"}  # fmt: skip
SYSTEM = {"install": "pip3 install {flag} --no-index /mnt/{wheel}", "bin": "",
          "uninstall": "pip3 uninstall {flag} --yes gpuroom"}  # fmt: skip


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    kept = os.environ.get("GPUROOM_BASES")
    folder = pathlib.Path(kept) if kept else tmp_path_factory.mktemp("bases")

    def base(suite, architecture):
        root = folder / f"{suite}-{architecture}"
        return root if root.exists() else bare.make(folder, suite, architecture, PACKAGES)

    yield base
    if not kept:
        shutil.rmtree(folder, ignore_errors=True)


# The oldest Debian with a glibc and a Python that the wheels promise, the newest that is released with its Python 3.11, and
# for the newest Python the one that is not released yet. Emulated, the last would prove nothing that the others do not.
DEBIANS = [*((suite, architecture) for suite in ("bullseye", "bookworm") for architecture in ARCHITECTURES), ("forky", HERE)]


@pytest.mark.parametrize("suite, architecture", DEBIANS)
@pytest.mark.parametrize("way", ["venv", "system"])
def test_works_in_a_bare_debian(bases, suite, architecture, way):
    root = bases(suite, architecture)
    wheel = wheel_of(architecture)
    flag = "--break-system-packages" if suite != "bullseye" else ""
    texts = {name: text.format(wheel=wheel.name, flag=flag) for name, text in (VENV if way == "venv" else SYSTEM).items()}
    done = bare.enter(root, IN_A_BASE.format(**texts), DIST)
    assert done.returncode == 0 and done.stdout.endswith("all is well\n"), done.stdout
    if suite == "forky" and f"Python {VERSIONS[-1]}." not in done.stdout:
        pytest.skip(f"works, but Debian's Python there is no longer {VERSIONS[-1]}: " + done.stdout.splitlines()[0])
