"""Element types of tensors.

There is exactly one `DType` object for each type, so that they can be compared with `is`; the numbers are those of TensorFlow's
`DataType` enum.  A reference type (`float32_ref`) stands on an edge that carries a variable's buffer itself rather than a value;
its number is the base type's plus 100.
"""

from __future__ import annotations

import builtins
from typing import Any

import ml_dtypes
import numpy as np

_REF = 100


class DType:
    """The type of a tensor's elements.

    Equality is TensorFlow 1's: also with a name, a NumPy dtype or type, or an enum number that means the same type.
    """

    __slots__ = (
        "_as_ref",
        "_is_ref_dtype",
        "as_datatype_enum",
        "as_numpy_dtype",
        "base_dtype",
        "is_bool",
        "is_complex",
        "is_floating",
        "is_integer",
        "is_numpy_compatible",
        "is_unsigned",
        "name",
        "np_dtype",
        "real_dtype",
        "size",
    )

    name: str
    as_numpy_dtype: type[Any]
    np_dtype: np.dtype[Any]
    as_datatype_enum: int
    base_dtype: DType
    real_dtype: DType
    _as_ref: DType
    _is_ref_dtype: builtins.bool
    is_floating: builtins.bool
    is_integer: builtins.bool
    is_unsigned: builtins.bool
    is_complex: builtins.bool
    is_bool: builtins.bool
    is_numpy_compatible: builtins.bool
    size: int

    @property
    def is_quantized(self) -> builtins.bool:
        """Always False: the engine has no quantized types."""
        return False

    @property
    def min(self) -> Any:
        """The least finite value.  Raises TypeError for types that have none (bool, string, complex, resource, variant)."""
        return self.limits[0]

    @property
    def max(self) -> Any:
        """The greatest finite value.  Raises TypeError as `min` does."""
        return self.limits[1]

    @property
    def limits(self) -> tuple[Any, Any]:
        """The least and greatest finite values.  Raises TypeError as `min` does."""
        if self.is_integer:
            integers = np.iinfo(self.np_dtype)
            return integers.min, integers.max
        if self.is_floating:
            floats = ml_dtypes.finfo(self.np_dtype)  # type: ignore[no-untyped-call]
            return floats.min, floats.max
        raise TypeError(f"the type {self.name} has no least and greatest value")

    def is_compatible_with(self, other: Any) -> builtins.bool:
        """Whether a tensor of type `other` may be used where this type is wanted: a reference may stand for a value."""
        found = as_dtype(other)
        return self is found or self is found.base_dtype

    def __eq__(self, other: object) -> builtins.bool:
        if self is other:
            return True
        if other is None or other.__class__ is DType:
            return False
        try:
            return self is as_dtype(other)
        except TypeError:
            return False

    def __ne__(self, other: object) -> builtins.bool:
        return not self == other

    def __hash__(self) -> int:
        return self.as_datatype_enum

    def __int__(self) -> int:
        return self.as_datatype_enum

    def __repr__(self) -> str:
        return "tf." + self.name

    def __str__(self) -> str:
        return f"<dtype: '{self.name}'>"

    def __reduce__(self) -> tuple[Any, ...]:
        return as_dtype, (self.name,)


_by_name: dict[str, DType] = {}
# Everything else that as_dtype takes: NumPy dtypes and scalar types, Python types, enum numbers.
_by_key: dict[Any, DType] = {}


def _make(name: str, number: int, numpy_type: type[Any], kind: str) -> DType:
    made = DType.__new__(DType)
    reference = DType.__new__(DType)
    for each in (made, reference):
        is_ref = each is reference
        each.name = name + "_ref" if is_ref else name
        each.as_datatype_enum = number + _REF if is_ref else number
        each.as_numpy_dtype = numpy_type
        each.np_dtype = np.dtype(numpy_type)
        each.base_dtype = made
        each.real_dtype = each
        each._as_ref = reference
        each._is_ref_dtype = is_ref
        each.is_floating = kind == "f"
        each.is_integer = kind in "iu"
        each.is_unsigned = kind == "u"
        each.is_complex = kind == "c"
        each.is_bool = kind == "b"
        each.is_numpy_compatible = kind != "h"
        each.size = 1 if kind == "h" else each.np_dtype.itemsize
        _by_name[each.name] = each
        _by_key[each.as_datatype_enum] = each
    if kind not in "Sh":
        _by_key[numpy_type] = made
        _by_key[made.np_dtype] = made
    return made


float32 = _make("float32", 1, np.float32, "f")
float64 = _make("float64", 2, np.float64, "f")
int32 = _make("int32", 3, np.int32, "i")
uint8 = _make("uint8", 4, np.uint8, "u")
int16 = _make("int16", 5, np.int16, "i")
int8 = _make("int8", 6, np.int8, "i")
string = _make("string", 7, np.object_, "S")
complex64 = _make("complex64", 8, np.complex64, "c")
int64 = _make("int64", 9, np.int64, "i")
bool_ = _make("bool", 10, np.bool_, "b")
bfloat16 = _make("bfloat16", 14, ml_dtypes.bfloat16, "f")
uint16 = _make("uint16", 17, np.uint16, "u")
complex128 = _make("complex128", 18, np.complex128, "c")
float16 = _make("float16", 19, np.float16, "f")
resource = _make("resource", 20, np.object_, "h")  # a handle: NumPy has nothing for it
variant = _make("variant", 21, np.object_, "h")
uint32 = _make("uint32", 22, np.uint32, "u")
uint64 = _make("uint64", 23, np.uint64, "u")

half = float16
double = float64

complex64.real_dtype = float32
complex128.real_dtype = float64
complex64._as_ref.real_dtype = float32
complex128._as_ref.real_dtype = float64

float32_ref = float32._as_ref
float64_ref = float64._as_ref
int32_ref = int32._as_ref
int64_ref = int64._as_ref
bool_ref = bool_._as_ref
string_ref = string._as_ref

_by_name["half"] = float16
_by_name["double"] = float64
_by_name["float"] = float32
_by_name["half_ref"] = float16._as_ref
_by_name["double_ref"] = float64._as_ref
# Python's float means float32 here, as in TensorFlow; int and complex mean what NumPy makes of them.
_by_key.update(
    {
        float: float32,
        int: int64,
        complex: complex128,
        builtins.bool: bool_,
        str: string,
        bytes: string,
        object: string,
    }
)
_by_key.update({np.object_: string, np.dtype(object): string, np.bytes_: string, np.str_: string})


def by_name(name: str) -> DType | None:
    """The type of that name ('float32', 'float32_ref', 'half'), or None."""
    return _by_name.get(name)


def as_dtype(value: Any) -> DType:
    """The DType that `value` stands for: a DType, a name, a NumPy dtype or scalar type, a Python type, or an enum number.

    Python's `float` is float32 (as in TensorFlow), `int` is int64.  Raises TypeError, naming the value, if there is none.
    """
    if value.__class__ is DType:
        return value
    if value.__class__ is str:
        found = _by_name.get(value)
        if found is None and value not in ("", "O"):
            found = _from_numpy(value)
    else:
        try:
            # True and 1.0 would be found as the enum's number 1.
            found = None if isinstance(value, (builtins.bool, float)) else _by_key.get(value)
        except TypeError:  # not hashable
            found = None
        if found is None and value is not None:
            found = _from_numpy(value)
    if found is None:
        raise TypeError(f"{value!r} is not a dtype: give a DType, a name such as 'float32', or a NumPy dtype")
    return found


def _from_numpy(value: Any) -> DType | None:
    if isinstance(value, (int, float)):
        return None
    if not isinstance(value, type):  # on a class, `dtype` is a descriptor
        value = getattr(value, "dtype", value)
        if isinstance(value, DType):
            return value
    try:
        dtype: np.dtype[Any] = np.dtype(value)
    except (TypeError, ValueError):
        return None
    if dtype.kind in "SU":  # 'S3': NumPy's fixed-width strings
        return string
    native = dtype.newbyteorder("=")
    if native not in _by_key and native.kind in "iufc":  # long long, which may be int64 under another name
        native = np.dtype(f"{native.kind}{native.itemsize}")
    return _by_key.get(native)


bool = bool_  # (TensorFlow's name; above, the builtin is written builtins.bool)

ALL = tuple(found for found in dict.fromkeys(_by_name.values()) if not found._is_ref_dtype)
"""Every type that is not a reference."""
