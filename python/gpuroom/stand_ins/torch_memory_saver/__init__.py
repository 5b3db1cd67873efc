"""torch_memory_saver, for programs that import it, over gpuroom's sleep and wake (docs/sleep.md).

Put the folder around this package before the original's in PYTHONPATH (`python -m gpuroom stand-ins` prints it) and start
the program with `gpuroom run`, or leave that out and only what regions allocate is gpuroom's. Modules, names and arguments
are those of torch_memory_saver 0.0.9 and 0.0.10; what those leave undefined is an exception here, never the end of the process.
"""

from __future__ import annotations

from .entrypoint import TorchMemorySaver
from .hooks.mode_preload import configure_subprocess

__all__ = ["TorchMemorySaver", "configure_subprocess", "torch_memory_saver"]

torch_memory_saver = TorchMemorySaver()
