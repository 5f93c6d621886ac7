"""The first stage: the graph as the user wrote it, frozen."""

from __future__ import annotations

import weakref
from types import MappingProxyType
from typing import Any

from engine.graph.graph import Graph
from engine.graph.operation import Operation
from engine.passes.stage import Lineage, Stage, StageNode
from engine.types.dtypes import DType

_USER = Lineage((), "built")


def freeze(op: Operation) -> StageNode:
    """An operation as a stage's node."""
    return StageNode(
        name=op.name,
        opdef=op.opdef,
        inputs=tuple((tensor.op.name, tensor.value_index) for tensor in op._inputs),
        control_inputs=tuple(source.name for source in op._control_inputs),
        attrs=op.attrs,
        device=op._device,
        input_dtypes=_input_dtypes(op),
        output_dtypes=tuple(tensor.dtype for tensor in op.outputs),
        output_shapes=tuple(tensor._shape for tensor in op.outputs),
        site=op.site,
        lineage=_USER,
        original=op._original_op.name if op._original_op is not None else "",
    )


def _input_dtypes(op: Operation) -> tuple[DType, ...]:
    """The dtypes in which `op` takes its inputs: a reference only where its signature says so, a value elsewhere."""
    found = tuple(tensor.dtype for tensor in op._inputs)
    if not any(dtype._is_ref_dtype for dtype in found):
        return found
    takes_ref: list[bool] = []
    for spec in op.opdef.signature.inputs:
        if spec.type_list_attr is not None:
            takes_ref += [spec.is_ref] * len(op.attrs[spec.type_list_attr])
        else:
            takes_ref += [spec.is_ref] * (1 if spec.number_attr is None else op.attrs[spec.number_attr])
    return tuple(dtype if ref else dtype.base_dtype for dtype, ref in zip(found, takes_ref, strict=True))


class Builder:
    """Makes the built stage of one graph, freezing only what was added since the last time."""

    def __init__(self, graph: Graph) -> None:
        self._graph = weakref.ref(graph)
        self._edits = -1
        self._nodes: dict[str, StageNode] = {}
        self._stage: Stage | None = None

    def stage(self) -> Stage:
        """The graph as it is now."""
        graph: Any = self._graph()
        with graph._lock:
            if graph._edits != self._edits:
                self._edits, self._nodes, self._stage = graph._edits, {}, None
            if self._stage is None or len(self._nodes) != graph.version:
                nodes = dict(self._nodes)
                for op in graph._get_operations_after(len(nodes)):
                    nodes[op.name] = freeze(op)
                self._nodes = nodes
                self._stage = Stage("built", MappingProxyType(nodes), graph_version=graph.version)
            return self._stage
