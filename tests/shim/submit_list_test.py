"""Every function of cuda.h that takes a stream is hooked, or is named here because it touches no memory of ours."""
import os
import pathlib
import re

BUILD = pathlib.Path(os.environ["GPUROOM_BUILD_DIR"])
SHIM = pathlib.Path(os.environ["GPUROOM_SOURCE_DIR"]) / "src/shim"

TOUCH_NO_MEMORY = {
    # Streams themselves: made, asked, waited for.
    "cuGreenCtxStreamCreate", "cuStreamCopyAttributes", "cuStreamCreate", "cuStreamCreateWithPriority",
    "cuStreamGetAttribute", "cuStreamGetCaptureInfo", "cuStreamGetCtx", "cuStreamGetDevice", "cuStreamGetFlags",
    "cuStreamGetGreenCtx", "cuStreamGetId", "cuStreamGetPriority", "cuStreamIsCapturing", "cuStreamQuery",
    "cuStreamSetAttribute", "cuStreamSynchronize", "cuStreamUpdateCaptureDependencies",
    # Order, and host code.
    "cuEventRecord", "cuEventRecordWithFlags", "cuLaunchHostFunc", "cuStreamAddCallback", "cuStreamWaitEvent",
    # A graph's own memory; its launch is hooked.
    "cuGraphUpload",
    # Managed memory alone, which the driver moves.
    "cuMemDiscardAndPrefetchBatchAsync", "cuMemDiscardBatchAsync", "cuMemPrefetchAsync", "cuMemPrefetchBatchAsync",
    "cuStreamAttachMemAsync",
    # What other programming interfaces own.
    "cuGraphicsMapResources", "cuGraphicsUnmapResources", "cuSignalExternalSemaphoresAsync",
    "cuWaitExternalSemaphoresAsync",
}
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


def test_every_function_with_a_stream_is_hooked_or_touches_no_memory():
    assert sorted(taking_a_stream(HEADER) - NAMES - TOUCH_NO_MEMORY) == []
    assert sorted(LAUNCHES_OF_OLD - NAMES) == []


def test_nothing_is_in_both_lists():
    assert sorted(TOUCH_NO_MEMORY & NAMES) == []
    assert sorted(TOUCH_NO_MEMORY - declared(HEADER).keys()) == []


def test_hooks_stand_in_front_of_both_default_streams():
    forms = [(symbol, form) for name, symbol, form in per_thread_forms(HEADER) if name in NAMES]
    assert len(forms) > 50
    assert [pair for pair in forms if not SYMBOLS.issuperset(pair)] == []
