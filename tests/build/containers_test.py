"""What containers/ refuses before it builds anything: one clear sentence each. And that its files keep their pins."""

import hashlib
import os
import pathlib
import re
import subprocess
import tarfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "containers"


def run(script, *arguments, path="", **variables):
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "TMPDIR")}
    kept["PATH"] = f"{path}:{kept['PATH']}" if path else kept["PATH"]
    return subprocess.run(["bash", FOLDER / script, *map(str, arguments)], env={**kept, **variables}, text=True,
                          capture_output=True, check=False)  # fmt: skip


def refuses(done, *words):
    assert done.returncode == 1, done
    assert done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert word in done.stderr


@pytest.mark.parametrize("variables, words", [
    ({"VLLM_VERSION": "0.18.0"}, ["0.18.0 is older than 0.18.1"]),
    ({"VLLM_VERSION": "0.9.2"}, ["0.9.2 is older"]),
    ({"VLLM_VERSION": "latest"}, ["'latest' is no version"]),
    ({"CUDA_ARCHITECTURES": "hopper"}, ["'hopper'", "9.0a"]),
    ({"CUDA_ARCHITECTURES": "9.0a;10.0a"}, ["'9.0a;10.0a'"]),
    ({"BASE_IMAGE": "not an image"}, ["'not an image' is no image"]),
    ({"BASE_IMAGE": ""}, ["is no image"]),
])  # fmt: skip
def test_arguments_below_the_floor(variables, words):
    refuses(run("floor.sh", "arguments", **variables), *words)
    if "BASE_IMAGE" not in variables:
        refuses(run("build.sh", **variables), *words)


@pytest.mark.parametrize("variables", [
    {}, {"VLLM_VERSION": "0.18.1"}, {"VLLM_VERSION": "0.33.0"}, {"VLLM_VERSION": "1.0.0rc1"},
    {"CUDA_ARCHITECTURES": "9.0a 10.0a 12.1a"}, {"CUDA_ARCHITECTURES": "9.0+PTX"}, {"BASE_IMAGE": "nvcr.io/nvidia/pytorch:26.03-py3"},
])  # fmt: skip
def test_arguments_above_it(variables):
    done = run("floor.sh", "arguments", **variables)
    assert done.returncode == 0 and done.stderr == "", done


@pytest.fixture
def image(tmp_path):
    """image(cuda, pytorch) looks at an image with these; None: it has none."""

    def look(cuda, pytorch, **variables):
        python = tmp_path / "python3"
        python.write_text(f"#!/bin/sh\necho {pytorch}\n" if pytorch else "#!/bin/sh\nexit 1\n")
        python.chmod(0o755)
        nvcc = tmp_path / "nvcc"
        nvcc.write_text(f"#!/bin/sh\necho 'Cuda compilation tools, release {cuda}, V{cuda}.1'\n" if cuda else "#!/bin/sh\n")
        nvcc.chmod(0o755)
        return run("floor.sh", "image", path=str(tmp_path), **variables)

    return look


@pytest.mark.parametrize("cuda, pytorch, words", [
    ("12.9", "2.9.0", ["CUDA 12.9", "13.0 or newer"]),
    ("13.0", "2.8.0a0+34c6371d24.nv25.08", ["PyTorch 2.8.0a0", "2.9 or newer"]),
    ("13.0", None, ["no PyTorch", "nvcr.io/nvidia/pytorch"]),
    (None, "2.9.0", ["no CUDA compiler", "nvcr.io/nvidia/pytorch"]),
])  # fmt: skip
def test_images_below_the_floor(image, cuda, pytorch, words):
    refuses(image(cuda, pytorch), *words)


def test_images_above_it(image):
    for cuda, pytorch in ("13.0", "2.9.0a0+50eac811a6.nv25.09"), ("13.1", "2.10.0"), ("14.0", "3.0"):
        assert image(cuda, pytorch).returncode == 0
    assert image("12.0", None, CUDA_VERSION="13.0.2").stderr.startswith("containers: the base image has no PyTorch")
    assert image(None, None, REDUCED="1").returncode == 0


def test_another_release_needs_its_own_pin():
    refuses(run("build.sh", VLLM_VERSION="0.33.0"), "VLLM_URL and VLLM_SHA256")


@pytest.fixture
def archive(tmp_path):
    folder = tmp_path / "vllm-1"
    folder.mkdir()
    (folder / "setup.py").write_text("text")
    sources = tmp_path / "sources"
    sources.mkdir()
    with tarfile.open(sources / "vllm-1.tar.gz", "w:gz") as file:
        file.add(folder, "vllm-1")
    return sources / "vllm-1.tar.gz"


def fetch(archive, *arguments):
    return run("source.sh", *arguments, GPUROOM_SOURCES=str(archive.parent))


def test_a_local_archive_with_the_digest_is_unpacked(archive, tmp_path):
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    done = fetch(archive, "archive", "https://nowhere.invalid/x", digest, tmp_path / "out", archive.name)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/setup.py").read_text() == "text"


def test_an_archive_with_another_digest_is_refused(archive, tmp_path):
    refuses(fetch(archive, "archive", "https://nowhere.invalid/x", "0" * 64, tmp_path / "out", archive.name), "sha256 000")
    assert not list((tmp_path / "out").iterdir())


def test_a_local_folder_is_taken_as_it_is(archive, tmp_path):
    (archive.parent / "triton").mkdir()
    (archive.parent / "triton/README").write_text("here")
    assert fetch(archive, "git", "https://nowhere.invalid/x", "0" * 40, tmp_path / "out", "triton").returncode == 0
    assert (tmp_path / "out/README").read_text() == "here"


def test_a_source_that_cannot_be_had(archive, tmp_path):
    refuses(fetch(archive, "archive", "x", "0" * 64, tmp_path / "out", "absent"), "containers/sources/absent is not there")
    refuses(fetch(archive, "git", "x", "0" * 40, tmp_path / "out", archive.name), "has to be a folder")


def test_jobs_go_by_what_is_asked_for_or_there():
    assert run("jobs.sh", MAX_JOBS="7").stdout == "7\n"
    assert 1 <= int(run("jobs.sh").stdout) <= (os.cpu_count() or 1)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*/Dockerfile")), ids=lambda path: path.parent.name)
def test_every_source_is_pinned(path):
    text = path.read_text()
    arguments = dict(re.findall(r"^ARG (\w+)=(.*)$", text, re.MULTILINE))
    assert [value for name, value in arguments.items() if name in ("BASE_IMAGE", "BUILD_BASE")]
    for name, value in arguments.items():
        if name in ("BASE_IMAGE", "BUILD_BASE"):
            assert re.search(r"@sha256:[0-9a-f]{64}$", value)
        if name.endswith("_URL"):
            assert re.fullmatch(r"[0-9a-f]{64}", arguments[name.replace("_URL", "_SHA256")])
        if name.endswith("_COMMIT"):
            assert re.fullmatch(r"[0-9a-f]{40}", value)
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) <= {"${BASE_IMAGE}", "${BUILD_BASE}", "base"}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*/Dockerfile")), ids=lambda path: path.parent.name)
def test_every_stage_declares_the_arguments_that_it_uses(path):
    """buildah does not hand a stage's arguments on to stages that begin with it, as BuildKit does."""
    before, *stages = re.split(r"^FROM .* AS ", path.read_text(), flags=re.MULTILINE)
    everywhere = set(re.findall(r"^(?:ENV|    ) *([A-Z_]+)=", "".join(stages), re.MULTILINE)) | {"PATH"}
    for stage in stages:
        used = set(re.findall(r"\$\{([A-Z][A-Z0-9_]*)[}#:]", re.sub(r"^FROM.*", "", stage)))
        if "jobs.sh" in stage and "COPY containers/source.sh" not in stage:
            used.add("MAX_JOBS")
        declared = set(re.findall(r"^ARG ([A-Z0-9_]+)", stage, re.MULTILINE))
        assert used - declared - everywhere == set(), stage.splitlines()[0]
