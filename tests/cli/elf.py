"""ELF files made by hand, so that the tests need no compiler for other machines."""

import platform
import struct

MACHINES = {"x86_64": 62, "aarch64": 183}
LOADERS = {"x86_64": "/lib64/ld-linux-x86-64.so.2", "aarch64": "/lib/ld-linux-aarch64.so.1"}
HERE = platform.machine()
MACHINE = MACHINES[HERE]
OTHER_MACHINE = next(number for name, number in MACHINES.items() if name != HERE)
LOADER = LOADERS[HERE]

EXEC, DYN, REL, CORE = 2, 3, 1, 4
PT_LOAD, PT_DYNAMIC, PT_INTERP = 1, 2, 3
HEADER = 64
SEGMENT = 56


def segment(kind, offset, size):
    return struct.pack("<IIQQQQQQ", kind, 5, offset, (0x400000 + offset) % 2**64, 0, size, size, 0x1000)


def program(interpreter=LOADER, machine=MACHINE, kind=DYN, **fields):
    """A 64-bit program of one loadable segment, and a loader unless `interpreter` is None."""
    count = 2 if interpreter is not None else 1
    path = interpreter.encode() + b"\0" if interpreter is not None else b""
    begin = HEADER + count * SEGMENT
    size = begin + len(path)
    segments = segment(PT_LOAD, 0, fields.get("load_size", size))
    if interpreter is not None:
        segments += segment(PT_INTERP, fields.get("interp_offset", begin), fields.get("interp_size", len(path)))
    header = b"\177ELF" + bytes([fields.get("elf_class", 2), fields.get("data", 1), 1, 0]) + bytes(8)
    header += struct.pack(
        "<HHIQQQIHHHHHH",
        kind,
        machine,
        1,
        0x400000,
        fields.get("phoff", HEADER),
        0,
        0,
        HEADER,
        fields.get("phentsize", SEGMENT),
        fields.get("phnum", count),
        64,
        0,
        0,
    )
    return header + segments + path


def program32():
    """A 32-bit program's header, and nothing behind it."""
    header = b"\177ELF" + bytes([1, 1, 1, 0]) + bytes(8)
    return header + struct.pack("<HHIIIIIHHHHHH", EXEC, 3, 1, 0x8048000, 52, 0, 0, 52, 32, 0, 40, 0, 0)
