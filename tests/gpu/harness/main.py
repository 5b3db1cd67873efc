"""Runs the steps and prints the table; run.sh is the way in."""

import argparse
import concurrent.futures
import json
import os
import pathlib
import sys
import tarfile
import time
import traceback

import allocators  # noqa: F401  (each module registers its steps)
import correctness  # noqa: F401
import full_card  # noqa: F401
import managed  # noqa: F401
import moving  # noqa: F401
import sleeping  # noqa: F401
import timing  # noqa: F401
import tokens  # noqa: F401
import two_processes  # noqa: F401
from context import ROOT, Context, machine
from registry import STEPS, Result


def parse():
    out = os.environ.get("OUT", str(ROOT / "build" / "gpu-results"))
    parser = argparse.ArgumentParser(prog="tests/gpu/run.sh")
    parser.add_argument("--build", default=str(ROOT / "build" / "gpu"), help="build directory (default: build/gpu)")
    parser.add_argument("--only", default="", help="names of steps, separated by commas")
    parser.add_argument("--quick", action="store_true", help="fewer pairs, a smaller model")
    parser.add_argument("--sim", default="", metavar="PROFILE", help="use the simulated driver, e.g. 6GiB,host=16GiB")
    parser.add_argument("--hbm-limit", default="", help="default 6GiB; 384MiB with --sim")
    parser.add_argument("--host-limit", default="", help="default 8GiB; 512MiB with --sim")
    parser.add_argument("--jobs", type=int, default=0, help="steps at once, of those that measure nothing (default 2)")
    parser.add_argument("--out", default=out, help="where results go (default: $OUT or build/gpu-results)")
    parser.add_argument("--logs", default="", help="where logs lie until they are packed (default: build/gpu-logs)")
    parser.add_argument("--list", action="store_true", help="print the names of the steps")
    options = parser.parse_args()
    options.hbm_limit = options.hbm_limit or ("384MiB" if options.sim else "6GiB")
    options.host_limit = options.host_limit or ("512MiB" if options.sim else "8GiB")
    options.jobs = options.jobs or (1 if options.sim else 2)
    options.logs = options.logs or str(ROOT / "build" / "gpu-logs" / time.strftime("%Y%m%d-%H%M%S"))
    unknown = [name for name in options.only.split(",") if name and name not in STEPS]
    if unknown:
        parser.error(f"there is no step {', '.join(unknown)}; the steps are {', '.join(STEPS)}")
    return options


def chosen(options):
    names = [name for name in options.only.split(",") if name]
    return [STEPS[name] for name in STEPS if not names or name in names]


def run_step(context, step):
    context.current.step = step.name
    # Steps that run beside others get a host budget of their own.
    context.current.ledger = None if step.alone else str(context.logs / f"{step.name}.ledger")
    if context.sim and not step.sim:
        result = Result("SKIP", "needs a real GPU")
    elif len(context.gpus) < step.gpus:
        result = Result("SKIP", f"needs {step.gpus} GPUs and there are {len(context.gpus)}")
    else:
        start = time.monotonic()
        try:
            result = step.function(context)
        except Exception as error:  # a defect of one step must not end the run
            context.log(traceback.format_exc())
            result = Result("FAIL", f"the step itself failed: {type(error).__name__}: {error}")
        result.seconds = round(time.monotonic() - start, 1)
    print(f"{result.status} {step.name} ({result.seconds:.1f} s) {result.reason}", flush=True)
    return result


def run_all(context, steps, jobs):
    """Steps that measure nothing first, `jobs` at once; then the others one by one."""
    results = {}
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        together = {step.name: pool.submit(run_step, context, step) for step in steps if not step.alone}
        for name, future in together.items():
            results[name] = future.result()
    for step in steps:
        if step.alone:
            results[step.name] = run_step(context, step)
    return results


def short(figures):
    """The figures that fit in a table's line."""
    plain = [f"{name}={value}" for name, value in figures.items()
             if isinstance(value, (int, float)) and not isinstance(value, bool)]
    return " ".join(plain)[:110]


def table(meta, results):
    lines = [f"gpuroom {meta['revision']} on {meta['gpus']} x {meta['gpu']}, driver {meta['driver']}, {meta['date']}"]
    for name, result in results.items():
        note = result.reason or short(result.figures)
        lines.append(f"{result.status:4} {name:28} {result.seconds:6.1f} s  {note}")
    counts = {status: sum(r.status == status for r in results.values()) for status in ("PASS", "FAIL", "SKIP")}
    lines.append(", ".join(f"{count} {status}" for status, count in counts.items()))
    return "\n".join(lines)


def write(context, meta, results):
    steps = [{"name": name, "status": r.status, "reason": r.reason, "seconds": r.seconds, "figures": r.figures}
             for name, r in results.items()]
    (context.out / "results.json").write_text(json.dumps({"machine": meta, "steps": steps}, indent=1) + "\n")
    (context.out / "summary.txt").write_text(table(meta, results) + "\n")
    with tarfile.open(context.out / "logs.tar.gz", "w:gz") as archive:
        for log in sorted(pathlib.Path(context.logs).glob("*.log")):
            archive.add(log, arcname=log.name)


def main():
    options = parse()
    if options.list:
        print("\n".join(STEPS))
        return 0
    context = Context(options)
    if not context.gpus:
        print("tests/gpu: nvidia-smi shows no GPU; use --sim PROFILE to run what works without one", file=sys.stderr)
        return 3
    meta = {**machine(context), "command": " ".join(["tests/gpu/run.sh", *sys.argv[3:]])}  # after --build DIR
    results = run_all(context, chosen(options), options.jobs)
    write(context, meta, results)
    print("\n" + table(meta, results))
    return 1 if any(result.status == "FAIL" for result in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
