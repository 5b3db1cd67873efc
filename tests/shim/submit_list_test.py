"""Every function of the driver is hooked, or driver_symbols.py says why not."""
import fnmatch
import os
import pathlib
import re

import driver_symbols

BUILD = pathlib.Path(os.environ["GPUROOM_BUILD_DIR"])
SHIM = pathlib.Path(os.environ["GPUROOM_SOURCE_DIR"]) / "src/shim"

# Without a stream argument, and work all the same.
LAUNCHES_OF_OLD = {"cuLaunch", "cuLaunchGrid"}

FUNCTION = re.compile(r"CUresult\s+CUDAAPI\s+(cu\w+)\s*\(([^;]*)\)\s*;")
PER_THREAD = re.compile(r"#\s*define\s+(cu\w+)\s+__CUDA_API_PT([DS])[SZ]\((\w+)\)")
LISTED = re.compile(r'^GPUROOM_(?:HOOK|SUBMIT)\("(\w+)", (\w+)', re.MULTILINE)


def declared(text):
    """{name without version: its parameters} of a header's functions."""
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    return {re.sub(r"(_v\d+)?(_ptsz|_ptds)?$", "", name): parameters for name, parameters in FUNCTION.findall(text)}


def taking_a_stream(text):
    return {name for name, parameters in declared(text).items() if re.search(r"\bCUstream\b", parameters)}


def per_thread_forms(text):
    """[(name, symbol, its form for the thread's own default stream)] of a header."""
    return [(name, symbol, symbol + {"D": "_ptds", "S": "_ptsz"}[kind]) for name, kind, symbol in
            PER_THREAD.findall(text)]


HEADER = (BUILD / "headers/cuda.h").read_text()
LIST = LISTED.findall((SHIM / "hooks.def").read_text() + (SHIM / "submit.def").read_text())
NAMES = {name for name, _ in LIST}
SYMBOLS = {symbol for _, symbol in LIST}


def test_the_header_is_understood():
    assert {"cuLaunchKernel", "cuMemcpyHtoDAsync", "cuStreamSynchronize"} <= taking_a_stream(HEADER)
    assert "cuMemAlloc" not in taking_a_stream(HEADER)
    assert ("cuMemcpyHtoD", "cuMemcpyHtoD_v2", "cuMemcpyHtoD_v2_ptds") in per_thread_forms(HEADER)
    small = "/* CUresult CUDAAPI cuNo(CUstream s); */ CUresult CUDAAPI cuYes_v2_ptsz(int *a,\n CUstream s);"
    assert taking_a_stream(small) == {"cuYes"}


def test_every_function_is_hooked_or_explained():
    """Of the header that this is built with, and of the newest that was looked at."""
    assert len(declared(HEADER)) > 400 and len(driver_symbols.recorded()) > 600
    assert driver_symbols.unexplained(driver_symbols.recorded(), SYMBOLS) == []
    assert driver_symbols.unexplained(driver_symbols.declared(BUILD / "headers"), SYMBOLS) == []
    assert sorted(LAUNCHES_OF_OLD - NAMES) == []


def test_every_function_of_the_simulated_driver_is_hooked_or_explained():
    """tests/gpu does the same with the driver that is installed."""
    symbols = driver_symbols.exported(BUILD / "lib/gpuroom/sim/libcuda.so.1")
    assert {"cuInit", "cuLaunchKernel_ptsz", "cuMemAlloc_v2"} <= set(symbols)
    assert driver_symbols.unexplained(symbols, SYMBOLS) == []


def test_a_new_function_is_noticed():
    assert driver_symbols.unexplained(["cuMemcpyFromTheMoonAsync_ptsz", "cuInit"], SYMBOLS) == [
        "cuMemcpyFromTheMoonAsync_ptsz"]  # fmt: skip


def test_every_explanation_is_of_something_that_is_not_hooked():
    names = {re.sub(r"(_v\d+)?(_ptsz|_ptds)?$", "", symbol) for symbol in
             set(driver_symbols.recorded()) - SYMBOLS}
    beside_cuda_h = ("cudbg*", "cuProfiler*", "cuVDPAU*", "cuVDP*", "cuMemGetAttribute")
    unused = [pattern for pattern in driver_symbols.patterns() if not fnmatch.filter(names, pattern)]
    assert sorted(set(unused) - set(beside_cuda_h)) == []
    assert sorted(set(driver_symbols.OLD_FORMS) & SYMBOLS) == []


def test_what_the_newest_header_has_is_recorded_whole():
    """A header that is newer than the list: list it again, and look at what is new."""
    assert sorted(set(driver_symbols.declared(BUILD / "headers")) - set(driver_symbols.recorded())) == []


def test_hooks_stand_in_front_of_both_default_streams():
    forms = [(symbol, form) for name, symbol, form in per_thread_forms(HEADER) if name in NAMES]
    assert len(forms) > 50
    assert [pair for pair in forms if not SYMBOLS.issuperset(pair)] == []
