"""`cond` and `case`: branches on the primitives Switch and Merge."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from engine.control.context import CondContext
from engine.control.group import with_dependencies
from engine.control.tensor_array import flow_of, with_flow
from engine.graph.convert import convert_to_tensor
from engine.graph.default import get_default_graph, name_scope
from engine.graph.indexed_slices import IndexedSlices
from engine.graph.keys import GraphKeys
from engine.graph.operation import Operation
from engine.graph.tensor import Tensor
from engine.op.registry import raw
from engine.types import nest

__all__ = ["case", "cond"]


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

    Raises TypeError for a Python bool or functions that are none, ValueError for branches that do not match or a predicate that
    is no scalar.
    """
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
        raise ValueError(f"The predicate of a cond must be a scalar, and '{pred.name}' has shape {pred._shape}")
    if not pred.dtype.base_dtype.is_bool:
        raise TypeError(f"The predicate of a cond must be bool, and '{pred.name}' has dtype {pred.dtype.name}")


def _branch(context: CondContext, function: Callable[[], Any], argument: str, strict: bool) -> tuple[Any, list[Tensor]]:
    """What the branch returned, and its tensors as the Merges take them."""
    with context.entered():
        structure = function()
        if structure is None:
            raise ValueError(f"{argument} must have a return value: a tensor, an operation, or a structure of them")
        if not strict and isinstance(structure, list | tuple) and len(structure) == 1:
            structure = structure[0]
        flat: list[Tensor] = []
        for item in nest.flatten(structure):
            if isinstance(item, IndexedSlices):
                flat.extend((context.output(item.values), context.output(item.indices)))
                if item.dense_shape is not None:
                    flat.append(context.output(item.dense_shape))
            elif isinstance(item, Operation):
                flat.append(with_dependencies([item], context.pivot))
            else:
                flat.append(context.output(convert_to_tensor(flow_of(item), as_ref=True)))
        context.leave(flat)
    return structure, flat


def _check_same(true_structure: Any, false_structure: Any, true_flat: list[Tensor], false_flat: list[Tensor]) -> None:
    try:
        nest.assert_same_structure(true_structure, false_structure)
    except (ValueError, TypeError) as error:
        raise type(error)(f"true_fn and false_fn must return the same structure: {error}") from None
    if len(true_flat) != len(false_flat):
        raise ValueError(f"true_fn and false_fn must return as many tensors: {len(true_flat)} and {len(false_flat)}")
    for on_true, on_false in zip(true_flat, false_flat, strict=True):
        if on_true.dtype.base_dtype is not on_false.dtype.base_dtype:
            raise TypeError(
                f"Outputs of true_fn and false_fn must have the same type: {on_true.dtype.name} ('{on_true.name}'), "
                f"{on_false.dtype.name} ('{on_false.name}')"
            )


def _pack(structure: Any, merged: list[Tensor]) -> Any:
    supply = iter(merged)
    packed: list[Any] = []
    for item in nest.flatten(structure):
        if isinstance(item, IndexedSlices):
            values, indices = next(supply), next(supply)
            packed.append(IndexedSlices(values, indices, next(supply) if item.dense_shape is not None else None))
        else:
            packed.append(with_flow(item, next(supply)))
    return nest.pack_sequence_as(structure, packed)


def case(
    pred_fn_pairs: Any,
    default: Callable[[], Any] | None = None,
    exclusive: bool = False,
    strict: bool = False,
    name: str = "case",
) -> Any:
    """What the function of the first true predicate returns, else what `default` returns; as TensorFlow 1's `tf.case`.

    pred_fn_pairs: a list of (scalar bool tensor, function) or a dict.  exclusive: check when running that at most one predicate
    is true.  Without a default, one predicate must be true when the graph runs.  Raises TypeError for pairs that are none.
    """
    if isinstance(pred_fn_pairs, Mapping):
        pairs = sorted(pred_fn_pairs.items(), key=lambda pair: pair[0].name)
    elif isinstance(pred_fn_pairs, list | tuple):
        pairs = list(pred_fn_pairs)
    else:
        raise TypeError(f"pred_fn_pairs must be a list or a dict, not {type(pred_fn_pairs).__name__}")
    for pair in pairs:
        if not isinstance(pair, tuple) or len(pair) != 2 or not callable(pair[1]):
            raise TypeError(f"Each element of pred_fn_pairs must be a (predicate, callable) tuple, not {pair!r}")
        if isinstance(pair[0], bool):
            raise TypeError("A predicate must be a tensor, not a Python bool")
    if not pairs and default is None:
        raise ValueError("case() needs a pair or a default")
    if default is not None and not callable(default):
        raise TypeError("default must be callable")
    predicates = [convert_to_tensor(pred) for pred, _ in pairs]
    functions = [function for _, function in pairs]
    with name_scope(name, "case", predicates):
        if not pairs:
            assert default is not None
            return default()
        guards = _case_guards(predicates, functions, default, exclusive)
        otherwise = default
        if otherwise is None:
            predicates, functions, otherwise = predicates[:-1], functions[:-1], functions[-1]
        with get_default_graph().control_dependencies(guards):
            built = otherwise
            for pred, function in reversed(list(zip(predicates, functions, strict=True))):
                built = _nested(pred, function, built, strict)
            return built()


def _nested(pred: Tensor, function: Callable[[], Any], otherwise: Callable[[], Any], strict: bool) -> Callable[[], Any]:
    return lambda: cond(pred, true_fn=function, false_fn=otherwise, strict=strict, name="cond")


def _case_guards(
    predicates: Sequence[Tensor], functions: Sequence[Any], default: Any, exclusive: bool
) -> list[Operation]:
    """The assertions that a case needs: at least one true without a default, at most one true if exclusive."""
    del functions
    guards: list[Operation] = []
    if default is None or exclusive:
        stacked = raw.Pack(list(predicates), axis=0, name="preds_c")
        if exclusive:
            count = raw.Sum(raw.Cast(stacked, DstT="int32"), [0])
            what = "More than one condition evaluated as True but exclusive=True."
            guards.append(raw.Assert(raw.Less(count, 2), [what, stacked]))
        if default is None:
            what = "None of the conditions evaluated as True."
            guards.append(raw.Assert(raw.Any(stacked, [0]), [what, stacked]))
    return guards
