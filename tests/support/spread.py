"""Random placements, and a step run by hand on whatever stage: what the tests of partitions compare."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import engine as tf
from engine.device.device import Device, make_devices
from engine.partition.options import PartitionOptions
from engine.partition.partition import partition
from engine.passes.prune import prune
from engine.passes.stage import Stage
from engine.runtime import driver as drivers
from engine.runtime.context import StepContext
from engine.runtime.executable import Executable
from engine.runtime.frames import Finished
from engine.runtime.resources import ResourceManager
from engine.runtime.step import StepRun


def cpus(count: int) -> tuple[Device, ...]:
    """That many CPU devices."""
    return make_devices(tf.ConfigProto(device_count={"CPU": count}))[:count]


def pruned(
    graph: Any, fetches: Sequence[Any], feeds: Sequence[Any] = (), targets: Sequence[str] = ()
) -> Stage:
    """The pruned stage of a run with these tensors."""
    from engine.passes.build import Builder

    return prune(Builder(graph).stage(), [t.name for t in feeds], [t.name for t in fetches], list(targets))


def spread(stage: Stage, devices: Sequence[Device], seed: int) -> Stage:
    """`stage` with every node on a random device; what takes a reference is where the variable is."""
    rng = random.Random(seed)
    at: dict[str, str] = {}

    def device(name: str) -> str:
        if name not in at:
            node = stage.nodes[name]
            refs = [
                source
                for (source, slot), dtype in zip(node.inputs, node.input_dtypes, strict=True)
                if dtype._is_ref_dtype
            ]
            at[name] = device(refs[0]) if refs else rng.choice(devices).name
        return at[name]

    nodes = {name: replace(node, device=device(name)) for name, node in stage.nodes.items()}
    return stage.followed_by("placed", nodes)


@dataclass
class Ran:
    """What a step gave: results, what the variables hold after it, and how often each (node, frame, iteration) executed."""

    results: list[Any]
    variables: dict[str, Any]
    executed: Counter[tuple[str, str, int, bool]]
    step: StepRun


class Counting(StepRun):
    """A step that remembers what has executed; what was taken back has not."""

    def begin(self) -> Any:
        self.executed: list[tuple[str, str, int, bool]] = []
        return super().begin()

    def finish(self, activation: Any, outcome: Any) -> Any:
        self.executed.append(
            (activation.name, activation.frame.tag, activation.iteration, outcome.outputs is None)
        )
        return super().finish(activation, outcome)

    def undo(self) -> Finished:
        self.executed.pop()
        return super().undo()


def run(
    stage: Stage,
    feeds: Sequence[Any] = (),
    devices: Sequence[Device] = (),
    driver: drivers.Driver | None = None,
    resources: ResourceManager | None = None,
) -> Ran:
    """One step of `stage`."""
    driver = driver or drivers.Sequential()
    resources = resources if resources is not None else ResourceManager()
    context = StepContext(1, list(feeds), len(stage.fetches))
    step = Counting(Executable(stage, devices), None, context, resources, None, record=driver.record)
    with np.errstate(all="ignore"):
        driver.drive(step)
    step.check_complete()
    assert step.state.finished
    variables = {each.name: each.value for each in resources if each.kind == "variable"}
    return Ran(context.results, variables, Counter(step.executed), step)


def cut(stage: Stage, devices: Sequence[Device], seed: int, options: PartitionOptions | None = None) -> Stage:
    """`stage` on random devices, partitioned."""
    return partition(spread(stage, devices, seed), devices, options)


def check_whole(stage: Stage) -> None:
    """No edge joins two devices, every `_Send` has one `_Recv` of the same key, and no tensor goes to a device twice.

    (But a variable's value, which is read anew for those that must not see what others saw.)
    """
    sent: Counter[Any] = Counter()
    routes: dict[str, Counter[Any]] = {"_Send": Counter(), "_Recv": Counter()}
    for node in stage:
        for source in (*(name for name, _ in node.inputs), *node.control_inputs):
            assert stage.nodes[source].device == node.device, (source, node.name)
        if node.type in routes:
            keys = ("tensor_name", "send_device", "send_device_incarnation", "recv_device")
            routes[node.type][tuple(node.attrs[key] for key in keys)] += 1
        if node.type == "_Send":
            (source, slot), waits = node.inputs[0], node.control_inputs
            dummy = stage.nodes[source]
            if "_control_" in source.rpartition("/")[2]:
                source, slot, waits = dummy.control_inputs[0], -1, ()
            sent[source, slot, waits, node.attrs["recv_device"]] += 1
    assert routes["_Send"] == routes["_Recv"] and set(routes["_Send"].values()) <= {1}
    assert set(sent.values()) <= {1}


def same(one: Any, other: Any) -> bool:
    """Whether two arrays are the same bit for bit."""
    a, b = np.asarray(one), np.asarray(other)
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
