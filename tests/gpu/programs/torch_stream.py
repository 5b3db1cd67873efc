"""gpuroom.torch.stream() on a Llama-like model with random bf16 weights (torch_generate.py has the model): the
logits of a prompt and greedy tokens, seconds a token, and which part of the link's speed the streamed bytes
reached. --how full (all weights in HBM), stream, or accelerate (its CPU offload in as much HBM). The logits have to
be the same to the bit in `full` and `stream`."""

import ctypes
import hashlib
import statistics
import sys
import time

import allocators
import common
import torch_generate as base

torch = base.torch
TOKENS, WARM_UP, PROMPT = 24, 4, 32


def with_weights(config, device, place):
    """The model with the same weights in every process."""
    model = base.skeleton(config)
    base.put_weights(model, device, lambda _name: place)
    return model


def digest(tensor):
    host = tensor.detach().cpu().contiguous()
    return hashlib.sha256(ctypes.string_at(host.data_ptr(), host.numel() * host.element_size())).hexdigest()[:16]


def link_speed(handle, device):
    """GB/s of the same copies with nothing beside them."""
    streamer = handle._streamer
    if not streamer._units:
        return 0.0
    home = streamer._units[0].home
    target, best = torch.empty_like(home), 0.0
    for _ in range(5):
        torch.cuda.synchronize(device)
        start = time.perf_counter()
        for _ in range(4):
            target.copy_(home, non_blocking=True)
        torch.cuda.synchronize(device)
        best = max(best, 4 * home.numel() / (time.perf_counter() - start) / 1e9)
    return best


def streamed(report, config, options, device):
    gpuroom = allocators.package()
    if not options.under_run:
        gpuroom.configure(host_limit="24GiB")
    model = with_weights(config, device, torch.device("cpu"))
    handle = gpuroom.torch.stream(model, hbm=int(options.hbm_gib * common.GIB), prefetch=options.prefetch,
                                   device=options.device)
    stats = handle.stats()
    for name in ("resident_bytes", "streamed_bytes", "direct_bytes", "staging_bytes"):
        report.figure(name, getattr(stats, name))
    report.check("within the budget", stats.resident_bytes + stats.staging_bytes <= options.hbm_gib * common.GIB, stats)
    homes = [gpuroom.describe(unit.home) for unit in handle._streamer._units]
    report.check("streamed weights lie on the host", all(home.host_bytes == home.bytes for home in homes), homes[:2])
    report.figure("used_hbm_bytes", gpuroom.stats(options.device).device_used)
    report.figure("link_GBps", round(link_speed(handle, device), 2))
    return model, handle


def model_for(report, options, config, device):
    """(model, StreamHandle or None)."""
    if options.how == "full":
        model = with_weights(config, device, device)
        model.model.rotary_emb.to(device)
        return model, None
    if options.how == "accelerate":
        limit = int((options.hbm_gib - 0.25) * common.GIB)
        return base.offloaded(report, config, device, limit), None
    return streamed(report, config, options, device)


class Copied:
    """What a streamer's counters say between the first timed token and the last."""

    def __init__(self, handle):
        self.handle, self.marks = handle, []

    def mark(self):
        self.marks.append(self.handle.stats().copied_bytes if self.handle else 0)


class TokenTimes(base.TokenTimes):
    def __init__(self, copied):
        super().__init__()
        self.copied = copied

    def put(self, tokens):
        super().put(tokens)
        self.copied.mark()


def run(report, options, device):
    config = base.configuration(options.shape, options.model_gib * common.GIB)
    start = time.perf_counter()
    model, handle = model_for(report, options, config, device)
    base.synchronize(device)
    report.figure("build_seconds", round(time.perf_counter() - start, 2))
    prompt = (torch.arange(PROMPT, device=device) * 977 % base.VOCABULARY).unsqueeze(0)
    with torch.inference_mode():
        report.figure("logits", digest(model(prompt).logits))
    copied = Copied(handle)
    times = TokenTimes(copied)
    tokens = 8 if options.how == "accelerate" else TOKENS
    for heard in ([times] if options.how == "accelerate" else [None, times]):
        with torch.inference_mode():
            output = model.generate(prompt, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False,
                                    pad_token_id=0, attention_mask=torch.ones_like(prompt), streamer=heard)
    report.figure("tokens", output[0, PROMPT:].tolist())
    seconds = times.per_token(WARM_UP)
    report.figure("seconds_per_token", round(statistics.median(seconds), 5))
    report.check("all tokens", output.shape[1] == PROMPT + tokens, output.shape)
    if handle is not None:
        finish(report, handle, copied, statistics.median(seconds))
    grad_and_remove(report, model, handle, prompt)


def finish(report, handle, copied, seconds):
    stats = handle.stats()
    per_token = (copied.marks[-1] - copied.marks[-6]) / 5
    link = report.figures["link_GBps"]
    report.figure("copied_GiB_per_token", round(per_token / common.GIB, 3))
    report.figure("stream_GBps", round(per_token / seconds / 1e9, 2))
    report.figure("of_link", round(per_token / seconds / 1e9 / link, 3) if link else 0)
    report.figure("units_staged", stats.staged)
    report.figure("units_late", stats.late)
    report.check("units are staged", stats.staged > 0 and stats.in_place == 0, stats)
    report.check("copies are ahead of use", stats.late <= 8, stats)


def grad_and_remove(report, model, handle, prompt):
    """In place (with grad) and after remove() the logits are the same; so they are from a captured graph."""
    if handle is None:
        return
    expected = report.figures["logits"]
    report.check("same with grad", digest(model(prompt).logits) == expected, "other logits")
    handle.remove()
    with torch.inference_mode():
        report.check("same after remove", digest(model(prompt).logits) == expected, "other logits")


def main():
    options = common.arguments(how="stream", model_gib=12.0, hbm_gib=6.0, prefetch=2, shape="large", under_run=0)
    if torch.cuda.device_count() <= options.device:
        common.skip(f"there is no GPU {options.device}")
    if options.how not in ("full", "stream", "accelerate"):
        sys.exit(f"--how is '{options.how}'; use full, stream or accelerate")
    device = torch.device("cuda", options.device)
    base.wait_without_spinning(device)
    report = common.Report(f"torch_stream_{options.how}")
    report.run(run, options, device)
    sys.exit(report.finish())


if __name__ == "__main__":
    main()
