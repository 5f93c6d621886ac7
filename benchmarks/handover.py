"""From what duration on it pays to hand a kernel to another thread: `engine.runtime.costs.EXPENSIVE_NS`.

    python -m benchmarks.handover

Runs forty kernels that do not depend on each other, by one thread and by two to which every kernel is handed, and prints how long
the kernel takes, and the ratio of the two times.  Where the ratio falls below 1, two threads are faster.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

import engine as tf
from engine.passes.build import Builder
from engine.passes.prune import prune
from engine.runtime.context import StepContext
from engine.runtime.driver import Driver, Executable, Sequential, StepRun
from engine.runtime.parallel import Parallel
from engine.runtime.resources import ResourceManager

KERNELS = 40
ROUNDS = 15


def fastest(executable: Executable, driver: Driver) -> float:
    """The shortest time in which `driver` runs a step, in ns."""
    best = float("inf")
    for _ in range(ROUNDS):
        step = StepRun(executable, None, StepContext(1, [], 0), ResourceManager(), None)
        begin = time.perf_counter_ns()
        driver.drive(step)
        best = min(best, time.perf_counter_ns() - begin)
    return best


def measure(size: int) -> tuple[float, float, float]:
    """(ns of one kernel, ns of the step by one thread, by two) for `tanh` of so many floats."""
    with tf.Graph().as_default() as graph:
        x = tf.constant(np.linspace(-1, 1, size, dtype=np.float32))
        targets = [tf.tanh(x).op.name for _ in range(KERNELS)]
        executable = Executable(prune(Builder(graph).stage(), [], [], targets))
    alone = fastest(executable, Sequential())
    two: Any = Parallel(2, expensive_ns=1)
    together = fastest(executable, two)
    two.close()
    return alone / KERNELS, alone, together


def main() -> None:
    print("     kernel    one thread   two threads   ratio")
    for size in (100, 1_000, 4_000, 16_000, 32_000, 64_000, 128_000, 256_000, 1_000_000):
        kernel, alone, together = measure(size)
        print(
            f"{kernel / 1e3:8.1f} µs {alone / 1e6:10.2f} ms {together / 1e6:10.2f} ms {together / alone:7.2f}"
        )


if __name__ == "__main__":
    main()
