"""What expressions may call and ask for: functions of NumPy whose results are no larger than what they are given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

_AXIS = ("axis", "keepdims")


class Function(NamedTuple):
    """A function of the table: how it is called, with how many arguments by position, and which by name."""

    call: Callable[..., Any]
    least: int = 1
    most: int = 1
    keywords: tuple[str, ...] = ()


def _all_of(test: Callable[[Any], Any]) -> Callable[[Any], bool]:
    """Whether any element of a tensor, or of any of several, is so; whole numbers never are."""

    def any_is(value: Any) -> bool:
        if isinstance(value, tuple):
            return any(map(any_is, value))
        array = np.asarray(value)
        if array.dtype.kind in "biuOSU":
            return False
        return bool(test(array if array.dtype.kind in "fc" else array.astype(np.float32)).any())

    return any_is


def _length(value: Any) -> int:
    return len(value)


def _norm(value: Any) -> Any:
    return np.sqrt(np.sum(np.square(np.abs(np.asarray(value, np.float64)))))


_ELEMENTWISE = (
    "abs", "sqrt", "square", "exp", "expm1", "log", "log1p", "log2", "log10", "sin", "cos", "tan", "tanh", "sign", "floor",
    "ceil", "isnan", "isinf", "isfinite", "real", "imag", "angle", "logical_not",
)  # fmt: skip
_PAIRS = ("maximum", "minimum", "logical_and", "logical_or", "isclose", "array_equal", "allclose", "arctan2")
_REDUCTIONS = (
    "max", "min", "mean", "sum", "prod", "std", "var", "any", "all", "nanmax", "nanmin", "nanmean", "nansum", "ptp", "median",
    "count_nonzero",
)  # fmt: skip
_BY_AXIS = ("argmax", "argmin", "cumsum", "sort")

FUNCTIONS: dict[str, Function] = {
    **{name: Function(getattr(np, name)) for name in _ELEMENTWISE},
    **{name: Function(getattr(np, name), 2, 2) for name in _PAIRS},
    **{name: Function(getattr(np, name), 1, 2, _AXIS) for name in _REDUCTIONS},
    **{name: Function(getattr(np, name), 1, 2, ("axis",)) for name in _BY_AXIS},
    "round": Function(np.round, 1, 2),
    "clip": Function(np.clip, 3, 3),
    "where": Function(np.where, 3, 3),
    "quantile": Function(np.quantile, 2, 2),
    "percentile": Function(np.percentile, 2, 2),
    "diff": Function(np.diff),
    "ravel": Function(np.ravel),
    "norm": Function(_norm),
    "len": Function(_length),
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
