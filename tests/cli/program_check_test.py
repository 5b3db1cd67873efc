"""What cannot be run under gpuroom is refused before it starts: 126, or 127 where it is not found."""

import os
import random
import shutil
import struct
import subprocess
import tempfile

import elf
import pytest


def refused(gpuroom, status, *words, command, **options):
    return gpuroom.refuses(status, *words, arguments=["run", "--dry-run", "--", *command], **options)


def accepted(gpuroom, *command, **options):
    return gpuroom.plan("--", *command, **options)


def test_command_not_found(gpuroom):
    refused(gpuroom, 127, "'no-such-command-here'", "PATH", command=["no-such-command-here"])


def test_path_not_found(gpuroom, tmp_path):
    refused(gpuroom, 127, "was not found", command=[tmp_path / "absent"])


def test_path_through_a_file(gpuroom, script):
    refused(gpuroom, 127, "was not found", command=[script("file", "x") / "below"])


def test_empty_command(gpuroom):
    refused(gpuroom, 127, "empty", command=[""])


def test_directory(gpuroom, tmp_path):
    refused(gpuroom, 126, "is a directory", command=[tmp_path])


def test_fifo(gpuroom, tmp_path):
    os.mkfifo(tmp_path / "fifo", 0o755)
    refused(gpuroom, 126, "not a regular file", command=[tmp_path / "fifo"])


def test_dangling_link(gpuroom, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "absent")
    refused(gpuroom, 127, "was not found", command=[tmp_path / "link"])


def test_not_executable(gpuroom, script):
    refused(gpuroom, 126, "not executable", "chmod +x", command=[script("plain", "#!/bin/sh\n", mode=0o644)])


def test_not_executable_in_path(gpuroom, script, tmp_path):
    script("plain", "#!/bin/sh\n", mode=0o644)
    refused(gpuroom, 126, "not executable", command=["plain"], env={"PATH": str(tmp_path)})


def test_path_search_passes_over_what_cannot_run(gpuroom, tmp_path):
    for folder, mode in (("first", 0o644), ("second", 0o755)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "tool").write_text("#!/bin/sh\n")
        (tmp_path / folder / "tool").chmod(mode)
    plan = accepted(gpuroom, "tool", env={"PATH": f"{tmp_path}/first:{tmp_path}/second"})
    assert plan["program"] == f"{tmp_path}/second/tool"


def test_empty_element_of_path_is_the_current_directory(gpuroom, script, tmp_path):
    script("tool", "#!/bin/sh\n")
    assert accepted(gpuroom, "tool", env={"PATH": "/nowhere:"}, cwd=tmp_path)["program"] == "./tool"


def test_ordinary_program(gpuroom, script):
    assert accepted(gpuroom, script("program", elf.program()))["program"].endswith("program")
    assert accepted(gpuroom, script("fixed", elf.program(kind=elf.EXEC)))


def warned(gpuroom, *words, command, **options):
    """CMD would be run, after one line that has all `words`."""
    done = gpuroom("run", "--dry-run", "--json", "--", *command, **options)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("gpuroom: ")
    for word in words:
        assert word in lines[0]


def silent(gpuroom, *command, **options):
    """CMD would be run, without a word."""
    done = gpuroom("run", "--dry-run", "--json", "--", *command, **options)
    assert (done.returncode, done.stderr) == (0, ""), done


@pytest.mark.parametrize("kind", [elf.EXEC, elf.DYN])
def test_static_program(gpuroom, script, kind):
    """It may be a launcher: what it starts is served."""
    static = script("static", elf.program(interpreter=None, kind=kind))
    warned(gpuroom, f"'{static}' is statically linked", "without gpuroom", command=[static])


def test_the_loader_itself_is_not_a_static_program(gpuroom):
    if not os.access(elf.LOADER, os.X_OK):
        pytest.skip(f"{elf.LOADER} is not here")
    accepted(gpuroom, elf.LOADER, "/bin/true")


def test_a_link_to_the_loader_is_not_a_static_program(gpuroom, tmp_path):
    if not os.access(elf.LOADER, os.X_OK):
        pytest.skip(f"{elf.LOADER} is not here")
    (tmp_path / "ld.so").symlink_to(elf.LOADER)  # as distributions have one in /usr/bin
    accepted(gpuroom, tmp_path / "ld.so", "/bin/true")


def test_32_bit_program(gpuroom, script):
    refused(gpuroom, 126, "32-bit", command=[script("old", elf.program32())])


def test_program_for_another_machine(gpuroom, script):
    name = "64-bit Arm" if elf.HERE == "x86_64" else "x86-64"
    refused(gpuroom, 126, f"built for {name}", command=[script("p", elf.program(machine=elf.OTHER_MACHINE))])
    refused(gpuroom, 126, "another processor", command=[script("q", elf.program(machine=0x1234))])


def test_big_endian_program(gpuroom, script):
    refused(gpuroom, 126, "not for this machine", command=[script("p", elf.program(data=2))])


@pytest.mark.parametrize("kind", [elf.REL, elf.CORE])
def test_object_and_core_files(gpuroom, script, kind):
    refused(gpuroom, 126, "object or core file", command=[script("p", elf.program(kind=kind))])


@pytest.mark.parametrize(
    "damage",
    [
        {"phoff": 1 << 63},
        {"phoff": (1 << 64) - 1},
        {"phoff": 4096},
        {"phnum": 0},
        {"phnum": 0xFFFF},
        {"phnum": 200},
        {"phentsize": 0},
        {"phentsize": 32},
        {"load_size": 1 << 40},
        {"interp_offset": (1 << 64) - 8},
        {"interp_offset": 1 << 40},
        {"interp_size": 0},
        {"interp_size": 1},
        {"interp_size": 5},
        {"interp_size": (1 << 64) - 1},
        {"elf_class": 0},
        {"elf_class": 9},
        {"kind": 0},
        {"kind": 0xFE00},
    ],
)
def test_damaged_program(gpuroom, script, damage):
    refused(gpuroom, 126, "damaged or truncated", command=[script("p", elf.program(**damage))])


def test_truncated_at_every_length(gpuroom, script):
    whole = elf.program()
    for length in range(4, len(whole)):
        refused(gpuroom, 126, "damaged or truncated", command=[script("p", whole[:length])])


def test_missing_loader(gpuroom, script):
    refused(gpuroom, 126, "/no/such/loader.so", command=[script("p", elf.program(interpreter="/no/such/loader.so"))])


def test_musl_program(gpuroom, script, tmp_path):
    loader = script("ld-musl-x86_64.so.1", elf.program(interpreter=None))
    refused(gpuroom, 126, "musl", command=[script("p", elf.program(interpreter=str(loader)))])


# As bundles may call it.
@pytest.mark.parametrize("name", ["libc.so", "loader"])
def test_musl_program_with_a_loader_of_its_own(gpuroom, script, name):
    text = b"musl libc (x86_64)\nVersion %s\nDynamic Program Loader\n"
    loader = script(name, elf.program(interpreter=None) + bytes(100_000) + text)
    refused(gpuroom, 126, "musl", command=[script("p", elf.program(interpreter=str(loader)))])


def test_loader_of_any_other_name(gpuroom, script):
    loader = script("loader", elf.program(interpreter=None))
    done = gpuroom("run", "--dry-run", "--", script("p", elf.program(interpreter=str(loader))))
    assert done.returncode == 0, done


def test_random_damage_is_answered(gpuroom, script):
    """Whatever the bytes, an answer: a plan, or one sentence. Seeded, so that a failure comes again."""
    source = random.Random(20261120)
    for _ in range(60):
        data = bytearray(elf.program())
        for _ in range(source.randrange(1, 12)):
            data[source.randrange(4, len(data))] = source.choice((0, 1, 0x7F, 0xFF, source.randrange(256)))
        done = gpuroom("run", "--dry-run", "--", script("p", bytes(data)))
        assert done.returncode in (0, 126), (data.hex(), done)


def test_names_from_files_do_not_drive_the_terminal(gpuroom, script):
    text = refused(gpuroom, 126, "is not here", command=[script("s", b"#!/no/such/\x1b[31mred\xff\xc2\x9b\xc3\xa9\n")])
    assert "/no/such/?[31mred??\u00e9'" in text


def test_names_from_arguments_do_not_break_the_line(gpuroom):
    refused(gpuroom, 127, "'no?such?[31m'", command=["no\nsuch\x1b[31m"])


def test_binary_garbage(gpuroom, script):
    refused(gpuroom, 126, "neither an ELF program nor a script", command=[script("p", b"MZ\0\1\2")])


@pytest.mark.parametrize("interpreter", ["/no/such/interpreter", "/no/such/python3 -u"])
def test_script_without_its_interpreter(gpuroom, script, interpreter):
    refused(gpuroom, 126, "/no/such", "is not here", command=[script("s", f"#!{interpreter}\n")])


def test_script_that_names_nothing(gpuroom, script):
    refused(gpuroom, 126, "names no interpreter", command=[script("s", "#!  \n")])


def test_script_with_a_static_interpreter(gpuroom, script):
    static = script("static", elf.program(interpreter=None))
    warned(gpuroom, f"'{static}' is statically linked", command=[script("s", f"#! {static} -x\n")])


def test_script_with_a_32_bit_interpreter(gpuroom, script):
    old = script("old", elf.program32())
    refused(gpuroom, 126, f"'{old}' is a 32-bit program", command=[script("s", f"#! {old} -x\n")])


def test_script_of_a_script(gpuroom, script):
    old = script("old", elf.program32())
    inner = script("inner", f"#!{old}\n")
    refused(gpuroom, 126, "32-bit", command=[script("outer", f"#!{inner}\n")])


def test_script_that_runs_itself(gpuroom, script, tmp_path):
    refused(gpuroom, 126, "too many scripts", command=[script("loop", f"#!{tmp_path}/loop\n")])


@pytest.mark.parametrize("line", ["/usr/bin/env old", "/usr/bin/env -S old -x", "/usr/bin/env -S A=1 old", "/usr/bin/env -vS old", "/usr/bin/env --split-string=old"])
def test_env_is_followed(gpuroom, script, tmp_path, line):
    script("old", elf.program32())
    refused(gpuroom, 126, "32-bit", command=[script("s", f"#!{line}\n")], env={"PATH": f"{tmp_path}:/usr/bin:/bin"})


def test_env_of_something_absent(gpuroom, script):
    refused(gpuroom, 127, "'no-such-python'", command=[script("s", "#!/usr/bin/env no-such-python\n")])


def test_env_as_the_command(gpuroom, script):
    refused(gpuroom, 126, "32-bit", command=["env", "A=1", script("old", elf.program32())])
    silent(gpuroom, "env", "A=1", "true")
    silent(gpuroom, "env", "PATH=/elsewhere", "only-there")
    silent(gpuroom, "env", "-C", "/", "./only-there")
    silent(gpuroom, "env")


def launcher(script, name):
    """A program of that name, as machines without it have none."""
    return script(name, elf.program())


@pytest.mark.parametrize(
    "words",
    [
        ["env", "A=1"], ["env", "-u", "HOME"], ["env", "--unset=HOME", "--"], ["env", "-S", "-u HOME A=1"], ["nice", "-n", "5"],
        ["nice", "-5"], ["nohup"], ["setsid", "-w"], ["stdbuf", "-oL"], ["stdbuf", "-o", "L"], ["timeout", "-k", "5", "60"],
        ["timeout", "--signal", "INT", "60"], ["ionice", "-c2", "-n", "7"], ["taskset", "-c", "0"], ["chrt", "-b", "0"],
        ["numactl", "-N", "0", "--membind=0"], ["setpriv", "--reuid", "5", "--nnp"], ["time", "-f", "%e"],
        ["env", "timeout", "60", "nice", "env"],
    ],
)  # fmt: skip
def test_launchers_are_followed(gpuroom, script, tmp_path, words):
    for name in ("nice", "nohup", "setsid", "stdbuf", "timeout", "ionice", "taskset", "chrt", "numactl", "setpriv", "time"):
        launcher(script, name)
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    refused(gpuroom, 126, "32-bit", command=[*words, script("old", elf.program32()), "-i", "--reset-env"], env=path)
    silent(gpuroom, *words, "true", env=path)


@pytest.mark.parametrize(
    "words, drops",
    [
        (["env", "-i"], "env -i"), (["env", "-"], "env -"), (["env", "-iv"], "env -i"), (["env", "-vi", "A=1"], "env -i"),
        (["env", "--ignore-environment"], "env --ignore-environment"), (["env", "--ign"], "env --ign"),
        (["env", "-u", "LD_PRELOAD"], "env -u LD_PRELOAD"), (["env", "-uLD_PRELOAD"], "env -u LD_PRELOAD"),
        (["env", "--unset=LD_PRELOAD"], "env -u LD_PRELOAD"), (["env", "--unset", "LD_PRELOAD"], "env -u LD_PRELOAD"),
        (["env", "-u", "HOME", "-u", "LD_PRELOAD"], "env -u LD_PRELOAD"), (["env", "LD_PRELOAD="], "env LD_PRELOAD"),
        (["env", "LD_PRELOAD=libm.so.6", "A=1"], "env LD_PRELOAD"), (["env", "-S", "-i A=1"], "env -i"), (["env", "-S-i"], "env -i"),
        (["nice", "env", "-i"], "env -i"), (["timeout", "60", "nice", "-n", "1", "env", "-i"], "env -i"),
        (["setpriv", "--reset-env"], "setpriv --reset-env"), (["setpriv", "--reuid", "5", "--reset-env"], "setpriv --reset-env"),
        (["su", "-", "me", "-c"], "su -"), (["su", "-l", "me", "-c"], "su -l"), (["runuser", "-u", "me", "--login"], "runuser --login"),
        (["nsenter", "-t", "1", "-e"], "nsenter -e"), (["nsenter", "--env", "--target", "1"], "nsenter --env"),
        (["sudo"], "sudo"), (["sudo", "-E", "-u", "me"], "sudo"), (["sudo", "--preserve-env"], "sudo"), (["doas"], "doas"),
        (["pkexec"], "pkexec"), (["ssh", "host"], "ssh"), (["docker", "run", "image"], "docker"), (["podman", "exec", "c"], "podman"),
        (["kubectl", "exec", "pod", "--"], "kubectl"), (["systemd-run", "--user"], "systemd-run"),
        (["apptainer", "exec", "image"], None), (["singularity", "-e"], "singularity -e"),
        (["sudo", "--preserve-env=LD_PRELOAD"], None), (["systemd-run", "--scope", "--user"], None), (["su", "me", "-c"], None),
        (["runuser", "-u", "me", "--"], None), (["nsenter", "-t", "1", "-m"], None), (["setpriv", "--nnp"], None),
    ],
)  # fmt: skip
def test_launchers_that_do_not_pass_the_library_on_are_told_of(gpuroom, script, tmp_path, words, drops):
    for name in {word for word in words if word.isalpha() or word == "systemd-run"} - {"env", "me", "host", "run", "image"}:
        launcher(script, name)
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    if drops is None:
        silent(gpuroom, *words, "true", env=path)
    else:
        warned(gpuroom, f"'{drops}", "runs without gpuroom", "gpuroom run", command=[*words, "true"], env=path)


def test_a_refusal_is_the_only_line(gpuroom):
    for options in (["--sim", "nan"], ["--rules", "/no/such/file"], ["--stats-file", "/no/such/folder/file"]):
        for dry in ([], ["--dry-run"]):
            gpuroom.refuses(2, options[0], arguments=["run", *options, *dry, "--", "env", "-i", "true"])


def test_a_script_s_env_that_drops_the_library_is_told_of(gpuroom, script):
    warned(gpuroom, "'env -i'", command=[script("s", "#!/usr/bin/env -iS python3 -u\n")])


def test_a_run_behind_the_launcher_needs_no_warning(gpuroom):
    silent(gpuroom, "env", "-i", gpuroom.binary, "run", "--", "true")
    silent(gpuroom, "env", "-i", f"LD_PRELOAD={gpuroom.shim}", "true")


def test_nothing_is_started_nothing_is_lost(gpuroom):
    silent(gpuroom, "env", "-i")
    silent(gpuroom, "env", "-i", "A=1")
    silent(gpuroom, "env", "-u")


def test_env_of_ever_more_env(gpuroom):
    silent(gpuroom, *["env"] * 10_000, "true")
    silent(gpuroom, "env", "-S", "-S " * 10_000)


@pytest.fixture
def system(script, tmp_path):
    """system([versions]) makes a loader with a C library beside it, and returns a program for them."""

    def make(offers, libc="libc.so.6"):
        loader = script("ld-linux-test.so.2", elf.program(interpreter=None))
        if offers is not None:
            (tmp_path / libc).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / libc).write_bytes(elf.program(interpreter=None, offers=offers))
        return script("program", elf.program(interpreter=str(loader), needs=["GLIBC_2.2.5"]))

    return make


OLD = ["GLIBC_2.2.5", "GLIBC_2.14"]


def test_a_c_library_that_is_too_old(gpuroom, system, tmp_path):
    program = system(OLD)
    refused(gpuroom, 126, f"'{program}'", f"'{tmp_path}/libc.so.6'", "too old", "GLIBC_2.", command=[program])
    refused(gpuroom, 126, f"'{program}'", "too old", command=["env", "A=1", program])


def test_a_script_whose_interpreter_has_an_old_c_library(gpuroom, system, script):
    program = system(OLD)
    refused(gpuroom, 126, f"'{program}'", "too old", command=[script("s", f"#!{program}\n")])


def needed_versions(gpuroom):
    """Of libc.so.6 by the library, as the linker's own tool reads them."""
    text = subprocess.run(["objdump", "-p", gpuroom.shim], capture_output=True, text=True, check=True).stdout
    block = text.split("required from libc.so.6:")[1].split("required from")[0]
    return [line.split()[-1] for line in block.splitlines() if "GLIBC_" in line]


@pytest.mark.skipif(shutil.which("objdump") is None, reason="objdump is not here")
def test_one_missing_version_is_enough_and_is_named(gpuroom, system):
    versions = needed_versions(gpuroom)
    silent(gpuroom, system(versions))
    newest = max(versions, key=lambda name: [int(part) for part in name[len("GLIBC_"):].split(".")])
    refused(gpuroom, 126, f"it has no {newest};", command=[system([name for name in versions if name != newest])])


def test_a_c_library_that_cannot_be_read_passes(gpuroom, system, tmp_path):
    silent(gpuroom, system(None))
    silent(gpuroom, system([]))
    program = system(OLD)
    (tmp_path / "libc.so.6").write_bytes(b"GROUP ( libc.so.7 )")
    silent(gpuroom, program)
    (tmp_path / "libc.so.6").unlink()
    os.mkfifo(tmp_path / "libc.so.6")
    silent(gpuroom, program)


@pytest.mark.parametrize("folder", ["lib64", "usr/lib64", "lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"])
@pytest.mark.skipif(elf.HERE != "x86_64", reason="the folders' names are those of x86-64")
def test_the_c_library_is_found_in_the_loaders_root(gpuroom, script, tmp_path, folder):
    loader = tmp_path / "lib" / "ld-linux-test.so.2"
    loader.parent.mkdir()
    loader.write_bytes(elf.program(interpreter=None))
    loader.chmod(0o755)
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    (tmp_path / folder / "libc.so.6").write_bytes(elf.program(interpreter=None, offers=OLD))
    refused(gpuroom, 126, f"'{tmp_path}/{folder}/libc.so.6'", command=[script("p", elf.program(interpreter=str(loader)))])


def test_text_without_an_interpreter_runs_in_the_shell(gpuroom, script):
    accepted(gpuroom, script("s", "exit 5\n"))


@pytest.fixture
def own_true(tmp_path):
    path = tmp_path / "true"
    shutil.copy(shutil.which("true"), path)
    path.chmod(0o755)
    return path


def skip_where_set_uid_means_nothing(path):
    if os.statvfs(path).f_flag & os.ST_NOSUID:
        pytest.skip("the temporary folder is mounted nosuid: set-uid bits mean nothing there")
    with open("/proc/self/status") as status:
        if "NoNewPrivs:\t1" in status.read():
            pytest.skip("this process may gain no rights (no_new_privs): set-uid bits mean nothing")


@pytest.mark.skipif(os.getuid() != 0, reason="giving a file to another user takes root")
@pytest.mark.parametrize("mode", [0o4755, 0o2755])
def test_set_uid_program_of_another_user(gpuroom, own_true, mode):
    skip_where_set_uid_means_nothing(own_true)
    os.chown(own_true, 65534, 65534)
    own_true.chmod(mode)
    refused(gpuroom, 126, "set-uid", "loader would ignore", command=[own_true])


@pytest.mark.skipif(os.getuid() != 0, reason="giving a file to another user takes root")
@pytest.mark.parametrize("text", ["#!/bin/sh\n", "exit 0\n"])
def test_set_uid_script_of_another_user_runs_with_ones_own_rights(gpuroom, script, text):
    path = script("s", text)
    skip_where_set_uid_means_nothing(path)
    os.chown(path, 65534, 65534)
    path.chmod(0o6755)
    accepted(gpuroom, path)


def test_set_uid_to_oneself_changes_nothing(gpuroom, own_true):
    own_true.chmod(0o6755)
    os.chown(own_true, os.getuid(), os.getgid())
    own_true.chmod(0o6755)
    accepted(gpuroom, own_true)


@pytest.mark.skipif(os.getuid() != 0, reason="giving a file capabilities takes root")
def test_program_with_file_capabilities(gpuroom):
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        program = shutil.copy(shutil.which("true"), folder)
        skip_where_set_uid_means_nothing(program)
        capabilities = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)  # cap_net_raw, effective
        try:
            os.setxattr(program, "security.capability", capabilities)
        except OSError as error:
            pytest.skip(f"the file system keeps no capabilities: {error}")
        accepted(gpuroom, program)  # root has them all anyway
        if subprocess.run(["test", "-x", gpuroom.binary], user=65534, group=65534, check=False).returncode != 0:
            pytest.skip("the build folder is closed to other users")
        refused(gpuroom, 126, "file capabilities", command=[program], user=65534, group=65534)
