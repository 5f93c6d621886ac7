"""The way of a dead token: from the Switch that killed it to the Merges that stopped it.

Works on what ran in a step, whoever kept it: a recorded run's executions, or a debugger's history.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from engine.passes.stage import Stage, StageNode


class Place(NamedTuple):
    """A node in one iteration of one frame (by frame id)."""

    node: str
    frame: int
    iteration: int


@dataclass(frozen=True)
class DeadPath:
    """`chain` leads from the first node that the deadness reached to the node asked about.

    `killer` is the Switch that sent its token the other way, or None where the way back leaves what is known.  `stops` are where
    the deadness ended: live Merges, and the NextIterations and Exits that pass none on.
    """

    killer: Place | None
    chain: tuple[Place, ...]
    stops: tuple[Place, ...]


def dead_path(
    stage: Stage, ran: Mapping[Place, bool], parents: Mapping[int, tuple[int, int]], start: Place
) -> DeadPath:
    """The way of the deadness that reached `start`.

    ran: what has executed, and whether it was dead.  parents: for each frame but the root, the frame and iteration that it was
    entered from.  Raises ValueError if `start` did not run, or not dead.
    """
    if not ran.get(start, False):
        raise ValueError(f"'{start.node}' was not dead there")
    known = _Known(stage, ran, parents)
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
    return DeadPath(killer, tuple(chain), known.stops(start))


class _Known:
    def __init__(
        self, stage: Stage, ran: Mapping[Place, bool], parents: Mapping[int, tuple[int, int]]
    ) -> None:
        self._stage = stage
        self._ran = ran
        self._parents = parents

    def _flow(self, node: StageNode) -> str:
        return str(getattr(node.opdef, "flow", ""))

    def _source(self, name: str, at: Place) -> Place | None:
        """Where the token from node `name` that arrived at `at` came from, if that is known to have run."""
        flow = self._flow(self._stage.nodes[name])
        if flow == "enter" and at.frame in self._parents:
            found = Place(name, *self._parents[at.frame])
        elif flow == "next_iteration":
            found = Place(name, at.frame, at.iteration - 1)
        elif flow == "exit":
            frames = [frame for frame, origin in self._parents.items() if origin == (at.frame, at.iteration)]
            runs = [place for place in self._ran if place.node == name and place.frame in frames]
            return max(runs, key=lambda place: place.iteration, default=None)
        else:
            found = Place(name, at.frame, at.iteration)
        return found if found in self._ran else None

    def cause(self, at: Place) -> Place | None:
        """Which of the nodes before `at` brought it deadness: a dead one, else a live Switch."""
        node = self._stage.nodes[at.node]
        names = dict.fromkeys([*(name for name, _ in node.inputs), *node.control_inputs])
        sources = [found for name in names if (found := self._source(name, at)) is not None and found != at]
        for found in sources:
            if self._ran[found]:
                return found
        for found in sources:
            if self._flow(self._stage.nodes[found.node]) == "switch":
                return found
        return None

    def stops(self, start: Place) -> tuple[Place, ...]:
        """Where the deadness of `start` went and ended."""
        found: dict[Place, None] = {}
        seen = {start}
        queue = deque([start])
        while queue:
            at = queue.popleft()
            flow = self._flow(self._stage.nodes[at.node])
            if flow in ("next_iteration", "exit"):
                found[at] = None
                continue
            for name in self._stage.consumers[at.node]:
                for place in self._targets(at, name, flow):
                    dead = self._ran.get(place)
                    if dead is None or place in seen:
                        continue
                    seen.add(place)
                    if dead:
                        queue.append(place)
                    else:
                        found[place] = None
        return tuple(found)

    def _targets(self, at: Place, name: str, flow: str) -> list[Place]:
        if flow != "enter":
            return [Place(name, at.frame, at.iteration)]
        frames = [frame for frame, origin in self._parents.items() if origin == (at.frame, at.iteration)]
        return [Place(name, frame, 0) for frame in frames]
