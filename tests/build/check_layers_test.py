"""The layer gate lets includes go down and trips on every other direction."""

import pytest

from conftest import SOURCE, Gate

gate = Gate("check_layers.py")


@pytest.fixture
def tree(write, tmp_path):
    write("src/base/size.h", "#include <cstdint>\n")
    write("src/base/size.cc", '#include "base/size.h"\n')
    write("src/range/range.h", '#include "base/size.h"\n')
    write("src/shim/hooks.h", '#include "range/range.h"\n#include <cuda.h>\n')
    write("src/cli/run.cc", '#include "base/size.h"\n#include <CLI/CLI.hpp>\n')
    write("sim/device.h", "#include <vector>\n")
    write("sim/device.cc", '#include "device.h"\n')
    write("include/gpuroom/gpuroom.h", "#include <stdint.h>\n")
    return tmp_path


def test_passes_on_includes_that_go_down(tree):
    gate.passes("--root", tree)
    assert "8 files, 0 problems" in gate.output


@pytest.mark.parametrize("name, include, why", [
    ("src/base/bad.h", '"driver/driver.h"', "'driver' is above 'base'"),
    ("src/range/bad.h", '"shim/hooks.h"', "'shim' is above 'range'"),
    ("src/tier/bad.h", '"../range/range.h"', "'range' is above 'tier'"),
    ("src/shim/bad.h", '"cli/run.h"', "'cli' and 'shim' stand side by side"),
    ("src/cli/bad.h", '"shim/hooks.h"', "'shim' and 'cli' stand side by side"),
    ("src/cumem/bad.h", '"range/range.h"', "'cumem' knows base and driver alone"),
    ("src/driver/bad.h", '"sim/device.h"', "driver does not know sim/"),
    ("sim/bad.h", '"base/size.h"', "sim/ includes nothing of src/"),
    ("sim/deep/bad.h", '"../../src/base/size.h"', "sim/ includes nothing of src/"),
    ("include/gpuroom/bad.h", '"base/size.h"', "public headers include nothing of src/"),
])
def test_trips_on_an_include_that_does_not_go_down(tree, write, name, include, why):
    write(name, f"#include <cstddef>\n#include {include}\n")
    gate.trips(why, "--root", tree)
    assert f"{name}:2" in gate.output


def test_trips_when_a_source_does_not_start_with_its_own_header(tree, write):
    write("src/base/size.cc", '#include <vector>\n#include "base/size.h"\n')
    gate.trips("its own header, size.h", "--root", tree)


def test_trips_on_a_layer_it_does_not_know(tree, write):
    write("src/helper/a.h", "#include <vector>\n")
    gate.trips("src/helper: an unknown layer", "--root", tree)


def test_trips_when_there_is_nothing_to_check(tmp_path):
    (tmp_path / "src").mkdir()
    gate.trips("nothing was checked", "--root", tmp_path)


def test_knows_every_layer_of_the_project():
    import importlib.util
    spec = importlib.util.spec_from_file_location("check_layers", SOURCE / "scripts/check_layers.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folders = {p.name for p in (SOURCE / "src").iterdir() if p.is_dir() and any(p.glob("*.h"))}
    assert folders and folders <= set(module.RANK)
