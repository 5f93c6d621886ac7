"""A stage's nodes seen as operations, so that the ops' own rules on shapes and values, which ask operations, serve here too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.graph.operation import Operation
from engine.graph.tensor import Tensor
from engine.op.shapes import UNKNOWN
from engine.passes.stage import StageNode
from engine.types.errors import OpError
from engine.types.shape import TensorShape


class _Seen(Tensor):
    """A tensor whose operation is looked up when somebody asks."""

    __slots__ = ("_name", "_nodes")

    def __init__(self, nodes: Mapping[str, StageNode], name: str, slot: int) -> None:
        node = nodes[name]
        self._nodes = nodes
        self._name = name
        self.value_index = slot
        self.dtype = node.output_dtypes[slot]
        self._shape = node.output_shapes[slot]
        self._consumers = None

    @property
    def op(self) -> Operation:  # type: ignore[override]  # a slot there, found out here
        return view(self._nodes[self._name], self._nodes)


def view(node: StageNode, nodes: Mapping[str, StageNode]) -> Operation:
    """`node` as an Operation of no graph; its inputs are found in `nodes` when they are asked for."""
    op = Operation.__new__(Operation)
    op.name, op.opdef, op.attrs, op.site, op._device = (
        node.name,
        node.opdef,
        dict(node.attrs),
        node.site,
        node.device,
    )
    op._id = -1
    op._inputs = tuple([_Seen(nodes, name, slot) for name, slot in node.inputs])
    op._control_inputs = ()
    op._control_outputs = None
    op._original_op = None
    op._context = None
    outputs: list[Any] = []
    for i, dtype in enumerate(node.output_dtypes):
        tensor = Tensor(op, i, dtype)
        tensor._shape = node.output_shapes[i]
        outputs.append(tensor)
    op.outputs = outputs
    return op


def infer_shapes(node: StageNode, nodes: Mapping[str, StageNode]) -> tuple[TensorShape, ...]:
    """The shapes of the node's outputs by its op's rule; unknown where that says nothing or does not accept the inputs."""
    unknown = (UNKNOWN,) * len(node.output_dtypes)
    if node.opdef.shape is None:
        return unknown
    try:
        found = node.opdef.shape(view(node, nodes))
    except (ValueError, TypeError, OpError):  # it will fail when it runs, and say why there
        return unknown
    shapes = tuple(found) if isinstance(found, list | tuple) else (found,)
    return shapes if len(shapes) == len(unknown) else unknown
