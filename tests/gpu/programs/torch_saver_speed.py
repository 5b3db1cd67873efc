"""Pauses and resumes by torch_memory_saver's own interface: with that package, or with gpuroom's module of its name,
whichever PYTHONPATH has first. GB/s of the first pause and resume, of later ones, and, with `--ahead BYTES`, only once
so much host memory was created ahead (gpuroom alone). `--retain 1`: the original keeps its backups between pauses."""

import os
import sys
import time

import common

torch = common.need("torch")
MIB = common.MIB


def make(saver, count, words):
    with saver.region(tag="weights", enable_cpu_backup=True):
        return [torch.arange(i, i + words, device="cuda", dtype=torch.int32) for i in range(count)]


def right(tensors):
    return all(torch.equal(t, torch.arange(i, i + t.numel(), device="cuda", dtype=torch.int32))
               for i, t in enumerate(tensors))


def timed(call):
    torch.cuda.synchronize()
    start = time.perf_counter()
    call("weights")
    torch.cuda.synchronize()
    return time.perf_counter() - start


def wait_for_host_memory(wanted):
    import gpuroom

    end = time.monotonic() + 90
    while gpuroom.stats(0).host_kept < wanted and time.monotonic() < end:
        time.sleep(0.1)


def speeds(report, saver, options):
    count, words = 200, options.bytes // 200 // (2 * MIB) * (2 * MIB) // 4
    tensors = make(saver, count, words)
    size = count * words * 4
    report.figure("bytes", size)
    if options.ahead:
        wait_for_host_memory(options.ahead)
    for turn in range(4):
        free = common.free_elsewhere()
        pause = timed(saver.pause)
        freed = common.free_elsewhere() - free
        time.sleep(0.2)
        resume = timed(saver.resume)
        name = "first" if turn == 0 else f"turn_{turn}"
        report.figure(f"{name}_pause_GBps", round(size / pause / 1e9, 2))
        report.figure(f"{name}_resume_GBps", round(size / resume / 1e9, 2))
        report.check(f"freed, turn {turn}", freed >= 0.95 * size, freed)
        report.check(f"contents, turn {turn}", right(tensors))


def main():
    options = common.arguments(bytes=8 << 30, retain=0, ahead=0, hook="torch")
    module = common.need("torch_memory_saver")
    saver = module.torch_memory_saver
    saver.hook_mode = options.hook
    if options.retain:
        saver.retain_cpu_backup = True
    report = common.Report("torch_saver_speed")
    report.run(speeds, saver, options)
    status = report.finish()
    sys.stderr.flush()
    # Without what an interpreter does at its end: the original ends the process when it is to free what it did not make.
    os._exit(status)


if __name__ == "__main__":
    main()
