"""Arrays in a modelled device's memory: CuPy's arrays, as far as kernels can tell.

They are used inside `Device.run` of their own device and nowhere else; NumPy cannot read them.  Everything that needs a value on
the host (`item`, `tolist`, `bool`, …) waits for the device, and is counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from engine.device.modelled.cupy_names import METHODS
from engine.types import errors

if TYPE_CHECKING:
    from engine.device.modelled.backend import ModelBackend
    from engine.device.modelled.memory import Storage


class Flags(NamedTuple):
    """What CuPy's arrays say of their layout."""

    c_contiguous: bool
    f_contiguous: bool


class ModelArray:
    """An array in the memory of a modelled device."""

    __slots__ = ("__weakref__", "_backend", "_data", "_storage")
    __array_priority__ = 100

    def __init__(self, backend: ModelBackend, data: np.ndarray[Any, Any], storage: Storage) -> None:
        self._backend = backend
        self._data = data
        self._storage = storage

    # What is known without asking the device.

    shape = property(lambda self: self._data.shape)
    dtype = property(lambda self: self._data.dtype)
    ndim = property(lambda self: self._data.ndim)
    size = property(lambda self: self._data.size)
    nbytes = property(lambda self: self._data.nbytes)
    itemsize = property(lambda self: self._data.itemsize)
    strides = property(lambda self: self._data.strides)
    flags = property(lambda self: Flags(self._data.flags.c_contiguous, self._data.flags.f_contiguous))

    def __repr__(self) -> str:
        return f"<{self.dtype} array {list(self.shape)} on {self._backend.device} (modelled)>"

    def __len__(self) -> int:
        return len(self._data)

    # Views.

    T = property(lambda self: self._call("transpose"))
    mT = property(lambda self: self._attribute("mT"))
    real = property(
        lambda self: self._attribute("real"),
        lambda self, value: self._attribute("real").__setitem__(..., value),
    )
    imag = property(
        lambda self: self._attribute("imag"),
        lambda self, value: self._attribute("imag").__setitem__(..., value),
    )

    def _attribute(self, name: str) -> Any:
        return self._backend.call(name, lambda x: getattr(x, name), (self,))

    def _call(self, name: str, *args: Any, **keywords: Any) -> Any:
        return self._backend.call_method(name, self, args, keywords)

    def __getattr__(self, name: str) -> Any:
        if name in METHODS:
            return lambda *args, **keywords: self._call(name, *args, **keywords)
        raise AttributeError(f"CuPy's arrays have no '{name}' (modelled {self._backend.device})")

    def __getitem__(self, index: Any) -> Any:
        return self._backend.get_items(self, index)

    def __setitem__(self, index: Any, value: Any) -> None:
        self._backend.set_items(self, index, value)

    def __iter__(self) -> Iterator[Any]:
        if self.ndim == 0:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self)))

    # Values on the host.

    def get(self) -> np.ndarray[Any, Any]:
        """The values as a NumPy array, as CuPy's `get`."""
        return self._backend.to_host(self, "get")

    def item(self, *args: Any) -> Any:
        return self._backend.to_host(self, "item").item(*args)

    def tolist(self) -> Any:
        return self._backend.to_host(self, "tolist").tolist()

    def __bool__(self) -> bool:
        return bool(self._backend.to_host(self, "bool"))

    def __int__(self) -> int:
        return int(self._backend.to_host(self, "int").reshape(()))

    def __index__(self) -> int:
        return self._backend.to_host(self, "index").__index__()

    def __float__(self) -> float:
        return float(self._backend.to_host(self, "float").reshape(()))

    def __complex__(self) -> complex:
        return complex(self._backend.to_host(self, "complex").reshape(()))

    # What NumPy tries.

    def __array__(self, *args: Any, **keywords: Any) -> Any:
        self._backend.check_running(self)
        raise errors.InternalError(
            None,
            None,
            f"'{self._storage.label}' is in the memory of {self._backend.device} (modelled): it does not become a NumPy array "
            "by itself (use `k.xp`, or declare the input's memory as the host's in the op's block)",
        )

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
        self._backend.check_running(self)
        if method == "__call__" and all(
            isinstance(each, ModelArray | np.generic | int | float) for each in inputs
        ):
            return getattr(self._backend.xp, ufunc.__name__)(*inputs, **keywords)
        raise TypeError(
            f"np.{ufunc.__name__} was called with an array of {self._backend.device} (modelled): use `k.xp`"
        )

    def __array_function__(self, function: Any, types: Any, args: Any, keywords: Any) -> Any:
        self._backend.check_running(self)
        raise TypeError(
            f"np.{function.__name__} was called with an array of {self._backend.device} (modelled): use `k.xp`"
        )


_OPERATORS = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "true_divide", "floordiv": "floor_divide",
    "mod": "remainder", "pow": "power", "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor",
    "lshift": "left_shift", "rshift": "right_shift", "matmul": "matmul",
}  # fmt: skip
_COMPARISONS = {
    "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal", "eq": "equal", "ne": "not_equal",
}  # fmt: skip
_SIGNS = {"neg": "negative", "pos": "positive", "abs": "absolute", "invert": "invert"}


def _install() -> None:
    def direct(name: str) -> Any:
        return lambda self, *others: getattr(self._backend.xp, name)(self, *others)

    def reflected(name: str) -> Any:
        return lambda self, other: getattr(self._backend.xp, name)(other, self)

    def in_place(name: str) -> Any:
        return lambda self, other: getattr(self._backend.xp, name)(self, other, out=self)

    for table in (_OPERATORS, _COMPARISONS, _SIGNS):
        for operator, name in table.items():
            setattr(ModelArray, f"__{operator}__", direct(name))
    for operator, name in _OPERATORS.items():
        setattr(ModelArray, f"__r{operator}__", reflected(name))
        setattr(ModelArray, f"__i{operator}__", in_place(name))
    ModelArray.__hash__ = object.__hash__  # type: ignore[method-assign]


_install()
