"""Nested structures: lists, tuples, named tuples and dicts with anything at the leaves.

Dicts are walked in the order of their sorted keys (in their own order where keys cannot be compared), so that equal dicts flatten
equally.  Strings, arrays and all other objects are leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any


def is_nested(value: Any) -> bool:
    """Whether `value` is a list, a tuple or a dict rather than a leaf."""
    return isinstance(value, (list, tuple, Mapping))


def is_sequence(value: Any) -> bool:
    """TensorFlow 1's name for `is_nested`."""
    return is_nested(value)


def _keys(mapping: Mapping[Any, Any]) -> list[Any]:
    try:
        return sorted(mapping)
    except TypeError:
        return list(mapping)


def _children(value: Any) -> Iterable[Any]:
    return [value[key] for key in _keys(value)] if isinstance(value, Mapping) else value


def _flatten_into(value: Any, flat: list[Any]) -> None:
    if is_nested(value):
        for child in _children(value):
            _flatten_into(child, flat)
    else:
        flat.append(value)


def flatten(structure: Any) -> list[Any]:
    """The leaves, in order; a leaf alone gives a list of one."""
    flat: list[Any] = []
    _flatten_into(structure, flat)
    return flat


def _rebuild(like: Any, children: list[Any]) -> Any:
    """A container of the kind of `like`, with these children (in the order of `_children`)."""
    if isinstance(like, Mapping):
        by_key = dict(zip(_keys(like), children, strict=True))
        ordered = {key: by_key[key] for key in like}
        if type(like) is dict:
            return ordered
        if hasattr(like, "default_factory"):  # a defaultdict takes its factory first
            return type(like)(like.default_factory, ordered)  # type: ignore[call-arg]
        return type(like)(ordered)  # type: ignore[call-arg]
    if isinstance(like, tuple) and hasattr(like, "_fields"):
        return type(like)(*children)
    return type(like)(children)


def _pack(structure: Any, leaves: Iterator[Any]) -> Any:
    if not is_nested(structure):
        return next(leaves)
    return _rebuild(structure, [_pack(child, leaves) for child in _children(structure)])


def pack_sequence_as(structure: Any, flat_sequence: Sequence[Any]) -> Any:
    """`flat_sequence`, put into the form of `structure`.  Raises ValueError if the number of leaves differs."""
    if not isinstance(flat_sequence, (list, tuple)):
        raise TypeError(f"flat_sequence must be a list or tuple, not {type(flat_sequence).__name__}")
    wanted = len(flatten(structure))
    if wanted != len(flat_sequence):
        raise ValueError(
            f"the structure has {wanted} leaves, but {len(flat_sequence)} values were given: {structure!r}"
        )
    return _pack(structure, iter(flat_sequence))


def map_structure(function: Callable[..., Any], *structures: Any, check_types: bool = True) -> Any:
    """The first structure with ``function(*leaves)`` at each place.  Raises as `assert_same_structure` does."""
    if not structures:
        raise ValueError("map_structure needs at least one structure")
    for other in structures[1:]:
        assert_same_structure(structures[0], other, check_types=check_types)
    columns = [flatten(structure) for structure in structures]
    return pack_sequence_as(structures[0], [function(*row) for row in zip(*columns, strict=True)])


def assert_same_structure(nest1: Any, nest2: Any, check_types: bool = True) -> None:
    """Raises ValueError if the two are not nested alike (other lengths or keys), TypeError if only container types differ."""
    _assert_same(nest1, nest2, check_types, "")


def _assert_same(a: Any, b: Any, check_types: bool, where: str) -> None:
    place = f" at {where}" if where else ""
    if is_nested(a) != is_nested(b):
        raise ValueError(f"the structures differ{place}: {a!r} against {b!r}")
    if not is_nested(a):
        return
    if isinstance(a, Mapping) != isinstance(b, Mapping):
        raise (TypeError if check_types else ValueError)(
            f"the structures differ{place}: a {type(a).__name__} against a {type(b).__name__}"
        )
    if check_types and type(a) is not type(b) and not _same_kind(a, b):
        raise TypeError(f"the structures differ{place}: a {type(a).__name__} against a {type(b).__name__}")
    if isinstance(a, Mapping):
        if set(a) != set(b):
            raise ValueError(f"the structures differ{place}: keys {_keys(a)} against {_keys(b)}")
        for key in _keys(a):
            _assert_same(a[key], b[key], check_types, f"{where}[{key!r}]")
        return
    if len(a) != len(b):
        raise ValueError(
            f"the structures differ{place}: {len(a)} items against {len(b)}: {a!r} against {b!r}"
        )
    for i, (x, y) in enumerate(zip(a, b, strict=True)):
        _assert_same(x, y, check_types, f"{where}[{i}]")


def _same_kind(a: Any, b: Any) -> bool:
    """Dicts of any kind are alike, and so are named tuples of one name and fields, as in TensorFlow."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return True
    fields = getattr(a, "_fields", None)
    return (
        fields is not None and type(a).__name__ == type(b).__name__ and fields == getattr(b, "_fields", None)
    )
