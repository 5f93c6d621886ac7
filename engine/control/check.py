"""Assertions about tensors: `Assert`, and `assert_equal` and its kind.

What can be decided while the graph is built is decided then: a check that must fail raises at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from engine.control.cond import cond
from engine.control.group import no_op
from engine.graph.convert import convert_to_tensor
from engine.graph.default import control_dependencies, name_scope
from engine.graph.operation import Operation
from engine.graph.tensor import Tensor
from engine.op.array import rank as rank_of
from engine.op.extremes import reduce_all
from engine.op.registry import raw
from engine.op.shapes import constant_value
from engine.op.summarize import summarize as summarized
from engine.types import dtypes, errors
from engine.types.dtypes import as_dtype

__all__ = [
    "Assert",
    "assert_equal",
    "assert_greater",
    "assert_greater_equal",
    "assert_integer",
    "assert_less",
    "assert_less_equal",
    "assert_near",
    "assert_negative",
    "assert_non_negative",
    "assert_non_positive",
    "assert_none_equal",
    "assert_positive",
    "assert_rank",
    "assert_rank_at_least",
    "assert_scalar",
    "assert_type",
]


def Assert(
    condition: Any, data: Sequence[Any], summarize: int | None = None, name: str | None = None
) -> Operation:
    """An operation that fails, showing the tensors `data`, if the scalar bool `condition` is false; as `tf.Assert`.

    It does nothing unless something waits for it: use it under `control_dependencies`.  summarize: how many elements of each
    tensor are shown (None: 3).
    """
    attrs = {} if summarize is None else {"summarize": summarize}
    with name_scope(name, "Assert", [condition, *data]):
        tensors = [convert_to_tensor(each, name="Const") for each in data]
        if all(each.dtype.base_dtype in (dtypes.string, dtypes.int32) for each in tensors):
            direct: Operation = raw.Assert(condition, list(data), **attrs, name="Assert")
            return direct
        # Whatever else is shown might live on a device: a branch keeps it there while all is well.
        holds = convert_to_tensor(condition, name="Condition")
        guarded = cond(
            holds, no_op, lambda: raw.Assert(holds, list(data), **attrs, name="Assert"), name="AssertGuard"
        )
        op: Operation = guarded.op
        return op


def _shown(data: Sequence[Any]) -> str:
    texts = []
    for each in data:
        value = constant_value(each) if isinstance(each, Tensor) else None
        texts.append(summarized(value, 3) if value is not None else str(each))
    return " ".join(f"[{text}]" if i else text for i, text in enumerate(texts))


def _check(
    condition: Any,
    known: bool | None,
    data: Sequence[Any],
    summarize: int | None,
) -> Operation:
    if known is False:
        raise errors.InvalidArgumentError(
            None, None, _shown([each for each in data if not (isinstance(each, str) and not each)])
        )
    return Assert(condition, data, summarize=summarize)


def _compare(
    symbol: str,
    default_name: str,
    tensor_test: Callable[[Any, Any], Any],
    array_test: Callable[[Any, Any], Any],
    x: Any,
    y: Any,
    data: Sequence[Any] | None,
    summarize: int | None,
    message: str | None,
    name: str | None,
) -> Operation:
    with name_scope(name, default_name, [x, y, *(data or ())]):
        left = convert_to_tensor(x, name="x")
        right = convert_to_tensor(y, dtype=left.dtype.base_dtype, name="y")
        if data is None:
            text = f"Condition x {symbol} y did not hold element-wise:"
            data = [text, f"x ({left.name}) = ", left, f"y ({right.name}) = ", right]
        if message is not None:
            data = [message, *data]
        condition = reduce_all(tensor_test(left, right))
        values = constant_value(left), constant_value(right)
        known = None if values[0] is None or values[1] is None else bool(np.all(array_test(*values)))
        return _check(condition, known, data, summarize)


def assert_equal(
    x: Any,
    y: Any,
    data: Any = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> Operation:
    """An operation that fails unless x == y everywhere (broadcast).  Raises InvalidArgumentError if that is clear already."""
    return _compare("==", "assert_equal", raw.Equal, np.equal, x, y, data, summarize, message, name)


def assert_none_equal(
    x: Any,
    y: Any,
    data: Any = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> Operation:
    """An operation that fails unless x != y everywhere; see `assert_equal`."""
    return _compare(
        "!=", "assert_none_equal", raw.NotEqual, np.not_equal, x, y, data, summarize, message, name
    )


def assert_less(
    x: Any,
    y: Any,
    data: Any = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> Operation:
    """An operation that fails unless x < y everywhere; see `assert_equal`."""
    return _compare("<", "assert_less", raw.Less, np.less, x, y, data, summarize, message, name)


def assert_less_equal(
    x: Any,
    y: Any,
    data: Any = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> Operation:
    """An operation that fails unless x <= y everywhere; see `assert_equal`."""
    return _compare(
        "<=", "assert_less_equal", raw.LessEqual, np.less_equal, x, y, data, summarize, message, name
    )


def assert_greater(
    x: Any,
    y: Any,
    data: Any = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> Operation:
    """An operation that fails unless x > y everywhere; see `assert_equal`."""
    return _compare(">", "assert_greater", raw.Greater, np.greater, x, y, data, summarize, message, name)


def assert_greater_equal(
    x: Any,
    y: Any,
    data: Any = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> Operation:
    """An operation that fails unless x >= y everywhere; see `assert_equal`."""
    return _compare(
        ">=", "assert_greater_equal", raw.GreaterEqual, np.greater_equal, x, y, data, summarize, message, name
    )


def _against_zero(
    symbol: str, default_name: str, test: Callable[..., Operation], zero_first: bool
) -> Callable[..., Operation]:
    def check(
        x: Any,
        data: Any = None,
        summarize: int | None = None,
        message: str | None = None,
        name: str | None = None,
    ) -> Operation:
        with name_scope(name, default_name, [x, *(data or ())]):
            values = convert_to_tensor(x, name="x")
            if data is None:
                text = f"Condition x {symbol} 0 did not hold element-wise:"
                data = [message or "", text, f"x ({values.name}) = ", values]
            zero = convert_to_tensor(0, dtype=values.dtype.base_dtype, name="Const")
            return test(zero, values, data, summarize) if zero_first else test(values, zero, data, summarize)

    check.__name__ = check.__qualname__ = default_name
    check.__doc__ = f"An operation that fails unless x {symbol} 0 everywhere; see `assert_equal`."
    return check


assert_positive = _against_zero(">", "assert_positive", assert_less, zero_first=True)
assert_negative = _against_zero("<", "assert_negative", assert_less, zero_first=False)
assert_non_negative = _against_zero(">=", "assert_non_negative", assert_less_equal, zero_first=True)
assert_non_positive = _against_zero("<=", "assert_non_positive", assert_less_equal, zero_first=False)


def assert_near(
    x: Any,
    y: Any,
    rtol: Any = None,
    atol: Any = None,
    data: Any = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> Operation:
    """An operation that fails unless |x - y| < atol + rtol · |y| everywhere; the tolerances are 10 times the dtype's epsilon."""
    with name_scope(name, "assert_near", [x, y]):
        left = convert_to_tensor(x, name="x")
        right = convert_to_tensor(y, name="y", dtype=left.dtype.base_dtype)
        finfo: Any = ml_dtypes.finfo
        tolerance = 10 * float(finfo(left.dtype.real_dtype.np_dtype).eps)
        relative = convert_to_tensor(
            tolerance if rtol is None else rtol, dtype=left.dtype.real_dtype.base_dtype, name="rtol"
        )
        absolute = convert_to_tensor(
            tolerance if atol is None else atol, dtype=left.dtype.real_dtype.base_dtype, name="atol"
        )
        if data is None:
            data = [
                message or "",
                f"x and y not equal to tolerance rtol = {rtol or tolerance}, atol = {atol or tolerance}",
                f"x ({left.name}) = ", left, f"y ({right.name}) = ", right,
            ]  # fmt: skip
        bound = absolute + relative * raw.Abs(right)
        return Assert(reduce_all(raw.Less(raw.Abs(left - right), bound)), data, summarize=summarize)


def _rank_check(
    x: Any,
    rank: Any,
    data: Any,
    summarize: int | None,
    message: str | None,
    name: str | None,
    default_name: str,
    says: str,
    fits: Callable[[int, int], bool],
    tensor_test: Callable[[Any, Any], Any],
) -> Operation:
    with name_scope(name, default_name, [x, *(data or ())]):
        values = convert_to_tensor(x, name="x")
        wanted = convert_to_tensor(rank, name="rank", dtype=dtypes.int32)
        known, have = constant_value(wanted), values.shape.ndims
        if known is not None and known.ndim != 0:
            raise ValueError(f"Rank must be a scalar, got {known.tolist()}")
        prefix = f"{message}.  " if message else ""
        if known is not None and have is not None:
            if not fits(have, int(known)):
                raise ValueError(
                    f"{prefix}Tensor {values.name} must have rank {says}{int(known)}.  Received rank {have}, shape {values.shape}"
                )
            return no_op(name="static_checks_determined_all_ok")
        if data is None:
            size = raw.Shape(values)
            data = [f"{prefix}Tensor {values.name} must have rank {says}", wanted, "Received shape: ", size]
        return Assert(tensor_test(rank_of(values), wanted), data, summarize=summarize)


def assert_rank(
    x: Any,
    rank: Any,
    data: Any = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> Operation:
    """An operation that fails unless x has this rank.  Raises ValueError if that is clear already."""
    return _rank_check(
        x, rank, data, summarize, message, name, "assert_rank", "", lambda a, b: a == b, raw.Equal
    )


def assert_rank_at_least(
    x: Any,
    rank: Any,
    data: Any = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> Operation:
    """An operation that fails unless x has at least this rank.  Raises ValueError if that is clear already."""
    return _rank_check(
        x,
        rank,
        data,
        summarize,
        message,
        name,
        "assert_rank_at_least",
        "at least ",
        lambda a, b: a >= b,
        raw.GreaterEqual,
    )


def assert_type(tensor: Any, tf_type: Any, message: str | None = None, name: str | None = None) -> Operation:
    """Raises TypeError unless the tensor has dtype `tf_type`; the operation returned does nothing."""
    wanted = as_dtype(tf_type)
    with name_scope(name, "assert_type", [tensor]):
        values = convert_to_tensor(tensor, name="tensor")
        if values.dtype.base_dtype != wanted:
            prefix = f"{message}  " if message else ""
            raise TypeError(f"{prefix}{values.name} must be of type {wanted!r}; got {values.dtype!r}")
        return no_op(name="statically_determined_correct_type")


def assert_integer(x: Any, message: str | None = None, name: str | None = None) -> Operation:
    """Raises TypeError unless x has an integer dtype; the operation returned does nothing."""
    with name_scope(name, "assert_integer", [x]):
        values = convert_to_tensor(x, name="x")
        if not values.dtype.is_integer:
            prefix = f"{message}  " if message else ""
            raise TypeError(f'{prefix}Expected "x" to be integer type.  Found: {values.dtype!r}')
        return no_op(name="statically_determined_was_integer")


def assert_scalar(tensor: Any, name: str | None = None, message: str | None = None) -> Tensor:
    """The tensor itself.  Raises ValueError if it is known to be no scalar; if nothing is known, it fails when it runs."""
    with name_scope(name, "assert_scalar", [tensor]):
        values = convert_to_tensor(tensor, name="tensor")
        if values.shape.ndims not in (None, 0):
            raise ValueError(f"{message or ''}Expected scalar shape, saw shape: {values.shape}.")
        if values.shape.ndims is None:
            with control_dependencies([assert_rank(values, 0)]):
                values = raw.Identity(values)
            values.set_shape(())
        return values
