"""Where all of HBM is, as one line of vLLM's log: each part in MiB, and together they are the whole. Pure: numbers in, text out."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Account:
    """Bytes, of one GPU. `total` is the HBM that may be used, `used` what this process has of it, `reserve` what small
    allocations alone could have, `free` the rest. Of `used`, the large weights in HBM are `weights`, the ring's own buffer
    `buffer`, the KV cache in HBM `kv`. PyTorch holds `reserved` in segments, of which `allocated` are tensors, wherever they
    lie; `known` are the tensors that are none of `others`: large weights, ring, backup and KV cache. `activations` is what
    PyTorch's segments grow by in the largest step, `tensors` what its tensors did then."""

    total: int
    used: int
    reserve: int
    free: int
    weights: int
    buffer: int
    kv: int
    reserved: int
    allocated: int
    known: int
    activations: int
    tensors: int

    @property
    def others(self) -> int:
        """Tensors of PyTorch's that are neither weights nor the KV cache nor for staging."""
        return max(0, self.allocated - self.known)

    @property
    def unused(self) -> int:
        """Of PyTorch's segments, what no tensor has."""
        return max(0, self.reserved - self.allocated)

    @property
    def outside(self) -> int:
        """What is neither of these: small weights, and what libraries allocate without PyTorch."""
        return self.used - self.weights - self.buffer - self.kv - self.others - self.unused


def sentence(account: Account) -> str:
    """Each part by name; what a step takes of the free part comes last."""
    parts = (
        ("large weights", account.weights), ("buffer that stages others", account.buffer), ("KV cache", account.kv),
        ("other tensors", account.others), ("unused parts of PyTorch's segments", account.unused),
        ("small weights and libraries", account.outside), ("reserve", account.reserve), ("free", account.free),
    )  # fmt: skip
    listed = " + ".join(f"{name} {mib(size)}" for name, size in parts)
    return (
        f"HBM {mib(account.total)} MiB = {listed}; the largest step takes {mib(account.activations)} of what is free,"
        f" its tensors {mib(account.tensors)}"
    )


def mib(count: int) -> str:
    """In MiB, without the unit."""
    return f"{count / (1 << 20):,.0f}"
