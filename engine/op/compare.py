"""Comparisons and logic, elementwise with broadcasting; the results are bool."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.op.binary import binary
from engine.op.registry import NotDifferentiable, OpDef, op, raw
from engine.op.samples import Sample, pairs, random_array
from engine.op.shapes import SCALAR, UNKNOWN, broadcast, merged
from engine.types import errors
from engine.types.shape import TensorShape

__all__ = [
    "equal", "greater", "greater_equal", "less", "less_equal", "logical_and", "logical_or", "logical_xor", "not_equal",
]  # fmt: skip


def _order(name: str, ufunc: str) -> OpDef:
    return binary(
        name, "reals", ufunc=ufunc, result="bool", grad=NotDifferentiable, samples=_comparable(pairs(-3, 3))
    )


def _comparable(sampler: Any) -> Any:
    """`sampler`, whose random floats get rounded so that equal pairs are among them."""

    def samples(rng: np.random.Generator, dtype: Any) -> Any:
        for sample in sampler(rng, dtype):
            x, y = sample.inputs
            yield Sample(np.round(x), np.round(y)) if dtype.is_floating or dtype.is_complex else Sample(x, y)

    return samples


less = _order("Less", "less")
less_equal = _order("LessEqual", "less_equal")
greater = _order("Greater", "greater")
greater_equal = _order("GreaterEqual", "greater_equal")


def _equality(name: str, function: str, when_incompatible: bool) -> OpDef:
    def kernel(k: Any, x: Any, y: Any) -> Any:
        try:
            return getattr(k.xp, function)(x, y)
        except ValueError:
            if k.attrs["incompatible_shape_error"]:
                raise errors.InvalidArgumentError(
                    None, None, f"Incompatible shapes: {list(x.shape)} vs. {list(y.shape)}"
                ) from None
            return k.xp.asarray(when_incompatible)

    def shape(op: Any) -> TensorShape:
        try:
            found = broadcast(op)
        except ValueError:
            if op.attrs["incompatible_shape_error"]:
                raise
            return SCALAR
        return found if op.attrs["incompatible_shape_error"] or found.is_fully_defined() else UNKNOWN

    def samples(rng: np.random.Generator, dtype: Any) -> Any:
        yield from _comparable(pairs(-3, 3))(rng, dtype)
        yield Sample(
            random_array(rng, dtype, (2,)),
            random_array(rng, dtype, (3,)),
            attrs={"incompatible_shape_error": False},
        )

    def reference(x: Any, y: Any, incompatible_shape_error: bool = True) -> Any:
        if not incompatible_shape_error and x.shape != y.shape:
            return np.asarray(when_incompatible)
        same = np.frompyfunc(lambda a, b: a == b, 2, 1)(x, y)
        return np.asarray(same, bool) != when_incompatible

    return op(
        f"{name}(x: T, y: T; T: type, incompatible_shape_error: bool = True) -> z: bool",
        kernel=kernel,
        shape=shape,
        grad=NotDifferentiable,
        samples=samples,
        reference=reference,
        int32_on_host=True,
    )


equal = _equality("Equal", "equal", when_incompatible=False)
not_equal = _equality("NotEqual", "not_equal", when_incompatible=True)


# Logic.


def _bool_pairs(rng: np.random.Generator, dtype: Any) -> Any:
    for left, right in (((2, 2), (2, 2)), ((3, 1), (4,)), ((), (5,)), ((), ()), ((0,), (1,))):
        yield Sample(
            np.asarray(rng.integers(0, 2, left) == 1),
            np.asarray(rng.integers(0, 2, right) == 1),
        )


def _logic(name: str, ufunc: str) -> OpDef:
    return op(
        f"{name}(x: bool, y: bool) -> z: bool",
        ufunc=ufunc,
        shape=broadcast,
        grad=NotDifferentiable,
        samples=_bool_pairs,
    )


logical_and = _logic("LogicalAnd", "logical_and")
logical_or = _logic("LogicalOr", "logical_or")


def logical_xor(x: Any, y: Any, name: str | None = "LogicalXor") -> Any:
    """Whether exactly one of x and y is true: (x or y) and not (x and y)."""
    either = raw.LogicalOr(x, y)
    return raw.LogicalAnd(either, raw.LogicalNot(raw.LogicalAnd(x, y)), name=name or "LogicalXor")


# Equal up to a tolerance.


def _approximate(k: Any, x: Any, y: Any) -> Any:
    if x.shape != y.shape:
        raise errors.InvalidArgumentError(
            None,
            None,
            f"x and y must be of the same shape. x shape: {list(x.shape)}. y shape: {list(y.shape)}",
        )
    if x.dtype.kind == "u":
        apart = k.xp.where(x > y, x - y, y - x)
    else:
        apart = k.xp.absolute(k.xp.subtract(x, y))
    return apart < k.attrs["tolerance"]


def _approximate_samples(rng: np.random.Generator, dtype: Any) -> Any:
    for shape in ((3, 4), (), (0, 2)):
        x = random_array(rng, dtype, shape, 0, 9)
        yield Sample(x, random_array(rng, dtype, shape, 0, 9), attrs={"tolerance": 2.5})
        yield Sample(x, x.copy())


op(
    "ApproximateEqual(x: T, y: T; T: numbers, tolerance: float = 1e-05) -> z: bool",
    kernel=_approximate,
    shape=merged,
    grad=NotDifferentiable,
    samples=_approximate_samples,
    reference=lambda x, y, tolerance=1e-5: np.abs(x - y) < tolerance,
)
