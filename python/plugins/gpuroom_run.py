"""The entry points that programs under `gpuroom run` find, by a folder at the end of PYTHONPATH.

The package itself is not in this folder, since PYTHONPATH goes before what pip installed: a package `gpuroom` that is
installed is taken, and only else the one beside the command.
"""

import importlib
import pathlib
import sys

_PACKAGES = str(pathlib.Path(__file__).resolve().parent.parent / "python")


def _package(name):
    """A module of the package, or None: it is not there, or an installed package of another version lacks it."""
    for path in (None, _PACKAGES):
        if path is not None and path not in sys.path:
            sys.path.append(path)
        try:
            return importlib.import_module(name)
        except ImportError:
            if "gpuroom" in sys.modules:
                break
    return None


def vllm():
    plugin = _package("gpuroom.vllm")
    if plugin is not None:
        plugin.register()


def cumem():
    plugin = _package("gpuroom.cumem")
    if plugin is not None:
        plugin.register()
