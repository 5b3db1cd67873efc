"""What streaming asks of CUDA: copies on a stream of their own, events, and memory of either kind.

The one place where `_streamer` meets the GPU, and small enough to be stood in for.
"""

from __future__ import annotations

from typing import Any, List

from gpuroom import _capi, _intent, _library
from gpuroom._errors import out_of_memory
from gpuroom._intent import Intent
from gpuroom._types import Hint
from gpuroom.torch import _allocator, _pool
from gpuroom.torch._torch import torch

_TAG = b"stream"  # of what is streamed, where no region around it says another


class CudaEngine:
    """For one device. Calls come with the streamer's lock held, from the thread that runs the model."""

    def __init__(self, device: int) -> None:
        self.device = torch.device("cuda", device)
        self._copies, self._saves = (torch.cuda.Stream(self.device) for _ in range(2))

    def reads_in_place(self) -> bool:
        """Whether what runs now outlives the staging buffer that it would read: a graph being captured or
        compiled, or the tensors that a backward pass will want."""
        return bool(
            torch.is_grad_enabled()
            or torch.compiler.is_compiling()
            or torch.jit.is_tracing()
            or torch.cuda.is_current_stream_capturing()
        )

    def fill(self, target: Any, source: Any, after: List[Any]) -> Any:
        """Copies on the copy stream once all of `after` have happened; returns the event of its end."""
        return self._copy(self._copies, target, source, after)

    def save(self, target: Any, source: Any, after: List[Any]) -> Any:
        """As `fill`, on a stream of its own: the link carries both directions at once."""
        return self._copy(self._saves, target, source, after)

    @staticmethod
    def _copy(stream: Any, target: Any, source: Any, after: List[Any]) -> Any:
        for event in after:
            stream.wait_event(event)
        with torch.cuda.stream(stream):
            target.copy_(source, non_blocking=True)
            return stream.record_event()

    def wait(self, event: Any) -> None:
        """What this thread submits from now on to its current stream comes after `event`."""
        torch.cuda.current_stream(self.device).wait_event(event)

    def mark(self) -> Any:
        """An event after all that this thread's current stream has now."""
        return torch.cuda.current_stream(self.device).record_event()

    def empty(self, count: int, hint: Hint) -> Any:
        """`count` bytes on the device, placed by `hint`; a plain tensor. Raises OutOfMemory."""
        try:
            piece = self._placed(count, hint) if _allocator.in_use() else self._pooled(count, hint)
        except RuntimeError as error:
            if "out of memory" not in str(error):  # PyTorch has a class for it in pools, and none for other allocators
                raise
            raise out_of_memory(f"there are no {count} bytes for weights with hint '{hint}'; raise the"
                              f" {'host' if hint == 'cold' else 'HBM'} limit ({error})") from error  # fmt: skip
        piece.record_stream(self._copies)  # whoever drops it may do so while a copy is under way
        return piece

    def _pooled(self, count: int, hint: Hint) -> Any:
        tag = None if _intent.region_tag() else _TAG.decode()  # None: that of the region
        with _pool.pool(hint=hint, tag=tag, device=self.device):
            return self._bytes(count)

    def _placed(self, count: int, hint: Hint) -> Any:
        # The global allocator serves from what it has cached, wherever that lies; so that goes first.
        library = _library.load()
        library.check(library.function("gpuroom_trim")(self.device.index), "gpuroom.trim()")
        before = _intent.current()
        placed = Intent(hint=_capi.HINTS[hint], tag=before.tag or _TAG, dispensable=before.dispensable)
        _intent.apply(placed)
        try:
            return self._bytes(count)
        finally:
            _intent.apply(before)

    def _bytes(self, count: int) -> Any:
        return torch.empty(count, dtype=torch.uint8, device=self.device)

    def settle(self) -> None:
        """Waits for all work on the device."""
        torch.cuda.synchronize(self.device)

    def drop_cached(self) -> None:
        """PyTorch's cached memory goes back, so that what weights left can be had again."""
        torch.cuda.synchronize(self.device)
        torch.cuda.empty_cache()
