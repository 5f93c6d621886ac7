"""Timeline: the discrete-event simulation of one step.

Each device has one executor, which takes what has arrived there first; a tensor goes to each device that needs it once, as soon
as it is made.  Links are as fast for many tensors as for one, unless they are `shared`: then tensors on the way from one device
to another go one after the other.  What is at hand when a step begins (constants, variables, fed values, and reads of them)
takes no executor's time.  Everything is deterministic: of what arrives at one time, what became ready first goes first, and of
what ends at one time, the node that comes first in the stage makes others ready first.

`choose` is called when all that an execution waits for is done: it sees to it that the node, and what is at hand of its inputs,
are in `place`.  So the greedy placement and the simulation of what it has decided are one and the same piece of code.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from engine.op.registry import ANY, HOST, Memory
from engine.passes.stage import StageNode
from engine.placement.costs import Costs
from engine.placement.unroll import Execution
from engine.placement.work import tensor_bytes

if TYPE_CHECKING:
    from engine.device.device import Device

AT_HAND = frozenset(("Const", "Variable", "VariableV2", "Placeholder", "PlaceholderV2", "_Arg"))
_FINISH, _START = range(2)  # at one time, what ends comes before what begins

Edge = tuple[Execution, int, int]
Choose = Callable[["Timeline", Execution, float], None]


class Move(NamedTuple):
    """Output `slot` (-1: only the news that it is done) of `execution` goes from `source` to `destination`."""

    execution: Execution
    slot: int
    source: str
    destination: str
    start_ns: float
    end_ns: float
    nbytes: int


class Waiting(NamedTuple):
    """What a device has been given and has not begun; its inputs are all there at `arrival_ns`."""

    arrival_ns: float
    turn: int  # how many became ready before it
    number: int  # the execution's index
    cost_ns: float


def at_hand(executions: Sequence[Execution]) -> list[bool]:
    """For each execution whether its output is there when the step begins."""
    found: list[bool] = []
    for execution in executions:
        type = execution.node.type
        if type == "Identity":
            found.append(not execution.waits and all(found[source.index] for source in execution.sources))
        else:
            found.append(type in AT_HAND and not execution.inputs and not execution.waits)
    return found


class Timeline:
    """One simulated step: `start_ns` and `end_ns` by an execution's index, `moves`, and `place`, a device for each node."""

    def __init__(
        self,
        executions: Sequence[Execution],
        costs: Costs,
        devices: Sequence[Device],
        place: dict[str, str],
        *,
        choose: Choose | None = None,
        shared: bool = False,
    ) -> None:
        self.executions = executions
        self.costs = costs
        self.place = place
        self.choose = choose
        self.shared = shared
        self.at_hand = at_hand(executions)
        self.start_ns = [0.0] * len(executions)
        self.end_ns = [0.0] * len(executions)
        self.moves: list[Move] = []
        self.waiting: dict[str, list[Waiting]] = {device.name: [] for device in devices}
        self.free_ns: dict[str, float] = dict.fromkeys(self.waiting, 0.0)
        self._host = devices[0].name
        self._apart = {device.name for device in devices if not device.on_host}
        self._memory: dict[str, Memory] = {}
        self._pending = [len(execution.sources) for execution in executions]
        self._sent: dict[tuple[int, int, str, str], float] = {}
        self._link_free: dict[tuple[str, str], float] = {}
        self._turns = itertools.count()
        self._names = [device.name for device in devices]
        self._number = {name: number for number, name in enumerate(self._names)}
        # (when, what, an execution's rank or a device's number, an execution's index)
        self._events: list[tuple[float, int, int, int]] = []

    def run(self) -> Timeline:
        """Simulate to the end; returns self."""
        for execution in sorted(self.executions, key=lambda each: each.rank):
            if not execution.sources:
                self._ready(execution, 0.0)
        events = self._events
        while events:
            now, kind, number, index = heapq.heappop(events)
            if kind == _FINISH:
                self._finish(self.executions[index], now)
            else:
                self._start(self._names[number], now)
        assert not any(self._pending) and not any(self.waiting.values()), "the simulation stopped early"
        return self

    @property
    def makespan_ns(self) -> float:
        """When the last execution ends."""
        return max(self.end_ns, default=0.0)

    # Events.

    def _ready(self, execution: Execution, now: float) -> None:
        """All that `execution` waits for is done."""
        index, name = execution.index, execution.node.name
        if self.at_hand[index]:
            self._finish(execution, 0.0)
            return
        if self.choose is not None:
            self.choose(self, execution, now)
        device = self.place[name]
        arrival = max((self._arrival(execution, edge, device) for edge in edges(execution)), default=now)
        heapq.heappush(
            self.waiting[device], Waiting(arrival, next(self._turns), index, self._cost(index, device))
        )
        heapq.heappush(self._events, (arrival, _START, self._number[device], 0))

    def _start(self, device: str, now: float) -> None:
        """Begin what arrived first, if the device is free and something has arrived."""
        waiting = self.waiting[device]
        if not waiting or self.free_ns[device] > now or waiting[0].arrival_ns > now:
            return
        _, _, index, cost = heapq.heappop(waiting)
        self.start_ns[index] = now
        self.free_ns[device] = end = now + cost
        heapq.heappush(self._events, (end, _FINISH, self.executions[index].rank, index))
        heapq.heappush(self._events, (end, _START, self._number[device], 0))

    def _finish(self, execution: Execution, now: float) -> None:
        self.end_ns[execution.index] = now
        for reader in execution.readers:
            device = self.place.get(reader.node.name)
            if device is not None and not self.at_hand[reader.index]:
                for edge in edges(reader):
                    if edge[0] is execution:
                        self._arrival(reader, edge, device)
        for reader in execution.readers:
            self._pending[reader.index] -= 1
            if self._pending[reader.index] == 0:
                self._ready(reader, now)

    def _cost(self, index: int, device: str) -> float:
        return self.costs.compute_ns(self.executions[index].node, device)

    # Tensors on the way.

    def _arrival(self, reader: Execution, edge: Edge, device: str) -> float:
        """When the tensor of `edge` is where `reader`, on `device`, wants it; sends it there if nobody has."""
        source, slot, _ = edge
        home = self.place.get(source.node.name)
        if home is None:  # at hand, and nobody has said where
            return 0.0
        made = self.end_ns[source.index]
        way = self._way(reader.node, edge, home, device)
        if way is None:
            return made
        key = (source.index, slot, *way)
        arrived = self._sent.get(key)
        if arrived is None:
            nbytes = self._nbytes(source.node, slot)
            begin = max(made, self._link_free.get(way, 0.0)) if self.shared else made
            arrived = begin + self.costs.transfer_ns(nbytes, *way)
            self._sent[key] = self._link_free[way] = arrived
            self.moves.append(Move(source, slot, *way, begin, arrived, nbytes))
        return arrived

    def expected_ns(self, reader: Execution, edge: Edge, home: str, device: str) -> float:
        """When the tensor of `edge`, made on `home`, would be there for `reader` on `device`; sends nothing."""
        source, slot, _ = edge
        made = self.end_ns[source.index]
        way = self._way(reader.node, edge, home, device)
        if way is None:
            return made
        sent = self._sent.get((source.index, slot, *way))
        if sent is not None:
            return sent
        return made + self.costs.transfer_ns(self._nbytes(source.node, slot), *way)

    def finish_ns(self, execution: Execution, device: str, arrival_ns: float) -> float:
        """When `execution` would finish on `device`, its inputs being there at `arrival_ns`, with what the device has to do."""
        free = self.free_ns[device]
        for waiting in sorted(self.waiting[device]):
            if waiting.arrival_ns > arrival_ns:
                break
            free = max(free, waiting.arrival_ns) + waiting.cost_ns
        return max(free, arrival_ns) + self._cost(execution.index, device)

    def _way(self, reader: StageNode, edge: Edge, home: str, device: str) -> tuple[str, str] | None:
        """From whose memory to whose a tensor goes, or None if it is where it is wanted."""
        source, slot, input_slot = edge
        if home == device and home not in self._apart:
            return None
        if slot < 0:
            return None if home == device else (home, device)
        made = self._memory_of(source.node).outputs[slot] if home in self._apart else ""
        wanted = self._memory_of(reader).inputs[input_slot] if device in self._apart else ""
        a = self._host if made == HOST else home
        b = self._host if wanted == HOST else a if wanted == ANY and home == device else device
        return None if a == b and home == device else (a, b)

    def _memory_of(self, node: StageNode) -> Memory:
        found = self._memory.get(node.name)
        if found is None:
            found = self._memory[node.name] = node.opdef.memory_of(node)
        return found

    def _nbytes(self, node: StageNode, slot: int) -> int:
        return tensor_bytes(node, slot, self.costs.assumptions.unknown_dimension) if slot >= 0 else 0


def edges(execution: Execution) -> list[Edge]:
    """What an execution waits for: (execution, output slot, input slot), -1 for both where it is a control edge."""
    return [*execution.inputs, *((source, -1, -1) for source in execution.waits)]
