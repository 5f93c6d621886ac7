"""What control flow has done so far, as parts of a snapshot: what resources hold, and the way of a dead token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from engine.runtime.queues import Queue
from engine.runtime.rendezvous import Rendezvous
from engine.runtime.resources import NO_KEY, Resource, Stack, TensorArray
from engine.runtime.state import DEAD, Activation
from tracing.dead_path import STOPS, DeadPath, Place, chose_text, dead_path
from tracing.frames import flow_of
from tracing.stacks import Resources
from workbench.debugger import source
from workbench.debugger.frame_notes import path
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
from workbench.debugger.stepping import Entry, Stepping
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
    writers = _Writers(stepping)
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
    """Who wrote what is there, as far back as the history goes."""

    def __init__(self, stepping: Stepping) -> None:
        # Of an array's item, the key is its index; of a stack's element, the cell that holds it; of anything else, None.
        self._by: dict[tuple[int, Any], Entry] = {}
        for entry in stepping.history:
            for write in entry.writes:
                key: Any = None
                if write.key is not NO_KEY:
                    key = write.key
                elif isinstance(write.resource, Stack):
                    if write.kind != "push":
                        continue
                    key = id(write.new)
                self._by[id(write.resource), key] = entry

    def of(self, resource: Resource, key: Any = None) -> WriterView | None:
        entry = self._by.get((id(resource), key))
        if entry is None:
            return None
        at = entry.activation
        return WriterView(entry.row, at.name, path(at.frame, at.iteration))


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
