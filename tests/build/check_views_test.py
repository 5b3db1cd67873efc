"""The gate on views lets those of what outlives them pass and trips on those that a temporary can be given to."""

import pytest

from conftest import SOURCE, Gate

gate = Gate("check_views.py")

GOOD = """
std::string_view Trim(std::string_view text);
std::string_view Trim(TemporaryString auto&& text) = delete;
std::string_view NameOf(int number);
std::string_view TakeWord(std::string_view* text);
class Line {
  std::string_view Word(size_t index) const&;
  std::string_view Word(size_t index) const&& = delete;
};
"""


def test_passes_on_views_that_temporaries_cannot_have(write, tmp_path):
    write("src/base/text.h", GOOD)
    write("src/base/text.cc", '#include "base/text.h"\nstd::string_view Trim(std::string_view text) { return text; }\n')
    gate.passes("--root", tmp_path)
    assert "5 functions, 0 problems" in gate.output


@pytest.mark.parametrize("line, why", [
    ("std::string_view Cut(std::string_view text);", "Cut gives a view of its text"),
    ("std::vector<std::string_view> Split(const std::string& text, char at) {", "Split gives a view of its text"),
    ("std::optional<std::string_view> Find(std::string_view text,\n    int from);", "Find gives a view of its text"),
    ("  std::string_view Name() const { return name_; }", "Name gives a view of its object"),
])
def test_trips_on_a_view_of_a_temporary(write, tmp_path, line, why):
    write("src/base/text.h", GOOD + line + "\n")
    gate.trips(why, "--root", tmp_path)


def test_trips_where_there_is_nothing_to_check(write, tmp_path):
    write("src/base/empty.h")
    gate.trips("nothing was checked", "--root", tmp_path)


def test_passes_on_this_project():
    gate.passes("--root", SOURCE)
