"""Rendezvous: where a `_Send` leaves a tensor and a `_Recv` takes it, under a key that both know.

A key is ``{source device};{its incarnation};{destination device};{tensor};{frame}:{iteration}``, as in TensorFlow: each tensor is
sent at most once under it.  What is sent may be the dead token.  The table is a resource of the step, so that sends and receives
are writes, which can be undone; it has a lock, and no threads, clock or devices of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from engine.runtime.resources import MISSING, Keyed, ResourceManager, Write
from engine.types import errors

Callback = Callable[["errors.OpError | None"], None]


class Parcel(NamedTuple):
    """What was sent: the token, when (ns), and its size; `token` is DEAD for a dead tensor."""

    token: Any
    dead: bool
    sent_ns: int
    nbytes: int


class Sent(NamedTuple):
    """A tensor that was sent and has not been taken."""

    key: str
    sent_ns: int
    nbytes: int
    dead: bool


class Awaited(NamedTuple):
    """A key that somebody waits for, and since when."""

    key: str
    since_ns: int


class RendezvousState(NamedTuple):
    """All that is in the table, oldest first; `aborted` is what it was aborted with."""

    waiting: tuple[Awaited, ...]
    sent: tuple[Sent, ...]
    aborted: errors.OpError | None


def make_key(source: str, incarnation: int, destination: str, tensor: str) -> str:
    """The part of a key that is the same in all frames and iterations, which `:` and the frame's tag and iteration follow."""
    return f"{source};{incarnation & 0xFFFFFFFFFFFFFFFF:016x};{destination};{tensor};"


class Rendezvous(Keyed):
    """The keyed table of one step."""

    kind = "rendezvous"

    def __init__(self, container: str) -> None:
        super().__init__(container, "rendezvous", {})
        self._waiting: dict[str, tuple[int, Callback]] = {}
        self._error: errors.OpError | None = None

    def send(self, resources: ResourceManager, key: str, parcel: Parcel) -> Write:
        """Put `parcel` under `key`; whoever waits for it is told.

        Raises InternalError if something has been sent under this key and not taken, and what the table was aborted with.
        """
        with self.lock:
            if self._error is not None:
                raise self._error
            if key in self.value:
                raise errors.InternalError(None, None, f"A tensor was sent twice under the key {key}")
            write = resources.write_item(self, key, parcel, "send")
            waiting = self._waiting.pop(key, None)
        if waiting is not None:
            waiting[1](None)
        return write

    def recv_async(self, key: str, callback: Callback, now_ns: int = 0) -> bool:
        """Call `callback(None)` as soon as `recv(key)` will find something: at once if it is there already (then True).

        Taking it is `recv`'s, since it is the receiver's execution, and may be undone.  `callback(error)` says that the table
        was aborted.  Raises InternalError if somebody waits for the key already.
        """
        with self.lock:
            if self._error is None and key not in self.value:
                if key in self._waiting:
                    raise errors.InternalError(None, None, f"Two receives wait for the key {key}")
                self._waiting[key] = (now_ns, callback)
                return False
        callback(self._error)
        return True

    def recv(self, resources: ResourceManager, key: str) -> tuple[Parcel, Write]:
        """Take what is under `key`.  Raises InternalError if there is nothing, and what the table was aborted with."""
        with self.lock:
            if self._error is not None:
                raise self._error
            parcel = self.value.get(key)
            if parcel is None:
                raise errors.InternalError(None, None, f"Nothing has been sent under the key {key}")
            return parcel, resources.write_item(self, key, MISSING, "recv")

    def forget_waiting(self) -> dict[str, int]:
        """Nobody waits any more; gives who did since when, so that a step that was taken back can wait anew."""
        with self.lock:
            since = {key: since_ns for key, (since_ns, _) in self._waiting.items()}
            self._waiting.clear()
        return since

    def forget_error(self) -> None:
        """Be as before `abort`, for a step that is looked at once more; nobody waits."""
        with self.lock:
            self._error = None

    def abort(self, error: errors.OpError) -> None:
        """Let every send and receive from now on raise `error`, and tell those that wait; a second abort does nothing."""
        with self.lock:
            if self._error is not None:
                return
            self._error = error
            waiting, self._waiting = self._waiting, {}
        for _, callback in waiting.values():
            callback(error)

    def state(self) -> RendezvousState:
        """Who waits for what since when, and what was sent and not taken."""
        with self.lock:
            return RendezvousState(
                tuple(Awaited(key, since_ns) for key, (since_ns, _) in self._waiting.items()),
                tuple(Sent(key, each.sent_ns, each.nbytes, each.dead) for key, each in self.value.items()),
                self._error,
            )
