"""The lines of `gpuroom top` for a terminal of any size. Pure: each line is a list of spans, a text and the name of its style."""

from __future__ import annotations

import unicodedata
from typing import Dict, List, NamedTuple, Sequence, Tuple

from gpuroom.top._data import Gpu, Process, Snapshot, Tag, Tiers, Traffic, size, speed
from gpuroom.top._state import State

Span = Tuple[str, str]
Line = List[Span]

# A bar tells its parts apart without colours, too.
BAR = (("hbm", "#"), ("peer", "+"), ("host", "="), ("asleep", "z"))
FREE = "."
QUESTIONS = {
    "sleep": "put process {} to sleep? y does it, any other key does not",
    "wake": "wake process {}? y does it, any other key does not",
    "hint": "the memory of process {} is: h hot, c cold, s stream, n none of these; other keys leave it",
}
WIDE = 120  # columns from which there is room for all figures

HELP = """\
Bars: # HBM, + HBM of other GPUs, = host memory, z asleep (host memory or a file), . free HBM.
A GPU's bar is its HBM and what its processes have elsewhere; a process's is measured by the largest.
Traffic is what gpuroom itself copied since the last look, to the host and back to the GPU, beside the link's
speed as 'gpuroom bench tiers' measured it. What kernels read of host memory is not counted by anybody.

  up down, j k, pgup pgdn, home end   move the cursor
  s S   sort by the next figure, by the one before      r   turn the order round
  /     show only what has these words; enter ends, escape shows all again
  t     by GPU, with the tags of each process
  z w   put the process under the cursor to sleep, wake it; asks first
  i     say how its memory is used: hot (gives way last), cold (gives way first), stream, none; asks which
  h ?   this page                                       q   quit

Red: host memory that lies on another NUMA node than the one next to the GPU.
Any key goes back."""


class Column(NamedTuple):
    """One column of the table of programs."""

    title: str
    width: int
    wide: bool  # only where there is room

    def text(self, value: str, left: bool = False) -> str:
        return fit(value, self.width, right=not left)


PID = Column("PID", 7, False)
USER = Column("USER", 8, True)
STATE = Column("STATE", 8, False)
GPUS = Column("GPU", 4, False)
FIGURES = {
    "hbm": Column("HBM", 5, False),
    "peer": Column("PEER", 5, True),
    "host": Column("HOST", 5, False),
    "asleep": Column("SLEEP", 5, False),
    "gave way": Column("WAY", 5, True),
    "standstills": Column("STILL", 5, True),
    "refusals": Column("REFUS", 5, True),
    "traffic": Column("GB/s", 5, True),
}


def screen(snapshot: Snapshot, state: State, width: int, height: int, interval: float = 2) -> List[Line]:
    """`height` lines of at most `width` columns."""
    if state.help:
        return _filled([[("gpuroom top", "title")], [], *([(line, "")] for line in HELP.splitlines())], width, height)
    head = [*_summary(snapshot, interval), *_gpus(snapshot, width, max(1, height // 3))]
    foot = [*_notes(snapshot, 1 if height < 30 else 4), _footer(state)]
    room = max(0, height - len(head) - len(foot) - 1)
    body = [_titles(state, width), *_rows(snapshot, state, width, room)]
    blank: List[Line] = [[] for _ in range(room + 1 - len(body))]
    return _filled([*head, *body, *blank, *foot], width, height)


def _filled(lines: Sequence[Line], width: int, height: int) -> List[Line]:
    cut = [clip(line, width) for line in lines[:height]]
    return cut + [[] for _ in range(height - len(cut))]


def _summary(snapshot: Snapshot, interval: float) -> List[Line]:
    host = snapshot.host
    text = f"  GPUs: {len(snapshot.gpus)}  processes: {len(snapshot.processes)}"
    if host.limit:
        text += f"  host {size(host.used)} of {size(host.limit)}, {size(host.unclaimed)} unclaimed"
    total = sum((gpu.rate for gpu in snapshot.gpus), Traffic())
    events = f"in {interval:g} s: {snapshot.standstills} standstills, {size(snapshot.gave_way)} gave way, "
    events += f"{len(snapshot.refused)} were refused memory; links {_traffic(total)} GB/s"
    return [[("gpuroom top", "title"), (text, "")], [(events, "dim")]]


def _gpus(snapshot: Snapshot, width: int, most: int) -> List[Line]:
    """A line for each, or for as many as have room with a line that says how many have none."""
    shown = snapshot.gpus if len(snapshot.gpus) <= most else snapshot.gpus[: most - 1]
    lines = [_gpu(position, gpu, width) for position, gpu in enumerate(shown)]
    left = len(snapshot.gpus) - len(shown)
    return lines + ([[(f"    and {left} more GPUs", "dim")]] if left else [])


def _gpu(position: int, gpu: Gpu, width: int) -> Line:
    name = fit(printable(gpu.name.replace("NVIDIA ", "")), 20 if width >= WIDE else 8)
    free = max(0, gpu.hbm_total - gpu.tiers.hbm)
    elsewhere = gpu.tiers.peer + gpu.tiers.host + gpu.tiers.asleep
    text = f" {size(gpu.tiers.hbm):>5}/{size(gpu.hbm_total):<5}"
    if width >= WIDE:
        text += f" peer {size(gpu.tiers.peer):>5} host {size(gpu.tiers.host):>5} asleep {size(gpu.tiers.asleep):>5}"
    else:
        text += f" +{size(elsewhere):>5}"
    link = f" link {_traffic(gpu.rate)}" + (f" of {speed(gpu.link)} GB/s" if gpu.link else " GB/s")
    room = width - 4 - len(name) - len(text) - 26
    bar = _bar(gpu.tiers, free, max(gpu.hbm_total + elsewhere, 1), max(8, min(room, 80)))
    return [(f"{position:>3} ", ""), (name, ""), (" ", ""), *bar, (text, ""), (link, "")]


def _traffic(rate: Traffic) -> str:
    return f"<{speed(rate.to_host)} >{speed(rate.to_gpu)}"


def _bar(tiers: Tiers, free: int, full: int, columns: int) -> Line:
    """Its parts are rounded together, so that they never take more columns than there are."""
    parts = [(style, mark, getattr(tiers, style)) for style, mark in BAR]
    parts.insert(1, ("free", FREE, free))
    spans, done, drawn = [], 0, 0
    for style, mark, count in parts:
        done += count
        end = min(columns, round(columns * done / full))
        spans.append((mark * (end - drawn), style))
        drawn = max(drawn, end)
    return [*spans, (" " * (columns - drawn), "")]


def _columns(width: int) -> Dict[str, Column]:
    return {name: column for name, column in FIGURES.items() if width >= WIDE or not column.wide}


def _bar_width(width: int) -> int:
    return 12 if width < WIDE else 30


def _titles(state: State, width: int) -> Line:
    left = [PID.text(PID.title), *([USER.text(USER.title, True)] if width >= WIDE else []), STATE.text(STATE.title, True),
            GPUS.text(GPUS.title, True), fit("MEMORY", _bar_width(width))]  # fmt: skip
    line: Line = [(" ".join(left), "head")]
    for name, column in _columns(width).items():
        line += [(" ", "head"), (column.text(column.title), "sorted" if name == state.sort else "head")]
    return [*line, (" COMMAND", "head")]


def _rows(snapshot: Snapshot, state: State, width: int, room: int) -> List[Line]:
    shown = state.shown(snapshot)
    if not shown:
        some = "no process has these words" if snapshot.processes else "no process is under gpuroom and uses a GPU"
        return [[(f"  {some}", "dim")]]
    largest = max(1, max(process.tiers().total() for process in shown))
    at = state.cursor(shown)
    lines: List[Line] = []
    place = 0  # of the cursor's line
    for number, process in enumerate(shown):
        if state.tree and (number == 0 or process.gpus[:1] != shown[number - 1].gpus[:1]):
            lines.append([(_group(snapshot, process), "head")])
        if number == at:
            place = len(lines)
        lines.append(_process(process, largest, width, number == at))
        if state.tree:
            lines += [_tag(tag, largest, width) for tag in process.tags]
    # The cursor's line stays in sight, in the middle where there are lines on both sides.
    first = min(max(0, place - room // 2), max(0, len(lines) - room))
    return lines[first : first + room]


def _group(snapshot: Snapshot, process: Process) -> str:
    if not process.gpus:
        return "no GPU"
    return f"GPU {process.gpus[0]}  {printable(snapshot.gpus[process.gpus[0]].name)}"


def _process(process: Process, largest: int, width: int, cursor: bool) -> Line:
    tiers = process.tiers()
    figures = {
        "hbm": size(tiers.hbm),
        "peer": size(tiers.peer),
        "host": size(tiers.host),
        "asleep": size(tiers.asleep),
        "gave way": size(process.gave_way),
        "standstills": str(process.standstills),
        "refusals": str(process.refusals),
        "traffic": speed(process.rate.to_gpu + process.rate.to_host),
    }
    gpus = ",".join(map(str, process.gpus))
    left = [PID.text(str(process.pid)), *([USER.text(printable(process.user), True)] if width >= WIDE else []),
            STATE.text(process.state, True), GPUS.text(gpus, True)]  # fmt: skip
    text = " ".join(column.text(figures[name]) for name, column in _columns(width).items())
    style = "cursor" if cursor else "red" if process.misplaced else ""
    # The bar keeps its own colours under the cursor.
    bar = _bar(tiers, 0, largest, _bar_width(width))
    return [(" ".join(left) + " ", style), *bar, (f" {text} {_command(process)}", style)]


def _command(process: Process) -> str:
    """Without the folder of its program."""
    program, space, rest = process.command.partition(" ")
    return printable(program.rpartition("/")[2] + space + rest)


def _tag(tag: Tag, largest: int, width: int) -> Line:
    bar_at = sum(column.width + 1 for column in (PID, STATE, GPUS)) + (USER.width + 1 if width >= WIDE else 0)
    name = fit(f"    - {printable(tag.name)}, {tag.state}", bar_at)
    return [(name, "dim"), *_bar(tag.tiers, 0, largest, _bar_width(width))]


def _notes(snapshot: Snapshot, most: int) -> List[Line]:
    """Misplaced host memory in red, and the last refusal; of those that are as old, the one of the process asked last."""
    red: List[Line] = [[(sentence, "red")] for process in snapshot.processes for sentence in process.misplaced]
    if len(red) > most:
        red = red[: most - 1] + [[(f"{len(red) - most + 1} processes have host memory on the wrong NUMA node", "red")]]
    refused = [process for process in snapshot.processes if process.last_refusal]
    fresh = [process for process in refused if process.pid in snapshot.refused]
    last = (fresh or refused)[-1:]
    return red + [[(f"process {process.pid}: {printable(process.last_refusal)}", "dim")] for process in last]


def _footer(state: State) -> Line:
    if state.asked is not None:
        return [(QUESTIONS[state.asked.verb].format(state.asked.pid), "prompt")]
    if state.typing:
        return [(f"/{printable(state.filter)}_", "prompt")]
    if state.message:
        return [(printable(state.message), "prompt")]
    text = f"h help  q quit  s sort: {state.sort}{' reversed' if state.reverse else ''}  / filter"
    text += f": {printable(state.filter)}" if state.filter else ""
    return [(text + "  t tree  z sleep  w wake  i hint", "dim")]


def printable(text: str) -> str:
    """Names come from other programs, and must not drive the terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)


def columns_of(char: str) -> int:
    """How many columns of a terminal a character takes."""
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1


def fit(text: str, width: int, right: bool = False) -> str:
    """`text` in exactly so many columns."""
    kept, used = "", 0
    for char in text:
        if used + columns_of(char) > width:
            break
        kept, used = kept + char, used + columns_of(char)
    space = " " * (width - used)
    return space + kept if right else kept + space


def clip(line: Line, width: int) -> Line:
    """A line without what goes beyond `width` columns."""
    spans: Line = []
    for text, style in line:
        used = sum(map(columns_of, text))
        spans.append((text if used <= width else fit(text, width), style))
        width -= min(used, width)
    return [(text, style) for text, style in spans if text]
