"""Greedy decoding with the step of a token as one CUDA graph over a static cache, as serving engines run it: a token
then costs one launch, and its time is what the GPU's memory takes. On the CPU the same step is called instead."""

import torch
import transformers

WARM_UP = 3  # steps before the capture, in which the libraries choose kernels and take their workspaces


class Decoder:
    """A cache, the newest token and its position, at addresses that stay; used under inference_mode alone."""

    def __init__(self, model, prompt, tokens):
        self.model, self.prompt = model, prompt
        wanted = prompt.shape[1] + max(tokens, WARM_UP + 1)
        length = (wanted + 63) // 64 * 64  # aligned, or attention copies the mask
        self.cache = transformers.StaticCache(config=model.config, max_cache_len=length)
        self.token = torch.zeros_like(prompt[:, :1])
        self.position = torch.zeros_like(self.token)
        self.slots = torch.arange(length, device=prompt.device)
        self.all_seen = torch.zeros((1, 1, 1, length), dtype=model.dtype, device=prompt.device)

    def take(self, logits):
        self.token.copy_(logits[:, -1].float().argmax(-1, keepdim=True))

    def prefill(self):
        """From the start: the cache gets the prompt, `token` the first one after it."""
        self.cache.reset()
        length = self.prompt.shape[1]
        positions = self.slots[:length].unsqueeze(0)
        hidden = torch.full((length, len(self.slots)), float("-inf"), dtype=self.model.dtype, device=self.slots.device)
        self.take(self.model(self.prompt, attention_mask=hidden.triu(1)[None, None], position_ids=positions,
                             past_key_values=self.cache, use_cache=True, logits_to_keep=1).logits)
        self.position.fill_(length)

    def step(self):
        """The next token. Nothing here waits for the GPU, since a capture allows no waiting: the mask is made here,
        and the cache counts its length on the GPU."""
        mask = self.all_seen.masked_fill(self.slots > self.position, float("-inf"))
        self.take(self.model(self.token, attention_mask=mask, position_ids=self.position,
                             past_key_values=self.cache, use_cache=True, logits_to_keep=1).logits)
        self.position.add_(1)

    def captured(self):
        """What replays `step`; the state has advanced by the warm-up."""
        side = torch.cuda.Stream(self.prompt.device)
        side.wait_stream(torch.cuda.current_stream(self.prompt.device))
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                self.step()
        side.synchronize()
        self.graph = torch.cuda.CUDAGraph()
        # On the stream of the warm-up, which has its cuBLAS workspace already.
        with torch.cuda.graph(self.graph, stream=side):
            self.step()
        return self.graph.replay


def generate(model, prompt, tokens, heard):
    """So many tokens, each read on the CPU, and the decoder, which holds the graph. `heard` is told as `generate` of
    transformers tells its streamer: of the prompt, and then of every token."""
    decoder = Decoder(model, prompt, tokens)
    decoder.prefill()
    following = decoder.captured() if prompt.device.type == "cuda" else decoder.step
    heard.put(prompt)
    decoder.prefill()
    found = []
    for index in range(tokens):
        if index > 0:
            following()
        found.append(int(decoder.token))
        heard.put(found[-1])
    return found, decoder
