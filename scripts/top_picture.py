#!/usr/bin/env python3
"""Draws the view of `gpuroom top` as a picture in SVG: of processes that only count (bench/doubles.py), as Textual draws it.

  scripts/top_picture.py PICTURE.svg [--build DIR]

Needs Textual, such as build/top/venv/bin/python has, and the target gpuroom_control_double.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import pathlib
import re
import sys
import tempfile
from typing import List

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "python"), str(ROOT / "bench")]

from doubles import end, start  # noqa: E402

from gpuroom.top import _view  # noqa: E402

GPUS, PROCESSES = 8, 12
SIZE = (110, 28)  # columns and lines
PATIENCE = 60  # seconds


async def picture(command: str) -> str:
    """The view once it has had two looks, so that it has rates."""
    app = _view.Top(command, 1)
    async with app.run_test(size=SIZE) as pilot:
        while app.view.snapshot.gave_way == 0:
            await pilot.pause(0.05)
        return app.export_screenshot(title="gpuroom top")


def main(arguments: List[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", type=pathlib.Path)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/dev")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="gpuroom-") as folder:
        os.environ.update(GPUROOM_CONTROL="1", GPUROOM_CONTROL_DIR=folder)
        running = [start(options.build, dict(os.environ), number % GPUS) for number in range(PROCESSES)]
        try:
            text = asyncio.run(asyncio.wait_for(picture(str(options.build / "bin/gpuroom")), PATIENCE))
        finally:
            for process in running:
                end(process)
    # Without the fonts, which it would fetch from elsewhere, as terminal_picture.py does.
    text = re.sub(r"\s*@font-face \{.*?\}", "", text, flags=re.S)
    options.picture.write_text(text.replace("Fira Code, monospace", "DejaVu Sans Mono, Liberation Mono, Menlo, monospace") + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
