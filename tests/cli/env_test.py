"""`gpuroom env`: what run would set, as each format's reader takes it."""

import json
import os
import re
import shlex
import subprocess

import pytest
from conftest import SIM, Gpuroom, clean_environment, preloads

OPTIONS = (*SIM, "--hbm-limit", "512MiB", "--host-limit", "1GiB", "--policy", "balanced", "--report")
FORMATS = ["sh", "json", "docker", "k8s", "ray", "slurm"]


@pytest.fixture
def options(tmp_path):
    """With rules, whose value has commas, semicolons and equals signs."""
    rules = tmp_path / "rules.json"
    rules.write_text('{"rules": [{"min": "1GiB", "tag": "kv_cache", "policy": "balanced"}, {"hint": "cold"}]}')
    return (*OPTIONS, "--rules", rules)


def printed(gpuroom, form, *arguments, **options):
    done = gpuroom("env", "--format", form, *arguments, **options)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


# What the reader of each format makes of the text. Slurm's own is in tests/clusters.


def read_sh(text):
    names = subprocess.run(["sh", "-c", f"{text}\nenv -0"], env=clean_environment(), capture_output=True, check=True)
    return dict(entry.split("=", 1) for entry in names.stdout.decode().split("\0") if entry)


def read_docker(text):
    return dict(line.split("=", 1) for line in text.splitlines())


def read_k8s(text):
    entries = re.findall(r"- name: (\w+)\n  value: (\".*\")\n", text)
    assert "".join(f"- name: {name}\n  value: {value}\n" for name, value in entries) == text
    # Kubernetes makes "$" of "$$", and a variable of "$(".
    assert not [value for _, value in entries if re.search(r"(?<!\$)(\$\$)*\$\(", value)]
    return {name: json.loads(value).replace("$$", "$") for name, value in entries}


def read_slurm(text):
    directive, option = shlex.split(text, comments=False)
    assert directive == "#SBATCH" and option.startswith("--export=ALL,")
    entries = re.findall(r"'([^']*)'|([^,]+)", option.removeprefix("--export=ALL,"))
    return dict((quoted or plain).split("=", 1) for quoted, plain in entries)


READERS = {
    "sh": read_sh,
    "json": lambda text: json.loads(text)["environment"],
    "docker": read_docker,
    "k8s": read_k8s,
    "ray": lambda text: json.loads(text)["env_vars"],
    "slurm": read_slurm,
}


@pytest.mark.parametrize("form", FORMATS)
def test_each_format_says_what_run_would_set(gpuroom, options, form):
    planned = gpuroom.plan(*options, "--", "true")["environment"]
    assert {"LD_PRELOAD", "GPUROOM_RULES", "GPUROOM_CONTROL", "GPUROOM_SIM"} <= set(planned)
    read = READERS[form](printed(gpuroom, form, *options))
    assert {name: read[name] for name in planned} == planned
    assert form == "sh" or set(read) == set(planned)


def test_sh_is_the_default(gpuroom, options):
    assert gpuroom("env", *options).stdout == printed(gpuroom, "sh", *options)


@preloads
def test_a_shell_that_reads_it_starts_programs_as_run_does(gpuroom, options):
    script = 'eval "$(cat)"; exec python3 -c "import os; print(os.environ[\'GPUROOM_HOST_LIMIT\'], os.getpid())"'
    done = subprocess.run(["sh", "-c", script], input=printed(gpuroom, "sh", *options), env=clean_environment(),
                          text=True, capture_output=True, timeout=60)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{1 << 30} ")


def test_values_are_quoted_for_a_shell(gpuroom, tmp_path):
    folder = tmp_path / "it's $HOME `id`"
    stats = str(folder / "stats.jsonl")
    assert read_sh(printed(gpuroom, "sh", *SIM, "--stats-file", stats))["GPUROOM_STATS_FILE"] == stats
    assert read_k8s(printed(gpuroom, "k8s", *SIM, "--stats-file", stats))["GPUROOM_STATS_FILE"] == stats
    assert read_docker(printed(gpuroom, "docker", *SIM, "--stats-file", stats))["GPUROOM_STATS_FILE"] == stats


def test_a_value_that_a_format_cannot_pass_on_is_refused(gpuroom):
    for form, name in ("slurm", "it's"), ("slurm", 'a"b'), ("docker", "a\nb"), ("slurm", "a\nb"):
        arguments = ("env", "--format", form, *SIM, "--stats-file", f"/tmp/{name}")
        gpuroom.refuses(2, "GPUROOM_STATS_FILE", f"--format {form}", "--format sh", arguments=arguments)


def test_variables_to_take_out(gpuroom):
    inherited = {"PYTORCH_ALLOC_CONF": "use_uvm:True"}
    assert "unset PYTORCH_ALLOC_CONF\n" in printed(gpuroom, "sh", *SIM, env=inherited)
    assert json.loads(printed(gpuroom, "json", *SIM, env=inherited))["environment_removed"] == ["PYTORCH_ALLOC_CONF"]
    for form in "docker", "k8s", "ray", "slurm":
        done = gpuroom("env", "--format", form, *SIM, env=inherited)
        assert done.returncode == 0 and "GPUROOM_BACKEND" in done.stdout
        assert done.stderr.count("\n") == 1 and "unset PYTORCH_ALLOC_CONF" in done.stderr


def test_variables_of_gpuroom_that_are_set_here_go_along(gpuroom):
    """A pod inherits nothing, so that the ledger's place has to be among what it is given."""
    env = {"GPUROOM_LEDGER": "/shared/ledger", "GPUROOM_CONTROL": "1", "OTHER": "no"}
    told = json.loads(printed(gpuroom, "json", *SIM, "--no-control", env=env))["environment"]
    assert told["GPUROOM_LEDGER"] == "/shared/ledger"
    assert "GPUROOM_CONTROL" not in told and "OTHER" not in told


def test_it_looks_for_no_driver_and_no_files(gpuroom):
    """A login node has no GPU, and the folder may be in another container."""
    done = gpuroom("env", "--host-limit", "2MiB", "--stats-file", "/nonexistent/stats.jsonl")
    assert done.returncode == 0, done.stderr
    assert "GPUROOM_STATS_FILE=/nonexistent/stats.jsonl\n" in done.stdout


def test_a_limit_beyond_this_machine_is_a_warning(gpuroom):
    limit = ("--host-limit", "900TiB")
    gpuroom.refuses(2, "900 TiB", arguments=("run", *limit, "--", "true"))
    done = gpuroom("env", *limit)
    assert done.returncode == 0
    assert f"export GPUROOM_HOST_LIMIT={900 << 40}\n" in done.stdout
    assert done.stderr.count("\n") == 1 and "for this machine" in done.stderr


def test_auto_is_that_of_the_machine_that_is_named(gpuroom):
    fixture = os.path.join(os.environ.get("GPUROOM_SOURCE_DIR", "."), "tests/fixtures/container-cgroup2")
    told = json.loads(printed(gpuroom, "json", "--sysroot", fixture))["environment"]["GPUROOM_HOST_LIMIT"]
    plan = gpuroom.plan("--sysroot", fixture, "--", "true")
    assert int(told) == plan["limits"]["host_bytes"]


@preloads
def test_inside_an_outer_run_it_says_what_an_inner_run_would_set(gpuroom):
    done = gpuroom("run", *SIM, "--hbm-limit", "256MiB", "--", Gpuroom.binary, "env", "--format", "json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)["environment"]
    assert told["GPUROOM_HBM_LIMIT"] == str(256 << 20)
    assert told["LD_PRELOAD"] == Gpuroom.preload
