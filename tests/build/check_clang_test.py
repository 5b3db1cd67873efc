"""The clang gates trip on an unguarded access and on a clang-tidy finding."""

import json
import shutil

import pytest

from conftest import SOURCE, Gate

gate = Gate("check_clang.py")

COUNTER = """
#include "base/mutex.h"
namespace gpuroom {{
class Counter {{
 public:
  void Add() {{ {lock} ++count_; }}
 private:
  Mutex mutex_;
  int count_ GPUROOM_GUARDED_BY(mutex_) = 0;
}};
void Use() {{ Counter counter; counter.Add(); }}
}}  // namespace gpuroom
"""


@pytest.fixture
def project(write, tmp_path):
    """project(name, text, ...) makes a tree whose only compiled sources are these."""

    def make(*names_and_texts):
        sources = [write(name, text) for name, text in zip(names_and_texts[::2], names_and_texts[1::2])]
        write("src/base/mutex.h", (SOURCE / "src/base/mutex.h").read_text())
        write(".clang-tidy", (SOURCE / ".clang-tidy").read_text())
        command = f"ccache g++ -I{tmp_path}/src -std=c++20 -Wall -Werror -o x.o -c"
        write("build/compile_commands.json",
              json.dumps([{"directory": str(tmp_path), "command": f"{command} {source}", "file": str(source)}
                          for source in sources]))
        return "--root", tmp_path, "--build", tmp_path / "build"

    return make


needs_clang = pytest.mark.skipif(not shutil.which("clang++"), reason="clang++ is missing: scripts/deps.sh lint")
needs_tidy = pytest.mark.skipif(not shutil.which("clang-tidy"), reason="clang-tidy is missing: scripts/deps.sh lint")


BOTH = pytest.mark.parametrize("gate_name, folder", [
    pytest.param("threads", "sim", marks=needs_clang), pytest.param("tidy", "src/tier", marks=needs_tidy)])


@BOTH
def test_passes_under_the_lock(project, gate_name, folder):
    gate.passes(gate_name, *project(f"{folder}/a.cc", COUNTER.format(lock="MutexLock lock(mutex_);")))


@BOTH
def test_trips_without_the_lock(project, gate_name, folder):
    gate.trips("requires holding mutex 'mutex_'", gate_name, *project(f"{folder}/a.cc", COUNTER.format(lock="")))


@BOTH
def test_trips_on_a_lock_kept(project, gate_name, folder):
    text = ('#include "base/mutex.h"\ngpuroom::Mutex g_mutex;\n'
            "void Keep(bool early) { g_mutex.Lock(); if (early) return; g_mutex.Unlock(); }\n")
    gate.trips("is not held on every path", gate_name, *project(f"{folder}/a.cc", text))


@needs_tidy
def test_tidy_passes_on_sound_code(project):
    gate.passes("tidy", *project("src/tier/a.cc", "int Twice(int x) { return 2 * x; }\n"))


@needs_tidy
@pytest.mark.parametrize("text, check", [
    ("#include <string>\n#include <utility>\nsize_t F(std::string s) { std::string t = std::move(s); "
     "return s.size() + t.size(); }\n", "bugprone-use-after-move"),
    ("int F(const char* p) { return sizeof(p) / sizeof(p[0]); }\n", "bugprone-sizeof-expression"),
    ("#include <string>\n#include <vector>\nsize_t F(const std::vector<std::string>& v) { size_t n = 0; "
     "for (const auto s : v) n += s.size(); return n; }\n", "performance-for-range-copy"),
])
def test_tidy_trips_on(project, text, check):
    gate.trips(check, "tidy", *project("src/tier/a.cc", text))


# Sources of one folder are checked as one text first.
SOUND = "namespace { int Twice(int x) { return 2 * x; } }\nint Four%s(int x) { return Twice(Twice(x)); }\n"
UNSOUND = "int F(const char* p) { return sizeof(p) / sizeof(p[0]); }\n"


@needs_tidy
def test_sources_that_define_one_name_pass(project):
    gate.passes("tidy", *project("src/tier/a.cc", SOUND % "A", "src/tier/b.cc", SOUND % "B"))


@needs_tidy
@pytest.mark.parametrize("first", ["int G() { return 1; }\n", SOUND % "A"])
def test_tidy_trips_on_one_of_several_and_names_it(project, first):
    sources = project("src/tier/a.cc", first, "src/tier/b.cc", SOUND % "B", "src/tier/c.cc", UNSOUND)
    gate.trips("src/tier/c.cc:1", "tidy", *sources)


@needs_tidy
def test_tidy_trips_on_an_unused_using_of_one_of_several(project):
    using = "namespace n { int v; }\nusing n::v;\n"
    gate.trips("misc-unused-using-decls", "tidy", *project("src/tier/a.cc", SOUND % "A", "src/tier/b.cc", using))


@needs_clang
def test_trips_when_no_source_is_compiled(project, tmp_path):
    arguments = project("sim/a.cc", "int x;\n")
    (tmp_path / "sim/a.cc").unlink()
    gate.trips("nothing was checked", "threads", *arguments)


@needs_clang
def test_trips_without_a_compilation_database(tmp_path):
    gate.trips("configure first", "threads", "--root", tmp_path, "--build", tmp_path)
