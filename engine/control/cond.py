"""`cond`: branches on the primitives Switch and Merge."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.control import composite
from engine.control.context import CondContext
from engine.control.group import with_dependencies
from engine.graph.convert import convert_to_tensor
from engine.graph.default import get_default_graph, name_scope
from engine.graph.keys import GraphKeys
from engine.graph.operation import Operation
from engine.graph.tensor import Tensor
from engine.op.registry import raw
from engine.types import nest

__all__ = ["cond"]


def cond(
    pred: Any,
    true_fn: Callable[[], Any] | None = None,
    false_fn: Callable[[], Any] | None = None,
    strict: bool = False,
    name: str | None = None,
    fn1: Callable[[], Any] | None = None,
    fn2: Callable[[], Any] | None = None,
) -> Any:
    """What `true_fn()` returns if the scalar bool tensor `pred` is true when the graph runs, else what `false_fn()` returns.

    Both functions are called now, to build their branches; operations made in them run only if their branch is taken, tensors
    made outside are computed in any case.  Both must return the same structure of tensors with the same dtypes.  A list of one
    is unpacked unless `strict`.  As TensorFlow 1's `tf.cond`.

    A variable is returned by its value, a reference (what `tf.assign` gives) as a reference if both branches return one.

    Raises TypeError for a Python bool or functions that are none, ValueError for branches that do not match or a predicate that
    is no scalar.
    """
    for new, old, names in ((true_fn, fn1, "'true_fn' and 'fn1'"), (false_fn, fn2, "'false_fn' and 'fn2'")):
        if new is not None and old is not None:
            raise TypeError(f"cond() got both {names}, which are two names of one argument")
    true_fn = fn1 if true_fn is None else true_fn
    false_fn = fn2 if false_fn is None else false_fn
    for argument, function in (("true_fn", true_fn), ("false_fn", false_fn)):
        if not callable(function):
            raise TypeError(f"{argument} must be callable, not {function!r}")
    assert true_fn is not None and false_fn is not None
    if isinstance(pred, bool):
        raise TypeError("pred must not be a Python bool: use an `if` statement, or a tensor")
    with name_scope(name, "cond", [pred]):
        pred = convert_to_tensor(pred, name="pred")
        _check_predicate(pred)
        graph = get_default_graph()
        when_false, when_true = raw.Switch(pred, pred, name="Switch")
        pivots = [raw.Identity(when_true, name="switch_t"), raw.Identity(when_false, name="switch_f")]
        pred_id = raw.Identity(pred, name="pred_id")
        for tensor in (when_true, *pivots, pred_id):
            graph.prevent_fetching(tensor.op)
        true_context = CondContext(pred_id, pivots[0], 1)
        true_structure, true_flat = _branch(true_context, true_fn, "true_fn", strict)
        false_context = CondContext(pred_id, pivots[1], 0)
        false_structure, false_flat = _branch(false_context, false_fn, "false_fn", strict)
        _check_same(true_structure, false_structure, true_flat, false_flat)
        merged = [
            raw.Merge([on_false, on_true], name="Merge")[0]
            if not (on_true.dtype._is_ref_dtype and on_false.dtype._is_ref_dtype)
            else raw.RefMerge([on_false, on_true], name="Merge")[0]
            for on_true, on_false in zip(true_flat, false_flat, strict=True)
        ]
        if true_context.outer is None:
            graph.add_to_collection(GraphKeys.COND_CONTEXT, true_context)
            graph.add_to_collection(GraphKeys.COND_CONTEXT, false_context)
        return _pack(true_structure, merged)


def _check_predicate(pred: Tensor) -> None:
    if pred._shape.ndims not in (None, 0):
        raise ValueError(
            f"The predicate of a cond must be a scalar, and '{pred.name}' has shape {pred._shape}"
        )
    if not pred.dtype.base_dtype.is_bool:
        raise TypeError(
            f"The predicate of a cond must be bool, and '{pred.name}' has dtype {pred.dtype.name}"
        )


def _branch(
    context: CondContext, function: Callable[[], Any], argument: str, strict: bool
) -> tuple[Any, list[Tensor]]:
    """What the branch returned, and its tensors as the Merges take them."""
    with context.entered():
        structure = function()
        if structure is None:
            raise ValueError(
                f"{argument} must have a return value: a tensor, an operation, or a structure of them"
            )
        if not strict and isinstance(structure, list | tuple) and len(structure) == 1:
            structure = structure[0]
        flat: list[Tensor] = []
        for item in nest.flatten(structure):
            if isinstance(item, Operation):
                flat.append(with_dependencies([item], context.pivot))
            elif item is None:
                raise ValueError(
                    f"None values not supported: {argument} returned None inside of {structure!r}"
                )
            else:
                flat.extend(context.output(convert_to_tensor(each)) for each in composite.tensors_of(item))
        context.leave(flat)
    return structure, flat


def _check_same(
    true_structure: Any, false_structure: Any, true_flat: list[Tensor], false_flat: list[Tensor]
) -> None:
    try:
        nest.assert_same_structure(true_structure, false_structure)
    except (ValueError, TypeError) as error:
        raise type(error)(f"true_fn and false_fn must return the same structure: {error}") from None
    if len(true_flat) != len(false_flat):
        raise ValueError(
            f"true_fn and false_fn must return as many tensors: {len(true_flat)} and {len(false_flat)}"
        )
    for on_true, on_false in zip(true_flat, false_flat, strict=True):
        if on_true.dtype.base_dtype is not on_false.dtype.base_dtype:
            raise ValueError(
                f"Outputs of true_fn and false_fn must have the same type: {on_true.dtype.name} ('{on_true.name}'), "
                f"{on_false.dtype.name} ('{on_false.name}')"
            )


def _pack(structure: Any, merged: list[Tensor]) -> Any:
    return composite.pack(structure, merged)
