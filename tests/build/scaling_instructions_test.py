"""The count of instructions fails where a call has become dearer, and where one grows with what lives."""

import os
import pathlib
import subprocess

SOURCE = pathlib.Path(os.environ["GPUROOM_SOURCE_DIR"])
SCRIPT = SOURCE / "bench" / "scaling_instructions.sh"


def executable(path: pathlib.Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/usr/bin/env bash\n{text}\n")
    path.chmod(0o755)


def run(folder: pathlib.Path, program: str, *options: str) -> subprocess.CompletedProcess[str]:
    """The script, on a build whose bench_scaling is `program`, a text for bash."""
    build = folder / "build"
    executable(build / "bin" / "bench_scaling", program)
    (build / "lib" / "gpuroom").mkdir(parents=True, exist_ok=True)
    (build / "lib" / "gpuroom" / "libgpuroom.so").write_text("")
    (build / "CMakeCache.txt").write_text("CMAKE_BUILD_TYPE:STRING=Debug\n")
    executable(folder / "tools" / "c++", "echo 12")
    executable(folder / "tools" / "uname", "echo x86_64")
    environment = {"PATH": f"{folder / 'tools'}:{os.environ['PATH']}"}
    return subprocess.run([SCRIPT, *options, build], env=environment, text=True, capture_output=True, timeout=60)


def golden() -> dict[str, int]:
    lines = (SOURCE / "bench" / "scaling_golden.txt").read_text().splitlines()
    return {line.rsplit(" ", 1)[0]: int(line.rsplit(" ", 1)[1]) for line in lines}


def program_that_adds(figures: dict[str, int]) -> str:
    """10,000 instructions a call, and more where gpuroom is loaded."""
    cases = "\n".join(
        f"  '--kind={kind} --call={call}') more={more} ;;"
        for (kind, _, call), more in ((name.split(), more) for name, more in figures.items())
    )
    return f'more=0\n[[ -n "${{LD_PRELOAD}}" ]] && case "$1 $3" in\n{cases}\nesac\necho $((10000 + more))'


def test_figures_as_before_pass(tmp_path: pathlib.Path) -> None:
    result = run(tmp_path, program_that_adds(golden()), "--hottest")
    assert result.returncode == 0, result.stderr


def test_a_call_that_adds_a_fifth_more_is_named(tmp_path: pathlib.Path) -> None:
    figures = golden()
    figures["range fits query"] = figures["range fits query"] * 6 // 5
    result = run(tmp_path, program_that_adds(figures), "--hottest")
    assert result.returncode == 1
    assert "range fits query adds" in result.stderr
    assert result.stderr.count("scaling_instructions:") == 1


def test_another_build_is_not_judged(tmp_path: pathlib.Path) -> None:
    (tmp_path / "build").mkdir()
    program = program_that_adds({})
    run(tmp_path, program, "--hottest")
    (tmp_path / "build" / "CMakeCache.txt").write_text("CMAKE_BUILD_TYPE:STRING=Release\n")
    result = subprocess.run([SCRIPT, "--hottest", tmp_path / "build"], text=True, capture_output=True, timeout=60)
    assert result.returncode == 77


def test_a_call_that_grows_with_what_lives_is_named(tmp_path: pathlib.Path) -> None:
    grows = 'case "$1 $2 $3" in\n"--kind=handle --live=100000 --call=hint") echo 2001 ;;\n*) echo 1000 ;;\nesac'
    result = run(tmp_path, grows)
    assert result.returncode == 1
    assert "handle fits hint grows with what lives" in result.stderr
    assert "small" not in result.stderr


def test_a_call_that_cannot_be_counted_fails(tmp_path: pathlib.Path) -> None:
    result = run(tmp_path, "echo 'no' >&2\nexit 2", "--hottest")
    assert result.returncode not in (0, 77)
