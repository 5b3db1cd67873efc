"""A KV cache of which HBM has a part: the list of free blocks gives out the near ones first, and is vLLM's own otherwise."""

import random
import types

import conftest  # noqa: F401  (the package's path)
import pytest
from gpuroom import _memory
from gpuroom.vllm import _kv


class Block:
    def __init__(self, block_id):
        self.block_id = block_id

    def __repr__(self):
        return str(self.block_id)


class Queue:
    """With vLLM's names and rules: `num_free_blocks` is an attribute that its methods count up and down."""

    def __init__(self, blocks):
        self.num_free_blocks, self.all = len(blocks), list(blocks)

    def popleft(self):
        if not self.all:
            assert self.num_free_blocks == 0
            raise ValueError("No free blocks available")
        self.num_free_blocks -= 1
        return self.all.pop(0)

    def popleft_n(self, n):
        if n == 0:
            return []
        assert self.num_free_blocks >= n
        self.num_free_blocks -= n
        taken, self.all = self.all[:n], self.all[n:]
        return taken

    def remove(self, block):
        self.all.remove(block)
        self.num_free_blocks -= 1

    def append(self, block):
        self.all.append(block)
        self.num_free_blocks += 1

    def append_n(self, blocks):
        self.all += blocks
        self.num_free_blocks += len(blocks)

    def prepend_n(self, blocks):
        self.all[:0] = blocks
        self.num_free_blocks += len(blocks)

    def get_all_free_blocks(self):
        return list(self.all)

    def iter_blocks_after(self, cursor):
        yield from self.all[0 if cursor is None else self.all.index(cursor) + 1 :]


def free(queue):
    found = [block.block_id for block in queue.get_all_free_blocks()]
    assert len(found) == queue.num_free_blocks == len(set(found))
    assert [block.block_id for block in queue.iter_blocks_after(None)] == found
    return found


def test_near_blocks_go_first_and_keep_their_order():
    blocks = [Block(number) for number in range(10)]
    queue = _kv.in_order(Queue, 4)(blocks)
    assert free(queue) == list(range(10))
    taken = [queue.popleft(), *queue.popleft_n(5)]
    assert [block.block_id for block in taken] == list(range(6)) and free(queue) == [6, 7, 8, 9]
    queue.append_n([taken[5], taken[3], taken[1]])
    queue.prepend_n([taken[4], taken[2]])
    assert free(queue) == [2, 3, 1, 4, 6, 7, 8, 9, 5]
    assert [block.block_id for block in queue.iter_blocks_after(taken[1])] == [4, 6, 7, 8, 9, 5]
    assert [block.block_id for block in queue.iter_blocks_after(blocks[8])] == [9, 5]
    queue.remove(taken[3])
    queue.remove(blocks[8])
    queue.append(blocks[8])
    assert free(queue) == [2, 1, 4, 6, 7, 9, 5, 8]
    assert [queue.popleft().block_id for _ in range(8)] == [2, 1, 4, 6, 7, 9, 5, 8] and queue.num_free_blocks == 0
    with pytest.raises(ValueError):
        queue.popleft()


@pytest.mark.parametrize("near", [1, 7, 31])
def test_far_blocks_are_given_out_only_where_no_near_one_is_free(near):
    pick, blocks = random.Random(near), [Block(number) for number in range(32)]
    queue, used = _kv.in_order(Queue, near)(blocks), []
    for _ in range(300):
        if used and pick.random() < 0.5:
            back = [used.pop(pick.randrange(len(used))) for _ in range(pick.randrange(1, len(used) + 1))]
            queue.append_n(back) if pick.random() < 0.5 else queue.prepend_n(back)
        elif queue.num_free_blocks:
            count = pick.randrange(1, queue.num_free_blocks + 1)
            got = queue.popleft_n(count)
            assert len(got) == count and (all(block.block_id < near for block in got) or all(one >= near for one in free(queue)))
            used += got
        assert sorted(free(queue) + [block.block_id for block in used]) == list(range(32))


def test_the_list_is_replaced_once_and_put_back():
    module = types.SimpleNamespace(FreeKVCacheBlockQueue=Queue)
    assert _kv.order_free_list(module, 4, 10) and module.FreeKVCacheBlockQueue is not Queue
    assert _kv.order_free_list(module, 5, 10)
    assert free(module.FreeKVCacheBlockQueue([Block(number) for number in range(10)])) == list(range(10))
    assert module.FreeKVCacheBlockQueue._gpuroom_of is Queue
    for near in (10, 0):  # all in HBM, or nothing
        assert _kv.order_free_list(module, near, 10) and module.FreeKVCacheBlockQueue is Queue
    assert not _kv.order_free_list(types.SimpleNamespace(), 4, 10)
    assert not _kv.order_free_list(types.SimpleNamespace(FreeKVCacheBlockQueue=list), 4, 10)


def test_how_many_blocks_are_near():
    assert _kv.near_blocks(100, 1000, 1000) == 100 and _kv.near_blocks(100, 1000, 999) == 99
    assert _kv.near_blocks(100, 1000, -5) == 0 and _kv.near_blocks(0, 0, 10) == 0


class Cache:
    """A tensor's shape, and the slices that were taken of it."""

    def __init__(self, *shape, taken=()):
        self.shape, self.taken = shape, taken

    def __getitem__(self, what):
        if isinstance(what, int):
            return Cache(*self.shape[1:], taken=(*self.taken, what))
        begin, end, _ = what.indices(self.shape[0])
        return Cache(end - begin, *self.shape[1:], taken=(*self.taken, (begin, end)))


def test_far_blocks_of_every_layer_go_to_the_host(monkeypatch):
    moved = []
    monkeypatch.setattr(_memory, "migrate_all", lambda tensors, tier: moved.append((tier, [one.taken for one in tensors])) or 1)
    caches = [Cache(10, 2, 16, 8), Cache(2, 10, 16, 8), Cache(2, 40, 4, 8), Cache(7)]
    assert _kv.place(caches, 10, 3) == 2
    assert moved == [
        ("host", [((3, 10),), (0, (3, 10)), (1, (3, 10)), (0, (12, 40)), (1, (12, 40))]),
        ("device", [((0, 3),), (0, (0, 3)), (1, (0, 3)), (0, (0, 12)), (1, (0, 12))]),
    ]
