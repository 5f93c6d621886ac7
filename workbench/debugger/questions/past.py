"""Past: what is kept of earlier steps, to compare with and to know who wrote what a step finds.

Of each step its latest values: what was fetched, what is watched, and whatever is small.  Arrays are kept as they are (nothing
changes them), up to a budget; the oldest steps go first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from engine.runtime.frames import DEAD, Activation
from engine.runtime.program import Item
from engine.runtime.resources import STEP, Resource
from engine.types.site import Frame
from workbench.debugger import source
from workbench.debugger.frame_notes import path
from workbench.debugger.last_outputs import LastOutputs, last_outputs, writes_of
from workbench.debugger.stepping import Stepping
from workbench.debugger.values import Reference

STEPS = 64  # that are kept
UNSIFTED = (
    1 << 20
)  # bytes of all that a step's nodes gave, up to which it is kept as it is until somebody asks
BYTES = 64 << 20  # that their values may take
SMALL = 4096  # bytes of a node's outputs up to which they are kept unasked
WATCHED = 64 << 20  # bytes up to which a watched or fetched tensor is


class Written(NamedTuple):
    """The last change of a resource in an earlier step: by which node, and in which iterations (`place`)."""

    session: int
    step: int
    row: int
    item: Item
    place: str
    kind: str

    @property
    def node(self) -> str:
        """The node's name."""
        return self.item.name

    @property
    def type(self) -> str:
        """The node's op type."""
        return self.item.node.type

    @property
    def line(self) -> str:
        """Where the node was made: ``script.py:12``."""
        return source.short_place(self._user)

    @property
    def code(self) -> str:
        """The text of that line."""
        user = self._user
        return user.source[:80] if user is not None else ""

    @property
    def _user(self) -> Frame | None:
        site = self.item.node.site
        return site.user if site is not None else None


@dataclass(frozen=True)
class PastStep:
    """An earlier step: its session and number there, the outputs that are kept, by node, and fetched tensors by name."""

    session: int
    step: int
    outputs: dict[str, Sequence[Any]]
    fetched: dict[str, Any]
    nbytes: int = 0

    def value(self, tensor: str) -> Any:
        """The tensor's latest value in that step; None if it is not kept, DEAD if it was dead."""
        if tensor in self.fetched:
            return self.fetched[tensor]
        name, _, slot = tensor.partition(":")
        outputs = self.outputs.get(name)
        if outputs is None or int(slot or 0) >= len(outputs):
            return None
        value = outputs[int(slot or 0)]
        return value.value if isinstance(value, Reference) else value


class _Ended(NamedTuple):
    """A step that has ended and that nobody has asked about: all that its nodes gave last, and which of them are watched."""

    session: int
    step: int
    given: LastOutputs
    watched: frozenset[str]
    fetched: dict[str, Any]
    nbytes: int

    def sifted(self) -> PastStep:
        """What is to be kept of it."""
        outputs: dict[str, Sequence[Any]] = {}
        nbytes = 0
        for item, given in self.given.items():
            if not given:
                continue
            size = sum([getattr(value, "nbytes", 0) for value in given])
            name = item.node.name
            if size <= SMALL or (name in self.watched and size <= WATCHED):
                outputs[name] = given
                nbytes += size
        nbytes += sum(getattr(value, "nbytes", 0) for value in self.fetched.values())
        return PastStep(self.session, self.step, outputs, self.fetched, nbytes)


class Past:
    """The steps that have ended, oldest first, and the tensors that are watched (by name, ``"add:0"``).

    What is to be kept of a step is sifted out when somebody asks for it, if what there is takes little room (`UNSIFTED`).
    """

    def __init__(self) -> None:
        self.watched: dict[str, None] = {}
        self._steps: deque[PastStep | _Ended] = deque()
        self._unsifted = False
        self._bytes = 0
        self._writers: WeakKeyDictionary[Resource, Written] = WeakKeyDictionary()

    @property
    def steps(self) -> Sequence[PastStep]:
        """Those that are kept."""
        if self._unsifted:
            self._unsifted = False
            self._steps = deque(each.sifted() if isinstance(each, _Ended) else each for each in self._steps)
            self._bytes = sum(each.nbytes for each in self._steps)
        return self._steps  # type: ignore[return-value]

    def take(self, stepping: Stepping) -> dict[Resource, Written | None]:
        """Keep what is to be kept of a step that ends; gives, of what it has changed, who had done so last before."""
        step, info = stepping.step, stepping.step.info
        session, number = (info.session, info.step) if info is not None else (0, 0)
        fetched = {
            name: value
            for name, value in zip(step.stage.fetches, step.context.results)
            if value is not None and value is not DEAD and getattr(value, "nbytes", 0) <= WATCHED
        }
        watched = frozenset(tensor.partition(":")[0] for tensor in self.watched)
        nbytes = stepping.bytes_at_most
        with stepping.unread.lock:
            before = self._take_writers(stepping, session, number)
            given = last_outputs(stepping)
        ended = _Ended(session, number, given, watched, fetched, nbytes)
        little = nbytes <= UNSIFTED
        self._unsifted = self._unsifted or little
        self._steps.append(ended if little else ended.sifted())
        self._bytes += self._steps[-1].nbytes
        while len(self._steps) > 1 and (len(self._steps) > STEPS or self._bytes > BYTES):
            self._bytes -= self._steps.popleft().nbytes
        return before

    def without(self, later: Sequence[Mapping[Resource, Written | None]]) -> Past:
        """What it was before the last steps; `later` has of each, the oldest first, what `take` gave."""
        found = Past()
        found.watched = self.watched
        found._steps = deque(list(self._steps)[: max(0, len(self._steps) - len(later))])
        found._unsifted = self._unsifted
        found._bytes = sum(each.nbytes for each in found._steps)
        found._writers = WeakKeyDictionary(self._writers)
        for before in reversed(later):
            for resource, writer in before.items():
                if writer is None:
                    found._writers.pop(resource, None)
                else:
                    found._writers[resource] = writer
        return found

    def _take_writers(self, stepping: Stepping, session: int, number: int) -> dict[Resource, Written | None]:
        last: dict[Resource, tuple[int, Activation, str]] = {}
        for row, at, writes in writes_of(stepping):
            for write in writes:
                if not write.resource.container.startswith(STEP):
                    last[write.resource] = (row, at, write.kind)
        before: dict[Resource, Written | None] = {}
        for resource, (row, at, kind) in last.items():
            before[resource] = self._writers.get(resource)
            self._writers[resource] = Written(
                session, number, row, at.item, path(at.frame, at.iteration), kind
            )
        return before

    def writer_of(self, resource: Resource) -> Written | None:
        """Who changed a resource last in an earlier step that was looked at."""
        return self._writers.get(resource)

    def step(self, number: int, session: int) -> PastStep | None:
        """Step `number` of a session, if it is kept."""
        return next(
            (each for each in reversed(self.steps) if (each.session, each.step) == (session, number)), None
        )
