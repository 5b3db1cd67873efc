"""`gpuroom top` on a terminal of tmux: eight GPUs and forty processes with the real control socket that only count."""

import contextlib
import itertools
import os
import pathlib
import re
import shlex
import subprocess
import sys
import time

import pytest

SOURCE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE / "tests" / "cli"))

from conftest import Gpuroom, clean_environment, folder  # noqa: E402, F401
from doubles import Double  # noqa: E402

LONG = 60  # seconds
ENTERED = pathlib.Path(sys.executable).parent  # of the environment that has Textual
COLOUR = re.compile(r"\x1b\[(?:[\d;]*;)?(?:3[0-7]|4[0-7]|9[0-7]|10[0-7]|[34]8;[\d;]*)m")


class Terminal:
    """Each has a tmux server of its own: one that has just been told to end would take the next one's session with it."""

    numbers = itertools.count()

    def __init__(self, folder, columns, lines, **variables):
        env = clean_environment(GPUROOM_CONTROL_DIR=folder, TERM="xterm-256color", **variables)
        env["PATH"] = f"{ENTERED}:{env['PATH']}"
        env.pop("TMUX", None)
        self.name = f"gpuroom-top-{os.getpid()}-{next(self.numbers)}"
        self.command = ["tmux", "-L", self.name, "-f", "/dev/null"]
        run = f"{shlex.quote(str(Gpuroom.binary))} top --interval 1; echo it has ended with $?; exec cat"
        subprocess.run([*self.command, "new-session", "-d", "-x", str(columns), "-y", str(lines), "bash", "-c", run], env=env, check=True)

    def keys(self, *names):
        subprocess.run([*self.command, "send-keys", *names], check=True)

    def screen(self, *options):
        done = subprocess.run([*self.command, "capture-pane", "-p", *options], text=True, capture_output=True, check=True)
        return done.stdout

    def until(self, *words):
        end = time.monotonic() + LONG
        while True:
            screen = self.screen()
            if all(word in screen for word in words):
                return screen
            assert time.monotonic() < end, screen
            time.sleep(0.05)

    def kill(self):
        subprocess.run([*self.command, "kill-server"], check=False)


@pytest.fixture(scope="module")
def node():
    """The folder and the processes."""
    path = f"/tmp/gpuroom-top-{os.getpid()}"
    with contextlib.ExitStack() as stack:
        doubles = []
        for number in range(40):
            doubles.append(Double(path, number % 8))
            stack.callback(doubles[-1].kill)
        yield path, doubles


@pytest.fixture
def terminal(node):
    with contextlib.ExitStack() as stack:

        def start(columns, lines, **variables):
            started = Terminal(node[0], columns, lines, **variables)
            stack.callback(started.kill)
            return started

        yield start


@pytest.mark.parametrize("columns, lines, seen", [(80, 24, 10), (200, 60, 40)])
def test_sizes(terminal, columns, lines, seen):
    screen = terminal(columns, lines).until("GPUs: 8  processes: 40", "q quit")
    assert len(screen.splitlines()) == lines
    assert sum("gpuroom_control_double" in line for line in screen.splitlines()) >= seen
    assert [line[:4].strip() for line in screen.splitlines()[2:10]] == [str(gpu) for gpu in range(8)]
    assert "of 256G" in screen and "wrong NUMA node" in screen and "host memory is used up" in screen


def test_keys_as_a_terminal_sends_them(terminal, node):
    one = terminal(80, 24)
    one.until("processes: 40")
    one.keys("S")
    one.until("sort: command")
    one.keys("?")
    one.until("Any key goes back")
    one.keys("Escape")
    one.until("q quit")
    one.keys("/", str(node[1][5].pid), "Enter")
    one.until(f"filter: {node[1][5].pid}")
    one.keys("z")
    one.until(f"put process {node[1][5].pid} to sleep?")
    one.keys("y")
    one.until(f"process {node[1][5].pid} gave 7.0 GiB of GPU memory back")
    one.until("asleep")
    one.keys("w", "y")
    one.until("woke")
    one.keys("i", "c")
    one.until("3 allocations are now cold")
    one.keys("q")
    one.until("it has ended with 0")


def test_interrupt_ends_it(terminal):
    one = terminal(80, 24)
    one.until("processes: 40")
    one.keys("C-c")
    one.until("it has ended with 0")


def test_colours(terminal):
    one = terminal(80, 24)
    one.until("processes: 40")
    assert COLOUR.search(one.screen("-e"))


def test_no_color(terminal):
    one = terminal(80, 24, NO_COLOR="1")
    one.until("processes: 40")
    assert COLOUR.search(one.screen("-e")) is None
