"""The documents' site: links lead where they should, and one that leads nowhere fails."""

import pytest

from conftest import Gate

gate = Gate("docs.py")


@pytest.fixture
def lay_out(write, tmp_path):
    """lay_out(text) makes a tree whose docs/cli.md is that text, and returns arguments that lay its pages out."""

    def make(text):
        write("README.md", "[the command](docs/cli.md#run), [sources](src/README.md)\n")
        write("src/README.md")
        write("docs/cli.md", text)
        write("docs/pictures/doctor.svg")
        return "--only-pages", "--root", tmp_path

    return make


def test_links_between_documents_and_to_other_files(lay_out, tmp_path):
    gate.passes(*lay_out("[first](../README.md) [source](../src/README.md) ![doctor](pictures/doctor.svg) [x](#y)\n"))
    pages = tmp_path / "build/docs/pages"
    source = "https://github.com/gpuroom/gpuroom/blob/main/src/README.md"
    assert (pages / "index.md").read_text() == f"[the command](cli.md#run), [sources]({source})\n"
    assert (pages / "cli.md").read_text() == (
        f"[first](index.md) [source]({source}) ![doctor](pictures/doctor.svg) [x](#y)\n")
    assert (pages / "pictures/doctor.svg").exists()


def test_a_link_that_leads_nowhere_fails(lay_out):
    gate.trips("docs: docs/cli.md: ../src/gone.cc is not there", *lay_out("[gone](../src/gone.cc)\n"))


def test_pages_of_before_are_gone(lay_out, write, tmp_path):
    left = write("build/docs/pages/old.md")
    gate.passes(*lay_out(""))
    assert not left.exists()
