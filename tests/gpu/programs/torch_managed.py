"""Stock PyTorch under a managed backend: tensors keep what is written, a step of training,
a graph, out of memory where the cap is, and all of it back."""

import gc
import sys

import common
from torch_memory import fill, wrong

torch = common.need("torch")


def totals(report, options, device):
    _, total = torch.cuda.mem_get_info(device)
    seen = torch.cuda.get_device_properties(device).total_memory
    report.check("total", total == seen == options.expect_total, f"{total}, {seen}, expected {options.expect_total}")


def tensors(report, options, device, row):
    for index in range(options.pieces):
        row.append(torch.empty(options.piece // 4, dtype=torch.int32, device=device))
        fill(row[-1], 100 * index)
    report.check("values", sum(wrong(tensor, 100 * i) for i, tensor in enumerate(row)) == 0)
    report.check("copied to the CPU", row[0][:5].cpu().tolist() == [0, 1, 2, 3, 4])
    placed = [common.describe(tensor.data_ptr()) for tensor in row]
    report.check("not in tiers", all(place is None for place in placed), placed)


def training(report, options, device, row):
    weight = torch.ones(256, 256, device=device, requires_grad=True)
    loss = (torch.ones(256, 256, device=device) @ weight).mean()
    loss.backward()
    report.check("loss", loss.item() == 256.0, loss.item())
    report.check("gradient", bool((weight.grad == 1.0 / 256).all()))


def graph(report, options, device, row):
    """Captures work on a managed tensor; the capture allocates, too."""
    row[0].add_(0)
    torch.cuda.synchronize(device)
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        row[0].add_(1)
        doubled = row[0][: 8 * common.MIB] * 2
    for _ in range(3):
        captured.replay()
    torch.cuda.synchronize(device)
    report.check("graph", wrong(row[0], 0, 3) == 0)
    report.check("graph's own tensor", torch.equal(doubled, row[0][: 8 * common.MIB] * 2))
    del captured, doubled
    fill(row[0], 0)


def out_of_memory(report, options, device, row):
    for size in (options.expect_total, 1 << 42):  # neither is tried beyond the cap
        try:
            torch.empty(size, dtype=torch.uint8, device=device)
            report.check("refused", False, f"{size} bytes were given")
        except torch.OutOfMemoryError:
            report.check("refused", True)
    report.check("goes on", sum(wrong(tensor, 100 * i) for i, tensor in enumerate(row)) == 0)


def main():
    options = common.arguments()
    if torch.cuda.device_count() <= options.device:
        common.skip(f"there is no GPU {options.device}")
    device = torch.device("cuda", options.device)
    report = common.Report("torch_managed")
    report.run(totals, options, device)
    warm = torch.ones(64, 64, device=device)
    (warm @ warm).sum().item()
    del warm
    torch.cuda.empty_cache()
    free_before, _ = torch.cuda.mem_get_info(device)
    row = []
    for topic in (tensors, training, graph, out_of_memory):
        report.run(topic, options, device, row)
    row.clear()
    gc.collect()
    torch.cuda.synchronize(device)
    if hasattr(torch._C, "_cuda_clearCublasWorkspaces"):
        torch._C._cuda_clearCublasWorkspaces()
    torch.cuda.empty_cache()
    free_after, _ = torch.cuda.mem_get_info(device)
    report.check("memory back", free_after >= free_before - 128 * common.MIB, f"{free_before}, then {free_after}")
    sys.exit(report.finish())


if __name__ == "__main__":
    main()
