"""What holds around every step: NumPy warns of nothing, and BLAS works on one thread.

TensorFlow computes infinities and NaNs without a word.  `np.errstate` takes about a microsecond, which is a quarter of a small
step; what it does is to set a context variable, and doing only that takes a tenth.  Where NumPy has it elsewhere one day,
`np.errstate` is used.

A BLAS with threads of its own collapses when the machine has something else to do (a product takes 70 times as long with one
busy process beside it), and gives other last bits than on one thread.  So it is held to one, and plans share their work out to a
pool that does not mind (`engine.native.pool`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def _find() -> tuple[Callable[[], Any], Callable[[Any], None]]:
    try:
        from numpy._core.umath import _extobj_contextvar, _make_extobj

        setting = _make_extobj(all="ignore")
        token = _extobj_contextvar.set(setting)
        silent = all(how == "ignore" for how in np.geterr().values())
        _extobj_contextvar.reset(token)
        if silent:
            return lambda: _extobj_contextvar.set(setting), _extobj_contextvar.reset
    except (ImportError, AttributeError, TypeError, ValueError):
        pass

    def begin() -> Any:
        state = np.errstate(all="ignore")
        state.__enter__()
        return state

    return begin, lambda state: state.__exit__(None, None, None)


_quiet, _loud = _find()
_blas: Any = None


def begin(multiplies: bool) -> Any:
    """A step begins on this thread; `multiplies`: it calls BLAS.  What it gives is for `end`."""
    if multiplies:
        global _blas
        if _blas is None:
            from engine.native.blas import single_threaded

            _blas = single_threaded()
        _blas.__enter__()
    return _quiet()


def end(token: Any, multiplies: bool) -> None:
    """The step that began with `token` is over."""
    _loud(token)
    if multiplies:
        _blas.__exit__()
