"""The process that decides whose memory is in HBM, as its members meet it: over its socket, without a GPU."""

import os
import shutil
import subprocess
import sys
import time

import pytest

MIB = 1 << 20
LONG = 60
GPU = "GPU-0"
# A member: passes lines of its standard input to the arbiter, and what the arbiter says to its standard output.
BRIDGE = """
import os, select, socket, sys
own = None
waiting = b""
while True:
    ready, _, _ = select.select([0] + [own] * (own is not None), [], [])
    if own in ready:
        try:
            packet = own.recv(4096)
        except OSError:  # it was killed with something unread
            packet = b""
        os.write(1, packet or b"gone\\n")
        own = own if packet else None
    if 0 in ready:
        waiting += os.read(0, 4096)
        while b"\\n" in waiting:
            line, waiting = waiting.split(b"\\n", 1)
            if line == b"connect":
                own = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                own.connect(sys.argv[1])
            elif line == b"close":
                own = None
                os.write(1, b"closed\\n")
            elif own is not None:
                own.send(line + b"\\n")
"""


def until(condition):
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


class Member:
    def __init__(self, path):
        self.process = subprocess.Popen(
            [sys.executable, "-c", BRIDGE, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def join(self, awake=0, limit=100 * MIB, version=1, **terms):
        self.say("connect")
        self.say("join", version=version, **terms)
        self.say("gpu", uuid=GPU, limit=limit, link=1 << 30, awake=awake)

    def say(self, verb, **fields):
        self.process.stdin.write(" ".join([verb, *(f"{key}={value}" for key, value in fields.items())]) + "\n")
        self.process.stdin.flush()

    def ask(self, size):
        self.say("need", gpu=0, bytes=size)
        self.say("ask")

    def hear(self, verb):
        """The next message, which is `verb`; its numbers."""
        words = self.process.stdout.readline().split()
        assert words and words[0] == verb, words
        fields = dict(word.split("=", 1) for word in words[1:])
        return {key: value if key in ("text", "uuid") else int(value) for key, value in fields.items()}

    def could_get(self, size):
        """Asks, and whether all of it was granted; else it was refused."""
        self.ask(size)
        words = self.process.stdout.readline().split()
        return words[0] == "in"

    def gets(self, size):
        """Is granted `size` bytes, in whatever parts."""
        while size > 0:
            part = self.hear("in")["bytes"]
            self.say("moved-in", gpu=0, bytes=part)
            size -= part
        assert size == 0

    def hang_up(self):
        """Closes the socket and lives on."""
        self.say("close")
        self.hear("closed")

    def end(self):
        self.process.kill()
        self.process.wait(LONG)


class Place:
    def __init__(self, gpuroom):
        self.gpuroom, self.folder, self.started = gpuroom, f"/tmp/gpuroom-share-{os.getpid()}", []
        shutil.rmtree(self.folder, ignore_errors=True)
        self.path = f"{self.folder}/share-default.socket"

    def arbiter(self):
        process = self.gpuroom.start(
            "arbiter", "default", env={"GPUROOM_CONTROL_DIR": self.folder}, stderr=subprocess.DEVNULL
        )
        self.started.append(process)
        until(lambda: os.path.exists(self.path))
        return process

    def member(self, **what):
        member = Member(self.path)
        self.started.append(member)
        member.join(**what)
        return member

    def clear(self):
        for one in self.started:
            one.end() if isinstance(one, Member) else one.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture
def place(gpuroom):
    made = Place(gpuroom)
    yield made
    made.clear()


def test_what_one_has_to_spare_goes_to_another(place):
    place.arbiter()
    first, second = place.member(), place.member()
    first.ask(80 * MIB)
    first.gets(80 * MIB)
    first.say("idle")
    second.ask(60 * MIB)
    assert second.hear("in")["bytes"] == 20 * MIB
    order = first.hear("out")
    assert order["bytes"] == 40 * MIB
    first.say("moved-out", id=order["id"], asked=10 * MIB, bytes=10 * MIB)
    assert second.hear("in")["bytes"] == 10 * MIB
    first.say("moved-out", id=order["id"], asked=30 * MIB, bytes=30 * MIB)
    assert second.hear("in")["bytes"] == 30 * MIB


def test_it_leaves_after_the_last_member(place):
    arbiter = place.arbiter()
    member = place.member()
    member.ask(MIB)
    member.gets(MIB)
    assert arbiter.poll() is None
    member.end()
    assert arbiter.wait(LONG) == 0
    assert not os.path.exists(place.path)


def test_a_group_has_one(place):
    first = place.arbiter()
    second = place.arbiter()
    assert second.wait(LONG) == 0
    assert first.poll() is None or first.returncode == 0


def test_what_a_killed_member_had_is_free(place):
    place.arbiter()
    first, second = place.member(), place.member()
    first.ask(100 * MIB)
    first.gets(100 * MIB)
    first.say("busy")
    second.ask(50 * MIB)
    first.end()
    assert second.hear("in")["bytes"] == 50 * MIB


def test_an_arbiter_after_a_killed_one_counts_what_was_granted(place):
    arbiter = place.arbiter()
    silent, gone, talking = place.member(), place.member(), place.member()
    for member, size in ((silent, 30), (gone, 40), (talking, 20)):
        member.ask(size * MIB)
        member.gets(size * MIB)
    arbiter.kill()
    arbiter.wait(LONG)
    gone.end()
    os.unlink(place.path)
    place.arbiter()
    # Of 100 MiB, 30 are of one that does not come back, and 20 can be had of one that does.
    talking.hear("gone")
    talking.join(awake=20 * MIB)
    new = place.member()
    new.ask(71 * MIB)
    new.hear("refuse")
    new.ask(70 * MIB)
    new.gets(50 * MIB)
    order = talking.hear("out")
    assert order["bytes"] == 20 * MIB
    talking.say("moved-out", id=order["id"], asked=20 * MIB, bytes=20 * MIB)
    new.gets(20 * MIB)
    new.ask(30 * MIB)
    new.hear("refuse")
    silent.end()
    until(lambda: new.could_get(30 * MIB))


def test_a_member_that_hangs_up_keeps_what_it_has_until_it_ends(place):
    place.arbiter()
    first, second = place.member(), place.member()
    first.ask(60 * MIB)
    first.gets(60 * MIB)
    first.hang_up()
    second.ask(50 * MIB)
    second.hear("refuse")
    second.ask(40 * MIB)
    second.gets(40 * MIB)
    first.end()
    until(lambda: second.could_get(60 * MIB))


def test_other_versions_and_what_is_no_message_are_told_so(place):
    place.arbiter()
    member = place.member()
    member.say("nonsense")
    assert "unknown" in member.hear("reject")["text"]
    member.hear("gone")
    other = place.member(version=2)
    assert "versions" in other.hear("reject")["text"]
    other.hear("gone")


def test_its_name_is_checked(gpuroom):
    gpuroom.refuses(2, "group", arguments=["arbiter", "a/b"])
    gpuroom.refuses(2, "group", arguments=["arbiter"])


def test_one_whose_lock_was_cleaned_up_makes_way_for_another(place):
    first = place.arbiter()
    member = place.member()
    member.ask(60 * MIB)
    member.gets(60 * MIB)
    shutil.rmtree(place.folder)
    assert first.wait(LONG) == 0
    member.hear("gone")
    second = place.arbiter()
    member.join(awake=60 * MIB)
    member.ask(40 * MIB)
    member.gets(40 * MIB)
    assert second.poll() is None


def test_it_can_be_found_again_when_its_name_was_cleaned_up(place):
    place.arbiter()
    first = place.member()
    first.ask(60 * MIB)
    first.gets(60 * MIB)
    os.unlink(place.path)
    until(lambda: os.path.exists(place.path))
    second = place.member()
    second.ask(40 * MIB)
    second.gets(40 * MIB)
