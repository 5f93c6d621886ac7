"""From Python into the machine: builtin functions, made at run time, that take 0.04 µs where ctypes takes 0.2 to 0.4.

A `PyMethodDef` in memory and `PyCFunction_NewEx` (both of Python's stable C API) make a function object of compiled code.
Each frame gets one; its `self` is the address of the frame's state.  Called with arrays, it first lets the frame's input
slots point to their data; then it runs the machine, keeping the interpreter's lock or giving it up.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from engine.native import compiler, driver
from engine.native.driver import STATE, Status

__all__ = ["enter"]

HEAD = object.__basicsize__
_FASTCALL = 0x80  # METH_FASTCALL: (self, PyObject *const *args, Py_ssize_t nargs)

# PyArrayObject: data, nd, dimensions, strides, base, descr, flags; NPY_ARRAY_ALIGNED is the flag 0x100.
_TEXT = f"""
declare ptr @PyLong_AsVoidPtr(ptr)
declare ptr @PyLong_FromLong(i64)
declare ptr @PyEval_SaveThread()
declare void @PyEval_RestoreThread(ptr)

define internal i64 @take(ptr %state, ptr %args, i64 %count) nounwind {{
entry:
  %busy.at = getelementptr i64, ptr %state, i64 {STATE.index("busy")}
  %busy = load atomic i64, ptr %busy.at acquire, align 8
  %free = icmp eq i64 %busy, 0
  br i1 %free, label %idle, label %running
running:
  ret i64 {int(Status.BUSY)}
idle:
  %wanted.at = getelementptr i64, ptr %state, i64 {STATE.index("inputs")}
  %wanted = load i64, ptr %wanted.at
  %right = icmp eq i64 %wanted, %count
  br i1 %right, label %begin, label %wrong
begin:
  %slots.at = getelementptr i64, ptr %state, i64 {STATE.index("input_slots")}
  %slots = load ptr, ptr %slots.at
  %bound.at = getelementptr i64, ptr %state, i64 {STATE.index("bound")}
  %bound = load ptr, ptr %bound.at
  %type.at = getelementptr i64, ptr %state, i64 {STATE.index("array_type")}
  %ndarray = load ptr, ptr %type.at
  br label %next
next:
  %i = phi i64 [0, %begin], [%i.next, %store]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %look, label %done
look:
  %arg.at = getelementptr ptr, ptr %args, i64 %i
  %arg = load ptr, ptr %arg.at
  %kind.at = getelementptr i8, ptr %arg, i64 {HEAD - 8}
  %kind = load ptr, ptr %kind.at
  %array = icmp eq ptr %kind, %ndarray
  br i1 %array, label %flags, label %wrong
flags:
  %flags.at = getelementptr i8, ptr %arg, i64 {HEAD + 48}
  %flags.all = load i32, ptr %flags.at
  %flag = and i32 %flags.all, 256
  %aligned = icmp ne i32 %flag, 0
  br i1 %aligned, label %store, label %wrong
store:
  %data.at = getelementptr i8, ptr %arg, i64 {HEAD}
  %data = load ptr, ptr %data.at
  %slot.at = getelementptr i64, ptr %slots, i64 %i
  %slot = load i64, ptr %slot.at
  %cell = getelementptr ptr, ptr %bound, i64 %slot
  store ptr %data, ptr %cell
  %i.next = add i64 %i, 1
  br label %next
done:
  ret i64 {int(Status.DONE)}
wrong:
  ret i64 {int(Status.BAD_INPUT)}
}}
"""

_ENTRY = """
define ptr @{name}(ptr %self, ptr %args, i64 %count) nounwind {{
entry:
  %state = call ptr @PyLong_AsVoidPtr(ptr %self)
  %any = icmp ne i64 %count, 0
  br i1 %any, label %some, label %run
some:
  %taken = call i64 @take(ptr %state, ptr %args, i64 %count)
  %good = icmp eq i64 %taken, 0
  br i1 %good, label %run, label %refuse
refuse:
  %no = call ptr @PyLong_FromLong(i64 %taken)
  ret ptr %no
run:
  %machine.at = getelementptr i64, ptr %state, i64 {machine}
  %machine = load ptr, ptr %machine.at
  {before}
  %status = call i64 %machine(ptr %state)
  {after}
  %answer = call ptr @PyLong_FromLong(i64 %status)
  ret ptr %answer
}}
"""


class _MethodDef(ctypes.Structure):
    """PyMethodDef."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    ]


def source() -> str:
    """The entries in LLVM IR: ``enter_held`` and ``enter_free``."""
    held = _ENTRY.format(name="enter_held", machine=STATE.index("machine"), before="", after="")
    free = _ENTRY.format(
        name="enter_free",
        machine=STATE.index("machine"),
        before="%thread = call ptr @PyEval_SaveThread()",
        after="call void @PyEval_RestoreThread(ptr %thread)",
    )
    return _TEXT + held + free


@lru_cache(maxsize=1)
def _definitions() -> tuple[Any, tuple[_MethodDef, _MethodDef], Callable[..., Any]]:
    """The library, the methods' definitions (free, held), and the function that makes function objects."""
    library = compiler.compile(source())
    free, held = (
        _MethodDef(b"enter", library.address(name), _FASTCALL, b"Run the tape of a frame; returns a Status.")
        for name in ("enter_free", "enter_held")
    )
    make = ctypes.pythonapi["PyCFunction_NewEx"]  # an object of its own: ctypes.pythonapi.X is shared by all
    make.restype = ctypes.py_object
    make.argtypes = [ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p]
    return library, (free, held), make


def enter(state: int, held: bool) -> Callable[..., int]:
    """The function that runs the machine on the state at this address; what it returns is a `Status`."""
    _, definitions, make = _definitions()
    function: Callable[..., int] = make(ctypes.addressof(definitions[held]), state, None)
    return function


def constants() -> dict[str, int]:
    """The fields of a state that are the same in all."""
    return {"machine": driver.address(), "array_type": id(np.ndarray)}
