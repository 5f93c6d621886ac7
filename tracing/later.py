"""Work that can wait: done by a thread a while later, while the program does other things, or at the end."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Later(Generic[T]):
    """Calls `work` for each thing that was put, in order, one at a time, about `seconds` after it was put or when it is told to.

    What `work` raises in the thread goes to `failed`, and nothing more is done.  Thread-safe.
    """

    def __init__(
        self, work: Callable[[T], None], failed: Callable[[Exception], None], seconds: float
    ) -> None:
        self._work = work
        self._failed = failed
        self._seconds = seconds
        self._waiting: deque[T] = deque()
        self._lock = threading.Lock()  # around the work
        self._starting = threading.Lock()
        self._running = False

    def put(self, thing: T) -> None:
        """This is to be done."""
        self._waiting.append(thing)
        with self._starting:
            if self._running:
                return
            self._running = True
        try:
            threading.Thread(target=self._run, name="run-later", daemon=True).start()
        except RuntimeError:  # there can be no more threads
            self._running = False
            self.finish()

    def finish(self) -> None:
        """Do now what has not been done yet."""
        while self._one():
            pass

    def forget(self) -> None:
        """Do nothing of it, as in a forked child, where another thread of the parent may have held the locks."""
        self._waiting.clear()
        self._lock, self._starting = threading.Lock(), threading.Lock()
        self._running = False

    def _one(self) -> bool:
        with self._lock:
            try:
                thing = self._waiting.popleft()
            except IndexError:
                return False
            self._work(thing)
            return True

    def _run(self) -> None:
        while True:
            time.sleep(self._seconds)
            try:
                self.finish()
            except Exception as problem:
                self._waiting.clear()
                self._failed(problem)
            with self._starting:
                if not self._waiting:
                    self._running = False
                    return
