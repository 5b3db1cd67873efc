"""KV blocks that leave HBM and come back through gpuroom's memory, by stand-ins of vLLM's spec, worker and copies that have their
names and rules; on the CPU."""

import ctypes
import gc
import importlib
import importlib.util
import sys
import types
import weakref

import conftest  # noqa: F401  (the package's path)
import pytest

if importlib.util.find_spec("torch") is None:
    pytest.skip("PyTorch is not installed", allow_module_level=True)

import torch  # noqa: E402
from gpuroom import _intent, _memory  # noqa: E402
from gpuroom._errors import OutOfMemory  # noqa: E402

BLOCKS, PAGE, CHUNK = 6, 64, 2  # blocks of a cache, bytes of one block of one tensor, blocks that are offloaded together


class Handler:
    """vLLM's copies of one direction: by addresses alone, between blocks on the GPU and chunks of them on the host."""

    def __init__(self, gpu_tensors, cpu_tensors, blocks_per_chunk, kv_cache_groups_data_refs, gpu_to_cpu, mmap_region=None):
        for on_gpu, on_host in zip(gpu_tensors, cpu_tensors):
            assert on_gpu.dtype == on_host.dtype == torch.int8 and on_host.device.type == "cpu"
            assert on_host.shape[1] == on_gpu.shape[1] * blocks_per_chunk
        self.gpu_tensors, self.cpu_tensors, self.per_chunk, self.gpu_to_cpu = gpu_tensors, cpu_tensors, blocks_per_chunk, gpu_to_cpu
        self.refs = kv_cache_groups_data_refs

    def copy(self, blocks, chunk):
        for on_gpu, on_host in zip(self.gpu_tensors, self.cpu_tensors):
            for at, block in enumerate(blocks):
                near = on_gpu.data_ptr() + block * on_gpu.stride(0)
                far = on_host.data_ptr() + chunk * on_host.stride(0) + at * on_gpu.shape[1]
                ctypes.memmove(*((far, near) if self.gpu_to_cpu else (near, far)), on_gpu.shape[1])


class Worker:
    """Allocates as vLLM's does; `torch` is a name of vLLM's module, so that it is looked up there."""

    def __init__(self, kv_caches, blocks_per_chunk, num_cpu_blocks):
        torch = sys.modules["vllm.v1.kv_offload.cpu.gpu_worker"].torch
        on_gpu = [one.tensor.view(torch.int8).view((-1, one.page_size_bytes)) for one in kv_caches.tensors]
        self.on_host = [torch.zeros((num_cpu_blocks, tensor.shape[1] * blocks_per_chunk), dtype=torch.int8, device="cpu", pin_memory=False)
                        for tensor in on_gpu]  # fmt: skip
        self._store_handler, self._load_handler = (
            Handler(on_gpu, self.on_host, blocks_per_chunk, kv_caches.group_data_refs, way) for way in (True, False))


class Spec:
    def __init__(self):
        self.blocks_per_chunk, self.num_blocks = CHUNK, 4

    def create_worker(self, kv_caches):
        return Worker(kv_caches=kv_caches, blocks_per_chunk=self.blocks_per_chunk, num_cpu_blocks=self.num_blocks)


@pytest.fixture
def offload(monkeypatch, caplog):
    """The module under test, where vLLM is a stand-in, and what was asked of gpuroom for memory: (hint, tag) and moves."""
    for name in ("vllm", "vllm.v1", "vllm.v1.kv_offload", "vllm.v1.kv_offload.cpu"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    for name, content in (("spec", {"CPUOffloadingSpec": Spec}),
                          ("gpu_worker", {"torch": torch})):  # fmt: skip
        module = types.ModuleType(f"vllm.v1.kv_offload.cpu.{name}")
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.delitem(sys.modules, "gpuroom.vllm._kv_offload", raising=False)
    found, asked = importlib.import_module("gpuroom.vllm._kv_offload"), []
    monkeypatch.setattr(_intent, "current", lambda: _intent.Intent())
    monkeypatch.setattr(_intent, "apply", lambda intent: asked.append((intent.hint, intent.tag)))
    monkeypatch.setattr(_memory, "migrate_all", lambda tensors, tier: asked.append(tier) or 0)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    caplog.set_level("INFO")
    yield found, asked
    sys.modules.pop("gpuroom.vllm._kv_offload", None)


def caches():
    """Two KV tensors of BLOCKS blocks, whose bytes differ all."""
    tensors = [torch.arange(BLOCKS * PAGE, dtype=torch.int32).add(100 * number).to(torch.int8).view(BLOCKS, PAGE) for number in range(2)]
    return types.SimpleNamespace(tensors=[types.SimpleNamespace(tensor=tensor, page_size_bytes=PAGE) for tensor in tensors],
                                 group_data_refs=[[]])  # fmt: skip


def test_blocks_come_back_as_they_left(offload, caplog):
    module, asked = offload
    kept = caches()
    worker = module.GpuroomOffloadingSpec().create_worker(kept)
    tensors = [one.tensor for one in kept.tensors]
    before = [tensor.clone() for tensor in tensors]
    for chunk, blocks in ((0, (1, 2)), (3, (5, 0)), (1, (3, 4))):
        worker._store_handler.copy(blocks, chunk)
    for tensor in tensors:
        tensor.zero_()
    for chunk, blocks in ((1, (3, 4)), (0, (1, 2)), (3, (5, 0))):
        worker._load_handler.copy(blocks, chunk)
    assert all(torch.equal(now, then) for now, then in zip(tensors, before))
    hint = module._memory._capi.HINTS["cold"]
    assert asked.count((hint, b"kv_offload")) == asked.count("host") == 2  # each goes to the host, as memory of this tag
    (said,) = [record.getMessage() for record in caplog.records]
    assert said == "gpuroom: KV blocks that leave HBM go to gpuroom's host memory (0 MiB)"
    assert sys.modules["vllm.v1.kv_offload.cpu.gpu_worker"].torch is torch


def test_the_memory_is_zero_and_goes_with_the_worker(offload, monkeypatch):
    module, _ = offload
    made, gone = [], []

    def host_memory(count, device):
        memory = torch.full((count,), 7, dtype=torch.uint8)
        weakref.finalize(memory, gone.append, count)
        made.append(memory.data_ptr())
        return memory

    monkeypatch.setattr(module, "host_memory", host_memory)
    worker = module.GpuroomOffloadingSpec().create_worker(caches())
    assert [tensor.data_ptr() for tensor in worker.on_host] == made and not any(tensor.any() for tensor in worker.on_host)
    assert gone == []
    del worker
    gc.collect()
    assert gone == [4 * CHUNK * PAGE] * 2


def test_a_worker_that_allocates_otherwise_is_vllms_own(offload, monkeypatch, caplog):
    module, _ = offload
    monkeypatch.setattr(Spec, "create_worker", lambda self, kv_caches: "another")
    assert module.GpuroomOffloadingSpec().create_worker(caches()) == "another"
    (said,) = [record.getMessage() for record in caplog.records]
    assert "in another way than gpuroom knows (0 MiB)" in said


def test_what_else_a_worker_allocates_is_pytorchs(offload):
    module, _ = offload
    with module._host_tier(torch.device("cpu")) as memory:
        names = sys.modules["vllm.v1.kv_offload.cpu.gpu_worker"].torch
        assert names.zeros(3, dtype=torch.int64).tolist() == [0, 0, 0] and names.int8 is torch.int8 and memory.bytes == 0


@pytest.mark.parametrize("error", [OutOfMemory("no room"), RuntimeError("CUDA out of memory"), TypeError("another signature")])
def test_without_memory_the_blocks_go_where_vllm_puts_them(offload, monkeypatch, caplog, error):
    module, _ = offload

    def fails(count, device):
        raise error

    monkeypatch.setattr(module, "host_memory", fails)
    worker = module.GpuroomOffloadingSpec().create_worker(caches())
    assert [tensor.shape for tensor in worker.on_host] == [(4, CHUNK * PAGE)] * 2
    assert sys.modules["vllm.v1.kv_offload.cpu.gpu_worker"].torch is torch
    (said,) = [record.getMessage() for record in caplog.records]
    assert said == f"gpuroom: KV blocks that leave HBM go to memory that vLLM pins: {type(error).__name__}: {error}"
