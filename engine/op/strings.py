"""Strings: StringJoin and AsString."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from engine.op.kernels import invalid, shape_text
from engine.op.registry import NotDifferentiable, op, raw
from engine.op.samples import Sample, random_array
from engine.op.shapes import unchanged
from engine.types import dtypes
from engine.types.dtypes import DType
from engine.types.shape import TensorShape

__all__ = ["as_string", "string_join"]


def _join(k: Any, *inputs: Any) -> Any:
    separator = k.attrs["separator"].encode("utf-8", "surrogateescape")
    shapes = [value.shape for value in inputs if value.ndim]
    for shape in shapes[1:]:
        if shape != shapes[0]:
            raise invalid(
                f"Input shapes do not match: {shape_text(shapes[0])} vs. {shape_text(shape)}; only scalars are joined "
                "to every element"
            )
    result = np.empty(shapes[0] if shapes else (), object)
    wide = [np.broadcast_to(value, result.shape) for value in inputs]
    for position in np.ndindex(*result.shape):
        result[position] = separator.join([value[position] for value in wide])
    return result


def _join_shape(node: Any) -> TensorShape:
    merged = TensorShape.of(())
    for tensor in node.inputs:
        shape = tensor.shape
        if shape.ndims is None:
            return TensorShape.of(None)
        if shape.ndims:
            merged = shape if not merged.ndims else merged.merge_with(shape)
    return merged


def _joins(rng: np.random.Generator, dtype: DType | None) -> Iterator[Sample]:
    def words(*dims: int) -> Any:
        return random_array(rng, dtypes.string, dims)

    yield Sample([words(2, 3), words(2, 3)], attrs={"separator": ", "})
    yield Sample([words(), words(3), words()])
    yield Sample([words()], attrs={"separator": "-"})
    yield Sample([words(0, 2), words()])


def _join_reference(values: Sequence[Any], separator: str = "", **_: Any) -> Any:
    between = np.array(separator.encode(), object)
    total = values[0]
    for value in values[1:]:
        total = total + between + value  # NumPy adds objects, here bytes, one by one
    return np.asarray(total, object)


op(
    "StringJoin(inputs: N * string; N: int >= 0, separator: string = '') -> output: string",
    kernel=_join,
    shape=_join_shape,
    grad=NotDifferentiable,
    samples=_joins,
    reference=_join_reference,
)


def _as_string(k: Any, x: Any) -> Any:
    attrs = k.attrs
    convert = _converter(
        k.op.attrs["T"],
        attrs["precision"],
        attrs["scientific"],
        attrs["shortest"],
        attrs["width"],
        attrs["fill"],
    )
    result = np.empty(x.shape, object)
    for position in np.ndindex(*x.shape):
        result[position] = convert(x[position]).encode()
    return result


def _converter(dtype: DType, precision: int, scientific: bool, shortest: bool, width: int, fill: str) -> Any:
    """The function from an element to text: C's %d, %f, %e or %g with these options, as TensorFlow prints."""
    if len(fill) > 1:
        raise invalid(f"Fill string must be one or fewer characters, not {fill!r}")
    if scientific and shortest:
        raise invalid("Cannot select both scientific and shortest notation")
    if dtype is dtypes.string:
        return lambda value: value.decode("utf-8", "surrogateescape")
    if dtype.is_bool:
        return lambda value: "true" if value else "false"
    flags = fill if fill in ("0", "-", "+", " ") else ""
    head = "%" + flags + (str(width) if width >= 0 else "")
    if dtype.is_integer:
        return lambda value: (head + "d") % int(value)
    style = (
        head + (f".{precision}" if precision >= 0 else "") + ("e" if scientific else "g" if shortest else "f")
    )
    if dtype.is_complex:
        return lambda value: f"({style % value.real},{style % value.imag})"
    return lambda value: style % float(value)


_STRING_SOURCES = (
    "{float32, float64, int32, uint8, int16, int8, int64, bfloat16, uint16, float16, uint32, uint64, complex64, complex128, "
    "bool, string}"
)


def _texts(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    yield Sample(random_array(rng, dtype, (2, 3)), grad=())
    yield Sample(random_array(rng, dtype, ()), grad=())
    yield Sample(random_array(rng, dtype, (0,)), grad=())
    if dtype.is_floating or dtype.is_complex:
        for options in (
            {"precision": 2},
            {"scientific": True},
            {"shortest": True},
            {"width": 12, "fill": "0"},
        ):
            yield Sample(random_array(rng, dtype, (3,)), attrs=options, grad=())
    elif dtype.is_integer:
        yield Sample(random_array(rng, dtype, (3,)), attrs={"width": 5, "fill": "0"}, grad=())


def _text_reference(
    x: Any,
    precision: int = -1,
    scientific: bool = False,
    shortest: bool = False,
    width: int = -1,
    fill: str = "",
    **_: Any,
) -> Any:
    """By `format` instead of the % operator."""

    def number(value: Any) -> str:
        kind = "e" if scientific else "g" if shortest else "f"
        digits = f".{precision}" if precision >= 0 else ""
        return format(float(value), f"{fill}{width if width >= 0 else ''}{digits}{kind}")

    def text(value: Any) -> str:
        if isinstance(value, bytes):
            return value.decode()
        if isinstance(value, bool | np.bool_):
            return str(bool(value)).lower()
        if isinstance(value, complex | np.complexfloating):
            return f"({number(value.real)},{number(value.imag)})"
        if isinstance(value, int | np.integer):
            return format(int(value), f"{fill}{width if width >= 0 else ''}d")
        return number(value)

    result = np.empty(x.shape, object)
    for position in np.ndindex(*x.shape):
        result[position] = text(x[position]).encode()
    return result


op(
    f"AsString(input: T; T: {_STRING_SOURCES}, precision: int = -1, scientific: bool = False, shortest: bool = False, "
    "width: int = -1, fill: string = '') -> output: string",
    kernel=_as_string,
    shape=unchanged,
    grad=NotDifferentiable,
    samples=_texts,
    reference=_text_reference,
)


def string_join(inputs: Sequence[Any], separator: str = "", name: str | None = None) -> Any:
    """The strings of the list `inputs` (tensors of one shape, or scalars) joined element by element with `separator` between."""
    return raw.StringJoin(list(inputs), separator=separator, name=name)


def as_string(
    input: Any,
    precision: int = -1,
    scientific: bool = False,
    shortest: bool = False,
    width: int = -1,
    fill: str = "",
    name: str | None = None,
) -> Any:
    """Each element of `input` as text: integers as C's %d prints them, bools as true and false, floating numbers as %f does.

    scientific: as %e; shortest: as %g; precision: digits after the point; width and fill: how wide, and with what in front.
    """
    return raw.AsString(
        input,
        precision=precision,
        scientific=scientific,
        shortest=shortest,
        width=width,
        fill=fill,
        name=name,
    )
