"""Samples: the inputs an op is proven on, written in the op's own block.

A sampler is a function of a random generator and a dtype (the value of attr `T`, or of the op's first type attr; None when it
has none) that yields `Sample`s.  The generated tests run every sample of every op through the engine and compare: the value with
a float64 reference, the static shape and the dtype with the result, the gradient with finite differences.

Most ops need one of the helpers: `floats(-3, 3)` for a unary op, `pairs(-3, 3)` for a binary one, `ints(0, 5)`, `arrays()`.
An op that can't be tried alone (a queue, a loop primitive) names its tests: ``samples=untested("tests/control/test_while.py")``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from engine.types.dtypes import DType

Value: TypeAlias = "np.ndarray[Any, Any] | list[np.ndarray[Any, Any]]"
Sampler: TypeAlias = "Callable[[np.random.Generator, DType | None], Iterator[Sample]]"

_SHAPES: tuple[tuple[int, ...], ...] = ((2, 3), (7,), (), (0, 3), (2, 1, 4))
_PAIR_SHAPES: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
    ((2, 3), (2, 3)),
    ((2, 3), (3,)),
    ((4, 1), (2, 1, 3)),
    ((2, 3), ()),
    ((), (4,)),
    ((), ()),
    ((0, 3), (1, 3)),
    ((2, 1), (1, 0)),
)
_SPECIAL = (0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1e-6, 30.0, -30.0, np.inf, -np.inf, np.nan)


@dataclass(frozen=True, slots=True, init=False, eq=False)
class Sample:
    """One call of an op.

    `inputs` are arrays of the right dtype, or lists of arrays for an input that is a list; `attrs` are given to the call.
    `grad` holds the indices (into `inputs`) of the inputs whose gradient is checked: None for every floating or complex one, ()
    for none, as where the function has a kink.  `rtol` and `atol` replace the tolerances of the dtype.
    """

    inputs: tuple[Value, ...]
    attrs: Mapping[str, Any]
    grad: tuple[int, ...] | None
    rtol: float | None
    atol: float | None
    note: str

    def __init__(
        self,
        *inputs: Value,
        attrs: Mapping[str, Any] | None = None,
        grad: Sequence[int] | None = None,
        rtol: float | None = None,
        atol: float | None = None,
        note: str = "",
    ) -> None:
        put = object.__setattr__
        put(self, "inputs", inputs)
        put(self, "attrs", dict(attrs or {}))
        put(self, "grad", None if grad is None else tuple(grad))
        put(self, "rtol", rtol)
        put(self, "atol", atol)
        put(self, "note", note)

    def __repr__(self) -> str:
        def of(value: Value) -> str:
            if isinstance(value, list):
                return "[" + ", ".join(of(each) for each in value) + "]"
            return f"{value.dtype}{list(value.shape)}"

        parts = [of(value) for value in self.inputs] + [f"{k}={v!r}" for k, v in self.attrs.items()]
        return f"Sample({', '.join(parts)}{', ' + self.note if self.note else ''})"


@dataclass(frozen=True, slots=True)
class Untested:
    """The sampler of an op that has no generated tests, with the test file that covers it by hand."""

    where: str

    def __call__(self, rng: np.random.Generator, dtype: DType | None) -> Iterator[Sample]:
        return iter(())


def untested(where: str) -> Untested:
    """For an op that makes no sense alone: `where` names the test file, relative to the repository, that covers it."""
    return Untested(where)


def random_array(
    rng: np.random.Generator, dtype: DType, shape: Sequence[int] = (), lo: float = -3, hi: float = 3
) -> np.ndarray[Any, Any]:
    """Random values of any dtype: uniform in [lo, hi) for floats (and both parts of complex), integers in [lo, hi], bools,
    short byte strings.  Unsigned integers start at 0 where `lo` is negative.
    """
    shape = tuple(shape)
    if dtype.is_bool:
        return np.asarray(rng.integers(0, 2, shape) == 1)
    if dtype.is_integer:
        low, high = int(np.ceil(lo)), int(np.floor(hi))
        low, high = max(low, int(dtype.min)), min(high, int(dtype.max))
        return np.asarray(rng.integers(low, high + 1, shape)).astype(dtype.np_dtype)
    if dtype.is_floating:
        return np.asarray(rng.uniform(lo, hi, shape)).astype(dtype.np_dtype)
    if dtype.is_complex:
        return np.asarray(rng.uniform(lo, hi, shape) + 1j * rng.uniform(lo, hi, shape)).astype(dtype.np_dtype)
    strings = np.empty(shape, dtype=object)
    for index in np.ndindex(*shape):
        strings[index] = bytes(rng.integers(97, 123, int(rng.integers(0, 5)), dtype=np.uint8))
    return strings


def array(values: Any, dtype: DType) -> np.ndarray[Any, Any]:
    """`values` as an array of `dtype`; rank 0 for a plain number."""
    return np.asarray(values).astype(dtype.np_dtype)


def floats(
    lo: float,
    hi: float,
    *,
    special: bool = True,
    extra: Sequence[float] = (),
    grad: Sequence[int] | None = None,
    rtol: float | None = None,
    atol: float | None = None,
) -> Sampler:
    """For a unary op: arrays of several shapes (empty and 0-d among them) with values in [lo, hi).

    `special` adds zeros of both signs, infinities and NaN (floating dtypes only), `extra` values of your own; both without a
    gradient check.  Integer dtypes get integers of the range, complex ones both parts in it.
    """

    def sampler(rng: np.random.Generator, dtype: DType | None) -> Iterator[Sample]:
        assert dtype is not None, "floats() needs an op with a type attr"
        for shape in _SHAPES:
            yield Sample(random_array(rng, dtype, shape, lo, hi), grad=grad, rtol=rtol, atol=atol)
        if special and dtype.is_floating:
            yield Sample(array(_SPECIAL, dtype), grad=(), rtol=rtol, atol=atol, note="special values")
        if extra:
            values = [v for v in extra if not (dtype.is_integer and v != int(v))]
            yield Sample(array(values, dtype), grad=(), rtol=rtol, atol=atol, note="extra values")

    return sampler


def ints(lo: int, hi: int) -> Sampler:
    """For a unary op: arrays of several shapes with whole numbers in [lo, hi], of whatever dtype; no gradient check."""

    def sampler(rng: np.random.Generator, dtype: DType | None) -> Iterator[Sample]:
        assert dtype is not None, "ints() needs an op with a type attr"
        low = max(lo, 0) if dtype.is_unsigned else lo
        for shape in _SHAPES:
            yield Sample(array(rng.integers(low, hi + 1, shape), dtype), grad=())

    return sampler


def arrays(
    *shapes: tuple[int, ...], attrs: Mapping[str, Any] | None = None, grad: Sequence[int] | None = None
) -> Sampler:
    """For a unary op that moves values of any dtype about: one random array of each of `shapes`, strings and bools too."""

    def sampler(rng: np.random.Generator, dtype: DType | None) -> Iterator[Sample]:
        assert dtype is not None, "arrays() needs an op with a type attr"
        for shape in shapes or ((2, 3), (), (0, 2)):
            yield Sample(random_array(rng, dtype, shape), attrs=attrs, grad=grad)

    return sampler


def pairs(
    lo: float,
    hi: float,
    *,
    apart: float = 0.0,
    nonzero: bool = False,
    special: bool = True,
    grad: Sequence[int] | None = None,
    rtol: float | None = None,
    atol: float | None = None,
) -> Sampler:
    """For a binary op that broadcasts: equal shapes, broadcasting of either side and of both at once, scalars, empty and 0-d.

    `apart` keeps the two operands at least so far from each other (for ops with a kink where they are equal), `nonzero` keeps
    the second operand away from 0.  `special` adds every pair of zeros of both signs, ±1, infinities and NaN (floating dtypes),
    without a gradient check.
    """

    def sampler(rng: np.random.Generator, dtype: DType | None) -> Iterator[Sample]:
        assert dtype is not None, "pairs() needs an op with a type attr"
        for left, right in _PAIR_SHAPES:
            a = random_array(rng, dtype, left, lo, hi)
            b = random_array(rng, dtype, right, lo, hi)
            if apart and dtype.is_floating:
                # Even and odd multiples of `apart`: never equal, whatever the broadcast pairs up.
                step = 2 * apart
                a = array(np.round(np.asarray(a, np.float64) / step) * step, dtype)
                b = array(np.round(np.asarray(b, np.float64) / step) * step + apart, dtype)
            if nonzero:
                b = _away_from_zero(b, dtype, hi)
            yield Sample(a, b, grad=grad, rtol=rtol, atol=atol)
        if special and dtype.is_floating:
            values = array([0.0, -0.0, 1.0, -1.0, 2.5, np.inf, -np.inf, np.nan], dtype)
            yield Sample(
                values[:, None], values[None, :].copy(), grad=(), rtol=rtol, atol=atol, note="special values"
            )

    return sampler


def _away_from_zero(values: np.ndarray[Any, Any], dtype: DType, hi: float) -> np.ndarray[Any, Any]:
    if dtype.is_integer:
        return np.where(values == 0, np.asarray(max(1, int(hi))), values).astype(dtype.np_dtype)
    if dtype.is_floating:
        wide = np.asarray(values, np.float64)
        small = np.abs(wide) < 0.3
        return np.where(small, wide + np.where(wide < 0, -0.5, 0.5), wide).astype(dtype.np_dtype)
    return np.where(np.abs(values) < 0.3, values + 1, values).astype(dtype.np_dtype)
