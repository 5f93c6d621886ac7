"""Inline: put the bodies of functions in place of the operations that call them.

As TensorFlow does it, after pruning.  A body runs as a whole: an operation in it that prints, asserts or updates runs whether or
not a result depends on it; one without effect on which no result depends does not.  The node ``call`` becomes the results
handed on, so that whoever reads it reads the same outputs; the body's nodes are named ``call/node``, their loops' frames
``call/frame``.  A SymbolicGradient becomes a call of the function's gradient, or of its body's derivative.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from engine.autodiff.gradients import UnconnectedGradients, gradients
from engine.control.context_def import context_from_def, context_to_def
from engine.graph.convert import convert_to_tensor
from engine.graph.function import Function, FunctionGraph, FunctionOp
from engine.graph.importer import import_graph_def
from engine.graph.keys import GraphKeys
from engine.op.flow import no_op
from engine.op.passing import identity_n_op, identity_op
from engine.op.registry import raw
from engine.passes.build import Builder
from engine.passes.stage import INLINED, Lineage, Stage, StageNode
from engine.types import errors
from engine.types.dtypes import DType
from engine.types.shape import TensorShape

_CONTEXTS = (GraphKeys.COND_CONTEXT, GraphKeys.WHILE_CONTEXT)


def inline(stage: Stage, functions: Mapping[str, Function]) -> Stage:
    """`stage` with the bodies of `functions` in place of their calls; `stage` itself if it has none.

    Raises InvalidArgumentError, attached to the call, for a function that is not there, calls itself or has no gradient.
    """
    if not any(_is_call(node) for node in stage):
        return stage
    work = _Inliner(functions)
    nodes: dict[str, StageNode] = {}
    taken = set(stage.nodes)
    for node in stage:
        if _is_call(node):
            work.expand(node, (), nodes, taken, node.name)
        else:
            nodes[node.name] = node
    return stage.followed_by(INLINED, nodes)


def _is_call(node: StageNode) -> bool:
    return isinstance(node.opdef, FunctionOp) or node.type == "SymbolicGradient"


class _Inliner:
    def __init__(self, functions: Mapping[str, Function]) -> None:
        self._functions = functions

    def expand(
        self,
        call: StageNode,
        callers: tuple[str, ...],
        nodes: dict[str, StageNode],
        taken: set[str],
        outermost: str,
    ) -> None:
        """Add to `nodes` what `call` stands for: its body, bodies of calls in it, and a node of its name with the results."""
        title, body = self._body(call)
        if title in callers:
            circle = " -> ".join([*callers[callers.index(title) :], title])
            raise _at(call, f"Functions cannot call themselves, directly or through others: {circle}")
        lineage = Lineage((outermost,), INLINED, f"inlined from call '{call.name}' of {title}")
        names: dict[str, str] = {}
        for name in (*body.arguments, *body.nodes):
            names[name] = _unused(f"{call.name}/{name}", taken)
        arguments = []
        for name, source, dtype in zip(body.arguments, call.inputs, call.input_dtypes, strict=True):
            arguments.append(names[name])
            nodes[names[name]] = _node(
                call,
                names[name],
                identity_op,
                {"T": dtype.base_dtype},
                (source,),
                (dtype,),
                (dtype,),
                lineage,
            )
        start: tuple[str, ...] = ()
        if body.has_sources and (arguments or call.control_inputs):
            # What depends on nothing in the body waits for the call: it must not run where the call does not, nor
            # outside of the iteration in which it does.
            entry = _unused(f"{call.name}/call", taken)
            nodes[entry] = replace(
                _node(call, entry, no_op, {}, (), (), (), lineage),
                control_inputs=(*arguments, *call.control_inputs),
            )
            start = (entry,)
        for inner in body.nodes.values():
            control = tuple(names[source] for source in inner.control_inputs)
            attrs = dict(inner.attrs)
            if inner.opdef.flow == "enter":
                attrs["frame_name"] = f"{call.name}/{attrs['frame_name']}"
            if "_class" in attrs:
                attrs["_class"] = tuple(_renamed(group, names) for group in attrs["_class"])
            made = replace(
                inner,
                name=names[inner.name],
                inputs=tuple((names[source], index) for source, index in inner.inputs),
                control_inputs=control or (start if not inner.inputs else ()),
                attrs=attrs,
                device=inner.device or call.device,
                lineage=lineage,
                original=names.get(inner.original, ""),
            )
            if _is_call(made):
                self.expand(made, (*callers, title), nodes, taken, outermost)
            else:
                nodes[made.name] = made
        results = tuple((names[name], index) for name, index in body.results)
        dtypes = tuple(dtype.base_dtype for dtype in call.output_dtypes)
        waits = tuple(names[name] for name in body.effects)
        if not results:
            waits = waits or start or call.control_inputs
        nodes[call.name] = replace(
            _node(
                call,
                call.name,
                identity_n_op if results else no_op,
                {"T": dtypes} if results else {},
                results,
                dtypes,
                dtypes,
                replace(lineage, reason=f"the results of {title}"),
            ),
            output_shapes=call.output_shapes,
            control_inputs=waits,
        )

    def _body(self, call: StageNode) -> tuple[str, _Body]:
        """What a call runs, and its name for people."""
        if isinstance(call.opdef, FunctionOp):
            return call.type, _body_of(call.opdef.function.graph)
        name = call.attrs["f"].name
        function = self._functions.get(name)
        if function is None:
            raise _at(call, f"There is no function '{name}' in the graph's library")
        if function.grad_func is not None:
            return function.grad_func.name, _body_of(function.grad_func.graph)
        try:
            return f"{name}'s gradient", _body_of(_gradient_of(function))
        except (LookupError, TypeError, ValueError) as error:
            raise _at(call, f"The gradient of the function '{name}' cannot be built: {error}") from None


def _at(call: StageNode, message: str) -> errors.OpError:
    return errors.InvalidArgumentError(None, None, message).attach(call)


def _unused(name: str, taken: set[str]) -> str:
    chosen, number = name, 0
    while chosen in taken:
        number += 1
        chosen = f"{name}_{number}"
    taken.add(chosen)
    return chosen


def _renamed(group: str, names: Mapping[str, str]) -> str:
    inner = group.removeprefix("loc:@")
    return f"loc:@{names[inner]}" if inner in names else group


def _node(
    call: StageNode,
    name: str,
    opdef: Any,
    attrs: dict[str, Any],
    inputs: tuple[tuple[str, int], ...],
    input_dtypes: tuple[DType, ...],
    output_dtypes: tuple[DType, ...],
    lineage: Lineage,
) -> StageNode:
    """A node that hands on what comes to or leaves the body of `call`."""
    return replace(
        call,
        name=name,
        opdef=opdef,
        attrs=attrs,
        inputs=inputs,
        input_dtypes=tuple(dtype.base_dtype for dtype in input_dtypes),
        output_dtypes=tuple(dtype.base_dtype for dtype in output_dtypes),
        output_shapes=(TensorShape(None),) * len(output_dtypes),
        lineage=lineage,
        control_inputs=call.control_inputs if inputs else (),
    )


class _Body:
    """A function's graph as it is put into a stage.

    `arguments` are the names of the placeholders, `nodes` what is kept of the rest: what results depend on, and what has
    effects.  `effects` are the nodes with effects that run whenever the call does: what waits for the call waits for them.
    """

    def __init__(self, graph: FunctionGraph) -> None:
        self.arguments = tuple(tensor.op.name for tensor in graph.inputs)
        self.results = tuple((tensor.op.name, tensor.value_index) for tensor in graph.outputs)
        stage = Builder(graph).stage()
        arguments = set(self.arguments)
        stateful = [node.name for node in stage if node.opdef.stateful and node.name not in arguments]
        kept: set[str] = set()
        pending = [*(name for name, _ in self.results), *stateful]
        while pending:
            name = pending.pop()
            if name not in kept:
                kept.add(name)
                node = stage.nodes[name]
                pending.extend([*(source for source, _ in node.inputs), *node.control_inputs])
        self.nodes = {node.name: node for node in stage if node.name in kept - arguments}
        self.has_sources = any(not node.inputs and not node.control_inputs for node in self.nodes.values())
        self.effects = tuple(name for name in stateful if not self._behind_flow(name))

    def _behind_flow(self, name: str) -> bool:
        """Whether the node lies behind a branch or in a loop, so that it may not run, or run more than once."""
        seen: set[str] = set()
        pending = [name]
        while pending:
            node = self.nodes.get(pending.pop())
            if node is None or node.name in seen:
                continue
            if node.opdef.flow:
                return True
            seen.add(node.name)
            pending.extend([*(source for source, _ in node.inputs), *node.control_inputs])
        return False


def _body_of(graph: FunctionGraph) -> _Body:
    if graph.body is None:
        graph.body = _Body(graph)
    found: _Body = graph.body
    return found


def _gradient_of(function: Function) -> FunctionGraph:
    """The derivative of the body: from arguments and the gradients of results to the gradients of arguments."""
    if function.derivative is None:
        graph = _copied(function.graph)
        with graph.as_default():
            starts = [
                raw.Placeholder(dtype=tensor.dtype, shape=tensor.shape, name=f"d_{name}")
                for tensor, name in zip(graph.outputs, function.output_names, strict=True)
            ]
            flowing = [
                (tensor, start)
                for tensor, start in zip(graph.outputs, starts, strict=True)
                if tensor.dtype.is_floating or tensor.dtype.is_complex
            ]
            found = gradients(
                [tensor for tensor, _ in flowing],
                graph.inputs,
                [start for _, start in flowing],
                unconnected_gradients=UnconnectedGradients.ZERO,
            )
            graph.outputs = [convert_to_tensor(each) for each in found]  # slices become dense
        graph.inputs = [*graph.inputs, *starts]
        function.derivative = graph
    return function.derivative


def _copied(body: FunctionGraph) -> FunctionGraph:
    """The same graph again, to be added to: nodes, the lines that made them, and the contexts of branches and loops."""
    contexts = [(key, context) for key in _CONTEXTS for context in body.get_collection(key)]
    if not contexts and any(op.opdef.flow for op in body.get_operations()):
        raise TypeError(
            "it has branches or loops, and comes from a GraphDef, which does not say what gradients must know about them"
        )
    graph = FunctionGraph(f"{body.name}_grad")
    graph._functions = dict(body._functions)
    message = body.as_graph_def(add_shapes=True)
    message.ClearField("library")
    with graph.as_default():
        import_graph_def(message, name="")
        for op in body.get_operations():
            graph._nodes[op.name].site = op.site
        for key, context in contexts:
            graph.add_to_collection(key, context_from_def(context_to_def(context)))
        graph.inputs = [graph.get_tensor_by_name(tensor.name) for tensor in body.inputs]
        graph.outputs = [graph.get_tensor_by_name(tensor.name) for tensor in body.outputs]
    return graph
