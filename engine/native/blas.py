"""The BLAS inside of NumPy's own wheel: where it is, how many threads it may use.

`np.matmul` runs on the OpenBLAS that NumPy brings along.  Its own threads wait for each other without sleeping, so that one other
busy process makes products many times slower; native plans hold it to one thread (`single_threaded`) and share rows out over
`engine.native.pool`.  NumPy built on something else (Accelerate, MKL) is left alone: `available` is False.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from engine.types.errors import NotFoundError

__all__ = ["Blas", "available", "blas", "single_threaded", "threads", "why_not"]

_ROW_MAJOR, _PLAIN, _TRANSPOSED = 101, 111, 112  # cblas.h
# NumPy's wheels rename the functions that they bring, so that these meet no other BLAS.
_PREFIXES, _SUFFIXES = ("scipy_", ""), ("64_", "")
_LETTERS = {"s": np.float32, "d": np.float64, "c": np.complex64, "z": np.complex128}


@dataclass(frozen=True, slots=True)
class Blas:
    """An OpenBLAS that is loaded.  integer: the bits of the sizes its functions take; core: the processor its code is for."""

    path: str
    prefix: str
    suffix: str
    integer: int
    core: str
    library: Any

    def function(self, name: str) -> Any:
        """The C function of that name (``cblas_sgemm``).  Raises NotFoundError."""
        try:
            return getattr(self.library, f"{self.prefix}{name}{self.suffix}")
        except AttributeError:
            raise NotFoundError(
                None, None, f"There is no {self.prefix}{name}{self.suffix} in {self.path}"
            ) from None

    def address(self, name: str) -> int:
        """Where the C function of that name is, for native code to call.  Raises NotFoundError."""
        return ctypes.cast(self.function(name), ctypes.c_void_p).value or 0


def _paths() -> Iterator[Path]:
    """Where NumPy's BLAS may be: beside NumPy, as its wheels have it, then among what the process has loaded."""
    home = Path(np.__file__).parent
    for folder in (home.parent / "numpy.libs", home / ".dylibs", home / ".libs"):
        yield from sorted(folder.glob("*openblas*"))
    with contextlib.suppress(OSError):
        lines = Path("/proc/self/maps").read_text().splitlines()
        names = dict.fromkeys(
            line.split(maxsplit=5)[-1] for line in lines if "blas" in line.rpartition("/")[2]
        )
        # SciPy brings a BLAS of its own, which NumPy doesn't use.
        yield from (Path(name) for name in names if name.startswith("/") and "scipy.libs" not in name)


def _opened(path: Path) -> Blas | None:
    try:
        library = ctypes.CDLL(str(path))
    except OSError:
        return None
    for prefix, suffix in itertools.product(_PREFIXES, _SUFFIXES):
        names = (f"{prefix}{name}{suffix}" for name in ("cblas_sgemm", "openblas_set_num_threads"))
        if all(hasattr(library, name) for name in names):
            config = _text(library, f"{prefix}openblas_get_config{suffix}")
            core = _text(library, f"{prefix}openblas_get_corename{suffix}")
            return Blas(str(path), prefix, suffix, 64 if "USE64BITINT" in config else 32, core, library)
    return None


def _text(library: Any, name: str) -> str:
    function = getattr(library, name, None)
    if function is None:
        return ""
    function.restype = ctypes.c_char_p
    return (function() or b"").decode(errors="replace")


def _fails(found: Blas) -> str:
    """What is wrong with a product that it computes, compared with NumPy's."""
    integer = ctypes.c_int64 if found.integer == 64 else ctypes.c_int32
    for letter, dtype in _LETTERS.items():
        a, b = (np.arange(1, 1 + rows * 5, dtype=dtype).reshape(rows, 5) for rows in (3, 4))
        out = np.zeros((3, 4), dtype)
        real = ctypes.c_float if letter == "s" else ctypes.c_double
        one, zero = np.ones(1, dtype), np.zeros(1, dtype)
        scalars = (
            [real(1), real(0)]
            if letter in "sd"
            else [ctypes.c_void_p(each.ctypes.data) for each in (one, zero)]
        )
        pa, pb, po = (ctypes.c_void_p(each.ctypes.data) for each in (a, b, out))
        m, n, k, five = (integer(each) for each in (3, 4, 5, 5))
        call = found.function(f"cblas_{letter}gemm")
        call.restype = None
        call(_ROW_MAJOR, _PLAIN, _TRANSPOSED, m, n, k, scalars[0], pa, five, pb, five, scalars[1], po, n)
        if not np.array_equal(out, a @ b.T):
            return f"cblas_{letter}gemm of {found.path} gives other products than NumPy"
    return ""


@lru_cache(maxsize=1)
def _search() -> Blas | str:
    reason = "NumPy brings no OpenBLAS, and none is loaded"
    for path in _paths():
        found = _opened(path)
        if found is not None:
            reason = _fails(found)
            if not reason:
                return found
    return reason


def available() -> bool:
    """Whether NumPy's OpenBLAS is found, and computes what NumPy does."""
    return isinstance(_search(), Blas)


def why_not() -> str:
    """Why there is no BLAS to call, or "" if there is."""
    found = _search()
    return found if isinstance(found, str) else ""


def blas() -> Blas:
    """NumPy's OpenBLAS.  Raises NotFoundError where there is none."""
    found = _search()
    if isinstance(found, str):
        raise NotFoundError(None, None, found, hint="Products of matrices go through np.matmul then.")
    return found


# How many threads it uses: a setting of the process.

_lock = threading.Lock()
_inside = 0  # blocks of `single_threaded` that somebody is in
_before = 1


@lru_cache(maxsize=1)
def _setting() -> tuple[Any, Any] | None:
    """The functions that ask for and set the number of threads."""
    found = _search()
    if isinstance(found, str):
        return None
    return found.function("openblas_get_num_threads"), found.function("openblas_set_num_threads")


def threads() -> int:
    """How many threads OpenBLAS uses now; 1 where it is not found."""
    setting = _setting()
    return int(setting[0]()) if setting else 1


class single_threaded:
    """Inside of the block OpenBLAS works on the thread that calls it, for the whole process; nothing happens where there is none.

    Blocks nest and overlap between threads: the last one out puts back what was set before the first.
    """

    __slots__ = ()

    def __enter__(self) -> None:
        global _inside, _before
        with _lock:
            if _inside == 0 and (setting := _setting()):
                _before = setting[0]()
                if _before != 1:
                    setting[1](1)
            _inside += 1

    def __exit__(self, *exc_info: Any) -> None:
        global _inside
        with _lock:
            _inside -= 1
            if _inside == 0 and _before != 1 and (setting := _setting()):
                setting[1](_before)


def _forked() -> None:
    # Other threads' blocks do not come to an end in the child; that of the thread that forked does.
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
