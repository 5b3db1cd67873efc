"""The gate for options trips where any one place that names them differs from the others."""

import shutil

import pytest

from conftest import SOURCE, Gate

gate = Gate("check_options.py")


@pytest.fixture
def change(tmp_path):
    """change(file, old, new) copies what the gate reads, with `new` in place of the first `old` of that file."""
    for name in ("src/cli", "src/base"):
        shutil.copytree(SOURCE / name, tmp_path / name)
    for name in ("README.md", "docs/cli.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(SOURCE / name, tmp_path / name)

    def make(name, old, new):
        path = tmp_path / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))
        return "--root", tmp_path

    return make


def test_passes_the_tree():
    gate.passes()


@pytest.mark.parametrize("name, old, new, said", [
    ("src/cli/tier_options.cc", 'parser->Value("--expect", &texts->expect);', "",
     "the parser of 'run' lacks --expect"),
    ("src/cli/tier_options.cc", 'parser->Value("--expect", &texts->expect);', "",
     "the parser of 'env' lacks --expect"),
    ("src/cli/help.h", "  --problems      print", "  --troubles      print",
     "the parser of 'doctor' has --problems, which its help text lacks"),
    ("src/cli/ps.cc", 'Parser parser("ps")', 'Parser parser("list")',
     "the set of parsers has list, which the set of help texts lacks"),
    ("README.md", "| `--expect SIZE` |", "| expected |", "README.md's table of run lacks --expect"),
    ("README.md", "| `GPUROOM_EXPECT` |", "| expected |", "README.md's table of variables lacks GPUROOM_EXPECT"),
    ("src/cli/variables.cc", "{env::kExpect, {}},", "", "src/cli/variables.cc lacks kExpect"),
    ("src/base/env.h", '"GPUROOM_EXPECT"', '"GPUROOM_EXPECTED"',
     "--expect is read from GPUROOM_EXPECTED, which has another name"),
    ("docs/cli.md", "| `GPUROOM_EXPECT` |", "| expected |", "'What CMD inherits', lacks GPUROOM_EXPECT"),
    ("src/cli/help.h", "GPUROOM_EXPECT,", "", "the help text of 'run' lacks GPUROOM_EXPECT"),
    ("src/cli/help.h", "k8s (a container's env list", "kubernetes (a container's env list",
     "completes FORMAT by k8s, which no help text names"),
])  # fmt: skip
def test_trips_where_one_place_differs(change, name, old, new, said):
    gate.trips(said, *change(name, old, new))
