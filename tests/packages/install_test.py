"""What `make install` puts below a prefix: complete, found by its own parts and by other programs, and removable."""

import os
import pathlib
import re
import shutil
import stat

import pytest
from conftest import BUILD, SOURCE, clean_environment, files_below, passes, run

pytestmark = pytest.mark.skipif(BUILD is None, reason="needs a build: run it through ctest")
PAGES = ["gpuroom", *(f"gpuroom-{name}" for name in ("run", "env", "sleep", "wake", "hint", "ps", "top", "exporter", "demo", "doctor", "plan", "trace", "bench",
                                                     "bench-tiers", "bench-sleep"))]
# Where Python's headers are, as everywhere after `make deps`.
FILES = {
    "bin/gpuroom", "lib/gpuroom/libgpuroom.so", "lib/gpuroom/libgpuroom_compat.so", "lib/gpuroom/gpuroom-demo",
    "lib/gpuroom/python/cumem_allocator.abi3.so",
    "lib/gpuroom/sim/libcuda.so.1", "lib/gpuroom/sim/libnvidia-ml.so.1",
    "lib/cmake/gpuroom/gpuroomConfig.cmake", "lib/cmake/gpuroom/gpuroomConfigVersion.cmake",
    "lib/pkgconfig/gpuroom.pc", "lib/pkgconfig/gpuroom-simulator.pc",
    "share/gpuroom/plot_results.py", "share/gpuroom/plot_tiers.py", "share/gpuroom/plot_sleep.py",
    "share/gpuroom/files.txt",
    "share/bash-completion/completions/gpuroom", "share/fish/vendor_completions.d/gpuroom.fish",
    "share/zsh/site-functions/_gpuroom", "share/zsh/vendor-completions/_gpuroom",
    "share/doc/gpuroom/LICENSE", "share/doc/gpuroom/THIRD_PARTY_NOTICES.txt", "share/doc/gpuroom/gpuroom.cdx.json",
    *(f"share/man/man1/{page}.1" for page in PAGES),
}  # fmt: skip
INSTALL = SOURCE / "scripts/install.sh"


def test_installs_the_parts_and_nothing_else(prefix):
    files = files_below(prefix)
    many = ("include/gpuroom/", "lib/gpuroom/plugins/", "lib/gpuroom/python/gpuroom/")
    assert {name for name in files if not name.startswith(many)} == FILES
    assert {"lib/gpuroom/plugins/gpuroom_run.py", "lib/gpuroom/python/gpuroom/vllm/__init__.py",
            "lib/gpuroom/python/gpuroom/top/_view.py"} <= set(files)
    assert "include/gpuroom/gpuroom.h" in files


def test_libraries_are_files_and_no_links(prefix):
    assert not [p for p in prefix.rglob("*") if p.is_symlink()]


def test_the_installed_command_runs(prefix):
    assert passes(prefix / "bin/gpuroom", "--version").startswith("gpuroom ")


def test_the_installed_command_finds_its_own_libraries(prefix):
    output = passes(prefix / "bin/gpuroom", "run", "--quiet", "--sim", "1GiB,host=1GiB", "--host-limit", "64MiB", "--", "/bin/sh",
                    "-c", 'echo "$LD_PRELOAD $LD_LIBRARY_PATH"')  # fmt: skip
    preload, search = output.split()
    assert pathlib.Path(preload) == prefix / "lib/gpuroom/libgpuroom.so"
    assert pathlib.Path(search.split(":")[0]) == prefix / "lib/gpuroom/sim"


# The C library that the wheels promise to do with. They are built by another compiler, against the symbols of glibc 2.28, which
# takes too long for every change: `make nightly` builds them and reads theirs. But what this build calls, they call, too.

NEWEST_GLIBC = (2, 28)
# Those that glibc 2.28 has as well, under an older version or as a function of its headers, which it turned into a symbol since.
IN_OLDER_GLIBC = re.compile(
    r"_?_?pthread_\w+|dl(addr|error|info|open|close|sym|vsym)|[fl]?stat(at)?(64)?|mknod(at)?|__libc_start_main|sem_\w+"
    r"|exp|log|log2|pow|fmod|shm_(open|unlink)|timer_\w+|getaddrinfo|__isoc23_\w+")  # fmt: skip
NEW_PTHREAD = {"pthread_clockjoin_np", "pthread_mutex_clocklock", "sem_clockwait"}
# Those that GNU's C++ runtime calls for itself where they are; the wheels hold LLVM's.
OF_THE_CPP_RUNTIME = {"__libc_single_threaded", "_dl_find_object", "arc4random", "pthread_cond_clockwait",
                      "pthread_rwlock_clockrdlock", "pthread_rwlock_clockwrlock"}  # fmt: skip


def too_new(binary):
    """The symbols of the C library that a binary calls and that glibc 2.28 has not."""
    symbols = re.findall(r" UND (\w+)@GLIBC_(\d+)\.(\d+)", passes("readelf", "--dyn-syms", "--wide", binary))
    newer = {name for name, major, minor in symbols if (int(major), int(minor)) > NEWEST_GLIBC}
    return {name for name in newer - OF_THE_CPP_RUNTIME if name in NEW_PTHREAD or not IN_OLDER_GLIBC.fullmatch(name)}


def test_calls_nothing_that_the_wheels_c_library_lacks(prefix):
    found = [path for path in prefix.rglob("*") if path.is_file() and path.read_bytes()[:4] == b"\x7fELF"]
    assert len(found) >= 6
    assert {path.name: too_new(path) for path in found if too_new(path)} == {}


@pytest.mark.parametrize("call, names", [("close_range(3, 4, 0)", {"close_range"}), ("pipe2((int[2]){0}, 0)", set())])
def test_a_newer_function_of_the_c_library_trips_it(tmp_path, call, names):
    source = "#define _GNU_SOURCE\n#include <dlfcn.h>\n#include <sys/stat.h>\n#include <unistd.h>\n"
    source += f'int main(void) {{ struct stat s; return stat("/", &s) + (dlopen(0, 0) != 0) + {call}; }}\n'
    (tmp_path / "a.c").write_text(source)
    passes("cc", tmp_path / "a.c", "-o", tmp_path / "a", "-ldl")
    assert too_new(tmp_path / "a") == names


# Programs outside the tree.


def compiled_by_cmake(prefix, folder):
    passes("cmake", "-S", SOURCE / "tests/packages/sample", "-B", folder, f"-DCMAKE_PREFIX_PATH={prefix}")
    passes("cmake", "--build", folder)
    return folder / "sample"


def compiled_by_pkg_config(prefix, folder):
    variables = clean_environment(PKG_CONFIG_PATH=str(prefix / "lib/pkgconfig"))
    flags = passes("pkg-config", "--cflags", "--libs", "gpuroom", "gpuroom-simulator", env=variables).split()
    passes("cc", SOURCE / "tests/packages/sample/sample.c", "-o", folder / "sample", *flags)
    return folder / "sample"


@pytest.mark.parametrize("build", [compiled_by_cmake, compiled_by_pkg_config])
def test_a_program_outside_the_tree_builds_and_runs(prefix, tmp_path, build):
    output = passes(build(prefix, tmp_path), env=clean_environment(GPUROOM_SIM="2x1GiB,host=1GiB"))
    assert output == "devices 2, not placed\n"


def test_find_package_names_the_file_that_is_missing(prefix, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(prefix, broken)
    (broken / "lib/gpuroom/libgpuroom.so").unlink()
    status, output = run("cmake", "-S", SOURCE / "tests/packages/sample", "-B", tmp_path / "build",
                         f"-DCMAKE_PREFIX_PATH={broken}")  # fmt: skip
    assert status != 0 and "libgpuroom.so' is missing" in " ".join(output.split())


# Manual pages and completions.


@pytest.mark.parametrize("page", PAGES)
def test_man_finds_the_page(prefix, page):
    variables = clean_environment(MANPATH=str(prefix / "share/man"), MANWIDTH="80", LC_ALL="C", PAGER="cat")
    text = passes("man", "--warnings", page, env=variables)
    assert f"{page.upper()}(1)" in text and ": warning" not in text
    assert "SYNOPSIS" in text and "SEE ALSO" in text


def test_the_page_of_run_has_every_option_of_its_help(prefix):
    variables = clean_environment(MANPATH=str(prefix / "share/man"), MANWIDTH="200", LC_ALL="C", PAGER="cat")
    text = passes("man", "gpuroom-run", env=variables)
    lines = passes(prefix / "bin/gpuroom", "help", "run").splitlines()
    options = [line.split()[0] for line in lines if line.startswith("  --")]
    assert len(options) > 15 and not [option for option in options if option not in text]


def test_the_page_of_env_has_its_options_and_those_of_run(prefix):
    variables = clean_environment(MANPATH=str(prefix / "share/man"), MANWIDTH="200", LC_ALL="C", PAGER="cat")
    text = passes("man", "gpuroom-env", env=variables)
    options = re.search(r"\nOPTIONS\n(.*?)\n[A-Z]", text, re.DOTALL).group(1)
    names = set(re.findall(r"^ +(?:-\w, )?(--[\w-]+)", options, re.MULTILINE))
    assert {"--format", "--hbm-limit", "--policy", "--sim", "--sysroot", "--help"} <= names
    assert not {"--dry-run", "--json"} & names and "with --dry-run" not in options


def bash_completion(prefix, *words):
    """What bash offers for the last of the words."""
    script = f"""
source {prefix}/share/bash-completion/completions/gpuroom
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_gpuroom
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    variables = clean_environment(PATH=f"{prefix}/bin:{os.environ['PATH']}")
    return passes("bash", "--norc", "-c", script, "bash", *words, env=variables).split()


def zsh_completion(prefix, tmp_path, *words):
    """What zsh offers for the last of the words, in an interactive shell in a terminal of zsh's own making."""
    script = f"""
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell 'PS1=; fpath=({prefix}/share/zsh/site-functions $fpath); autoload -U compinit; compinit -u -d {tmp_path}/dump'
zpty -w shell 'PATH={prefix}/bin:$PATH; setopt no_list_beep; LISTMAX=1000; bindkey "^I" complete-word'
zpty -w shell 'zstyle ":completion:*" list-colors "no=<begin>:ec=<end>"; print re''ady'
zpty -r shell line '*ready*'
zpty -w -n shell $'{" ".join(words)}\\t\\t\\C-u'
zpty -w shell 'print fin''ished'
zpty -r shell line '*finished*'
print -r -- $line
zpty -d shell
"""
    output = passes("zsh", "-f", "-c", script, env=clean_environment(TERM="xterm", COLUMNS="200"))
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x1f]", "", output)  # without what moves the cursor


def test_bash_completes_commands(prefix):
    assert {"run", "doctor", "sleep", "bench"} <= set(bash_completion(prefix, "gpuroom", ""))
    assert bash_completion(prefix, "gpuroom", "do") == ["doctor"]


def test_bash_completes_options_and_their_values(prefix):
    assert bash_completion(prefix, "gpuroom", "run", "--hbm") == ["--hbm-limit"]
    assert bash_completion(prefix, "gpuroom", "run", "--policy", "b") == ["balanced"]
    assert bash_completion(prefix, "gpuroom", "run", "--backend", "") == ["tiers", "managed"]
    assert bash_completion(prefix, "gpuroom", "sleep", "--action", "d") == ["disk", "drop"]
    assert bash_completion(prefix, "gpuroom", "bench", "t") == ["tiers"]
    assert bash_completion(prefix, "gpuroom", "env", "--policy", "b") == ["balanced"]
    assert bash_completion(prefix, "gpuroom", "env", "--format", "") == ["sh", "json", "docker", "k8s", "ray", "slurm"]
    assert "--allocations" in bash_completion(prefix, "gpuroom", "bench", "sleep", "--a")


def test_bash_completes_every_option_of_the_help(prefix):
    lines = passes(prefix / "bin/gpuroom", "help", "run").splitlines()
    options = {line.split()[0] for line in lines if line.startswith("  --")}
    assert options <= set(bash_completion(prefix, "gpuroom", "run", "--"))


def test_bash_completes_the_program_after_two_dashes(prefix):
    assert "gpuroom" in bash_completion(prefix, "gpuroom", "run", "--json", "--", "gpuroo")


def test_zsh_completes_options_and_their_values(prefix, tmp_path):
    assert "--hbm-limit" in zsh_completion(prefix, tmp_path, "gpuroom", "run", "--hbm")
    assert "balanced" in zsh_completion(prefix, tmp_path, "gpuroom", "run", "--policy", "b")
    assert "doctor" in zsh_completion(prefix, tmp_path, "gpuroom", "doc")


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed; `scripts/deps.sh nightly` does")
def test_fish_completes_options_and_their_values(prefix, tmp_path):
    variables = clean_environment(HOME=str(tmp_path), PATH=f"{prefix}/bin:{os.environ['PATH']}")

    def offered(line):
        script = f"source {prefix}/share/fish/vendor_completions.d/gpuroom.fish; complete -C '{line}'"
        output = passes("fish", "--no-config", "-c", script, env=variables)
        return {entry.split("\t")[0] for entry in output.splitlines()}

    assert {"run", "doctor"} <= offered("gpuroom ")
    assert offered("gpuroom run --hbm") == {"--hbm-limit"}
    assert offered("gpuroom run --policy b") == {"balanced"}
    assert "tiers" in offered("gpuroom bench ")


# Removing it, and what goes wrong: with a build of two files, since that of the product is large.
SMALL = {"bin/gpuroom", "lib/gpuroom/libgpuroom.so", "share/gpuroom/files.txt"}


@pytest.fixture
def small_build(tmp_path):
    folder = tmp_path / "build"
    folder.mkdir()
    lines = []
    for name in sorted(SMALL - {"share/gpuroom/files.txt"}):
        path = pathlib.PurePath(name)
        (folder / path.name).write_text(name)
        lines.append(f'file(INSTALL DESTINATION "${{CMAKE_INSTALL_PREFIX}}/{path.parent}" TYPE FILE FILES "{folder / path.name}")')
    (folder / "cmake_install.cmake").write_text("\n".join(lines))
    return folder


def test_uninstalling_leaves_nothing_but_what_others_put_there(small_build, tmp_path):
    folder = tmp_path / "usr"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/other").write_text("another program")
    passes("bash", INSTALL, "install", folder, small_build)
    assert (folder / "bin/gpuroom").exists()
    passes("bash", INSTALL, "uninstall", folder)
    assert files_below(folder) == {"bin/other"}
    assert {path.name for path in folder.rglob("*")} == {"bin", "other"}


def test_a_second_installation_removes_what_only_the_first_had(small_build, tmp_path):
    folder = tmp_path / "usr"
    passes("bash", INSTALL, "install", folder, small_build)
    (folder / "share/gpuroom/old.py").write_text("a part of an older version")
    with open(folder / "share/gpuroom/files.txt", "a") as file:
        file.write("share/gpuroom/old.py\n")
    passes("bash", INSTALL, "install", folder, small_build)
    assert files_below(folder) == SMALL


def test_destdir_goes_before_the_prefix(small_build, tmp_path):
    passes("bash", INSTALL, "install", "/opt/gpuroom", small_build, env=clean_environment(DESTDIR=str(tmp_path)))
    assert (tmp_path / "opt/gpuroom/bin/gpuroom").exists()


@pytest.mark.parametrize("action", ["check", "install", "uninstall"])
def test_a_prefix_that_cannot_be_used_is_one_sentence(tmp_path, action):
    file = tmp_path / "file"
    file.write_text("")
    status, output = run("bash", INSTALL, action, file, BUILD)
    assert status == 1 and "is no folder; name another with PREFIX=DIR" in output and output.count("\n") == 1
    status, output = run("bash", INSTALL, action, "relative", BUILD)
    assert status == 1 and "is relative" in output and output.count("\n") == 1


@pytest.mark.skipif(os.geteuid() == 0 and shutil.which("setpriv") is None, reason="root may write everywhere")
def test_a_prefix_without_permission_is_one_sentence_and_nothing_is_written(tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o555)
    for parent in [tmp_path, *tmp_path.parents]:  # another user has to reach it
        if parent.stat().st_uid == os.geteuid() and parent != pathlib.Path("/"):
            parent.chmod(parent.stat().st_mode | stat.S_IXOTH | stat.S_IROTH)
    script = tmp_path / "install.sh"
    shutil.copy(INSTALL, script)
    drop = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"] if os.geteuid() == 0 else []
    status, output = run(*drop, "bash", script, "check", folder / "below", cwd="/")
    assert status == 1 and "cannot be written to" in output and "sudo make" in output and output.count("\n") == 1
    assert not list(folder.iterdir())


def test_uninstalling_where_nothing_is_says_so(tmp_path):
    status, output = run("bash", INSTALL, "uninstall", tmp_path)
    assert status == 1 and "is gpuroom installed below" in output and output.count("\n") == 1


def test_an_installation_that_fails_half_way_is_removed(small_build, tmp_path):
    """A folder stands where a file belongs, so that one cannot be written."""
    folder = tmp_path / "usr"
    (folder / "lib/gpuroom/libgpuroom.so/in-the-way").mkdir(parents=True)
    status, output = run("bash", INSTALL, "install", folder, small_build)
    assert status == 1 and "are removed again" in output
    assert files_below(folder) == set()
