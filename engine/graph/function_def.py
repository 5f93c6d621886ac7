"""Functions as FunctionDef messages and back, and the library of them in a GraphDef.

A FunctionDef names the results of its nodes by output and position in it (``node:sum:0``) and its arguments by name; its nodes
are otherwise those of a GraphDef.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from engine.graph.attr_value import attr_from_proto, attr_to_proto
from engine.op.registry import OpDef, lookup

if TYPE_CHECKING:
    from engine.graph.function import Function
    from engine.graph.graph import Graph
    from engine.graph.operation import Operation
    from engine.graph.tensor import Tensor


# From functions to messages.


def graph_library(graph: Graph) -> Any:
    """The functions of `graph` as a FunctionDefLibrary; None if it has none."""
    if not graph._functions:
        return None
    from tensorboard.compat.proto.function_pb2 import FunctionDefLibrary

    library = FunctionDefLibrary()
    for function in graph._functions.values():
        library.function.add().CopyFrom(function.definition())
        if function.grad_func is not None:
            library.gradient.add(function_name=function.name, gradient_func=function.grad_func.name)
    return library


def function_to_def(function: Function) -> Any:
    """`function` as a FunctionDef."""
    from tensorboard.compat.proto.function_pb2 import FunctionDef

    graph = function.graph
    result = FunctionDef()
    signature = result.signature
    signature.name = function.name
    signature.description = function.description
    signature.is_stateful = bool(function.stateful_ops)
    for specs, args in (
        (function.opdef.signature.inputs, signature.input_arg),
        (function.opdef.signature.outputs, signature.output_arg),
    ):
        for spec in specs:
            assert spec.dtype is not None
            args.add(name=spec.name, type=spec.dtype.as_datatype_enum)
    arguments = {tensor.op: name for tensor, name in zip(graph.inputs, function.input_names, strict=True)}
    # Results, arguments and nodes share one set of names.
    taken = {*function.output_names, *function.input_names}
    names = dict(arguments)
    for op in graph.get_operations():
        if op not in arguments:
            names[op] = unique(op.name, taken)
    for op in graph.get_operations():
        if op not in arguments:
            result.node_def.add().CopyFrom(_node(op, names, arguments))
    for name, tensor in zip(function.output_names, graph.outputs, strict=True):
        result.ret[name] = _reference(tensor, names, arguments)
    result.attr["_disable_call_shape_inference"].b = True
    for i, tensor in enumerate(graph.inputs):
        result.arg_attr[i].attr["_output_shapes"].CopyFrom(attr_to_proto((tensor.shape,)))
    return result


def unique(name: str, taken: set[str]) -> str:
    """`name`, with a number if it is in `taken`, to which it is added."""
    chosen, number = name, 0
    while chosen in taken:
        chosen, number = f"{name}_{number}", number + 1
    taken.add(chosen)
    return chosen


def argument_name(name: str) -> str:
    """A node's name as that of an argument or result: lower case letters, digits and underscores, a letter first."""
    found = re.sub(r"[^a-z0-9_]", "_", name.lower())
    return found if found[:1].isalpha() else f"arg_{found}".rstrip("_")


def _node(op: Operation, names: Mapping[Operation, str], arguments: Mapping[Operation, str]) -> Any:
    node = op.node_def
    node.name = names[op]
    del node.input[:]
    node.input.extend([_reference(tensor, names, arguments) for tensor in op._inputs])
    node.input.extend(sorted("^" + names[source] for source in op._control_inputs))
    groups = op.attrs.get("_class")
    if groups:
        renamed = {f"loc:@{each.name}": f"loc:@{name}" for each, name in names.items()}
        node.attr["_class"].CopyFrom(attr_to_proto(tuple(renamed.get(group, group) for group in groups)))
    return node


def _reference(tensor: Tensor, names: Mapping[Operation, str], arguments: Mapping[Operation, str]) -> str:
    op = tensor.op
    if op in arguments:
        return arguments[op]
    start = 0
    for name, count in _output_counts(op.opdef, op.attrs):
        if tensor.value_index < start + count:
            return f"{names[op]}:{name}:{tensor.value_index - start}"
        start += count
    raise AssertionError(f"'{tensor.name}' is no output of its operation")


def _output_counts(opdef: OpDef, attrs: Mapping[str, Any]) -> Iterable[tuple[str, int]]:
    """The outputs' names, and how many tensors each stands for."""
    for spec in opdef.signature.outputs:
        if spec.type_list_attr is not None:
            yield spec.name, len(attrs[spec.type_list_attr])
        else:
            yield spec.name, 1 if spec.number_attr is None else attrs[spec.number_attr]


# From messages to functions.


def library_functions(library: Any, known: Mapping[str, Function]) -> dict[str, Function]:
    """The functions of a FunctionDefLibrary, and those `known`, by name.

    Raises ValueError for functions that call each other in a circle, and for what `import_graph_def` would refuse.
    """
    found = dict(known)
    messages = {message.signature.name: message for message in library.function}
    gradients = {each.function_name: each.gradient_func for each in library.gradient}
    for each in library.gradient:
        for name in (each.function_name, each.gradient_func):
            if name not in messages and name not in found:
                raise ValueError(f"FunctionDefLibrary missing '{name}' FunctionDef")

    def make(name: str, callers: tuple[str, ...]) -> None:
        if name in callers:
            circle = " -> ".join([*callers[callers.index(name) :], name])
            raise ValueError(f"The functions of the GraphDef call each other in a circle: {circle}")
        if name in found or name not in messages:
            return
        message = messages[name]
        for called in dict.fromkeys(_calls(message)):
            make(called, (*callers, name))
        if name in gradients:
            make(gradients[name], (*callers, name))
        found[name] = function_from_def(message, found, gradients.get(name))

    for name in messages:
        make(name, ())
    return found


def _calls(message: Any) -> Iterable[str]:
    for node in message.node_def:
        yield node.op
        for value in node.attr.values():
            if value.WhichOneof("value") == "func":
                yield value.func.name


def function_from_def(
    message: Any, functions: Mapping[str, Function], gradient: str | None = None
) -> Function:
    """The function of a FunctionDef, whose body may call `functions`."""
    from tensorboard.compat.proto.graph_pb2 import GraphDef

    from engine.graph.function import Function, FunctionGraph
    from engine.graph.importer import import_graph_def

    signature = message.signature
    graph = FunctionGraph(signature.name)
    graph._functions = {name: functions[name] for name in _calls(message) if name in functions}
    body = GraphDef()
    inputs = [arg.name for arg in signature.input_arg]
    for i, arg in enumerate(signature.input_arg):
        if not arg.type:
            raise ValueError(
                f"Function '{signature.name}': its argument '{arg.name}' has a dtype that depends on an attr"
            )
        node = body.node.add(name=arg.name, op="Placeholder")
        node.attr["dtype"].type = arg.type
        shapes = message.arg_attr[i].attr.get("_output_shapes") if i in message.arg_attr else None
        if shapes is not None and shapes.list.shape:
            node.attr["shape"].shape.CopyFrom(shapes.list.shape[0])
    nodes = {node.name: node for node in message.node_def}
    for original in message.node_def:
        node = body.node.add()
        node.CopyFrom(original)
        del node.input[:]
        for text in original.input:
            node.input.append(text if text.startswith("^") else _graph_reference(text, nodes, functions))
    with graph.as_default():
        wanted = [*(f"{name}:0" for name in inputs)]
        outputs = [arg.name for arg in signature.output_arg]
        for name in outputs:
            if name not in message.ret:
                raise ValueError(f"Function '{signature.name}': nothing is returned as '{name}'")
            reference = _graph_reference(message.ret[name], nodes, functions)
            wanted.append(reference if ":" in reference else f"{reference}:0")
        try:
            found = import_graph_def(body, return_elements=wanted, name="") or []
        except ValueError as error:
            raise ValueError(f"Function '{signature.name}': {error}") from None
    graph.inputs, graph.outputs = found[: len(inputs)], found[len(inputs) :]
    return Function(
        signature.name,
        graph,
        inputs,
        outputs,
        grad_func=functions[gradient] if gradient is not None else None,
        description=signature.description,
    )


def _graph_reference(text: str, nodes: Mapping[str, Any], functions: Mapping[str, Function]) -> str:
    """``node:sum:0`` as a GraphDef has it: ``node:0``.  An argument's name stays what it is."""
    parts = text.split(":")
    if len(parts) == 1 or parts[0] not in nodes:
        return parts[0]
    node = nodes[parts[0]]
    if len(parts) == 2:  # ``node:0``, or a lone output by its name
        return text if parts[1].isdecimal() else f"{parts[0]}:{_offset(node, parts[1], functions)}"
    return f"{parts[0]}:{_offset(node, parts[1], functions) + int(parts[2])}"


def _offset(node: Any, output: str, functions: Mapping[str, Function]) -> int:
    """How many tensors of the node come before those of this output."""
    definition = lookup(node.op) or (functions[node.op].opdef if node.op in functions else None)
    if definition is None:
        raise ValueError(f"Node '{node.name}': no op of type '{node.op}' is registered")
    attrs = {name: attr_from_proto(value) for name, value in node.attr.items()}
    start = 0
    for name, count in _output_counts(definition, attrs):
        if name == output:
            return start
        start += count
    raise ValueError(f"Node '{node.name}' ({node.op}) has no output named '{output}'")


def output_names(outputs: Sequence[Tensor], given: Sequence[str] | None) -> list[str]:
    """A name for each result: those given, or made of the names of the operations."""
    if given:
        return list(given)
    taken: set[str] = set()
    return [unique(argument_name(tensor.op.name), taken) for tensor in outputs]
