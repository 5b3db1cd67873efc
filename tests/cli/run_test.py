"""`gpuroom run` on the simulated driver: it becomes CMD, with the environment that was asked for."""

import json
import os
import shutil
import signal
import subprocess
import sys

import elf
import pytest
from conftest import SIM

PRINT_ENVIRONMENT = "import json, os; print(json.dumps(dict(os.environ)))"


def environment(gpuroom, *options, **keywords):
    """The environment that CMD gets."""
    done = gpuroom("run", *SIM, *options, "--", sys.executable, "-c", PRINT_ENVIRONMENT, **keywords)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("status", [0, 1, 2, 3, 7, 126, 127, 255])
def test_exit_status_is_the_commands(gpuroom, status):
    done = gpuroom("run", *SIM, "--", "sh", "-c", f"exit {status}")
    assert done.returncode == status
    assert done.stderr == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGINT])
def test_a_signal_that_ends_the_command_is_seen(gpuroom, number):
    assert gpuroom("run", *SIM, "--", "sh", "-c", f"kill -{int(number)} $$").returncode == -number


def test_there_is_no_process_in_between(gpuroom):
    process = gpuroom.start("run", *SIM, "--", "sh", "-c", "echo $$ $PPID", stdout=subprocess.PIPE)
    text, _ = process.communicate(timeout=60)
    assert text.split() == [str(process.pid), str(os.getpid())]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_reaches_the_command(gpuroom, number):
    program = (
        "import signal, sys\n"
        f"signal.signal({int(number)}, lambda *_: sys.exit(42))\n"
        "print('ready', flush=True)\n"
        "while True: signal.pause()\n"
    )
    process = gpuroom.start("run", *SIM, "--", sys.executable, "-c", program, stdout=subprocess.PIPE)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert process.wait(timeout=60) == 42
    process.stdout.close()


def test_input_and_both_outputs_are_the_commands(gpuroom):
    done = gpuroom("run", *SIM, "--", "sh", "-c", "cat; echo aside >&2", input="line\nlast")
    assert (done.stdout, done.stderr) == ("line\nlast", "aside\n")


def test_arguments_are_passed_on_as_they_are(gpuroom):
    words = ["--", "", "a b", "*", "--report", "-h", "$HOME", "\\n"]
    done = gpuroom("run", *SIM, "--", sys.executable, "-c", "import sys; print(sys.argv[1:])", *words)
    assert done.stdout.strip() == str(words)


def test_name_of_the_command_is_as_typed(gpuroom):
    done = gpuroom("run", *SIM, "--", "sh", "-c", "cat /proc/$$/cmdline")
    assert done.stdout.split("\0")[0] == "sh"


def test_relative_command(gpuroom, script, tmp_path):
    script("tool.sh", "#!/bin/sh\necho here $1\n")
    assert gpuroom("run", *SIM, "--", "./tool.sh", "now", cwd=tmp_path).stdout == "here now\n"


def test_script_without_an_interpreter(gpuroom, script):
    assert gpuroom("run", *SIM, "--", script("tool", "echo plain $1; exit 4\n"), "text").stdout == "plain text\n"


def test_the_library_is_in_the_command_and_its_children(gpuroom):
    done = gpuroom("run", *SIM, "--", "sh", "-c", "cat /proc/$$/maps; echo ---; cat /proc/self/maps")
    for maps in done.stdout.split("---"):
        assert str(gpuroom.shim.resolve()) in maps


def test_sizes_reach_the_command_as_bytes(gpuroom):
    found = environment(gpuroom, "--hbm-limit", "512MiB", "--host-limit=1.5g", "--reserve", "64M")
    assert found["GPUROOM_HBM_LIMIT"] == str(512 << 20)
    assert found["GPUROOM_HOST_LIMIT"] == str(3 << 29)
    assert found["GPUROOM_RESERVE"] == str(64 << 20)
    assert found["GPUROOM_SIM"] == SIM[1]
    assert found["LD_LIBRARY_PATH"].split(":")[0] == str(gpuroom.sim_folder)


def test_the_last_of_a_repeated_option_counts(gpuroom):
    assert environment(gpuroom, "--hbm-limit", "512MiB", "--hbm-limit", "256MiB")["GPUROOM_HBM_LIMIT"] == str(256 << 20)


def test_what_was_not_asked_for_is_not_set(gpuroom):
    found = environment(gpuroom)
    for name in ("GPUROOM_HBM_LIMIT", "GPUROOM_RESERVE", "GPUROOM_REPORT", "GPUROOM_STATS_FILE"):
        assert name not in found
    assert int(found["GPUROOM_HOST_LIMIT"]) % (2 << 20) == 0


def test_other_variables_pass_unchanged(gpuroom):
    found = environment(gpuroom, env={"OTHER": "a=b c", "EMPTY": ""})
    assert found["OTHER"] == "a=b c"
    assert found["EMPTY"] == ""


@pytest.mark.parametrize("before", ["libm.so.6 libc.so.6", "libm.so.6:libc.so.6", ":libm.so.6: libc.so.6 "])
def test_preloads_that_were_there_are_kept(gpuroom, before):
    found = environment(gpuroom, env={"LD_PRELOAD": before})
    assert found["LD_PRELOAD"].split(":") == [gpuroom.preload, "libm.so.6", "libc.so.6"]


def preloads(gpuroom, *command, before=""):
    """The entries of LD_PRELOAD that CMD would get."""
    return gpuroom.plan(*SIM, "--", *command, env={"LD_PRELOAD": before})["environment"]["LD_PRELOAD"].split(":")


@pytest.mark.parametrize(
    "name",
    [
        "libasan.so", "libasan.so.8", "libtsan.so.2", "libubsan.so.1", "liblsan.so.0", "libhwasan.so.0",
        "libclang_rt.asan-x86_64.so", "libclang_rt.tsan.so",
    ],
)  # fmt: skip
def test_a_preloaded_sanitizer_stays_first(gpuroom, tmp_path, name):
    """It refuses to start a program where another library comes before it."""
    runtime = f"{tmp_path}/{name}"
    shim = gpuroom.preload
    assert preloads(gpuroom, "true", before=runtime) == [runtime, shim]
    assert preloads(gpuroom, "true", before=f"libm.so.6 {runtime}:libc.so.6") == [runtime, shim, "libm.so.6", "libc.so.6"]
    assert preloads(gpuroom, "true", before=f"{shim}:{runtime}") == [runtime, shim]


@pytest.mark.parametrize("name", ["libasan.so.8", "libtsan.so.2", "libubsan.so.1", "libclang_rt.asan-x86_64.so"])
def test_the_sanitizer_of_a_program_comes_first(gpuroom, script, tmp_path, name):
    program = script("program", elf.program(libraries=["libm.so.6", name, "libc.so.6"]))
    shim = gpuroom.preload
    assert preloads(gpuroom, program) == [name, shim]
    assert preloads(gpuroom, "env", "A=1", program) == [name, shim]
    assert preloads(gpuroom, script("s", f"#!{program}\n"), before="libm.so.6") == [name, shim, "libm.so.6"]
    assert preloads(gpuroom, program, before=f"{tmp_path}/{name}") == [f"{tmp_path}/{name}", shim]


@pytest.mark.parametrize("name", ["libasan", "libasan_other.so", "libasanx.so", "mylibasan.so", "libasan.so/x.so"])
def test_what_only_resembles_a_sanitizer_stays_behind(gpuroom, tmp_path, name):
    other = f"{tmp_path}/{name}"
    assert preloads(gpuroom, "true", before=other) == [gpuroom.preload, other]


COMPILER = next((path for path in map(shutil.which, ("cc", "gcc", "clang")) if path), None)
HELLO = '#include <stdio.h>\nint main(void) { puts("hello"); return 0; }\n'
LAUNCHER = "#include <unistd.h>\nint main(int c, char** v) { return c > 1 ? execvp(v[1], v + 1) : 2; }\n"


def compiled(tmp_path, text, *options, status=0):
    """A program in C that runs here; the test is skipped where these options make none."""
    if COMPILER is None:
        pytest.skip("no C compiler is here")
    (tmp_path / "program.c").write_text(text)
    program = tmp_path / "program"
    made = subprocess.run([COMPILER, *options, tmp_path / "program.c", "-o", program], capture_output=True, check=False)
    if made.returncode != 0 or subprocess.run([program, "true"], capture_output=True, check=False).returncode != status:
        pytest.skip(f"{COMPILER} {' '.join(options)} makes no program that runs here")
    return program


@pytest.mark.parametrize("options", [["-fsanitize=address"], ["-fsanitize=undefined"], ["-fsanitize=address,undefined"]])
def test_a_program_with_a_sanitizer_runs(gpuroom, tmp_path, options):
    program = compiled(tmp_path, HELLO, *options)
    for command in ([program], ["env", "A=1", program]):
        done = gpuroom("run", *SIM, "--", *command)
        assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr


def test_a_sanitizer_that_is_preloaded_by_hand_runs(gpuroom, tmp_path):
    program = compiled(tmp_path, HELLO, "-fsanitize=address")
    runtime = subprocess.run([COMPILER, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True).stdout
    done = gpuroom("run", *SIM, "--", program, env={"LD_PRELOAD": os.path.realpath(runtime.strip())})
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr


def test_a_static_launcher_starts_what_is_served(gpuroom, tmp_path):
    """As pixi, AppImage's runtime and docker-init do."""
    launcher = compiled(tmp_path, LAUNCHER, "-static")
    done = gpuroom("run", *SIM, "--", launcher, "cat", "/proc/self/maps")
    assert done.returncode == 0
    assert str(gpuroom.shim.resolve()) in done.stdout
    (line,) = done.stderr.splitlines()
    assert f"'{launcher}' is statically linked" in line


# Needs no C library: ends with status 7.
NAKED = """
#if defined(__x86_64__)
__asm__(".globl _start\\n_start: mov $60, %eax\\n mov $7, %edi\\n syscall");
#else
__asm__(".globl _start\\n_start: mov x8, 93\\n mov x0, 7\\n svc 0");
#endif
"""


def test_a_musl_program_that_a_script_starts_runs(gpuroom, tmp_path, script):
    """Without gpuroom; its loader must not even try a library that is built for glibc."""
    if not gpuroom.musl.exists():
        pytest.skip(f"{gpuroom.musl} is not here")
    program = compiled(tmp_path, NAKED, "-nostdlib", "-pie", "-fPIE", f"-Wl,--dynamic-linker={gpuroom.musl}", status=7)
    done = gpuroom("run", *SIM, "--", "sh", "-c", f"{program}; echo $?; cat /proc/$$/maps")
    assert done.stderr == ""
    assert done.stdout.startswith("7\n")
    assert str(gpuroom.shim.resolve()) in done.stdout


@pytest.mark.parametrize("words", [["env", "-i"], ["env", "-u", "LD_PRELOAD"], ["setpriv", "--reset-env"]])
def test_a_launcher_that_drops_the_library_is_told_of_and_runs(gpuroom, words):
    if shutil.which(words[0]) is None:
        pytest.skip(f"{words[0]} is not here")
    done = gpuroom("run", *SIM, "--", *words, shutil.which("cat"), "/proc/self/maps")
    assert done.returncode == 0
    assert "libgpuroom.so" not in done.stdout
    (line,) = done.stderr.splitlines()
    assert f"'{' '.join(words)}' does not pass gpuroom's library on" in line


@pytest.mark.parametrize("name", ["libgpuroom.so.1", "libgpuroom.so/other.so", "xlibgpuroom.so"])
def test_a_preload_that_only_resembles_ours_stays(gpuroom, name, tmp_path):
    other = f"{tmp_path}/{name}"
    assert gpuroom("--version", env={"LD_PRELOAD": other}).stdout.startswith("gpuroom ")
    assert environment(gpuroom, env={"LD_PRELOAD": other})["LD_PRELOAD"].split(":") == [gpuroom.preload, other]


def test_library_path_that_was_there_is_kept(gpuroom, tmp_path):
    found = environment(gpuroom, env={"LD_LIBRARY_PATH": f"{tmp_path}:/other"})
    assert found["LD_LIBRARY_PATH"].split(":") == [str(gpuroom.sim_folder), str(tmp_path), "/other"]


PLUGINS = "lib/gpuroom/plugins"


@pytest.mark.parametrize("before", ["", "/first", "/first:", ":/first", "/first::/second"])
def test_the_folder_of_plug_ins_is_last_in_pythons_path(gpuroom, before):
    found = environment(gpuroom, env={"PYTHONPATH": before})["PYTHONPATH"]
    folder = str(gpuroom.binary.parent.parent / PLUGINS)
    assert found == (f"{before}:{folder}" if before else folder)


def test_plug_ins_are_offered_once_and_can_be_left_out(gpuroom):
    folder = str(gpuroom.binary.parent.parent / PLUGINS)
    for path in (folder, f"/first:{folder}", f"{folder}:/first"):
        found = environment(gpuroom, env={"PYTHONPATH": path})["PYTHONPATH"].split(":")
        assert found[-1] == folder and found.count(folder) == 1
        plan = gpuroom.plan(*SIM, "--no-plugins", "--", "true", env={"PYTHONPATH": path})
        assert ("PYTHONPATH" in plan["environment_removed"]) == (path == folder)
        assert plan["environment"].get("PYTHONPATH") == (None if path == folder else "/first")


def nested(gpuroom, outer, inner, **keywords):
    done = gpuroom(
        "run", *SIM, *outer, "--",
        gpuroom.binary, "run", *inner, "--", sys.executable, "-c", PRINT_ENVIRONMENT, **keywords,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_nested_runs_preload_once(gpuroom):
    found = nested(gpuroom, [], ["--sim", "2GiB,host=4GiB"], env={"LD_PRELOAD": "libm.so.6"})
    assert found["LD_PRELOAD"].split(":") == [gpuroom.preload, "libm.so.6"]
    assert found["LD_LIBRARY_PATH"] == str(gpuroom.sim_folder)
    assert found["GPUROOM_SIM"] == "2GiB,host=4GiB"


def test_another_builds_entry_is_replaced(gpuroom, tmp_path):
    """An entry of our name from elsewhere goes; the loader says on stderr that it is not there."""
    done = gpuroom(
        "run", *SIM, "--", sys.executable, "-c", PRINT_ENVIRONMENT,
        env={"LD_PRELOAD": f"{tmp_path}/libgpuroom.so:libm.so.6"},
    )  # fmt: skip
    assert json.loads(done.stdout)["LD_PRELOAD"].split(":") == [gpuroom.preload, "libm.so.6"]


def test_nested_run_keeps_the_limits_it_does_not_set(gpuroom):
    found = nested(
        gpuroom, ["--hbm-limit", "512MiB", "--host-limit", "1GiB", "--reserve", "32MiB"], ["--hbm-limit", "256MiB"]
    )
    assert found["GPUROOM_HBM_LIMIT"] == str(256 << 20)
    assert found["GPUROOM_HOST_LIMIT"] == str(1 << 30)
    assert found["GPUROOM_RESERVE"] == str(32 << 20)


def test_nested_auto_chooses_anew(gpuroom):
    found = nested(gpuroom, ["--host-limit", "64MiB"], ["--host-limit", "auto"])
    assert found["GPUROOM_HOST_LIMIT"] != str(64 << 20)


def test_inner_command_sees_the_machine_and_not_the_outer_run(gpuroom):
    """Inside a run the driver's sizes are enlarged; the command itself must not take them for HBM."""
    done = gpuroom(
        "run", *SIM, "--host-limit", "2GiB", "--", gpuroom.binary, "run", "--dry-run", "--json", "--", "true"
    )
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert plan["devices"][0]["hbm_bytes"] == 1 << 30
    assert plan["simulated"] is True


def test_unknown_profile(gpuroom):
    gpuroom.refuses(2, "'no-such-machine' is not a profile", "h200", arguments=["run", "--sim", "no-such-machine", "--", "true"])


def test_old_driver(gpuroom):
    text = gpuroom.refuses(3, "older than CUDA 13.0", "580", arguments=["run", "--sim", "1GiB,driver=12040", "--", "true"])
    assert "12.4" in text


def test_no_driver(gpuroom):
    probe = subprocess.run([sys.executable, "-c", "import ctypes; ctypes.CDLL('libcuda.so.1')"], capture_output=True, check=False)
    if probe.returncode == 0:
        pytest.skip("this machine has libcuda.so.1")
    gpuroom.refuses(3, "libcuda.so.1 was not found", "--sim", arguments=["run", "--", "true"])


def test_an_unreadable_driver_is_no_driver(gpuroom, tmp_path):
    (tmp_path / "libcuda.so.1").write_text("not a library")
    done = gpuroom("run", "--", "true", env={"LD_LIBRARY_PATH": str(tmp_path)})
    if done.returncode == 0:
        pytest.skip("the loader went on to this machine's own libcuda.so.1")
    assert done.returncode == 3


def test_a_missing_command_matters_more_than_a_missing_driver(gpuroom):
    gpuroom.refuses(127, "no-such-command", arguments=["run", "--", "no-such-command"])


def copy_of_the_command(gpuroom, folder):
    """The command alone, in a tree with no libraries beside it."""
    (folder / "bin").mkdir(parents=True)
    target = folder / "bin" / "gpuroom"
    target.write_bytes(gpuroom.binary.read_bytes())
    target.chmod(0o755)
    return target


def run_copy(binary, *arguments):
    return subprocess.run([str(binary), *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_library_missing(gpuroom, tmp_path):
    done = run_copy(copy_of_the_command(gpuroom, tmp_path / "lone"), "run", "--", "true")
    assert done.returncode == 126
    assert "libgpuroom.so' is missing" in done.stderr


def test_simulated_driver_missing(gpuroom, tmp_path):
    binary = copy_of_the_command(gpuroom, tmp_path / "lone")
    (tmp_path / "lone/lib/gpuroom").mkdir(parents=True)
    (tmp_path / "lone/lib/gpuroom/libgpuroom.so").symlink_to(gpuroom.shim)
    done = run_copy(binary, "run", "--sim", "h200", "--", "true")
    assert done.returncode == 3
    assert "simulated driver" in done.stderr and "missing" in done.stderr


@pytest.mark.parametrize("name", ["with space", "with:colon", "with$dollar"])
def test_installation_that_the_loader_cannot_be_told_of(gpuroom, tmp_path, name):
    binary = copy_of_the_command(gpuroom, tmp_path / name)
    (tmp_path / name / "lib/gpuroom").mkdir(parents=True)
    (tmp_path / name / "lib/gpuroom/libgpuroom.so").symlink_to(gpuroom.shim)
    done = run_copy(binary, "run", "--", "true")
    assert done.returncode == 126
    assert "install gpuroom elsewhere" in done.stderr


def test_a_run_says_in_one_line_what_it_offers(gpuroom):
    done = gpuroom("run", *SIM, "--hbm-limit", "512MiB", "--host-limit", "1GiB", "--", "echo", "ran", env={"GPUROOM_QUIET": "0"})
    assert (done.returncode, done.stdout) == (0, "ran\n")
    (line,) = done.stderr.splitlines()
    assert line.startswith("gpuroom: ")
    for words in ("512 MiB of each GPU's HBM", "host memory: 1.0 GiB", "--hbm-limit", "--host-limit", "--quiet"):
        assert words in line
    done = gpuroom("run", *SIM, "--", "true", env={"GPUROOM_QUIET": "0"})
    (line,) = done.stderr.splitlines()
    for words in ("all of each GPU's HBM", "auto: ", "kept for the host", "limited by"):
        assert words in line


def test_a_run_that_is_told_to_be_quiet_says_nothing(gpuroom):
    for option, variable in (("--quiet", "0"), ("--report", "1")):
        done = gpuroom("run", *SIM, option, "--", "true", env={"GPUROOM_QUIET": variable})
        assert (done.returncode, done.stderr) == (0, "")


def test_what_runs_nothing_does_not_say_what_it_offers(gpuroom):
    for arguments in (("run", *SIM, "--dry-run", "--", "true"), ("env", *SIM)):
        assert gpuroom(*arguments, env={"GPUROOM_QUIET": "0"}).stderr == ""
