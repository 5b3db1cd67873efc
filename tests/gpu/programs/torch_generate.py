"""A Llama-like transformers model with random bf16 weights that decodes greedily, one
token after the other: seconds a token, and how much of the model lies on the host.
--model-gib says how many bytes the weights have. With --accelerate-gib the weights are
dispatched by accelerate instead, with that much of the GPU's memory and the rest on the
CPU. With --graph 1 the step of a token is one CUDA graph over a static cache, so that no
Python is in a token's time; attention then runs other kernels than without, and the last
bit of a tie may fall the other way. The tokens have to be the same in every way of one kind."""

import ctypes
import gc
import os
import statistics
import sys
import time
import warnings

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import common  # noqa: E402

torch = common.need("torch")
transformers = common.need("transformers")
import graph_decode  # noqa: E402  (needs both)

PROMPT = 32
VOCABULARY = 32000
# Of the model; --shape small is for trying the program without a GPU.
SHAPES = {
    "large": {"hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336},
    "small": {"hidden_size": 256, "num_attention_heads": 8, "num_key_value_heads": 2, "intermediate_size": 896},
}


def layer_bytes(shape, intermediate):
    """Of one decoder layer in bf16: attention, feed-forward, two norms."""
    hidden = shape["hidden_size"]
    keys = hidden // shape["num_attention_heads"] * shape["num_key_value_heads"]
    return 2 * (2 * hidden * hidden + 2 * hidden * keys + 3 * hidden * intermediate + 2 * hidden)


def configuration(name, wanted):
    """A Llama of `wanted` bytes, to about half a percent: so many layers of the usual
    shape, then a feed-forward part that fits."""
    shape = dict(SHAPES[name])
    ends = 2 * (2 * VOCABULARY * shape["hidden_size"] + shape["hidden_size"])
    layers = max(1, round((wanted - ends) / layer_bytes(shape, shape["intermediate_size"])))
    rest = (wanted - ends) / layers - layer_bytes(shape, 0)
    shape["intermediate_size"] = max(64, int(rest / (6 * shape["hidden_size"]) / 64) * 64)
    return transformers.LlamaConfig(
        vocab_size=VOCABULARY, max_position_embeddings=2048, num_hidden_layers=layers, tie_word_embeddings=False,
        bos_token_id=None, eos_token_id=None, pad_token_id=0, dtype="bfloat16", attn_implementation="sdpa", **shape)


def skeleton(config):
    """The model without memory, but for the few words of its rotary embedding."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config)
    torch.set_default_dtype(default)
    model.model.rotary_emb = type(model.model.rotary_emb)(config)
    return model.eval()


def owner(model, name):
    path, _, leaf = name.rpartition(".")
    return model.get_submodule(path), leaf


def put_weights(model, device, place):
    """Makes every parameter on `device`, the same in every process, and leaves it
    where `place(name)` says."""
    generator = torch.Generator(device=device).manual_seed(11)
    for name, parameter in list(model.named_parameters()):
        value = torch.empty(parameter.shape, dtype=torch.bfloat16, device=device)
        if parameter.dim() > 1:
            value.normal_(0.0, 0.02, generator=generator)
        else:
            value.fill_(1.0)
        module, leaf = owner(model, name)
        module._parameters[leaf] = torch.nn.Parameter(value.to(place(name)), requires_grad=False)
        del value


def resident(config, device):
    model = skeleton(config)
    put_weights(model, device, lambda name: device)
    model.model.rotary_emb.to(device)
    return model


def offloaded(report, config, device, limit):
    """By accelerate: as many layers on the GPU as `limit` bytes hold, the rest on the CPU."""
    accelerate = common.need("accelerate")
    model = skeleton(config)
    places = accelerate.infer_auto_device_map(
        model, max_memory={device.index or 0: limit, "cpu": 1 << 40}, no_split_module_classes=["LlamaDecoderLayer"],
        dtype=torch.bfloat16)

    def place(name):
        while name not in places:
            name = name.rpartition(".")[0]
        return torch.device("cpu") if places[name] == "cpu" else device

    put_weights(model, device, place)
    torch.cuda.empty_cache()
    on_cpu = sum(p.numel() * p.element_size() for p in model.parameters() if p.device.type == "cpu")
    report.figure("cpu_bytes", on_cpu)
    report.figure("gpu_bytes", sum(p.numel() * p.element_size() for p in model.parameters()) - on_cpu)
    return accelerate.dispatch_model(model, device_map=places)


class TokenTimes:
    """What generate calls a streamer: it hears of the prompt and then of every token,
    each of which it gets on the CPU, so that the GPU is done with it."""

    def __init__(self):
        self.times = []

    def put(self, _tokens):
        self.times.append(time.perf_counter())

    def end(self):
        pass

    def per_token(self, warm_up):
        """Seconds of every token after the prompt, the first, and `warm_up` more."""
        return [after - before for before, after in zip(self.times[1:], self.times[2:])][warm_up:]


def spans(tensors):
    """(address, bytes) of the tensors' storages on the GPU."""
    found = {}
    for tensor in tensors:
        if tensor.device.type == "cuda":
            storage = tensor.untyped_storage()
            found[storage.data_ptr()] = max(storage.nbytes(), found.get(storage.data_ptr(), 0))
    return [(address, size) for address, size in found.items() if address]


def live_tensors():
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is deprecated among everything there is
        for thing in gc.get_objects():
            try:
                if isinstance(thing, torch.Tensor) and thing.device.type == "cuda":
                    found.append(thing)
            except (ReferenceError, RuntimeError):
                pass  # a proxy whose object has gone, or that cannot be made now
    return found


def placement(report, model):
    """Where the model lies, and everything else that is alive. The embedding counts for
    itself: a token reads one row of it, and of all the rest every byte."""
    everything = list(model.parameters()) + list(model.buffers())
    table = model.get_input_embeddings().weight
    own = {tensor.data_ptr() for tensor in everything}
    groups = {
        "model": everything,
        "read": [tensor for tensor in everything if tensor is not table],
        "other": [tensor for tensor in live_tensors() if tensor.data_ptr() not in own],
    }
    for name, tensors in groups.items():
        for tier, size in common.bytes_by_tier(spans(tensors)).items():
            report.figure(f"{name}_{tier}_bytes", size)


def eager_tokens(model, prompt, options, streamer):
    # At every length that is new to it cuBLAS looks for a kernel, for tens of milliseconds: the
    # first time through is not timed, but where a token takes a second anyway.
    for heard in ([streamer] if options.accelerate_gib else [None, streamer]):
        output = model.generate(
            prompt, max_new_tokens=options.tokens, min_new_tokens=options.tokens, do_sample=False,
            pad_token_id=0, attention_mask=torch.ones_like(prompt), streamer=heard)
    return output[0, PROMPT:].tolist()


def generate(report, options, device):
    config = configuration(options.shape, options.model_gib * common.GIB)
    start = time.perf_counter()
    if options.accelerate_gib:
        model = offloaded(report, config, device, int(options.accelerate_gib * common.GIB))
    else:
        model = resident(config, device)
    synchronize(device)
    report.figure("build_seconds", round(time.perf_counter() - start, 3))
    report.figure("layers", config.num_hidden_layers)
    report.figure("model_bytes", sum(p.numel() * p.element_size() for p in model.parameters()))
    prompt = (torch.arange(PROMPT, device=device) * 977 % VOCABULARY).unsqueeze(0)
    streamer = TokenTimes()
    with torch.inference_mode():
        if options.graph:
            tokens, _decoder = graph_decode.generate(model, prompt, options.tokens, streamer)
        else:
            tokens = eager_tokens(model, prompt, options, streamer)
    seconds = streamer.per_token(options.warm_up)
    report.figure("tokens", tokens)
    report.figure("timed_tokens", len(seconds))
    report.figure("seconds_per_token", round(statistics.median(seconds), 5))
    report.figure("mean_seconds_per_token", round(statistics.mean(seconds), 5))
    report.figure("token_seconds", [round(value, 4) for value in streamer.per_token(0)])
    report.check("all tokens", len(tokens) == options.tokens, len(tokens))
    if not options.accelerate_gib:
        placement(report, model)
    if device.type == "cuda":
        report.figure("peak_bytes", torch.cuda.max_memory_allocated(device))
        report.figure("reserved_bytes", torch.cuda.memory_reserved(device))


def synchronize(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def wait_without_spinning(device):
    """Threads that wait for the GPU sleep. Where a container's processor time is rationed,
    one that spins is held back afterwards, when it should submit the next token."""
    driver = ctypes.CDLL("libcuda.so.1")
    blocking = 4  # CU_CTX_SCHED_BLOCKING_SYNC
    if driver.cuInit(0) or driver.cuDevicePrimaryCtxSetFlags_v2(device.index or 0, blocking):
        sys.exit("the primary context's flags cannot be set")


def main():
    options = common.arguments(model_gib=1.0, tokens=24, warm_up=4, accelerate_gib=0.0, shape="large", cpu=0, graph=0)
    if options.graph and options.accelerate_gib:
        sys.exit("--graph and --accelerate-gib exclude each other: weights that are copied for each token cannot be "
                 "in a graph; leave one out")
    if not options.cpu and not torch.cuda.is_available():
        common.skip("PyTorch finds no GPU")
    device = torch.device("cpu") if options.cpu else torch.device("cuda", options.device)
    if not options.cpu:
        wait_without_spinning(device)
    report = common.Report("torch_generate")
    report.run(generate, options, device)
    sys.exit(report.finish())


if __name__ == "__main__":
    main()
