"""`case`: the first of several branches whose predicate is true, as nested conds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from engine.control.check import Assert
from engine.control.cond import cond
from engine.graph.default import control_dependencies, name_scope
from engine.graph.operation import Operation
from engine.graph.tensor import Tensor
from engine.op.cast import cast
from engine.op.const import constant
from engine.op.reduce import reduce_sum
from engine.op.registry import raw
from engine.types import dtypes

__all__ = ["case"]

Branch = Callable[[], Any]


def case(
    pred_fn_pairs: Any,
    default: Branch | None = None,
    exclusive: bool = False,
    strict: bool = False,
    name: str = "case",
) -> Any:
    """What the function of the first true predicate returns, else what `default` returns; as TensorFlow 1's `tf.case`.

    pred_fn_pairs: a list of (scalar bool tensor, function), or a dict, whose order is that of the predicates' names.  exclusive:
    check when running that at most one predicate is true.  Without a default the last function is what remains, and it is checked
    that its predicate is true.  Functions and results are as for `cond`.

    Raises TypeError for pairs that are none and predicates that are no bool tensors.
    """
    pairs = _checked(pred_fn_pairs)
    if default is not None and not callable(default):
        raise TypeError("default must be callable")
    predicates, functions = [pred for pred, _ in pairs], [function for _, function in pairs]
    with name_scope(name, "case", predicates):
        if default is None:
            if not pairs:
                raise ValueError("case() needs a (predicate, function) pair or a default")
            default = _last(predicates, functions)
            predicates, functions = predicates[:-1], functions[:-1]
        guards = [_at_most(1, predicates, "Input error: exclusive=True")] if exclusive else []
        with control_dependencies(guards):
            built = default
            for pred, function in reversed(list(zip(predicates, functions, strict=True))):
                built = _otherwise(pred, function, built, strict)
            return built()


def _checked(pairs: Any) -> list[tuple[Tensor, Branch]]:
    """The pairs in order."""
    if isinstance(pairs, Mapping):
        pairs = sorted(pairs.items(), key=lambda pair: str(pair[0].name))
    elif not isinstance(pairs, list | tuple):
        raise TypeError(f"pred_fn_pairs must be a list, tuple, or dict, not {type(pairs).__name__}")
    for pair in pairs:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise TypeError(
                f"Each entry in pred_fn_pairs must be a (predicate, function) tuple, not {pair!r}"
            )
        pred, function = pair
        if not isinstance(pred, Tensor) or not pred.dtype.base_dtype.is_bool:
            raise TypeError(f"A predicate must be a tensor of type bool, not {pred!r}")
        if not callable(function):
            raise TypeError(
                f"The function for the predicate '{pred.name}' must be callable, not {function!r}"
            )
    return list(pairs)


def _otherwise(pred: Tensor, function: Branch, remaining: Branch, strict: bool) -> Branch:
    return lambda: cond(pred, true_fn=function, false_fn=remaining, strict=strict, name="cond")


def _last(predicates: Sequence[Tensor], functions: Sequence[Branch]) -> Branch:
    """The last function as the default: checked, when it runs, that its predicate is true and no other is."""

    def checked() -> Any:
        number = len(predicates) - 1
        shown = _together(predicates)
        wrong = f"Implementation error: selected default action #{number} was called, but some of other predicates are True: "
        missing = "Input error: None of conditions evaluated as True:"
        with control_dependencies(
            [_at_most(0, predicates[:-1], wrong), Assert(predicates[-1], [missing, shown])]
        ):
            return functions[-1]()

    return checked


def _together(predicates: Sequence[Tensor]) -> Tensor:
    if not predicates:
        return constant(np.zeros(0, np.float32), name="preds_c")
    vector: Tensor = raw.Pack(list(predicates), axis=0, name="preds_c")
    return vector


def _at_most(count: int, predicates: Sequence[Tensor], message: str) -> Operation:
    """An operation that fails if more than `count` of the predicates are true."""
    vector = _together(predicates)
    true = reduce_sum(cast(vector, dtypes.int32), name="num_true_conds")
    fits = raw.LessEqual(true, constant(count, name="n_true_conds"))
    names = ", ".join(pred.name for pred in predicates)
    text = f"{message}: more than {count} conditions ({names}) evaluated as True:"
    return Assert(fits, [text, vector], summarize=len(predicates))
