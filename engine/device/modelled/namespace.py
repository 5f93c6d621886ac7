"""The array namespace of a modelled GPU: CuPy's names with CuPy's parameters, and nothing else."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from engine.device.modelled import differences
from engine.device.modelled.array import ModelArray
from engine.device.modelled.cupy_names import FUNCTIONS, PLAIN, UFUNCS

if TYPE_CHECKING:
    from engine.device.modelled.backend import ModelBackend

_CHARACTERS = {"E": np.dtype(ml_dtypes.bfloat16)}  # what NumPy does not know by its character
_REDUCING = ("add", "multiply")
_ADDED = ("int32", "uint32", "uint64", "float16", "float32", "float64", "complex64", "complex128")
_COMPARED = ("int32", "uint32", "uint64", "float32", "float64")
_ATOMIC = {"add": _ADDED, "subtract": _ADDED, "minimum": _COMPARED, "maximum": _COMPARED}
_AT = ("add", "subtract", "minimum", "maximum", "bitwise_and", "bitwise_or", "bitwise_xor")


class Namespace:
    """`k.xp` on a modelled device; names that CuPy lacks raise AttributeError."""

    def __init__(self, backend: ModelBackend, prefix: str = "") -> None:
        self._backend = backend
        self._prefix = prefix

    def __repr__(self) -> str:
        return f"<CuPy's namespace on {self._backend.device} (modelled)>"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = self._find(self._prefix + name)
        self.__dict__[name] = found
        return found

    def _find(self, name: str) -> Any:
        if name == "ndarray":
            return ModelArray
        if name in UFUNCS:
            return Ufunc(self._backend, name)
        if name in FUNCTIONS:
            return _function(self._backend, name)
        if name in PLAIN:
            return operator.attrgetter(name)(np)
        if any(known.startswith(f"{name}.") for known in FUNCTIONS):
            return Namespace(self._backend, f"{name}.")
        raise AttributeError(f"CuPy has no '{name}' ({self._backend.device} is modelled on it)")


def _function(backend: ModelBackend, name: str) -> Callable[..., Any]:
    check = _parameters(name, FUNCTIONS[name])
    own = differences.FUNCTIONS.get(name)
    host: Callable[..., Any] = operator.attrgetter(name)(np)

    def call(*args: Any, **keywords: Any) -> Any:
        check(args, keywords)
        if own is not None:
            return own(backend, *args, **keywords)
        return backend.call(name, host, args, keywords)

    call.__name__ = name
    return call


def _parameters(name: str, text: str) -> Callable[[tuple[Any, ...], dict[str, Any]], None]:
    """What raises TypeError, as CuPy's function would, for arguments that it does not take."""
    words = text.split()
    positional: list[str] = []
    accepted = set()
    any_positional = any_keyword = False
    for i, word in enumerate(words):
        if word == "**":
            any_keyword = True
        elif word == "*":
            # A bare '*' before named ones only closes the positional ones, but for functions that take operands so.
            any_positional = i == 0
        else:
            accepted.add(word.rstrip("="))
            if "*" not in words[:i]:
                positional.append(word.rstrip("="))

    def check(args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        if len(args) > len(positional) and not any_positional:
            raise TypeError(
                f"{name}() takes {len(positional)} positional arguments, {len(args)} were given (CuPy)"
            )
        for keyword in keywords:
            if keyword not in accepted and not any_keyword:
                raise TypeError(f"{name}() got an unexpected keyword argument '{keyword}' (CuPy)")

    return check


class Ufunc:
    """An elementwise function of CuPy's: no `where=`, few methods, nothing but arrays and scalars."""

    def __init__(self, backend: ModelBackend, name: str) -> None:
        self._backend = backend
        self._function: Any = getattr(np, name)  # NumPy has some of them as plain functions
        self.name = self.__name__ = name
        self.types = UFUNCS[name].split()
        loops = [loop.split("->") for loop in self.types]
        self.nin, self.nout = len(loops[0][0]), len(loops[0][1])
        self._loops = [(_dtypes(inputs), _dtypes(outputs)) for inputs, outputs in loops]

    def __repr__(self) -> str:
        return f"<ufunc 'cupy_{self.name}' (modelled)>"

    def __call__(self, *args: Any, out: Any = None, dtype: Any = None, casting: str = "same_kind") -> Any:
        if len(args) > self.nin and out is None:
            args, out = args[: self.nin], args[self.nin]
        if len(args) != self.nin:
            raise TypeError(f"cupy_{self.name} takes {self.nin} operands, {len(args)} were given")
        given = self._check(args, dtype)
        keywords: dict[str, Any] = {}
        if dtype is not None:
            keywords["dtype"] = dtype
        if out is not None:
            keywords["out"] = out
        if casting != "same_kind" and isinstance(self._function, np.ufunc):
            keywords["casting"] = casting

        def run(*args: Any, **keywords: Any) -> Any:
            result = self._function(*args, **keywords)
            if given is not None and out is None:
                result = differences.as_loop(result, given)
            return differences.flush_denormals(result)

        return self._backend.call(self.name, run, args, keywords)

    def _check(self, args: tuple[Any, ...], dtype: Any) -> list[np.dtype[Any]] | None:
        """The outputs' dtypes, where the inputs' dtypes decide them.  Raises TypeError for inputs that no loop takes."""
        kinds: list[np.dtype[Any] | None] = []  # None: a number of Python's, which follows the arrays
        for each in args:
            if isinstance(each, ModelArray | np.generic):
                kinds.append(each.dtype)
            elif isinstance(each, bool | int | float | complex):
                kinds.append(None)
            else:
                raise TypeError(
                    f"Unsupported type {type(each)} (cupy_{self.name} takes CuPy arrays and scalars)"
                )
        if dtype is not None:
            return None
        outputs = next((outputs for inputs, outputs in self._loops if _fits(kinds, inputs)), None)
        if outputs is None:
            named = ", ".join(str(kind) for kind in kinds)
            raise TypeError(f"Wrong type ({named}) of arguments for cupy_{self.name}")
        return None if None in kinds else outputs

    def reduce(
        self, array: Any, axis: Any = 0, dtype: Any = None, out: Any = None, keepdims: bool = False
    ) -> Any:
        self._only(_REDUCING, "reduce")
        keywords: dict[str, Any] = {"axis": axis, "keepdims": keepdims}
        if dtype is not None:
            keywords["dtype"] = dtype
        if out is not None:
            keywords["out"] = out
        return self._backend.call(f"{self.name}.reduce", self._function.reduce, (array,), keywords)

    def accumulate(self, array: Any, axis: int = 0, dtype: Any = None, out: Any = None) -> Any:
        self._only(_REDUCING, "accumulate")
        keywords = {"axis": axis} if dtype is None else {"axis": axis, "dtype": dtype}
        return self._backend.call(f"{self.name}.accumulate", self._function.accumulate, (array,), keywords)

    def outer(self, a: Any, b: Any, **keywords: Any) -> Any:
        return self._backend.call(f"{self.name}.outer", self._function.outer, (a, b), keywords)

    def at(self, a: Any, indices: Any, b: Any = None) -> None:
        self._only(_AT, "at")
        if self.name in _ATOMIC and a.dtype.name not in _ATOMIC[self.name]:
            raise TypeError(
                f"cupy_{self.name}.at does not support {a.dtype} (CuPy has no atomic operation for it)"
            )
        differences.at(self._backend, self._function, a, indices, b)

    def reduceat(self, array: Any, indices: Any, axis: int = 0, dtype: Any = None, out: Any = None) -> Any:
        self._only(("add",), "reduceat")
        return self._backend.call(
            "add.reduceat", self._function.reduceat, (array, indices), {"axis": axis, "dtype": dtype}
        )

    def _only(self, names: tuple[str, ...], method: str) -> None:
        if self.name not in names:
            raise NotImplementedError(f"`cupy_{self.name}.{method}` is not supported yet")


def _dtypes(characters: str) -> list[np.dtype[Any]]:
    return [_CHARACTERS.get(char) or np.dtype(char) for char in characters]


def _fits(kinds: list[np.dtype[Any] | None], loop: list[np.dtype[Any]]) -> bool:
    return all(kind is None or np.can_cast(kind, wanted) for kind, wanted in zip(kinds, loop, strict=True))
