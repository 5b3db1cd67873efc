"""Says things where vLLM says its own."""

from __future__ import annotations

import contextlib
import logging
from typing import Any, Iterator

_logger = logging.getLogger("vllm.gpuroom")  # below vLLM's own, whose handler and level it has


def info(text: str, *values: Any) -> None:
    """Logs `text % values` as information."""
    _logger.info("gpuroom: " + text, *values)


def warning(text: str, *values: Any) -> None:
    """Logs `text % values` as a warning."""
    _logger.warning("gpuroom: " + text, *values)


@contextlib.contextmanager
def going_on(without: str) -> Iterator[None]:
    """What fails inside is said in one sentence, and the program goes on."""
    try:
        yield
    except Exception as error:
        warning("%s: %s: %s", without, type(error).__name__, str(error).splitlines()[0] if str(error) else "")
        _logger.debug("gpuroom: where it failed", exc_info=True)
