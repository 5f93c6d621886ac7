"""The pool that plans share their work out to, as a function that tapes call."""

from __future__ import annotations

import ctypes
import threading

_TEXT = """
@pool = internal global [2 x ptr] zeroinitializer
define ptr @where() {
  ret ptr @pool
}
define void @share(ptr %f, ptr %args, i64 %begin, i64 %end, i64 %grain) {
  %function = load ptr, ptr @pool
  %second = getelementptr ptr, ptr @pool, i64 1
  %handle = load ptr, ptr %second
  tail call void %function(ptr %handle, ptr %f, ptr %args, i64 %begin, i64 %end, i64 %grain)
  ret void
}
"""
_lock = threading.Lock()
_found: list[object] = []


def parallel_for() -> int:
    """The address of ``void share(f, args, begin, end, grain)``: the process's pool, with the caller's thread."""
    from engine.native import compiler, pool

    with _lock:
        if not _found:
            library = compiler.compile(_TEXT, opt=1)
            where = ctypes.CFUNCTYPE(ctypes.c_void_p)(library.address("where"))()
            shared = pool.default()
            (ctypes.c_void_p * 2).from_address(where)[:] = [shared.address, shared.handle]
            _found.extend((library, library.address("share")))
        address = _found[1]
        assert isinstance(address, int)
        return address
