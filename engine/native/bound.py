"""Kernels' functions with parameters bound to them, without compiling anything for each.

A kernel that is compiled once for all shapes is a function ``void g(void *parameters, void **args, int64_t begin, int64_t end)``.
Those who run kernels know no parameters, so each shape gets a function of its own from a bank of them, compiled together (and
found again on disk): number i, ``void f(void **args, int64_t begin, int64_t end)``, reads g and its parameters from row i of a
table, and jumps.
"""

from __future__ import annotations

import ctypes
import os
import threading

from engine.native import compiler

__all__ = ["bind"]

_BANK = 64  # functions compiled at a time

_lock = threading.Lock()
_banks: list[compiler.Library] = []
_used = _BANK  # of the last bank


def _ir(bank: int) -> str:
    # The number of the bank makes each one's text, and so its machine code and its table, another.
    row = "[2 x ptr]"
    functions = "\n".join(
        f"""
define void @f{i}(ptr %args, i64 %begin, i64 %end) {{
  %row = getelementptr {row}, ptr @table, i64 {i}
  %second = getelementptr ptr, ptr %row, i64 1
  %g = load ptr, ptr %row
  %parameters = load ptr, ptr %second
  tail call void %g(ptr %parameters, ptr %args, i64 %begin, i64 %end)
  ret void
}}"""
        for i in range(_BANK)
    )
    return f"""; bank {bank}
@table = internal global [{_BANK} x {row}] zeroinitializer
define ptr @rows() {{
  ret ptr @table
}}
{functions}
"""


def bind(function: int, parameters: int) -> int:
    """The address of a function that calls the one at `function` with `parameters` before its own three arguments.

    It is there for good, as the parameters must be.  Raises UnavailableError where nothing can be compiled.
    """
    global _used
    with _lock:
        if _used == _BANK:
            _banks.append(compiler.compile(_ir(len(_banks)), opt=1))
            _used = 0
        bank, index = _banks[-1], _used
        _used += 1
    rows = ctypes.CFUNCTYPE(ctypes.c_void_p)(bank.address("rows"))()
    (ctypes.c_void_p * 2).from_address(rows + 16 * index)[:] = [function, parameters]
    return bank.address(f"f{index}")


def _forked() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
