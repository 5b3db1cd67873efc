"""What the scripts share that draw benchmarks' results: reading them, and writing the figure."""

import json
import os
import sys


def fail(sentence):
    sys.exit(f"{os.path.splitext(os.path.basename(sys.argv[0]))[0]}: {sentence}")


def load(path, benchmark):
    """What `gpuroom bench BENCHMARK --json` wrote; `-` is standard input."""
    try:
        with (sys.stdin if path == "-" else open(path)) as file:
            results = json.load(file)
    except OSError as error:
        fail(f"'{path}' cannot be read: {error.strerror}")
    except ValueError:
        fail(f"'{path}' is not JSON; write it with 'gpuroom bench {benchmark} --json'")
    if not isinstance(results, dict) or results.get("benchmark") != benchmark or results.get("version") != 1:
        fail(f"'{path}' does not hold results of 'gpuroom bench {benchmark}'; measure again with this version")
    return results


def import_pyplot():
    """matplotlib's pyplot, which needs no display."""
    try:
        import matplotlib
        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        fail("matplotlib is not installed for this Python; install the package python3-matplotlib")
    return pyplot


def save(figure, results, title, path):
    """Under the title, which says so where the figures are no GPU's."""
    figure.suptitle("SIMULATED, no GPU's figures: " + title if results["simulated"] else title, fontsize=11)
    try:
        figure.savefig(path, metadata={"Date": None} if path.endswith(".svg") else None)
    except (OSError, ValueError) as error:
        fail(f"'{path}' cannot be written: {error}; end its name in .svg, .png or .pdf")
