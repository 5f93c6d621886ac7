"""Bounded exhaustive exploration of a step's schedules, with partial-order reduction.

Only executions that touch resources can tell one order from another (`accesses`); all others run as soon as they are ready.
Of the orders of the rest, one of each class is run that differ in more than the order of independent neighbours: Source-DPOR
with sleep sets (Abdulla et al., "Optimal Dynamic Partial Order Reduction", POPL 2014; Flanagan & Godefroid, POPL 2005).
Nothing is run again from the beginning: the step is taken back to where the next order branches off.

In a step an activation that is ready stays so until it runs, whatever else does, but for what has to wait for a queue: wherever
something does, the executions are sought that may have made it wait, and it is tried before each of them, too (as Flanagan and
Godefroid do with disabled transitions).  A maximal execution is one where nothing can run; if something waits there, the step
is stuck.  An error ends an execution; whatever else was ready is tried in its place.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

from engine.op.queues import Blocked
from engine.runtime.frames import Activation
from engine.runtime.step import Outcome as Executed
from engine.runtime.step import StepRun
from engine.types import errors
from workbench.debugger.schedules import counting, in_order
from workbench.debugger.schedules.accesses import (
    ALL,
    NOTHING,
    Touched,
    conflict,
    may_access,
    outside,
    touched,
)
from workbench.debugger.schedules.exploration import Exploration
from workbench.debugger.schedules.in_order import Flow, flow_of, needed
from workbench.debugger.schedules.keys import Key, Keys, begins
from workbench.debugger.schedules.nearest import COMPARED, Orders
from workbench.debugger.schedules.record import Recorder, Schedule
from workbench.debugger.schedules.walk import Outcome, Walk


class _Class:
    """What is known of an outcome while exploring: the order that is nearest to the first one."""

    __slots__ = ("count", "distance", "order", "schedule")

    def __init__(self, schedule: Schedule, order: tuple[Key, ...], distance: int) -> None:
        self.schedule = schedule
        self.order = order
        self.distance = distance
        self.count = 1


class _State:
    """A point of the execution under way where something was chosen."""

    __slots__ = ("backtrack", "chosen", "enabled", "length", "sleep", "waiting")

    def __init__(
        self,
        length: int,
        enabled: dict[Key, Activation],
        waiting: Collection[Key],
        sleep: dict[Key, Touched],
    ) -> None:
        self.length = length
        self.enabled = enabled
        self.waiting = waiting  # for a queue
        self.sleep = sleep
        self.backtrack: list[Key] = []
        self.chosen: Key | None = None


class _Event:
    """An execution that touches something: `before` is a bit mask of the events that happen before it, by number.

    With `begins`, it has not executed, but begun to wait for a queue.
    """

    __slots__ = ("before", "begins", "flows", "key", "state", "touched")

    def __init__(self, key: Key, state: _State, before: int) -> None:
        self.key = key
        self.state = state
        self.before = before
        self.touched = NOTHING
        self.flows: Sequence[Flow] = ()
        self.begins = False

    @property
    def step(self) -> Key:
        """What it is in an order."""
        return begins(self.key) if self.begins else self.key


class _OutOfTime(Exception):
    """In the middle of an execution."""


def explore_step(
    step: StepRun, recorder: Recorder, *, limit: int = 1_000, seconds: float = 30.0
) -> Exploration:
    """Explore `step`, made with `record`, from where it stands; it stands there again afterwards.

    `recorder` has followed it so far.  Stops after `limit` complete executions or after `seconds`.
    """
    walk = Walk(step, recorder.copy())
    with walk.quiet():
        found = _Explorer(walk, limit, seconds).explore()
    walk.check_alone()
    return found


class _Explorer:
    def __init__(self, walk: Walk, limit: int, seconds: float) -> None:
        self.walk = walk
        self.limit = limit
        self.until = time.monotonic() + seconds
        self.started = time.monotonic()
        items = walk.step.program.items
        self.visible = [may_access(item) for item in items]
        self.closing = in_order.closing_of(walk.step.program, lambda: walk.queue_users)
        self.waited = False  # whether anything has had to wait for a queue in any order
        self.states: list[_State] = []
        self.events: list[_Event] = []
        self.clocks: dict[Key, int] = {}  # by execution to come: the events that lead to it
        self.clock_log: list[tuple[int, Key, int | None]] = []  # execution, key, what its clock was
        self.causes: dict[Key, int] | None = {}  # the same of tokens alone, in the first execution
        self.caused: list[int] = []
        self.keys = Keys()
        self.found: dict[Outcome, _Class] = {}
        self.first: tuple[Key, ...] = ()
        self.explored = self.pruned = self.executions = 0
        self.orders = self.accesses = 0
        self.cut_off = False
        self.reversed: set[frozenset[int]] = set()

    def explore(self) -> Exploration:
        """Depth first, without recursion: `states` is the way to where the walk stands."""
        try:
            self._search()
        except _OutOfTime:
            self.cut_off = True
        pending = self._pending() if self.cut_off else 0
        self.states.clear()
        self._back_to(0)
        orders = Orders(self.walk, self.keys, self.visible, self.until)
        best = [
            orders.shortest(outcome, known.schedule, known.count, known.order)
            for outcome, known in self.found.items()
        ]
        distances = {outcome: known.distance for outcome, known in self.found.items()}
        return Exploration(
            outcomes=tuple(best),
            explored=self.explored,
            pruned=self.pruned,
            complete=not self.cut_off,
            pending=pending,
            orders=0 if self.waited else self.orders,
            accesses=self.accesses,
            executions=self.executions,
            seconds=time.monotonic() - self.started,
            pair=orders.nearest(best, distances) if len(best) > 1 else None,
            fetches=self.walk.step.stage.fetches,
            reversed=frozenset(frozenset(self._name(index) for index in pair) for pair in self.reversed),
            repeated=outside(self.walk.step.program),
        )

    def _search(self) -> None:
        self._run_invisible({})
        while self.states:
            state = self.states[-1]
            key = next((key for key in state.backtrack if key not in state.sleep), None)
            if key is None:
                self.states.pop()
                if self.states:
                    self._leave(self.states[-1])
            elif self.explored >= self.limit or time.monotonic() > self.until:
                self.cut_off = True
                return
            else:
                self._take(state, key)

    def _pending(self) -> int:
        """How many schedules are at least to come: the choices on the way to where we stand that have not been tried."""
        waiting = sum(
            key not in state.sleep and key != state.chosen for state in self.states for key in state.backtrack
        )
        return max(waiting, 1)

    def _leave(self, state: _State) -> None:
        """All that begins with the choice made in `state` has been explored: go back there."""
        event = self.events.pop()
        self._back_to(state.length)
        assert state.chosen is not None
        state.sleep[state.chosen] = event.touched
        state.chosen = None

    def _take(self, state: _State, key: Key) -> None:
        """Execute `key` in `state`, note its races, and go on to the next state or the end."""
        activation = state.enabled[key]
        inputs = self.walk.step.state.inputs(activation)
        state.chosen = key
        event = _Event(key, state, self.clocks.get(key, 0))
        bit = 1 << len(self.events)
        self.events.append(event)
        if self.causes is not None:
            self.caused.append(self.causes.get(key, 0))
        try:
            executed, run = self._do(activation)
        except errors.OpError as error:
            event.touched = touched(activation.item, inputs, self.walk.step.half_done, self.closing)
            self._races(event)
            _try_all((state,))
            self._end(self.walk.failed(error))
            self._leave(state)
            return
        if executed is None:
            event.begins = True
            event.touched = Touched((), ((inputs[0], ALL),))
        elif executed.outputs is not None:
            event.touched = touched(activation.item, inputs, executed.writes, self.closing)
            event.flows = [flow for write in executed.writes if (flow := flow_of(write)) is not None]
        self._needs(event)
        self._races(event)
        if event.begins:
            self._add_clock(len(self.walk.trace) - 1, key, event.before | bit)
        else:
            self._hand_on(activation, run, event.before | bit, bit)
        self._run_invisible(
            {other: theirs for other, theirs in state.sleep.items() if not conflict(theirs, event.touched)}
        )
        if self.states[-1] is state:  # the execution has ended
            self._leave(state)

    def _run_invisible(self, sleep: dict[Key, Touched]) -> None:
        """Run all that touches nothing; then stop at a new state, or at the end of the execution."""
        queue = self.walk.recorder.queue
        progress = True
        while progress:
            progress = False
            for activation in list(queue):
                if not self.visible[activation.item.index]:
                    try:
                        _, run = self._do(activation)
                    except errors.OpError as error:
                        # What it was given depends on what led here, and whatever else was ready may end the step, too.
                        _try_all(self.states)
                        self._end(self.walk.failed(error))
                        return
                    self._hand_on(activation, run, self.clocks.get(self.keys.of(activation), 0), 0)
                    progress = True
        enabled, waiting = self._sorted()
        for key, blocked in waiting.items():
            self._would_race(key, blocked)
        if not enabled:
            self._end(self.walk.outcome())
            return
        state = _State(len(self.walk.trace), enabled, waiting, sleep)
        choice = next((key for key in enabled if key not in sleep), None)
        if choice is None:
            self.pruned += 1
            return
        state.backtrack.append(choice)
        self.states.append(state)

    def _sorted(self) -> tuple[dict[Key, Activation], dict[Key, Blocked]]:
        """What can run here (or begin to wait, if others see that), and what has to wait for a queue."""
        step = self.walk.step
        enabled = {}
        waiting = {self.keys.of(activation): blocked for activation, blocked in step.blocked.items()}
        for activation in self.walk.recorder.queue:
            blocked = self.walk.waits(activation)
            if blocked is None or (
                activation not in step.waits.tried and in_order.shows(blocked, self.closing)
            ):
                enabled[self.keys.of(activation)] = activation
            else:
                waiting[self.keys.of(activation)] = blocked
        self.waited |= bool(waiting)
        return enabled, waiting

    def _do(self, activation: Activation) -> tuple[Executed | None, Sequence[Activation]]:
        self.executions += 1
        if not self.executions & 255 and time.monotonic() > self.until:
            raise _OutOfTime
        return self.walk.do(activation)

    def _hand_on(self, activation: Activation, run: Sequence[Activation], clock: int, bit: int) -> None:
        """Whatever follows from the execution of `activation` comes after the events in `clock`."""
        causes = self.causes
        caused = 0
        if causes is not None:
            caused = causes.get(self.keys.of(activation), 0) | bit
        if not clock:
            return
        at = len(self.walk.trace) - 1
        # What has waited for a queue does not come of this one alone (`_needs`).
        released = [self.keys.of(each) for each in run if each not in self.walk.step.waits.tried]
        for target in (*self.keys.targets(activation), *released):
            self._add_clock(at, target, clock)
            if causes is not None:
                causes[target] = causes.get(target, 0) | caused

    def _add_clock(self, at: int, key: Key, clock: int) -> None:
        old = self.clocks.get(key)
        if old is None:
            self.clocks[key] = clock
        elif clock & ~old:
            self.clocks[key] = old | clock
        else:
            return
        self.clock_log.append((at, key, old))

    def _back_to(self, length: int) -> None:
        self.walk.back_to(length)
        log = self.clock_log
        while log and log[-1][0] >= length:
            _, key, old = log.pop()
            if old is None:
                del self.clocks[key]
            else:
                self.clocks[key] = old

    def _needs(self, event: _Event) -> None:
        """What has put in what `event` takes out of a queue, or made room for what it puts in, happens before it."""
        for flow in event.flows:
            if (flow.queue, ALL) in event.touched.writes:
                continue
            for number in needed(flow, [each.flows for each in self.events[:-1]]):
                event.before |= 1 << number | self.events[number].before

    def _would_race(self, key: Key, blocked: Blocked) -> None:
        """Let what has to wait here be tried before each execution that may be why."""
        part = in_order.part_awaited(blocked, self.closing)
        reads = Touched(((blocked.queue, part),), ())
        before = self.clocks.get(key, 0)
        for other in range(len(self.events) - 1, -1, -1):
            earlier = self.events[other]
            if not before >> other & 1 and conflict(earlier.touched, reads):
                self.reversed.add(frozenset((earlier.key[1], key[1])))
                self._reverse(other, key, before, len(self.events))
                before |= 1 << other | earlier.before

    def _races(self, event: _Event) -> None:
        """Complete what happens before `event`, the last, and let each race with it be run the other way round, too."""
        events = self.events
        racing = []
        for other in range(len(events) - 2, -1, -1):
            earlier = events[other]
            if not event.before >> other & 1 and conflict(earlier.touched, event.touched):
                racing.append(other)
                event.before |= 1 << other | earlier.before
        for other in racing:
            self.reversed.add(frozenset((events[other].key[1], event.key[1])))
            self._reverse(other, event.key, event.before, len(events) - 1)

    def _reverse(self, other: int, last: Key, before: int, count: int) -> None:
        """Let `last`, after the first `count` events, come before event `other` in some execution: add to the choices there.

        `before`: what happens before it.
        """
        events = self.events
        state = events[other].state
        later = [
            (1 << each, events[each].key, events[each].before)
            for each in range(other + 1, count)
            if not events[each].before >> other & 1
        ]
        mask = 0
        initials = []
        for bit, key, earlier in (*later, (0, last, before)):
            if not earlier & mask:
                initials.append(key)
            mask |= bit
        possible = [key for key in initials if key in state.enabled]
        if not possible:
            if last not in initials or last not in state.waiting:  # who waits has been looked after there
                _try_all((state,))
        elif not any(key in state.backtrack for key in possible):
            state.backtrack.append(possible[0])

    def _end(self, outcome: Outcome) -> None:
        self.explored += 1
        order = tuple(event.step for event in self.events)
        if self.explored == 1:
            self.first = order
            self.accesses = len(order)
            self.orders = counting.linear_extensions(self.caused)
            self.causes = None
        known = self.found.get(outcome)
        distance = counting.inversions(self.first, order) if len(order) <= COMPARED else self.explored
        if known is None:
            self.found[outcome] = _Class(self.walk.schedule(), order, distance)
            return
        known.count += 1
        if distance < known.distance:
            known.schedule, known.order, known.distance = self.walk.schedule(), order, distance

    def _name(self, index: int) -> str:
        return self.walk.step.program.items[index].name


def _try_all(states: Sequence[_State]) -> None:
    for state in states:
        state.backtrack += [key for key in state.enabled if key not in state.backtrack]
