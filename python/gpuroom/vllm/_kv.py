"""A KV cache of which HBM holds a part: its first blocks, which the list of free blocks hands out before all others.

vLLM's list of free blocks turns through all blocks. Where the cache is larger than HBM, which it is for a single long request
alone, short requests would lie on the host as often as not. So blocks 0 to k of every layer lie in HBM, and those from k on
are given out only when no other is free. Within each of the two parts vLLM's own order stays.
"""

from __future__ import annotations

from typing import Any, List, Optional

from gpuroom import _memory

MODULE, NAME = "vllm.v1.core.block_pool", "FreeKVCacheBlockQueue"


def near_blocks(blocks: int, size: int, room: int) -> int:
    """How many of `blocks`, of `size` bytes together, lie in `room` bytes of HBM."""
    return blocks if size <= room else max(0, blocks * room // max(1, size))


def place(tensors: List[Any], blocks: int, near: int) -> int:
    """Has the blocks from `near` on lie on the host and the others in HBM. Returns the bytes that moved. Tensors in which
    blocks cannot be told apart stay as they are."""
    parts = [_parts(tensor, blocks, near) for tensor in tensors]
    moved = _memory.migrate_all([part for _, far in parts for part in far], "host")
    return moved + _memory.migrate_all([part for first, _ in parts for part in first], "device")


def _parts(tensor: Any, blocks: int, near: int) -> Any:
    """(what holds the near blocks, what holds the far ones): in vLLM's caches blocks are the first dimension, or the second
    after keys and values; a kernel's blocks may be a part of the manager's."""
    shape = tuple(tensor.shape)
    for dimension in (0, 1):
        if len(shape) > dimension and shape[dimension] >= blocks and shape[dimension] % blocks == 0:
            at = near * (shape[dimension] // blocks)
            whole = [tensor] if dimension == 0 else [tensor[one] for one in range(shape[0])]
            return [one[:at] for one in whole if at], [one[at:] for one in whole]
    return [], []


def in_order(queue: Any, near: int) -> Any:
    """vLLM's class of the list of free blocks, `queue`, as one that gives out the blocks under `near` first."""

    class NearFirst(queue):  # type: ignore[misc]
        """Is the list of the near blocks, and has one of the far ones."""

        def __init__(self, blocks: List[Any]) -> None:
            self._far: Optional[Any] = None
            super().__init__([block for block in blocks if block.block_id < near])
            self._far = queue([block for block in blocks if block.block_id >= near])

        @property
        def num_free_blocks(self) -> int:
            return self._near + self._far_count()

        @num_free_blocks.setter
        def num_free_blocks(self, count: int) -> None:
            self._near = count - self._far_count()

        def _far_count(self) -> int:
            return 0 if self._far is None else int(self._far.num_free_blocks)

        def _of(self, block: Any) -> Any:
            return super() if block.block_id < near else self._far

        def popleft(self) -> Any:
            return super().popleft() if self._near or self._far is None else self._far.popleft()

        def popleft_n(self, n: int) -> List[Any]:
            count = min(n, self._near)
            first = list(super().popleft_n(count))
            return first + list(self._far.popleft_n(n - count)) if n > count and self._far is not None else first

        def remove(self, block: Any) -> None:
            self._of(block).remove(block)

        def append(self, block: Any) -> None:
            self._of(block).append(block)

        def append_n(self, blocks: List[Any]) -> None:
            super().append_n([block for block in blocks if block.block_id < near])
            if self._far is not None:
                self._far.append_n([block for block in blocks if block.block_id >= near])

        def prepend_n(self, blocks: List[Any]) -> None:
            super().prepend_n([block for block in blocks if block.block_id < near])
            if self._far is not None:
                self._far.prepend_n([block for block in blocks if block.block_id >= near])

        def get_all_free_blocks(self) -> List[Any]:
            far = [] if self._far is None else self._far.get_all_free_blocks()
            return list(super().get_all_free_blocks()) + list(far)

        def iter_blocks_after(self, cursor: Any) -> Any:
            if cursor is None or cursor.block_id < near:
                yield from super().iter_blocks_after(cursor)
                cursor = None
            if self._far is not None:
                yield from self._far.iter_blocks_after(cursor)

    NearFirst._gpuroom_of = queue
    return NearFirst


def order_free_list(module: Any, near: int, blocks: int) -> bool:
    """Has the pools that `module` makes from now on give out the blocks under `near` first. False: this vLLM has another list
    of free blocks, which stays as it is."""
    queue = getattr(module, NAME, None)
    queue = getattr(queue, "_gpuroom_of", queue)
    known = all(callable(getattr(queue, name, None)) for name in ("popleft", "popleft_n", "remove", "append", "append_n"))
    if not known:
        return False
    setattr(module, NAME, in_order(queue, near) if 0 < near < blocks else queue)
    return True
