#!/usr/bin/env python3
"""Draws what `gpuroom bench tiers --json` measured: speed by the share that lies in slower memory.

    gpuroom bench tiers --json > results.json
    plot_tiers.py results.json tiers.svg
    plot_tiers.py --operation write results.json tiers.png

`-` reads the results from standard input. The figure's format follows its name.
Needs matplotlib (package python3-matplotlib).
"""

import argparse

from plot_results import fail, import_pyplot, load, save

# Colours that stay apart in grey and for the colour-blind (Okabe and Ito).
IDEAL, INTERLEAVED, TAIL, DIRECT, FAULT = "#999999", "#0072B2", "#D55E00", "#009E73", "#CC79A7"


def curve(points, operation, name, total):
    """Shares in percent and GB/s of one curve; a logarithmic axis has no place for share 0."""
    pairs = [(100 * p["slow_bytes"] / total, p[operation][name] / 1e9) for p in points if p["slow_bytes"] > 0]
    return zip(*pairs)


def ideal_curve(points, operation):
    """The most that both links together could give, between the measured points too, where it has its corner."""
    fast, link = (points[end][operation]["interleaved"] / 1e9 for end in (0, -1))
    least = min(point["share"] for point in points if point["share"] > 0)
    shares = [least ** (1 - step / 400) for step in range(401)]
    return [100 * f for f in shares], [min(fast / (1 - f), link / f) if f < 1 else link for f in shares]


def draw_series(axes, series, managed, operation, total):
    where = "host memory" if series["tier"] == "host" else f"GPU {series['place']}'s memory"
    points = series["points"]
    alone = points[0][operation]["interleaved"] / 1e9
    axes.axhline(alone, color=IDEAL, linewidth=0.8, linestyle=":")
    axes.annotate(f"all in the GPU's own memory: {alone:,.0f}", (100, alone), ha="right", va="bottom", color="#555555",
                  fontsize=8, xytext=(0, 2), textcoords="offset points")
    axes.plot(*ideal_curve(points, operation), color=IDEAL, linewidth=5, alpha=0.5, label="ideal: both links at once")
    axes.plot(*curve(points, operation, "interleaved", total), "o-", color=INTERLEAVED, label="gpuroom, interleaved")
    axes.plot(*curve(points, operation, "tail", total), "s--", color=TAIL, label="slow part at the end")
    if series["tier"] == "host" and managed["points"]:
        for name, colour, label in (("direct", DIRECT, "managed memory, read directly"),
                                    ("fault", FAULT, "managed memory, moved by faults")):
            axes.plot(*curve(managed["points"], operation, name, managed["bytes"]), "^:", color=colour, label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    shares = [100 * point["share"] for point in points if point["share"] > 0]
    axes.set_xticks(shares, [f"{share:g}%" for share in shares])
    axes.minorticks_off()
    axes.set_xlabel(f"share of the range that lies in {where}")
    axes.grid(True, which="major", linewidth=0.4, alpha=0.6)


def draw(pyplot, ticker, results, operation, path):
    drawn = [series for series in results["series"] if series["points"]]
    if not drawn:
        fail("nothing was measured in slower memory, so there is nothing to draw; 'skipped' in the results says why")
    figure, every = pyplot.subplots(1, len(drawn), figsize=(6.4 * len(drawn), 4.8), sharey=True, squeeze=False,
                                    layout="constrained")
    for axes, series in zip(every[0], drawn):
        draw_series(axes, series, results["managed"], operation, results["range_bytes"])
    first = every[0][0]
    first.set_ylabel(f"GB/s at which one kernel {operation}s the range")
    first.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    first.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,g}"))
    first.legend(loc="lower left", fontsize=8, framealpha=0.9)
    title = f"{results['gpu']['name']}, driver {results['driver']}, {results['range_bytes'] / 2**30:g} GiB"
    save(figure, results, title, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", help="JSON of 'gpuroom bench tiers --json'; - for standard input")
    parser.add_argument("figure", help="file to write, such as tiers.svg")
    parser.add_argument("--operation", choices=["read", "write"], default="read")
    options = parser.parse_args()
    results = load(options.results, "tiers")
    pyplot = import_pyplot()
    from matplotlib import ticker  # it is there by now

    draw(pyplot, ticker, results, options.operation, options.figure)


if __name__ == "__main__":
    main()
