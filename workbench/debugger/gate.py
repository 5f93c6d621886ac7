"""Gate: lets nobody else's step move while an earlier `Session.run` is looked at, since the resources are then as they were.

Every step that goes through the debugger has entered.  Whoever finds the gate closed waits there; whoever waits for something
else that only the closing thread can end is at rest, too.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Gate:
    """See the module.  `closed` may be read at any time without a lock."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside: dict[int, int] = {}  # by thread, how many steps it is in
        self._resting: dict[int, int] = {}
        self._by = 0
        self.closed = False

    @contextmanager
    def inside(self) -> Iterator[None]:
        """A step of this thread is under way inside the `with` block; waits while the gate is closed by another thread."""
        thread = threading.get_ident()
        with self._changed:
            while self.closed and self._by != thread:
                self._changed.wait()
            self._inside[thread] = self._inside.get(thread, 0) + 1
        try:
            yield
        finally:
            with self._changed:
                _less(self._inside, thread)
                self._changed.notify_all()

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """This thread's step does not move inside the `with` block, nor after it as long as the gate is closed."""
        thread = threading.get_ident()
        with self._changed:
            self._resting[thread] = self._resting.get(thread, 0) + 1
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                while self.closed and self._by != thread:
                    self._changed.wait()
                _less(self._resting, thread)

    def wait(self) -> None:
        """Between two nodes: wait while the gate is closed by another thread."""
        if self.closed and self._by != threading.get_ident():
            with self.at_rest():
                pass

    def close(self, seconds: float) -> bool:
        """Close it, and wait until nobody else moves; False, and open again, if somebody still does after so long."""
        thread = threading.get_ident()
        with self._changed:
            self.closed, self._by = True, thread

            def still() -> bool:
                return all(each == thread or each in self._resting for each in self._inside)

            if self._changed.wait_for(still, seconds):
                return True
        self.open()
        return False

    def open(self) -> None:
        """Let everybody go on."""
        with self._changed:
            self.closed, self._by = False, 0
            self._changed.notify_all()


def _less(counts: dict[int, int], key: int) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
