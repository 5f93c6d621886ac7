"""What this machine's BLAS alone takes for the products of some cases: ``python benchmarks/floors.py``.

No arrangement of the same products through the same BLAS can be faster, so beside `compare.py`'s times this says how much of a
step is the library's to lose.  One thread; each product has operands of its own, which is what a step has.  A convolution is
counted as the product it comes to when its patches are laid out, without the laying out.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import time
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table

REPEAT = 30
Product = tuple[int, int, int, int]  # how often, rows, inner, columns


def trained(*layers: tuple[int, int, int], first: bool = True) -> tuple[Product, ...]:
    """Forward, gradient of the weights, and gradient of the inputs (but of the first layer's) of layers (rows, in, out)."""
    found: list[Product] = []
    for number, (rows, inner, columns) in enumerate(layers):
        found += [(1, rows, inner, columns), (1, inner, rows, columns)]
        if number or not first:
            found.append((1, rows, columns, inner))
    return tuple(found)


@dataclass(frozen=True)
class Floor:
    """The products of a case of `compare.py`."""

    case: str
    products: tuple[Product, ...]


FLOORS = (
    Floor("rnn_forward", ((200, 32, 64, 64),)),
    Floor("mlp_b128", trained((128, 784, 256), (128, 256, 256), (128, 256, 10))),
    Floor("vgg", trained((8 * 56 * 56, 9 * 64, 128), (8 * 56 * 56, 9 * 128, 128))),
)


def measure(floor: Floor) -> tuple[float, float]:
    """Seconds (the least of several), and operations a second."""
    made = [
        (
            times,
            np.ones((rows, inner), np.float32),
            np.ones((inner, columns), np.float32),
            np.empty((rows, columns), np.float32),
        )
        for times, rows, inner, columns in floor.products
    ]
    best = float("inf")
    began = time.perf_counter()
    for _ in range(REPEAT):
        start = time.perf_counter()
        for times, left, right, out in made:
            for _ in range(times):
                np.matmul(left, right, out)
        best = min(best, time.perf_counter() - start)
        if time.perf_counter() - began > 10:
            break
    operations = sum(2.0 * times * rows * inner * columns for times, rows, inner, columns in floor.products)
    return best, operations / best


def main() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    table = Table(title="products alone, one thread")
    for name in ("case", "ms", "GFLOP/s"):
        table.add_column(name, justify="left" if name == "case" else "right")
    for floor in FLOORS:
        seconds, rate = measure(floor)
        table.add_row(floor.case, f"{seconds * 1e3:.3g}", f"{rate / 1e9:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
