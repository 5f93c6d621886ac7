"""Arrays as TensorProto messages and back.

TensorFlow writes an array as raw bytes (`tensor_content`), or in a list of the dtype's own; a list that is too short says that
its last value fills the rest.  All of it is read; what is written is bytes, or the one value of an array that holds nothing
else.
"""

from __future__ import annotations

import sys
from typing import Any, TypeAlias

import numpy as np

from engine.types.dtypes import DType, as_dtype
from engine.types.shape import TensorShape

Array: TypeAlias = "np.ndarray[Any, Any]"

# The field that holds each dtype's values, and the type in which they stand there.  float16 and bfloat16 are kept as bits.
_FIELDS: dict[str, tuple[str, Any]] = {
    "float32": ("float_val", np.float32),
    "float64": ("double_val", np.float64),
    "int32": ("int_val", np.int32),
    "int16": ("int_val", np.int16),
    "int8": ("int_val", np.int8),
    "uint16": ("int_val", np.uint16),
    "uint8": ("int_val", np.uint8),
    "float16": ("half_val", np.uint16),
    "bfloat16": ("half_val", np.uint16),
    "int64": ("int64_val", np.int64),
    "uint32": ("uint32_val", np.uint32),
    "uint64": ("uint64_val", np.uint64),
    "bool": ("bool_val", np.bool_),
    "complex64": ("scomplex_val", np.float32),
    "complex128": ("dcomplex_val", np.float64),
    "string": ("string_val", object),
}


def tensor_to_proto(array: Any) -> Any:
    """`array` (strings as objects of bytes) as a TensorProto.  Raises TypeError for a dtype that has no such form."""
    from tensorboard.compat.proto.tensor_pb2 import TensorProto

    array = np.asarray(array)
    dtype = as_dtype(array.dtype)
    array = array.astype(dtype.np_dtype, copy=False)  # the machine's byte order
    proto = TensorProto(dtype=dtype.as_datatype_enum, tensor_shape=TensorShape.of(array.shape).as_proto())
    if array.size == 0:
        return proto
    if dtype.name == "string":
        values = [_as_bytes(item) for item in array.ravel().tolist()]
        proto.string_val.extend(values[:1] if values.count(values[0]) == len(values) else values)
        return proto
    flat = np.ascontiguousarray(array).reshape(-1)
    content = flat.tobytes()
    if array.size == 1 or content == content[: flat.itemsize] * flat.size:
        field, stored = _FIELDS[dtype.name]
        getattr(proto, field).extend(flat[:1].view(stored).tolist())
    else:
        proto.tensor_content = content if sys.byteorder == "little" else flat.byteswap().tobytes()
    return proto


def _as_bytes(item: Any) -> bytes:
    if isinstance(item, str):
        return item.encode()
    if not isinstance(item, bytes):
        raise TypeError(f"a string tensor holds bytes, not {item!r}")
    return item


def proto_to_array(proto: Any) -> Array:
    """The array that a TensorProto stands for: fresh and writable, strings as objects of bytes.

    Raises TypeError for a dtype that has no array, ValueError for an unknown shape or values that do not fill it.
    """
    dtype = as_dtype(proto.dtype) if proto.dtype else None
    if dtype is None or dtype.base_dtype.name not in _FIELDS:
        raise TypeError(f"a TensorProto of dtype {dtype.name if dtype else 'DT_INVALID'} has no array")
    shape = TensorShape(proto.tensor_shape)
    if not shape.is_fully_defined():
        raise ValueError(f"a TensorProto must have a known shape, not {shape}")
    dims: Any = shape.dims_or_none
    return _values(proto, dtype.base_dtype, shape.num_elements() or 0, shape).reshape(dims)


def _values(proto: Any, dtype: DType, count: int, shape: TensorShape) -> Array:
    field, stored = _FIELDS[dtype.name]
    if proto.tensor_content:
        size = len(proto.tensor_content)
        if dtype.name == "string" or size != count * dtype.np_dtype.itemsize:
            raise ValueError(f"{size} bytes of content are no {dtype.name} tensor of shape {shape}")
        return np.frombuffer(proto.tensor_content, dtype.np_dtype.newbyteorder("<")).astype(dtype.np_dtype)
    listed = getattr(proto, field)
    if dtype.name == "string":
        found: Array = np.empty(len(listed), object)
        found[:] = list(listed)
    else:
        found = np.array(listed, dtype=np.int64 if field == "half_val" else None)
        found = found.astype(stored) if len(listed) else np.empty(0, stored)
        if stored != dtype.np_dtype:  # bits of a half, or real and imaginary parts
            if dtype.is_complex and len(listed) % 2:
                raise ValueError(f"{len(listed)} numbers are no pairs of real and imaginary parts")
            found = found.view(dtype.np_dtype)
    if found.size > count:
        raise ValueError(f"{found.size} values are too many for a tensor of shape {shape}")
    if found.size < count:
        rest: Array = np.empty(count, dtype.np_dtype)
        rest[: found.size] = found
        rest[found.size :] = found[-1] if found.size else (b"" if dtype.name == "string" else 0)
        return rest
    return found


def make_tensor_proto(
    values: Any,
    dtype: Any = None,
    shape: Any = None,
    verify_shape: bool = False,
    allow_broadcast: bool = False,
) -> Any:
    """TensorFlow 1's `make_tensor_proto`: `values` (as for `constant`) as a TensorProto.

    `shape` is the result's; a single value fills it, with `allow_broadcast` or not.  A TensorProto is given back as it is.
    Raises TypeError where values and dtype (or, with `verify_shape`, shape) disagree, ValueError for values that do not fit
    the shape.
    """
    from engine.op.const import shaped, to_array

    if hasattr(values, "tensor_shape") and hasattr(values, "tensor_content"):
        return values
    del allow_broadcast
    array = to_array(values, None if dtype is None else as_dtype(dtype))
    return tensor_to_proto(array if shape is None else shaped(array, TensorShape(shape), verify_shape))


make_ndarray = proto_to_array
