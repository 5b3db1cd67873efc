"""Bare systems of Debian, for both architectures, unpacked into a folder and entered without privileges."""

from __future__ import annotations

import os
import pathlib
import platform
import shlex
import shutil
import subprocess
import tempfile
from typing import List, Sequence

MIRROR = "http://deb.debian.org/debian"
DEBIAN = {"x86_64": "amd64", "aarch64": "arm64"}
# How the kernel knows a program for 64-bit Arm (/proc/sys/fs/binfmt_misc), F: the emulator is opened at once.
MAGIC = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
EMULATOR = "/usr/bin/qemu-aarch64-static"
# What a script needs; `make` unpacks them beside what it is asked for.
BASIC = ["base-files", "coreutils", "dash", "diffutils", "dpkg", "findutils", "grep", "sed", "tar"]


def apt_options() -> List[str]:
    """Whether the mirror's files may be older than they say: as this machine's own apt-get holds it."""
    dump = subprocess.run(["apt-config", "dump", "Acquire::Check-Valid-Until"], text=True, capture_output=True).stdout
    return [f"--aptopt={line}" for line in dump.splitlines()]


def make(folder: pathlib.Path, suite: str, architecture: str, packages: Sequence[str]) -> pathlib.Path:
    """Unpacks Debian's packages below the folder; none of them is configured, which an emulator takes long to do."""
    root = folder / f"{suite}-{architecture}"
    done = subprocess.run(
        ["mmdebstrap", "--quiet", "--variant=extract", f"--architectures={DEBIAN[architecture]}", *apt_options(),
         '--setup-hook=mkdir -p "$1/proc" "$1/dev" "$1/tmp" "$1/mnt" "$1/root" "$1/opt"', f"--include={','.join([*BASIC, *packages])}",
         suite, str(root), MIRROR],
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
    assert done.returncode == 0, done.stdout
    if not (root / "bin/sh").exists():  # Debian 11 makes it when it configures dash
        (root / "bin/sh").symlink_to("dash")
    return root


def enter(root: pathlib.Path, script: str, shared: pathlib.Path) -> "subprocess.CompletedProcess[str]":
    """Runs a shell script inside, as its root, with `shared` at /mnt. What it writes is gone afterwards."""
    with tempfile.TemporaryDirectory() as scratch:
        layers = "upper", "work", "inside"
        upper, work, inside = (shlex.quote(f"{scratch}/{name}") for name in layers)
        steps = ["set -e", f"mount -t tmpfs none {shlex.quote(scratch)}", f"mkdir {upper} {work} {inside}",
                 f"mount -t overlay none -o lowerdir={shlex.quote(str(root))},upperdir={upper},workdir={work},userxattr {inside}",
                 f"mount --rbind /proc {inside}/proc", f"mount --rbind /dev {inside}/dev",
                 f"mount --bind {shlex.quote(str(shared))} {inside}/mnt"]  # fmt: skip
        if root.name.endswith("-aarch64") and platform.machine() != "aarch64":
            entry = f":gpuroom-aarch64:M::{MAGIC}:{MASK}:{EMULATOR}:F"
            steps += ["mount -t binfmt_misc none /proc/sys/fs/binfmt_misc",
                      f"printf %s {shlex.quote(entry)} > /proc/sys/fs/binfmt_misc/register"]  # fmt: skip
        steps += [f"exec chroot {inside} /bin/sh -ec {shlex.quote(script)}"]
        environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root",
                       "LC_ALL": "C.UTF-8",
                       **{name: value for name, value in os.environ.items() if name.endswith("_proxy")}}  # fmt: skip
        return subprocess.run(
            ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "sh", "-c", "\n".join(steps)],
            text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)  # fmt: skip


def share_network(root: pathlib.Path) -> None:
    """Names of hosts, and the certificates that this machine trusts, as in this machine."""
    for name in ("etc/resolv.conf", "etc/hosts", "etc/ssl/certs/ca-certificates.crt"):
        source = pathlib.Path("/") / name
        if source.exists():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).unlink(missing_ok=True)
            shutil.copy(source, root / name)
