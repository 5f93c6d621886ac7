"""Attrs of nodes as AttrValue messages and back.

In memory an attr is a Python value: DType, TensorShape, array, str, int, float, bool, or a tuple of these.  A function's name (a
NameAttrList, which only foreign graphs have) stays the message that it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.graph.tensor_proto import proto_to_array, tensor_to_proto
from engine.types.dtypes import DType, as_dtype
from engine.types.shape import TensorShape, as_shape

if TYPE_CHECKING:
    from engine.op.signature import AttrSpec


def _encode(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _read_tensor(proto: Any) -> np.ndarray[Any, Any]:
    array = proto_to_array(proto)
    array.setflags(write=False)
    return array


# kind -> the message's field, Python value -> field value, and back.
_KINDS: dict[str, tuple[str, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "string": ("s", _encode, _decode),
    "int": ("i", int, int),
    "float": ("f", float, float),
    "bool": ("b", bool, bool),
    "type": ("type", lambda dtype: dtype.as_datatype_enum, as_dtype),
    "shape": ("shape", lambda shape: as_shape(shape).as_proto(), TensorShape),
    "tensor": ("tensor", tensor_to_proto, _read_tensor),
    "func": ("func", lambda message: message, lambda message: message),
}
_READERS = {field: read for field, _, read in _KINDS.values()}

_KIND_OF_TYPE: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (DType, "type"),
    ((bool, np.bool_), "bool"),
    ((int, np.integer), "int"),
    ((float, np.floating), "float"),
    ((str, bytes), "string"),
    (TensorShape, "shape"),
    (np.ndarray, "tensor"),
)


def _kind_of(value: Any) -> str:
    for kinds, name in _KIND_OF_TYPE:
        if isinstance(value, kinds):
            return name
    if hasattr(value, "DESCRIPTOR"):
        return "func"
    raise TypeError(f"{value!r} of type {type(value).__name__} cannot be an attr's value")


def attr_to_proto(value: Any, spec: AttrSpec | None = None) -> Any:
    """An attr's value as an AttrValue, of the kind that `spec` says or (for an attr the op does not declare) that it has.

    Raises TypeError for a value that no AttrValue holds.
    """
    from tensorboard.compat.proto.attr_value_pb2 import AttrValue

    if isinstance(value, (tuple, list)):
        message = AttrValue(list=AttrValue.ListValue())
        if value:
            field, write, _ = _KINDS[spec.kind if spec is not None else _kind_of(value[0])]
            getattr(message.list, field).extend([write(item) for item in value])
        return message
    field, write, _ = _KINDS[spec.kind if spec is not None else _kind_of(value)]
    return AttrValue(**{field: write(value)})


def attr_from_proto(message: Any) -> Any:
    """The Python value of an AttrValue; None for one that holds nothing.

    Raises TypeError or ValueError for a dtype or tensor that the engine does not have, and for a function's placeholder.
    """
    field = message.WhichOneof("value")
    if field is None:
        return None
    if field == "list":
        for name, read in _READERS.items():
            items = getattr(message.list, name)
            if len(items):
                return tuple([read(item) for item in items])
        return ()
    if field == "placeholder":
        raise ValueError(f"the attr is the placeholder '{message.placeholder}' of a function, not a value")
    return _READERS[field](getattr(message, field))
