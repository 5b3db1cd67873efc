"""`gpuroom top`'s view without Textual: what is read, what the keys do, and the lines for a terminal of any size."""

import itertools
import random

import pytest
from top_look import GIB, busy, gpu_stats, look, process, silent

from gpuroom.top import _data, _screen, _state
from gpuroom.top._state import Request, State


def text(lines):
    return ["".join(part for part, _ in line) for line in lines]


def screen(snapshot, state=None, width=80, height=24):
    return text(_screen.screen(snapshot, state or State(), width, height))


def press(state, snapshot, *keys):
    done = [state.press(key, snapshot) for key in keys]
    return done[-1]


# What is read.


def test_tiers_of_processes_and_gpus():
    snapshot = _data.read(look(process(1, gpu_stats(0, hbm=10, host=2)), process(2, gpu_stats(0, hbm=5, peer=3), asleep=4)))
    first, second = snapshot.processes
    assert first.tiers() == _data.Tiers(10 * GIB, 0, 2 * GIB, 0)
    assert second.tiers() == _data.Tiers(5 * GIB, 3 * GIB, 2 * GIB, 4 * GIB)
    assert snapshot.gpus[0].tiers == _data.Tiers(15 * GIB, 3 * GIB, 4 * GIB, 4 * GIB)
    assert snapshot.gpus[1].tiers == _data.Tiers()
    assert snapshot.host == _data.Host(256 * GIB, 24 * GIB, 200 * GIB)


def test_what_sleeps_is_spread_over_the_gpus_of_a_process():
    snapshot = _data.read(look(process(1, gpu_stats(0), gpu_stats(3), asleep=8)))
    assert [gpu.tiers.asleep // GIB for gpu in snapshot.gpus] == [4, 0, 0, 4, 0, 0, 0, 0]


def test_one_that_does_not_answer_has_no_figures():
    (process_,) = _data.read(look(silent(1))).processes
    assert (process_.state, process_.tiers(), process_.gpus) == ("no answer", _data.Tiers(), ())


def test_rates_are_what_was_copied_since_the_look_before():
    before = _data.read(look(process(1, gpu_stats(0, to_host=5, to_hbm=1), backed_up=1), seconds=10))
    now = _data.read(look(process(1, gpu_stats(0, to_host=9, to_hbm=2), backed_up=3), seconds=12), before)
    assert now.processes[0].rate == _data.Traffic(to_gpu=0.5 * GIB, to_host=3 * GIB)
    assert now.gpus[0].rate == now.processes[0].rate and now.gpus[1].rate == _data.Traffic()
    assert before.gpus[0].rate == _data.Traffic()


def test_a_new_process_has_no_rate_yet_and_a_number_used_again_none_below_zero():
    before = _data.read(look(process(1, gpu_stats(0, to_host=9)), seconds=10))
    now = _data.read(look(process(1, gpu_stats(0, to_host=1)), process(2, gpu_stats(0, to_host=7)), seconds=11), before)
    assert [process.rate for process in now.processes] == [_data.Traffic()] * 2
    assert (now.gave_way, now.standstills) == (0, 0)


def test_what_happened_since_the_look_before():
    before = _data.read(look(process(1, gpu_stats(0), standstills=3), process(2, gpu_stats(0)), seconds=10))
    later = look(process(1, gpu_stats(0, displaced=2), standstills=5), process(2, gpu_stats(0), refused=1), seconds=11)
    now = _data.read(later, before)
    assert (now.gave_way, now.standstills, now.refused) == (2 * GIB, 2, (2,))
    assert screen(now)[1] == "in 2 s: 2 standstills, 2.0G gave way, 1 were refused memory; links <0 >0 GB/s"


def test_another_version_is_refused():
    with pytest.raises(_data.UnknownVersion, match="version 2"):
        _data.read(look(version=2))


@pytest.mark.parametrize(
    "count, shown",
    [(0, "0"), (1023, "1023"), (1024, "1.0K"), (1536, "1.5K"), (10 * 1024, "10K"), (1023 << 10, "1023K"), (1 << 20, "1.0M"),
     (141 * GIB, "141G"), (GIB - 1, "1.0G"), (1 << 40, "1.0T"), (1 << 60, "1024P")],
)  # fmt: skip
def test_sizes(count, shown):
    assert _data.size(count) == shown and len(shown) <= 5


# What the keys do.


def three():
    return _data.read(look(process(1, gpu_stats(0, hbm=1), command="bash"), process(2, gpu_stats(1, hbm=3), command="vllm serve"),
                           process(3, gpu_stats(0, hbm=2), command="vllm worker")))  # fmt: skip


def pids(state, snapshot):
    return [process.pid for process in state.shown(snapshot)]


def test_sorting():
    state, snapshot = State(), three()
    assert pids(state, snapshot) == [2, 3, 1]
    press(state, snapshot, "r")
    assert pids(state, snapshot) == [1, 3, 2]
    seen = []
    for _ in _state.SORTS:
        press(state, snapshot, "s")
        seen.append(state.sort)
        assert sorted(pids(state, snapshot)) == [1, 2, 3]
    assert sorted(seen) == sorted(_state.SORTS) and state.sort == "hbm"
    press(state, snapshot, "S")
    assert state.sort == list(_state.SORTS)[-1]


def test_filtering():
    state, snapshot = State(), three()
    press(state, snapshot, "/", *"VLLM", "space", *"sq")
    assert state.typing and screen(snapshot, state)[-1].startswith("/VLLM sq_")
    assert pids(state, snapshot) == [] and any("no process has these words" in line for line in screen(snapshot, state))
    press(state, snapshot, "backspace", "enter")
    assert pids(state, snapshot) == [2] and not state.quit
    press(state, snapshot, "escape")
    assert state.filter == "" and len(pids(state, snapshot)) == 3


def test_the_filter_has_an_end():
    state, snapshot = State(), three()
    press(state, snapshot, "/", *"x" * 1000)
    assert len(state.filter) == _state.LONGEST_FILTER


def test_the_cursor_stays_with_its_process():
    state, snapshot = State(), three()
    press(state, snapshot, "down")
    assert state.pid == 3
    press(state, snapshot, "r", "s")
    assert state.pid == 3
    press(state, snapshot, "end", "down", "pagedown")
    assert state.pid == pids(state, snapshot)[-1]
    press(state, snapshot, "home", "up")
    assert state.pid == pids(state, snapshot)[0]
    assert state.cursor(state.shown(_data.read(look()))) == 0


def test_nothing_is_done_without_a_confirmation():
    state, snapshot = State(), three()
    assert press(state, snapshot, "down", "z") is None
    assert screen(snapshot, state)[-1].startswith("put process 3 to sleep?")
    assert press(state, snapshot, "n") is None and "left alone" in state.message
    for key in ("enter", "z", "space", "escape", "Y", "q"):
        assert press(state, snapshot, "z", key) is None and not state.quit
    assert press(state, snapshot, "z", "y") == Request("sleep", 3)
    assert press(state, snapshot, "w", "y") == Request("wake", 3)
    assert press(state, snapshot, "y") is None


def test_a_hint_says_which():
    state, snapshot = State(), three()
    assert press(state, snapshot, "i") is None
    assert screen(snapshot, state)[-1].startswith("the memory of process 2 is: h hot, c cold")
    assert press(state, snapshot, "c") == Request("hint", 2, "cold")
    for key, hint in _state.HINTS.items():
        request = press(state, snapshot, "i", key)
        assert request.words() == ["hint", hint, "2"]
    for key in ("y", "enter", "i", "q"):
        assert press(state, snapshot, "i", key) is None and not state.quit


def test_the_process_that_is_asked_about_stays_the_one_that_was_under_the_cursor():
    """A look that comes between the question and its answer may sort it elsewhere."""
    state, snapshot = State(), three()
    press(state, snapshot, "z")
    press(state, _data.read(look(process(9, gpu_stats(0, hbm=99)))), "x")
    press(state, snapshot, "z")
    assert press(state, _data.read(look(process(9, gpu_stats(0, hbm=99)))), "y") == Request("sleep", 2)


def test_nothing_to_put_to_sleep():
    state, snapshot = State(), _data.read(look())
    assert press(state, snapshot, "z", "y") is None and state.asked is None
    assert "no process is under gpuroom" in "\n".join(screen(snapshot, State()))


def test_help_and_leaving():
    state, snapshot = State(), three()
    press(state, snapshot, "h")
    assert "Any key goes back" in "\n".join(screen(snapshot, state))
    press(state, snapshot, "q")
    assert not state.help and not state.quit
    press(state, snapshot, "q")
    assert state.quit


# The lines.


SIZES = [(80, 24), (200, 60), (120, 30), (40, 10), (20, 5), (1, 1), (300, 200)]


@pytest.mark.parametrize("width, height", SIZES)
@pytest.mark.parametrize("tree", [False, True])
def test_lines_keep_within_the_terminal(width, height, tree):
    for snapshot in (_data.read(busy()), _data.read(look()), _data.read(look(silent(1)))):
        for state in (State(tree=tree), State(help=True), State(pid=1039, tree=tree), State(typing=True, filter="x" * 60)):
            lines = screen(snapshot, state, width, height)
            assert len(lines) == height
            assert all(sum(map(_screen.columns_of, line)) <= width for line in lines)


def test_eighty_columns_have_all_gpus_and_the_largest_processes():
    lines = screen(_data.read(busy()))
    assert [line[:4].strip() for line in lines[2:10]] == [str(gpu) for gpu in range(8)]
    assert all("link <0 >0 of 51 GB/s" in line for line in lines[2:10])
    assert lines[0].startswith("gpuroom top  GPUs: 8  processes: 40  host 24G of 256G, 200G unclaimed")
    assert sum(" python3 worker.py" in line for line in lines) == 12
    assert "q quit" in lines[-1] and "sort: hbm" in lines[-1]


def test_wide_ones_have_all_processes_and_figures():
    lines = screen(_data.read(busy()), width=200, height=60)
    assert sum("worker.py" in line for line in lines) == 40
    (titles,) = (line for line in lines if "COMMAND" in line)
    for title in ("PID", "USER", "STATE", "MEMORY", "HBM", "PEER", "HOST", "SLEEP", "WAY", "STILL", "REFUS", "GB/s"):
        assert title in titles.split()


def test_many_gpus_leave_room_for_the_processes():
    lines = screen(_data.read(look(process(1, gpu_stats(0)), gpus=72)))
    assert any("and 65 more GPUs" in line for line in lines) and any("serve.py" in line for line in lines)


def test_a_bar_shows_each_part():
    tiers = _data.Tiers(hbm=4 * GIB, peer=2 * GIB, host=2 * GIB, asleep=4 * GIB)
    bar = _screen._bar(tiers, 4 * GIB, 16 * GIB, 16)
    assert text([bar]) == ["####....++==zzzz"]
    assert [style for part, style in bar if part] == ["hbm", "free", "peer", "host", "asleep"]


def test_a_bar_never_grows():
    draw = random.Random(1)
    for _ in range(2000):
        tiers = _data.Tiers(*(draw.choice([0, draw.randrange(1 << 40)]) for _ in range(4)))
        free, columns = draw.choice([0, draw.randrange(1 << 40)]), draw.randrange(1, 60)
        full = max(1, tiers.total() + free)
        assert len(text([_screen._bar(tiers, free, full, columns)])[0]) == columns
        assert len(text([_screen._bar(tiers, free, full // 2 + 1, columns)])[0]) == columns


def test_misplaced_memory_is_red():
    sentence = "process 1: its host memory is on NUMA node 0, and GPU 4 is next to node 1"
    snapshot = _data.read(look(process(1, gpu_stats(4), misplaced=[sentence]), process(2, gpu_stats(0))))
    lines = _screen.screen(snapshot, State(pid=2), 80, 24)
    red = [line for line in lines if any(style == "red" for _, style in line)]
    assert len(red) == 2  # the process and the sentence
    assert text(red)[1].startswith("process 1: its host memory")


def test_many_misplaced_processes_take_one_line():
    snapshot = _data.read(look(*(process(n, gpu_stats(4), misplaced=["wrong node"]) for n in range(9))))
    (line,) = (line for line in screen(snapshot) if "wrong" in line)
    assert line == "9 processes have host memory on the wrong NUMA node"


def test_the_last_refusal_is_that_of_this_look():
    first, second = process(1, gpu_stats(0), refused=1), process(2, gpu_stats(0), refused=1)
    before = _data.read(look(first, second, seconds=1))
    assert "process 2: refused 300G on GPU 0 (out_of_memory): host memory is used up" in screen(before)
    now = _data.read(look(process(1, gpu_stats(0), refused=2), second, seconds=2), before)
    assert any(line.startswith("process 1: refused") for line in screen(now))


def test_the_tree_has_gpus_and_tags():
    state, snapshot = State(tree=True), three()
    assert pids(state, snapshot) == [3, 1, 2]
    lines = screen(snapshot, state)
    assert sum("- kv cache, awake" in line for line in lines) == 3
    assert [line for line in lines if line.startswith("GPU ")] == ["GPU 0  NVIDIA H200", "GPU 1  NVIDIA H200"]


def test_the_cursor_is_always_in_sight():
    snapshot = _data.read(busy())
    for tree, pid in itertools.product((False, True), range(1000, 1040)):
        lines = _screen.screen(snapshot, State(pid=pid, tree=tree), 80, 24)
        (line,) = (line for line in lines if any(style == "cursor" for _, style in line))
        assert text([line])[0].split()[0] == str(pid)


def test_names_do_not_drive_the_terminal():
    odd = "\x1b[2J\u202e日本\u0301\r\n\x9b"
    snapshot = _data.read(look(process(1, gpu_stats(0), command=odd)))
    for line in screen(snapshot) + screen(snapshot, State(tree=True), 200, 60):
        assert line.isprintable()
