"""Reverse-mode differentiation by extending the graph: `gradients(ys, xs)` and the registry of gradient functions.

The walk is TensorFlow's: count, for every operation between `xs` and `ys`, how many gradients will arrive at its outputs; start
at `ys`; take an operation when all of its have arrived, add them up, and let its gradient function add the nodes that carry
them to its inputs.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from engine.autodiff.aggregate import aggregate, check_method
from engine.autodiff.backward import HERE
from engine.autodiff.guards import is_loop_switch
from engine.autodiff.higher import unsupported
from engine.autodiff.history import readers_of, sources_of
from engine.autodiff.loops import LoopGradients
from engine.control.context import is_loop_exit
from engine.control.group import tuple as gated_tuple
from engine.graph.convert import convert_to_tensor, internal_convert_to_tensor_or_indexed_slices
from engine.graph.default import get_default_graph, name_scope
from engine.graph.graph import Graph
from engine.graph.indexed_slices import IndexedSlices
from engine.graph.operation import Operation
from engine.graph.tensor import Tensor
from engine.op.fills import zeros_like
from engine.op.registry import NotDifferentiable, raw

Gradient = Any  # Tensor, IndexedSlices or None
GradientFunction = Callable[..., Any]


class UnconnectedGradients:
    """What `gradients` gives for an x that no y depends on."""

    NONE = "none"
    ZERO = "zero"


_registered: dict[str, Any] = {}


class RegisterGradient:
    """Decorator that registers a gradient function under a name, for `gradient_override_map` or for an op type without one.

    ``f(op, *output_gradients)`` returns one gradient (Tensor, IndexedSlices or None) for each input of `op`.  Raises KeyError if
    the name has a gradient already.
    """

    def __init__(self, op_type: str) -> None:
        if not isinstance(op_type, str):
            raise TypeError("op_type must be a string")
        self._op_type = op_type

    def __call__(self, function: GradientFunction) -> GradientFunction:
        _register(self._op_type, function)
        return function


def _register(op_type: str, function: Any) -> None:
    from engine.op.registry import lookup

    definition = lookup(op_type)
    if op_type in _registered or (definition is not None and definition.grad is not None):
        raise KeyError(f"There is a gradient registered as '{op_type}' already")
    _registered[op_type] = function


def no_gradient(op_type: str) -> None:
    """Say that no gradient flows through ops of this type.  Raises KeyError if they have one."""
    _register(op_type, NotDifferentiable)


def get_gradient_function(op: Operation) -> Any:
    """The gradient function of `op`: its override's, or its op type's; `NotDifferentiable` where none flows.

    Raises LookupError, naming the operation and the line that made it, if there is none.
    """
    name = op.attrs.get("_gradient_op_type", op.type)
    found = _registered.get(name)
    if found is None and name == op.type:
        found = op.opdef.grad
    if found is None:
        frame = op.site.user if op.site is not None else None
        where = f" (made at {frame})" if frame is not None else ""
        raise LookupError(
            f"No gradient defined for operation '{op.name}' (op type: {name}){where}. "
            f"Register one with @tf.RegisterGradient('{name}'), or put tf.stop_gradient around it."
        )
    return found


def gradients(
    ys: Any,
    xs: Any,
    grad_ys: Any = None,
    name: str = "gradients",
    colocate_gradients_with_ops: bool = False,
    gate_gradients: bool = False,
    aggregation_method: int | None = None,
    stop_gradients: Any = None,
    unconnected_gradients: str = UnconnectedGradients.NONE,
) -> list[Gradient]:
    """Symbolic derivatives of sum(ys) with respect to each x in xs, as TensorFlow 1's `tf.gradients`.

    ys, xs: a tensor or variable, or a list of them.  grad_ys: what to start with at each y (None: ones), of the y's shape.
    stop_gradients: tensors that are treated as constants.  colocate_gradients_with_ops: put the gradient of each operation
    on its device.  gate_gradients: let no gradient of an operation be used before all of them are computed.
    aggregation_method: how gradients that meet are added up, see `AggregationMethod`.  unconnected_gradients: 'none' or 'zero'.

    Returns a list as long as xs of Tensors (of the x's shape), IndexedSlices, or None.  Raises TypeError for integer ys,
    ValueError for mismatched lengths, LookupError for an operation without a gradient function.
    """
    method = check_method(aggregation_method)
    ys, xs = _as_list(ys), _as_list(xs)
    stops = _as_list([] if stop_gradients is None else stop_gradients)
    starts = [None] * len(ys) if grad_ys is None else _as_list(grad_ys)
    if len(starts) != len(ys):
        raise ValueError(
            f"gradients() got {len(ys)} ys and {len(starts)} grad_ys; there must be one for each y"
        )
    if unconnected_gradients not in ("none", "zero"):
        raise ValueError(f"unconnected_gradients must be 'none' or 'zero', not {unconnected_gradients!r}")
    with name_scope(name, "gradients", [*ys, *xs, *stops, *(each for each in starts if each is not None)]):
        y_tensors = [internal_convert_to_tensor_or_indexed_slices(y, name="y") for y in ys]
        x_tensors = [_differentiation_target(x) for x in xs]
        stop_ops = [internal_convert_to_tensor_or_indexed_slices(each, name="stop").op for each in stops]
        walk = _Walk(get_default_graph(), colocate_gradients_with_ops, gate_gradients, method)
        y_grads = [
            walk.start(y, start, i) for i, (y, start) in enumerate(zip(y_tensors, starts, strict=True))
        ]
        walk.run(y_tensors, y_grads, x_tensors, stop_ops)
    walk.finish()
    found = [walk.gradient_of(x) for x in x_tensors]
    if unconnected_gradients == UnconnectedGradients.ZERO:
        found = [zeros_like(_dense(x)) if g is None else g for g, x in zip(found, x_tensors, strict=True)]
    return found


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _dense(x: Any) -> Any:
    return x.values if isinstance(x, IndexedSlices) else x


def _differentiation_target(x: Any) -> Any:
    """The tensor whose gradient is asked for; for a variable its reference, so that all reads of it count."""
    if isinstance(x, IndexedSlices):
        return x
    return convert_to_tensor(x, name="x", as_ref=True)


def _is_differentiable(tensor: Any) -> bool:
    dtype = tensor.dtype.base_dtype
    return bool(dtype.is_floating or dtype.is_complex or dtype.name in ("resource", "variant"))


class _Walk:
    """One call of `gradients`: the gradients that have arrived at each output so far, and the order of operations."""

    def __init__(self, graph: Graph, colocate: bool, gate: bool, aggregation_method: int) -> None:
        self._graph = graph
        self._aggregation_method = aggregation_method
        self._colocate_all = colocate
        self._gate = gate
        self._arrived: dict[Tensor, list[Gradient]] = {}
        self._pending: dict[Operation, int] = {}
        self._exits: dict[
            Operation, int
        ] = {}  # a loop's Switch → how many gradients will arrive from its Exit
        self._done: set[Operation] = set()
        self._on_path: set[Operation] = set()  # what y depends on and what depends on x
        self._loops = LoopGradients()
        self._from_ops: set[Operation] = set()

    def start(self, y: Any, grad_y: Any, index: int) -> Gradient:
        """The gradient to begin with at `y`.  Raises TypeError or ValueError if it does not fit."""
        if not _is_differentiable(y):
            raise TypeError(
                f"Gradients of {y.dtype.name} tensors are not defined: '{y.name}' must be floating or complex"
            )
        with self._colocated(y.op):
            if grad_y is None:
                if y.dtype.is_complex:
                    raise TypeError(
                        f"Gradients of complex tensors must set grad_ys ('{y.name}' is {y.dtype.name})"
                    )
                from engine.op.array import shape
                from engine.op.fills import ones

                return ones(shape(_dense(y)), dtype=y.dtype.base_dtype, name=f"grad_ys_{index}")
            given = internal_convert_to_tensor_or_indexed_slices(grad_y, name=f"grad_ys_{index}")
            if given.dtype.base_dtype is not y.dtype.base_dtype:
                raise TypeError(
                    f"grad_ys[{index}] has dtype {given.dtype.name}, and '{y.name}' has {y.dtype.name}"
                )
            if isinstance(given, Tensor):
                given._shape.assert_is_compatible_with(y.shape)
                return raw.Identity(given, name=f"grad_ys_{index}")
            return given

    def run(
        self, ys: Sequence[Any], y_grads: Sequence[Gradient], xs: Sequence[Any], stop_ops: Sequence[Operation]
    ) -> None:
        """Carry the gradients back to `xs`."""
        to_ops = {_dense(y).op for y in ys}
        self._from_ops = {_dense(x).op for x in xs}
        between = self._between([_dense(y).op for y in ys], list(self._from_ops))
        self._on_path = set(between)
        self._loops.include(between, self._colocated)
        pending = self._pending
        for op in between:
            for tensor in sources_of(op):
                if tensor.op in between:
                    pending[tensor.op] = pending.get(tensor.op, 0) + 1
                    if tensor is tensor.op.outputs[0] and is_loop_switch(tensor.op):
                        self._exits[tensor.op] = self._exits.get(tensor.op, 0) + 1
        queue: deque[Operation] = deque()
        for y, grad in zip(ys, y_grads, strict=True):
            tensor = _dense(y)
            self._arrived.setdefault(tensor, []).append(grad)
            if tensor.op in between and pending.get(tensor.op, 0) == 0 and tensor.op not in queue:
                queue.append(tensor.op)
        for unused in self._loops.unused_exits(pending, to_ops):
            if _is_differentiable(unused):
                self._send(unused, self._loops.zeros_for_exit(unused))
                queue.append(unused.op)
        ends = {
            _dense(x).op for x in xs if all(tensor.op not in between for tensor in _dense(x).op._inputs)
        } | set(stop_ops)
        while queue:
            op = queue.popleft()
            self._done.add(op)
            in_grads = self._through(op, stop=op in ends)
            for tensor, grad in zip(sources_of(op), in_grads, strict=True):
                if grad is not None:
                    self._send(tensor, grad)
                if tensor.op in pending:
                    queue.extend(self._one_less(tensor))

    def finish(self) -> None:
        """Close the backward loops' variables that nothing has come back to."""
        self._loops.finish()

    def _send(self, tensor: Tensor, grad: Gradient) -> None:
        if tensor.op in self._done and tensor.op in self._on_path and not is_loop_switch(tensor.op):
            raise unsupported(tensor.op, "a part of it comes when the rest has gone on")
        self._arrived.setdefault(tensor, []).append(grad)

    def _one_less(self, tensor: Tensor) -> Sequence[Operation]:
        """One of the operations that read outputs of `tensor.op` is done; what can be gone through because of it."""
        op = tensor.op
        self._pending[op] -= 1
        left = self._pending[op]
        if is_loop_switch(op):
            # It is gone through twice: when the gradient of the Exit is there, and when that from inside the loop is.
            if tensor is op.outputs[0]:
                self._exits[op] -= 1
            if self._exits.get(op, 0) or (left and op in self._done):
                return ()
        elif left:
            return ()
        if not is_loop_exit(op):
            return (op,)
        return self._loops.ready_exit(tensor, self._has_gradient, self._send)

    def _has_gradient(self, op: Operation) -> bool:
        return any(self._arrived.get(tensor) for tensor in op.outputs)

    @staticmethod
    def _between(to_ops: Sequence[Operation], from_ops: Sequence[Operation]) -> dict[Operation, None]:
        """The operations on a path of differentiable tensors from `from_ops` to `to_ops`."""
        reached: set[Operation] = set()
        stack = list(from_ops)
        while stack:
            op = stack.pop()
            if op not in reached:
                reached.add(op)
                for tensor in op.outputs:
                    if _is_differentiable(tensor):
                        stack.extend(readers_of(tensor))
        found: dict[Operation, None] = {}
        queue = deque(to_ops)
        while queue:
            op = queue.popleft()
            if op in reached and op not in found:
                found[op] = None
                queue.extend(tensor.op for tensor in sources_of(op))
        return found

    def _through(self, op: Operation, stop: bool) -> list[Gradient]:
        """The gradients at the sources of `op` (`sources_of`), from those at its outputs; none where the walk is to stop."""
        with self._loops.entered(op, before=True):
            halfway = is_loop_switch(op) and self._pending.get(op, 0) > 0
            out_grads = [self._sum(tensor) for tensor in (op.outputs[:1] if halfway else op.outputs)]
        if halfway:
            out_grads.append(None)
        sources = sources_of(op)
        if stop or all(grad is None for grad in out_grads):
            return [None] * len(sources)
        function = get_gradient_function(op)
        if function is NotDifferentiable:
            return [None] * len(sources)
        scopes = self._graph._scopes
        before, scopes.original = scopes.original, op
        try:
            with self._colocated(op), self._loops.entered(op, before=False):
                in_grads = self._built(function, op, sources, out_grads)
        finally:
            scopes.original = before
        for tensor, grad in zip(sources, in_grads):
            if isinstance(grad, Tensor) and tensor.dtype.name not in ("resource", "variant"):
                try:
                    grad.set_shape(tensor._shape)
                except ValueError:
                    raise ValueError(
                        f"Incompatible shapes between op input and calculated input gradient. Forward operation: {op.name}. "
                        f"Input '{tensor.name}' has shape {tensor._shape}; its gradient has shape {grad._shape}. "
                        "The gradient function of this op is wrong."
                    ) from None
        return in_grads

    def _built(
        self,
        function: GradientFunction,
        op: Operation,
        sources: Sequence[Tensor],
        out_grads: list[Gradient],
    ) -> list[Gradient]:
        """What the gradient function of `op` makes of the gradients at its outputs, with zeros where none came."""
        if is_loop_switch(op) and op._context is self._graph._get_control_flow_context():
            raise _through_initial_value(op, self._from_ops)
        for i, (tensor, grad) in enumerate(zip(op.outputs, out_grads, strict=True)):
            if grad is None and _is_differentiable(tensor):
                out_grads[i] = self._loops.zeros_for(op, i)
        with self._graph.name_scope(f"{op.name}_grad"):
            result = function(op, *out_grads)
            in_grads = list(result) if isinstance(result, (list, tuple)) else [result]
            self._check(op, sources, in_grads)
            in_grads = self._loops.aligned(op, sources, in_grads)
            if self._gate and sum(1 for grad in in_grads if grad is not None) > 1:
                with self._graph.device(None), self._graph.colocate_with(None, ignore_existing=True):
                    in_grads = gated_tuple(in_grads)
        return in_grads

    @staticmethod
    def _check(op: Operation, sources: Sequence[Tensor], in_grads: Sequence[Gradient]) -> None:
        if len(in_grads) != len(sources):
            raise ValueError(
                f"Num gradients {len(in_grads)} generated for op '{op.name}' ({op.type}) do not match num "
                f"inputs {len(sources)}"
            )
        for tensor, grad in zip(sources, in_grads):
            if grad is None:
                continue
            if not isinstance(grad, (Tensor, IndexedSlices)):
                raise TypeError(
                    f"The gradient function of '{op.name}' ({op.type}) returned {grad!r} for input '{tensor.name}'"
                )
            if grad.dtype.base_dtype is not tensor.dtype.base_dtype and _is_differentiable(tensor):
                raise TypeError(
                    f"The gradient of '{op.name}' ({op.type}) at input '{tensor.name}' has dtype {grad.dtype.name}, not "
                    f"{tensor.dtype.base_dtype.name}"
                )

    def _colocated(self, op: Operation) -> contextlib.AbstractContextManager[None]:
        return self._graph.colocate_with(op) if self._colocate_all else HERE

    def _sum(self, tensor: Tensor) -> Gradient:
        """The sum of what has arrived at `tensor`, kept as the one gradient there; None if nothing has."""
        arrived = self._arrived.get(tensor)
        if not arrived:
            return None
        if len(arrived) > 1:
            with self._colocated(tensor.op):
                arrived[:] = [aggregate(arrived, tensor.op, self._aggregation_method)]
        return arrived[0]

    def gradient_of(self, x: Any) -> Gradient:
        """The gradient that arrived at `x`."""
        if isinstance(x, IndexedSlices):
            return self._sum(x.values)
        return self._sum(x)


def _through_initial_value(switch: Operation, from_ops: set[Operation]) -> ValueError:
    """The error for a gradient inside a loop's body that would go through the loop itself, naming what it was asked for."""
    seen: set[Operation] = set()
    queue = deque([switch])
    while queue:
        op = queue.popleft()
        if op in from_ops:
            return ValueError(
                f"Cannot compute gradient inside while loop with respect to op '{op.name}'. We do not support "
                f"taking the gradient wrt "
                "or through the initial value of a loop variable. Gradients can be computed through loop "
                "invariants or wrt the input "
                "parameters to the loop body."
            )
        if op not in seen:
            seen.add(op)
            queue.extend(tensor.op for tensor in op._inputs)
    raise AssertionError(
        f"'{switch.name}' is on the way to what the gradient was asked for, and nothing of that is behind it"
    )
