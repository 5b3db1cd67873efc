"""vLLM on more memory than the GPU has: a plug-in by vLLM's own entry points. See docs/vllm.md.

`register` is what vLLM calls in each of its processes. Under `gpuroom run`, or with GPUROOM_VLLM=1, it has the places of
vLLM replaced that `_seams` lists, once vLLM loads them; elsewhere it returns at once and imports nothing.
"""

from __future__ import annotations

_registered = False


def register() -> None:
    """Prepares this process; vLLM calls it, perhaps more than once and from two copies of this package."""
    global _registered
    if _registered:
        return
    from gpuroom.vllm import _settings

    if not _settings.wanted():
        return
    _registered = True
    from gpuroom import _library
    from gpuroom.vllm import _install

    if _library._preloaded() is not None:
        _install.install()
    else:
        _install.prepare_children()
