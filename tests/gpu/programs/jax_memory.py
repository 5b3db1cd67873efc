"""Stock JAX with more arrays than the GPU is said to hold; XLA_PYTHON_CLIENT_PREALLOCATE
in the environment chooses whether XLA takes its share of the memory at once."""

import os
import sys

import common

jax = common.need("jax")
import jax.numpy as jnp  # noqa: E402
import numpy  # noqa: E402


def arrays(report, options, device):
    elements = options.piece // 4
    make = jax.jit(lambda seed: jnp.arange(elements, dtype=jnp.int32) + seed)
    count_wrong = jax.jit(lambda array, seed: jnp.sum(array != jnp.arange(elements, dtype=jnp.int32) + seed))
    with jax.default_device(device):
        held = [make(1000 * i) for i in range(options.pieces)]
        bad = sum(int(count_wrong(array, 1000 * i)) for i, array in enumerate(held))
        report.check("values", bad == 0, f"{bad} wrong elements")
        first = numpy.asarray(held[-1][:4096])
        report.check("copy to host", numpy.array_equal(first, numpy.arange(4096) + 1000 * (len(held) - 1)), "wrong")
        places = [common.describe(array.unsafe_buffer_pointer()) for array in held]
        host = max((place.host_bytes for place in places if place is not None), default=0)
        report.figure("host_bytes_of_a_range", host)
        limit = device.memory_stats().get("bytes_limit", 0)
        report.figure("bytes_limit", limit)
        if options.expect_total:
            report.check("limit", limit > options.expect_total // 2, f"XLA may use {limit} bytes")
            report.check("some spilled", host > 0, "no array lies in host memory")
        key = jax.random.key(0)
        left = jax.random.normal(key, (1024, 1024), dtype=jnp.float32)
        product = numpy.asarray(jnp.matmul(left, left, precision="highest"))
        reference = numpy.asarray(left, dtype=numpy.float64) @ numpy.asarray(left, dtype=numpy.float64)
        error = float(abs(product - reference).max() / abs(reference).max())
        report.check("matmul", error < 1e-4, f"relative error {error}")


def out_of_memory(report, options, device):
    rows = max(2 * options.expect_total, 1 << 40) >> 22
    try:
        with jax.default_device(device):
            jnp.zeros((rows, 1 << 20), dtype=jnp.float32).block_until_ready()
        report.check("over-large request", False, f"{rows} x 4 MiB were given")
    except Exception as error:  # XLA's own error type moved between versions
        text = f"{type(error).__name__}: {error}"
        report.check("over-large request", "RESOURCE_EXHAUSTED" in text or "ut of memory" in text, text[:200])
    report.check("goes on", int(jnp.arange(10).sum()) == 45, "wrong sum")


def main():
    options = common.arguments(pieces=18)
    try:
        devices = jax.devices("gpu")
    except RuntimeError as error:
        common.skip(f"JAX finds no GPU: {str(error)[:150]}")
    if len(devices) <= options.device:
        common.skip(f"there is no GPU {options.device}")
    report = common.Report("jax_memory")
    report.figure("preallocate", os.environ.get("XLA_PYTHON_CLIENT_PREALLOCATE", "default"))
    report.run(arrays, options, devices[options.device])
    report.run(out_of_memory, options, devices[options.device])
    sys.exit(report.finish())


if __name__ == "__main__":
    main()
