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
_found: dict[int, tuple[object, int]] = {}


def parallel_for(threads: int = 0) -> int:
    """The address of ``void share(f, args, begin, end, grain)``: the process's pool, of which no more than so many threads work.

    The caller's is one of them; 0 is no limit.
    """
    from engine.native import compiler, pool

    with _lock:
        if threads not in _found:
            library = compiler.compile(
                f"; {threads}\n{_TEXT}", opt=1
            )  # a text, and so a module, for each limit
            where = ctypes.CFUNCTYPE(ctypes.c_void_p)(library.address("where"))()
            shared = pool.default().limit(threads)
            (ctypes.c_void_p * 2).from_address(where)[:] = [shared.address, shared.handle]
            _found[threads] = (library, shared), library.address("share")
        return _found[threads][1]
