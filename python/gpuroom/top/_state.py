"""What the keys of `gpuroom top` do: sorting, filtering, the cursor, and what is asked of a process once it is confirmed. Pure."""

from __future__ import annotations

import dataclasses
from typing import Callable, Dict, List, Optional, Tuple

from gpuroom.top._data import Process, Snapshot

# What processes are sorted by, in the order in which 's' goes through it; the largest first, words as in a dictionary.
SORTS: Dict[str, Callable[[Process], Tuple[object, ...]]] = {
    "hbm": lambda process: (-process.tiers().hbm,),
    "host": lambda process: (-process.tiers().host,),
    "asleep": lambda process: (-process.tiers().asleep,),
    "traffic": lambda process: (-(process.rate.to_gpu + process.rate.to_host),),
    "gave way": lambda process: (-process.gave_way,),
    "standstills": lambda process: (-process.standstills,),
    "refusals": lambda process: (-process.refusals,),
    "pid": lambda process: (process.pid,),
    "command": lambda process: (process.command,),
}
ACTIONS = {"z": "sleep", "w": "wake", "i": "hint"}
HINTS = {"h": "hot", "c": "cold", "s": "stream", "n": "none"}
LONGEST_FILTER = 60


@dataclasses.dataclass(frozen=True)
class Request:
    """`gpuroom sleep PID`, `gpuroom wake PID` or `gpuroom hint HINT PID`."""

    verb: str
    pid: int
    hint: str = ""

    def words(self) -> List[str]:
        return [word for word in (self.verb, self.hint, str(self.pid)) if word]

    def answered(self, key: str) -> Optional["Request"]:
        """What is to be done where `key` answers the question; None: nothing."""
        if self.verb == "hint":
            return dataclasses.replace(self, hint=HINTS[key]) if key in HINTS else None
        return self if key == "y" else None


@dataclasses.dataclass
class State:
    """What the keys have chosen."""

    sort: str = "hbm"
    reverse: bool = False
    filter: str = ""
    typing: bool = False  # the filter
    tree: bool = False
    help: bool = False
    quit: bool = False
    pid: Optional[int] = None  # of the process under the cursor
    asked: Optional[Request] = None  # waits for its confirmation
    message: str = ""  # what came of the last request

    def shown(self, snapshot: Snapshot) -> List[Process]:
        """The processes as they stand in the list."""
        words = self.filter.lower().split()
        found = [process for process in snapshot.processes if all(word in _text(process) for word in words)]
        # With the number as the last key, equal ones do not change places from one look to the next.
        found.sort(key=lambda process: (*SORTS[self.sort](process), process.pid), reverse=self.reverse)
        if self.tree:  # by GPU; the sort is stable
            found.sort(key=lambda process: process.gpus[:1] or (len(snapshot.gpus),))
        return found

    def cursor(self, shown: List[Process]) -> int:
        """Where the cursor stands: on its process, or on the first if that has gone."""
        for at, process in enumerate(shown):
            if process.pid == self.pid:
                return at
        return 0

    def press(self, key: str, snapshot: Snapshot, page: int = 10) -> Optional[Request]:
        """A key by its name ("a", "up", "enter"). Returns what is to be done now."""
        if self.typing:
            self._type(key)
        elif self.asked is not None:
            asked, self.asked = self.asked, None
            request = asked.answered(key)
            if request is None:
                self.message = f"process {asked.pid} was left alone"
            return request
        elif self.help:
            self.help = False
        else:
            self._command(key, snapshot, page)
        return None

    def _type(self, key: str) -> None:
        if key == "enter":
            self.typing = False
        elif key == "escape":
            self.typing, self.filter = False, ""
        elif key == "backspace":
            self.filter = self.filter[:-1]
        elif key == "space" or (len(key) == 1 and key.isprintable()):
            self.filter = (self.filter + (" " if key == "space" else key))[:LONGEST_FILTER]

    def _command(self, key: str, snapshot: Snapshot, page: int) -> None:
        self.message = ""
        names = list(SORTS)
        moves = {"up": -1, "k": -1, "down": 1, "j": 1, "pageup": -page, "pagedown": page, "home": -(10**9), "end": 10**9}
        if key in moves:
            self._move(moves[key], self.shown(snapshot))
        elif key == "s":
            self.sort = names[(names.index(self.sort) + 1) % len(names)]
        elif key == "S":
            self.sort = names[(names.index(self.sort) - 1) % len(names)]
        elif key == "r":
            self.reverse = not self.reverse
        elif key == "/":
            self.typing = True
        elif key == "escape":
            self.filter = ""
        elif key == "t":
            self.tree = not self.tree
        elif key in ("h", "?"):
            self.help = True
        elif key == "q":
            self.quit = True
        elif key in ACTIONS:
            self._ask(ACTIONS[key], self.shown(snapshot))

    def _move(self, by: int, shown: List[Process]) -> None:
        if shown:
            self.pid = shown[min(max(self.cursor(shown) + by, 0), len(shown) - 1)].pid

    def _ask(self, verb: str, shown: List[Process]) -> None:
        if not shown:
            self.message = f"there is no process to {verb}"
            return
        self.pid = shown[self.cursor(shown)].pid
        self.asked = Request(verb, self.pid)


def _text(process: Process) -> str:
    return f"{process.pid} {process.user} {process.state} {process.command}".lower()
