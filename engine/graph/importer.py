"""From a GraphDef to nodes of a graph, as TensorFlow 1's `import_graph_def` does it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from engine.graph.function_def import library_functions
from engine.graph.import_plan import MERGES, Mapped, Node, Plan, Ref, make_plan, parse_ref
from engine.graph.operation import Operation
from engine.graph.tensor import Tensor
from engine.types.device import DeviceSpec
from engine.types.shape import TensorShape

if TYPE_CHECKING:
    from engine.graph.graph import Graph


def import_graph_def(
    graph_def: Any,
    input_map: Mapping[str, Any] | None = None,
    return_elements: Sequence[str] | None = None,
    name: str | None = None,
    op_dict: Any = None,
    producer_op_list: Any = None,
) -> list[Any] | None:
    """Add the nodes of a GraphDef to the default graph (or to the graph of the values in `input_map`).

    input_map: values that stand in for outputs of the GraphDef's nodes: ``"x:0"`` or ``"x"`` to a tensor (or what becomes one),
        ``"^x"`` to an operation or tensor that is waited for instead.
    return_elements: names of operations (``"x"``) and tensors (``"x:0"``) of the GraphDef, to be returned in a list.
    name: the scope of the new nodes, "import" if it is None; "" for none.  A name that is taken gets a number.
    op_dict: not used, as in TensorFlow.
    producer_op_list: an OpList with the ops of whoever made the GraphDef: attrs that are not known here are dropped where they
        have that OpList's default.

    Attrs that a node lacks get their defaults.  Returns None without `return_elements`.  Raises TypeError for arguments of the
    wrong type, and ValueError, naming the node, for a GraphDef that cannot be built: an op type that is not registered, an
    input that is missing or of another dtype, a cycle that no NextIteration closes, a key of `input_map` or a return element
    that is not there.  The graph is then as it was before.
    """
    del op_dict
    from engine.graph.default import get_default_graph, graph_of, name_scope

    message = _as_graph_def(graph_def)
    if input_map is None:
        input_map = {}
    elif not isinstance(input_map, Mapping) or not all(isinstance(key, str) for key in input_map):
        raise TypeError("Argument `input_map` must be a dictionary mapping strings to Tensor objects.")
    if return_elements is not None:
        return_elements = tuple(return_elements)
        if not all(isinstance(element, str) for element in return_elements):
            raise TypeError("Argument `return_elements` must be a list of strings.")
    functions = library_functions(message.library, graph_of(input_map.values())._functions)
    plan = make_plan(message, Mapped.parse(input_map), producer_op_list, functions)
    with name_scope(name, "import", list(input_map.values())):
        graph = get_default_graph()
        with graph._lock:
            graph._check_not_finalized()
            before, library = graph.version, dict(graph._functions)
            try:
                for function in functions.values():
                    function.add_to_graph(graph)
                plan.mapped.convert(graph, name)
                return _Builder(graph, plan).build(return_elements)
            except BaseException:
                _roll_back(graph, before)
                graph._functions = library
                raise


def _as_graph_def(graph_def: Any) -> Any:
    """`graph_def` as our GraphDef class: other packages bring their own class for the same message."""
    from tensorboard.compat.proto.graph_pb2 import GraphDef

    if isinstance(graph_def, GraphDef):
        return graph_def
    if getattr(getattr(graph_def, "DESCRIPTOR", None), "name", "") != "GraphDef":
        raise TypeError(f"graph_def must be a GraphDef, not {type(graph_def).__name__}")
    result = GraphDef()
    result.ParseFromString(graph_def.SerializeToString())
    return result


def _roll_back(graph: Graph, count: int) -> None:
    """Take out what was added after the first `count` nodes."""
    for op in reversed(graph._get_operations_after(count)):
        graph._withdraw(op)
        del graph._nodes[op.name]
    graph._edited()


class _Builder:
    """The second half of an import, under the graph's lock: adds the planned nodes."""

    def __init__(self, graph: Graph, plan: Plan) -> None:
        self.graph = graph
        self.plan = plan
        self.names: dict[str, str] = {}
        self.used: set[Any] = set()

    def build(self, return_elements: Sequence[str] | None) -> list[Any] | None:
        self._choose_names()
        scopes = self.graph._scopes
        # What surrounds the call gives the nodes a device and a control-flow context, but adds no edges among them.
        old = scopes.control, scopes.colocation
        scopes.control, scopes.colocation = (), ()
        try:
            for node in self.plan.order:
                self._guarded(node, self._add)
        finally:
            scopes.control, scopes.colocation = old
        for node in self.plan.order:
            if node.message.op in MERGES:
                self._guarded(node, self._close_loop)
            if "_class" in node.attrs:
                self._follow_colocation(self.plan.built[node.message.name])
        missing = self.plan.mapped.missing(self.plan, self.used)
        if missing:
            names = ", ".join(f"'{key}'" for key in missing)
            raise ValueError(f"Attempted to map inputs that were not found in graph_def: {names}")
        return None if return_elements is None else [self._returned(element) for element in return_elements]

    @staticmethod
    def _guarded(node: Node, function: Any) -> None:
        try:
            function(node)
        except (TypeError, ValueError) as error:
            raise ValueError(f"Node '{node.message.name}' ({node.message.op}): {error}") from error

    def _choose_names(self) -> None:
        """Every node keeps its name in the scope; only those whose name is taken get a number."""
        graph = self.graph
        scope = graph._scopes.name
        wanted = {name: f"{scope}/{name}" if scope else name for name in self.plan.nodes}
        kept = {full for full in wanted.values() if full not in graph._nodes}
        for name, full in wanted.items():
            number = 0
            chosen = full
            while chosen in graph._nodes or (
                number and (chosen in kept or chosen.lower() in graph._names_in_use)
            ):
                number += 1
                chosen = f"{full}_{number}"
            self.names[name] = chosen
            graph._names_in_use.setdefault(chosen.lower(), 1)

    def _tensor(self, ref: Ref) -> Tensor:
        mapped = self.plan.mapped.tensors.get(ref)
        if mapped is not None:
            self.used.add(ref)
            return mapped  # type: ignore[no-any-return]
        outputs = self.plan.built[ref[0]].outputs
        if ref[1] >= len(outputs):
            raise ValueError(
                f"its input '{ref[0]}:{ref[1]}' does not exist: '{ref[0]}' has {len(outputs)} outputs"
            )
        return outputs[ref[1]]

    def _add(self, node: Node) -> None:
        loops = [self.plan.is_back_edge(node, ref) for ref in node.inputs]
        inputs: list[Any] = [
            None if loop else self._tensor(ref) for ref, loop in zip(node.inputs, loops, strict=True)
        ]
        if any(loops):
            # The value that enters the loop stands in for the one that comes back, until that is there.
            entering = next((tensor for tensor in inputs if tensor is not None), None)
            if entering is None:
                raise ValueError(
                    "all of its inputs come from NextIteration nodes, so no value ever enters the loop"
                )
            inputs = [entering if tensor is None else tensor for tensor in inputs]
        attrs = node.attrs
        if "_class" in attrs:
            attrs = {**attrs, "_class": tuple(self._renamed(group) for group in attrs["_class"])}
        device = node.message.device
        with self.graph.device(device) if device else contextlib.nullcontext():
            op = self.graph.create_op(
                node.message.op, inputs, name=self.names[node.message.name] + "/", attrs=attrs
            )
        self.plan.built[node.message.name] = op
        if any(loops):
            op.outputs[0]._shape = TensorShape.of(None)  # what comes back may have another shape
        for tensor, shape in zip(op.outputs, attrs.get("_output_shapes", ()), strict=False):
            try:
                tensor.set_shape(shape)
            except ValueError as error:
                raise ValueError(f"its attr '_output_shapes' is wrong for '{tensor.name}': {error}") from None
        controls = [self._control(source) for source in node.controls]
        if controls:
            op._add_control_inputs(controls)

    def _control(self, source: str) -> Operation:
        mapped = self.plan.mapped.controls.get(source)
        if mapped is not None:
            self.used.add(source)
            return mapped  # type: ignore[no-any-return]
        return self.plan.built[source]

    def _close_loop(self, node: Node) -> None:
        op = self.plan.built[node.message.name]
        for index, ref in enumerate(node.inputs):
            if self.plan.is_back_edge(node, ref):
                op._update_input(index, self._tensor(ref))

    def _renamed(self, group: str) -> str:
        """A colocation group under the new name of its node."""
        if not group.startswith("loc:@"):
            return group
        name = group[len("loc:@") :]
        if name not in self.names:
            raise ValueError(
                f"it is to be colocated with '{name}', which is not in the GraphDef; remove that from its '_class' attr"
            )
        return "loc:@" + self.names[name]

    def _follow_colocation(self, op: Operation) -> None:
        """Give `op` the device of the first node it is colocated with that has one."""
        for group in op.attrs["_class"]:
            other = self.graph._nodes.get(group.removeprefix("loc:@"))
            if other is not None and other is not op and other.device:
                op._device = DeviceSpec.from_string(other.device).to_string()
                return

    def _returned(self, element: str) -> Tensor | Operation:
        if ":" not in element:
            if element not in self.plan.built:
                raise ValueError(f"Requested return_element '{element}' not found in graph_def.")
            return self.plan.built[element]
        ref = parse_ref(element)
        if ref in self.plan.mapped.tensors:
            return self.plan.mapped.tensors[ref]  # type: ignore[no-any-return]
        if not self.plan.has_output(ref):
            found = self.plan.built.get(ref[0])
            why = f" ('{ref[0]}' has {len(found.outputs)} outputs)" if found is not None else ""
            raise ValueError(f"Requested return_element '{element}' not found in graph_def{why}.")
        return self.plan.built[ref[0]].outputs[ref[1]]
