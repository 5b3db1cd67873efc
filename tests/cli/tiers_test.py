"""The options of `gpuroom run` that steer plans, the file of rules, and the measured link speeds."""

import json
import os
import subprocess

import pytest
from conftest import LIBRARIES, SIM

GIB = 1 << 30
SPEEDS = "device=4560000000000,peer=375000000000,host=51300000000"
VARIABLES = {
    "GPUROOM_POLICY": "balanced",
    "GPUROOM_EXPECT": str(30 * GIB),
    "GPUROOM_RESIDENT_BELOW": str(GIB),
    "GPUROOM_PEERS": f"1:{20 * GIB},2",
    "GPUROOM_RULES": "min=1073741824,max=8589934592,tag=kv_cache,policy=cpu_first,hint=cold;hint=hot",
    "GPUROOM_HOST_PART": "25%",
    "GPUROOM_HOST_AHEAD": str(4 * GIB),
}
RULES = {
    "rules": [
        {"min": "1GiB", "max": "8GiB", "tag": "kv_cache", "policy": "cpu_first", "hint": "cold"},
        {"hint": "hot"},
    ]
}


@pytest.fixture
def rules_file(tmp_path):
    def write(content):
        path = tmp_path / "rules.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


@pytest.fixture
def options(rules_file):
    """Every option, as VARIABLES has them."""
    return ("--policy", "balanced", "--expect", "30GiB", "--resident-below", "1GiB", "--peers", "1:20GiB,2", "--rules", rules_file(RULES),
            "--host-part", "25%", "--host-ahead", "4GiB")  # fmt: skip


@pytest.fixture
def cache(tmp_path):
    """cache(text or entries) writes links.json; the value is what to put in XDG_CACHE_HOME."""

    def write(content):
        path = tmp_path / "cache" / "gpuroom" / "links.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not isinstance(content, str):
            content = json.dumps({"version": 1, "machines": content})
        path.write_text(content)
        return {"XDG_CACHE_HOME": str(tmp_path / "cache")}

    return write


def entry(gpuroom, profile=SIM[1], **changes):
    """What `bench tiers` would write of the first GPU of a profile."""
    done = gpuroom("doctor", "--json", "--sim", profile)
    (model,) = [fact["value"] for fact in json.loads(done.stdout)["facts"] if fact["name"] == "gpu0.model"]
    return {
        "gpu_name": "a GPU", "gpu_uuid": model.split(", ")[-1], "driver": f"simulated {profile}",
        "device_bytes_per_second": 4560000000000, "peer_bytes_per_second": 375000000000,
        "host_bytes_per_second": 51300000000, "measured": "2026-11-21T12:00:00Z", **changes,
    }  # fmt: skip


def environment(gpuroom, *arguments, env=None):
    done = gpuroom("run", *SIM, *arguments, "--", "env", env=env)
    assert done.returncode == 0, done.stderr
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if line.startswith("GPUROOM_"))


def test_options_become_variables(gpuroom, options):
    assert VARIABLES.items() <= environment(gpuroom, *options).items()


def test_nothing_given_sets_nothing(gpuroom):
    assert not {*VARIABLES, "GPUROOM_LINK_SPEEDS"} & environment(gpuroom).keys()


def test_variables_that_are_set_already_are_kept(gpuroom):
    inherited = {**VARIABLES, "GPUROOM_LINK_SPEEDS": SPEEDS}
    assert inherited.items() <= environment(gpuroom, env=inherited).items()


def test_variables_are_checked_and_normalised(gpuroom):
    found = environment(gpuroom, env={"GPUROOM_RESIDENT_BELOW": "1GiB", "GPUROOM_RULES": "hint=cold,min=1GiB"})
    assert found["GPUROOM_RESIDENT_BELOW"] == str(GIB)
    assert found["GPUROOM_RULES"] == "min=1073741824,hint=cold"


def test_options_go_before_variables(gpuroom, options):
    other = {
        "GPUROOM_POLICY": "cpu_first", "GPUROOM_EXPECT": "lots", "GPUROOM_RESIDENT_BELOW": "0",
        "GPUROOM_PEERS": "auto",
        "GPUROOM_RULES": "hint=warm", "GPUROOM_HOST_PART": "some", "GPUROOM_HOST_AHEAD": "0",
    }  # fmt: skip
    assert VARIABLES.items() <= environment(gpuroom, *options, env=other).items()


def test_zero_turns_a_size_off(gpuroom):
    found = environment(gpuroom, "--resident-below", "0", "--host-ahead", "0")
    assert found["GPUROOM_RESIDENT_BELOW"] == found["GPUROOM_HOST_AHEAD"] == "0"


def test_dry_run_shows_them(gpuroom, options):
    plan = gpuroom.plan(*SIM, *options, "--", "true")
    assert plan["tiers"] == {
        "policy": "balanced", "expect_bytes": 30 * GIB, "resident_below_bytes": GIB,
        "peers": VARIABLES["GPUROOM_PEERS"], "rules": VARIABLES["GPUROOM_RULES"], "host_part": "25%",
        "host_ahead_bytes": 4 * GIB,
        "backend": None, "prefetch_below_bytes": None, "oversubscription_ratio": None, "allow_oversubscription": None,
    }  # fmt: skip
    assert VARIABLES.items() <= plan["environment"].items()
    text = gpuroom("run", "--dry-run", *SIM, *options, "--", "true").stdout
    assert "  GPUROOM_POLICY=balanced\n" in text
    assert f"  GPUROOM_RULES='{VARIABLES['GPUROOM_RULES']}'\n" in text


@pytest.mark.parametrize(
    "profile, peers, warnings",
    [
        ("2x256MiB,host=1GiB", "1:16MiB,5", ["GPU 5 is not there, so it lends GPU 0 no memory"]),
        ("2x256MiB,host=1GiB,peer=none", "1", ["GPU 1 cannot be reached, so it lends GPU 0 no memory"]),
        ("2x256MiB,host=1GiB", "0,1", []),
        ("2x256MiB,host=1GiB,peer=none", "auto", []),
    ],
)
def test_peers_that_lend_nothing_are_named(gpuroom, profile, peers, warnings):
    sample = (LIBRARIES / "gpuroom-demo", "--bytes", 64 << 20, "--json")
    done = gpuroom("run", "--sim", profile, "--peers", peers, "--", *sample)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == len(warnings), done.stderr
    for line, warning in zip(lines, warnings):
        assert warning in line


def test_dry_run_names_peers_that_are_not_there(gpuroom):
    done = gpuroom("run", *SIM, "--dry-run", "--peers", "0,3", "--", "true")
    assert done.returncode == 0
    assert done.stderr == "gpuroom: --peers names GPU 3, and the last one here is GPU 0; leave it out\n"


def test_dry_run_leaves_what_is_not_given_to_the_shim(gpuroom):
    assert set(gpuroom.plan(*SIM, "--", "true")["tiers"].values()) == {None}


@pytest.mark.parametrize(
    "option, value, words",
    [
        ("--policy", "fast", ["'fast' is not a policy", "gpu_first, balanced or cpu_first"]),
        ("--policy", "", ["needs a value"]),
        ("--expect", "lots", ["'lots' is not a size"]),
        ("--expect", "30", ["add a unit"]),
        ("--resident-below", "lots", ["'lots' is not a size"]),
        ("--resident-below", "64", ["add a unit"]),
        ("--resident-below", "-1GiB", ["negative"]),
        ("--host-ahead", "1e9", ["is not a size"]),
        ("--peers", "all", ["'all' is not a list of GPUs", "1:20GiB,2"]),
        ("--peers", "1:", ["size after ':'"]),
        ("--peers", "1:20", ["add a unit"]),
        ("--peers", "1,1", ["twice"]),
        ("--rules", "/nonexistent/rules", ["cannot be read: No such file"]),
        ("--rules", "/", ["cannot be read: Is a directory"]),
        ("--rules", "/dev/null", ["no regular file"]),
    ],
)
def test_bad_values(gpuroom, option, value, words):
    gpuroom.refuses(2, option, *words, arguments=["run", f"{option}={value}", "--", "true"])


@pytest.mark.parametrize(
    "options, env, words",
    [
        (["--expect", "30GiB", "--policy", "gpu_first"], {}, ["--expect is for the policy balanced", "is gpu_first"]),
        (["--expect", "30GiB"], {"GPUROOM_POLICY": "cpu_first"}, ["--expect is for the policy balanced"]),
        (["--policy", "cpu_first"], {"GPUROOM_EXPECT": "30GiB"}, ["the environment's GPUROOM_EXPECT is for"]),
        (["--expect", "30GiB", "--backend", "managed"], {}, ["--expect is for tiers", "leave one of the two out"]),
    ],
)
def test_what_is_expected_is_for_what_is_spread(gpuroom, options, env, words):
    gpuroom.refuses(2, *words, arguments=["run", *options, "--", "true"], env=env)


def test_expect_zero_goes_with_everything(gpuroom):
    found = environment(gpuroom, "--expect", "0", "--policy", "gpu_first", "--backend", "managed")
    assert found["GPUROOM_EXPECT"] == "0"


@pytest.mark.parametrize(
    "name, value, words",
    [
        ("GPUROOM_POLICY", "fast", ["is not a policy"]),
        ("GPUROOM_PEERS", "all", ["not a list"]),
        ("GPUROOM_RULES", "hint=hot;hint=warm", ["rule 2, 'hint=warm'", "not a hint"]),
        ("GPUROOM_RULES", "min=1GiB", ["rule 1: it has neither policy nor hint"]),
        ("GPUROOM_LINK_SPEEDS", "quick", ["not link speeds"]),
        ("GPUROOM_HOST_AHEAD", "5", ["add a unit"]),
    ],
)
def test_bad_variables(gpuroom, name, value, words):
    gpuroom.refuses(2, f"the environment's {name}", *words, arguments=["run", "--", "true"], env={name: value})


@pytest.mark.parametrize(
    "content, words",
    [
        ("", ["is not JSON", '{"rules": [']),
        ("{", ["is not JSON"]),
        ("[]", ['no array "rules"']),
        ({"rules": {}}, ['no array "rules"']),
        ({"rules": [], "version": 1}, ['unknown key "version"']),
        ('{"rules": [], "rules": []}', ['"rules" twice']),
        ('{"rules": [{"hint": "hot", "hint": "cold"}]}', ['"hint" twice']),
        ({"rules": [5]}, ["rule 1: it is not an object"]),
        ({"rules": [{"hint": "hot"}, {"hnt": "cold"}]}, ['rule 2: the key "hnt" is unknown', "did you mean 'hint'"]),
        ({"rules": [{"colour": "red"}]}, ['"colour" is unknown', "min, max, tag, policy, hint and backend"]),
        ({"rules": [{"hint": "warm"}]}, ["'warm' is not a hint", "hot, cold, stream or none"]),
        ({"rules": [{"backend": "uvm"}]}, ["'uvm' is not a backend", "tiers or managed"]),
        ({"rules": [{"backend": True}]}, ["'true' is not a backend"]),
        ({"rules": [{"hint": None}]}, ["'null' is not a hint"]),
        ({"rules": [{"policy": "fast"}]}, ["'fast' is not a policy"]),
        ({"rules": [{"min": "lots", "hint": "hot"}]}, ["\"min\" 'lots' is not a size"]),
        ({"rules": [{"max": -1, "hint": "hot"}]}, ['"max" is not a size']),
        ({"rules": [{"max": 1.5, "hint": "hot"}]}, ['"max" is not a size']),
        ({"rules": [{"min": "2GiB", "max": "1GiB", "hint": "hot"}]}, ["rule 1: min is more than max"]),
        ({"rules": [{"min": "2GiB"}]}, ["neither policy nor hint"]),
        ({"rules": [{"tag": "a;b", "hint": "hot"}]}, ["'a;b' is not a tag"]),
        ({"rules": [{"tag": "", "hint": "hot"}]}, ["is not a tag"]),
        ({"rules": [{"tag": 7, "hint": "hot"}]}, ["'7' is not a tag"]),
        ({"rules": [{"hint": "hot"}] * 257}, ["has 257 rules; 256 are the most"]),
        ({"rules": [{"min": 2**63, "hint": "hot"}, {"max": "512MiB", "hint": "cold"}]}, ["rule 1", "\"min\" '9223372036854775808' is too large"]),
        ({"rules": [{"max": 2**64 - 1, "hint": "hot"}]}, ["\"max\" '18446744073709551615' is too large"]),
        ({"rules": [{"max": 2**64, "hint": "hot"}]}, ['"max" is not a size']),
        ({"rules": [{"max": "8388608TiB", "hint": "hot"}]}, ["too large"]),
    ],
)
def test_bad_rules(gpuroom, rules_file, content, words):
    path = rules_file(content)
    gpuroom.refuses(2, f"--rules '{path}'", *words, arguments=["run", "--rules", path, "--", "true"])


HOSTILE = {
    "deep": ('{"rules": [{"hint": %s}]}' % ("[" * 100_000 + "]" * 100_000), ["nested more than 8 levels deep"]),
    "deep and cut": ('{"rules": [{"hint": %s' % ("[" * 100_000), ["nested more than 8 levels deep"]),
    "arrays alone": ("[" * 100_000, ["nested more than 8 levels deep"]),
    "objects alone": ('{"a":' * 100_000, ["nested more than 8 levels deep"]),
    "deep enough to be quoted": ({"rules": [{"hint": [[[[[5]]]]]}]}, ["'[[[[[5]]]]]' is not a hint"]),
    "many keys": ({"rules": [{"%x" % i: 1 for i in range(90_000)}]}, ["rule 1: the key", "is unknown"]),
    "many rules": ({"rules": [{}] * 200_000}, ["has 200000 rules; 256 are the most"]),
    "long word": ({"rules": [{"hint": "x" * 500_000}]}, ["'xxx", "...' is not a hint"]),
    "long size": ({"rules": [{"min": "9" * 500_000, "hint": "hot"}]}, ["'999", "...' is"]),
    "long key": ({"rules": [{"x" * 500_000: "hot"}]}, ['the key "xxx', '..." is unknown']),
    "large file": ("[" + " " * (1 << 20) + "]", ["larger than 1 MiB"]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_of_rules_is_one_short_sentence(gpuroom, rules_file, name):
    content, words = HOSTILE[name]
    path = rules_file(content)
    line = gpuroom.refuses(2, f"--rules '{path}'", *words, arguments=["run", "--rules", path, "--", "true"])
    assert len(line) < 500


def test_the_largest_size_of_a_rule(gpuroom, rules_file):
    found = environment(gpuroom, "--rules", rules_file({"rules": [{"min": 2**63 - 1, "hint": "hot"}]}))
    assert found["GPUROOM_RULES"] == "min=9223372036854775807,hint=hot"


def test_rules_may_be_none_and_sizes_numbers(gpuroom, rules_file):
    none = rules_file({"rules": []})
    assert "GPUROOM_RULES" not in environment(gpuroom, "--rules", none)
    assert "GPUROOM_RULES" not in environment(gpuroom, "--rules", none, env={"GPUROOM_RULES": "hint=hot"})
    found = environment(gpuroom, "--rules", rules_file({"rules": [{"min": 5, "hint": "none"}]}))
    assert found["GPUROOM_RULES"] == "min=5,hint=none"


def test_no_measurement_is_an_estimate(gpuroom):
    assert gpuroom.plan(*SIM, "--", "true")["link_speeds"] == {
        "source": "estimated", "advice": "run 'gpuroom bench tiers' to measure them",
    }  # fmt: skip
    text = gpuroom("run", "--dry-run", *SIM, "--", "true").stdout
    assert "link speeds: estimated; run 'gpuroom bench tiers' to measure them\n" in text


def test_measured_speeds_are_passed_on(gpuroom, cache):
    env = cache([entry(gpuroom, gpu_uuid="GPU-other"), entry(gpuroom)])
    assert environment(gpuroom, env=env)["GPUROOM_LINK_SPEEDS"] == SPEEDS
    assert gpuroom.plan(*SIM, "--", "true", env=env)["link_speeds"] == {
        "source": "measured", "device_bytes_per_second": 4560000000000, "peer_bytes_per_second": 375000000000,
        "host_bytes_per_second": 51300000000, "measured": "2026-11-21T12:00:00Z",
    }  # fmt: skip
    text = gpuroom("run", "--dry-run", *SIM, "--", "true", env=env).stdout
    assert "link speeds: measured 2026-11-21T12:00:00Z: HBM 4560, peers 375, host 51 GB/s\n" in text


@pytest.mark.parametrize("changes", [{"gpu_uuid": "GPU-other"}, {"driver": "580.159.04"}, {"host_bytes_per_second": 0}])
def test_speeds_of_another_machine_are_not(gpuroom, cache, changes):
    env = cache([entry(gpuroom, **changes)])
    assert "GPUROOM_LINK_SPEEDS" not in environment(gpuroom, env=env)
    assert gpuroom.plan(*SIM, "--", "true", env=env)["link_speeds"]["source"] == "estimated"


def test_given_speeds_go_before_measured_ones(gpuroom, cache):
    env = {**cache([entry(gpuroom)]), "GPUROOM_LINK_SPEEDS": "device=1000000000,host=1000000"}
    plan = gpuroom.plan(*SIM, "--", "true", env=env)
    assert plan["link_speeds"]["source"] == "given"
    assert plan["environment"]["GPUROOM_LINK_SPEEDS"] == "device=1000000000,host=1000000"


def test_a_cache_that_cannot_be_used_is_one_warning(gpuroom, cache):
    done = gpuroom("run", *SIM, "--", "true", env=cache("{"))
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert line.startswith("gpuroom: ") and "links.json" in line and "bench tiers" in line


def test_doctor_says_where_the_speeds_come_from(gpuroom, cache):
    def speeds(env):
        facts = json.loads(gpuroom("doctor", "--json", *SIM, env=env).stdout)["facts"]
        (fact,) = [fact for fact in facts if fact["name"] == "gpu0.speeds"]
        return fact

    estimated = speeds({})
    assert estimated["status"] == "ok" and "Estimated; run 'gpuroom bench tiers'" in estimated["meaning"]
    assert estimated["value"].startswith("HBM ")
    measured = speeds(cache([entry(gpuroom)]))
    assert measured["value"] == "HBM 4560, peers 375, host 51 GB/s"
    assert "Measured 2026-11-21T12:00:00Z" in measured["meaning"]
    broken = speeds(cache("{"))
    assert broken["status"] == "warn" and "links.json" in broken["fix"]


def test_a_fifo_is_not_waited_for(gpuroom, tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    gpuroom.refuses(2, "no regular file", arguments=["run", "--rules", path, "--", "true"])


def test_a_home_that_cannot_be_entered_is_no_damaged_file(gpuroom, tmp_path):
    """Of mode 700 and another user's, as under sudo -u or in a container with its own user."""
    home = tmp_path / "home"
    links = home / ".cache" / "gpuroom" / "links.json"
    links.parent.mkdir(parents=True)
    links.write_text("{}")
    home.chmod(0)
    stranger = {"user": 64321, "group": 64321, "extra_groups": []} if os.getuid() == 0 else {}
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(home)}
    done = subprocess.run([gpuroom.binary, "run", "--dry-run", *SIM, "--", "true"], cwd="/", env=environment, text=True,
                          capture_output=True, timeout=120, check=False, **stranger)  # fmt: skip
    home.chmod(0o700)
    assert done.returncode == 0
    assert done.stderr == ""
