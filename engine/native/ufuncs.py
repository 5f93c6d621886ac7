"""NumPy's own inner loops, found in the ufunc objects, so that native code can call them without NumPy's overhead.

A ufunc is a C struct, `PyUFuncObject` (numpy/ufuncobject.h, part of NumPy's public C API).  Its loops have one signature::

    void loop(char **args, npy_intp const *dimensions, npy_intp const *steps, void *data)

for `dimensions[0]` elements, operand k's elements `steps[k]` bytes apart.  The same function on the same operands gives NumPy's
results bit for bit.

Nothing is taken on trust.  The struct is believed only if the numbers and the name in it are those that NumPy's Python
attributes give; an address only if it lies in the code of a loaded library; and a loop only once it has computed the same bits
as the ufunc itself, with contiguous and with spread operands.  What fails is not offered: `find` returns None, `why_not` tells.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Loop", "find", "why_not"]

DType = np.dtype[Any]
Array = npt.NDArray[Any]

HEAD = object.__basicsize__
_LENGTH = 19  # odd, and more than a vector register: whole vectors and a rest
_RAISING = frozenset({"power"})  # for integers these raise Python errors from inside of the loop
_PLATFORM = {"l": "q", "q": "l", "L": "Q", "Q": "L"}  # two names of one 64-bit integer (or of none)


class _UFunc(ctypes.Structure):
    """The beginning of `PyUFuncObject`, after the object's head."""

    _fields_ = [
        ("nin", ctypes.c_int),
        ("nout", ctypes.c_int),
        ("nargs", ctypes.c_int),
        ("identity", ctypes.c_int),
        ("functions", ctypes.POINTER(ctypes.c_void_p)),
        ("data", ctypes.POINTER(ctypes.c_void_p)),
        ("ntypes", ctypes.c_int),
        ("reserved", ctypes.c_int),
        ("name", ctypes.c_char_p),
        ("types", ctypes.POINTER(ctypes.c_ubyte)),
    ]


class _DlInfo(ctypes.Structure):
    _fields_ = [
        ("fname", ctypes.c_char_p),
        ("fbase", ctypes.c_void_p),
        ("sname", ctypes.c_char_p),
        ("saddr", ctypes.c_void_p),
    ]


@dataclass(frozen=True, slots=True)
class Loop:
    """An inner loop: the addresses of its code and of the `data` that it is given, and its operands' dtypes, inputs first.

    Loops of NumPy's live as long as the process; `keep` holds on to whatever else the addresses need.
    """

    name: str
    address: int
    data: int
    nin: int
    nout: int
    dtypes: tuple[DType, ...]
    keep: Any = None

    @property
    def nargs(self) -> int:
        return self.nin + self.nout


def find(ufunc: str | np.ufunc, dtypes: Sequence[npt.DTypeLike]) -> Loop | None:
    """The loop of a ufunc (or of its name in NumPy) for exactly these dtypes, inputs then outputs; None if there is no safe
    one."""
    answer = _find(ufunc, tuple(np.dtype(each) for each in dtypes))
    return answer if isinstance(answer, Loop) else None


def why_not(ufunc: str | np.ufunc, dtypes: Sequence[npt.DTypeLike]) -> str | None:
    """Why `find` finds no such loop, in one sentence; None if it does."""
    answer = _find(ufunc, tuple(np.dtype(each) for each in dtypes))
    return answer if isinstance(answer, str) else None


def resolve(name: str | np.ufunc) -> np.ufunc | None:
    """The ufunc of that name: NumPy's public ones, then those (as `clip`) that only NumPy's core has."""
    if isinstance(name, np.ufunc):
        return name
    found = getattr(np, name, None)
    if not isinstance(found, np.ufunc):
        found = getattr(getattr(getattr(np, "_core", None), "umath", None), name, None)
    return found if isinstance(found, np.ufunc) else None


_lock = threading.RLock()
_found: dict[tuple[str | np.ufunc, tuple[DType, ...]], Loop | str] = {}


def _find(ufunc: str | np.ufunc, dtypes: tuple[DType, ...]) -> Loop | str:
    key = (ufunc, dtypes)
    answer = _found.get(key)
    if answer is None:
        with _lock:
            answer = _found[key] = _look(ufunc, dtypes)
    return answer


def _look(named: str | np.ufunc, dtypes: tuple[DType, ...]) -> Loop | str:
    ufunc = resolve(named)
    if ufunc is None:
        return f"NumPy has no ufunc named {named!r}"
    if ufunc.signature is not None:
        return f"{ufunc.__name__} works on whole arrays ({ufunc.signature}), not on elements"
    if len(dtypes) != ufunc.nargs:
        return f"{ufunc.__name__} has {ufunc.nargs} operands, not {len(dtypes)}"
    if any(dtype.kind not in "biufc" or not dtype.isnative for dtype in dtypes):
        return f"{ufunc.__name__}: only NumPy's own numbers and bools in the machine's byte order, not {_names(dtypes)}"
    if ufunc.__name__ in _RAISING and dtypes[0].kind in "biu":
        return f"{ufunc.__name__} of integers may raise a Python error from inside of the loop"
    struct = _struct(ufunc)
    if isinstance(struct, str):
        return struct
    index = _index(ufunc, dtypes)
    if index is None:
        return f"{ufunc.__name__} has no loop for {_names(dtypes)} without a cast"
    address, data = struct.functions[index], struct.data[index] if struct.data else None
    if not address or not _is_code(address):
        return f"{ufunc.__name__}'s loop for {_names(dtypes)} is not at an address in a loaded library"
    loop = Loop(ufunc.__name__, address, data or 0, ufunc.nin, ufunc.nout, dtypes)
    return _self_test(ufunc, loop) or loop


def _names(dtypes: Sequence[DType]) -> str:
    return ", ".join(str(dtype) for dtype in dtypes)


@cache
def _struct(ufunc: np.ufunc) -> _UFunc | str:
    """The struct of a ufunc, or what in it differs from what NumPy says."""
    if np.ufunc.__basicsize__ < HEAD + ctypes.sizeof(_UFunc):
        return "this NumPy's ufunc objects are smaller than PyUFuncObject"
    struct = _UFunc.from_address(id(ufunc) + HEAD)
    for field in ("nin", "nout", "nargs", "ntypes"):
        if getattr(struct, field) != getattr(ufunc, field):
            return f"{ufunc.__name__}: the field {field} of its struct is not where PyUFuncObject has it"
    if not (struct.name and struct.functions and struct.types) or struct.name != ufunc.__name__.encode():
        return f"{ufunc.__name__}: the name in its struct is not where PyUFuncObject has it"
    count = min(ufunc.ntypes * ufunc.nargs, 4096)
    numbers = [np.dtype(char).num for text in ufunc.types for char in text.replace("->", "")]
    if list(struct.types[:count]) != numbers[:count]:
        return f"{ufunc.__name__}: the dtypes in its struct are not those that NumPy lists"
    return struct


def _index(ufunc: np.ufunc, dtypes: tuple[DType, ...]) -> int | None:
    """The number of the loop; loops that differ only in what C calls a 64-bit integer count as one."""
    chars = "".join(dtype.char for dtype in dtypes)
    rows = [text.replace("->", "") for text in ufunc.types]
    if chars in rows:
        return rows.index(chars)
    other = "".join(_PLATFORM[char] if char in _PLATFORM and _twins(char) else char for char in chars)
    return rows.index(other) if other in rows else None


def _twins(char: str) -> bool:
    return np.dtype(char).itemsize == np.dtype(_PLATFORM[char]).itemsize


@lru_cache(maxsize=1)
def _dladdr() -> Any:
    try:
        function = ctypes.CDLL(None).dladdr
    except (AttributeError, OSError, TypeError):
        return None
    function.argtypes, function.restype = (ctypes.c_void_p, ctypes.POINTER(_DlInfo)), ctypes.c_int
    return function


def _is_code(address: int) -> bool:
    """Whether an address lies in a loaded library, as far as the platform can tell."""
    dladdr = _dladdr()
    return dladdr is None or bool(dladdr(address, ctypes.byref(_DlInfo())))


PROTOTYPE = ctypes.PYFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
"""A loop as Python calls it, for tests: it keeps the interpreter's lock."""


def call(loop: Loop, arrays: Sequence[Array], count: int, at_once: int | None = None) -> None:
    """Call a loop on the first `count` elements of one-dimensional arrays, inputs then outputs.

    at_once: how many in each call (None: all of them); in calls for one, the steps that the loop is told are 0.
    """
    each = count if at_once is None else at_once
    pointers = np.array([array.ctypes.data for array in arrays], np.intp)
    steps = np.array([array.strides[0] if array.ndim else 0 for array in arrays], np.intp)
    size = np.array([each], np.intp)
    told = steps * (each != 1)
    function = PROTOTYPE(loop.address)
    where = pointers.ctypes.data, size.ctypes.data, told.ctypes.data, loop.data or None
    for _ in range(count // each if each else 0):
        function(*where)
        pointers += steps * each


def _self_test(ufunc: np.ufunc, loop: Loop) -> str | None:
    """Compare a loop with its ufunc, bit for bit (any NaN equals any other); returns what is wrong."""
    for step in (1, 2):
        inputs = [
            _spread(np.roll(_values(dtype), 3 * k), step) for k, dtype in enumerate(loop.dtypes[: loop.nin])
        ]
        wanted = [_spread(np.zeros(_LENGTH, dtype), step) for dtype in loop.dtypes[loop.nin :]]
        got = [_spread(np.zeros(_LENGTH, dtype), step) for dtype in loop.dtypes[loop.nin :]]
        with np.errstate(all="ignore"):
            ufunc(*inputs, out=tuple(wanted), dtype=None, casting="no")
            call(loop, [*inputs, *got], _LENGTH)
        if not _all_same(wanted, got):
            return f"{ufunc.__name__}'s loop for {_names(loop.dtypes)} gave other results than NumPy in the self-test"
    return None


@cache
def is_uneven(loop: Loop) -> bool:
    """Whether a loop of NumPy's gives other bits for the same elements if they lie otherwise, or come one by one.

    Vector code and its scalar rest may differ; some loops look at the strides.  Found out by trying, once.
    """
    if loop.keep is not None or not any(dtype.kind in "fc" for dtype in loop.dtypes):
        return False
    inputs = [
        np.concatenate([_values(dtype), _ordinary(dtype, k)])
        for k, dtype in enumerate(loop.dtypes[: loop.nin])
    ]
    wanted = _results(loop, inputs)
    apart = [_spread(each, 2) for each in inputs]
    backwards = [np.ascontiguousarray(each[::-1])[::-1] for each in inputs]
    others = [
        _results(loop, apart, step=2),
        _results(loop, apart),
        _results(loop, backwards),
        _results(loop, inputs, at_once=1),
    ]
    if not all(_all_same(wanted, other) for other in others):
        return True
    for k in range(loop.nin if loop.nin > 1 else 0):
        for value in inputs[k][-3:]:  # one value for all, read again and again or as often as needed
            once = [np.broadcast_to(value, each.shape) if i == k else each for i, each in enumerate(inputs)]
            if not _all_same(
                _results(loop, once), _results(loop, [np.ascontiguousarray(each) for each in once])
            ):
                return True
    return False


def _results(loop: Loop, inputs: Sequence[Array], step: int = 1, at_once: int | None = None) -> list[Array]:
    count = len(inputs[0])
    outputs = [_spread(np.zeros(count, dtype), step) for dtype in loop.dtypes[loop.nin :]]
    with np.errstate(all="ignore"):
        call(loop, [*inputs, *outputs], count, at_once)
    return outputs


def _all_same(some: Sequence[Array], others: Sequence[Array]) -> bool:
    return all(same_bits(a, b) for a, b in zip(some, others))


def _ordinary(dtype: DType, seed: int) -> Array:
    """Values without any pattern, for which rounding matters."""
    steps = np.arange(48) + 48 * seed
    values = np.sin(steps * 12.9898) * 10 ** np.cos(steps * 78.233)
    with np.errstate(all="ignore"):
        chosen: Array = (values + 1j * np.sin(steps * 4.1414) if dtype.kind == "c" else values).astype(dtype)
    return chosen


def same_bits(a: Array, b: Array) -> bool:
    """Whether two arrays have equal dtypes, shapes and bits; NaNs are equal whatever their payload and sign."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype.kind == "c":
        return same_bits(a.real, b.real) and same_bits(a.imag, b.imag)
    x, y = np.ascontiguousarray(a), np.ascontiguousarray(b)
    equal = x.view(f"V{x.itemsize}") == y.view(f"V{y.itemsize}")
    if a.dtype.kind == "f":
        equal |= np.isnan(x) & np.isnan(y)
    return bool(equal.all())


def _spread(values: Array, step: int) -> Array:
    wide = np.zeros(len(values) * step, values.dtype)
    wide[::step] = values
    spread: Array = wide[::step]
    return spread


def _values(dtype: DType) -> Array:
    """Values of a dtype for the self-test: ordinary ones, the borders, and what is not finite."""
    if dtype.kind == "b":
        return np.array([k % 3 == 1 for k in range(_LENGTH)])
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        plain = np.arange(-5, _LENGTH - 9) if dtype.kind == "i" else np.arange(_LENGTH - 4)
        return np.concatenate([plain.astype(dtype), np.array([info.min, info.max, info.max // 2, 1], dtype)])
    reals = [
        0.0,
        -0.0,
        1,
        -1,
        0.5,
        -0.25,
        2.5,
        -3.75,
        1e-3,
        0.9,
        -0.7,
        3,
        7,
        -100,
        1e4,
        np.inf,
        -np.inf,
        np.nan,
        20,
    ]
    values = np.array(reals, dtype)
    if dtype.kind == "c":
        values.imag = np.roll(values.real, 5)
    return values
