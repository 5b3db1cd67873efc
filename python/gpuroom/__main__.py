"""`python -m gpuroom ...`: become the command `gpuroom` that was installed with this package."""

from __future__ import annotations

import os
import sys

from gpuroom import _library


def main() -> int:
    """Replaces this process by the `gpuroom` command with the same arguments; returns only on failure.

    `stand-ins` is this package's own: it prints the folder of modules that take other projects' places.
    """
    if sys.argv[1:] == ["stand-ins"]:
        print(_library.PACKAGE / "stand_ins")
        return 0
    path = _library.command()
    if path is None:
        print("gpuroom: this package has no command and there is none in PATH; install the wheel", file=sys.stderr)
        return 126
    try:
        os.execv(path, [path, *sys.argv[1:]])
    except OSError as error:
        print(f"gpuroom: {path} cannot be run: {error}", file=sys.stderr)
    return 126


if __name__ == "__main__":
    sys.exit(main())
