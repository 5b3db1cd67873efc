"""scripts/check_install.sh takes its lines from README.md, and does not pass where it has none to try."""

import re

from conftest import SOURCE, Gate


def gate_over(write, readme):
    """The script works from its own folder's parent, so it gets a copy of its own."""
    gate = Gate("check_install.sh")
    gate.script = write("scripts/check_install.sh", gate.script.read_text())
    write("README.md", readme)
    return gate


def test_reads_the_lines_of_its_section_without_their_comments(write):
    gate = gate_over(write, "# A\n\n    no\n\n## Install\n\nText:\n\n    make it && use it  # why\n    make that\n\n## B\n\n    no\n")
    gate.passes("list")
    assert gate.output == "make it && use it\nmake that\n"


def test_a_readme_without_such_lines_trips_it(write):
    gate_over(write, "# A\n\n## Install\n\nText.\n\n## B\n\n    no\n").trips("no section 'Install' with indented lines", "list")


def test_the_readme_has_a_line_for_each_way():
    gate = Gate("check_install.sh")
    gate.passes("list")
    targets = re.findall(r"make ([\w-]+)", gate.output)
    assert targets == ["demo", "install", "wheel", "deb", "sdist"]
