#!/usr/bin/env python3
"""Draws what a command prints on a terminal as a picture in SVG.

  scripts/terminal_picture.py PICTURE.svg [--columns N] [--lines N] -- COMMAND...

The command runs on a terminal of its own, so that its colours are those that a person sees. The picture is of the
command line and of what came of it, real output and nothing else; with --lines, of its first lines. It needs rich,
from PyPI (scripts/docs-requirements.txt).
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pathlib
import pty
import re
import shlex
import struct
import subprocess
import sys
import termios
from typing import List

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

ROWS = 60


def read_all(terminal: int) -> bytes:
    """What is written to a terminal until the last process that has it open ends."""
    found = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # Linux's way of saying that nobody writes any more
            return found
        if not part:
            return found
        found += part


def run(command: List[str], columns: int) -> str:
    """What the command prints on a terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns)}
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    text = read_all(ours).decode()
    os.close(ours)
    if child.wait() not in (0, 1, 3):  # 1: doctor found something; 3: there is no GPU
        sys.exit(f"terminal_picture: {shlex.join(command)} ended with {child.returncode}:\n{text}")
    return text


def last_state(line: str) -> str:
    """Of a line that was written over, what stands in the end."""
    return line.rstrip("\r").split("\r")[-1]


def draw(command: List[str], text: str, columns: int, lines: int) -> str:
    shown = [last_state(line) for line in text.rstrip().split("\n")]
    if lines and len(shown) > lines:
        shown = [*shown[:lines], "..."]
    console = Console(record=True, width=columns, file=open(os.devnull, "w"), legacy_windows=False)
    title = shlex.join([pathlib.Path(command[0]).name, *command[1:]])
    console.print(Text("$ " + title, style="bold"))
    for line in shown:
        console.print(Text.from_ansi(line))
    picture = console.export_svg(title=title, theme=MONOKAI, unique_id="terminal")
    # Without the fonts, which it would fetch from elsewhere.
    picture = re.sub(r"\s*@font-face \{.*?\}", "", picture, flags=re.S)
    return picture.replace("Fira Code, monospace", "DejaVu Sans Mono, Liberation Mono, Menlo, monospace")


def main(arguments: List[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", type=pathlib.Path)
    parser.add_argument("--columns", type=int, default=110)
    parser.add_argument("--lines", type=int, default=0, help="show so many lines at most (default: all)")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(arguments)
    text = run(options.command, options.columns)
    options.picture.write_text(draw(options.command, text, options.columns, options.lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
