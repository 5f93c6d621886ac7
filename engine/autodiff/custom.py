"""Gradients that the user writes for a part of the graph: `custom_gradient`, `recompute_grad`, `grad_pass_through`.

As TensorFlow 1's graph mode does it: results, arguments and variables of the function go through one IdentityN, whose gradient
is the user's.  None of it flows into the function's own nodes, so that all of it arrives at arguments and variables.
"""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from engine.autodiff.gradients import RegisterGradient, UnconnectedGradients, gradients
from engine.graph.convert import convert_to_tensor
from engine.graph.default import get_default_graph
from engine.graph.graph import Graph
from engine.graph.indexed_slices import IndexedSlices
from engine.graph.keys import GraphKeys
from engine.graph.operation import Operation
from engine.graph.sparse_tensor import SparseTensor
from engine.graph.tensor import Tensor
from engine.op.registry import raw
from engine.types import nest

__all__ = ["custom_gradient", "grad_pass_through", "recompute_grad"]

_numbers = itertools.count()
_VARIABLES = ("VariableV2", "Variable")


def custom_gradient(f: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """Decorator for a function that returns its results and the function that computes its gradient; as `tf.custom_gradient`.

    ``f(*args)`` returns ``(y, grad_fn)``: y is a tensor or a structure of tensors, and ``grad_fn(*dy)``, with one argument for
    each tensor of y, returns the gradients with respect to the args (a tensor or None each).  If f uses variables, then
    ``grad_fn(*dy, variables)`` is given them, sorted by name, and returns (gradients of args, list of gradients of variables).
    The decorated function returns y.  Differentiating twice differentiates what `grad_fn` built.

    The function raises ValueError for keyword arguments, TypeError if variables are used and `grad_fn` takes no `variables`.
    """
    if f is None:
        return custom_gradient
    function = f

    @functools.wraps(function)
    def decorated(*args: Any, **kwargs: Any) -> Any:
        if kwargs:
            raise ValueError(
                "The custom_gradient decorator currently supports keywords arguments only when eager execution is enabled: "
                f"pass {', '.join(kwargs)} by position"
            )
        return _wrapped(function, args)

    return decorated


def _wrapped(f: Callable[..., Any], args: Sequence[Any]) -> Any:
    name = f"CustomGradient-{next(_numbers)}"
    args = nest.map_structure(_as_argument, list(args))
    returned = f(*args)
    if not isinstance(returned, tuple | list) or len(returned) != 2 or not callable(returned[1]):
        raise TypeError(
            f"A function with a custom gradient returns (result, grad_fn); {_name_of(f)} returned {returned!r}"
        )
    result, grad_fn = returned
    results = [_carrier(item) for item in nest.flatten(result)]
    inputs = [_carrier(item) for item in nest.flatten(list(args))]
    variables = _variables_between(inputs, results)
    if variables and not _takes_variables(grad_fn):
        raise TypeError(
            "@tf.custom_gradient grad_fn must accept keyword argument 'variables', since function uses variables: "
            f"{variables}"
        )

    @RegisterGradient(name)
    def gradient(op: Operation, *grads: Any) -> list[Any]:
        return _gradient(grad_fn, variables, result, len(results), len(inputs), grads)

    with get_default_graph().gradient_override_map({"IdentityN": name}):
        passed: list[Tensor] = raw.IdentityN([*results, *inputs, *variables])
    pairs = zip(nest.flatten(result), passed[: len(results)], strict=True)
    return nest.pack_sequence_as(result, [_with_carrier(item, tensor) for item, tensor in pairs])


def _name_of(f: Callable[..., Any]) -> str:
    return f"'{getattr(f, '__name__', f)}'"


def _gradient(
    grad_fn: Callable[..., Any],
    variables: Sequence[Any],
    result: Any,
    n_results: int,
    n_inputs: int,
    grads: Sequence[Any],
) -> list[Any]:
    """The gradients at the inputs of the IdentityN: none for the results, those of `grad_fn` for arguments and variables."""
    arrived = [
        _with_carrier(item, grad) for item, grad in zip(nest.flatten(result), grads[:n_results], strict=True)
    ]
    of_variables: list[Any] = []
    if variables:
        of_inputs, of_variables = grad_fn(*arrived, variables=list(variables))
        of_variables = list(of_variables)
        if len(of_variables) != len(variables):
            raise ValueError("Must return gradient for each variable from @custom_gradient grad_fn.")
    else:
        of_inputs = grad_fn(*arrived)
    flat = [item.values if isinstance(item, SparseTensor) else item for item in nest.flatten(of_inputs)]
    if len(flat) != n_inputs:
        raise ValueError(
            f"grad_fn {_name_of(grad_fn)} returned {len(flat)} gradients for the function's {n_inputs} arguments; "
            "return one for each, None where there is none"
        )
    return [*([None] * n_results), *flat, *of_variables]


def _as_argument(value: Any) -> Any:
    return value if isinstance(value, SparseTensor | IndexedSlices) else convert_to_tensor(value)


def _carrier(value: Any) -> Tensor:
    """The tensor through which the gradient of `value` flows."""
    return value.values if isinstance(value, SparseTensor | IndexedSlices) else convert_to_tensor(value)


def _with_carrier(like: Any, tensor: Any) -> Any:
    if isinstance(like, SparseTensor) and tensor is not None:
        return SparseTensor(like.indices, tensor, like.dense_shape)
    if isinstance(like, IndexedSlices) and tensor is not None:
        return IndexedSlices(tensor, like.indices, like.dense_shape)
    return tensor


def _takes_variables(grad_fn: Callable[..., Any]) -> bool:
    spec = inspect.getfullargspec(grad_fn)
    return "variables" in spec.args or "variables" in spec.kwonlyargs or spec.varkw is not None


def _variables_between(inputs: Sequence[Tensor], results: Sequence[Tensor]) -> list[Any]:
    """The trainable variables on which `results` depend other than through `inputs`, by name."""
    # An argument that is returned as it is must not end the walk before it begins.
    pending = [raw.Identity(tensor).op for tensor in results]
    ends = set(inputs)
    seen: set[Operation] = set()
    found: dict[str, Any] = {}
    while pending:
        op = pending.pop()
        if op in seen:
            continue
        seen.add(op)
        if op.type in _VARIABLES:
            variable = _variable_of(op)
            if variable is not None:
                found[variable.name] = variable
        pending.extend(tensor.op for tensor in op._inputs if tensor not in ends and _carries_gradient(tensor))
    return [found[name] for name in sorted(found)]


def _carries_gradient(tensor: Tensor) -> bool:
    dtype = tensor.dtype.base_dtype
    return bool(dtype.is_floating or dtype.is_complex or dtype.name in ("resource", "variant"))


def _variable_of(op: Operation) -> Any:
    graph: Graph = op.graph
    for key in (GraphKeys.GLOBAL_VARIABLES, GraphKeys.LOCAL_VARIABLES):
        for variable in graph.get_collection(key):
            if getattr(variable, "op", None) is op and variable.trainable:
                return variable
    return None


def recompute_grad(f: Callable[..., Any]) -> Callable[..., Any]:
    """`f`, computed a second time when its gradient is, instead of keeping its intermediate values; as `tf.recompute_grad`.

    `f` takes tensors and returns a tensor or a sequence of them.  The second computation waits for the gradient that it is for.
    It cannot be differentiated twice.
    """

    def inner(*args: Any) -> Any:
        result = f(*args)

        def grad_fn(*grads: Any, variables: Sequence[Any] = ()) -> Any:
            graph = get_default_graph()
            with graph.control_dependencies([grad for grad in grads if grad is not None]):
                again = [raw.Identity(each) for each in args]
                results = [convert_to_tensor(each) for each in nest.flatten(f(*again))]
            found = gradients(
                results,
                [*again, *variables],
                list(grads),
                unconnected_gradients=UnconnectedGradients.ZERO,
            )
            of_args = found[: len(again)]
            return (of_args, found[len(again) :]) if variables else of_args

        return result, grad_fn

    return functools.wraps(f)(custom_gradient(inner))


def grad_pass_through(f: Callable[..., Any]) -> Callable[..., Any]:
    """`f`, with the gradient of an identity; as `tf.grad_pass_through`.  Variables that `f` uses get no gradient."""

    def inner(*args: Any) -> Any:
        def grad_fn(*grads: Any, variables: Sequence[Any] = ()) -> Any:
            return (list(grads), [None] * len(variables)) if variables else list(grads)

        return f(*args), grad_fn

    return functools.wraps(f)(custom_gradient(inner))
