"""Partition: from one graph over several devices to one graph a device, joined by `_Send`s and `_Recv`s.

White paper (Abadi et al., "TensorFlow: Large-Scale Machine Learning on Heterogeneous Distributed Systems", 2015), sections 3.2.2,
4.4 and 5.2; TensorFlow's graph_partition.cc.  See docs/partition.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.partition.colocate import colocate_control_flow
from engine.partition.control_loops import ControlLoops, Path
from engine.partition.late import delay_receives
from engine.partition.one_by_one import order_iterations
from engine.partition.options import Costs, Device, PartitionOptions
from engine.partition.transfers import Cutter, path_after
from engine.passes.rewrite import Draft
from engine.passes.stage import Stage, StageNode
from engine.placement.flow import Flow, flow_of
from engine.types import errors

NAME = "partitioned"


def partition(
    stage: Stage,
    devices: Sequence[Device],
    options: PartitionOptions | None = None,
    costs: Costs | None = None,
) -> Stage:
    """The stage called "partitioned", in which no edge joins two devices.

    Every node of `stage` must be on one of `devices`, by full name.  `costs` say when nodes would run, for receives that are
    held back (without them, every node takes as long as any other).  `Stage.on(device)` are the graphs of the devices.

    Raises InvalidArgumentError for a loop over several devices without a LoopCond, for an edge that leads out of a loop past
    its Exit, and for a node that needs a reference to a variable of another device.
    """
    options = options or PartitionOptions()
    flow = flow_of(stage)
    draft = Draft(stage, NAME)
    colocate_control_flow(draft, flow)
    if len({node.device for node in draft.nodes.values()}) > 1:
        _cut(draft, flow, {device.name: device for device in devices}, options, costs)
    return draft.finish()


def _cut(
    draft: Draft, flow: Flow, devices: dict[str, Device], options: PartitionOptions, costs: Costs | None
) -> None:
    frames = dict(flow.frames)
    order_iterations(draft, frames)
    loops = ControlLoops(draft, frames)
    loops.add(_crossings(draft, frames))
    cutter = Cutter(draft, frames, loops, devices, options)
    for name in list(draft.nodes):
        cutter.cut(name)
    if options.late_bytes is not None:
        delay_receives(draft, frames, cutter.routes, options.late_bytes, costs)


def _crossings(draft: Draft, frames: dict[str, Path]) -> Iterator[tuple[Path, str]]:
    """(frame, destination) of each edge between devices."""
    for name, node in draft.nodes.items():
        for source in dict.fromkeys([*(name for name, _ in node.inputs), *node.control_inputs]):
            producer = draft.nodes[source]
            if producer.device != node.device:
                path = path_after(producer, frames)
                if path != frames[name]:
                    _refuse(producer, path, node, frames[name])
                yield path, node.device
                if any(
                    producer.output_dtypes[slot]._is_ref_dtype for each, slot in node.inputs if each == source
                ):
                    yield path, producer.device  # where the read may have to wait for what is here


def _refuse(producer: StageNode, path: Path, node: StageNode, at: Path) -> None:
    def named(frame: Path) -> str:
        return "outside of all loops" if not frame else f"in the loop '{' > '.join(frame)}'"

    error = errors.InvalidArgumentError(
        None,
        None,
        f"'{node.name}' is {named(at)} and has an input from '{producer.name}', which is {named(path)}. "
        "A tensor of one loop cannot be used outside of it; use what tf.while_loop returns.",
    )
    error.attach(node)
    raise error
