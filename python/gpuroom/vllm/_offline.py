"""Where the plug-in would put weights, for `gpuroom plan`: the plug-in's own placing, without vLLM, PyTorch or a GPU.

Run as a program: JSON on standard input, JSON on standard output.

    {"weights": [{"bytes": 1, "by_row": false, "leaves": true}], "room": {"free": 1, "reserve": 1, "beside": 1}}
    {"host": [numbers of weights], "ring": bytes, "short": bytes}

`leaves`: the weight is of a kind that may lie on the host. `room` is the HBM that large allocations can have, what small
ones alone can have, and what is needed beside weights.
"""

from __future__ import annotations

import importlib.util
import json
import pathlib
import sys
from typing import Any, Dict, List

LEAST = 20 << 20  # _modules.LEAST, which cannot be imported without PyTorch; a test compares


def _load(name: str) -> Any:
    """A module of this folder, without its package, which needs more than Python."""
    spec = importlib.util.spec_from_file_location(name, pathlib.Path(__file__).with_name(name + ".py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


_placing, _budget = _load("_placing"), _load("_budget")


def answer(weights: List[Dict[str, Any]], room: Dict[str, int]) -> Dict[str, Any]:
    """The weights on the host, where `room` is there."""
    may_leave = [number for number, weight in enumerate(weights) if weight["leaves"] and weight["bytes"] >= LEAST]
    left = _budget.room_for_weights(0, room["free"], room["reserve"], room["beside"], 0)  # as once it is warmed up
    left -= sum(weight["bytes"] for weight in weights) - sum(weights[number]["bytes"] for number in may_leave)
    listed = [_placing.Weight(weights[number]["bytes"], number, weights[number]["by_row"]) for number in may_leave]
    places = _placing.place(listed, left)
    host = sorted(may_leave[number] for number in [*places.staged, *places.read_in_place])
    return {"host": host, "ring": places.ring.bytes, "short": places.short}


def main() -> None:
    """Reads one question as JSON from standard input, and writes the answer to standard output."""
    asked = json.load(sys.stdin)
    json.dump(answer(asked["weights"], asked["room"]), sys.stdout)


if __name__ == "__main__":
    main()
