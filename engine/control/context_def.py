"""Control-flow contexts as messages and back: how `cond`s and loops keep what gradients need through a MetaGraphDef.

A GraphDef has only the primitives.  Which Switch belongs to which branch, what was brought into a loop and under which name, is
in the contexts; they go with the graph in the collections "cond_context" and "while_context".
"""

from __future__ import annotations

from typing import Any

from engine.control.context import CondContext, ControlFlowContext, WhileContext, is_loop_enter
from engine.graph.control_flow_def import messages
from engine.graph.default import get_default_graph
from engine.graph.graph import Graph
from engine.graph.keys import GraphKeys
from engine.graph.meta_graph import prepend_name_scope, register_proto_function
from engine.graph.tensor import Tensor


def context_to_def(context: ControlFlowContext) -> Any:
    """A CondContextDef or WhileContextDef, with the contexts nested in it."""
    definition = _cond_to_def(context) if isinstance(context, CondContext) else _while_to_def(context)
    values = definition.values_def
    values.values.extend(sorted(tensor.name for tensor in context.known))
    for outside, inside in context.brought_in.items():
        values.external_values[outside.name] = inside.name
    for nested in context.nested:
        message = context_to_def(nested)
        either = definition.nested_contexts.add()
        (either.cond_ctxt if isinstance(nested, CondContext) else either.while_ctxt).CopyFrom(message)
    return definition


def _cond_to_def(context: CondContext) -> Any:
    return messages().CondContextDef(
        context_name=context.name,
        pred_name=context.pred.name,
        pivot_name=context.pivot.name,
        branch=context.branch,
    )


def _while_to_def(context: ControlFlowContext) -> Any:
    assert isinstance(context, WhileContext)
    return messages().WhileContextDef(
        context_name=context.name,
        parallel_iterations=context.parallel_iterations,
        back_prop=context.back_prop,
        swap_memory=context.swap_memory,
        pivot_name=_name(context.pivot),
        pivot_for_pred_name=_name(context.pivot_for_pred),
        pivot_for_body_name=_name(context.pivot_for_body),
        loop_exit_names=[tensor.name for tensor in context.loop_exits],
        loop_enter_names=[tensor.name for tensor in context.loop_enters],
        maximum_iterations_name=_name(context.maximum_iterations),
    )


def _name(tensor: Tensor | None) -> str:
    return "" if tensor is None else tensor.name


def context_from_def(definition: Any, import_scope: str | None = None) -> Any:
    """The context of a definition, for the nodes of the default graph that were imported into the name scope `import_scope`.

    The operations that were in it are in it again.  Raises KeyError if the graph lacks one of them.
    """
    reader = _Reader(get_default_graph(), import_scope)
    context: Any
    if type(definition).DESCRIPTOR.name == "CondContextDef":
        context = CondContext.__new__(CondContext)
        reader.base(context, definition)
        context.pred = reader.tensor(definition.pred_name)
        context.pivot = reader.tensor(definition.pivot_name)
        context.branch = definition.branch
        context.pivot.op._context = context
    else:
        context = WhileContext.__new__(WhileContext)
        reader.base(context, definition)
        context.parallel_iterations = definition.parallel_iterations
        context.back_prop = definition.back_prop
        context.swap_memory = definition.swap_memory
        context.pivot = reader.optional(definition.pivot_name)
        context.pivot_for_pred = reader.optional(definition.pivot_for_pred_name)
        context.pivot_for_body = reader.optional(definition.pivot_for_body_name)
        context.maximum_iterations = reader.optional(definition.maximum_iterations_name)
        context.loop_exits = [reader.tensor(name) for name in definition.loop_exit_names]
        context.loop_enters = [reader.tensor(name) for name in definition.loop_enter_names]
        _rename_frame(context)
    with context.entered():
        for nested in definition.nested_contexts:
            context_from_def(getattr(nested, nested.WhichOneof("ctxt")), import_scope)
    return context


class _Reader:
    """Finds the tensors of a definition in the graph into which they were imported."""

    def __init__(self, graph: Graph, scope: str | None) -> None:
        self._graph = graph
        self._scope = scope

    def tensor(self, name: str) -> Tensor:
        return self._graph.get_tensor_by_name(prepend_name_scope(name, self._scope))

    def optional(self, name: str) -> Tensor | None:
        return self.tensor(name) if name else None

    def base(self, context: ControlFlowContext, definition: Any) -> None:
        """What both kinds have."""
        context.graph = self._graph
        context.name = prepend_name_scope(definition.context_name, self._scope)
        context.outer = self._graph._get_control_flow_context()
        context.nested = []
        if context.outer is not None:
            context.outer.nested.append(context)
        values = definition.values_def
        context.known = {self.tensor(name) for name in values.values}
        context.brought_in = {
            self.tensor(outside): self.tensor(inside) for outside, inside in values.external_values.items()
        }
        for tensor in context.known - context.brought_in.keys():
            tensor.op._context = context


def _rename_frame(context: WhileContext) -> None:
    """Two imports of one loop are two frames."""
    for tensor in context.known:
        op = tensor.op
        if is_loop_enter(op) and op._context is context and op.attrs["frame_name"] != context.name:
            op._set_attr("frame_name", context.name)


register_proto_function(
    GraphKeys.COND_CONTEXT,
    lambda: messages().CondContextDef,
    to_proto=context_to_def,
    from_proto=context_from_def,
)
register_proto_function(
    GraphKeys.WHILE_CONTEXT,
    lambda: messages().WhileContextDef,
    to_proto=context_to_def,
    from_proto=context_from_def,
)
