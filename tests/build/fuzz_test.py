"""scripts/fuzz.py adds up what several processes did, counts what they reached together, and tells of crashes.

The target is a stand-in for a libFuzzer program: what it "reaches" is the set of different bytes in its inputs.
"""

import re
import sys

import pytest

from conftest import SOURCE, Gate

TARGET = """#!{python}
import os, pathlib, sys
options = dict(word[1:].split("=", 1) for word in sys.argv[1:] if word.startswith("-"))
folders = [pathlib.Path(word) for word in sys.argv[1:] if not word.startswith("-")]
inputs = [path for folder in folders for path in folder.iterdir()]
def reached(paths):
    return {{byte for path in paths for byte in path.read_bytes()}}
if "merge" in options:
    for path in inputs:
        if reached([path]) - reached(folders[0].iterdir()):
            (folders[0] / path.name).write_bytes(path.read_bytes())
elif "runs" in options:
    print("#9\\tINITED cov: %d ft: 9 corp: 9/9b" % len(reached(inputs)), file=sys.stderr)
else:
    name = str(os.getpid())
    (folders[0] / name).write_text("found " + name)
    print("stat::number_of_executed_units: 1000", file=sys.stderr)
    {then}
"""


@pytest.fixture
def fuzz(write):
    """fuzz(then) is the script in a tree with one target, whose fuzzing ends with the Python statement `then`."""

    def make(then="pass"):
        gate = Gate("fuzz.py")
        gate.script = write("scripts/fuzz.py", (SOURCE / "scripts/fuzz.py").read_text())
        write("tests/fuzz/corpus/letters/seed", "seed")
        write("build/fuzz/tests/fuzz/fuzz_letters", TARGET.format(python=sys.executable, then=then)).chmod(0o755)
        return gate

    return make


def test_executions_are_those_of_all_workers_and_coverage_is_their_union(fuzz, tmp_path):
    gate = fuzz()
    gate.passes("--seconds", 1, "--workers", 3)
    (line,) = gate.output.splitlines()
    found = list((tmp_path / "build/fuzz/found/letters").iterdir())
    assert len(found) == 3
    reached = len({byte for path in found for byte in path.read_bytes()} | set(b"seed"))
    assert re.search(r"letters .* [\d.]+ processor-minutes +3,000 executions .* coverage +(\d+),", line)[1] == str(reached)


def test_what_is_found_after_two_thirds_is_told_apart(fuzz):
    gate = fuzz('import time; time.sleep(2.5); (folders[0] / "late").write_text("XYZ")')
    gate.passes("--seconds", 3)
    assert int(re.search(r"of it +(\d+) in the last third", gate.output)[1]) >= len("XYZ")


def test_a_crash_of_one_worker_fails_the_run_and_the_others_count(fuzz, tmp_path):
    first = tmp_path / "first"  # made by the worker that goes on
    gate = fuzz(f"""try: os.mkdir("{first}")
    except FileExistsError: sys.exit("==ERROR: crashed")""")
    gate.trips("CRASHED: 1 of 2 workers", "--seconds", 1, "--workers", 2)
    assert "2,000 executions" in gate.output and "==ERROR: crashed" in gate.output


def test_minimize_copies_what_the_corpus_lacks(fuzz, tmp_path):
    gate = fuzz()
    found = tmp_path / "build/fuzz/found/letters"
    found.mkdir(parents=True)
    (found / "known").write_text("dees")
    (found / "new").write_text("new")
    gate.passes("--minimize")
    assert {path.name for path in (tmp_path / "tests/fuzz/corpus/letters").iterdir()} == {"seed", "new"}


def test_an_unknown_target_is_named(fuzz):
    fuzz().trips("has no target digits", "digits")
