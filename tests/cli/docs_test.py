"""docs/cli.md repeats the help texts word for word, and tells the exit codes that the tests see."""

import re

import pytest
from conftest import SOURCE

TOPICS = [[], ["run"], ["env"], ["sleep"], ["wake"], ["hint"], ["ps"], ["top"], ["exporter"], ["demo"], ["doctor"], ["plan"], ["trace"], ["bench"],
          ["bench", "tiers"], ["bench", "sleep"]]
DOCUMENT = (SOURCE / "docs" / "cli.md").read_text()


@pytest.mark.parametrize("topic", TOPICS)
def test_help_is_in_the_document(gpuroom, topic):
    blocks = re.findall(r"```text\n(.*?)```", DOCUMENT, re.DOTALL)
    assert gpuroom("help", *topic).stdout in blocks


def test_no_block_is_stale(gpuroom):
    texts = {gpuroom("help", *topic).stdout for topic in TOPICS}
    assert set(re.findall(r"```text\n(.*?)```", DOCUMENT, re.DOTALL)) == texts


def test_every_variable_that_run_sets_is_documented(gpuroom, tmp_path):
    rules = tmp_path / "rules.json"
    rules.write_text('{"rules": [{"hint": "cold"}]}')
    plan = gpuroom.plan(
        "--sim", "1GiB,host=4GiB", "--hbm-limit", "512MiB", "--reserve", "64MiB", "--report",
        "--stats-file", "/dev/null", "--stats-interval", "10s", "--trace", "/tmp/t", "--policy", "balanced", "--expect", "0", "--resident-below", "1GiB", "--peers", "auto",
        "--rules", rules, "--host-ahead", "1GiB", "--backend", "managed", "--prefetch-below", "1GiB",
        "--oversubscription-ratio", "2", "--allow-oversubscription", "--", "true",
        env={
            "GPUROOM_LINK_SPEEDS": "device=1000000000,host=1000000", "PYTORCH_ALLOC_CONF": "use_uvm:True,a:1",
            "PYTORCH_CUDA_ALLOC_CONF": "use_uvm:True",
        },
    )  # fmt: skip
    for name in [*plan["environment"], *plan["environment_removed"]]:
        assert f"`{name}`" in DOCUMENT


def test_the_help_s_rules_are_rules(gpuroom, tmp_path):
    """The example in the help text is read as it stands."""
    rules = tmp_path / "rules.json"
    rules.write_text(re.search(r'  (\{"rules".*?\]\})', gpuroom("help", "run").stdout, re.DOTALL).group(1))
    assert gpuroom.plan("--rules", rules, "--", "true")["tiers"]["rules"] in DOCUMENT
