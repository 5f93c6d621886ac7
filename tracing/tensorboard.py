"""TensorBoard's event file of a run, beside `run.sqlite`: a run directory is a TensorBoard logdir as it stands.

What is in it:

- the graph as the user built it (the first stage), with output shapes; again whenever it has grown;
- the first step of each of the first `MAX_STAGES` signatures as one `graph_run_metadata` summary a stage of its chain
  (tag ``stages/02_pruned``), so that the graph page offers every stage with what its nodes cost;
- the RunMetadata of some steps (tag ``step_0001``, the number being the step's id): the first `FIRST_STEPS`, and then the 20th,
  50th, 100th, 200th, 500th … of the run; of a graph larger than `SMALL` nodes, since one takes milliseconds, the 10th, 100th,
  1,000th …, and of one larger than `MAX_EXECUTIONS` none.  In a step that executes more than that, the executions of one node
  (a loop's) are one record from the first start to the last end, which is what TensorBoard makes of several records;
- what somebody changed by hand in a debugger, as texts (tag ``changed by hand``), and in a RunMetadata as records of no duration
  on a device of that name;
- the scalars and histograms that the user's program logs.

Contents of constants of more than `MAX_TENSOR_BYTES` are left out of the graphs (TensorBoard strips them anyway), as are graphs
of more than `MAX_NODES`.  The readers' rules followed here and in `engine.runtime.metadata` were found by trying.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.observe import Executions, Health, Override, StepInfo
from engine.passes.stage import Stage
from engine.runtime.metadata import BY_HAND, run_metadata, stage_graph_def
from tracing.collapse import Collapsed
from tracing.histograms import Histogram

FIRST_STEPS = 10
SMALL = 50
MAX_STAGES = 16
MAX_EXECUTIONS = 4_000
MAX_NODES = 20_000
MAX_TENSOR_BYTES = 1024

_UNREADABLE_NAME = (
    "length"  # TensorBoard's page puts nodes into a JavaScript object, where this name is taken
)


class ToldStep:
    """What a step that gets a RunMetadata has told so far."""

    __slots__ = ("_collapsed", "_count", "_executions", "_health", "_overrides", "info")

    def __init__(self, info: StepInfo) -> None:
        self.info = info
        self._count = 0
        self._executions: list[Executions] = []
        self._health: list[Health] = []
        self._collapsed: Collapsed | None = None
        self._overrides: list[Override] = []

    def executions(self, batch: Executions) -> None:
        """Take executions in."""
        self._executions.append(batch)
        self._count += len(batch)
        if self._count > MAX_EXECUTIONS:
            if self._collapsed is None:
                self._collapsed = Collapsed(len(self.info.stage))
            self._collapsed.add(self._executions)
            self._executions = []
            self._health = []

    def health(self, batch: Health) -> None:
        """Take the health of outputs in."""
        if self._collapsed is None:
            self._health.append(batch)

    def overrides(self, batch: Sequence[Override]) -> None:
        """Take in what was changed by hand."""
        self._overrides.extend(batch)

    def metadata(self) -> Any:
        """The RunMetadata message."""
        info = self.info
        found = self._executions if self._collapsed is None else self._collapsed.executions()
        return run_metadata(
            info.stage,
            found,
            self._health,
            self._overrides,
            started_ns=info.started_ns,
            started_unix_ns=info.started_unix_ns,
            modelled=[device.name for device in info.devices if device.modelled],
        )


class TensorBoardWriter:
    """Writes the event file of one run.  Thread-safe; raises OSError when writing fails.

    What has been written is with the operating system, so that a killed process loses none of it.
    """

    def __init__(self, path: Path) -> None:
        writer = _record_writer_class()
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}"
        self._lock = threading.Lock()
        self._records: Any = writer(str(path / name))
        self._steps = 0
        self._chosen: set[int] = set()  # ids of last stages of which a step was chosen for that
        self._described: set[int] = set()  # ids of last stages whose chain has been written
        self._write(_event(time.time_ns(), file_version="brain.Event:2"))

    def chooses(self, stage_id: int, nodes: int) -> bool:
        """Whether the step that begins now is one that gets a RunMetadata; it runs the stage of that id, of so many nodes."""
        with self._lock:
            self._steps += 1
            count = self._steps
            if stage_id not in self._chosen and len(self._chosen) < MAX_STAGES:
                self._chosen.add(stage_id)
                return True
        if nodes <= SMALL:
            return count <= FIRST_STEPS or _is_round(count, "125")
        return nodes <= MAX_EXECUTIONS and _is_round(count, "1")

    def graph(self, stage: Stage) -> None:
        """Write `stage` as the run's graph."""
        if len(stage) <= MAX_NODES:
            self._write(_event(time.time_ns(), graph_def=_graph(stage).SerializeToString()))

    def step(self, told: ToldStep, stage_ids: Sequence[int]) -> None:
        """Write the RunMetadata of a step, and its stages (`stage_ids`: the run's ids of its chain) unless they are there."""
        info = told.info
        metadata = told.metadata()
        _rename_records(metadata, info.stage)
        data = metadata.SerializeToString()
        event = _event(info.started_unix_ns, step=info.step)
        event.tagged_run_metadata.tag = f"step_{info.id:04d}"
        event.tagged_run_metadata.run_metadata = data
        self._write(event)
        with self._lock:
            new = stage_ids[-1] not in self._described and len(self._described) < MAX_STAGES
            self._described.add(stage_ids[-1])
        if new:
            self._chain(info, stage_ids, metadata)

    def scalar(self, tag: str, step: int, value: float, unix_ns: int) -> None:
        """Write one number."""
        event = _event(unix_ns, step=step)
        event.summary.value.add(tag=tag, simple_value=value)
        self._write(event)

    def histogram(self, tag: str, step: int, histogram: Histogram, unix_ns: int) -> None:
        """Write one histogram."""
        event = _event(unix_ns, step=step)
        histogram.put(event.summary.value.add(tag=tag).histo)
        self._write(event)

    def overrides(self, info: StepInfo, batch: Sequence[Override]) -> None:
        """Write what was changed by hand in a step, as texts."""
        event = _event(time.time_ns(), step=info.step)
        value = event.summary.value.add(tag=BY_HAND)
        value.metadata.plugin_data.plugin_name = "text"
        value.tensor.dtype = 7  # DT_STRING
        value.tensor.tensor_shape.dim.add(size=len(batch))
        for each in batch:
            said = f"change {each.number} taken back" if each.taken_back else each.text
            value.tensor.string_val.append(f"before execution {each.row}: {said}".encode())
        self._write(event)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._records.close()

    def forget_after_fork(self) -> None:
        """In a forked child: leave the parent's file alone."""
        _not_ours.append(self._records)
        self._lock = threading.Lock()

    def _chain(self, info: StepInfo, stage_ids: Sequence[int], metadata: Any) -> None:
        for stage, stage_id in zip(info.stage.chain(), stage_ids):
            if len(stage) > MAX_NODES:
                continue
            tag = f"stages/{stage_id:02d}_{stage.name.replace('/', '_')}"
            event = _event(info.started_unix_ns, step=info.step)
            value = event.summary.value.add(tag=tag)
            value.metadata.plugin_data.plugin_name = "graph_run_metadata"
            value.metadata.plugin_data.content = b"1"
            value.tensor.dtype = 7  # DT_STRING
            value.tensor.tensor_shape.SetInParent()
            message = type(metadata)()
            message.step_stats.CopyFrom(metadata.step_stats)
            message.function_graphs.add().pre_optimization_graph.CopyFrom(_graph(stage))
            value.tensor.string_val.append(message.SerializeToString())
            self._write(event)

    def _write(self, event: Any) -> None:
        data = event.SerializeToString()
        with self._lock:
            self._records.write(data)
            self._records.flush()


_not_ours: list[Any] = []  # files of a parent process, whose buffers must not be written a second time


def _record_writer_class() -> Any:
    # Importing tensorboardX takes a tenth of a second, which only those who record should pay.
    from tensorboardX.record_writer import RecordWriter

    class Records(RecordWriter):  # type: ignore[misc]
        """tensorboardX's writer of framed records, handing each to the operating system but not waiting for the disk."""

        def flush(self) -> None:
            self._writer.flush()

    return Records


def _event(unix_ns: int, **fields: Any) -> Any:
    from tensorboard.compat.proto.event_pb2 import Event

    return Event(wall_time=unix_ns / 1e9, **fields)


def _is_round(count: int, begins: str) -> bool:
    """Whether `count` is 10, 100, 1,000 …, or such a number with another of the digits that it `begins` with."""
    digits = str(count)
    return digits[0] in begins and not digits[1:].strip("0") and len(digits) > 1


def _graph(stage: Stage) -> Any:
    message = stage_graph_def(stage, add_shapes=True, max_tensor_bytes=MAX_TENSOR_BYTES)
    if _UNREADABLE_NAME in stage.nodes:
        other = _other_name(stage)
        for node in message.node:
            if node.name == _UNREADABLE_NAME:
                node.name = other
            for i, source in enumerate(node.input):
                name, colon, slot = source.partition(":")
                if name.lstrip("^") == _UNREADABLE_NAME:
                    node.input[i] = name.replace(_UNREADABLE_NAME, other) + colon + slot
    return message


def _rename_records(metadata: Any, stage: Stage) -> None:
    if _UNREADABLE_NAME in stage.nodes:
        for device in metadata.step_stats.dev_stats:
            for record in device.node_stats:
                if record.node_name == _UNREADABLE_NAME:
                    record.node_name = _other_name(stage)


def _other_name(stage: Stage) -> str:
    name = _UNREADABLE_NAME + "_"
    while name in stage.nodes:
        name += "_"
    return name
