"""Turning what a user passes into tensors: numbers, arrays, lists, variables, slices, and types the user registers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from engine.graph.default import get_default_graph
from engine.graph.tensor import Tensor
from engine.types.dtypes import DType, as_dtype

Conversion = Callable[..., Any]

_conversions: list[tuple[int, Any, Conversion]] = []
_cache: dict[type, list[Conversion]] = {}


def register_tensor_conversion_function(
    base_type: Any, conversion_func: Conversion, priority: int = 100
) -> None:
    """Use ``conversion_func(value, dtype=None, name=None, as_ref=False)`` for values of `base_type` (a type or tuple of types).

    Lower priorities are asked first; a function may return NotImplemented to pass.  Raises TypeError for what is no type.
    """
    types = base_type if isinstance(base_type, tuple) else (base_type,)
    if not types or not all(isinstance(each, type) for each in types):
        raise TypeError(f"base_type must be a type or a tuple of types, not {base_type!r}")
    if not callable(conversion_func):
        raise TypeError("conversion_func must be callable")
    _conversions.append((priority, types, conversion_func))
    _conversions.sort(key=lambda entry: entry[0])
    _cache.clear()


def _conversions_for(kind: type) -> list[Conversion]:
    found = _cache.get(kind)
    if found is None:
        found = _cache[kind] = [function for _, types, function in _conversions if issubclass(kind, types)]
    return found


def convert_to_tensor(
    value: Any,
    dtype: Any = None,
    name: str | None = None,
    preferred_dtype: Any = None,
    as_ref: bool = False,
) -> Tensor:
    """`value` as a Tensor of the default graph: itself, or a Const or whatever its type's conversion function builds.

    dtype is required of the result; preferred_dtype is tried first where `dtype` is None.  Raises TypeError where the type
    cannot be converted or dtypes disagree, ValueError where the conversion says so.
    """
    wanted = None if dtype is None else as_dtype(dtype)
    if isinstance(value, Tensor):
        if wanted is not None and not wanted.is_compatible_with(value.dtype):
            raise ValueError(
                f"Tensor conversion requested dtype {wanted.name} for Tensor with dtype {value.dtype.name}: {value!r}"
            )
        return _inside(value)
    for function in _conversions_for(type(value)):
        if wanted is None and preferred_dtype is not None:
            try:
                result = function(value, dtype=as_dtype(preferred_dtype), name=name, as_ref=as_ref)
            except (TypeError, ValueError):
                result = NotImplemented
            if result is not NotImplemented:
                return _checked(result, value, None)
        result = function(value, dtype=wanted, name=name, as_ref=as_ref)
        if result is not NotImplemented:
            return _checked(result, value, wanted)
    raise TypeError(f"Cannot convert {value!r} of type {type(value).__name__} to a Tensor")


def _checked(result: Any, value: Any, dtype: DType | None) -> Tensor:
    if not isinstance(result, Tensor):
        raise TypeError(
            f"The conversion function for {type(value).__name__} returned {result!r}, which is no Tensor"
        )
    if dtype is not None and result.dtype is not dtype and not dtype.is_compatible_with(result.dtype):
        raise TypeError(
            f"The conversion of {value!r} gave dtype {result.dtype.name} where {dtype.name} was asked for"
        )
    return _inside(result)


def _inside(tensor: Tensor) -> Tensor:
    """`tensor`; in a function's body, what stands there for one from outside."""
    graph = get_default_graph()
    return graph.capture(tensor) if graph._building_function else tensor


def internal_convert_to_tensor_or_indexed_slices(
    value: Any, dtype: Any = None, name: str | None = None
) -> Any:
    """As `convert_to_tensor`, but IndexedSlices stay what they are."""
    from engine.graph.indexed_slices import IndexedSlices

    if isinstance(value, IndexedSlices):
        if dtype is not None and not as_dtype(dtype).is_compatible_with(value.dtype):
            raise ValueError(
                f"IndexedSlices of dtype {value.dtype.name} where {as_dtype(dtype).name} was asked for"
            )
        return value
    return convert_to_tensor(value, dtype, name)


convert_to_tensor_or_indexed_slices = internal_convert_to_tensor_or_indexed_slices


def convert_n_to_tensor(values: Sequence[Any], dtype: Any = None, name: str | None = None) -> list[Tensor]:
    """Each of `values` as a Tensor; with `name`, the i-th is named ``name_i``."""
    return [
        convert_to_tensor(value, dtype, None if name is None else f"{name}_{i}")
        for i, value in enumerate(values)
    ]
