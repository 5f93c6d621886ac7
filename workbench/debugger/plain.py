"""Dataclasses to plain dictionaries and back, checked: what goes over the socket, and what `--json` prints.

Nothing is executed and nothing is trusted: `decode` builds only the dataclass that it was asked for, out of strings, numbers,
booleans, None, lists and dictionaries, and raises `PlainError` where the data does not fit the type hints.

A snapshot has thousands of fields and is made for every key press, so for each type hint a function is made once.
"""

from __future__ import annotations

import dataclasses
import enum
import math
import types
import typing
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")
Reader = Callable[[Any], Any]

_PLAIN = (str, int, bool, type(None))


class PlainError(ValueError):
    """Data that does not fit the schema; the message says where and what was expected."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def within(self, where: str) -> PlainError:
        """The same, found in a part that is called `where` of something larger."""
        self.problem = where + (self.problem if self.problem.startswith((".", "[")) else f": {self.problem}")
        self.args = (self.problem,)
        return self


def encode(value: Any) -> Any:
    """`value` as dictionaries, lists, strings, numbers, booleans and None.

    A float that JSON has no name for (NaN, an infinity) becomes None.
    """
    kind: Any = type(value)
    if kind in _PLAIN:
        return value
    if kind is float:
        return value if math.isfinite(value) else None
    if kind is tuple or kind is list:
        return [encode(item) for item in value]
    fields = _fields(kind)
    if fields:
        return {name: encode(getattr(value, name)) for name in fields}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, dict):
        return {str(key): encode(item) for key, item in value.items()}
    raise TypeError(f"{kind.__name__} has no plain form: {value!r}")


def terse(value: Any) -> Any:
    """As `encode`, but for fields that have what they have by default: `decode` does without them."""
    kind: Any = type(value)
    if kind in _PLAIN:
        return value
    if kind is tuple or kind is list:
        return [terse(item) for item in value]
    fields = _defaults(kind)
    if not fields:
        return encode(value)
    found = {}
    for name, default in fields:
        item = getattr(value, name)
        if item is not default:
            found[name] = item if type(item) in _PLAIN else terse(item)
    return found


def decode(cls: type[T], data: Any) -> T:
    """The `cls` (a dataclass) that `data` describes; fields that `cls` gives a default may be missing, unknown ones are ignored.

    Raises `PlainError` where a field is missing or has the wrong type.
    """
    try:
        made: T = _reader(typing.cast(Any, cls))(data)
    except PlainError as error:
        raise error.within(cls.__name__) from None
    return made


@cache
def _fields(cls: Any) -> tuple[str, ...]:
    if not dataclasses.is_dataclass(cls):
        return ()
    return tuple(field.name for field in dataclasses.fields(cls))


@cache
def _defaults(cls: Any) -> tuple[tuple[str, Any], ...]:
    """The fields of a dataclass and what they have by default, `MISSING` for none."""
    return tuple((field.name, field.default) for field in dataclasses.fields(cls)) if _fields(cls) else ()


@cache
def _reader(hint: Any) -> Reader:
    """What turns plain data into a value of type `hint`, or raises PlainError."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        (inner,) = (arg for arg in typing.get_args(hint) if arg is not type(None))
        read = _reader(inner)
        return lambda data: None if data is None else read(data)
    if origin is tuple:
        return _tuple_reader(typing.get_args(hint)[0])
    if dataclasses.is_dataclass(hint):
        return _object_reader(hint)
    if issubclass(hint, enum.Enum):
        return _enum_reader(hint)
    return _plain_reader(hint)


def _plain_reader(kind: type[Any]) -> Reader:
    def read(data: Any) -> Any:
        found = type(data)
        if found is kind:
            return data
        if kind is float and found is int:
            return float(data)
        raise PlainError(f"expected {kind.__name__}, got {found.__name__}")

    return read


def _enum_reader(kind: type[enum.Enum]) -> Reader:
    known = {member.value: member for member in kind}

    def read(data: Any) -> Any:
        found = known.get(data) if isinstance(data, str) else None
        if found is None:
            raise PlainError(f"{data!r:.80} is none of {', '.join(map(repr, known))}")
        return found

    return read


def _tuple_reader(item: Any) -> Reader:
    read_item = _reader(item)

    def read(data: Any) -> Any:
        if type(data) is not list:
            raise PlainError(f"expected a list, got {type(data).__name__}")
        try:
            return tuple([read_item(entry) for entry in data])
        except PlainError:
            pass  # once more, to say which
        for index, entry in enumerate(data):
            try:
                read_item(entry)
            except PlainError as error:
                raise error.within(f"[{index}]") from None
        raise AssertionError

    return read


def _object_reader(cls: Any) -> Reader:
    hints = typing.get_type_hints(cls)
    fields = dataclasses.fields(cls)
    readers = [(field.name, _reader(hints[field.name])) for field in fields]
    needed = {
        field.name
        for field in fields
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }

    def read(data: Any) -> Any:
        if type(data) is not dict:
            raise PlainError(f"expected an object, got {type(data).__name__}")
        given = {}
        for name, read_field in readers:
            if name in data:
                try:
                    given[name] = read_field(data[name])
                except PlainError as error:
                    raise error.within(f".{name}") from None
            elif name in needed:
                raise PlainError(f".{name} is missing")
        return cls(**given)

    return read
