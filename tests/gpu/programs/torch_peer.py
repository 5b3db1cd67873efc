"""Stock PyTorch moves tensors between two GPUs, resident and spilled ones, each way."""

import os
import sys

import common

torch = common.need("torch")


def spilled(row):
    """The tensor with most of its bytes in host memory."""
    places = [common.describe(tensor.data_ptr()) for tensor in row]
    return max(range(len(row)), key=lambda i: places[i].host_bytes if places[i] else 0)


def main():
    options = common.arguments()
    if torch.cuda.device_count() < 2:
        common.skip("needs two GPUs")
    report = common.Report("torch_peer")
    rows = []
    for device in (0, 1):
        count = options.pieces // 2 + 5 if device == 0 else 2
        rows.append([torch.full((options.piece // 4,), float(i), device=f"cuda:{device}") for i in range(count)])
    index = spilled(rows[0])
    place = common.describe(rows[0][index].data_ptr())
    report.figure("host_share", None if place is None else round(place.host_bytes / place.bytes, 3))
    source = rows[0][index]
    source.copy_(torch.arange(source.numel(), device="cuda:0") % 4096)
    expected = torch.arange(source.numel(), device="cuda:1") % 4096
    for name, tensor in (("spilled to the other GPU", source), ("a part of it", source[1000:-1000])):
        want = expected if tensor.numel() == expected.numel() else expected[1000:-1000]
        bad = int((tensor.to("cuda:1") != want).sum())
        report.check(name, bad == 0, f"{bad} wrong elements")
    there = rows[1][0]
    there.copy_(expected + 1)
    source.copy_(there)
    bad = int((source != torch.arange(source.numel(), device="cuda:0") % 4096 + 1).sum())
    report.check("back into the spilled one", bad == 0, f"{bad} wrong elements")
    strided = source.view(-1, 2)[:, 0].to("cuda:1")  # a kernel of one GPU reads the other's memory
    bad = int((strided != (expected + 1).view(-1, 2)[:, 0]).sum())
    report.check("strided", bad == 0, f"{bad} wrong elements")
    report.figure("peer_access", int(torch.cuda.can_device_access_peer(0, 1)))
    report.figure("expandable", int("expandable" in os.environ.get("PYTORCH_CUDA_ALLOC_CONF", "")))
    sys.exit(report.finish())


if __name__ == "__main__":
    main()
