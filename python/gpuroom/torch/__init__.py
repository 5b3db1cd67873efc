"""gpuroom for PyTorch: a global allocator (`use`), pools for single blocks of a program (`pool`), blocks whose
memory sleeps and wakes by a tag (`region`), and weights that are streamed from host memory (`stream`).

Importing this imports PyTorch and touches neither CUDA nor gpuroom's library.
"""

from __future__ import annotations

from gpuroom.torch._allocator import use
from gpuroom.torch._pool import Pool, pool, region
from gpuroom.torch._stream import StreamHandle, StreamStats, stream

__all__ = ["Pool", "StreamHandle", "StreamStats", "pool", "region", "stream", "use"]
