"""`python -m gpuroom.top [COMMAND [SECONDS]]`: the view of `gpuroom top`, which starts this with its own path."""

from __future__ import annotations

import sys
from typing import List

from gpuroom import _library

USUAL_INTERVAL = 2  # seconds


def main(arguments: List[str]) -> int:
    """Runs the view with the arguments of the command; the exit status."""
    command = arguments[0] if arguments else _library.command()
    if command is None:
        print("gpuroom: this package has no command and there is none in PATH; install the wheel", file=sys.stderr)
        return 126
    try:
        from gpuroom.top import _view
    except ImportError as error:
        print(f"gpuroom: the view of top needs Textual ({error}); install it with pip install 'gpuroom[top]' or "
              "pip install textual, or take 'gpuroom top --once'", file=sys.stderr)  # fmt: skip
        return 1
    return _view.run(command, int(arguments[1]) if len(arguments) > 1 else USUAL_INTERVAL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
