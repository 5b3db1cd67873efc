"""`gpuroom bench tiers` and its figure, on the simulated driver: what it says, never how fast it was."""

import json
import signal
import subprocess
import xml.etree.ElementTree

import pytest
from conftest import SOURCE, Gpuroom

MIB = 1 << 20
SHARES = [0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1]
THREE_GPUS = "3x256MiB,host=1GiB"
QUICK = ("--size", "32MiB", "--rounds", "1")
SCRIPT = SOURCE / "scripts" / "plot_tiers.py"


def python_with_matplotlib():
    for python in ("python3", "/usr/bin/python3"):
        if subprocess.run([python, "-c", "import matplotlib"], capture_output=True, check=False).returncode == 0:
            return python
    return None


PYTHON = python_with_matplotlib()
needs_matplotlib = pytest.mark.skipif(PYTHON is None, reason="no python3 with matplotlib; run scripts/deps.sh test")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """One measurement with three GPUs that ends without misuse or memory left behind, and where its cache would be."""
    cache = tmp_path_factory.mktemp("cache")
    done = Gpuroom()(
        "bench", "tiers", "--sim", THREE_GPUS, *QUICK, "--json",
        env={"XDG_CACHE_HOME": str(cache), "GPUROOM_LEDGER": str(cache / "ledger"), "GPUROOM_SIM_STRICT": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout), cache


@pytest.fixture
def results(measured):
    return measured[0]


def test_says_what_was_measured(results):
    assert results["version"] == 1
    assert results["benchmark"] == "tiers"
    assert results["simulated"] is True
    assert results["gpu"]["name"] == "Simulated GPU"
    assert results["gpu"]["uuid"].startswith("GPU-")
    assert results["driver"] == f"simulated {THREE_GPUS}"
    assert results["cuda"] == "13.0"
    assert results["range_bytes"] == 32 * MIB
    assert results["granule_bytes"] == 2 * MIB
    assert results["rounds"] == 1


def test_the_simulator_is_not_stored(measured):
    results, cache = measured
    assert results["stored"] is None
    assert "simulated" in results["not_stored"]
    assert not (cache / "gpuroom").exists()


def test_every_link_is_there(results):
    links = {(link["tier"], link["place"]): link for link in results["links"]}
    assert set(links) == {("device", 0), ("host", 0), ("peer", 1), ("peer", 2)}
    for link in links.values():
        assert link["skipped"] is None
        assert link["read"] > 0 and link["write"] > 0


@pytest.mark.parametrize("index, tier", [(0, "host"), (1, "peer")])
def test_every_share_against_its_ideal(results, index, tier):
    series = results["series"][index]
    assert series["tier"] == tier and series["skipped"] is None
    assert series["place"] == index  # of two peers the first
    assert [point["share"] for point in series["points"]] == SHARES
    first, last = series["points"][0], series["points"][-1]
    assert first["slow_bytes"] == 0 and last["slow_bytes"] == results["range_bytes"]
    for point in series["points"]:
        share = point["slow_bytes"] / results["range_bytes"]
        assert point["slow_bytes"] % results["granule_bytes"] == 0
        assert point["share"] == 0 or abs(share - point["share"]) <= max(0.5 / 16, 1 / 16 - point["share"])
        for operation in ("read", "write"):
            fast, link = first[operation]["interleaved"], last[operation]["interleaved"]
            bounds = ([fast / (1 - share)] if share < 1 else []) + ([link / share] if share > 0 else [])
            speeds = point[operation]
            assert speeds["ideal"] == pytest.approx(min(bounds), rel=1e-6)
            assert speeds["ratio"] == pytest.approx(speeds["interleaved"] / speeds["ideal"], abs=1e-3)
            assert speeds["tail"] > 0
    # Where all lies in one tier there is one arrangement, measured once.
    assert first["read"]["tail"] == first["read"]["interleaved"]
    assert last["write"]["tail"] == last["write"]["interleaved"]


def test_links_are_the_ends_of_the_series(results):
    links = {link["tier"]: link for link in reversed(results["links"])}  # of the peers the first
    host, peer = results["series"]
    assert links["device"]["read"] == host["points"][0]["read"]["interleaved"]
    assert links["device"]["read"] == peer["points"][0]["read"]["interleaved"]
    assert links["host"]["read"] == host["points"][-1]["read"]["interleaved"]
    assert links["peer"]["write"] == peer["points"][-1]["write"]["interleaved"]


def test_managed_memory_stays_within_a_quarter_of_what_is_free(results):
    managed = results["managed"]
    assert managed["skipped"] is None
    assert 0 < managed["bytes"] <= 64 * MIB  # of 256 MiB
    assert [point["share"] for point in managed["points"]] == SHARES
    for point in managed["points"]:
        for operation in ("read", "write"):
            assert point[operation]["direct"] > 0 and point[operation]["fault"] > 0


def test_references(results):
    assert set(results["copies"]) == {"host_to_device", "device_to_host", "both"}
    assert all(speed > 0 for speed in results["copies"].values())
    made = results["host_creation"]  # a range of 32 MiB has no chunk of 64
    assert [(each["chunk_bytes"], each["bytes"]) for each in made] == [(2 * MIB, 32 * MIB)]
    assert made[0]["speed"] > 0


def test_migration(results):
    migration = results["migration"]
    assert migration["skipped"] is None
    assert migration["bytes"] == 32 * MIB
    assert all(migration[way] > 0 for way in ("to_device", "to_host", "both"))


def test_table_for_people(gpuroom):
    done = gpuroom("bench", "tiers", "--sim", "256MiB,host=1GiB", *QUICK)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no terminal, so no progress
    for part in ("simulated", "not a GPU's", "GPU 0 (its own)", "host node 0", "of ideal", "managed, faults",
                 "pinned copies", "created in chunks of 2.0 MiB", "migration of 32.0 MiB"):  # fmt: skip
        assert part in done.stdout
    assert "peer" not in done.stdout


def test_one_gpu_inside_a_simulated_run(gpuroom):
    arguments = ["bench", "tiers", "--size", "64MiB", "--rounds", "1", "--json", "-v"]
    done = gpuroom("run", "--sim", "256MiB,host=1GiB", "--", gpuroom.binary, *arguments)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert results["simulated"] is True
    assert [link["tier"] for link in results["links"]] == ["device", "host"]
    assert results["series"][1]["points"] == []
    assert results["series"][1]["skipped"] == "no other GPU can be reached"
    assert [made["chunk_bytes"] for made in results["host_creation"]] == [2 * MIB, 64 * MIB]
    assert "measuring: the GPU's own memory" in done.stderr.splitlines()


def test_a_gpu_without_memory_of_its_own(gpuroom):
    done = gpuroom("bench", "tiers", "--sim", "256MiB,host=1GiB,integrated", *QUICK, "--json")
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert [link["skipped"] is None for link in results["links"]] == [True, False]
    assert results["links"][0]["read"] > 0
    assert results["series"][0]["points"] == [] and results["managed"]["points"] == []
    assert "no host tier" in results["migration"]["skipped"]


@pytest.mark.parametrize(
    "profile, size, words",
    [
        ("256MiB,host=1GiB", "16MiB", ["too small", "32.0 MiB"]),
        ("256MiB,host=1GiB", "1GiB", ["more than can be spared", "the GPU's memory", "at most 238MiB"]),
        ("32MiB,host=1GiB", "32MiB", ["measuring needs", "close other programs"]),
    ],
)
def test_sizes_that_do_not_fit(gpuroom, profile, size, words):
    gpuroom.refuses(2, *words, arguments=["bench", "tiers", "--sim", profile, "--size", size])


@pytest.mark.parametrize(
    "limit, size, words",
    [
        ("48MiB", "64MiB", ["host memory (--host-limit 48.0 MiB); give at most 48MiB, or raise --host-limit"]),
        ("16MiB", "64MiB", ["measuring needs", "close other programs, or raise --host-limit"]),
        ("much", "64MiB", ["--host-limit 'much'"]),
    ],
)
def test_host_limits_that_are_too_small(gpuroom, tmp_path, limit, size, words):
    arguments = ["bench", "tiers", "--sim", "256MiB,host=1GiB", "--size", size, "--host-limit", limit]
    # A limit is the node's: what other tests claim at the same time must not count.
    gpuroom.refuses(2, *words, arguments=arguments, env={"GPUROOM_LEDGER": str(tmp_path / "ledger")})


def test_a_host_that_turns_out_smaller_is_skipped(gpuroom):
    """The simulated host has less than this machine's files promise."""
    done = gpuroom("bench", "tiers", "--sim", "256MiB,host=32MiB", "--size", "64MiB", "--rounds", "1", "--json")
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert results["series"][0]["points"] == []
    assert results["series"][0]["skipped"] == "host node 0 has less than 64.0 MiB free"
    assert results["links"][0]["read"] > 0
    assert results["links"][1]["read"] is None
    assert results["host_creation"] == []
    assert results["copies"]["both"] is None
    assert results["migration"]["both"] is None and "64.0 MiB" in results["migration"]["skipped"]


def test_unknown_profile(gpuroom):
    gpuroom.refuses(2, "'no-such-machine' is not a profile", arguments=["bench", "tiers", "--sim", "no-such-machine"])


def test_without_a_driver(gpuroom):
    probe = gpuroom.plan("--", "true")
    if probe["driver_problem"] is None:
        pytest.skip("this machine has a GPU")
    gpuroom.refuses(3, probe["driver_problem"], arguments=["bench", "tiers"])


@pytest.mark.parametrize("call", ["cuLaunchKernel:9", "cuMemMap:3", "cuMemAdvise:2", "cuMemcpyHtoDAsync:4", "cuMemcpyDtoDAsync:2"])
def test_failure_of_the_driver_is_a_failure(gpuroom, call):
    text = gpuroom.refuses(
        1,
        "measuring failed in",
        "CUDA_ERROR_UNKNOWN",
        arguments=["bench", "tiers", "--sim", "256MiB,host=1GiB", *QUICK, "--json"],
        env={"GPUROOM_SIM_FAIL": f"{call}:CUDA_ERROR_UNKNOWN"},
    )
    assert call.split(":", maxsplit=1)[0] in text


def test_interrupt(gpuroom):
    process = gpuroom.start(
        "bench", "tiers", "--sim", "1GiB,host=1GiB", "--size", "256MiB", "-v", stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr.readline().startswith("measuring: ")
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert output == ""
    assert errors.splitlines()[-1] == "gpuroom: interrupted; nothing was stored"


@needs_matplotlib
def test_plot(gpuroom, tmp_path):
    figure = tmp_path / "a figure.svg"
    done = gpuroom("bench", "tiers", "--sim", THREE_GPUS, *QUICK, "--json", "--plot", figure)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["benchmark"] == "tiers"
    assert xml.etree.ElementTree.parse(figure).getroot().tag.endswith("svg")
    text = figure.read_text()
    for part in ("SIMULATED", "interleaved", "ideal", "at the end", "managed memory", "GPU 1's memory"):
        assert part in text


def draw(*arguments, **options):
    return subprocess.run(
        [PYTHON or "python3", "-B", str(SCRIPT), *map(str, arguments)], text=True, capture_output=True, timeout=120,
        check=False, **options,
    )  # fmt: skip


@needs_matplotlib
def test_plot_by_itself(results, tmp_path):
    (tmp_path / "results.json").write_text(json.dumps(results))
    done = draw(tmp_path / "results.json", tmp_path / "tiers.png", "--operation", "write")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "tiers.png").read_bytes().startswith(b"\x89PNG")
    done = draw("-", tmp_path / "tiers.svg", input=json.dumps(results))
    assert done.returncode == 0, done.stderr
    assert "GB/s at which one kernel reads the range" in (tmp_path / "tiers.svg").read_text()


@needs_matplotlib
def test_plot_of_nothing(results, tmp_path):
    empty = {**results, "series": [{**series, "points": []} for series in results["series"]]}
    done = draw("-", tmp_path / "tiers.svg", input=json.dumps(empty))
    assert done.returncode == 1
    assert "nothing to draw" in done.stderr


@needs_matplotlib
def test_plot_into_what_is_no_figure(results, tmp_path):
    done = draw("-", tmp_path / "tiers.xyz", input=json.dumps(results))
    assert done.returncode == 1
    assert "end its name in" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "text, word", [("{", "is not JSON"), ("[]", "does not hold results"), ('{"version": 1}', "does not hold results")]
)
def test_plot_of_something_else(tmp_path, text, word):
    (tmp_path / "other.json").write_text(text)
    done = draw(tmp_path / "other.json", tmp_path / "tiers.svg")
    assert done.returncode == 1
    assert done.stderr.startswith("plot_tiers: ") and word in done.stderr and len(done.stderr.splitlines()) == 1


def test_plot_of_a_file_that_is_not_there(tmp_path):
    done = draw(tmp_path / "none.json", tmp_path / "tiers.svg")
    assert done.returncode == 1
    assert "cannot be read" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "name, word", [("tiers.txt", "end its name in .svg"), ("tiers", "end its name in .svg")]
)
def test_plot_with_a_name_of_no_figure(gpuroom, tmp_path, name, word):
    gpuroom.refuses(2, word, arguments=["bench", "tiers", "--sim", THREE_GPUS, "--plot", tmp_path / name])


@needs_matplotlib
def test_plot_that_cannot_be_written(gpuroom, tmp_path):
    gpuroom.refuses(
        2, "cannot be written", arguments=["bench", "tiers", "--sim", THREE_GPUS, "--plot", tmp_path / "none" / "a.svg"]
    )


def test_plot_without_matplotlib(gpuroom, tmp_path):
    """Told before anything is measured."""
    (tmp_path / "matplotlib.py").write_text("raise ImportError\n")
    gpuroom.refuses(
        1,
        "python3-matplotlib",
        arguments=["bench", "tiers", "--sim", THREE_GPUS, "--plot", tmp_path / "tiers.svg"],
        env={"PYTHONPATH": str(tmp_path)},
    )
    assert not (tmp_path / "tiers.svg").exists()
