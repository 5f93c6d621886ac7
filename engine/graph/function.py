"""Functions of a graph: a body, which is a graph of its own, and the op type that calls it.

A call is one operation whose type is the function's name, as in TensorFlow 1.  The session puts the body in its place
(`engine.passes.inline`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.graph.convert import convert_to_tensor
from engine.graph.graph import Graph
from engine.graph.operation import Operation
from engine.graph.tensor import Tensor
from engine.op.registry import OpDef, raw
from engine.op.signature import ArgSpec, Signature
from engine.types.dtypes import DType
from engine.types.site import Captured


class FunctionGraph(Graph):
    """The body of a function.

    A tensor of the graphs around it that is used inside becomes one more argument: `captured` maps it to the placeholder that
    stands for it.  `inputs` are the placeholders of all arguments, `outputs` the tensors that a call returns.
    """

    _building_function = True

    def __init__(self, name: str, outer: Graph | None = None) -> None:
        super().__init__()
        self.name = name
        self.outer_graph = outer
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self.captured: dict[Tensor, Tensor] = {}
        self.body: Any = None  # as calls run it, once one has
        self._seed = None if outer is None else outer.seed

    def _is_around(self, graph: Graph) -> bool:
        outer = self.outer_graph
        while outer is not None and outer is not graph:
            outer = outer.outer_graph if isinstance(outer, FunctionGraph) else None
        return outer is graph

    def capture(self, tensor: Tensor) -> Tensor:
        """What stands for `tensor` in this body: itself, or, for one of a graph around it, a placeholder."""
        if tensor.op.graph is self or not self._is_around(tensor.op.graph):
            return tensor
        found = self.captured.get(tensor)
        if found is None:
            with self.as_default(), self.control_dependencies(None):
                found = raw.Placeholder(dtype=tensor.dtype.base_dtype, shape=tensor.shape)
            self.captured[tensor] = found
            self.inputs.append(found)
        return found

    def capture_all(self, values: Any) -> Any:
        """`values`, an op's inputs as the caller gave them, with tensors from around captured: by value, never by reference."""
        if isinstance(values, Tensor):
            return self.capture(values)
        if isinstance(values, list | tuple) and not hasattr(values, "_fields"):
            return type(values)(self.capture_all(value) for value in values)
        return values

    def _add(
        self,
        opdef: OpDef,
        full_name: str,
        inputs: Sequence[Tensor],
        attrs: dict[str, Any],
        output_dtypes: Sequence[DType],
        made_at: Captured,
        compute_shapes: bool = True,
    ) -> Operation:
        inside = [self.capture(tensor) for tensor in inputs]
        return super()._add(opdef, full_name, inside, attrs, output_dtypes, made_at, compute_shapes)


class FunctionOp(OpDef):
    """The op type of a function: what its calls are instances of.  It has no kernel: its body runs."""

    def __init__(self, function: Function) -> None:
        graph = function.graph
        signature = Signature(
            function.name,
            tuple(
                ArgSpec(name, dtype=tensor.dtype)
                for name, tensor in zip(function.input_names, graph.inputs, strict=True)
            ),
            {},
            tuple(
                ArgSpec(name, dtype=tensor.dtype.base_dtype)
                for name, tensor in zip(function.output_names, graph.outputs, strict=True)
            ),
            f"function {function.name}",
        )
        super().__init__(
            signature,
            kernel=None,
            ufunc=None,
            shape=None,
            grad=_gradient,
            samples=None,
            reference=None,
            stateful=bool(function.stateful_ops),
            flow="",
            allows_uninitialized=False,
            devices=None,
            memory={},
            int32_on_host=False,
        )
        self.function = function


def _gradient(op: Operation, *grads: Any) -> Any:
    """The gradient of a call: the function's own in Python, or an operation that stands for the derivative of its body."""
    assert isinstance(op.opdef, FunctionOp)
    function = op.opdef.function
    if function.python_grad_func is not None:
        return function.python_grad_func(op, *grads)
    from tensorboard.compat.proto.attr_value_pb2 import NameAttrList

    starts = [
        raw.ZerosLike(tensor) if grad is None else convert_to_tensor(grad)
        for tensor, grad in zip(op.outputs, grads, strict=True)
    ]
    called = NameAttrList(name=function.name)
    for name, value in op.node_def.attr.items():
        called.attr[name].CopyFrom(value)
    return raw.SymbolicGradient(
        [*op.inputs, *starts], Tout=[tensor.dtype.base_dtype for tensor in op.inputs], f=called
    )


class Function:
    """A named body with typed arguments and results.

    grad_func: the function that computes its gradient, from its arguments and the gradients of its results to the gradients of
    its arguments.  python_grad_func: the same in Python, ``f(op, *grads)``, called when `gradients` meets a call.  With
    neither, the body is differentiated.
    """

    def __init__(
        self,
        name: str,
        graph: FunctionGraph,
        input_names: Sequence[str],
        output_names: Sequence[str],
        grad_func: Function | None = None,
        python_grad_func: Any = None,
        description: str = "",
    ) -> None:
        self.name = name
        self.graph = graph
        self.input_names = tuple(input_names)
        self.output_names = tuple(output_names)
        self.grad_func = grad_func
        self.python_grad_func = python_grad_func
        self.description = description
        self.derivative: FunctionGraph | None = None  # of the body, once a step needs it
        self.opdef = FunctionOp(self)

    def rename(self, name: str) -> None:
        """Change the name, before there are calls."""
        self.name = name
        self.opdef = FunctionOp(self)

    @property
    def stateful_ops(self) -> list[tuple[str, str]]:
        """(name, type) of the operations of the body that read or change something beyond their inputs."""
        arguments = {tensor.op for tensor in self.graph.inputs}
        return [
            (op.name, op.type)
            for op in self.graph.get_operations()
            if op.opdef.stateful and op not in arguments
        ]

    def definition(self) -> Any:
        """The function as a FunctionDef message."""
        from engine.graph.function_def import function_to_def

        return function_to_def(self)

    def add_to_graph(self, graph: Graph) -> None:
        """Put the function, those that its body calls and its gradient function into the library of `graph`.

        Raises ValueError if the graph has another function of that name.
        """
        known = graph._functions.get(self.name)
        if known is self:
            return
        if known is not None and known.definition() != self.definition():
            raise ValueError(
                f"Cannot add function '{self.name}' because a different function with the same name already exists."
            )
        graph._functions[self.name] = self
        for called in self.graph._functions.values():
            called.add_to_graph(graph)
        if self.grad_func is not None:
            self.grad_func.add_to_graph(graph)
