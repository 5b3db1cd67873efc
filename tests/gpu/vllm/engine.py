#!/usr/bin/env python3
"""One vLLM engine, offline, and the works of one case; an ordinary vLLM program that knows nothing of gpuroom.

    engine.py CASE.json RESULT.json

Writes RESULT.json anew after each work, so that a run that is cut short leaves what it had."""

import cProfile
import fcntl
import hashlib
import json
import os
import pstats
import statistics
import sys
import time

TURNS_SECONDS, MOST_TURNS = 3.0, 15
BEGAN = time.perf_counter()
with open(sys.argv[1]) as file:
    CASE = json.load(file)
RESULT = {"name": CASE["name"], "works": {}}


def save(**more):
    RESULT.update(more)
    with open(sys.argv[2] + ".part", "w") as file:
        json.dump(RESULT, file)
    os.replace(sys.argv[2] + ".part", sys.argv[2])


def say(*words):
    print(f"## {CASE['name']} {time.perf_counter() - BEGAN:7.2f}", *words, flush=True)


HOT_EXPERTS = 6  # of each layer with experts: the router prefers them


def fill(model):
    """Weights that differ by layer, so that memory that was mixed up would show."""
    import torch

    for index, (name, weight) in enumerate(model.named_parameters()):
        if weight.is_cuda and weight.dim() < 2:
            weight.data.fill_(1.0)
        elif weight.is_cuda:
            weight.data.normal_(0.0, 0.02, generator=torch.Generator(device=weight.device).manual_seed(1000 + index))
            if name.endswith(".gate.weight"):
                weight.data[:HOT_EXPERTS] *= 8.0
    torch.cuda.synchronize()


def prompts(count, length):
    made = []
    for i in range(count):
        x, ids = 12345 + 7919 * i, []
        for _ in range(length):
            x = (1103515245 * x + 12345) & 0x7FFFFFFF
            ids.append(3 + (x >> 8) % 31000)
        made.append({"prompt_token_ids": ids})
    return made


def generate(llm, count, length, out):
    from vllm import SamplingParams

    asked = SamplingParams(temperature=0.0, max_tokens=out, ignore_eos=True, detokenize=False, logprobs=0)
    begin = time.perf_counter()
    done = llm.generate(prompts(count, length), asked, use_tqdm=False)
    took = time.perf_counter() - begin
    tokens = [list(one.outputs[0].token_ids) for one in done]
    return took, tokens, [[next(iter(step.values())).logprob for step in one.outputs[0].logprobs] for one in done]


def digest(what):
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]


def work(llm, name, count, length, out, first=2):
    """`first`: how often the prompts alone are run before. Times are medians of as many turns as fit into TURNS_SECONDS, of the
    prompts alone and of the whole by turns; their difference is what making tokens took."""
    for _ in range(first - 1):
        generate(llm, count, length, 1)
    alone, whole, end = [], [], time.perf_counter() + TURNS_SECONDS
    while not whole or len(whole) < MOST_TURNS and time.perf_counter() < end:
        if first:
            alone.append(generate(llm, count, length, 1)[0])
        took, tokens, logprobs = generate(llm, count, length, out)
        whole.append(took)
    before, took = statistics.median(alone or [0.0]), statistics.median(whole)
    done = {"turns": len(whole), "first_s": round(before, 4), "all_s": round(took, 4), "tokens": digest(tokens), "logprobs": digest(logprobs)}
    if out > 1 and first:
        done["step_ms"] = round(1e3 * (took - before) / (out - 1), 3)
    if out == 1:
        done["prefill_tok_s"] = round(count * length / took, 1)
    RESULT["works"][name] = done
    say("work", name, json.dumps(done))
    save()


def profile(llm, tokens, most=24):
    """Which functions of this process take the time of one sequence's steps: for each, microseconds and calls a token."""
    watched = cProfile.Profile()
    watched.runcall(generate, llm, 1, 128, tokens)
    rows = [(own, calls, f"{os.path.basename(file)}:{name}") for (file, _, name), (_, calls, own, *_) in pstats.Stats(watched).stats.items()]
    for own, calls, name in sorted(rows, reverse=True)[:most]:
        say(f"profile {1e6 * own / tokens:8.1f} us {calls / tokens:6.1f} calls {name}")


def main():
    from vllm import LLM

    say("imported")
    lock = open(CASE["lock"], "w")  # the next case imports while this one works
    fcntl.flock(lock, fcntl.LOCK_EX)
    begin = time.perf_counter()
    llm = LLM(**CASE["llm"])
    cache = llm.llm_engine.vllm_config.cache_config
    save(start_s=round(time.perf_counter() - begin, 2), kv_tokens=cache.num_gpu_blocks * cache.block_size)
    say("engine", RESULT["start_s"], "s, KV tokens", RESULT["kv_tokens"])
    if CASE["fill"]:
        llm.apply_model(fill)
    generate(llm, 1, 32, 4)
    for name, arguments in CASE["works"].items():
        work(llm, name, *arguments)
    if CASE.get("profile"):
        profile(llm, CASE["profile"])
    save(ok=True)
    say("done")


if __name__ == "__main__":
    main()
