"""GB/s at which PyTorch's operations read a matrix that lies in host memory: under gpuroom a tensor that was
spilled there (`gpuroom run --policy cpu_first`), and with --allocator plain_managed managed memory that the
operation's page faults bring in, written by the processor before each time. Results have to be those on HBM."""

import ctypes
import statistics
import sys

import allocators
import common

PAGE = 4096
HOST = 2  # CU_MEM_LOCATION_TYPE_HOST


class Location(ctypes.Structure):
    """CUmemLocation of cuda.h."""

    _fields_ = [("type", ctypes.c_int), ("id", ctypes.c_int)]


def operations(torch, device):
    """By name: what programs do with a matrix of bf16 that they read once."""
    inputs = torch.Generator(device=device)
    inputs.manual_seed(1)

    def times(count):
        def run(matrix):
            other = torch.randn(matrix.shape[1], count, device=device, dtype=matrix.dtype, generator=inputs.manual_seed(1))
            return lambda: matrix @ other

        return run

    return {
        "sum": lambda matrix: lambda: matrix.sum(dtype=torch.float32),
        "row_maxima": lambda matrix: lambda: matrix.amax(dim=1),
        "column_sums": lambda matrix: lambda: matrix.sum(dim=0, dtype=torch.float32),
        "matrix_vector": times(1),
        "matrix_matrix": times(64),
    }


def bring_to_host(matrix):
    """Managed memory alone. The processor writes every page, as it does with data that a program loads."""
    cuda = ctypes.CDLL("libcuda.so.1")
    address, size = matrix.data_ptr(), matrix.numel() * matrix.element_size()
    cuda.cuMemPrefetchAsync_v2.argtypes = [ctypes.c_uint64, ctypes.c_size_t, Location, ctypes.c_uint, ctypes.c_void_p]
    result = cuda.cuMemPrefetchAsync_v2(address, size, Location(HOST, 0), 0, None)
    if result != 0:
        raise RuntimeError(f"cuMemPrefetchAsync: {result}")
    if cuda.cuCtxSynchronize() != 0:
        raise RuntimeError("cuCtxSynchronize failed")
    pages = (ctypes.c_ubyte * size).from_address(address)
    pages[::PAGE] = pages[::PAGE]


def seconds(torch, run, before, rounds):
    """The median time of one run; what was put back before it is not in it."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    taken = []
    for _ in range(rounds):
        before()
        torch.cuda.synchronize()
        start.record()
        result = run()
        end.record()
        torch.cuda.synchronize()
        taken.append(start.elapsed_time(end) / 1e3)
    return statistics.median(taken), result


def main():
    options = common.arguments(rounds=5, rows=16384, columns=32768, allocator="native")
    managed = allocators.choose(options.allocator, options.device).name == "plain_managed"
    torch = common.need("torch")
    if torch.cuda.device_count() <= options.device:
        common.skip(f"there is no GPU {options.device}")
    device = torch.device("cuda", options.device)
    report = common.Report("torch_reads")
    torch.manual_seed(0)
    values = torch.randn(options.rows, options.columns, device=device, dtype=torch.bfloat16)
    bytes_read = values.numel() * values.element_size()
    place = common.describe(values.data_ptr())
    if not managed:
        report.check("spilled", place is not None and place.host_bytes == place.bytes, place and place.host_bytes)
    report.figure("bytes", bytes_read)
    for name, make in operations(torch, device).items():
        run = make(values)
        expected = run().clone()  # of managed memory: in HBM by now
        before = (lambda: bring_to_host(values)) if managed else (lambda: None)
        taken, result = seconds(torch, run, before, options.rounds)
        report.check(name, torch.equal(result, expected), "another result than before")
        report.figure(f"{name}_GBps", round(bytes_read / taken / 1e9, 1))
    sys.exit(report.finish())


if __name__ == "__main__":
    main()
