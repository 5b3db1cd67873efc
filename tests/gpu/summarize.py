#!/usr/bin/env python3
"""Turns results.json of tests/gpu/run.sh into the tables of docs/measurements.md.

    tests/gpu/summarize.py build/gpu-results/results.json >> docs/measurements.md

Only what was obtained is printed: a step that was skipped has no row of figures.
"""

import json
import sys


def cell(value):
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(cell(item) for item in value)
    return str(value).replace("|", "/")


def rows(header, lines):
    table = [header, ["---"] * len(header), *lines]
    return "\n".join("| " + " | ".join(cell(item) for item in line) + " |" for line in table) + "\n"


def heading(machine):
    gib = 1 << 30
    limits = f"`--hbm-limit {machine['hbm_limit'] / gib:g}GiB --host-limit {machine['host_limit'] / gib:g}GiB`"
    return (f"## {machine['date']}: {machine['gpus']} x {machine['gpu']}, driver {machine['driver']}\n\n"
            f"Command: `{machine['command']}`. Revision {machine['revision']}. Limits: {limits}.\n")


def outcomes(steps):
    lines = [[step["name"], step["status"], step["seconds"], step["reason"]] for step in steps]
    return rows(["step", "result", "seconds", "why"], lines)


def call_overhead(figures):
    lines = [[name.removesuffix("_ns"), pair["own"], pair["added"]] for name, pair in figures.items()]
    return rows(["call", "driver's own, ns", "added by gpuroom, ns"], lines)


def alloc_cost(figures):
    names = ["bare_us", "fitting_us", "spilled_fresh_us", "spilled_cached_us", "spilled_host_MiB"]
    header = ["size", "driver's own, us", "gpuroom, fitting", "spilled, fresh", "spilled, cached", "MiB on the host"]
    return rows(header, [[size, *(costs[name] for name in names)] for size, costs in figures.items()])


def generate(figures):
    lines = [[how, *row.values()] for how, row in figures.items() if isinstance(row, dict)]
    header = ["how", *figures["bare"]]
    return f"Weights: {figures['model_GiB']} GiB.\n\n" + rows(header, lines)


def side_by_side(figures):
    """One row for each of several programs; what one of them lacks is left empty."""
    own = {name: row for name, row in figures.items() if isinstance(row, dict)}
    keys = [key for row in own.values() for key, value in row.items() if not isinstance(value, list)]
    header = list(dict.fromkeys(keys))
    lines = [[name, *(row.get(key, "") for key in header)] for name, row in own.items()]
    skipped = "".join(f"\n{name}: {text}\n" for name, text in figures.items() if isinstance(text, str))
    return rows(["which", *header], lines) + skipped


def plain(figures):
    """One row per figure; nested ones are for results.json alone."""
    lines = [[name, value] for name, value in figures.items() if not isinstance(value, dict)]
    return rows(["figure", "value"], lines) if lines else ""


SPECIAL = {"call_overhead": call_overhead, "alloc_cost": alloc_cost, "generate_1_02": generate,
           "generate_1_25": generate, "generate_2": generate, "small_step_allocators": side_by_side,
           "allocation_cost": side_by_side, "stream_2": side_by_side}


def section(step):
    figures = step["figures"]
    if step["status"] == "SKIP" or not figures:
        return ""
    tabulate = SPECIAL.get(step["name"], plain)
    try:
        body = tabulate(figures)
    except (AttributeError, KeyError, TypeError):
        body = plain(figures)  # a step that failed half-way has other figures
    return f"\n### {step['name']}\n\n{body}" if body else ""


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: summarize.py results.json")
    with open(sys.argv[1], encoding="utf-8") as file:
        results = json.load(file)
    print(heading(results["machine"]))
    print(outcomes(results["steps"]), end="")
    print("".join(section(step) for step in results["steps"]), end="")


if __name__ == "__main__":
    main()
