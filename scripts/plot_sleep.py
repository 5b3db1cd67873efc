#!/usr/bin/env python3
"""Draws what `gpuroom bench sleep --json` measured: how fast memory is given back and had again, each way.

    gpuroom bench sleep --json > results.json
    plot_sleep.py results.json sleep.svg

`-` reads the results from standard input. The figure's format follows its name.
Needs matplotlib (package python3-matplotlib).
"""

import argparse

from plot_results import fail, import_pyplot, load, save

WAYS = [
    ("ahead", "gpuroom, host memory created ahead", "#1b6ca8"),
    ("first", "gpuroom, nothing created ahead", "#7fb5dd"),
    ("disk", "gpuroom, to disk", "#8f7fc9"),
    ("copying", "others: a copy each, fresh pinned memory", "#c97b3d"),
]
WIDTH = 0.2
GIB = 2**30


def draw_operation(axes, cases, operation, link):
    ways = [way for way in WAYS if any(case[way[0]][operation] for case in cases)]
    for way, (name, label, colour) in enumerate(ways):
        measured = [(index, case[name][operation] / 1e9) for index, case in enumerate(cases) if case[name][operation]]
        places = [index + (way - (len(ways) - 1) / 2) * WIDTH for index, _ in measured]
        bars = axes.bar(places, [speed for _, speed in measured], WIDTH, label=label, color=colour)
        axes.bar_label(bars, fmt="%.3g", fontsize=7, padding=1)
    if link:
        axes.axhline(link / 1e9, color="#555555", linewidth=0.9, linestyle=":")
        axes.annotate(f"the link: {link / 1e9:.1f}", (0.99, link / 1e9), xycoords=("axes fraction", "data"), ha="right",
                      va="bottom", fontsize=8, color="#555555")
    axes.set_xticks(range(len(cases)), [f"{case['bytes'] / GIB:.3g} GiB\nin {case['allocations']}" for case in cases])
    axes.set_title(operation)
    axes.grid(True, axis="y", linewidth=0.4, alpha=0.6)
    axes.set_axisbelow(True)


def draw(pyplot, results, path):
    cases = [case for case in results["cases"] if not case["skipped"]]
    if not cases:
        fail("nothing was measured, so there is nothing to draw; 'skipped' in the results says why")
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.8), sharey=True, layout="constrained")
    draw_operation(left, cases, "sleep", results["copies"]["device_to_host"])
    draw_operation(right, cases, "wake", results["copies"]["host_to_device"])
    left.set_ylabel("GB/s, everything included (slowest round)")
    left.set_ylim(0, left.get_ylim()[1] * 1.3)  # the legend stands above the bars
    left.legend(loc="upper left", fontsize=8)
    title = f"{results['gpu']['name']}, driver {results['driver']}"
    save(figure, results, title, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", help="JSON of 'gpuroom bench sleep --json'; - for standard input")
    parser.add_argument("figure", help="file to write, such as sleep.svg")
    options = parser.parse_args()
    results = load(options.results, "sleep")
    pyplot = import_pyplot()
    draw(pyplot, results, options.figure)


if __name__ == "__main__":
    main()
