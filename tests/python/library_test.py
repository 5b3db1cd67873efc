"""Finding the library, loading nothing before it is needed, and `python -m gpuroom`."""

import os
import re
import shutil
import stat

import pytest
from conftest import BUILD, COMMAND, LIBRARY, PACKAGE

import gpuroom
from gpuroom import _capi, _sizes


def test_importing_loads_no_library_no_cuda_and_no_torch(python):
    out = python.passes("""
        import sys, gpuroom
        maps = open("/proc/self/maps").read()
        print([name for name in ("libgpuroom", "libcuda") if name in maps], "torch" in sys.modules)
        """)
    assert out.strip() == "[] False"


def test_without_a_library_one_sentence_says_what_to_do(python):
    out = python.passes("""
        import gpuroom
        try:
            gpuroom.describe(4096)
        except gpuroom.Unsupported as error:
            print(error)
        """, env={"PATH": "/nonexistent"})
    assert "libgpuroom.so was not found" in out and "set GPUROOM_LIBRARY" in out and out.count("\n") == 1


def test_a_library_that_is_named_has_to_be_one(python, tmp_path):
    program = """
        import gpuroom
        try:
            gpuroom.library_path()
        except gpuroom.Unsupported as error:
            print(error)
        """
    missing = str(tmp_path / "nothing.so")
    assert missing in python.passes(program, env={"GPUROOM_LIBRARY": missing})
    text = tmp_path / "text.so"
    text.write_text("no library")
    assert "cannot be loaded" in python.passes(program, env={"GPUROOM_LIBRARY": str(text)})


def test_the_preloaded_library_is_taken_first(python):
    out = python.under_gpuroom("""
        import os, gpuroom
        os.environ["GPUROOM_LIBRARY"] = "/nonexistent"
        print(gpuroom.library_path(), gpuroom._library.load().preloaded)
        """)
    assert out.split() == [str(LIBRARY), "True"]


def test_the_library_beside_the_command_in_path(python):
    out = python.passes("import gpuroom; print(gpuroom.library_path())", env={"PATH": str(COMMAND.parent)})
    assert os.path.samefile(out.strip(), LIBRARY)


@pytest.fixture
def installed(tmp_path):
    """An environment with the wheel as pip lays it out, from this build: the folder of its packages."""
    packages = tmp_path / "lib" / "python3.9" / "site-packages"
    shutil.copytree(PACKAGE / "gpuroom", packages / "gpuroom", ignore=shutil.ignore_patterns("__pycache__", "_native"))
    (packages / "gpuroom" / "_native").mkdir()
    (packages / "gpuroom" / "_native" / "lib").symlink_to(BUILD / "lib")
    put_command(tmp_path / "bin")
    return packages


def put_command(folder):
    folder.mkdir()
    shutil.copy(COMMAND, folder / "gpuroom")


RUN_VERSION = "import runpy, sys; sys.argv[1:] = ['--version']; runpy.run_module('gpuroom', run_name='__main__')"


def test_a_wheel_has_its_own_library_and_command(python, installed):
    environment = {"PYTHONPATH": str(installed), "PATH": "/usr/bin:/bin"}
    out = python.passes("import gpuroom; print(gpuroom.library_path())", env=environment)
    assert out.strip() == str(installed / "gpuroom" / "_native" / "lib" / "gpuroom" / "libgpuroom.so")
    assert python.passes(RUN_VERSION, env=environment).startswith("gpuroom ")


def test_pip_s_target_folder_has_them_too(python, installed, tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    (installed / "gpuroom").rename(target / "gpuroom")
    put_command(target / "bin")
    environment = {"PYTHONPATH": str(target), "PATH": "/usr/bin:/bin"}
    assert python.passes(RUN_VERSION, env=environment).startswith("gpuroom ")


def test_the_version_is_that_of_the_metadata_beside_the_package(python, installed):
    """Of two installations, the one that is imported counts, and the sources have none."""
    for folder, version in ((installed, "7.8.9"), (installed.parent / "other", "1.0")):
        metadata = folder / f"gpuroom-{version}.dist-info" / "METADATA"
        metadata.parent.mkdir(parents=True)
        metadata.write_text(f"Metadata-Version: 2.1\nName: gpuroom\nVersion: {version}\n")
    paths = f"{installed.parent / 'other'}:{installed}"
    assert python.passes("import gpuroom; print(gpuroom.__version__)", env={"PYTHONPATH": paths}).strip() == "7.8.9"
    assert python.passes("import gpuroom; print(gpuroom.__version__)").strip() == "0+unknown"


def test_the_command_s_exit_status_is_the_program_s(python, installed):
    program = "import runpy, sys; sys.argv[1:] = ['frobnicate']; runpy.run_module('gpuroom', run_name='__main__')"
    done = python(program, env={"PYTHONPATH": str(installed)})
    assert done.returncode == 2 and done.stderr.startswith("gpuroom: ")


def test_a_script_named_gpuroom_is_not_taken_for_the_command(python, tmp_path):
    """It may start the package again, which would ask it again, for ever."""
    script = tmp_path / "gpuroom"
    script.write_text("#!/bin/sh\nexit 0\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    program = "import runpy, sys; sys.argv[1:] = ['doctor']; runpy.run_module('gpuroom', run_name='__main__')"
    done = python(program, env={"PATH": str(tmp_path)})
    assert done.returncode == 126 and "install the wheel" in done.stderr


def headers():
    """The public headers that _capi.py repeats, without comments."""
    folder = PACKAGE.parent / "include/gpuroom"
    text = "".join((folder / name).read_text() for name in ("gpuroom.h", "sleep.h", "torch_memory_saver.h"))
    return re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)


def test_structures_have_the_header_s_names_in_its_order():
    structures = {"placement": _capi.PlacementStruct, "move": _capi.MoveStruct, "stats": _capi.StatsStruct,
                  "tag_action": _capi.TagActionStruct, "sleep_request": _capi.SleepRequestStruct,
                  "sleep_report": _capi.SleepReportStruct, "tag_state": _capi.TagStateStruct}
    for kind, structure in structures.items():
        body = headers().split(f"typedef struct gpuroom_{kind} {{")[1].split("}")[0]
        names = [line.split(";")[0].split("[")[0].split()[-1] for line in body.splitlines() if ";" in line]
        assert names == [name for name, *_ in structure._fields_]


@pytest.mark.parametrize("prefix,table", [("SLEEP", _capi.ACTIONS), ("HOLD", _capi.HOLDS)])
def test_numbers_are_those_of_the_header(prefix, table):
    for name, number in table.items():
        assert re.search(rf"GPUROOM_{prefix}_{name.upper()} = {number}\b", headers()), name


def test_functions_are_those_of_the_header():
    header = headers()
    for name, (_, arguments) in _capi._PROTOTYPES.items():
        declared = header.split(f" {name}(")[-1] if f" {name}(" in header else header.split(f"*{name}(")[-1]
        parameters = [text for text in declared.split(")")[0].split(",") if text.strip() != "void"]
        assert len(parameters) == len(arguments), name


@pytest.mark.parametrize("text,expected", [
    ("6GiB", 6 << 30), ("512m", 512 << 20), ("1.5T", 3 << 39), (" 2 GB ", 2 << 30), ("17", 17), ("17B", 17),
    (99, 99), (".5K", 512)])
def test_sizes(text, expected):
    assert _sizes.parse_size(text) == expected


@pytest.mark.parametrize("text", ["", "GiB", "-1", "6XiB", "1e9", True, 1.5, -1, 1 << 63, "9999999T", None])
def test_bad_sizes_are_named(text):
    with pytest.raises(gpuroom.InvalidArgument, match="hbm_limit is "):
        _sizes.parse_size(text, "hbm_limit")
