"""Bad usage and bad input: one sentence each, exit status 2; help and version."""

import json
import re

import pytest
from conftest import SOURCE, preloads


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], ["run", "demo", "doctor", "bench", "gpuroom help"]),
        (["rum"], ["'rum'", "did you mean 'run'"]),
        (["slep"], ["did you mean 'sleep'"]),
        (["docter"], ["did you mean 'doctor'"]),
        (["xyzzy"], ["'xyzzy'", "run, env, sleep, wake, hint, ps, top, exporter, demo, doctor, plan, trace, bench and help"]),
        (["--hbm-limit", "6GiB"], ["'--hbm-limit'", "gpuroom run --hbm-limit"]),
        (["help", "dem"], ["'dem'", "did you mean 'demo'"]),
        (["run", "--hbm-limt", "6GiB", "--", "true"], ["'--hbm-limt'", "did you mean '--hbm-limit'"]),
        (["run", "--hbm-limt=6GiB", "--", "true"], ["did you mean '--hbm-limit'"]),
        (["run", "-q", "--", "true"], ["unknown option '-q'", "gpuroom help run"]),
        (["run"], ["no command", "--"]),
        (["run", "--"], ["no command", "--"]),
        (["run", "--report", "--"], ["no command"]),
        (["run", "python3", "x.py"], ["put '--' before the command"]),
        (["run", "stray", "--", "true"], ["'stray' is not an option"]),
        (["run", "--json", "--", "true"], ["--json", "--dry-run"]),
        (["run", "--report=perhaps", "--", "true"], ["--report", "gpuroom help run"]),
        (["run", "--stats-file", "--", "true"], ["--stats-file needs a value"]),
        (["run", "--stats-interval", "10s", "--", "true"], ["--stats-interval goes with --stats-file"]),
        (["run", "--stats-file", "s", "--stats-interval", "10", "--", "true"], ["--stats-interval '10'", "10s"]),
        (["run", "--stats-file", "s", "--stats-interval", "0s", "--", "true"], ["too short; 10ms"]),
        (["run", "--sim=", "--", "true"], ["--sim needs a value"]),
        (["env", "--json"], ["unknown option '--json'", "gpuroom help env"]),
        (["env", "--dry-run"], ["unknown option '--dry-run'"]),
        (["env", "--format", "yaml"], ["--format 'yaml'", "sh, json, docker, k8s, ray, slurm"]),
        (["env", "--format", "dockr"], ["did you mean 'docker'"]),
        (["env", "--format"], ["--format needs a value"]),
        (["env", "true"], ["'true' is not an option of 'env'"]),
        (["env", "--", "true"], ["runs no command", "gpuroom run"]),
        (["env", "--hbm-limit", "6"], ["add a unit"]),
        (["env", "--sim", "nonesuch"], ["nonesuch"]),
        (["demo", "--report"], ["unknown option '--report'"]),
        (["demo", "fast"], ["'fast' is not an option of 'demo'"]),
        (["demo", "--hbm-limit", "-1GiB"], ["negative"]),
        pytest.param(["demo", "--hbm-limit", "4MiB", "--sim", "1GiB,host=4GiB"], ["raise --hbm-limit"], marks=preloads),
        (["doctor", "--jsn"], ["did you mean '--json'"]),
        (["bench"], ["gpuroom bench tiers"]),
        (["bench", "tires"], ["'tires'", "did you mean 'tiers'"]),
        (["bench", "alloc"], ["'alloc'", "it measures tiers"]),
        (["bench", "--json"], ["'--json'", "it measures tiers"]),
        (["bench", "tiers", "--jsn"], ["did you mean '--json'"]),
        (["bench", "tiers", "-q"], ["gpuroom help bench tiers"]),
        (["bench", "tiers", "fast"], ["'fast' is not an option of 'bench tiers'"]),
        (["bench", "tiers", "--plot"], ["--plot needs a value"]),
        (["bench", "tiers", "--rounds", "0"], ["--rounds '0'", "1 to 1000"]),
        (["bench", "tiers", "--rounds", "1001"], ["--rounds '1001'"]),
        (["bench", "tiers", "--rounds", "3x"], ["--rounds '3x'"]),
        (["bench", "tiers", "--rounds=-1"], ["--rounds '-1'"]),
        (["bench", "tiers", "--size", "lots"], ["--size 'lots' is not a size"]),
        (["bench", "tiers", "--size", "6"], ["add a unit"]),
        (["doctor", "--sysroot"], ["--sysroot needs a value"]),
    ],
)
def test_bad_usage(gpuroom, arguments, words):
    gpuroom.refuses(2, *words, arguments=arguments)


@pytest.mark.parametrize("option", ["--hbm-limit", "--host-limit", "--reserve"])
@pytest.mark.parametrize(
    "size, words",
    [
        ("six", ["'six' is not a size", "6GiB"]),
        ("6XB", ["'6XB' is not a size"]),
        ("6GiB6", ["is not a size"]),
        ("1e9", ["is not a size"]),
        ("0x10", ["is not a size"]),
        ("1.2.3GiB", ["is not a size"]),
        ("", ["needs a value"]),
        ("-5GiB", ["'-5GiB' is negative"]),
        ("-0", ["negative"]),
        ("0", ["'0' is zero"]),
        ("0GiB", ["zero"]),
        ("8388608TiB", ["too large"]),
        ("99999999999999999999", ["too large"]),
        ("9" * 100, ["too large"]),
    ],
)
def test_bad_size(gpuroom, option, size, words):
    gpuroom.refuses(2, option, *words, arguments=["run", f"{option}={size}", "--", "true"])


def test_negative_size_as_a_word_of_its_own(gpuroom):
    gpuroom.refuses(2, "--hbm-limit '-5GiB' is negative", arguments=["run", "--hbm-limit", "-5GiB", "--", "true"])


COMMANDS = ["run", "env", "sleep", "wake", "hint", "ps", "top", "exporter", "demo", "doctor", "bench tiers", "bench sleep"]


def options_with_a_value(gpuroom, command):
    """The options of a help text that are followed by their value: --name VALUE, with the meaning after spaces."""
    lines = gpuroom("help", *command.split()).stdout.splitlines()
    words = [line.split("  ")[1].split() for line in lines if line.startswith("  --")]
    return [name for name, *value in words if value]


@pytest.mark.parametrize("command", COMMANDS)
def test_no_option_takes_an_empty_value(gpuroom, command):
    """A script's empty variable must not pass for an option that was not given."""
    tail = {"run": ["--", "true"], "sleep": ["1"], "wake": ["1"], "hint": ["hot", "1"], "plan": ["m"]}.get(command, [])
    # An empty tag is a value: it names memory that has none.
    names = [name for name in options_with_a_value(gpuroom, command) if name not in ("--tag", "--drop-tag")]
    assert names or command in ("ps", "wake", "hint")
    for name in names:
        for words in ([name, ""], [name + "="], [name, "", "--json"], [name, "1GiB", name, ""], [name, "", name, "1GiB"]):
            gpuroom.refuses(2, f"{name} needs a value", arguments=[*command.split(), *words, *tail])


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", ["GPUROOM_HBM_LIMIT", "GPUROOM_CONTROL_DIR"])
def test_no_variable_of_ours_may_be_empty(gpuroom, command, name):
    tail = {"run": ["--", "true"], "sleep": ["1"], "wake": ["1"], "hint": ["hot", "1"], "plan": ["m"]}.get(command, [])
    gpuroom.refuses(2, f"{name} is empty", f"unset {name}", arguments=[*command.split(), *tail], env={name: ""})


def test_help_and_version_do_not_mind_empty_variables(gpuroom):
    for arguments in (["help"], ["help", "run"], ["--version"]):
        assert gpuroom(*arguments, env={"GPUROOM_HBM_LIMIT": ""}).returncode == 0


def test_empty_variables_of_others_are_theirs(gpuroom):
    gpuroom.plan("--", "true", env={"PYTORCH_CUDA_ALLOC_CONF": "", "XGPUROOM_HBM_LIMIT": "", "GPUROOM": ""})


@pytest.mark.parametrize(
    "name, meant",
    [
        ("GPUROOM_HBM_LIMT", "GPUROOM_HBM_LIMIT"),
        ("GPUROOM_HOSTLIMIT", "GPUROOM_HOST_LIMIT"),
        ("GPUROOM_POLICIY", "GPUROOM_POLICY"),
        ("GPUROOM_STAT_FILE", "GPUROOM_STATS_FILE"),
        ("GPUROOM_SIM_FIAL", "GPUROOM_SIM_FAIL"),
    ],
)
def test_a_misspelt_variable_is_told_once(gpuroom, name, meant):
    for arguments in (["run", "--dry-run", "--", "true"], ["ps"]):
        done = gpuroom(*arguments, env={name: "x"})
        assert done.returncode == 0
        told = [line for line in done.stderr.splitlines() if name in line]
        assert len(told) == 1 and f"did you mean {meant}?" in told[0]


def test_a_variable_that_resembles_none_of_ours_is_somebody_elses(gpuroom):
    assert "GPUROOM_ELSEWHERE" not in gpuroom("ps", env={"GPUROOM_ELSEWHERE": "x"}).stderr


@pytest.mark.parametrize(
    "name, value, words",
    [
        ("GPUROOM_LOG", "wran", ["off, error, warn, info, debug", "did you mean 'warn'"]),
        ("GPUROOM_LOG", "DEBUG", ["off, error"]),
        ("GPUROOM_REPORT", "yes", ["0, 1"]),
        ("GPUROOM_CONTROL", "true", ["0, 1"]),
        ("GPUROOM_ALLOW_OVERSUBSCRIPTION", "on", ["0, 1"]),
        ("GPUROOM_POLICY", "balansed", ["gpu_first, balanced"]),
        ("GPUROOM_BACKEND", "manged", ["managed"]),
    ],
)
def test_a_misspelt_value_is_refused(gpuroom, name, value, words):
    gpuroom.refuses(2, name, f"'{value}'", *words, arguments=["run", "--dry-run", "--", "true"], env={name: value})


def test_every_variable_of_the_table_is_known(gpuroom):
    """README lists those for users; none of them may pass for a slip."""
    names = re.findall(r"^\| `(GPUROOM_[A-Z_]+)` \|", (SOURCE / "README.md").read_text(), re.M)
    assert len(names) > 20
    for name in names:
        assert "not a variable" not in gpuroom("ps", env={name: "1"}).stderr


@pytest.mark.parametrize("option, first, last", [("--hbm-limit", "6GiB", "1GiB"), ("--host-limit", "8GiB", "1GiB")])
def test_an_option_given_twice_says_which_counts(gpuroom, option, first, last):
    arguments = ["run", "--dry-run", "--json", "--sim", "2GiB,host=8GiB", option, first, option, last, "--", "true"]
    done = gpuroom(*arguments)
    assert done.returncode == 0
    assert f"{option} is given 2 times; the last one, '{last}', counts" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert json.loads(done.stdout)["limits"][{"--hbm-limit": "hbm_bytes", "--host-limit": "host_bytes"}[option]] == 1 << 30
    assert gpuroom(*[word if word != first else last for word in arguments]).stderr == ""


def test_a_peer_that_is_not_there_is_told(gpuroom):
    for arguments, env in ((["--peers", "7"], {}), ([], {"GPUROOM_PEERS": "7"})):
        done = gpuroom("run", "--dry-run", "--sim", "2x1GiB,host=4GiB", *arguments, "--", "true", env=env)
        assert len(done.stderr.splitlines()) == 1 and "GPU 7" in done.stderr and "GPU 1" in done.stderr


@pytest.mark.parametrize("arguments", [["run", "--hbm-limit"], ["run", "--hbm-limit", "--report", "--", "true"]])
def test_missing_value(gpuroom, arguments):
    gpuroom.refuses(2, "--hbm-limit needs a value", arguments=arguments)


@pytest.mark.parametrize("option", ["--hbm-limit", "--host-limit"])
def test_a_limit_below_one_chunk_is_a_forgotten_unit(gpuroom, option):
    gpuroom.refuses(2, option, "add a unit", arguments=["run", option, "6", "--", "true"])


@pytest.mark.parametrize("part", ["0%", "101%", "5.5%", "%", "half%"])
def test_a_part_is_a_whole_percentage(gpuroom, part):
    gpuroom.refuses(2, f"--hbm-limit '{part}' is not a part", arguments=["run", "--hbm-limit", part, "--", "true"])


def test_a_host_part_that_is_none(gpuroom):
    gpuroom.refuses(2, "--host-part 'some' is not a part", arguments=["run", "--host-part", "some", "--", "true"])
    gpuroom.refuses(2, "--host-part '0%' is not a part", arguments=["run", "--host-part", "0%", "--", "true"])


def test_auto_is_for_the_host_limit_alone(gpuroom):
    gpuroom.refuses(2, "'auto' is not a size", arguments=["run", "--hbm-limit", "auto", "--", "true"])


def test_reserve_beyond_the_limit(gpuroom):
    gpuroom.refuses(
        2, "--reserve", "leaves nothing", arguments=["run", "--reserve", "6GiB", "--hbm-limit", "6GiB", "--", "true"]
    )


def test_host_limit_beyond_what_is_there(gpuroom):
    gpuroom.refuses(2, "900 TiB", "--host-limit", arguments=["run", "--host-limit", "900TiB", "--", "true"])


def test_malformed_size_in_the_environment(gpuroom):
    gpuroom.refuses(
        2,
        "GPUROOM_HBM_LIMIT 'lots' is not a size",
        arguments=["run", "--dry-run", "--", "true"],
        env={"GPUROOM_HBM_LIMIT": "lots"},
    )


@pytest.mark.parametrize("command", [["run", "--dry-run"], ["demo"], ["doctor"]])
@pytest.mark.parametrize("profile", ["1GiB,nodes=-3", "1GiB,nodes=99999999999", "nan", "1GiB,host=1e30", "1GiB,driver=-1"])
def test_a_profile_with_numbers_that_no_machine_has(gpuroom, command, profile):
    tail = ["--", "true"] if command[0] == "run" else []
    gpuroom.refuses(2, f"'{profile}' is not a profile", arguments=[*command, "--sim", profile, *tail])


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["help"]])
def test_general_help(gpuroom, arguments):
    done = gpuroom(*arguments)
    assert done.returncode == 0
    assert done.stderr == ""
    for word in ("gpuroom run", "gpuroom demo", "gpuroom doctor", "126", "127"):
        assert word in done.stdout


@pytest.mark.parametrize("command", ["run", "env", "sleep", "wake", "hint", "ps", "demo", "doctor", "trace", "bench tiers"])
def test_help_of_a_command(gpuroom, command):
    words = command.split()
    by_option = gpuroom(*words, "--help")
    by_short_option = gpuroom(*words, "-h")
    by_command = gpuroom("help", *words)
    assert by_option.returncode == 0
    assert by_option.stdout == by_command.stdout == by_short_option.stdout
    assert f"gpuroom {command}" in by_option.stdout
    assert "Examples:" in by_option.stdout


@pytest.mark.parametrize("arguments", [["bench", "--help"], ["bench", "-h"], ["help", "bench"]])
def test_help_of_bench_lists_what_it_measures(gpuroom, arguments):
    done = gpuroom(*arguments)
    assert done.returncode == 0
    assert "gpuroom bench tiers" in done.stdout


@pytest.mark.parametrize("command", ["run", "env", "sleep", "wake", "hint", "ps", "demo", "doctor", "trace", "bench tiers"])
def test_help_names_every_option_that_is_accepted(gpuroom, command):
    """An option of the help text is known to the parser: asking for help with it works."""
    text = gpuroom("help", *command.split()).stdout
    options = {word.split("=")[0] for line in text.splitlines() if line.startswith("  --") for word in line.split()[:1]}
    assert options
    for option in options:
        flags = ("--report", "--quiet", "--dry-run", "--json", "--allow-oversubscription", "--no-control", "--no-plugins", "--verify", "--all", "--lazy", "--problems", "--share")
        flag = [option] if option in flags else [option, "1GiB"]
        done = gpuroom(*command.split(), *flag, "--help")
        assert done.returncode == 0, (option, done.stderr)


def test_help_of_the_program_is_not_ours(gpuroom):
    """What follows -- is CMD's, --help too."""
    plan = gpuroom.plan("--", "true", "--help", "--", "--hbm-limit")
    assert plan["command"] == ["true", "--help", "--", "--hbm-limit"]


@pytest.mark.parametrize("word", ["--version", "version"])
def test_version(gpuroom, word):
    done = gpuroom(word)
    assert done.returncode == 0
    name, number = done.stdout.split()
    assert name == "gpuroom"
    assert all(part.isdigit() for part in number.split("."))
