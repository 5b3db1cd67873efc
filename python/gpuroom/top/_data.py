"""What `gpuroom top --json` says at one moment, and with the moment before it, how fast things move. Pure."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, Optional, Tuple

VERSION = 1  # of the JSON that is understood; a newer one has other meanings


class UnknownVersion(Exception):
    """The command that printed this is another version than this package."""


@dataclasses.dataclass(frozen=True)
class Tiers:
    """Bytes by where they are."""

    hbm: int = 0
    peer: int = 0
    host: int = 0
    asleep: int = 0

    def total(self) -> int:
        return self.hbm + self.peer + self.host + self.asleep

    def __add__(self, other: "Tiers") -> "Tiers":
        return Tiers(self.hbm + other.hbm, self.peer + other.peer, self.host + other.host, self.asleep + other.asleep)


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Bytes that gpuroom copied over a link since the start, or in a second."""

    to_gpu: float = 0
    to_host: float = 0

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(self.to_gpu + other.to_gpu, self.to_host + other.to_host)

    def since(self, before: "Traffic", seconds: float) -> "Traffic":
        """Bytes in a second. A counter that went back is that of another process with the same number."""
        return Traffic(max(0.0, self.to_gpu - before.to_gpu) / seconds, max(0.0, self.to_host - before.to_host) / seconds)


@dataclasses.dataclass(frozen=True)
class Tag:
    """What one tag of a process has."""

    name: str
    state: str
    tiers: Tiers


@dataclasses.dataclass(frozen=True)
class Process:
    """One program under gpuroom, as it says itself."""

    pid: int
    user: str
    command: str
    state: str
    gpus: Tuple[int, ...] = ()  # positions in Snapshot.gpus
    by_gpu: Tuple[Tiers, ...] = ()  # of each of these; what sleeps is taken as spread evenly
    copied: Tuple[Traffic, ...] = ()  # of each of these, since the start
    rate: Traffic = Traffic()
    tags: Tuple[Tag, ...] = ()
    gave_way: int = 0  # bytes, since the start
    standstills: int = 0
    refusals: int = 0
    last_refusal: str = ""  # one sentence
    misplaced: Tuple[str, ...] = ()  # one sentence each

    def tiers(self) -> Tiers:
        return sum(self.by_gpu, Tiers())


@dataclasses.dataclass(frozen=True)
class Gpu:
    """One GPU: what the programs on it have, and what it has in all."""

    name: str
    hbm_total: int
    tiers: Tiers
    processes: int
    link: Optional[float] = None  # bytes in a second, as measured
    rate: Traffic = Traffic()


@dataclasses.dataclass(frozen=True)
class Host:
    """The node's host memory, as far as programs may have it."""

    limit: int = 0
    used: int = 0
    unclaimed: int = 0


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """All that is seen at one moment."""

    seconds: float = 0
    gpus: Tuple[Gpu, ...] = ()
    host: Host = Host()
    processes: Tuple[Process, ...] = ()
    # Between the moment before and this one.
    gave_way: int = 0
    standstills: int = 0
    refused: Tuple[int, ...] = ()  # numbers of the processes that were refused memory


def read(json: Dict[str, Any], before: Optional[Snapshot] = None) -> Snapshot:
    """One line of the command's JSON. With the snapshot before it, rates and what happened since."""
    version = json.get("version") if isinstance(json, dict) else None
    if version != VERSION:
        raise UnknownVersion(f"the gpuroom command prints version {version} of its JSON, "
                             f"and this view knows {VERSION}; install both from the same release")  # fmt: skip
    positions = {gpu["uuid"]: position for position, gpu in enumerate(json["gpus"])}
    processes = tuple(_process(entry, positions) for entry in json["processes"])
    gpus = tuple(_gpu(entry, position, processes) for position, entry in enumerate(json["gpus"]))
    snapshot = Snapshot(json["seconds"], gpus, Host(**json["host_bytes"]), processes)
    return snapshot if before is None else _with_changes(snapshot, before)


def _process(entry: Dict[str, Any], positions: Dict[str, int]) -> Process:
    process = Process(entry["pid"], entry["user"] or "?", entry["command"], entry["state"])
    stats = entry.get("stats")
    if "error" in entry or stats is None:
        return dataclasses.replace(process, tags=_tags(entry))
    gpus = stats["gpus"]
    share = max(1, len(gpus))
    asleep = _asleep(entry)
    copies = Traffic(stats["restored_bytes"] / share, stats["backed_up_bytes"] / share)
    refusals = stats["refusals"]
    return dataclasses.replace(
        process,
        gpus=tuple(positions[gpu["uuid"]] for gpu in gpus),
        by_gpu=tuple(_tiers(gpu, asleep // share) for gpu in gpus),
        copied=tuple(_moved(gpu) + copies for gpu in gpus),
        tags=_tags(entry),
        gave_way=sum(gpu["displaced_bytes"] for gpu in gpus),
        standstills=sum(bucket["count"] for bucket in stats["standstills"]["buckets"]),
        refusals=sum(refusals["by_reason"].values()),
        last_refusal=_refusal(refusals["last"]),
        misplaced=tuple(entry.get("misplaced", ())),
    )


def _asleep(entry: Dict[str, Any]) -> int:
    return int(entry["kept_bytes"] + entry["on_disk_bytes"] + entry["dropped_bytes"])


def _tags(entry: Dict[str, Any]) -> Tuple[Tag, ...]:
    return tuple(
        Tag(tag["tag"] or "without a tag", tag["state"],
            Tiers(tag["awake_on_gpu_bytes"], 0, tag["awake_bytes"] - tag["awake_on_gpu_bytes"], _asleep(tag)))  # fmt: skip
        for tag in entry.get("tags", ())
    )


def _tiers(gpu: Dict[str, Any], asleep: int) -> Tiers:
    host = gpu["host_bytes"]["current"] + gpu["managed_bytes"]["current"]
    return Tiers(gpu["hbm_bytes"]["current"], gpu["peer_bytes"]["current"], host, asleep)


def _moved(gpu: Dict[str, Any]) -> Traffic:
    moved = gpu["moved_bytes"]
    return Traffic(moved["to_hbm"], moved["to_host"])


def _refusal(last: Optional[Dict[str, Any]]) -> str:
    if last is None:
        return ""
    return f"refused {size(last['bytes'])} on GPU {last['device']} ({last['reason']}): {last['text']}"


def _gpu(entry: Dict[str, Any], position: int, processes: Tuple[Process, ...]) -> Gpu:
    parts = [tiers for process in processes for at, tiers in zip(process.gpus, process.by_gpu) if at == position]
    name = entry["name"] or entry["uuid"]
    link = entry["link_bytes_per_second"]
    return Gpu(name, entry["hbm_bytes"]["total"], sum(parts, Tiers()), entry["processes"], link)


def _with_changes(now: Snapshot, before: Snapshot) -> Snapshot:
    seconds = now.seconds - before.seconds
    if seconds <= 0:
        return now
    # A process that was not there before has copied all that it has at a time that is not known.
    known = {process.pid: process for process in before.processes}
    pairs = [(process, known.get(process.pid, process)) for process in now.processes]
    rates: List[Traffic] = [Traffic()] * len(now.gpus)
    processes = []
    for process, old in pairs:
        parts = _rates(process, old, seconds)
        for position, rate in zip(process.gpus, parts):
            rates[position] += rate
        processes.append(dataclasses.replace(process, rate=sum(parts, Traffic())))
    return dataclasses.replace(
        now,
        gpus=tuple(dataclasses.replace(gpu, rate=rate) for gpu, rate in zip(now.gpus, rates)),
        processes=tuple(processes),
        gave_way=sum(max(0, process.gave_way - old.gave_way) for process, old in pairs),
        standstills=sum(max(0, process.standstills - old.standstills) for process, old in pairs),
        refused=tuple(process.pid for process, old in pairs if process.refusals > old.refusals),
    )


def _rates(process: Process, old: Process, seconds: float) -> List[Traffic]:
    earlier = dict(zip(old.gpus, old.copied))
    return [copied.since(earlier.get(position, copied), seconds) for position, copied in zip(process.gpus, process.copied)]


def size(count: float) -> str:
    """Bytes for people in at most five characters: 1023, 1.5K, 12M, 141G."""
    if count < 1024:
        return f"{count:.0f}"
    value = float(count)
    for unit in ("K", "M", "G", "T", "P"):
        value /= 1024
        if value < 9.95:
            return f"{value:.1f}{unit}"
        if value < 1023.5:
            break
    return f"{value:.0f}{unit}"


def speed(rate: float) -> str:
    """Bytes in a second as GB/s, with as many digits as tell something."""
    gigabytes = rate / 1e9
    if gigabytes == 0 or gigabytes >= 9.95:
        return f"{gigabytes:.0f}"
    return f"{gigabytes:.1f}" if gigabytes >= 0.095 else f"{gigabytes:.2f}"
