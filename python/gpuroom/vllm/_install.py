"""Puts the plug-in's functions in the place of vLLM's, once vLLM has loaded the module that they are in.

The module is not imported for it: most processes of vLLM have no worker.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import json
import os
import subprocess
import sys
from types import ModuleType
from typing import Any, List, Optional, Sequence

from gpuroom import _library
from gpuroom._errors import Unsupported
from gpuroom.vllm import _log, _seams


def install() -> None:
    """Replaces at once what is loaded, and the rest when it is."""
    loaded = sys.modules.get(_seams.WORKER)
    if loaded is not None and not _loading(loaded):
        replace(loaded)
    else:
        sys.meta_path.insert(0, _Finder())


def prepare_children() -> None:
    """With GPUROOM_VLLM=1 and without `gpuroom run`: the processes that vLLM starts run under gpuroom, since the library has to be
    there before CUDA is. The engine has to be one of them."""
    with _log.going_on("vLLM runs without gpuroom's plug-in; start it by 'gpuroom run -- vllm serve ...'"):
        if os.environ.get("VLLM_ENABLE_V1_MULTIPROCESSING", "1") == "0":
            raise Unsupported("with VLLM_ENABLE_V1_MULTIPROCESSING=0 the engine is in this process")
        command = _library.command()
        if command is None:
            raise Unsupported("there is no command 'gpuroom', in this package or in PATH")
        planned = subprocess.run([command, "run", "--dry-run", "--json", "--", "true"], capture_output=True, text=True)
        if planned.returncode != 0:
            raise Unsupported(planned.stderr.strip())
        plan = json.loads(planned.stdout)
        for name in plan["environment_removed"]:
            os.environ.pop(name, None)
        os.environ.update(plan["environment"])
        os.environ["VLLM_WORKER_MULTIPROCESSING_METHOD"] = "spawn"  # a fork would be without it


def replace(module: ModuleType) -> None:
    """Checks the table and replaces the rows of `module`. What fails leaves vLLM as it is."""
    from gpuroom.vllm import _worker

    with _log.going_on("vLLM runs without gpuroom's plug-in"):
        without = _seams.missing(_parameters, late=False)
        for feature in (_seams.KV_CAP, _seams.STAGING, _seams.PREFLIGHT, _seams.EXPERTS):
            if feature in without:
                _log.info("this vLLM gives no seam for %s: %s", feature, without[feature])
        if _seams.KV_CAP in without:
            return  # all else rests on it
        for seam in _seams.replaced_in(module.__name__, without):
            owner, name = _owner(module, seam.name)
            setattr(owner, name, getattr(_worker, name)(getattr(owner, name)))


def _parameters(module: str, name: str) -> Optional[List[str]]:
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return None
    return _seams.parameters_of(found)


def _owner(module: Any, name: str) -> Any:
    *path, last = name.split(".")
    for part in path:
        module = getattr(module, part)
    return module, last


def _loading(module: ModuleType) -> bool:
    return bool(getattr(getattr(module, "__spec__", None), "_initializing", False))


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the worker's module as others do, and has it changed after it was executed."""

    def find_spec(self, fullname: str, path: Optional[Sequence[str]], target: Optional[ModuleType] = None) -> Any:
        if fullname != _seams.WORKER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                replace(module)

            setattr(spec.loader, "exec_module", exec_module)
        return spec
