"""Dataclasses to plain dictionaries and back, checked: what goes over the socket, and what `--json` prints.

Nothing is executed and nothing is trusted: `decode` builds only the dataclass that it was asked for, out of strings, numbers,
booleans, None, lists and dictionaries, and raises `PlainError` where the data does not fit the type hints.
"""

from __future__ import annotations

import dataclasses
import enum
import math
import types
import typing
from collections.abc import Hashable
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")


class PlainError(ValueError):
    """Data that does not fit the schema; the message says where and what was expected."""


def encode(value: Any) -> Any:
    """`value` as dictionaries, lists, strings, numbers, booleans and None.

    A float that JSON has no name for (NaN, an infinity) becomes None.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: encode(getattr(value, name)) for name in _hints(type(value))}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    if isinstance(value, dict):
        return {str(key): encode(item) for key, item in value.items()}
    if value is None or isinstance(value, (str, int, bool)):
        return value
    raise TypeError(f"{type(value).__name__} has no plain form: {value!r}")


def decode(cls: type[T], data: Any, where: str = "") -> T:
    """The `cls` (a dataclass) that `data` describes; fields that `cls` gives a default may be missing, unknown ones are ignored.

    Raises `PlainError` where a field is missing or has the wrong type.
    """
    where = where or cls.__name__
    if not isinstance(data, dict):
        raise PlainError(f"{where}: expected an object, got {type(data).__name__}")
    given = {}
    hints = _hints(typing.cast(Any, cls))
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        if field.name in data:
            given[field.name] = _fit(hints[field.name], data[field.name], f"{where}.{field.name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise PlainError(f"{where}.{field.name} is missing")
    return cls(**given)


@cache
def _hints(cls: Hashable) -> dict[str, Any]:
    return typing.get_type_hints(typing.cast("type[Any]", cls))


def _fit(hint: Any, data: Any, where: str) -> Any:
    """`data` as a value of type `hint`."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        if data is None and type(None) in typing.get_args(hint):
            return None
        (inner,) = (arg for arg in typing.get_args(hint) if arg is not type(None))
        return _fit(inner, data, where)
    if origin is tuple:
        (item, _ellipsis) = typing.get_args(hint)
        if not isinstance(data, (list, tuple)):
            raise PlainError(f"{where}: expected a list, got {type(data).__name__}")
        return tuple(_fit(item, entry, f"{where}[{index}]") for index, entry in enumerate(data))
    if dataclasses.is_dataclass(hint):
        return decode(typing.cast("type[Any]", hint), data, where)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        try:
            return hint(data)
        except ValueError:
            raise PlainError(
                f"{where}: {data!r} is none of {', '.join(repr(m.value) for m in hint)}"
            ) from None
    if hint is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if not isinstance(data, hint) or (hint is not bool and isinstance(data, bool)):
        raise PlainError(f"{where}: expected {hint.__name__}, got {type(data).__name__}")
    return data
