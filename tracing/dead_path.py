"""The way of a dead token: from the Switch that killed it to where it was stopped.

Works on what ran in a step, whoever kept it: a recorded run's executions, or a debugger's history.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from engine.observe import Executions
from engine.passes.stage import Stage
from tracing.frames import flow_of


class Place(NamedTuple):
    """A node in one iteration of one frame (by frame id)."""

    node: str
    frame: int
    iteration: int


@dataclass(frozen=True)
class DeadPath:
    """`chain` leads from the first node that the deadness reached to the node asked about.

    `killer` is the Switch that sent its token the other way, or None where the way back leaves what is known.  `predicate` is
    the tensor that it went by and `chose` that tensor's value there (None where what ran does not tell).  `stops` are where the
    deadness ended: live Merges, and the NextIterations and Exits that pass none on.
    """

    killer: Place | None
    chain: tuple[Place, ...]
    stops: tuple[Place, ...]
    predicate: str = ""
    chose: bool | None = None


Chose = Callable[[Place], bool | None]


def dead_path(
    stage: Stage,
    ran: Mapping[Place, bool],
    parents: Mapping[int, tuple[int, int]],
    start: Place,
    chose: Chose = lambda place: None,
) -> DeadPath:
    """The way of the deadness that reached `start`.

    ran: what has executed, and whether it was dead.  parents: for each frame but the root, the frame and iteration that it was
    entered from.  chose: the predicate's value at a Switch, where it is known; else it is told from what ran behind the Switch.
    Raises ValueError if `start` did not run, or not dead.
    """
    if not ran.get(start, False):
        raise ValueError(f"'{start.node}' was not dead there")
    known = _Known(stage, ran, parents, chose)
    chain = [start]
    killer: Place | None = None
    while True:
        cause = known.cause(chain[0])
        if cause is None:
            break
        if not ran[cause]:
            killer = cause
            break
        chain.insert(0, cause)
    stops = known.stops(start)
    if killer is None:
        return DeadPath(None, tuple(chain), stops)
    source, slot = stage.nodes[killer.node].inputs[1]
    return DeadPath(killer, tuple(chain), stops, f"{source}:{slot}", known.predicate(killer, chain[0]))


class Ran(Mapping[Place, bool]):
    """What a step executed, from its columns: each place with its deadness; `row` is the number of its execution."""

    def __init__(self, stage: Stage, executions: Executions) -> None:
        names = stage.order
        columns = (executions.node.tolist(), executions.frame.tolist(), executions.iteration.tolist())
        self._rows = {
            Place(names[node], frame, iteration): row
            for row, (node, frame, iteration) in enumerate(zip(*columns))
        }
        self._dead = executions.dead.tolist()

    def __getitem__(self, place: Place) -> bool:
        return bool(self._dead[self._rows[place]])

    def __iter__(self) -> Iterator[Place]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, place: Place) -> int:
        """The number of the execution at `place`.  Raises KeyError if there is none."""
        return self._rows[place]

    def last_dead(self, node: str, frame: int | None = None, iteration: int | None = None) -> Place | str:
        """Where `node` ran dead last, in that frame and iteration if they are given; or why there is no such place."""
        places = [
            place
            for place in self._rows
            if place.node == node and frame in (None, place.frame) and iteration in (None, place.iteration)
        ]
        dead = [place for place in places if self[place]]
        if dead:
            return max(dead, key=self._rows.__getitem__)
        there = "" if frame is None and iteration is None else " there"
        return f"'{node}' was alive{there}" if places else f"'{node}' did not run{there}"


STOPS = {
    "merge": "alive: another of its inputs was",
    "next_iteration": "begins no further iteration",
    "exit": "passes no dead token on while a later iteration may leave alive",
}
"""Why deadness ends at a node, by its role in control flow."""


def chose_text(path: DeadPath) -> str:
    """What a Switch went by, and how it chose."""
    if path.chose is None:
        return f"by {path.predicate}"
    return f"{path.predicate} was {path.chose}: output {int(not path.chose)} is dead"


class _Known:
    def __init__(
        self, stage: Stage, ran: Mapping[Place, bool], parents: Mapping[int, tuple[int, int]], chose: Chose
    ) -> None:
        self._stage = stage
        self._ran = ran
        self._parents = parents
        self._chose = chose
        self._exits: dict[tuple[str, int], Place] = {}  # the last execution of each Exit in each frame
        exits = {node.name for node in stage if flow_of(node) == "exit"}
        for place in ran:
            if place.node in exits:
                key = (place.node, place.frame)
                before = self._exits.get(key)
                if before is None or before.iteration < place.iteration:
                    self._exits[key] = place

    def _flow(self, name: str) -> str:
        return flow_of(self._stage.nodes[name])

    def _inside(self, at: Place) -> list[int]:
        """The frames that were entered from the iteration of `at`."""
        return [frame for frame, origin in self._parents.items() if origin == (at.frame, at.iteration)]

    def _source(self, name: str, at: Place) -> Place | None:
        """Where the token from node `name` that arrived at `at` came from, if that is known to have run."""
        flow = self._flow(name)
        found: Place | None
        if flow == "enter" and at.frame in self._parents:
            found = Place(name, *self._parents[at.frame])
        elif flow == "next_iteration":
            found = Place(name, at.frame, at.iteration - 1)
        elif flow == "exit":
            runs = [self._exits[name, frame] for frame in self._inside(at) if (name, frame) in self._exits]
            found = runs[0] if runs else None
        else:
            found = Place(name, at.frame, at.iteration)
        return found if found in self._ran else None

    def cause(self, at: Place) -> Place | None:
        """Which of the nodes before `at` brought it deadness: a dead one, else a live Switch that chose its other output."""
        node = self._stage.nodes[at.node]
        names = dict.fromkeys([*(name for name, _ in node.inputs), *node.control_inputs])
        sources = [found for name in names if (found := self._source(name, at)) is not None and found != at]
        for found in sources:
            if self._ran[found]:
                return found
        # A control edge from a live Switch is alive, whichever way it sent its token.
        behind = dict.fromkeys(name for name, _ in node.inputs)
        switches = [found for found in sources if found.node in behind and self._flow(found.node) == "switch"]
        return next((found for found in switches if self._kills(found, at)), None)

    def _kills(self, switch: Place, at: Place) -> bool:
        """Whether one of the Switch's outputs that `at` reads is dead, as far as that is known."""
        value = self.predicate(switch, at)
        slots = {slot for name, slot in self._stage.nodes[at.node].inputs if name == switch.node}
        return value is None or int(not value) in slots

    def predicate(self, switch: Place, killed: Place) -> bool | None:
        """The value of a live Switch's predicate; without witnesses, what it must have been if nothing else killed `killed`."""
        value = self._chose(switch)
        if value is not None:
            return value
        pred = self._stage.nodes[switch.node].inputs[1]
        # Whatever ran alive behind it, or behind another Switch of the same predicate, tells.
        for name in self._stage.consumers[pred[0]]:
            other = self._stage.nodes[name]
            if flow_of(other) != "switch" or other.inputs[1] != pred:
                continue
            for user in self._stage.consumers[name]:
                place = Place(user, switch.frame, switch.iteration)
                if self._flow(user) == "merge" or self._ran.get(place, True):
                    continue
                slots = {slot for source, slot in self._stage.nodes[user].inputs if source == name}
                if len(slots) == 1:
                    return bool(slots.pop())
        node = self._stage.nodes[killed.node]
        behind = {name for name, _ in node.inputs}
        slots = {slot for name, slot in node.inputs if name == switch.node}
        others = [name for name in behind - {switch.node} if self._flow(name) == "switch"]
        return not slots.pop() if len(slots) == 1 and not others else None

    def stops(self, start: Place) -> tuple[Place, ...]:
        """Where the deadness of `start` went and ended."""
        found: dict[Place, None] = {}
        seen = {start}
        queue = deque([start])
        while queue:
            at = queue.popleft()
            flow = self._flow(at.node)
            targets = self._targets(at, flow)
            if flow == "next_iteration" or (flow == "exit" and not targets):
                found[at] = None
            for place in targets:
                dead = self._ran.get(place)
                if dead is None or place in seen:
                    continue
                seen.add(place)
                if dead:
                    queue.append(place)
                else:
                    found[place] = None
        return tuple(found)

    def _targets(self, at: Place, flow: str) -> list[Place]:
        """Where the dead tokens of `at` go."""
        users = self._stage.consumers[at.node]
        if flow == "next_iteration":
            return []
        if flow == "exit":
            # It passes a dead token on when its frame has ended, if it was dead in the last iteration too.
            if at.frame not in self._parents or self._exits.get((at.node, at.frame)) != at:
                return []
            outer = self._parents[at.frame]
            return [place for name in users if (place := Place(name, *outer)) in self._ran]
        if flow == "enter":
            return [Place(name, frame, 0) for name in users for frame in self._inside(at)]
        return [Place(name, at.frame, at.iteration) for name in users]
