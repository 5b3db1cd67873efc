"""`gpuroom bench sleep` and its figure, on the simulated driver: what it says, never how fast it was."""

import json
import subprocess
import sys
import xml.etree.ElementTree

import pytest
from bench_test import PYTHON, needs_matplotlib
from conftest import SOURCE, Gpuroom

MIB = 1 << 20
PROFILE = "256MiB,host=1GiB"
SCRIPT = SOURCE / "scripts" / "plot_sleep.py"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Two sizes, and disk, measured without misuse of the driver or memory left behind."""
    folder = tmp_path_factory.mktemp("sleep")
    arguments = ["--size", "32MiB,48MiB", "--allocations", "3", "--rounds", "2", "--disk", folder, "--json"]
    done = Gpuroom()(
        "bench", "sleep", "--sim", PROFILE, *arguments,
        env={"GPUROOM_LEDGER": str(folder / "ledger"), "GPUROOM_SIM_STRICT": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert [path.name for path in folder.iterdir()] == ["ledger"]  # no backup is left
    return json.loads(done.stdout)


def test_says_what_was_measured(results):
    assert (results["version"], results["benchmark"], results["simulated"]) == (1, "sleep", True)
    assert results["gpu"]["name"] == "Simulated GPU"
    assert results["driver"] == f"simulated {PROFILE}"
    assert all(speed > 0 for speed in results["copies"].values())
    assert [(case["bytes"], case["allocations"]) for case in results["cases"]] == [(32 * MIB, 3), (48 * MIB, 3)]


def test_every_way_was_measured_and_freed_the_memory(results):
    for case in results["cases"]:
        assert case["skipped"] is None
        assert case["freed_bytes"] == case["bytes"]
        for way, rounds in (("first", 1), ("ahead", 2), ("disk", 1), ("copying", 1)):
            speeds = case[way]
            assert speeds["rounds"] == rounds
            assert 0 < speeds["sleep"] <= speeds["best_sleep"]
            assert 0 < speeds["wake"] <= speeds["best_wake"]
        lazy = case["lazy"]
        assert 0 < lazy["returned"] <= lazy["first_kernel"] <= lazy["back"]
        assert 0 <= lazy["left_on_host"] <= case["bytes"]


def test_table_for_people(gpuroom):
    done = gpuroom("bench", "sleep", "--sim", PROFILE, "--rounds", "1")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no terminal, so no progress
    for part in ("simulated", "32.0 MiB in 16 allocations", "created ahead", "others", "lazy wake", "while asleep"):
        assert part in done.stdout
    assert "to disk" not in done.stdout


def test_the_smallest_size(gpuroom, alone):
    done = gpuroom("bench", "sleep", "--sim", PROFILE, "--size", "2MiB", "--rounds", "1", "--json", env=alone)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    (case,) = results["cases"]
    assert (case["bytes"], case["skipped"]) == (2 * MIB, None)
    assert case["ahead"]["sleep"] > 0 and results["copies"]["host_to_device"] > 0


@pytest.mark.parametrize("sizes", ["16MiB,1GiB", "1GiB,16MiB"])
def test_a_size_that_does_not_fit_is_skipped(gpuroom, sizes):
    done = gpuroom("bench", "sleep", "--sim", PROFILE, "--size", sizes, "--rounds", "1", "--json")
    assert done.returncode == 0, done.stderr
    fits, too_large = sorted(json.loads(done.stdout)["cases"], key=lambda case: case["bytes"])
    assert fits["skipped"] is None and fits["ahead"]["sleep"] > 0
    assert "less than 1.0 GiB free" in too_large["skipped"] and too_large["ahead"]["sleep"] is None


@pytest.fixture
def alone(tmp_path):
    """A limit is the node's: what other tests claim at the same time must not count."""
    return {"GPUROOM_LEDGER": str(tmp_path / "ledger")}


def test_a_size_beyond_the_host_limit_is_skipped_with_the_fix(gpuroom, alone):
    # 64 MiB: one of the chunks that host memory is created in ahead of need.
    arguments = ["--size", "16MiB,128MiB", "--host-limit", "64MiB", "--rounds", "1", "--json"]
    done = gpuroom("bench", "sleep", "--sim", PROFILE, *arguments, env=alone)
    assert done.returncode == 0, done.stderr
    fits, too_large = json.loads(done.stdout)["cases"]
    assert fits["skipped"] is None and fits["ahead"]["sleep"] > 0
    assert too_large["skipped"] == "host memory has less than 128 MiB free; raise --host-limit"


@pytest.mark.parametrize("limit", ["auto", "512MiB"])
def test_a_host_limit_that_suffices(gpuroom, alone, limit):
    arguments = ["--size", "16MiB", "--host-limit", limit, "--rounds", "1", "--json"]
    done = gpuroom("bench", "sleep", "--sim", PROFILE, *arguments, env=alone)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert json.loads(done.stdout)["cases"][0]["skipped"] is None


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--size", "4GiB"], ["more than can be spared", "the GPU's memory", "give at most"]),
        (["--size", "64MiB", "--host-limit", "32MiB"],
         ["host memory (--host-limit 32.0 MiB); give at most 32MiB, or raise --host-limit"]),
        (["--host-limit", "much"], ["--host-limit 'much'"]),
        (["--host-limit", "1MiB"], ["--host-limit '1MiB' is less than 2 MiB"]),
        (["--size", "16MiB,much"], ["--size 'much'"]),
        (["--allocations", "0"], ["--allocations '0' is not a number from 1"]),
        (["--rounds", "many"], ["--rounds 'many' is not a number from 1"]),
        (["--size", "4MiB", "--rounds", "1", "--disk", "/proc"], ["--disk '/proc'"]),
        (["--disk", "/no/such/folder"], ["--disk '/no/such/folder' cannot be written to"]),
        (["--plot", "sleep.txt"], ["end its name in .svg"]),
    ],
)
def test_bad_input(gpuroom, alone, arguments, words):
    gpuroom.refuses(2, *words, arguments=["bench", "sleep", "--sim", PROFILE, *arguments], env=alone)


def test_a_gpu_without_memory_of_its_own(gpuroom):
    gpuroom.refuses(
        2, "no memory but the host's", arguments=["bench", "sleep", "--sim", "256MiB,host=1GiB,integrated"]
    )


def draw(*arguments, **options):
    return subprocess.run(
        [PYTHON or sys.executable, SCRIPT, *map(str, arguments)], text=True, capture_output=True, **options
    )


@needs_matplotlib
def test_plot(results, tmp_path):
    figure = tmp_path / "sleep.svg"
    done = draw("-", figure, input=json.dumps(results))
    assert done.returncode == 0, done.stderr
    text = figure.read_text()
    assert xml.etree.ElementTree.fromstring(text).tag.endswith("svg")
    for part in ("SIMULATED", "created ahead", "others", "everything included"):
        assert part in text


@needs_matplotlib
def test_plot_of_nothing(results, tmp_path):
    skipped = [{**case, "skipped": "too little"} for case in results["cases"]]
    done = draw("-", tmp_path / "sleep.svg", input=json.dumps({**results, "cases": skipped}))
    assert done.returncode == 1
    assert "nothing to draw" in done.stderr


def test_plot_of_something_else(tmp_path):
    (tmp_path / "other.json").write_text('{"benchmark": "tiers", "version": 1}')
    done = draw(tmp_path / "other.json", tmp_path / "sleep.svg")
    assert done.returncode == 1
    assert done.stderr.startswith("plot_sleep: ") and "does not hold results" in done.stderr
