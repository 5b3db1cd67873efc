#!/usr/bin/env python3
"""Writes folders that vLLM takes for models: a Llama's config.json and a tokenizer of as many words as its vocabulary.

    models.py FOLDER

No file has weights: vLLM makes them (load_format dummy), and engine.py gives each layer others."""

import json
import pathlib
import sys
from typing import Any, Dict

SHAPES: Dict[str, Dict[str, Any]] = {
    # 24 layers: 10.2 GiB in bf16; 96 KiB of KV cache a token.
    "large": dict(hidden_size=4096, intermediate_size=14336, num_hidden_layers=24, num_attention_heads=32, num_key_value_heads=8),
    # 8 layers: 3.7 GiB; 32 KiB of KV cache a token.
    "small": dict(hidden_size=4096, intermediate_size=14336, num_hidden_layers=8, num_attention_heads=32, num_key_value_heads=8),
    # 6 layers: 2.9 GiB; 24 KiB of KV cache a token. For what is to be started often.
    "short": dict(hidden_size=4096, intermediate_size=14336, num_hidden_layers=6, num_attention_heads=32, num_key_value_heads=8),
    # 8 layers: 3.7 GiB; 8 KiB of KV cache a token, so that a context of 262,144 has 2 GiB.
    "long": dict(hidden_size=4096, intermediate_size=14336, num_hidden_layers=8, num_attention_heads=32, num_key_value_heads=2,
                 max_position_embeddings=262144),
    # 10 layers of 16 experts, of which a token uses two: 16.3 GiB, 15 GiB of it experts of 96 MiB; 40 KiB of KV cache a token.
    "experts": dict(hidden_size=4096, intermediate_size=4096, num_hidden_layers=10, num_attention_heads=32, num_key_value_heads=8,
                    architectures=["MixtralForCausalLM"], model_type="mixtral", num_local_experts=16, num_experts_per_tok=2,
                    sliding_window=None),
}
WORDS = 32000


def tokenizer() -> Dict[str, Any]:
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": None, "decoder": None,
        "model": {"type": "WordLevel", "vocab": {f"w{i}": i for i in range(WORDS)}, "unk_token": "w0"},
    }  # fmt: skip


def config(shape: Dict[str, Any]) -> Dict[str, Any]:
    llama: Dict[str, Any] = dict(
        architectures=["LlamaForCausalLM"], model_type="llama", head_dim=128, hidden_act="silu", vocab_size=WORDS,
        max_position_embeddings=131072, rms_norm_eps=1e-5, rope_theta=500000.0, tie_word_embeddings=False,
        attention_bias=False, mlp_bias=False, bos_token_id=1, eos_token_id=2, torch_dtype="bfloat16")  # fmt: skip
    return {**llama, **shape}


def main() -> None:
    for name, shape in SHAPES.items():
        folder = pathlib.Path(sys.argv[1]) / name
        folder.mkdir(parents=True, exist_ok=True)
        kind = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "w0", "model_max_length": shape.get("max_position_embeddings", 131072)}
        for file, what in (("config.json", config(shape)), ("tokenizer.json", tokenizer()), ("tokenizer_config.json", kind)):
            (folder / file).write_text(json.dumps(what))


if __name__ == "__main__":
    main()
