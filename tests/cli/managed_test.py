"""The managed backend through the command: its options, PyTorch's UVM options, the cap, a program that runs."""

import json

import pytest
from conftest import LIBRARIES, SIM

GIB = 1 << 30
MIB = 1 << 20
COHERENT = ("--sim", "1GiB,host=4GiB,coherent")
ALL = ("--backend", "managed", "--prefetch-below", "1GiB", "--oversubscription-ratio", "3.5", "--allow-oversubscription")
VARIABLES = {
    "GPUROOM_BACKEND": "managed",
    "GPUROOM_PREFETCH_BELOW": str(GIB),
    "GPUROOM_OVERSUBSCRIPTION_RATIO": "3.5",
    "GPUROOM_ALLOW_OVERSUBSCRIPTION": "1",
}
CONFS = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
UVM = "use_uvm:True,uvm_oversubscription_ratio:5.0,uvm_access_pattern:cpu_first"


def run_env(gpuroom, *arguments, env=None, warnings=0):
    """What CMD finds in its environment."""
    done = gpuroom("run", *SIM, *arguments, "--", "env", env=env)
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) == warnings, done.stderr
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if line.startswith(("GPUROOM_", "PYTORCH_")))


def test_options_become_variables(gpuroom):
    assert VARIABLES.items() <= run_env(gpuroom, *ALL).items()
    assert not VARIABLES.keys() & run_env(gpuroom).keys()


def test_variables_are_kept_and_options_go_before(gpuroom):
    assert VARIABLES.items() <= run_env(gpuroom, env=VARIABLES).items()
    other = {"GPUROOM_BACKEND": "tiers", "GPUROOM_PREFETCH_BELOW": "0", "GPUROOM_OVERSUBSCRIPTION_RATIO": "x"}
    assert VARIABLES.items() <= run_env(gpuroom, *ALL, env=other).items()


def test_dry_run_shows_them(gpuroom):
    tiers = gpuroom.plan(*SIM, *ALL, "--", "true")["tiers"]
    assert tiers["backend"] == "managed"
    assert tiers["prefetch_below_bytes"] == GIB
    assert tiers["oversubscription_ratio"] == "3.5"
    assert tiers["allow_oversubscription"] is True


@pytest.mark.parametrize(
    "option, value, words",
    [
        ("--backend", "uvm", ["'uvm' is not a backend", "tiers or managed"]),
        ("--backend", "", ["needs a value"]),
        ("--prefetch-below", "lots", ["'lots' is not a size"]),
        ("--prefetch-below", "64", ["add a unit"]),
        ("--oversubscription-ratio", "0", ["'0' is not a ratio", "0.1 to 100"]),
        ("--oversubscription-ratio", "-2", ["'-2' is not a ratio"]),
        ("--oversubscription-ratio", "5x", ["not a ratio"]),
    ],
)
def test_bad_values(gpuroom, option, value, words):
    gpuroom.refuses(2, option, *words, arguments=["run", f"{option}={value}", "--", "true"])


@pytest.mark.parametrize(
    "name, value, words",
    [
        ("GPUROOM_BACKEND", "uvm", "is not a backend"),
        ("GPUROOM_PREFETCH_BELOW", "5", "add a unit"),
        ("GPUROOM_OVERSUBSCRIPTION_RATIO", "0", "not a ratio"),
    ],
)
def test_bad_variables(gpuroom, name, value, words):
    gpuroom.refuses(2, f"the environment's {name}", words, arguments=["run", "--", "true"], env={name: value})


@pytest.mark.parametrize("option", ["--prefetch-below=1GiB", "--oversubscription-ratio=2", "--allow-oversubscription"])
def test_options_that_nothing_uses(gpuroom, option, tmp_path):
    words = f"{option.split('=')[0]} is for managed memory; add --backend managed"
    for more in ([], ["--backend", "tiers"]):
        gpuroom.refuses(2, words, arguments=["run", *SIM, *more, option, "--", "true"])
    rules = tmp_path / "rules.json"
    rules.write_text('{"rules": [{"min": "1GiB", "backend": "managed"}]}')
    assert gpuroom("run", *SIM, "--rules", rules, option, "--", "true").returncode == 0


@pytest.mark.parametrize("conf", CONFS)
def test_use_uvm_alone(gpuroom, conf):
    found = run_env(gpuroom, env={conf: "use_uvm:True"})
    assert found["GPUROOM_BACKEND"] == "managed"
    assert not {conf, "GPUROOM_POLICY", "GPUROOM_OVERSUBSCRIPTION_RATIO"} & found.keys()


@pytest.mark.parametrize("conf", CONFS)
def test_all_three_uvm_options(gpuroom, conf):
    found = run_env(gpuroom, env={conf: UVM})
    assert found["GPUROOM_BACKEND"] == "managed"
    assert found["GPUROOM_POLICY"] == "cpu_first"
    assert found["GPUROOM_OVERSUBSCRIPTION_RATIO"] == "5.0"
    assert conf not in found


def test_the_rest_is_passed_on_byte_for_byte(gpuroom):
    rest = "backend:native, roundup_power2_divisions:[256:1,512:2,>:8] ,expandable_segments:False"
    found = run_env(gpuroom, env={CONFS[0]: f"{UVM},{rest}", CONFS[1]: "a:'b, c'"})
    assert found[CONFS[0]] == rest
    assert found[CONFS[1]] == "a:'b, c'"


def test_without_uvm_options_the_variable_is_as_it_was(gpuroom):
    text = " expandable_segments:True,, "
    assert run_env(gpuroom, env={CONFS[0]: text, CONFS[1]: ""})[CONFS[0]] == text


def test_use_uvm_false_is_taken_out(gpuroom):
    found = run_env(gpuroom, env={CONFS[0]: "use_uvm:False,expandable_segments:True"})
    assert found[CONFS[0]] == "expandable_segments:True"
    assert "GPUROOM_BACKEND" not in found


@pytest.mark.parametrize("conf", ["uvm_oversubscription_ratio:2", "uvm_access_pattern:balanced,use_uvm:False"])
def test_uvm_options_without_use_uvm_are_one_warning(gpuroom, conf):
    found = run_env(gpuroom, env={CONFS[0]: conf}, warnings=1)
    assert not {CONFS[0], "GPUROOM_BACKEND", "GPUROOM_POLICY", "GPUROOM_OVERSUBSCRIPTION_RATIO"} & found.keys()


@pytest.mark.parametrize(
    "conf, words",
    [
        ("use_uvm:yes", ["use_uvm 'yes'", "True or False"]),
        ("use_uvm:True,uvm_oversubscription_ratio:lots", ["'lots'", "0.1 to 100"]),
        ("use_uvm:True,uvm_access_pattern:fast", ["'fast'", "gpu_first, balanced or cpu_first"]),
    ],
)
def test_bad_uvm_values(gpuroom, conf, words):
    gpuroom.refuses(2, CONFS[1], *words, arguments=["run", "--", "true"], env={CONFS[1]: conf})


def test_explicit_options_go_before_uvm_options(gpuroom):
    found = run_env(gpuroom, "--policy", "balanced", "--oversubscription-ratio", "2", env={CONFS[0]: UVM})
    assert (found["GPUROOM_POLICY"], found["GPUROOM_OVERSUBSCRIPTION_RATIO"]) == ("balanced", "2")
    found = run_env(gpuroom, "--backend", "tiers", env={CONFS[0]: UVM})
    assert found["GPUROOM_BACKEND"] == "tiers"
    assert not {CONFS[0], "GPUROOM_POLICY", "GPUROOM_OVERSUBSCRIPTION_RATIO"} & found.keys()


def test_an_inner_run_keeps_what_the_outer_run_read(gpuroom):
    done = gpuroom("run", *SIM, "--", gpuroom.binary, "run", "--", "env", env={CONFS[0]: UVM})
    assert done.returncode == 0, done.stderr
    assert "GPUROOM_BACKEND=managed" in done.stdout and "GPUROOM_POLICY=cpu_first" in done.stdout


def test_dry_run_says_what_would_be_taken_away(gpuroom):
    env = {CONFS[0]: "use_uvm:True", CONFS[1]: "use_uvm:True,a:1"}
    plan = gpuroom.plan(*SIM, "--", "true", env=env)
    assert plan["environment_removed"] == [CONFS[0]]
    assert plan["environment"][CONFS[1]] == "a:1"
    assert f"would unset:\n  {CONFS[0]}\n" in gpuroom("run", "--dry-run", *SIM, "--", "true", env=env).stdout


@pytest.mark.parametrize(
    "options, cap, words",
    [
        ((*COHERENT, "--host-limit", "8GiB"), 5 * GIB, "5 times the HBM; --oversubscription-ratio"),
        ((*COHERENT, "--host-limit", "2GiB"), 3 * GIB, "raise --host-limit"),
        ((*COHERENT, "--hbm-limit", "512MiB", "--oversubscription-ratio", "2"), GIB, "2 times the HBM"),
        (SIM, GIB, "without a hardware-coherent link"),
        ((*SIM, "--oversubscription-ratio", "0.5"), GIB // 2, "0.5 times the HBM; --oversubscription-ratio changes that, and what the GPU has free"),
        ((*SIM, "--allow-oversubscription", "--host-limit", "2GiB"), 3 * GIB, "raise --host-limit"),
    ],
)
def test_dry_run_says_the_cap_and_why(gpuroom, options, cap, words):
    (gpu,) = gpuroom.plan("--backend", "managed", *options, "--", "true")["devices"]
    assert gpu["managed_cap_bytes"] == gpu["offered_bytes"] == cap
    assert words in gpu["managed_cap_reason"]
    text = gpuroom("run", "--dry-run", "--backend", "managed", *options, "--", "true").stdout
    assert "managed memory up to" in text and words in text


def test_dry_run_says_nothing_of_managed_memory_where_there_is_none(gpuroom):
    (gpu,) = gpuroom.plan(*SIM, "--", "true")["devices"]
    assert gpu["managed_cap_bytes"] is None and gpu["managed_cap_reason"] is None
    assert "managed memory" not in gpuroom("run", "--dry-run", *SIM, "--", "true").stdout


def demo(gpuroom, tmp_path, *options, env=None, megabytes=192):
    """The devices of the one stats line of the sample program, which verifies what it writes."""
    stats = tmp_path / "stats.jsonl"
    program = [LIBRARIES / "gpuroom-demo", "--json", "--bytes", megabytes * MIB]
    done = gpuroom("run", *options, "--stats-file", stats, "--", *program, env=env)
    assert done.returncode == 0, done.stderr
    (line,) = [json.loads(line) for line in stats.read_text().splitlines()]
    return line["devices"][0], done


@pytest.mark.parametrize("conf", ["use_uvm:True", "use_uvm:True,uvm_oversubscription_ratio:5.0,uvm_access_pattern:gpu_first"])
def test_the_patches_lines_run_a_program(gpuroom, tmp_path, conf):
    device, _ = demo(gpuroom, tmp_path, "--sim", "128MiB,host=1GiB,coherent", "--host-limit", "768MiB", env={CONFS[0]: conf})
    assert device["managed_bytes"]["peak"] >= 192 * MIB
    assert device["managed_bytes"]["current"] == 0
    assert device["managed_bytes"]["cap"] == 640 * MIB
    assert device["host_bytes"]["peak"] == 0


def test_a_rule_makes_some_managed(gpuroom, tmp_path):
    rules = tmp_path / "rules.json"
    rules.write_text('{"rules": [{"max": "64MiB", "backend": "managed"}]}')
    options = ("--sim", "128MiB,host=1GiB,coherent", "--host-limit", "768MiB", "--rules", rules)
    device, _ = demo(gpuroom, tmp_path, *options, megabytes=64)
    assert 0 < device["managed_bytes"]["peak"] <= 64 * MIB
