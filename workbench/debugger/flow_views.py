"""What control flow has done so far, as parts of a snapshot: what resources hold, and the way of a dead token."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from engine.runtime.frames import DEAD, Activation
from engine.runtime.queues import Queue
from engine.runtime.rendezvous import Rendezvous
from engine.runtime.resources import NO_KEY, Resource, Stack, TensorArray, Write
from tracing.dead_path import STOPS, DeadPath, Place, chose_text, dead_path
from tracing.frames import flow_of
from tracing.stacks import Resources
from workbench.debugger import source
from workbench.debugger.frame_notes import path
from workbench.debugger.history import History
from workbench.debugger.snapshot import (
    MAX_ELEMENTS,
    MAX_RESOURCES,
    MAX_WAY,
    ElementView,
    PlaceView,
    ResourceView,
    ValueSummary,
    WayView,
    WriterView,
)
from workbench.debugger.stepping import Stepping
from workbench.debugger.values import Summaries

_ORDER = {Stack.kind: 0, TensorArray.kind: 1, "variable": 2}


def resource_views(stepping: Stepping, summaries: Summaries) -> tuple[tuple[ResourceView, ...], int]:
    """What the session's resources hold, the step's stacks and arrays first, and how many resources there are."""
    mine = stepping.step.context.container
    found = [
        each
        for each in stepping.step.resources
        if (not each.container.startswith("_step_") or each.container == mine)
        and not isinstance(each, Rendezvous)  # `info transfers` tells of it
    ]
    found.sort(key=lambda each: (_ORDER.get(each.kind, 3), each.name))
    writers = _writers_of(stepping)
    return tuple(_resource(each, writers, stepping.uses, summaries) for each in found[:MAX_RESOURCES]), len(
        found
    )


def _resource(resource: Resource, writers: _Writers, uses: Resources, summaries: Summaries) -> ResourceView:
    if isinstance(resource, Queue):
        contents, by = summaries.of(resource), writers.of(resource)
        return ResourceView(resource.name, resource.kind, resource.version, value=contents, by=by)
    if not isinstance(resource, Stack | TensorArray):
        value = _summary(resource.value, summaries) if resource.value is not None else None
        by = writers.of(resource)
        return ResourceView(resource.name, resource.kind, resource.version, value=value, by=by)
    if isinstance(resource, Stack):
        size = resource.size
        held = [(int(cell[2]) - 1, cell[1], writers.of(resource, id(cell))) for cell in _cells(resource)]
    else:
        size = resource.size
        kept = sorted(resource.value)[:MAX_ELEMENTS]
        held = [(i, resource.value[i], writers.of(resource, i)) for i in kept]
    use = uses.use_of(resource.name)
    return ResourceView(
        resource.name,
        resource.kind,
        resource.version,
        size,
        tuple(
            ElementView(i, _summary(value, summaries) if value is not None else None, by)
            for i, value, by in held
        ),
        keeps=use.keeps if use is not None else (),
        readers=use.readers if use is not None else (),
        original=use.original if use is not None else "",
        made_at=source.short_place(use.site) if use is not None else "",
    )


def _cells(stack: Stack) -> Iterator[Any]:
    """The cells of a stack from its top, as many as are shown."""
    cell = stack.value
    for _ in range(MAX_ELEMENTS):
        if cell is None:
            return
        yield cell
        cell = cell[0]


def _summary(value: Any, summaries: Summaries) -> ValueSummary:
    return summaries.of(value, in_passing=True)


class _Writers:
    """Who wrote what is there, as far back as the history goes: kept up to date rather than searched for at each stop.

    `_by`: of each thing the rows that wrote it, the latest last.  Of an array's item, the key is its index; of a stack's element,
    the cell that holds it; of anything else, None.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self._by: dict[tuple[int, Any], deque[int]] = {}
        self._rows: deque[tuple[int, list[tuple[int, Any]]]] = deque()  # with what they wrote
        self._at = 0  # the row up to which it is known
        self._turns = history.turns

    def follow(self) -> None:
        """Take in what has executed, been taken back or been forgotten since."""
        history = self._history
        with history.lock:
            rows, self._at = self._rows, min(self._at, history.same_up_to(self._turns))
            self._turns = history.turns
            while rows and rows[-1][0] >= self._at:
                for key in rows.pop()[1]:
                    self._by[key].pop()
            while rows and rows[0][0] < history.first:
                for key in rows.popleft()[1]:
                    self._by[key].popleft()
            wrote = history.wrote
            for row in wrote[bisect_left(wrote, self._at) :]:
                keys = _keys(history.writes(row))
                rows.append((row, keys))
                for key in keys:
                    self._by.setdefault(key, deque()).append(row)
            self._at = history.end

    def of(self, resource: Resource, key: Any = None) -> WriterView | None:
        rows = self._by.get((id(resource), key))
        if not rows:
            return None
        at = self._history.activation(rows[-1])
        return WriterView(rows[-1], at.name, path(at.frame, at.iteration))


def _keys(writes: Sequence[Write]) -> list[tuple[int, Any]]:
    """What was written, as in `_Writers`."""
    keys: list[tuple[int, Any]] = []
    for write in writes:
        if write.key is not NO_KEY:
            keys.append((id(write.resource), write.key))
        elif not isinstance(write.resource, Stack):
            keys.append((id(write.resource), None))
        elif write.kind == "push":
            keys.append((id(write.resource), id(write.new)))
    return keys


_writers: WeakKeyDictionary[Stepping, _Writers] = WeakKeyDictionary()


def _writers_of(stepping: Stepping) -> _Writers:
    """The writers of a step, up to date."""
    history = stepping.history
    writers = _writers.get(stepping)
    if writers is None:
        writers = _writers[stepping] = _Writers(history)
    writers.follow()
    return writers


# The way of a dead token.


def way_view(stepping: Stepping, asked: Activation) -> WayView | None:
    """The way of the deadness that reached `asked`, which ran dead or is to; None if it is (again) not known to be dead."""
    known = _History(stepping, asked)
    start = place_of(asked)
    if not known.get(start, False):
        return None
    found = dead_path(stepping.step.stage, known, known.parents, start, known.chose)
    return WayView(
        known.view(start),
        known.view(found.killer, chose_text(found)) if found.killer is not None else None,
        tuple(known.view(place) for place in _middle_out(found)),
        tuple(known.stop(place) for place in found.stops[:MAX_WAY]),
        found.predicate,
        found.chose,
    )


def _middle_out(found: DeadPath) -> tuple[Place, ...]:
    half = MAX_WAY // 2
    chain = found.chain
    return chain if len(chain) <= MAX_WAY else (*chain[:half], *chain[-half:])


def place_of(activation: Activation) -> Place:
    """An activation as a place: its node, frame id and iteration."""
    return Place(activation.name, activation.frame.id, activation.iteration)


class _History(Mapping[Place, bool]):
    """What a step's history says of places: each that has run, with its deadness; and `asked`, which is to run dead."""

    def __init__(self, stepping: Stepping, asked: Activation) -> None:
        self._stage = stepping.step.stage
        self._entries = {place_of(entry.activation): entry for entry in stepping.history}
        self._asked = asked
        state = stepping.state
        is_ahead = asked in state.outstanding and state.is_dead(asked)
        self._ahead = place_of(asked) if is_ahead else None
        self.parents = {
            note.id: (note.parent, note.parent_iteration) for note in stepping.frames.by_id.values()
        }

    def __getitem__(self, place: Place) -> bool:
        return place == self._ahead or self._entries[place].outputs is None

    def __iter__(self) -> Iterator[Place]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def chose(self, switch: Place) -> bool | None:
        """The value of the predicate of a Switch that has run alive."""
        entry = self._entries.get(switch)
        return None if entry is None or entry.outputs is None else entry.outputs[0] is DEAD

    def view(self, place: Place, note: str = "") -> PlaceView:
        entry = self._entries.get(place)
        at = entry.activation if entry is not None else self._asked
        where = path(at.frame, at.iteration)
        return PlaceView(place.node, at.item.node.type, where, entry.row if entry is not None else -1, note)

    def stop(self, place: Place) -> PlaceView:
        """A place where the deadness ended, with why."""
        return self.view(place, STOPS.get(flow_of(self._stage.nodes[place.node]), ""))
