"""The list of steps: a name, what it needs, and a function that returns a Result."""

import dataclasses

STEPS = {}


@dataclasses.dataclass
class Result:
    """PASS, FAIL or SKIP; a reason for the latter two; figures by name."""

    status: str
    reason: str = ""
    figures: dict = dataclasses.field(default_factory=dict)
    seconds: float = 0.0


@dataclasses.dataclass
class Step:
    name: str
    function: object
    gpus: int  # how many the step needs
    sim: bool  # runs on the simulated driver too
    alone: bool  # measures time or shares a budget: nothing runs beside it


def step(name, gpus=1, sim=False, alone=False):
    def register(function):
        assert name not in STEPS, f"two steps are called {name}"
        STEPS[name] = Step(name, function, gpus, sim, alone)
        return function

    return register


def judge(outcome, figures=None):
    """A Result from one program's end."""
    figures = {**outcome.answer.get("figures", {}), **(figures or {})}
    if outcome.status == 77 and "skip" in outcome.answer:
        return Result("SKIP", outcome.answer["skip"], figures)
    reason = outcome.failure()
    return Result("FAIL" if reason else "PASS", reason, figures)


def judge_all(outcomes):
    """One Result for several programs, {name: Outcome}: the first that did not pass decides."""
    figures = {f"{name}.{key}": value for name, outcome in outcomes.items()
               for key, value in outcome.answer.get("figures", {}).items()}
    for name, outcome in outcomes.items():
        result = judge(outcome)
        if result.status != "PASS":
            return Result(result.status, f"{name}: {result.reason}", figures)
    return Result("PASS", "", figures)
