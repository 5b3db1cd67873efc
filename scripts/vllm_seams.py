#!/usr/bin/env python3
"""Which of the places where gpuroom's plug-in touches vLLM are there in which release of vLLM: `make vllm-seams`.

    vllm_seams.py                       a table of the releases whose signatures tests/python/vllm_seams has
    vllm_seams.py --take WHEEL...       writes these signatures, from wheels or unpacked folders of vLLM

The table of the seams itself is python/gpuroom/vllm/_seams.py. Ends with 1 where a release of the table lacks a feature
that docs/vllm.md promises for it."""

from __future__ import annotations

import argparse
import ast
import json
import pathlib
import re
import sys
import zipfile
from typing import Callable, Dict, List, Optional

ROOT = pathlib.Path(__file__).resolve().parents[1]
FIXTURES = ROOT / "tests" / "python" / "vllm_seams"
sys.path.insert(0, str(ROOT / "python"))

from gpuroom.vllm import _seams  # noqa: E402

Signatures = Dict[str, Dict[str, Optional[List[str]]]]
REQUIRED = (_seams.KV_CAP, _seams.STAGING, _seams.PREFLIGHT)


def read(source: pathlib.Path, path: str) -> Optional[str]:
    """A file of a wheel or of a folder; None: there is none."""
    if source.is_dir():
        file = source / path
        return file.read_text() if file.exists() else None
    with zipfile.ZipFile(source) as wheel:
        return wheel.read(path).decode() if path in wheel.namelist() else None


def version_of(source: pathlib.Path) -> str:
    names = [path.name for path in source.glob("vllm-*.dist-info")] if source.is_dir() else [source.name]
    found = re.match(r"vllm-([0-9.]+)", names[0]) if names else None
    if found is None:
        raise SystemExit(f"{source} is neither a wheel of vLLM nor a folder with one unpacked")
    return found.group(1).rstrip(".")


def parameters(node: ast.AST) -> List[str]:
    assert isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    arguments = node.args
    plain = [a.arg for a in arguments.posonlyargs + arguments.args]
    if any(isinstance(one, ast.Name) and one.id == "classmethod" for one in node.decorator_list):
        plain = plain[1:]  # as it is called on the class
    star = [arguments.vararg.arg] if arguments.vararg else []
    return plain + star + [a.arg for a in arguments.kwonlyargs] + ([arguments.kwarg.arg] if arguments.kwarg else [])


def find(tree: ast.AST, name: str) -> Optional[List[str]]:
    for part in name.split("."):
        body = getattr(tree, "body", [])
        tree_or_none = next((node for node in body if getattr(node, "name", None) == part), None)
        if tree_or_none is None:
            return None
        tree = tree_or_none
    return parameters(tree)


def look_up(source: pathlib.Path, module: str, name: str) -> Optional[List[str]]:
    """A function's parameters, where it is defined in the module or imported by it from another of vLLM's."""
    text = read(source, module.replace(".", "/") + ".py")
    tree = ast.parse(text or "")
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and name in [alias.name for alias in node.names]:
            package = module.split(".")[: -node.level] if node.level else []
            return look_up(source, ".".join(package + (node.module or "").split(".")), name)
    return find(tree, name)


def take(source: pathlib.Path) -> Signatures:
    found: Signatures = {}
    for seam in _seams.SEAMS:
        found.setdefault(seam.module, {})[seam.name] = look_up(source, seam.module, seam.name)
    return found


def lookup(signatures: Signatures) -> Callable[[str, str], Optional[List[str]]]:
    return lambda module, name: signatures.get(module, {}).get(name)


def releases() -> Dict[str, Signatures]:
    files = sorted(FIXTURES.glob("*.json"), key=lambda path: [int(part) for part in path.stem.split(".")])
    return {path.stem: json.loads(path.read_text()) for path in files}


def table() -> int:
    failed = 0
    features = sorted({feature for seam in _seams.SEAMS for feature in seam.features})
    for version, signatures in releases().items():
        why = _seams.missing(lookup(signatures))
        for feature in features:
            print(f"{version:8} {feature:45} {'no: ' + why[feature] if feature in why else 'yes'}")
            failed += feature in why and feature in REQUIRED
    return 1 if failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--take", nargs="+", type=pathlib.Path, metavar="WHEEL")
    options = parser.parse_args()
    for source in options.take or []:
        target = FIXTURES / f"{version_of(source)}.json"
        target.write_text(json.dumps(take(source), indent=1) + "\n")
        print(f"wrote {target.relative_to(ROOT)}")
    return 0 if options.take else table()


if __name__ == "__main__":
    sys.exit(main())
