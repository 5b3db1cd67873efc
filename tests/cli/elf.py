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
DT_NULL, DT_NEEDED, DT_STRTAB = 0, 1, 5
DT_VERDEF, DT_VERNEED = 0x6FFFFFFC, 0x6FFFFFFE
BASE = 0x400000
HEADER = 64
SEGMENT = 56


def segment(kind, offset, size):
    return struct.pack("<IIQQQQQQ", kind, 5, offset, (BASE + offset) % 2**64, 0, size, size, 0x1000)


class Names:
    """A string table in the making: names(text) is the offset of that text."""

    def __init__(self):
        self.table = b"\0"

    def __call__(self, text):
        offset = len(self.table)
        self.table += text.encode() + b"\0"
        return offset


def verdef(names, offers):
    """Records of the versions that a library offers: each a header of 20 bytes and one name of 8."""
    records = b""
    for index, version in enumerate(offers):
        last = index + 1 == len(offers)
        records += struct.pack("<HHHHIII", 1, 0, index + 1, 1, 0, 20, 0 if last else 28)
        records += struct.pack("<II", names(version), 0)
    return records


def verneed(names, needs):
    """Records of the versions that are needed of libc.so.6: one header of 16 bytes, and 16 bytes for each."""
    records = struct.pack("<HHIII", 1, len(needs), names("libc.so.6"), 16, 0)
    for index, version in enumerate(needs):
        records += struct.pack("<IHHII", 0, 0, index + 2, names(version), 0 if index + 1 == len(needs) else 16)
    return records


def links(begin, libraries, offers, needs):
    """What a file that starts with `begin` bytes says to the loader about others, and its dynamic section's offset."""
    names = Names()
    entries = [(DT_NEEDED, names(library)) for library in libraries]
    tables = [(DT_VERDEF, verdef(names, offers))] if offers else []
    tables += [(DT_VERNEED, verneed(names, needs))] if needs else []
    data = b""
    for tag, table in [(DT_STRTAB, names.table), *tables]:
        entries.append((tag, BASE + begin + len(data)))
        data += table
    dynamic = b"".join(struct.pack("<QQ", *entry) for entry in [*entries, (DT_NULL, 0)])
    return data + dynamic, begin + len(data)


def program(interpreter=LOADER, machine=MACHINE, kind=DYN, libraries=(), offers=(), needs=(), **fields):
    """A 64-bit file of one loadable segment, and a loader unless `interpreter` is None. It has to be loaded with
    `libraries`, offers the versions `offers`, and needs `needs` of libc.so.6."""
    linked = bool(libraries or offers or needs)
    count = 1 + (interpreter is not None) + linked
    path = interpreter.encode() + b"\0" if interpreter is not None else b""
    begin = HEADER + count * SEGMENT
    tail, dynamic = links(begin + len(path), libraries, offers, needs) if linked else (b"", 0)
    size = begin + len(path) + len(tail)
    segments = segment(PT_LOAD, 0, fields.get("load_size", size))
    if linked:
        segments += segment(PT_DYNAMIC, dynamic, begin + len(path) + len(tail) - dynamic)
    if interpreter is not None:
        segments += segment(PT_INTERP, fields.get("interp_offset", begin), fields.get("interp_size", len(path)))
    header = b"\177ELF" + bytes([fields.get("elf_class", 2), fields.get("data", 1), 1, 0]) + bytes(8)
    header += struct.pack(
        "<HHIQQQIHHHHHH",
        kind,
        machine,
        1,
        BASE,
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
    return header + segments + path + tail


def program32():
    """A 32-bit program's header, and nothing behind it."""
    header = b"\177ELF" + bytes([1, 1, 1, 0]) + bytes(8)
    return header + struct.pack("<HHIIIIIHHHHHH", EXEC, 3, 1, 0x8048000, 52, 0, 0, 52, 32, 0, 40, 0, 0)
