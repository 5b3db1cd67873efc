#!/usr/bin/env python3
"""Checks that #includes only go down the layers of src/ (src/README.md).

src/<layer> may include its own layer and those below it. The fronts (shim, cli, cumem)
stand side by side and do not include each other. sim/ includes nothing of src/:
it stands in for the driver, and sharing code would let one mistake hide in both.
include/gpuroom is C for others and includes nothing of ours but itself. A source
includes its own header first, so that each header is seen alone at least once.
"""

import argparse
import pathlib
import re
import sys

# Lowest first; layers on one line are peers that do not include each other.
LAYERS = [["base"], ["driver"], ["topology"], ["tier"], ["range"], ["pool"], ["runtime"], ["sleep"], ["arbiter"],
          ["share"], ["capi"], ["measure", "model"], ["shim", "cli", "cumem", "compat", "python"]]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
# Works without the core, and may include nothing else of ours.
ONLY = {"cumem": ["base", "driver"], "compat": [], "model": ["base"], "arbiter": ["base"]}
# What these folders hear when they include a layer.
FORBIDDEN_BELOW = {"sim": "sim/ includes nothing of src/", "include": "public headers include nothing of src/"}
BESIDE = ["sim", "samples", "tests", "bench"]
SUFFIXES = {".h", ".cc", ".c", ".def", ".inc"}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def includes(path):
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        match = INCLUDE.match(line)
        if match:
            yield number, match.group(2)


def target_folder(root, path, name):
    """The project folder that an include reaches (a layer, or one of BESIDE); None outside ours."""
    beside_it = path.parent / name
    if name.startswith(".") or (beside_it.is_file() and "/" not in name):
        parts = beside_it.resolve().relative_to(root.resolve()).parts
        return parts[1] if parts[0] == "src" else parts[0]
    first = name.split("/")[0]
    if (root / "src" / name).is_file() or (first in RANK and "/" in name):
        return first
    if first in BESIDE and (root / name).is_file():
        return first
    return None


def complaint(layer, target):
    """Why `layer` may not include `target`, or None."""
    if target is None or target == layer:
        return None
    if target in BESIDE:
        return f"{layer} does not know {target}/"
    if target not in RANK:
        return None
    if layer not in RANK:
        return FORBIDDEN_BELOW[layer]
    if layer in ONLY and target not in ONLY[layer]:
        return f"'{layer}' knows {' and '.join(ONLY[layer])} alone"
    if RANK[target] > RANK[layer]:
        return f"'{target}' is above '{layer}'"
    if RANK[target] == RANK[layer]:
        return f"'{target}' and '{layer}' stand side by side"
    return None


def own_header_complaint(root, path):
    header = path.with_suffix(".h")
    if path.suffix != ".cc" or not header.exists():
        return None
    want = {header.name, header.relative_to(root / "src").as_posix()}
    for number, name in includes(path):
        return None if name in want else (number, f"the first include has to be its own header, {header.name}")
    return 1, f"does not include its own header, {header.name}"


def check_file(root, path, layer, problems):
    where = path.relative_to(root)
    for number, name in includes(path):
        target = target_folder(root, path, name)
        why = complaint(layer, target)
        if why:
            problems.append(f"{where}:{number}: includes \"{name}\": {why}")
    if layer in RANK:
        own = own_header_complaint(root, path)
        if own:
            problems.append(f"{where}:{own[0]}: {own[1]}")


def check(root):
    """Returns (problems, number of files looked at)."""
    problems, count = [], 0
    folders = [(p, p.name) for p in sorted((root / "src").iterdir()) if p.is_dir()]
    folders += [(root / name, name) for name in ("sim", "include") if (root / name).is_dir()]
    for folder, layer in folders:
        files = [p for p in sorted(folder.rglob("*")) if p.suffix in SUFFIXES]
        if files and layer not in RANK and folder.parent.name == "src":
            problems.append(f"src/{layer}: an unknown layer; add it to scripts/check_layers.py and src/README.md")
            continue
        for path in files:
            check_file(root, path, layer, problems)
            count += 1
    return problems, count


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent.parent)
    root = parser.parse_args().root.resolve()
    problems, count = check(root)
    if count == 0:
        problems.append(f"{root}: no sources found, so nothing was checked")
    print(*problems, sep="\n", end="\n" if problems else "")
    print(f"check_layers: {count} files, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
