#!/usr/bin/env python3
"""Lays the documents out as pages of a site, in build/docs/pages, and builds it with mkdocs (mkdocs.yml).

README.md becomes the first page. A link to a file that is no document, such as a header, leads to the repository. A
link to a file that is not there fails, and so does any warning of mkdocs.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
from typing import List

ROOT = pathlib.Path(__file__).resolve().parent.parent
REPOSITORY = "https://github.com/gpuroom/gpuroom/blob/main/"
LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)\s#]+)(#[^)\s]*)?\)")


class BrokenLink(Exception):
    pass


def move_links(text: str, source: pathlib.Path, root: pathlib.Path) -> str:
    """The text of the document `source`, its links as they are where all documents lie in one folder."""
    documents = root / "docs"

    def move(match: re.Match[str]) -> str:
        target = pathlib.Path(os.path.normpath(source.parent / match.group(1)))
        if not target.exists():
            raise BrokenLink(f"{source.relative_to(root)}: {match.group(1)} is not there")
        if target.is_relative_to(documents):
            place = target.relative_to(documents).as_posix()
        elif target == root / "README.md":
            place = "index.md"
        else:
            place = REPOSITORY + target.relative_to(root).as_posix()
        return f"]({place}{match.group(2) or ''})"

    return LINK.sub(move, text)


def lay_out(root: pathlib.Path, pages: pathlib.Path) -> None:
    shutil.rmtree(pages, ignore_errors=True)
    shutil.copytree(root / "docs", pages)
    for source in [root / "README.md", *sorted((root / "docs").glob("*.md"))]:
        name = "index.md" if source.name == "README.md" else source.name
        (pages / name).write_text(move_links(source.read_text(), source, root))


def main(arguments: List[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=pathlib.Path, default=ROOT, help="the checkout")
    parser.add_argument("--only-pages", action="store_true", help="lay the pages out, and build no site")
    options = parser.parse_args(arguments)
    root = options.root.resolve()
    try:
        lay_out(root, root / "build/docs/pages")
    except BrokenLink as broken:
        print(f"docs: {broken}", file=sys.stderr)
        return 1
    if options.only_pages:
        return 0
    # The versions are pinned, so that the theme's notice of what comes after it would be noise in each build.
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]  # --quiet would hide warnings from --strict
    return subprocess.run(command, cwd=root, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
