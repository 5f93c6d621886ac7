"""Cutting edges: a `_Send` and a `_Recv` in place of what leads from one device to another.

A tensor goes to a device once, however many nodes read it there.  A control edge is carried by an empty constant, which runs
after the node that is waited for, and is dead with it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from engine.partition.control_loops import ControlLoops, Path
from engine.partition.options import Device, PartitionOptions
from engine.passes.rewrite import Draft
from engine.passes.stage import StageNode
from engine.types import dtypes, errors
from engine.types.shape import TensorShape

_CONTROL = -1
_EMPTY = np.zeros((0,), np.float32)
_EMPTY.setflags(write=False)


def short(device: str) -> str:
    """``CPU:0`` for a device's full name."""
    return device.rpartition("device:")[2]


def _signed(number: int) -> int:
    """A number of 64 bits as an attr holds it."""
    return number - (1 << 64) if number >> 63 else number


def path_after(node: StageNode, frames: Mapping[str, Path]) -> Path:
    """The frame in which the outputs of `node` are."""
    path = frames[node.name]
    if node.opdef.flow == "enter":
        return (*path, node.attrs["frame_name"])
    return path[:-1] if node.opdef.flow == "exit" else path


class Cutter:
    """Replaces edges between devices; `routes` pairs each `_Send` with its `_Recv`, by name."""

    def __init__(
        self,
        draft: Draft,
        frames: dict[str, Path],
        loops: ControlLoops,
        devices: Mapping[str, Device],
        options: PartitionOptions,
    ) -> None:
        self.routes: dict[str, str] = {}
        self._draft = draft
        self._frames = frames
        self._loops = loops
        self._devices = devices
        self._options = options
        self._received: dict[tuple[str, int, str, tuple[str, ...]], str] = {}

    def cut(self, name: str) -> None:
        """Let the node `name` read and wait for nodes of its own device only."""
        node = self._draft.nodes[name]
        device = node.device
        inputs = [
            (self._receive(source, slot, node, i), 0)
            if self._is_elsewhere(source, device)
            else (source, slot)
            for i, (source, slot) in enumerate(node.inputs)
        ]
        control = [
            self._receive(source, _CONTROL, node) if self._is_elsewhere(source, device) else source
            for source in node.control_inputs
        ]
        if inputs != list(node.inputs) or control != list(node.control_inputs):
            self._draft.replace(
                name, inputs=inputs, control_inputs=control, reason="receives what is on other devices"
            )

    def _is_elsewhere(self, source: str, device: str) -> bool:
        return self._draft.nodes[source].device != device

    def _receive(self, source: str, slot: int, reader: StageNode, at: int = 0) -> str:
        """The node on the reader's device that gives output `slot` of `source` (or, for _CONTROL, that comes after it)."""
        waits: tuple[str, ...] = ()
        if slot != _CONTROL and self._draft.nodes[source].output_dtypes[slot]._is_ref_dtype:
            self._refuse_reference(source, reader, at)
            waits = self._before_reading(reader, at)
        key = (source, slot, reader.device, waits)
        found = self._received.get(key)
        if found is None:
            found = self._received[key] = self._add_pair(source, slot, reader, waits)
        return found

    def _before_reading(self, reader: StageNode, at: int) -> tuple[str, ...]:
        """What must have happened before the variable at input `at` of `reader` is read.

        On one device a node reads a variable when it runs, so after all its other inputs.  The `_Send` reads it in the node's
        place, and waits for the same.
        """
        nodes = self._draft.nodes
        waits = list(reader.control_inputs)
        if reader.opdef.flow != "merge":
            waits += [
                name for i, (name, _) in enumerate(reader.inputs) if i != at and name != reader.inputs[at][0]
            ]
        return tuple(
            dict.fromkeys(name for name in waits if nodes[name].inputs or nodes[name].control_inputs)
        )

    def _refuse_reference(self, source: str, reader: StageNode, at: int) -> None:
        if not reader.input_dtypes[at]._is_ref_dtype:
            return
        node = self._draft.nodes[source]
        made = f" (made at {node.site})" if node.site is not None and node.site.frames else ""
        error = errors.InvalidArgumentError(
            None,
            None,
            f"'{reader.name}' on {short(reader.device)} needs a reference to '{source}'{made}, which is on {short(node.device)}: "
            "what changes a variable must be on its device",
        )
        error.attach(reader)
        raise error

    def _add_pair(self, source: str, slot: int, reader: StageNode, waits: tuple[str, ...]) -> str:
        draft, device = self._draft, reader.device
        node = draft.nodes[source]
        there = dataclasses.replace(
            reader, device=node.device, site=node.site, original=node.original, decision=None
        )
        here = dataclasses.replace(reader, site=node.site, original=node.original, decision=None)
        what = f"{source}:{slot}" if slot != _CONTROL else f"that '{source}' has run"
        path = path_after(node, self._frames)
        label = (
            "_control" if slot == _CONTROL else f"_{slot}" if slot else ""
        ) + f"_{short(device).replace(':', '_')}"

        def add(kind: str, inputs: list[tuple[str, int]], like: StageNode, verb: str, **more: object) -> str:
            control = more.pop("control_inputs", ())
            shape = more.pop("shape", None)
            name = draft.add(
                kind,
                inputs,
                more,
                like=like,
                name=f"{source}/{kind if kind.startswith('_') else '_' + kind}{label}",
                sources=(source,),
                reason=f"{verb} {what} from {short(node.device)} to {short(device)}",
                control_inputs=control,  # type: ignore[arg-type]  # a sequence of names
                output_shapes=None if shape is None else [shape],  # type: ignore[list-item]  # a shape
            )
            self._frames[name] = path
            return name

        if slot == _CONTROL:
            shape = TensorShape.of((0,))
            out = (
                add(
                    "Const",
                    [],
                    there,
                    "sends",
                    value=_EMPTY,
                    dtype=dtypes.float32,
                    control_inputs=(source,),
                    shape=shape,
                ),
                0,
            )
            dtype = dtypes.float32
        else:
            out, dtype, shape = (source, slot), node.output_dtypes[slot].base_dtype, node.output_shapes[slot]
        narrow = self._options.wire == "bfloat16" and dtype is dtypes.float32 and slot != _CONTROL
        if narrow:
            out = (
                add(
                    "Cast",
                    [out],
                    there,
                    "shortens",
                    DstT=dtypes.bfloat16,
                    Truncate=True,
                    control_inputs=waits,
                    shape=shape,
                ),
                0,
            )
            waits = ()
        route = {
            "tensor_name": f"edge_{len(self.routes)}_{source}",
            "send_device": node.device,
            "send_device_incarnation": _signed(self._devices[node.device].incarnation),
            "recv_device": device,
            "client_terminated": False,
        }
        wire = dtypes.bfloat16 if narrow else dtype
        send = add("_Send", [out], there, "sends", control_inputs=waits, T=wire, **route)
        pivot = self._loops.pivot(path, device)
        recv = add(
            "_Recv",
            [],
            here,
            "receives",
            control_inputs=() if pivot is None else (pivot,),
            tensor_type=wire,
            shape=shape,
            **route,
        )
        self.routes[send] = recv
        self.cut(send)  # what a read of a variable waits for may be elsewhere, too
        if narrow:
            self.cut(draft.nodes[send].inputs[0][0])
            return add("Cast", [(recv, 0)], here, "restores", DstT=dtypes.float32, shape=shape)
        return recv
