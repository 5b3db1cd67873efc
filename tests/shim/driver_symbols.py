"""Which functions of the driver the library lets pass, and why: each symbol of libcuda.so.1 is hooked (hooks.def,
submit.def), harmless for one of the reasons below, or a known gap. What is none of these is a door that nobody looked
at: a test says so of the names in driver_symbols.txt, and a step of tests/gpu of the driver that is installed.

    python3 tests/shim/driver_symbols.py FOLDER > tests/shim/driver_symbols.txt

lists the names that the CUDA headers in FOLDER declare (cuda.h, and cudaGL.h and the like where they are).
"""

from __future__ import annotations

import fnmatch
import pathlib
import re
import struct
import subprocess
import sys
from typing import Dict, Iterable, List, Set

# Reasons, and the symbols that each is true of, as shell patterns without "_v2", "_ptsz" and "_ptds". Memory that
# gpuroom places keeps its address and its contents, so that what only names an address, or asks about one, needs no hook.
HARMLESS: Dict[str, str] = {
    "asks or sets what has nothing to do with memory": """
        cuInit cuDriverGetVersion cuGetErrorName cuGetErrorString cuCoredump* cuLogs* cuProfiler* cuOccupancy*
        cuDeviceCanAccessPeer cuDeviceComputeCapability cuDeviceGet cuDeviceGetAttribute cuDeviceGetByPCIBusId
        cuDeviceGetClique* cuDeviceGetCount cuDeviceGetDevResource cuDeviceGetExecAffinitySupport
        cuDeviceGetFabricClusterUuid cuDeviceGetHostAtomicCapabilities cuDeviceGetLuid cuDeviceGetName
        cuDeviceGetNvSciSyncAttributes cuDeviceGetP2P* cuDeviceGetPCIBusId cuDeviceGetProperties
        cuDeviceGetTexture1DLinearMaxWidth cuDeviceGetUuid cuDeviceRegisterAsyncNotification
        cuDeviceUnregisterAsyncNotification cuDevResource* cuDevSmResource* cudbg* cuIpc*EventHandle""",
    "contexts themselves; those that gpuroom has to know of it asks for when work comes": """
        cuCtxAttach cuCtxDetach cuCtxDisablePeerAccess cuCtxFromGreenCtx cuCtxGet* cuCtxPopCurrent cuCtxPushCurrent
        cuCtxRecordEvent cuCtxResetPersistingL2Cache cuCtxSet* cuCtxSynchronize cuCtxWaitEvent cuGreenCtx*
        cuDevicePrimaryCtxGetState cuDevicePrimaryCtxRetain cuDevicePrimaryCtxSetFlags""",
    "streams themselves: made, asked, waited for": """
        cuStreamCopyAttributes cuStreamCreate cuStreamCreateWithPriority cuStreamGet* cuStreamIsCapturing cuStreamQuery
        cuStreamSetAttribute cuStreamSynchronize cuStreamUpdateCaptureDependencies cuThreadExchangeStreamCaptureMode""",
    "order, and host code": """
        cuEvent* cuLaunchHostFunc cuStreamAddCallback cuStreamWaitEvent cuUserObject* cuFlushGPUDirectRDMAWrites""",
    "code and what is linked into it": """
        cuModule* cuLibrary* cuLink* cuFunc* cuKernel* cuParamSet*""",
    "a graph's making; its launch is hooked, and memory that its nodes allocate is the driver's own": "cuGraph*",
    "names an address that stays valid": "cuTensorMap* cuTexRef* cuTexObject* cuSurfRef* cuSurfObject*",
    "addresses without memory; what is mapped there is hooked": "cuMemAddressReserve cuMemAddressFree",
    "asks about memory, and is answered by where its chunks lie": """
        cuMemGetAccess cuMemGetAllocationGranularity cuMemGetLocationInfo cuMemRangeGetAttribute*""",
    "managed memory, which the driver moves; of what gpuroom placed it has none to move": """
        cuMemAdvise cuMemAllocManaged cuMemDiscard* cuMemPrefetch* cuStreamAttachMemAsync""",
    "host memory that the program pins itself": """
        cuMemAllocHost cuMemFreeHost cuMemHostAlloc cuMemHostGetDevicePointer cuMemHostGetFlags cuMemHostRegister
        cuMemHostUnregister""",
    "memory of other processes and interfaces, which stays where it is": """
        cuImportExternal* cuExternalMemory* cuDestroyExternal* cuSignalExternal*
        cuWaitExternal* cuEGL* cuGL* cuGraphics* cuVDPAU* cuVDP*""",
    "the driver's pools, which gpuroom asks for what they hold": """
        cuMemPoolGet* cuMemPoolSet* cuMemPoolTrimTo cuMemPoolExport* cuMemPoolImport* cuMemGetDefaultMemPool
        cuMemGetMemPool cuMemSetMemPool cuDeviceGetDefaultMemPool cuDeviceGetMemPool cuDeviceSetMemPool
        cuDeviceGetGraphMemAttribute cuDeviceSetGraphMemAttribute cuDeviceGraphMemTrim""",
    "multicast objects themselves; what binds memory to them is hooked": """
        cuMulticastAddDevice cuMulticastCreate cuMulticastGetGranularity cuMulticastUnbind""",
}

# The same of what gpuroom should stand in front of and does not.
KNOWN_GAPS: Dict[str, str] = {
    "arrays lie in HBM, are the driver's own, and do not count against --hbm-limit": "cuArray* cuMipmappedArray*",
    "internal tables of functions, of which nothing is published": "cuGetExportTable",
    "driver 580 exports it, no header up to CUDA 13.5 names it; by its name it asks about memory": "cuMemGetAttribute",
    "another process takes this one's GPU memory away and gives it back; sleeping memory it does not know": """
        cuCheckpoint*""",
    "CUDA 13.1 and 13.3: captures within graphics, and into a graph that is there, are not noticed": """
        cuStreamBeginCaptureToCig cuStreamEndCaptureToCig cuStreamBeginRecaptureToGraph""",
    "CUDA 13.3: endpoints take handles, which are gpuroom's own, and memory that may move under them": """
        cuLogicalEndpoint*""",
}
# A known gap as well, symbols as they are: forms of functions from before the version that is hooked. Programs that
# were built with CUDA 10.1 or newer (cuDevicePrimaryCtx*: 11.0) call none of them; most have addresses of 32 bits.
OLD_FORMS = """
    cuCtxCreate cuCtxDestroy cuDevicePrimaryCtxRelease cuDevicePrimaryCtxReset cuDeviceTotalMem cuMemAlloc
    cuMemAllocPitch cuMemFree cuMemGetAddressRange cuMemGetInfo cuMemcpy2D cuMemcpy2DAsync cuMemcpy2DUnaligned
    cuMemcpy3D cuMemcpy3DAsync cuMemcpyAtoA cuMemcpyAtoD cuMemcpyAtoH cuMemcpyAtoHAsync cuMemcpyDtoA cuMemcpyDtoD
    cuMemcpyDtoDAsync cuMemcpyDtoH cuMemcpyDtoHAsync cuMemcpyHtoA cuMemcpyHtoAAsync cuMemcpyHtoD cuMemcpyHtoDAsync
    cuMemsetD16 cuMemsetD2D16 cuMemsetD2D32 cuMemsetD2D8 cuMemsetD32 cuMemsetD8 cuStreamBeginCapture
    cuStreamBeginCapture_ptsz cuStreamDestroy""".split()

LISTED = re.compile(r'^GPUROOM_(?:HOOK|SUBMIT)\("\w+", (\w+)', re.MULTILINE)
HEADERS = ("cuda.h", "cudaGL.h", "cudaEGL.h", "cudaVDPAU.h", "cudaProfiler.h", "cudaTypedefs.h")


def hooked(shim: pathlib.Path) -> Set[str]:
    """The symbols of src/shim/hooks.def and submit.def."""
    return set(LISTED.findall((shim / "hooks.def").read_text() + (shim / "submit.def").read_text()))


def patterns() -> List[str]:
    """All of HARMLESS and KNOWN_GAPS."""
    return [pattern for rules in (HARMLESS, KNOWN_GAPS) for text in rules.values() for pattern in text.split()]


def is_explained(symbol: str) -> bool:
    """Whether a list above says why a symbol is not hooked."""
    plain = re.sub(r"(_v\d+)?(_ptsz|_ptds)?$", "", symbol)
    return symbol in OLD_FORMS or any(fnmatch.fnmatchcase(plain, pattern) for pattern in patterns())


def unexplained(symbols: Iterable[str], hooks: Set[str]) -> List[str]:
    return sorted(symbol for symbol in symbols if symbol not in hooks and not is_explained(symbol))


def recorded() -> List[str]:
    """The names of driver_symbols.txt."""
    lines = pathlib.Path(__file__).with_suffix(".txt").read_text().splitlines()
    return [line for line in lines if not line.startswith("#")]


def exported(library: pathlib.Path) -> List[str]:
    """The functions of the driver that a 64-bit library defines."""
    data = library.read_bytes()
    assert data[:5] == b"\x7fELF\2", f"{library} is no 64-bit ELF file"
    (table,) = struct.unpack_from("<Q", data, 40)
    size, count = struct.unpack_from("<HH", data, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, table + size * i) for i in range(count)]
    names: Set[str] = set()
    for _, kind, _, _, offset, length, link, _, _, _ in sections:
        if kind != 11:  # SHT_DYNSYM
            continue
        strings = sections[link][4]
        for at in range(offset, offset + length, 24):
            name, info, _, section = struct.unpack_from("<IBBH", data, at)
            if section != 0 and info & 15 == 2:  # defined, STT_FUNC
                begin = strings + name
                names.add(data[begin : data.index(b"\0", begin)].decode())
    return sorted(name for name in names if name.startswith("cu"))


def declared(folder: pathlib.Path) -> List[str]:
    """The symbols that the headers in a folder declare, in all versions."""
    names: Set[str] = set()
    for header in HEADERS:
        if not (folder / header).is_file():
            continue
        for define in ("__CUDA_API_VERSION_INTERNAL", "CUDA_API_PER_THREAD_DEFAULT_STREAM", "UNUSED"):
            text = subprocess.run(["cc", "-E", "-P", f"-D{define}", f"-I{folder}", str(folder / header)],
                                  capture_output=True, text=True).stdout  # fmt: skip
            names.update(re.findall(r"(?<!inline )\bCUresult\s+(cu[A-Z]\w*)\s*\(", text))
    return sorted(names)


def version(folder: pathlib.Path) -> str:
    (number,) = re.findall(r"#define CUDA_VERSION (\d+)", (folder / "cuda.h").read_text())
    return f"{int(number) // 1000}.{int(number) % 1000 // 10}"


if __name__ == "__main__":
    FOLDER = pathlib.Path(sys.argv[1])
    print(f"# The driver's functions as the headers of CUDA {version(FOLDER)} declare them; see driver_symbols.py.")
    print("\n".join(declared(FOLDER)))
