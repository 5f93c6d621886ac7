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

__all__ = ["case", "switch_case"]

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


def switch_case(
    branch_index: Any, branch_fns: Any, default: Branch | None = None, name: str | None = "switch_case"
) -> Any:
    """What function number `branch_index` (an int32 scalar tensor) returns; `default`, or else the last, for any other number.

    branch_fns: a list of functions, or of (int, function) pairs, or a dict, whose numbers are all from 0 on.  As
    TensorFlow 1.15's `tf.switch_case`, which makes a Case op of it; here it is nested conds.

    Raises TypeError for an index that is no tensor and for branches that are no functions, ValueError for numbers with gaps.
    """
    actions = _indexed(branch_index, branch_fns)
    if default is not None:
        if not callable(default):
            raise TypeError("default must be callable")
        actions.append(default)
    with name_scope(name, "case", [branch_index]):
        built = actions[-1]
        for number, action in reversed(list(enumerate(actions[:-1]))):
            built = _if_number(branch_index, number, action, built)
        return built()


def _if_number(index: Tensor, number: int, action: Branch, remaining: Branch) -> Branch:
    return lambda: cond(raw.Equal(index, number), action, remaining, strict=False, name="cond")


def _indexed(branch_index: Any, branch_fns: Any) -> list[Branch]:
    """The functions by their numbers."""
    if not isinstance(branch_index, Tensor):
        raise TypeError(f"branch_index must be a Tensor, got {type(branch_index).__name__}")
    if not branch_index.dtype.base_dtype.is_integer:
        raise TypeError(f"branch_index must be an int32 scalar, not of dtype {branch_index.dtype.name}")
    if not branch_fns:
        raise ValueError("Must provide at least one item in branch_fns")
    if not isinstance(branch_fns, list | tuple | Mapping):
        raise TypeError(f"branch_fns must be a list, tuple, or dict, not {type(branch_fns).__name__}")
    pairs = list(branch_fns.items()) if isinstance(branch_fns, Mapping) else list(branch_fns)
    if all(callable(each) for each in pairs):
        pairs = list(enumerate(pairs))
    for pair in pairs:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise TypeError(f"Each entry in branch_fns must be a 2-tuple. Received {pair!r}.")
        if not isinstance(pair[0], int):
            raise TypeError(f"key must be a Python `int`, got {type(pair[0]).__name__}")
        if not callable(pair[1]):
            raise TypeError(f"fn for key {pair[0]} must be callable.")
    numbered = dict(pairs)
    if sorted(numbered) != list(range(len(pairs))):
        found = ", ".join(str(key) for key, _ in sorted(pairs, key=lambda pair: pair[0]))
        raise ValueError(
            f"branch indices (keys) must form contiguous range of [0 to {len(pairs)}) but found {{{found}}}"
        )
    return [numbered[number] for number in range(len(pairs))]


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
