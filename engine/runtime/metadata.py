"""What a step did, as TensorFlow's RunMetadata message; and a stage as a GraphDef.

TensorFlow fills a RunMetadata when a session runs with ``RunOptions(trace_level=FULL_TRACE)``.  Its readers (TensorBoard's graph
page, `timeline`, profilers) have rules of their own, which are kept here: node names are plain, an execution that took less
than a microsecond took one, every output has a shape or is left out.  Dead nodes run no kernel and are not listed, as in
TensorFlow.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.observe import Executions, Health, Observer, Override, StepInfo, TraceLevel, standing

if TYPE_CHECKING:
    from engine.passes.stage import Stage, StageNode

MODELLED = " (modelled)"
BY_HAND = "changed by hand"
DEFAULT_DEVICE = "/job:localhost/replica:0/task:0/device:CPU:0"


def run_metadata(
    stage: Stage,
    executions: Iterable[Executions],
    health: Iterable[Health] = (),
    overrides: Iterable[Override] = (),
    *,
    started_ns: int,
    started_unix_ns: int,
    modelled: Collection[str] = (),
) -> Any:
    """A RunMetadata with one record a live execution, grouped by device.

    executions: batches of one step, numbered by `stage.order`; times in nanoseconds of `time.perf_counter_ns`.
    health: how their outputs looked; without it the records have no outputs and no bytes.
    overrides: what was changed by hand, as observers were told: records of no duration on a device of their own, but for what was
    taken back.
    started_ns, started_unix_ns: the same moment on both clocks, which ties the records to the wall clock.
    modelled: the names of the devices that are models.  Their records say so in their labels, and their threads in their names,
    since readers show one or the other: the times are what modelling took on the host.
    """
    from tensorboard.compat.proto.config_pb2 import RunMetadata

    message = RunMetadata()
    labels = {False: _Labels(stage, ""), True: _Labels(stage, MODELLED)}
    outputs = _Outputs(health)
    to_unix = started_unix_ns - started_ns
    devices: dict[str, Any] = {}
    for batch in executions:
        for name, rows in rows_by_device(stage, batch):
            device = devices.get(name)
            if device is None:
                device = devices[name] = message.step_stats.dev_stats.add(device=name or DEFAULT_DEVICE)
            is_model = name in modelled
            device.node_stats.extend(
                _records(batch, rows, labels[is_model], outputs.on(name, is_model), to_unix)
            )
            for thread in np.unique(batch.thread[rows]).tolist():
                said = f"{MODELLED}: times are what modelling took on the host" if is_model else ""
                device.thread_names[thread & 0xFFFFFFFF] = f"thread {thread}{said}"
    stand = standing(overrides)
    if stand:
        message.step_stats.dev_stats.add(device=BY_HAND, node_stats=_by_hand(stand, to_unix))
    return message


def _by_hand(overrides: Sequence[Override], to_unix: int) -> Iterator[Any]:
    """A record of no duration for each change by hand; `to_unix`: nanoseconds from one clock to the other."""
    from tensorboard.compat.proto.step_stats_pb2 import NodeExecStats

    for each in overrides:
        nanos = each.at_ns + to_unix
        yield NodeExecStats(
            node_name=f"{BY_HAND} {each.number}",
            timeline_label=each.text,
            all_start_micros=nanos // 1000,
            all_start_nanos=nanos,
            op_end_rel_micros=1,
            all_end_rel_micros=1,
        )


def rows_by_device(stage: Stage, batch: Executions) -> list[tuple[str, Any]]:
    """(device, indices of the batch's rows that ran on it); in a batch of one device, that one and all rows."""
    if batch.device:
        return [(batch.device, np.arange(len(batch)))]
    known = {name: number for number, name in enumerate(stage.devices)}
    on = np.array([known[node.device] for node in stage], np.int64)[batch.node]
    return [(name, np.flatnonzero(on == number)) for name, number in known.items() if (on == number).any()]


def partition_graphs(stage: Stage) -> list[Any]:
    """The graphs of the devices of a partitioned stage, as GraphDefs; of any other stage, the one graph."""
    found = []
    for device in stage.devices:
        message = _empty_graph_def()
        message.node.extend(stage_node_def(node) for node in stage.on(device))
        found.append(message)
    return found


def fill(message: Any, filled: Any) -> None:
    """Make `message`, the RunMetadata that a caller handed in (TensorFlow's own class too), say what `filled` says."""
    message.ParseFromString(filled.SerializeToString())


class MetadataObserver(Observer):
    """Watches one step and fills `message`, the caller's RunMetadata, when it ends: with its `statistics`, its `graphs`."""

    level = TraceLevel.VALUES

    def __init__(self, message: Any, statistics: bool = True, graphs: bool = False) -> None:
        self._message = message
        self._statistics = statistics
        self._graphs = graphs
        self.level = TraceLevel.VALUES if statistics else TraceLevel.TIMES
        self._executions: list[Executions] = []
        self._health: list[Health] = []
        self._overrides: list[Override] = []

    def executions(self, step: StepInfo, batch: Executions) -> None:
        self._executions.append(batch)

    def overrides(self, step: StepInfo, batch: tuple[Override, ...]) -> None:
        self._overrides.extend(batch)

    def health(self, step: StepInfo, batch: Health) -> None:
        self._health.append(batch)

    def step_end(self, step: StepInfo, ended_ns: int, error: BaseException | None) -> None:
        filled = run_metadata(
            step.stage,
            self._executions if self._statistics else (),
            self._health,
            self._overrides,
            started_ns=step.started_ns,
            started_unix_ns=step.started_unix_ns,
            modelled=[device.name for device in step.devices if device.modelled],
        )
        if self._graphs:
            filled.partition_graphs.extend(partition_graphs(step.stage))
        fill(self._message, filled)


def stage_graph_def(stage: Stage, *, add_shapes: bool = False, max_tensor_bytes: int | None = None) -> Any:
    """The stage as a GraphDef.

    add_shapes: put the static output shapes into the attr `_output_shapes`, which TensorBoard draws on edges.
    max_tensor_bytes: leave out the contents of larger tensors in attrs (constants), keeping their dtype and shape.
    """
    message = _empty_graph_def()
    message.node.extend(stage_node_def(node, add_shapes, max_tensor_bytes) for node in stage)
    return message


def _empty_graph_def() -> Any:
    from tensorboard.compat.proto.graph_pb2 import GraphDef

    message = GraphDef()
    message.versions.producer = 27  # the first that knows every attr written here
    return message


def stage_node_def(node: StageNode, add_shapes: bool = False, max_tensor_bytes: int | None = None) -> Any:
    """One node of a stage as a NodeDef; see `stage_graph_def`."""
    from tensorboard.compat.proto.node_def_pb2 import NodeDef

    from engine.graph.attr_value import attr_to_proto

    message = NodeDef(name=node.name, op=node.type, device=node.device, input=_input_names(node))
    signature = getattr(node.opdef, "signature", None)
    specs = {} if signature is None else signature.attrs
    for name, value in node.attrs.items():
        if max_tensor_bytes is not None and isinstance(value, np.ndarray) and value.nbytes > max_tensor_bytes:
            message.attr[name].tensor.CopyFrom(_without_contents(value))
        elif value is not None:
            message.attr[name].CopyFrom(attr_to_proto(value, specs.get(name)))
    if add_shapes and node.output_shapes:
        message.attr["_output_shapes"].CopyFrom(attr_to_proto(tuple(node.output_shapes)))
    return message


def _without_contents(array: np.ndarray[Any, Any]) -> Any:
    from tensorboard.compat.proto.tensor_pb2 import TensorProto

    from engine.types.dtypes import as_dtype
    from engine.types.shape import TensorShape

    shape = TensorShape.of(array.shape).as_proto()
    return TensorProto(dtype=as_dtype(array.dtype).as_datatype_enum, tensor_shape=shape)


def _input_names(node: StageNode) -> list[str]:
    data = [name if slot == 0 else f"{name}:{slot}" for name, slot in node.inputs]
    return data + ["^" + name for name in node.control_inputs]


class _Labels:
    """Names of the stage's nodes by number, and TensorFlow's labels for them: "name = Op(inputs)", and `suffix`."""

    def __init__(self, stage: Stage, suffix: str) -> None:
        self._stage = stage
        self._suffix = suffix
        self.names = stage.order
        self._labels: dict[int, str] = {}

    def __getitem__(self, number: int) -> str:
        label = self._labels.get(number)
        if label is None:
            node = self._stage.nodes[self.names[number]]
            label = f"{node.name} = {node.type}({', '.join(_input_names(node))}){self._suffix}"
            self._labels[number] = label
        return label


class _Outputs:
    """The live outputs of executions, by their number within the step."""

    def __init__(self, batches: Iterable[Health]) -> None:
        self._allocator = "cpu"
        self._found: dict[int, list[tuple[int, int, tuple[int, ...], int]]] = {}
        for batch in batches:
            columns = (batch.row.tolist(), batch.slot.tolist(), batch.dtype.tolist(), batch.nbytes.tolist())
            for row, slot, dtype, nbytes, shape in zip(*columns, batch.shapes):
                self._found.setdefault(row, []).append((slot, dtype, shape, nbytes))

    def on(self, device: str, is_model: bool) -> _Outputs:
        """These, allocated on that device from now on."""
        short = device.rpartition("/device:")[2]
        self._allocator = "cpu" if short.startswith("CPU:") or not short else short + MODELLED * is_model
        return self

    def put(self, row: int, record: Any) -> None:
        """Describe the outputs of execution `row` in `record`, a NodeExecStats."""
        total = 0
        for slot, dtype, shape, nbytes in self._found.get(row, ()):
            description = record.output.add(slot=slot).tensor_description
            description.dtype = dtype
            description.shape.SetInParent()  # a scalar's shape is empty, and yet has to be there
            for size in shape:
                description.shape.dim.add(size=size)
            description.allocation_description.requested_bytes = nbytes
            description.allocation_description.allocator_name = self._allocator
            total += nbytes
        if total:
            record.memory.add(allocator_name=self._allocator, total_bytes=total, peak_bytes=total)


def _records(
    batch: Executions, on_device: Any, labels: _Labels, outputs: _Outputs, to_unix: int
) -> Iterable[Any]:
    from tensorboard.compat.proto.step_stats_pb2 import NodeExecStats

    start = batch.start_ns + to_unix
    took = np.maximum(batch.end_ns - batch.start_ns, 0)
    # A reader takes a record of zero microseconds for none at all.
    micros = np.maximum((took + 999) // 1000, 1)
    names = labels.names
    live = on_device[~batch.dead[on_device]]
    rows = (
        live + batch.first,
        batch.node[live],
        start[live],
        start[live] // 1000,
        took[live],
        micros[live],
        batch.thread[live],
    )
    for row, node, nanos, start_micros, took_nanos, took_micros, thread in zip(
        *(column.tolist() for column in rows)
    ):
        record = NodeExecStats(
            node_name=names[node],
            timeline_label=labels[node],
            thread_id=thread & 0xFFFFFFFF,
            scheduled_micros=start_micros,
            scheduled_nanos=nanos,
            all_start_micros=start_micros,
            all_start_nanos=nanos,
            op_start_rel_micros=0,
            op_start_rel_nanos=0,
            op_end_rel_micros=took_micros,
            op_end_rel_nanos=took_nanos,
            all_end_rel_micros=took_micros,
            all_end_rel_nanos=took_nanos,
        )
        outputs.put(row, record)
        yield record
