"""The step on a card that another program keeps full."""

from context import GIB, end_session
from registry import Result, step

UNDER, BARE = 6, 3  # processes
LIMITS = ["--hbm-limit", str(3 * GIB), "--host-limit", str(24 * GIB)]


@step("full_card", alone=True)
def full_card(context):
    """Right values or lack of memory, for seconds on end, while memory gives way and comes back. Without gpuroom kernels
    that begin early may fail in the same programs (docs/driver-notes.md), so that these only count."""
    seconds = 75 if context.quick else 240
    program = context.program("torch_full_card.py", "--seconds", seconds)
    filler = context.start(context.program("card_filler.py", "--seconds", seconds), bare=True)
    children = {f"under{i}": context.start(context.gpuroom(program, LIMITS)) for i in range(UNDER)}
    children.update({f"bare{i}": context.start(program, bare=True) for i in range(BARE)})
    figures, failed = {}, []
    try:
        for name, child in children.items():
            text, _ = child.communicate(timeout=seconds + 90)
            context.log(f"{name}: {text}")
            figures[name] = child.returncode
            if name.startswith("under") and child.returncode != 0:
                failed.append(name)
    finally:
        for child in [filler, *children.values()]:
            end_session(child)
            child.wait()
    return Result("FAIL" if failed else "PASS", ", ".join(failed), figures)
