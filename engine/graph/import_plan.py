"""The first half of importing a GraphDef: reading it, and checking it as far as that goes before anything is built."""

from __future__ import annotations

import difflib
import heapq
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeAlias

from engine.graph.attr_value import attr_from_proto
from engine.graph.tensor import Tensor
from engine.op.registry import all_ops, lookup

if TYPE_CHECKING:
    from engine.graph.graph import Graph
    from engine.graph.operation import Operation

Ref: TypeAlias = "tuple[str, int]"

MERGES = ("Merge", "RefMerge")
_NEXT_ITERATIONS = ("NextIteration", "RefNextIteration")


def parse_ref(text: str) -> Ref:
    """("x", 1) for "x:1", and ("x", 0) for "x"."""
    op_name, colon, index = text.rpartition(":")
    return (op_name, int(index)) if colon and index.isdecimal() else (text, 0)


class Mapped:
    """The input map: tensors by what they stand in for, operations by whom they are waited for instead of."""

    def __init__(self, tensors: dict[Ref, Any], controls: dict[str, Any], keys: dict[Any, str]) -> None:
        self.tensors = tensors
        self.controls = controls
        self.keys = keys  # as the caller wrote them

    @classmethod
    def parse(cls, input_map: Mapping[str, Any]) -> Mapped:
        tensors: dict[Ref, Any] = {}
        controls: dict[str, Any] = {}
        keys: dict[Any, str] = {}
        for key, value in input_map.items():
            if key.startswith("^"):
                controls[key[1:]] = value
                keys[key[1:]] = key
            else:
                tensors[parse_ref(key)] = value
                keys[parse_ref(key)] = key
        return cls(tensors, controls, keys)

    def convert(self, graph: Graph, scope: str | None) -> None:
        """Make tensors and operations of the values.  Raises ValueError if that needs nodes but there is no scope for them."""
        from engine.graph.convert import convert_to_tensor

        for key, value in self.controls.items():
            element = graph.as_graph_element(value)
            self.controls[key] = element.op if isinstance(element, Tensor) else element
        if all(isinstance(value, Tensor) for value in self.tensors.values()):
            return
        if scope == "":
            raise ValueError(
                "import_graph_def needs a non-empty `name` if `input_map` has values that are not tensors. "
                "Or call convert_to_tensor() on them first."
            )
        with graph.as_default(), graph.name_scope("_inputs"):
            self.tensors.update({key: convert_to_tensor(value) for key, value in self.tensors.items()})

    def missing(self, plan: Plan, used: set[Any]) -> list[str]:
        """The keys that were neither used nor name anything in the GraphDef."""
        absent = [self.keys[key] for key in self.tensors if key not in used and not plan.has_output(key)]
        return absent + [self.keys[key] for key in self.controls if key not in used and key not in plan.nodes]


class Node(NamedTuple):
    """A node of the GraphDef, its inputs read and its attrs decoded."""

    message: Any
    inputs: list[Ref]
    controls: list[str]
    attrs: dict[str, Any]


class Plan:
    """What will be built, in which order, and what of it has been."""

    def __init__(self, mapped: Mapped, nodes: dict[str, Node]) -> None:
        self.mapped = mapped
        self.nodes = nodes
        self.order: list[Node] = []
        self.built: dict[str, Operation] = {}

    def is_back_edge(self, node: Node, ref: Ref) -> bool:
        """Whether this input closes a loop: from a NextIteration of the GraphDef to a Merge."""
        return (
            node.message.op in MERGES
            and ref not in self.mapped.tensors
            and self.nodes[ref[0]].message.op in _NEXT_ITERATIONS
        )

    def has_output(self, ref: Ref) -> bool:
        return ref[0] in self.built and ref[1] < len(self.built[ref[0]].outputs)


def make_plan(
    graph_def: Any, mapped: Mapped, producer_op_list: Any, functions: Mapping[str, Any] = MappingProxyType({})
) -> Plan:
    """Read a GraphDef.  Raises ValueError, naming the node, for what `import_graph_def` cannot build."""
    unknown = dict.fromkeys(
        node.op for node in graph_def.node if lookup(node.op) is None and node.op not in functions
    )
    if unknown:
        _raise_unknown(graph_def, list(unknown))
    nodes: dict[str, Node] = {}
    producers = {} if producer_op_list is None else {each.name: each for each in producer_op_list.op}
    for message in graph_def.node:
        if message.name in nodes:
            raise ValueError(f"Node '{message.name}' is not unique: the GraphDef has two nodes of that name")
        inputs = [parse_ref(text) for text in message.input if not text.startswith("^")]
        controls = [text[1:] for text in message.input if text.startswith("^")]
        nodes[message.name] = Node(message, inputs, controls, _attrs(message, producers.get(message.op)))
    plan = Plan(mapped, nodes)
    for node in nodes.values():
        refs = [ref[0] for ref in node.inputs if ref not in mapped.tensors]
        for source in (*refs, *(each for each in node.controls if each not in mapped.controls)):
            if source not in nodes:
                near = difflib.get_close_matches(source, nodes, 1)
                hint = f" Did you mean '{near[0]}'?" if near else ""
                raise ValueError(
                    f"Node '{node.message.name}': its input node '{source}' is not in the GraphDef.{hint}"
                )
    plan.order = _ordered(plan)
    return plan


def _raise_unknown(graph_def: Any, types: list[str]) -> NoReturn:
    first = next(node for node in graph_def.node if node.op == types[0])
    near = difflib.get_close_matches(first.op, [definition.name for definition in all_ops()], 1)
    text = f"Node '{first.name}': no op of type '{first.op}' is registered."
    if near:
        text += f" Did you mean '{near[0]}'?"
    text += " An op is registered by a call of engine.op.registry.op(...); import the module with it first."
    if len(types) > 1:
        text += f" Not registered either: {', '.join(types[1:])}."
    raise ValueError(text)


def _attrs(message: Any, producer: Any) -> dict[str, Any]:
    definition = lookup(message.op)
    known = definition.signature.attrs if definition is not None else {}
    defaults = {}
    if producer is not None:
        defaults = {attr.name: attr.default_value for attr in producer.attr if attr.HasField("default_value")}
    attrs = {}
    for name, value in message.attr.items():
        if name not in known and name in defaults:
            # Compared as bytes: the producer's messages may be of another package's classes.
            if defaults[name].SerializeToString() == value.SerializeToString():
                continue
        try:
            attrs[name] = attr_from_proto(value)
        except (TypeError, ValueError) as error:
            raise ValueError(f"Node '{message.name}' ({message.op}): attr '{name}': {error}") from error
    return {name: value for name, value in attrs.items() if value is not None}


def _ordered(plan: Plan) -> list[Node]:
    """The nodes with inputs before consumers, otherwise in the GraphDef's order.  Raises ValueError for a cycle."""
    nodes = list(plan.nodes.values())
    position = {node.message.name: i for i, node in enumerate(nodes)}
    waiting = [0] * len(nodes)
    consumers: list[list[int]] = [[] for _ in nodes]
    for i, node in enumerate(nodes):
        for source in _sources(plan, node):
            waiting[i] += 1
            consumers[position[source]].append(i)
    ready = [i for i, count in enumerate(waiting) if count == 0]
    order = []
    while ready:
        i = heapq.heappop(ready)
        order.append(nodes[i])
        for consumer in consumers[i]:
            waiting[consumer] -= 1
            if waiting[consumer] == 0:
                heapq.heappush(ready, consumer)
    if len(order) < len(nodes):
        cycle = _find_cycle(plan, next(node for i, node in enumerate(nodes) if waiting[i]), waiting, position)
        raise ValueError(
            f"The GraphDef has a cycle: {' -> '.join(cycle)}. Only an edge from a NextIteration to a Merge may close one."
        )
    return order


def _sources(plan: Plan, node: Node) -> Iterable[str]:
    """The nodes of the GraphDef that must be there before `node` is built."""
    for ref in node.inputs:
        if ref not in plan.mapped.tensors and not plan.is_back_edge(node, ref):
            yield ref[0]
    for source in node.controls:
        if source not in plan.mapped.controls:
            yield source


def _find_cycle(plan: Plan, start: Node, waiting: list[int], position: dict[str, int]) -> list[str]:
    """A cycle, in the direction of the data, found by walking from an unfinished node to unfinished inputs until one recurs."""
    path = [start.message.name]
    while True:
        node = plan.nodes[path[-1]]
        source = next(each for each in _sources(plan, node) if waiting[position[each]])
        if source in path:
            return [source, *reversed(path[path.index(source) :])]
        path.append(source)
