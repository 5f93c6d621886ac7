"""What expressions may call and ask for.

Most of it are functions of NumPy whose results are no larger than what they are given; those that make arrays say how large these
will be before they do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

_AXIS = ("axis", "keepdims")
_MOST_DIGITS = 400  # to which a number can be rounded, or that it has


class Function(NamedTuple):
    """A function of the table.

    call: the function.  least, most: how many arguments it has by position; keywords: those that it has by name.
    broadcasts: whether its arguments are broadcast against each other.  Else what it makes is no larger than all of them
        together, or `makes` says (of the same arguments) how many elements it will have.
    weight: how long an element takes; 1 for an addition.  strings: whether it takes strings.
    """

    call: Callable[..., Any]
    least: int = 1
    most: int = 1
    keywords: tuple[str, ...] = ()
    broadcasts: bool = False
    makes: Callable[..., int] | None = None
    weight: int = 1
    strings: bool = False


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple | list):
        for each in value:
            yield from _leaves(each)
    else:
        yield value


def elements(value: Any) -> int:
    """How many elements a value has, those of all its parts together."""
    return sum(each.size if isinstance(each, np.ndarray) else 1 for each in _leaves(value))


def itemsize(value: Any) -> int:
    """Bytes that an element of an array of `value` takes, at most."""
    largest = 8
    for each in _leaves(value):
        if isinstance(each, str | bytes):
            largest = max(largest, 4 * len(each))
        elif isinstance(each, complex):
            largest = max(largest, 16)
        elif isinstance(each, np.ndarray | np.generic):
            largest = max(largest, each.dtype.itemsize)
    return largest


def _all_of(test: Callable[[Any], Any]) -> Callable[[Any], bool]:
    """Whether any element of a tensor, or of any of several, is so; whole numbers never are."""

    def any_is(value: Any) -> bool:
        if isinstance(value, tuple | list):
            return any(map(any_is, value))
        array = np.asarray(value)
        if array.dtype.kind in "biuOSU":
            return False
        return bool(test(array if array.dtype.kind in "fc" else array.astype(np.float32)).any())

    return any_is


def _norm(value: Any) -> Any:
    return np.sqrt(np.sum(np.square(np.abs(np.asarray(value, np.float64)))))


def _round(value: Any, digits: Any = 0) -> Any:
    digits = int(digits)
    if abs(digits) > _MOST_DIGITS:
        raise ValueError(f"no number has {digits} digits")
    return np.round(value, digits)


_ELEMENTWISE = (
    "abs", "sqrt", "square", "exp", "expm1", "log", "log1p", "log2", "log10", "sin", "cos", "tan", "tanh", "sign", "floor",
    "ceil", "isnan", "isinf", "isfinite", "real", "imag", "angle", "logical_not",
)  # fmt: skip
_PAIRS = ("maximum", "minimum", "logical_and", "logical_or", "isclose", "allclose", "arctan2")
_REDUCTIONS = (
    "max", "min", "mean", "sum", "prod", "std", "var", "any", "all", "nanmax", "nanmin", "nanmean", "nansum", "ptp",
    "count_nonzero",
)  # fmt: skip
_BY_AXIS = ("argmax", "argmin", "cumsum")
_SLOW = 10  # times as long as an addition: what sorts

FUNCTIONS: dict[str, Function] = {
    **{name: Function(getattr(np, name)) for name in _ELEMENTWISE},
    **{name: Function(getattr(np, name), 2, 2, broadcasts=True) for name in _PAIRS},
    **{name: Function(getattr(np, name), 1, 2, _AXIS) for name in _REDUCTIONS},
    **{name: Function(getattr(np, name), 1, 2, ("axis",)) for name in _BY_AXIS},
    "sort": Function(np.sort, 1, 2, ("axis",), weight=_SLOW),
    "median": Function(np.median, 1, 2, _AXIS, weight=_SLOW),
    "quantile": Function(np.quantile, 2, 2, weight=_SLOW),
    "percentile": Function(np.percentile, 2, 2, weight=_SLOW),
    "array_equal": Function(np.array_equal, 2, 2),
    "round": Function(_round, 1, 2),
    "clip": Function(np.clip, 3, 3, broadcasts=True),
    "where": Function(np.where, 3, 3, broadcasts=True),
    "diff": Function(np.diff),
    "ravel": Function(np.ravel),
    "norm": Function(_norm),
    "len": Function(len),
    "int": Function(lambda value: int(np.asarray(value).item())),
    "float": Function(lambda value: float(np.asarray(value).item())),
    "bool": Function(lambda value: bool(np.asarray(value).item())),
    "has_nan": Function(_all_of(np.isnan)),
    "has_inf": Function(_all_of(np.isinf)),
    "has_inf_or_nan": Function(_all_of(lambda array: ~np.isfinite(array))),
}

METHODS: dict[str, Function] = {
    name: FUNCTIONS[name]
    for name in (
        "max", "min", "mean", "sum", "prod", "std", "var", "any", "all", "argmax", "argmin", "cumsum", "ptp", "ravel", "round",
        "clip",
    )
}  # fmt: skip
METHODS["item"] = Function(lambda value: np.asarray(value).item())

ATTRIBUTES: dict[str, Callable[[Any], Any]] = {
    "shape": np.shape,
    "size": np.size,
    "ndim": np.ndim,
    "dtype": lambda value: np.asarray(value).dtype.name,
    "nbytes": lambda value: np.asarray(value).nbytes,
    "T": np.transpose,
    "real": np.real,
    "imag": np.imag,
}


# What makes arrays: for values that are typed.


def _shape(of: Any) -> tuple[int, ...]:
    shape = tuple(int(size) for size in np.atleast_1d(of))
    if any(size < 0 for size in shape):
        raise ValueError(f"{list(shape)} is not a shape")
    return shape


def _filling(shape: Any, *rest: Any) -> int:
    return math.prod(_shape(shape))


def _square(size: Any) -> int:
    count = _shape(size)[0]
    return count * count


def _bounds(bounds: tuple[Any, ...]) -> list[Any]:
    found = [np.asarray(bound).item() for bound in bounds]
    if not all(isinstance(each, int | float) and math.isfinite(each) for each in found):
        raise ValueError("the bounds of a range are finite numbers")
    return found


def _steps(*bounds: Any) -> int:
    found = _bounds(bounds)
    start, stop, step = (0, found[0], 1) if len(found) == 1 else (*found, 1)[:3]
    count: int = math.ceil((stop - start) / step)
    return max(0, count)


def _arange(*bounds: Any) -> Any:
    return np.arange(*_bounds(bounds))


def _reshaped(value: Any, shape: Any) -> Any:
    return np.reshape(value, tuple(int(size) for size in np.atleast_1d(shape)))


def _like(make: Callable[..., Any]) -> Callable[..., Any]:
    return lambda like, *rest: make(np.asarray(like), *rest)


MAKERS: dict[str, Function] = {
    "zeros": Function(lambda shape: np.zeros(_shape(shape)), makes=_filling),
    "ones": Function(lambda shape: np.ones(_shape(shape)), makes=_filling),
    "full": Function(lambda shape, value: np.full(_shape(shape), value), 2, 2, makes=_filling, strings=True),
    "eye": Function(
        lambda size: np.eye(_shape(size)[0]), makes=lambda size: _shape(size)[0] * _shape(size)[0]
    ),
    "arange": Function(_arange, 1, 3, makes=_steps),
    "zeros_like": Function(_like(np.zeros_like)),
    "ones_like": Function(_like(np.ones_like)),
    "full_like": Function(_like(np.full_like), 2, 2, strings=True),
    "transpose": Function(np.transpose, 1, 2),
    "reshape": Function(_reshaped, 2, 2),
    "complex": Function(lambda *parts: complex(*(np.asarray(each).item() for each in parts)), 1, 2),
}
