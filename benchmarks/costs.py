"""How well the static costs do on this machine's CPU: ``python benchmarks/costs.py``.

Measures kernels as the engine runs them, fits what `engine.device.device.Speed` states (operations and bytes a second, launch),
and prints, for each op, the measured time beside what `StaticCosts` predicts with the device's own figures and with the fitted
ones.  Nothing here is asserted: the placement needs the right order of magnitude, and the ratio column says where it has it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import engine as tf
from engine import observe
from engine.device.device import Speed, make_devices
from engine.passes.stage import Stage, StageNode
from engine.placement.work import Work, work_of

REPEAT = 15


@dataclass(frozen=True)
class Case:
    """One op to time: `make` builds it from placeholders that are fed with arrays of these shapes."""

    name: str
    shapes: tuple[tuple[int, ...], ...]
    make: Callable[..., Any]


CASES = (
    Case("Identity (launch)", ((1,),), lambda x: tf.identity(x)),
    Case("AddV2, 1 element", ((1,), (1,)), lambda x, y: x + y),
    Case("AddV2, 4 MB", ((1 << 20,), (1 << 20,)), lambda x, y: x + y),
    Case("AddV2, 64 MB", ((1 << 24,), (1 << 24,)), lambda x, y: x + y),
    Case("MatMul, 64", ((64, 64), (64, 64)), tf.matmul),
    Case("MatMul, 512", ((512, 512), (512, 512)), tf.matmul),
    Case("MatMul, 1024", ((1024, 1024), (1024, 1024)), tf.matmul),
    Case(
        "Conv2D, 3x3",
        ((8, 32, 32, 32), (3, 3, 32, 64)),
        lambda x, k: tf.nn.conv2d(x, k, [1, 1, 1, 1], "SAME"),
    ),
    Case(
        "MaxPool, 2x2", ((8, 32, 32, 32),), lambda x: tf.nn.max_pool(x, [1, 2, 2, 1], [1, 2, 2, 1], "VALID")
    ),
    Case("Exp", ((1 << 20,),), tf.exp),
    Case("Tanh", ((1 << 20,),), tf.tanh),
    Case("Log", ((1 << 20,),), tf.log),
    Case("Sigmoid", ((1 << 20,),), tf.sigmoid),
    Case("Pow", ((1 << 20,), (1 << 20,)), tf.pow),
    Case("Atan2", ((1 << 20,), (1 << 20,)), tf.atan2),
    Case("Erf", ((1 << 18,),), tf.erf),
    Case("Sqrt", ((1 << 20,),), tf.sqrt),
    Case("RealDiv", ((1 << 20,), (1 << 20,)), lambda x, y: x / y),
    Case("Relu", ((1 << 20,),), tf.nn.relu),
    Case("Softmax", ((1024, 1024),), tf.nn.softmax),
    Case("Sum", ((1 << 20,),), tf.reduce_sum),
    Case("Mean, rows", ((1024, 1024),), lambda x: tf.reduce_mean(x, 0)),
    Case("Transpose", ((1024, 1024),), tf.transpose),
    Case("ConcatV2", ((1 << 19,), (1 << 19,)), lambda x, y: tf.concat([x, y], 0)),
    Case("StridedSlice", ((1024, 1024),), lambda x: x[::2, 1:]),
    Case("GatherV2", ((1024, 1024),), lambda x: tf.gather(x, list(range(0, 1024, 2)))),
    Case("Tile", ((512, 1024),), lambda x: tf.tile(x, [2, 1])),
    Case("Cast", ((1 << 20,),), lambda x: tf.cast(x, tf.float64)),
    Case("Greater", ((1 << 20,), (1 << 20,)), lambda x, y: x > y),
    Case("Select", ((1 << 20,), (1 << 20,)), lambda x, y: tf.where(x > y, x, y)),
    Case("TopKV2", ((1 << 18,),), lambda x: tf.nn.top_k(x, 10).values),
    Case("RandomUniform", ((1,),), lambda x: tf.random_uniform([1 << 20])),
    Case("RandomStandardNormal", ((1,),), lambda x: tf.random_normal([1 << 20], name="normal")),
)


class Times(observe.Observer):
    """How long each node took, each time."""

    def __init__(self) -> None:
        self.ns: dict[str, list[int]] = {}
        self.ran: Stage | None = None

    def executions(self, step: observe.StepInfo, batch: observe.Executions) -> None:
        self.ran = step.stage
        for node, start, end in zip(batch.node, batch.start_ns, batch.end_ns, strict=True):
            self.ns.setdefault(step.stage.order[node], []).append(int(end - start))


def measure(case: Case) -> tuple[StageNode, Work, float]:
    """The node that took longest, the work that the table says it does, and the least of its times in nanoseconds."""
    random = np.random.default_rng(0)
    times = Times()
    with tf.Graph().as_default() as graph:
        inputs = [tf.placeholder(tf.float32, shape) for shape in case.shapes]
        made = case.make(*inputs)
        feeds = {x: random.uniform(0.5, 1.5, x.shape.as_list()).astype(np.float32) for x in inputs}
        with tf.Session(graph=graph) as session:
            session.run(made.op, feeds)
            observe.install(times)
            try:
                for _ in range(REPEAT):
                    session.run(made.op, feeds)
            finally:
                observe.uninstall(times)
    assert times.ran is not None
    least = {name: min(found) for name, found in times.ns.items() if times.ran.nodes[name].type != "_Arg"}
    name = max(least, key=lambda each: least[each])
    node = times.ran.nodes[name]
    shapes = [times.ran.nodes[source].output_shapes[slot] for source, slot in node.inputs]
    return node, work_of(node, shapes, 32), least[name]


def fitted(found: dict[str, tuple[StageNode, Work, float]]) -> Speed:
    """The speed that the largest product, a sum of 4 MB tensors and one of single elements show."""
    launch = found["AddV2, 1 element"][2]
    _, product, product_ns = found["MatMul, 1024"]
    _, moved, moved_ns = found["AddV2, 4 MB"]
    flops = product.flops / (product_ns - launch) * 1e9
    return Speed(
        flops={"float32": flops}, bytes_per_second=moved.nbytes / (moved_ns - launch) * 1e9, launch_ns=launch
    )


def main() -> None:
    console = Console()
    found = {case.name: measure(case) for case in CASES}
    stated = make_devices(tf.ConfigProto())[0].speed
    fit = fitted(found)
    console.print(f"started at {time.strftime('%Y-%m-%d %H:%M:%S')}, NumPy {np.__version__}")
    for title, speed in (("the device states", stated), ("fitted here", fit)):
        console.print(
            f"{title}: {speed.flops['float32'] / 1e9:.1f} GFLOP/s float32, {speed.bytes_per_second / 1e9:.1f} GB/s, "
            f"launch {speed.launch_ns:.0f} ns"
        )
    table = Table("op", "measured µs", "stated µs", "ratio", "fitted µs", "ratio")
    for name, (node, work, ns) in found.items():
        row = [name if node.type in name else f"{name} ({node.type})", f"{ns / 1e3:.2f}"]
        for speed in (stated, fit):
            predicted = speed.compute_ns(work.flops, work.nbytes)
            row += [f"{predicted / 1e3:.2f}", f"{predicted / ns:.2f}"]
        table.add_row(*row)
    console.print(table)


if __name__ == "__main__":
    main()
