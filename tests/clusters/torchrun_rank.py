"""One rank under torchrun: joins its group by PyTorch's own means, sums a tensor over all ranks, then serves as worker.py does."""

import sys

import torch
import torch.distributed
from worker import serve

torch.distributed.init_process_group("gloo")
ones = torch.ones(1 << 20)
torch.distributed.all_reduce(ones)
assert ones.min() == ones.max() == torch.distributed.get_world_size()
serve(sys.argv[1])
