"""Transfers: what a step's `_Send`s and `_Recv`s do, around its rendezvous; and which `_Recv`s are parked."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from engine.runtime.frames import DEAD, Activation
from engine.runtime.program import RECV
from engine.runtime.rendezvous import Parcel, Rendezvous
from engine.runtime.resources import ResourceManager, Write
from engine.types import errors

if TYPE_CHECKING:
    from engine.runtime.executable import Route

_now = time.perf_counter_ns


class Transfers:
    """The rendezvous of one step, and by key the `_Recv` activations that wait at it (`parked`)."""

    def __init__(self, routes: Mapping[int, Route], resources: ResourceManager, container: str) -> None:
        self.rendezvous: Rendezvous = resources.get_or_create(
            container, "rendezvous", Rendezvous, lambda: Rendezvous(container)
        )
        self.parked: dict[str, Activation] = {}
        self._routes = routes
        self._resources = resources
        self._released: deque[Activation] = deque()

    def key(self, activation: Activation) -> str:
        """The rendezvous key of a `_Send` or `_Recv` in its frame and iteration."""
        item, frame, iteration = activation
        return f"{self._routes[item.index].prefix}{frame.tag}:{iteration}"

    def send(self, activation: Activation, token: Any, now_ns: int) -> Write:
        """Put `token`, which may be DEAD, where its `_Recv` finds it."""
        parcel = Parcel(token, token is DEAD, now_ns, getattr(token, "nbytes", 0))
        return self.rendezvous.send(self._resources, self.key(activation), parcel)

    def recv(self, activation: Activation) -> tuple[Any, Write]:
        """Take the token, into the memory of the device that receives; gives it and the record of the taking."""
        parcel, write = self.rendezvous.recv(self._resources, self.key(activation))
        token = parcel.token
        route = self._routes[activation.item.index]
        if route.source is not route.destination and hasattr(token, "dtype"):
            token = route.destination.copy(token, route.source)
            route.destination.name_array(token, route.tensor)
        return token, write

    def settle(self, run: list[Activation]) -> None:
        """Of what has become ready leave in `run` what may run, park the rest, and add the `_Recv`s that a `_Send` has let go."""
        if any(activation.item.flow == RECV for activation in run):
            for activation in run:
                if activation.item.flow == RECV:
                    self._park(activation, _now())
            run[:] = [activation for activation in run if activation.item.flow != RECV]
        released = self._released
        while released:
            run.append(released.popleft())

    def park_anew(self, ready: Sequence[Activation]) -> None:
        """After a step back: let the `_Recv`s among `ready` wait whose tensors are not there (any more)."""
        since = self.rendezvous.forget_waiting()
        self.parked.clear()
        for activation in ready:
            if activation.item.flow == RECV:
                self._park(activation, since.get(self.key(activation), 0) or _now())
        self._released.clear()  # who asks for what is ready finds them there

    def _park(self, activation: Activation, since_ns: int) -> None:
        key = self.key(activation)
        self.parked[key] = activation  # before asking: another thread may send in this moment
        self.rendezvous.recv_async(key, partial(self._release, key), since_ns)

    def _release(self, key: str, error: errors.OpError | None) -> None:
        activation = self.parked.pop(key, None)
        if activation is not None and error is None:
            self._released.append(activation)
