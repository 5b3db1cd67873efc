"""Runs the built `gpuroom doctor` and reads its JSON."""
import json
import os
import pathlib
import re
import shutil
import struct
import subprocess

import pytest

BUILD = pathlib.Path(os.environ["GPUROOM_BUILD_DIR"])
FIXTURES = pathlib.Path(os.environ["GPUROOM_SOURCE_DIR"]) / "tests" / "fixtures"


class Doctor:
    """One run: status, texts, and the facts by name."""

    def __init__(self, *arguments, **environment):
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("GPUROOM_SIM", "LD_"))}
        done = subprocess.run([BUILD / "bin" / "gpuroom", "doctor", *map(str, arguments)], capture_output=True,
                              text=True, errors="replace", timeout=120, env={**clean, **environment}, check=False)
        self.status, self.out, self.err = done.returncode, done.stdout, done.stderr
        self.json = json.loads(done.stdout) if "--json" in arguments and done.stdout else None

    def __getitem__(self, name):
        found = [fact for fact in self.json["facts"] if fact["name"] == name]
        assert len(found) == 1, f"{name}: {found or [f['name'] for f in self.json['facts']]}"
        return found[0]


@pytest.fixture
def doctor():
    return Doctor


@pytest.fixture
def on_fixture():
    return lambda name: Doctor("--json", "--sysroot", FIXTURES / name)


def gpus_of(tree):
    """(name, address) of the GPUs in a machine's nvidia-smi.txt."""
    table = tree / "nvidia-smi.txt"
    row = re.compile(r"^\|\s+\d+\s+(NVIDIA .*?)\s{2,}\S+\s+\|\s+([0-9A-Fa-f]{8}:\S+)", re.M)
    return row.findall(table.read_text()) if table.exists() else []


def name_gpus(tree):
    """What NVIDIA's driver shows everybody of each GPU; its folder has the address in the kernel's form."""
    for minor, (name, address) in enumerate(gpus_of(tree)):
        address = address[4:].lower()
        folder = tree / "proc/driver/nvidia/gpus" / address
        folder.mkdir(parents=True)
        (folder / "information").write_text(
            f"Model: \t\t {name}\nIRQ:   \t\t {240 + minor}\nGPU UUID: \t GPU-????????-????-????-????-????????????\n"
            f"Video BIOS: \t ??.??.??.??.??\nBus Type: \t PCIe\nDMA Size: \t 52 bits\nBus Location: \t {address}\n"
            f"Device Minor: \t {minor}\nGPU Excluded:\t No\n")


def write_dmi_table(tree):
    """The firmware's table with the sizes of dmidecode's text, in MB below 32 GiB and else in the longer field."""
    text = tree / "dmidecode-t-memory.txt"
    table = b""
    for amount, unit in re.findall(r"^\s+Size: (\d+) ([MGT])B", text.read_text() if text.exists() else "", re.M):
        mib = int(amount) << {"M": 0, "G": 10, "T": 20}[unit]
        short, extended = (mib, 0) if mib < 0x7FFF else (0x7FFF, mib)
        table += struct.pack("<BBH8xH14xI8x", 17, 40, 1, short, extended) + b"Bank 0\0\0"
    file = tree / "sys/firmware/dmi/tables/DMI"
    file.parent.mkdir(parents=True)
    file.write_bytes(table + struct.pack("<BBH", 127, 4, 2) + b"\0\0")


def drop_tools(tree):
    """A machine has no file with what a tool printed."""
    for path in tree.glob("*.txt"):
        path.unlink()


def hide_addresses(tree):
    """/proc/iomem as everybody but root reads it."""
    iomem = tree / "proc/iomem"
    if iomem.exists():
        iomem.write_text(re.sub(r"[0-9a-f]+-[0-9a-f]+ :", "00000000-00000000 :", iomem.read_text()))


def hide(path):
    """A file that is there and cannot be read. Root can read any, so there a folder is in its place."""
    if os.getuid() == 0:
        path.unlink()
        path.mkdir()
    else:
        path.chmod(0)


def as_root(tree):
    name_gpus(tree)
    write_dmi_table(tree)
    drop_tools(tree)


def as_user(tree):
    as_root(tree)
    hide(tree / "sys/firmware/dmi/tables/DMI")
    hide_addresses(tree)


def in_container(tree):
    """Docker puts an empty folder in the place of /sys/firmware."""
    as_root(tree)
    shutil.rmtree(tree / "sys/firmware")
    hide_addresses(tree)


def without_the_drivers_files(tree):
    """NVIDIA's folder in /proc is there, and no file in it can be read."""
    as_user(tree)
    for path in [path for path in tree.glob("proc/driver/nvidia/**/*") if path.is_file()]:
        hide(path)


def unreadable(tree):
    as_user(tree)
    for path in [path for path in tree.rglob("*") if path.is_file()]:
        hide(path)


@pytest.fixture
def seen(tmp_path):
    """seen(fixture, how) makes a folder that holds a fixture's machine as a process there sees it."""

    def make(fixture, how):
        tree = tmp_path / "machine"
        shutil.copytree(FIXTURES / fixture, tree)
        (tree / "README.md").unlink()
        how(tree)
        return tree

    return make


GPU_FILES = {"vendor": "0x10de", "class": "0x030200", "current_link_speed": "32.0 GT/s PCIe",
             "max_link_speed": "32.0 GT/s PCIe", "current_link_width": "16", "max_link_width": "16"}


class Machine:
    """A machine's files, written from a few figures; sizes are MiB, as `numactl --hardware` prints them."""

    def __init__(self, tree):
        self.tree = tree
        self.gpus = 0
        self.write("proc/self/cgroup", "0::/")

    def write(self, path, text):
        file = self.tree / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
        return self

    def nodes(self, nodes, meminfo=""):
        """{id: (cpus, size, free)}, and what /proc/meminfo has beside the sums of these."""
        total, free = (sum(node[i] for node in nodes.values()) * 1024 for i in (1, 2))
        self.write("proc/meminfo", f"MemTotal: {total} kB\nMemFree: {free} kB\nMemAvailable: {free} kB\n{meminfo}")
        self.write("sys/devices/system/node/online", ",".join(map(str, sorted(nodes))))
        for number, (cpus, size, unused) in nodes.items():
            folder = f"sys/devices/system/node/node{number}"
            self.write(f"{folder}/cpulist", cpus)
            self.write(f"{folder}/meminfo",
                       f"Node {number} MemTotal: {size * 1024} kB\nNode {number} MemFree: {unused * 1024} kB")
        return self

    def driver(self, version="580.95.05", params=""):
        self.write("proc/driver/nvidia/version", f"NVRM version: NVIDIA UNIX Open Kernel Module  {version}  Release Build")
        return self.write("proc/driver/nvidia/params", "ModifyDeviceFiles: 1\n" + params)

    def gpu(self, name, memory, bus="00000000:17:00.0", node=0):
        """A row of nvidia-smi's table, its memory column as printed, and a place on the bus unless node is None."""
        table = self.tree / "nvidia-smi.txt"
        rows = table.read_text() if table.exists() else ""
        self.write("nvidia-smi.txt",
                   rows + f"| {self.gpus:3}  {name:26} Off |   {bus} Off |                    0 |\n"
                   f"| N/A   31C    P0             83W /  700W |  {memory:22}|      0%      Default |")
        self.gpus += 1
        if node is not None:
            for file, text in {**GPU_FILES, "numa_node": str(node)}.items():
                self.write(f"sys/bus/pci/devices/{bus[4:].lower()}/{file}", text)
        return self


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path / "written")
