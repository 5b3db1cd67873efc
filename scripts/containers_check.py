#!/usr/bin/env python3
"""Checks the files in containers/ that are no Dockerfiles, without Docker and without Jenkins.

  scripts/containers_check.py [FOLDER]      run by containers_check.sh, in an environment that has the parsers

- docker-bake.hcl: parsed; each target's Dockerfile is there and has the build arguments that the target sets. (Not
  `docker buildx bake --print`, which evaluates functions and variables as well: that needs buildx.)
- Jenkinsfile: parsed as Groovy, and its parameters, stages and options looked for. (Not Jenkins' own linter, which asks a
  running Jenkins.)
- compose.yaml: parsed as YAML, and each service has what docs/containers.md promises.

That the sources in the Dockerfiles are pinned is tested with the rest (tests/build/containers_test.py).
"""

from __future__ import annotations

import pathlib
import re
import sys
from typing import Iterator, List

import hcl2
import tree_sitter
import tree_sitter_groovy
import yaml

FOLDER = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parent.parent / "containers")
ARGUMENT = re.compile(r"^ARG (\w+)(?:=(.*))?$", re.MULTILINE)


def plain(value: object) -> object:
    """hcl2 leaves quotes around names and texts."""
    if isinstance(value, str):
        return value.strip('"')
    if isinstance(value, dict):
        return {plain(name): plain(each) for name, each in value.items() if name != "__is_block__"}
    return [plain(each) for each in value] if isinstance(value, list) else value


def bake_problems() -> Iterator[str]:
    path = FOLDER / "docker-bake.hcl"
    try:
        with path.open(encoding="utf-8") as file:
            bake = plain(hcl2.load(file))
    except Exception as error:  # the parser's own kinds of errors are many
        yield f"{path.name}: {str(error).splitlines()[0]}"
        return
    targets = {name: body for block in bake["target"] for name, body in block.items()}
    variables = {name for block in bake["variable"] for name in block}
    for name in {"REGISTRY", "VLLM_VERSION", "IMAGE_TAG", "IMAGE_SUFFIX", "BASE_IMAGE", "PLATFORMS"} - variables:
        yield f"{path.name}: there is no variable {name}"
    for block in bake["group"]:
        for group, body in block.items():
            for target in set(body["targets"]) - set(targets):
                yield f"{path.name}: group {group} names {target}, which is no target"
    for name, body in targets.items():
        if "dockerfile" not in body:
            continue
        dockerfile = FOLDER.parent / body["dockerfile"]
        if not dockerfile.is_file():
            yield f"{path.name}: target {name} names {body['dockerfile']}, which is not there"
            continue
        known = {argument for argument, _ in ARGUMENT.findall(dockerfile.read_text())}
        inherited = [targets[parent].get("args", {}) for parent in body.get("inherits", [])]
        for argument in set(body.get("args", {})).union(*inherited) - known:
            yield f"{path.name}: target {name} sets {argument}, which {body['dockerfile']} does not take"


def jenkins_problems() -> Iterator[str]:
    text = (FOLDER / "Jenkinsfile").read_text()
    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_groovy.language()))
    nodes = [parser.parse(text.encode()).root_node]
    while nodes:
        node = nodes.pop()
        if node.is_error or node.is_missing:
            yield f"Jenkinsfile:{node.start_point[0] + 1}: this is no Groovy"
            return
        nodes += node.children
    for words in ("name: 'VLLM_VERSION'", "name: 'IMAGE_TAG'", "name: 'IMAGE_SUFFIX'", "disableConcurrentBuilds()"):
        if words not in text:
            yield f"Jenkinsfile: '{words}' is not there"


def compose_problems() -> Iterator[str]:
    compose = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    for name, service in compose["services"].items():
        if "SYS_NICE" not in service.get("cap_add", []):
            yield f"compose.yaml: {name} lacks the capability SYS_NICE"
        for key in "shm_size", "mem_limit":
            if key not in service:
                yield f"compose.yaml: {name} has no {key}"
        volumes = {volume.split(":")[0] for volume in service.get("volumes", [])}
        if "ledger" not in volumes:
            yield f"compose.yaml: {name} does not mount the ledger's volume"
        for volume in volumes - set(compose["volumes"]):
            yield f"compose.yaml: {name} mounts {volume}, which is no volume"


def main() -> int:
    problems: List[str] = [*bake_problems(), *jenkins_problems(), *compose_problems()]
    for problem in problems:
        print(f"containers: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
