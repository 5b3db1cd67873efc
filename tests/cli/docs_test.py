"""docs/cli.md repeats the help texts word for word, and tells the exit codes that the tests see."""

import re

import pytest
from conftest import SOURCE

TOPICS = [[], ["run"], ["demo"], ["doctor"], ["bench"], ["bench", "tiers"]]
DOCUMENT = (SOURCE / "docs" / "cli.md").read_text()


@pytest.mark.parametrize("topic", TOPICS)
def test_help_is_in_the_document(headroom, topic):
    blocks = re.findall(r"```text\n(.*?)```", DOCUMENT, re.DOTALL)
    assert headroom("help", *topic).stdout in blocks


def test_no_block_is_stale(headroom):
    texts = {headroom("help", *topic).stdout for topic in TOPICS}
    assert set(re.findall(r"```text\n(.*?)```", DOCUMENT, re.DOTALL)) == texts


def test_every_variable_that_run_sets_is_documented(headroom):
    plan = headroom.plan(
        "--sim", "1GiB,host=4GiB", "--hbm-limit", "512MiB", "--reserve", "64MiB", "--report",
        "--stats-file", "/dev/null", "--", "true",
    )  # fmt: skip
    for name in plan["environment"]:
        assert f"`{name}`" in DOCUMENT
