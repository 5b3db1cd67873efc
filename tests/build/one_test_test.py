"""scripts/one_test.py runs the test that is named, with its environment, and nothing else."""

import os
import subprocess
import sys


def one(name):
    script = os.path.join(os.environ["GPUROOM_SOURCE_DIR"], "scripts", "one_test.py")
    command = [sys.executable, script, "--build", os.environ["GPUROOM_BUILD_DIR"], name]
    return subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_runs_one_test_in_the_environment_of_its_suite():
    done = one("EvenTest.ColdDataGivesWayFirst")
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith("== shim_moves_evenly: ") and done.stdout.count("== shim") == 1
    assert "[  PASSED  ] 1 test." in done.stdout


def test_runs_a_test_by_ctests_name_and_a_function_of_a_python_test():
    assert "[  PASSED  ] 1 test." in one("LedgerTest.HugeAmountsDoNotWrap").stdout
    done = one("test_passes_on_ordinary_text")
    assert done.returncode == 0, done.stdout
    assert "build.check_words: " in done.stdout and "1 passed" in done.stdout


def test_a_name_that_is_no_tests_is_refused():
    done = one("EvenTest.ThereIsNoSuchTest")
    assert done.returncode == 2
    assert "no test is called 'EvenTest.ThereIsNoSuchTest'" in done.stdout
