"""The view of `gpuroom top` by Textual's pilot: what is on the screen, and what the keys start. The command is a script that
prints made-up looks and writes down what else it is asked for."""

import asyncio
import json
import pathlib
import sys

import pytest

SOURCE = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(SOURCE / "python"), str(SOURCE / "tests" / "python")]

from top_look import GIB, busy, gpu_stats, look, process  # noqa: E402

from gpuroom.top import _view  # noqa: E402

LONG = 60  # seconds


class Command:
    """A program in the place of `gpuroom`: it prints `looks`, one a line, waits, and writes its other calls into a file."""

    def __init__(self, folder, *looks, after="time.sleep(600)"):
        self.path, self.calls_file = folder / "gpuroom", folder / "calls"
        (folder / "looks").write_text("".join(json.dumps(one) + "\n" for one in looks))
        self.path.write_text(
            f"#!{sys.executable}\n"
            "import sys, time\n"
            "if sys.argv[1] == 'top':\n"
            f"    sys.stdout.write(open({str(folder / 'looks')!r}).read())\n"
            "    sys.stdout.flush()\n"
            f"    {after}\n"
            "else:\n"
            f"    open({str(self.calls_file)!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')\n"
            "    if sys.argv[2] == '9': time.sleep(600)\n"
            "    print('process', sys.argv[2], 'gave 1.0 GiB of GPU memory back')\n"
        )
        self.path.chmod(0o755)

    def calls(self):
        return self.calls_file.read_text().splitlines() if self.calls_file.exists() else []


def drive(command, steps, size=(80, 24)):
    """Runs the view and `steps`, which gets the app and its pilot. Returns the app once it has ended."""

    async def run():
        app = _view.Top(str(command.path), 2)
        async with app.run_test(size=size) as pilot:
            await steps(app, pilot)
        return app

    return asyncio.run(asyncio.wait_for(run(), LONG))


def shown(app):
    return "\n".join("".join(segment.text for segment in app.view.render_line(y)) for y in range(app.size.height))


async def until(pilot, condition):
    while not condition():
        await pilot.pause(0.01)


def test_looks_are_shown(tmp_path):
    async def steps(app, pilot):
        await until(pilot, lambda: "processes: 40" in shown(app))
        await until(pilot, lambda: "40 standstills" in shown(app))  # the second look
        assert shown(app).count("worker.py") == 12
        assert shown(app).count("link <2.7 >0 of 51 GB/s") == 8
        assert all(len(line) == 80 for line in shown(app).splitlines())

    drive(Command(tmp_path, busy(100), busy(102, more=1)), steps)


def test_another_size_shows_more(tmp_path):
    async def steps(app, pilot):
        await until(pilot, lambda: "processes: 40" in shown(app))
        await pilot.resize_terminal(200, 60)
        await until(pilot, lambda: shown(app).count("worker.py") == 40)

    drive(Command(tmp_path, busy()), steps)


def test_a_process_is_put_to_sleep_once_that_is_confirmed(tmp_path):
    command = Command(tmp_path, look(process(7, gpu_stats(0))))

    async def steps(app, pilot):
        await until(pilot, lambda: "processes: 1" in shown(app))
        await pilot.press("z")
        await until(pilot, lambda: "put process 7 to sleep?" in shown(app))
        await pilot.press("n", "z", "y")
        await until(pilot, lambda: "process 7 gave 1.0 GiB" in shown(app))
        await pilot.press("w", "y")
        await until(pilot, lambda: len(command.calls()) == 2)
        await pilot.press("i", "c")
        await until(pilot, lambda: len(command.calls()) == 3)

    drive(command, steps)
    assert command.calls() == ["sleep 7", "wake 7", "hint cold 7"]


def test_leaving_waits_for_no_sleep(tmp_path):
    command = Command(tmp_path, look(process(9, gpu_stats(0))))

    async def steps(app, pilot):
        await until(pilot, lambda: "processes: 1" in shown(app))
        await pilot.press("z", "y")
        await until(pilot, command.calls)
        assert "gpuroom sleep 9 ..." in shown(app)
        await pilot.press("q")

    drive(command, steps)


def test_keys_that_have_names_of_their_own(tmp_path):
    """Textual calls '/' slash, '?' question_mark and 'S' upper_s."""

    async def steps(app, pilot):
        await until(pilot, lambda: "processes: 40" in shown(app))
        await pilot.press("S")
        assert "sort: command" in shown(app)
        await pilot.press("/", "-", "-", "space", "3", "9", "enter")
        assert shown(app).count("worker.py") == 1
        await pilot.press("?")
        assert "Any key goes back" in shown(app)
        await pilot.press("escape", "escape", "t")
        assert "GPU 0  NVIDIA H200" in shown(app)
        await pilot.press("q")

    assert drive(Command(tmp_path, busy()), steps).return_code == 0


@pytest.mark.parametrize(
    "looks, after, why",
    [
        ([], "sys.exit('gpuroom: there is no space')", "gpuroom: there is no space"),
        ([busy()], "sys.exit(3)", "ended with 3"),
        ([look(version=9)], "time.sleep(600)", "version 9"),
        (["no look"], "time.sleep(600)", "gpuroom:"),
    ],
)
def test_the_end_of_the_looks_is_told(tmp_path, looks, after, why):
    async def steps(app, pilot):
        await until(pilot, lambda: app.failure)

    assert why in drive(Command(tmp_path, *looks, after=after), steps).failure


def colours_of(app):
    return {segment.style.color for y in range(24) for segment in app.view.render_line(y) if segment.style} - {None}


@pytest.mark.parametrize("no_color, coloured", [("1", False), ("", True), (None, True)])
def test_no_color(tmp_path, monkeypatch, no_color, coloured):
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color is not None:
        monkeypatch.setenv("NO_COLOR", no_color)
    colours = []

    async def steps(app, pilot):
        await until(pilot, lambda: "process 1:" in shown(app))
        colours.append(colours_of(app))

    misplaced = process(1, gpu_stats(0, peer=1), misplaced=["process 1: its host memory is elsewhere"])
    drive(Command(tmp_path, look(misplaced, process(2, gpu_stats(1), asleep=GIB // GIB))), steps)
    assert bool(colours[0]) == coloured
