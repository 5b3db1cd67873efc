"""A pool of PyTorch's over cumem_allocator, used as vLLM's sleep mode uses it: memory goes and comes back at its
addresses, with its contents, a CUDA graph that was captured before replays, and a lack of memory passes."""

import sys

import common

torch = None  # imported by main()
MIB = common.MIB
BYTES = 256 * MIB


class Sleeper:
    """The callbacks' side, as vLLM's CuMemAllocator keeps it."""

    def __init__(self, module):
        self.module, self.handles = module, {}
        module.init_module(self.on_malloc, self.on_free)
        self.allocator = torch.cuda.memory.CUDAPluggableAllocator(module.__file__, "my_malloc", "my_free")
        self.pool = torch.cuda.MemPool(self.allocator._allocator)

    def on_malloc(self, handle):
        self.handles[handle[2]] = handle

    def on_free(self, pointer):
        return self.handles.pop(pointer)

    def sleep(self):
        for handle in self.handles.values():
            self.module.python_unmap_and_release(*handle)

    def wake(self):
        for handle in self.handles.values():
            self.module.python_create_and_map(*handle)


def pattern(seed):
    return torch.arange(seed, seed + BYTES // 4, dtype=torch.int32, device="cuda")


def sleeps_and_wakes(report, sleeper):
    with torch.cuda.use_mem_pool(sleeper.pool):
        row = [torch.empty(BYTES // 4, dtype=torch.int32, device="cuda") for _ in range(4)]
    for index, tensor in enumerate(row):
        tensor.copy_(pattern(index))
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        row[0].add_(row[1])
    backups = [tensor.cpu() for tensor in row]
    addresses = [tensor.data_ptr() for tensor in row]
    torch.cuda.empty_cache()
    for turn in range(3):
        awake = torch.cuda.mem_get_info()[0]
        sleeper.sleep()
        freed = torch.cuda.mem_get_info()[0] - awake
        report.check(f"sleep {turn} frees the GPU's memory", freed >= 4 * BYTES, freed)
        sleeper.wake()
        for tensor, backup in zip(row, backups):
            tensor.copy_(backup)
        right = all(torch.equal(tensor.cpu(), backup) for tensor, backup in zip(row, backups))
        report.check(f"wake {turn} has the contents", right and addresses == [t.data_ptr() for t in row])
        graph.replay()
        torch.cuda.synchronize()
        report.check(f"graph {turn} replays", torch.equal(row[0].cpu(), backups[0] + backups[1]))


def lacks_memory(report, sleeper):
    before = dict(sleeper.handles)
    total = torch.cuda.mem_get_info()[1]
    try:
        with torch.cuda.use_mem_pool(sleeper.pool):
            torch.empty(2 * total, dtype=torch.uint8, device="cuda")
        report.check("more than the GPU has is refused", False, "it was allocated")
    except torch.cuda.OutOfMemoryError as error:
        report.check("more than the GPU has is refused", True, str(error)[:100])
    report.check("the callbacks have forgotten it", sleeper.handles == before, len(sleeper.handles))
    with torch.cuda.use_mem_pool(sleeper.pool):
        tensor = torch.ones(BYTES // 4, dtype=torch.int32, device="cuda")
    report.check("the next allocation works", int(tensor.sum()) == BYTES // 4)


def refuses(report, sleeper):
    handle = next(iter(sleeper.handles.values()))
    try:
        sleeper.module.python_create_and_map(*handle)
        report.check("mapping twice is refused", False)
    except RuntimeError as error:
        report.check("mapping twice is refused", "is mapped already" in str(error), error)


def main():
    global torch
    torch = common.need("torch")
    module = common.need("cumem_allocator")
    if not torch.cuda.is_available():
        common.skip("PyTorch sees no GPU")
    report = common.Report("torch_cumem")
    sleeper = Sleeper(module)
    for topic in sleeps_and_wakes, lacks_memory, refuses:
        report.run(topic, sleeper)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
