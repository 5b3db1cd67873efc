"""What gpuroom's calls take, by the names that PyTorch's own have for it. Of use to type checkers alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Literal, Protocol, Sequence, Union

if TYPE_CHECKING:
    import torch

Tier = Literal["device", "peer", "host"]
Policy = Literal["gpu_first", "balanced", "cpu_first"]
Backend = Literal["tiers", "managed"]
Hint = Literal["none", "hot", "cold", "stream"]
Action = Literal["keep", "disk", "drop"]
Hold = Literal["none", "wait", "fail"]


class Tensor(Protocol):
    """What is asked of a torch.Tensor."""

    @property
    def shape(self) -> Sequence[int]: ...
    def stride(self) -> Sequence[int]: ...
    def numel(self) -> int: ...
    def element_size(self) -> int: ...
    def data_ptr(self) -> int: ...


class CudaArray(Protocol):
    """An array of another library, such as CuPy's or Numba's."""

    @property
    def __cuda_array_interface__(self) -> Dict[str, Any]: ...


class HasStream(Protocol):
    """A torch.cuda.Stream."""

    @property
    def cuda_stream(self) -> int: ...


Memory = Union[int, Tensor, CudaArray]  # an address on the device, or what lies there
Device = Union[int, str, "torch.device"]  # as torch.cuda's calls take it
Stream = Union[int, HasStream]  # a CUDA stream, or its handle
