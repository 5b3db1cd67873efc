"""A Llama-like transformers model with random weights. --mode generate decodes 16
tokens greedily from a model of about 9 GiB; --mode train takes two AdamW steps of a
smaller one. What it prints (tokens, losses) has to be the same on any memory."""

import os
import sys
import time

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import common  # noqa: E402

torch = common.need("torch")
transformers = common.need("transformers")

SHAPES = {
    "generate": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 23, "num_attention_heads": 32},
    "train": {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 16, "num_attention_heads": 16},
}


def build(mode, device, scale):
    shape = dict(SHAPES[mode])
    shape["num_hidden_layers"] = max(1, int(shape["num_hidden_layers"] * scale))
    config = transformers.LlamaConfig(
        vocab_size=32000, max_position_embeddings=2048, num_key_value_heads=shape["num_attention_heads"],
        tie_word_embeddings=False, bos_token_id=None, eos_token_id=None, attn_implementation="eager", **shape)
    torch.set_default_dtype(torch.bfloat16)
    torch.set_default_device(device)
    model = transformers.LlamaForCausalLM(config)
    torch.set_default_device(None)
    torch.set_default_dtype(torch.float32)
    generator = torch.Generator(device=device).manual_seed(11)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if parameter.dim() > 1:
                parameter.normal_(0.0, 0.02, generator=generator)
    return model


def generate(report, options, device):
    model = build("generate", device, options.scale).eval()
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    report.figure("weight_bytes", weights)
    prompt = (torch.arange(32, device=device) * 977 % 32000).unsqueeze(0)
    arguments = {"do_sample": False, "pad_token_id": 0, "attention_mask": torch.ones_like(prompt)}
    model.generate(prompt, max_new_tokens=2, **arguments)
    torch.cuda.synchronize() if device.type == "cuda" else None
    start = time.perf_counter()
    output = model.generate(prompt, max_new_tokens=16, min_new_tokens=16, **arguments)
    tokens = output[0, 32:].tolist()
    report.figure("seconds_per_token", round((time.perf_counter() - start) / len(tokens), 4))
    report.figure("tokens", tokens)
    report.check("generated 16 tokens", len(tokens) == 16, len(tokens))


def train(report, options, device):
    model = build("train", device, options.scale).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, foreach=False)
    words = (torch.arange(2 * options.length, device=device) * 7919 % 32000).view(2, options.length)
    losses = []
    for _ in range(2):
        loss = model(input_ids=words, labels=words).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
    report.figure("losses", losses)
    report.check("loss is finite", all(loss == loss and abs(loss) < 1e6 for loss in losses), losses)
    if device.type == "cuda":
        report.figure("peak_bytes", torch.cuda.max_memory_allocated(device))


def main():
    options = common.arguments(mode="generate", scale=1.0, length=512, cpu=0)
    if not options.cpu and not torch.cuda.is_available():
        common.skip("PyTorch finds no GPU")
    device = torch.device("cpu") if options.cpu else torch.device("cuda", options.device)
    torch.manual_seed(1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    report = common.Report("transformers_model")
    report.figure("mode", options.mode)
    report.run(generate if options.mode == "generate" else train, options, device)
    sys.exit(report.finish())


if __name__ == "__main__":
    main()
