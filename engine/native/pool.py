"""Threads that share out a function's extent in native code: no Python, no lock of the interpreter's, no system call when busy.

A caller cuts the extent into chunks, works on them itself, and waits only for those that workers have claimed: a worker that the
system has put aside holds up one chunk, not the step.  Workers look for the next job for a few microseconds, then sleep
(futex(2)).  One job is shared out at a time; a call from inside of another, or from a second thread meanwhile, works alone.
Where the system has no futex (macOS, Windows) there are no workers, and every call works alone.

How the threads agree is told in `engine.native.pool_code`.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import math
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

from engine.native import compiler, pool_code
from engine.types.errors import InvalidArgumentError

__all__ = ["Pool", "default", "processors"]

_SPIN_SECONDS = 20e-6  # how long an idle worker, and a caller who waits, look before they sleep
_SMALL = (pool_code.PENDING, pool_code.WAITING, pool_code.SLEEPERS, pool_code.STOP, pool_code.BUSY)
_PATIENCE = 2.0  # seconds that the interpreter's end waits for a call that a thread is in


class _Code:
    """The compiled functions, as Python calls them (without the interpreter's lock)."""

    def __init__(self) -> None:
        library = compiler.compile(pool_code.ir())
        _immortal(library)  # threads are inside of it
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        self.address = library.address("parallel_for")
        self.worker = library.address("worker")
        job = ctypes.CFUNCTYPE(None, pointer, pointer, pointer, number, number, number)
        self.parallel_for: Callable[..., None] = job(self.address)
        self.take: Callable[[int], int] = ctypes.CFUNCTYPE(ctypes.c_int32, pointer)(library.address("take"))
        self.halt: Callable[[int], None] = ctypes.CFUNCTYPE(None, pointer)(library.address("halt"))
        spin = ctypes.CFUNCTYPE(None, number)(library.address("spin"))
        turn = min(_seconds(spin, 2000) for _ in range(5)) / 2000
        self.spins = max(1, round(_SPIN_SECONDS / max(turn, 1e-10)))


def _seconds(function: Callable[[int], None], count: int) -> float:
    start = time.perf_counter()
    function(count)
    return time.perf_counter() - start


@lru_cache(maxsize=1)
def _code() -> _Code:
    return _Code()


def _immortal(thing: Any) -> None:
    """Keep an object for good: not even the interpreter's end frees it while a thread may still be in it."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _block(size: int) -> int:
    """The address of zeroed memory, on a cache line of its own, that is never freed: plans that hold it may outlive the pool."""
    memory = (ctypes.c_char * (size + 64))()
    _immortal(memory)
    return -(-ctypes.addressof(memory) // 64) * 64


class _Shared:
    """The block that callers and workers meet in, and the workers."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.workers: list[ctypes.c_ulong] = []
        self.wanted = 0
        self.block = _block(pool_code.SHARED_BYTES)
        self._field(ctypes.c_int64, pool_code.SPINS).value = _code().spins
        _all.add(self)

    def _field(self, kind: Any, offset: int) -> Any:
        return kind.from_address(self.block + offset)

    def start(self) -> None:
        """Start the workers that are wanted and not there: at first, and in a process forked since."""
        if len(self.workers) >= self.wanted:
            return
        with self.lock, self._alone() as alone:
            if alone:
                _working.add(self)
                while len(self.workers) < self.wanted and self._start_one():
                    pass
                # Fewer than wanted, if the system has no more threads to give: that is no reason to fail.
                self.wanted = len(self.workers)
                self._field(ctypes.c_int64, pool_code.WORKERS).value = len(self.workers)

    def _start_one(self) -> bool:
        library = ctypes.CDLL(None)
        thread = ctypes.c_ulong()
        create = library.pthread_create
        create.argtypes = (ctypes.c_void_p,) * 4
        # Signals are for Python's threads, but for those that say what this very thread did wrong (`faulthandler` tells of them).
        own = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - own)
        try:
            if create(ctypes.addressof(thread), None, _code().worker, self.block):
                return False
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        with contextlib.suppress(AttributeError):  # a name for debuggers and `top -H`
            library.pthread_setname_np(thread, b"native-pool")
        self.workers.append(thread)
        return True

    def stop(self, wanted: int = 0, patience: float = math.inf) -> bool:
        """End all workers, of which so many are wanted from now on; False if another thread's call lasts longer than that."""
        with self.lock, self._alone(patience) as alone:
            if not alone:
                return False
            self.wanted = wanted
            self._field(ctypes.c_int64, pool_code.WORKERS).value = 0
            if self.workers:
                _code().halt(self.block)
                join = ctypes.CDLL(None).pthread_join
                join.argtypes = (ctypes.c_ulong, ctypes.c_void_p)
                for thread in self.workers:
                    join(thread, None)
                self.workers.clear()
                self._field(ctypes.c_int32, pool_code.STOP).value = 0
            _working.discard(self)
            return True

    @contextlib.contextmanager
    def _alone(self, patience: float = math.inf) -> Iterator[bool]:
        """While nobody shares work out; False if somebody does so for longer than we are ready to wait."""
        latest = time.monotonic() + patience
        while not (mine := bool(_code().take(self.block))) and time.monotonic() < latest:
            time.sleep(0.0002)
        try:
            yield mine
        finally:
            if mine:
                self._field(ctypes.c_int32, pool_code.BUSY).value = 0

    def forked(self) -> None:
        """In a child there are no workers, and whatever a thread of the parent's was doing here is not being done."""
        self.lock = threading.Lock()
        self.workers = []
        for offset in (pool_code.WORKERS, pool_code.CHUNKS):
            self._field(ctypes.c_int64, offset).value = 0
        for offset in _SMALL:
            self._field(ctypes.c_int32, offset).value = 0


_all: weakref.WeakSet[_Shared] = weakref.WeakSet()
# Those that have workers: here they stay until they are closed or the interpreter ends, whoever else forgets them.
_working: set[_Shared] = set()


class Pool:
    """So many threads, the caller's among them, for functions ``void f(void **args, int64_t begin, int64_t end)``.

    Native code calls `address`, which is the function ::

        void parallel_for(void *handle, f, void **args, int64_t begin, int64_t end, int64_t grain)

    with `handle` as its first argument.  Both stay valid for as long as the process runs, whatever becomes of the pool: after
    `close`, and in a forked child until somebody asks there for `handle` or `default`, calls work alone.

    Raises InvalidArgumentError for less than one thread, and UnavailableError where nothing can be compiled.
    """

    def __init__(self, threads: int) -> None:
        self._set_up(_Shared(), _checked(threads))
        self._shared.wanted = min(threads - 1, pool_code.MAX_WORKERS) if pool_code.has_workers() else 0

    def _set_up(self, shared: _Shared, threads: int) -> None:
        self._shared = shared
        self._view = _block(pool_code.VIEW_BYTES)
        ctypes.c_int64.from_address(self._view + pool_code.VIEW_SHARED).value = shared.block
        self._allow(threads)

    def _allow(self, threads: int) -> None:
        ctypes.c_int64.from_address(self._view + pool_code.VIEW_THREADS).value = threads

    @property
    def threads(self) -> int:
        """How many threads work on one call, at most."""
        return min(
            ctypes.c_int64.from_address(self._view + pool_code.VIEW_THREADS).value, self._shared.wanted + 1
        )

    @property
    def address(self) -> int:
        """Where `parallel_for` is: the same for all pools."""
        return _code().address

    @property
    def handle(self) -> int:
        """What `parallel_for` takes first.  Starts the workers if they are not there."""
        self._shared.start()
        return self._view

    def parallel_for(self, function: int, args: int, begin: int, end: int, grain: int = 1) -> None:
        """Call the function at that address for chunks of [begin, end), of `grain` units or more, on several threads at once.

        args: the address of an array of pointers.  Returns when all chunks are done.  Other Python threads run meanwhile.
        """
        _code().parallel_for(self.handle, function, args, begin, end, grain)

    def limit(self, threads: int) -> Pool:
        """The same workers for a caller who may use no more than so many threads at once; 0 is no limit."""
        if threads == 0:
            return self
        limited = Pool.__new__(Pool)
        limited._set_up(self._shared, _checked(threads))
        return limited

    def resize(self, threads: int) -> None:
        """Have so many threads from now on, for all who share these workers.  Calls under way end as they began."""
        wanted = min(_checked(threads) - 1, pool_code.MAX_WORKERS) if pool_code.has_workers() else 0
        self._allow(threads)
        self._shared.stop(wanted)

    def close(self) -> None:
        """End the workers.  A call that another thread is in comes to its end first; later ones work alone."""
        self._shared.stop()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self.close()


def _checked(threads: int) -> int:
    if threads < 1:
        raise InvalidArgumentError(
            None, None, f"A pool has one thread or more, the caller's among them, not {threads}"
        )
    return threads


_default_lock = threading.Lock()
_default: Pool | None = None


def default() -> Pool:
    """The process's pool: as many threads as it has processors (`os.sched_getaffinity`).  Made by the first call."""
    global _default
    with _default_lock:
        if _default is None:
            _default = Pool(processors())
        return _default


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@atexit.register
def _close_all() -> None:
    """Before the interpreter frees what workers use."""
    for shared in list(_working):
        shared.stop(patience=_PATIENCE)


def _forked() -> None:
    global _default_lock
    _default_lock = threading.Lock()
    for shared in list(_all):
        shared.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
