"""Grouping operations: `group`, `tuple`, `with_dependencies`, as in TensorFlow 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.graph.convert import convert_to_tensor
from engine.graph.default import get_default_graph, name_scope
from engine.graph.indexed_slices import IndexedSlices
from engine.graph.operation import Operation
from engine.graph.sparse_tensor import SparseTensor
from engine.graph.tensor import Tensor
from engine.op.passing import identity
from engine.op.registry import raw
from engine.types import nest

__all__ = ["group", "no_op", "tuple", "with_dependencies"]


def no_op(name: str | None = None) -> Operation:
    """An operation that does nothing: a place to hang control dependencies on."""
    op: Operation = raw.NoOp(name=name)
    return op


def _operation(item: Any) -> Operation:
    element = getattr(item, "_as_graph_element", lambda: item)()
    op = element if isinstance(element, Operation) else getattr(element, "op", None)
    if not isinstance(op, Operation):
        raise TypeError(
            f"Expected a Tensor, an Operation or a variable, got {item!r} of type {type(item).__name__}"
        )
    return op


def group(*inputs: Any, name: str | None = None) -> Operation:
    """An operation that finishes when all `inputs` (tensors, operations, nested lists of them) have.  It has no outputs.

    Raises TypeError for an input that is none of these.
    """
    ops = [_operation(item) for item in nest.flatten(list(inputs))]
    if not ops:
        return no_op(name=name)
    with name_scope(name, "group_deps", ops) as scope:
        by_device: dict[str, list[Operation]] = {}
        for op in ops:
            by_device.setdefault(op.device, []).append(op)
        graph = get_default_graph()
        if len(by_device) == 1:
            (device, members) = next(iter(by_device.items()))
            return _wait_for(device, members, scope)
        # One operation a device, so that what crosses between devices is one edge each.
        gates = [_wait_for(device, by_device[device], None) for device in sorted(by_device)]
        with graph.control_dependencies(gates):
            return no_op(name=scope)


def _wait_for(device: str, ops: Sequence[Operation], name: str | None) -> Operation:
    graph = get_default_graph()
    with graph.device(device or None) if device else graph.device(""), graph.control_dependencies(ops):
        return no_op(name=name)


def with_dependencies(dependencies: Sequence[Any], output_tensor: Any, name: str | None = None) -> Any:
    """`output_tensor`, available only after all `dependencies` have run."""
    graph = get_default_graph()
    beside = (
        output_tensor.values if isinstance(output_tensor, IndexedSlices | SparseTensor) else output_tensor
    )
    with (
        name_scope(name, "control_dependency", [*dependencies, output_tensor]) as scope,
        graph.colocate_with(beside),
    ):
        if isinstance(output_tensor, SparseTensor):
            with graph.control_dependencies(dependencies):
                return identity(output_tensor)
        if isinstance(output_tensor, IndexedSlices):
            with graph.control_dependencies(dependencies):
                return IndexedSlices(
                    raw.Identity(output_tensor.values, name=scope),
                    output_tensor.indices,
                    output_tensor.dense_shape,
                )
        tensor = convert_to_tensor(output_tensor)
        with graph.control_dependencies(dependencies):
            return raw.Identity(tensor, name=scope)


def tuple(
    tensors: Sequence[Any], name: str | None = None, control_inputs: Sequence[Any] | None = None
) -> list[Any]:
    """The same tensors, each available only after all of them (and `control_inputs`) have been computed.

    None stays None.  Raises ValueError if there is no tensor at all, TypeError for a control input that is no operation.
    """
    with name_scope(name, "tuple", tensors):
        gating = {_operation(tensor) for tensor in tensors if tensor is not None}
        for item in control_inputs or ():
            gating.add(_operation(item))
        if not gating:
            raise ValueError("tuple() needs at least one Tensor")
        gate = group(*sorted(gating, key=lambda op: op.name))
        return [
            with_dependencies([gate], tensor)
            if isinstance(tensor, Tensor | IndexedSlices | SparseTensor)
            else tensor
            for tensor in tensors
        ]
