"""The step with two processes that share one host budget, one of which is killed."""

import json
import select
import signal

from context import end_session
from registry import Result, step


class Holder:
    """A budget_holder.py under gpuroom, spoken to line by line."""

    def __init__(self, context, name):
        self.context, self.name = context, name
        command = context.program("budget_holder.py", "--piece", context.piece)
        self.child = context.start(context.gpuroom(command))
        self.answer()

    def answer(self, limit=90):
        ready, _, _ = select.select([self.child.stdout], [], [], limit)
        line = self.child.stdout.readline() if ready else ""
        self.context.log(f"{self.name}: {line.strip()}")
        if not line:
            raise RuntimeError(f"process {self.name} gave no answer (status {self.child.poll()})")
        return json.loads(line)

    def take(self, pieces):
        self.child.stdin.write(f"take {pieces}\n")
        self.child.stdin.flush()
        return self.answer()

    def kill(self):
        self.child.send_signal(signal.SIGKILL)
        self.child.wait()

    def close(self):
        if self.child.poll() is None:
            end_session(self.child)
            self.child.wait()


def share_and_kill(context, first, second):
    """The story; returns (failure or "", figures)."""
    figures = {"host_limit": context.host}
    a = first.take((context.hbm + context.host // 2) // context.piece)
    b = second.take(1000)
    figures.update(first_host=a["host_bytes"], second_host=b["host_bytes"])
    if a["wrong"] or b["wrong"]:
        return "a process read wrong words", figures
    if a["host_bytes"] == 0 or b["host_bytes"] == 0:
        return "a process got no host memory at all", figures
    if a["host_bytes"] + b["host_bytes"] > context.host:
        return "the two exceed the host limit together", figures
    first.kill()
    after = second.take(1000)
    figures["second_host_after_kill"] = after["host_bytes"]
    if after["wrong"]:
        return "the second process read wrong words after the kill", figures
    if after["host_bytes"] > context.host:
        return "the second process exceeds the host limit", figures
    if after["host_bytes"] < b["host_bytes"] + a["host_bytes"] - 2 * context.piece:
        return "the killed process's share did not come back", figures
    return "", figures


@step("two_processes", sim=True, alone=True)
def two_processes(context):
    holders = []
    try:
        holders.append(Holder(context, "first"))
        holders.append(Holder(context, "second"))
        failure, figures = share_and_kill(context, *holders)
        return Result("FAIL" if failure else "PASS", failure, figures)
    except (RuntimeError, OSError, ValueError) as error:
        return Result("FAIL", str(error))
    finally:
        for holder in holders:
            holder.close()
