"""What the original's own tests call of it."""

from __future__ import annotations

from gpuroom.torch._torch import torch


def get_device() -> str:
    """The kind of device that tests use."""
    return "cuda"


def empty_cache() -> None:
    """Gives back what PyTorch keeps for reuse."""
    torch.cuda.empty_cache()


def get_and_print_gpu_memory(message: str, gpu_id: int = 0) -> int:
    """Bytes of the GPU in use by all processes, printed too."""
    used = int(torch.cuda.device_memory_used(gpu_id))
    print(f"GPU {gpu_id} memory: {used / 1024**3:.2f} GB ({message})")
    return used
