"""PyTorch, imported in one place. Its own type hints vary with its version, so it is untyped here."""

from __future__ import annotations

import importlib
from typing import Any

torch: Any = importlib.import_module("torch")
