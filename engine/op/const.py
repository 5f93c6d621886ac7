"""Const, and what becomes one: Python numbers, strings, lists, NumPy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.graph.convert import register_tensor_conversion_function
from engine.graph.default import get_default_graph
from engine.graph.tensor import Tensor
from engine.op.registry import ANY, NotDifferentiable, op, raw
from engine.op.samples import untested
from engine.types import dtypes, site
from engine.types.dtypes import DType, as_dtype
from engine.types.shape import Dimension, TensorShape, as_shape

__all__ = ["constant"]


def _const_shape(node: Any) -> TensorShape:
    return TensorShape.of(node.attrs["value"].shape)


const = op(
    "Const(; value: tensor, dtype: type) -> output: dtype",
    kernel=lambda k: np.asarray(k.attrs["value"]),
    shape=_const_shape,
    grad=NotDifferentiable,
    samples=untested("tests/op/test_const.py"),
    memory=ANY,
)


def constant(
    value: Any, dtype: Any = None, shape: Any = None, name: str = "Const", verify_shape: bool = False
) -> Tensor:
    """A constant tensor, as TensorFlow 1's `tf.constant`.

    value: a number, string, bool, nested list of them, or array.  dtype: of the result; None: float32 for Python floats, int32
    for Python ints that fit (else int64), an array's own.  shape: the result's; a single value fills it, and the last value of
    a list that is too short fills the rest.  Raises TypeError where value and dtype disagree, ValueError for ragged lists, too
    many values, or (verify_shape) a value of another shape.
    """
    array = to_array(value, None if dtype is None else as_dtype(dtype))
    if shape is not None:
        array = shaped(array, as_shape(shape), verify_shape)
    return _add_const(array, name)


def _add_const(array: Any, name: str | None) -> Tensor:
    array.setflags(write=False)
    dtype = as_dtype(array.dtype)
    graph = get_default_graph()
    full_name = graph._full_name(name or "Const")
    attrs = {"value": array, "dtype": dtype}
    return graph._add(const, full_name, (), attrs, (dtype,), site.stack(skip=2)).outputs[0]


def shaped(array: Any, shape: TensorShape, verify: bool) -> Any:
    if not shape.is_fully_defined():
        raise ValueError(f"A constant needs a fully defined shape, not {shape}")
    dims: Any = tuple(shape.as_list())
    if array.shape == dims:
        return array
    if verify:
        raise TypeError(f"Expected a value of shape {shape}, got one of shape {TensorShape(array.shape)}")
    count = int(np.prod(dims, dtype=np.int64))
    if count == 0:  # TensorFlow takes any value here, as it is not used
        return np.empty(dims, array.dtype)
    if array.size > count:
        raise ValueError(f"Too many values: shape {shape} holds {count} elements, {array.size} were given")
    if array.size == 0:
        raise ValueError(f"No values to fill the shape {shape} with")
    flat = array.reshape(-1)
    result = np.empty(count, array.dtype)
    result[: flat.size] = flat
    result[flat.size :] = flat[-1]
    return result.reshape(dims)


def to_array(value: Any, dtype: DType | None) -> Any:
    """`value` as a fresh NumPy array of `dtype` (None: TensorFlow's choice), strings as objects of bytes.

    Raises TypeError where the elements do not fit `dtype`, ValueError for ragged lists.
    """
    if dtype is not None:
        dtype = dtype.base_dtype
    kind = type(value)
    if (
        kind is float and (dtype is None or dtype is dtypes.float32) and -1e38 < value < 1e38
    ):  # the most frequent cases first
        return np.array(value, np.float32)
    if kind is int and dtype is not None and (dtype.is_floating or dtype is dtypes.int32 or dtype.is_complex):
        return _exact_int(value, dtype)
    if isinstance(value, np.ndarray | np.generic):
        return _from_array(np.asarray(value), dtype)
    if isinstance(value, Tensor):
        raise TypeError(f"'{value.name}' is a Tensor; a constant is made of values known now")
    if isinstance(value, TensorShape):
        if not value.is_fully_defined():
            raise ValueError(f"Cannot convert a partially known TensorShape {value} to a Tensor")
        value = value.as_list()
        dtype = dtype or dtypes.int32
    if isinstance(value, DType):
        value = value.as_datatype_enum
    return _from_python(value, dtype)


def _exact_int(value: int, dtype: DType) -> Any:
    try:
        return np.array(value, dtype.np_dtype)
    except OverflowError:
        raise TypeError(f"The value {value} does not fit dtype {dtype.name}") from None


def _from_array(array: Any, dtype: DType | None) -> Any:
    if array.dtype.kind in "US" or array.dtype == object:
        if dtype is not None and dtype is not dtypes.string:
            raise TypeError(f"Expected {dtype.name}, got an array of strings")
        return _bytes_array(array)
    wanted = as_dtype(array.dtype).np_dtype if dtype is None else dtype.np_dtype
    if dtype is dtypes.string:
        raise TypeError(f"Expected string, got an array of {array.dtype}")
    return np.array(array, wanted, order="C")  # always a copy: the user may change his


def _bytes_array(array: Any) -> Any:
    result = np.empty(array.shape, object)
    for i, item in np.ndenumerate(array):
        result[i] = _as_bytes(item)
    return result


def _as_bytes(item: Any) -> bytes:
    if isinstance(item, str):
        return item.encode()
    if isinstance(item, bytes | np.bytes_):
        return bytes(item)
    raise TypeError(f"Expected string, got {item!r} of type {type(item).__name__}")


def _plain(value: Any) -> Any:
    """Nested lists with Dimension objects and arrays inside made plain."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Dimension):
        return value.value
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return value


_KINDS: tuple[tuple[str, tuple[type, ...]], ...] = (
    ("bool", (bool,)),
    ("integer", (bool, int)),
    ("floating", (bool, int, float)),
    ("complex", (bool, int, float, complex)),
)


def _leaves(value: Any) -> Any:
    if isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _from_python(value: Any, dtype: DType | None) -> Any:
    plain = _plain(value)
    leaves = list(_leaves(plain))
    kinds = {type(leaf) for leaf in leaves}
    if dtype is None:
        dtype = _guess(value, plain, leaves, kinds)
    _check_kinds(leaves, dtype)
    if dtype is dtypes.string:
        ragged = np.array(plain, dtype=object)
        if any(isinstance(item, list) for item in ragged.reshape(-1)):
            raise ValueError(f"Cannot make a tensor of a ragged list: {_short(value)}")
        return _bytes_array(ragged)
    try:
        with np.errstate(over="ignore"):  # a float too large for the dtype is infinite in it
            return np.array(plain, dtype.np_dtype)
    except OverflowError:
        raise TypeError(f"A value in {_short(value)} does not fit dtype {dtype.name}") from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"Cannot make a tensor of {_short(value)}: {error}") from None


def _guess(value: Any, plain: Any, leaves: list[Any], kinds: set[type]) -> DType:
    """TensorFlow's choice of dtype for Python values."""
    arrays = [item.dtype for item in _leaves(value) if isinstance(item, np.ndarray | np.generic)]
    if arrays and arrays[0].kind not in "USO":
        return as_dtype(np.result_type(*arrays))
    if not leaves:
        return dtypes.float32
    if kinds <= {bool}:
        return dtypes.bool_
    if kinds <= {int, bool}:
        fits = all(-(2**31) <= leaf < 2**31 for leaf in leaves)
        return dtypes.int32 if fits else dtypes.int64
    if kinds <= {float, int, bool}:
        return dtypes.float32
    if kinds <= {complex, float, int, bool}:
        return dtypes.complex128
    if kinds <= {str, bytes}:
        return dtypes.string
    plain_types = (str, bytes) if isinstance(leaves[0], str | bytes) else (bool, int, float, complex)
    odd = next(leaf for leaf in leaves if not isinstance(leaf, plain_types))
    raise TypeError(f"Cannot make a tensor of {_short(value)}: it holds {odd!r} of type {type(odd).__name__}")


def _check_kinds(leaves: list[Any], dtype: DType) -> None:
    """Raise TypeError where a Python value may not become `dtype`, as TensorFlow does."""
    if dtype is dtypes.string:
        accepted: tuple[type, ...] = (str, bytes)
    elif dtype.is_bool:
        accepted = (bool,)
    elif dtype.is_integer:
        accepted = (int,)
    elif dtype.is_complex:
        accepted = (int, float, complex)
    else:
        accepted = (int, float)
    for leaf in leaves:
        if not isinstance(leaf, accepted) or (isinstance(leaf, bool) and not dtype.is_bool):
            raise TypeError(f"Expected {dtype.name}, got {leaf!r} of type '{type(leaf).__name__}' instead.")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _convert(value: Any, dtype: Any = None, name: str | None = None, as_ref: bool = False) -> Any:
    del as_ref
    return _add_const(to_array(value, dtype), name)


def _has_tensor(value: Any) -> bool:
    return any(
        _has_tensor(item)
        if isinstance(item, list | tuple)
        else isinstance(getattr(item, "dtype", None), DType)
        for item in value
    )


def _convert_list(value: Any, dtype: Any = None, name: str | None = None, as_ref: bool = False) -> Any:
    """A list becomes a constant, or a Pack where some items are tensors."""
    if not _has_tensor(value):
        return _convert(value, dtype, name, as_ref)
    if dtype is None:
        dtype = next(
            item.dtype.base_dtype
            for item in _leaves(value)
            if isinstance(getattr(item, "dtype", None), DType)
        )
    return _packed(value, dtype, name or "packed")


def _packed(value: Any, dtype: Any, name: str) -> Any:
    """A Pack of `value`; what is no tensor in it becomes a constant beneath the Pack, named by its position, as in TensorFlow."""
    with get_default_graph().name_scope(name) as scope:
        items = list(value)
        for i, item in enumerate(items):
            if isinstance(item, list | tuple) and _has_tensor(item):
                items[i] = _packed(item, dtype, str(i))
        for i, item in enumerate(items):
            if not isinstance(getattr(item, "dtype", None), DType):
                items[i] = _convert(item, dtype, str(i))
        return raw.Pack(items, T=dtype, axis=0, name=scope)


register_tensor_conversion_function((list, tuple), _convert_list, 100)
register_tensor_conversion_function((np.ndarray, np.generic), _convert, 100)
register_tensor_conversion_function((TensorShape, Dimension), _convert, 100)
register_tensor_conversion_function((object,), _convert, 200)
