"""The view of `gpuroom top` on a terminal, by Textual: lines of `_screen`, keys of `_state`, and two kinds of child processes:
the one that looks (`gpuroom top --json`), and those that do what was confirmed (`gpuroom sleep`, `wake` and `hint`)."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Dict, Optional

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.strip import Strip
from textual.widget import Widget

from gpuroom.top import _data, _screen
from gpuroom.top._state import Request, State

PLAIN: Dict[str, Style] = {
    "title": Style(bold=True),
    "head": Style(bold=True),
    "sorted": Style(bold=True, underline=True),
    "red": Style(bold=True),
    "prompt": Style(bold=True),
    "cursor": Style(reverse=True),
}
COLOURED: Dict[str, Style] = {
    **PLAIN,
    "hbm": Style(color="green"),
    "peer": Style(color="cyan"),
    "host": Style(color="yellow"),
    "asleep": Style(color="blue"),
    "free": Style(color="bright_black"),
    "dim": Style(color="bright_black"),
    "red": Style(color="red"),
    "prompt": Style(color="yellow", bold=True),
}


class Lines(Widget):
    """What is shown, drawn line by line."""

    DEFAULT_CSS = "Lines { width: 100%; height: 100%; background: ansi_default; color: ansi_default; }"

    def __init__(self, state: State, interval: int, styles: Dict[str, Style]) -> None:
        super().__init__()
        self.state, self.interval, self.styles_by_name = state, interval, styles
        self.snapshot = _data.Snapshot()
        self.lines: list[_screen.Line] = []

    def draw(self) -> None:
        """Makes the lines anew, of the snapshot, the state and the size that there are now."""
        self.lines = _screen.screen(self.snapshot, self.state, self.size.width, self.size.height, self.interval)
        self.refresh()

    def on_resize(self, _event: events.Resize) -> None:
        self.draw()

    def render_line(self, y: int) -> Strip:
        line = self.lines[y] if y < len(self.lines) else []
        none = Style()
        segments = [Segment(text, self.styles_by_name.get(style, none)) for text, style in line]
        return Strip(segments).adjust_cell_length(self.size.width)


class Top(App[None]):
    """The program on the terminal."""

    CSS = "Screen { background: ansi_default; }"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS = [Binding("ctrl+c", "quit", priority=True, show=False)]

    def __init__(self, command: str, interval: int) -> None:
        super().__init__(ansi_color=True)
        self.command, self.interval = command, interval
        self.state = State()
        self.view = Lines(self.state, interval, PLAIN if os.environ.get("NO_COLOR") else COLOURED)
        self.children_started: list[subprocess.Popen[bytes]] = []
        self.failure = ""  # why it ended, where nobody asked for that

    def compose(self) -> ComposeResult:
        yield self.view

    def on_mount(self) -> None:
        looks = self._start("top", "--json", "--interval", str(self.interval), errors=subprocess.PIPE)
        self.run_worker(lambda: self._look(looks), thread=True)

    def on_unmount(self) -> None:
        """The threads end as their children do. A sleep that was asked for goes on in the process itself."""
        for child in self.children_started:
            child.kill()

    def _start(self, *arguments: str, errors: int = subprocess.STDOUT) -> subprocess.Popen[bytes]:
        command = [self.command, *arguments]
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)
        self.children_started = [other for other in self.children_started if other.poll() is None] + [child]
        return child

    def on_key(self, event: events.Key) -> None:
        key = event.character if event.character is not None and event.character.isprintable() else event.key
        request = self.state.press("space" if key == " " else key, self.view.snapshot, page=max(1, self.size.height // 2))
        if self.state.quit:
            self.exit()
        if request is not None:
            self.state.message = f"gpuroom {' '.join(request.words())} ..."
            child = self._start(*request.words())
            self.run_worker(lambda: self._await(child, request), thread=True)
        self.view.draw()

    def _look(self, looks: subprocess.Popen[bytes]) -> None:
        """Shows each line that the command prints, until it ends. In a thread of its own."""
        assert looks.stdout is not None and looks.stderr is not None
        before: Optional[_data.Snapshot] = None
        try:
            for line in looks.stdout:
                before = _data.read(json.loads(line), before)
                self.call_from_thread(self._show, before)
        except (_data.UnknownVersion, ValueError) as error:
            self._fail(f"gpuroom: {error}")
            return
        errors = looks.stderr.read().decode(errors="replace").strip()
        self._fail(errors or f"'gpuroom top --json' ended with {looks.wait()}")

    def _show(self, snapshot: _data.Snapshot) -> None:
        self.view.snapshot = snapshot
        self.view.draw()

    def _fail(self, why: str) -> None:
        if self.is_running:  # else it is the end that was asked for
            self.failure = why
            self.call_from_thread(self.exit)

    def _await(self, child: subprocess.Popen[bytes], request: Request) -> None:
        """Tells what came of it. In a thread of its own: it may take as long as memory takes to move."""
        output, _ = child.communicate()
        lines = output.decode(errors="replace").strip().splitlines()
        self.call_from_thread(self._tell, lines[-1] if lines else f"gpuroom {request.verb} ended with {child.returncode}")

    def _tell(self, message: str) -> None:
        self.state.message = message
        self.view.draw()


def run(command: str, interval: int) -> int:
    """Shows what `command` prints, again every `interval` seconds, until the user leaves; the exit status."""
    app = Top(command, interval)
    app.run(mouse=False)
    if app.failure:
        print(app.failure)
    return 1 if app.failure else 0
