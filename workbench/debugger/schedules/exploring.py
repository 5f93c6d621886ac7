"""Bounded exhaustive exploration of a step's schedules, with partial-order reduction.

Only executions that touch resources can tell one order from another (`accesses`); all others run as soon as they are ready.
Of the orders of the rest, one of each class is run that differ in more than the order of independent neighbours: Source-DPOR
with sleep sets (Abdulla et al., "Optimal Dynamic Partial Order Reduction", POPL 2014; Flanagan & Godefroid, POPL 2005).
Nothing is run again from the beginning: the step is taken back to where the next order branches off.

In a step an activation that is ready stays so until it runs, whatever else does, which makes this simple: a maximal execution
is one where nothing is ready.  An error ends an execution; whatever else was ready is tried in its place.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from engine.runtime.program import ENTER, EXIT, NEXT_ITERATION
from engine.runtime.state import Activation, Frame
from engine.runtime.step import Outcome as Executed
from engine.runtime.step import StepRun
from engine.types import errors
from workbench.debugger.schedules import counting
from workbench.debugger.schedules.accesses import NOTHING, Touched, conflict, may_access, outside, touched
from workbench.debugger.schedules.exploration import Exploration, Found, Key, Pair
from workbench.debugger.schedules.record import Recorder, Schedule
from workbench.debugger.schedules.walk import Outcome, Walk, differences

_COMPARED = 200  # accesses of an execution up to which orders are compared


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

    __slots__ = ("backtrack", "chosen", "enabled", "length", "sleep")

    def __init__(self, length: int, enabled: dict[Key, Activation], sleep: dict[Key, Touched]) -> None:
        self.length = length
        self.enabled = enabled
        self.sleep = sleep
        self.backtrack: list[Key] = []
        self.chosen: Key | None = None


class _Event:
    """An execution that touches something: `before` is a bit mask of the events that happen before it, by number."""

    __slots__ = ("before", "key", "state", "touched")

    def __init__(self, key: Key, state: _State, before: int) -> None:
        self.key = key
        self.state = state
        self.before = before
        self.touched = NOTHING


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
        return _Explorer(walk, limit, seconds).explore()


class _Explorer:
    def __init__(self, walk: Walk, limit: int, seconds: float) -> None:
        self.walk = walk
        self.limit = limit
        self.until = time.monotonic() + seconds
        self.started = time.monotonic()
        items = walk.step.program.items
        self.visible = [may_access(item) for item in items]
        self.states: list[_State] = []
        self.events: list[_Event] = []
        self.clocks: dict[Key, int] = {}  # by execution to come: the events that lead to it
        self.clock_log: list[tuple[int, Key, int | None]] = []  # execution, key, what its clock was
        self.causes: dict[Key, int] | None = {}  # the same of tokens alone, in the first execution
        self.caused: list[int] = []
        self.places: dict[int, Any] = {}
        self.ready: dict[Key, Activation] = {}
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
        best = [self._shortest(each) for each in self.found.items()]
        return Exploration(
            outcomes=tuple(best),
            explored=self.explored,
            pruned=self.pruned,
            complete=not self.cut_off,
            pending=pending,
            orders=self.orders,
            accesses=self.accesses,
            executions=self.executions,
            seconds=time.monotonic() - self.started,
            pair=self._nearest(best) if len(best) > 1 else None,
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
            event.touched = touched(activation.item, inputs, ())
            self._races(event)
            _try_all((state,))
            self._end(self.walk.failed(error))
            self._leave(state)
            return
        if executed.outputs is not None:
            event.touched = touched(activation.item, inputs, executed.writes)
        self._races(event)
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
                    self._hand_on(activation, run, self.clocks.get(self._key(activation), 0), 0)
                    progress = True
        if not queue:
            self._end(self.walk.outcome())
            return
        enabled = {self._key(activation): activation for activation in queue}
        state = _State(len(self.walk.trace), enabled, sleep)
        choice = next((key for key in enabled if key not in sleep), None)
        if choice is None:
            self.pruned += 1
            return
        state.backtrack.append(choice)
        self.states.append(state)

    def _do(self, activation: Activation) -> tuple[Executed, Sequence[Activation]]:
        self.executions += 1
        if not self.executions & 255 and time.monotonic() > self.until:
            raise _OutOfTime
        return self.walk.do(activation)

    def _hand_on(self, activation: Activation, run: Sequence[Activation], clock: int, bit: int) -> None:
        """Whatever follows from the execution of `activation` comes after the events in `clock`."""
        causes = self.causes
        caused = 0
        if causes is not None:
            caused = causes.get(self._key(activation), 0) | bit
        if not clock:
            return
        at = len(self.walk.trace) - 1
        for target in (*self._targets(activation), *map(self._key, run)):
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
            self._reverse(other)

    def _reverse(self, other: int) -> None:
        """Let the last event come before event `other` in some execution: add to the choices where that was chosen."""
        events = self.events
        state = events[other].state
        later = [each for each in range(other + 1, len(events)) if not events[each].before >> other & 1]
        later.append(len(events) - 1)
        mask = 0
        initials = []
        for each in later:
            if not events[each].before & mask and events[each].key in state.enabled:
                initials.append(events[each].key)
            mask |= 1 << each
        if not initials:
            _try_all((state,))
        elif not any(key in state.backtrack for key in initials):
            state.backtrack.append(initials[0])

    def _end(self, outcome: Outcome) -> None:
        self.explored += 1
        order = tuple(event.key for event in self.events)
        if self.explored == 1:
            self.first = order
            self.accesses = len(order)
            self.orders = counting.linear_extensions(self.caused)
            self.causes = None
        known = self.found.get(outcome)
        distance = counting.inversions(self.first, order) if len(order) <= _COMPARED else self.explored
        if known is None:
            self.found[outcome] = _Class(self.walk.schedule(), order, distance)
            return
        known.count += 1
        if distance < known.distance:
            known.schedule, known.order, known.distance = self.walk.schedule(), order, distance

    # Where things are, in words that do not depend on the schedule.

    def _place(self, frame: Frame) -> Any:
        if frame.parent is None:
            return ()
        found = self.places.get(frame.id)
        if found is None or found[0] is not frame:
            tag = (self._place(frame.parent), frame.parent_iteration, frame.spec.index)
            found = self.places[frame.id] = (frame, tag)
        return found[1]

    def _key(self, activation: Activation) -> Key:
        item, frame, iteration = activation
        return self._place(frame), item.index, iteration

    def _targets(self, activation: Activation) -> list[Key]:
        """Where the tokens of an execution go."""
        item, frame, iteration = activation
        place = self._place(frame)
        if item.flow == ENTER and item.child is not None:
            place, iteration = (place, iteration, item.child.index), 0
        elif item.flow == EXIT and frame.parent is not None:
            place, iteration = self._place(frame.parent), frame.parent_iteration
        elif item.flow == NEXT_ITERATION:
            iteration += 1
        found = [(place, target.index, iteration) for edges in item.data_out for target, _ in edges]
        found += [(place, target.index, iteration) for target in item.control_out]
        return found

    def _name(self, index: int) -> str:
        return self.walk.step.program.items[index].name

    # What is told of it.

    def _shortest(self, each: tuple[Outcome, _Class]) -> Found:
        """The outcome with the schedule that is the interpreter's but for the order of accesses."""
        outcome, known = each
        run = self._run_order(known.order) if time.monotonic() < self.until else None
        schedule = known.schedule if run is None or run[0] != outcome else run[1]
        return Found(outcome, schedule, known.count, known.order)

    def _nearest(self, found: Sequence[Found]) -> Pair:
        """Two schedules with different outcomes that differ as little as can be: in one swap, if all run the same nodes."""
        first = found[0]
        second = min(found[1:], key=lambda each: self.found[each.outcome].distance)
        names = self.walk.step.stage.fetches
        plain = Pair(first, second, None, tuple(differences(first.outcome, second.outcome, names)))
        late = time.monotonic() > self.until
        if set(first.order) != set(second.order) or len(first.order) > _COMPARED or late:
            return plain
        # Sort one order into the other by swaps of neighbours; somewhere on the way the outcome changes.
        way = counting.swaps(first.order, second.order)
        ends = [first, second]
        low, high = 0, len(way) - 1
        while high - low > 1:
            middle = (low + high) // 2
            run = self._run_order(way[middle])
            if run is None:
                return plain
            same = run[0] == first.outcome
            ends[0 if same else 1] = Found(run[0], run[1], 1, tuple(way[middle]))
            low, high = (middle, high) if same else (low, middle)
        at = next(i for i, (a, b) in enumerate(zip(way[low], way[high], strict=True)) if a != b)
        items = self.walk.step.program.items
        return Pair(
            ends[0],
            ends[1],
            (items[way[low][at][1]].name, items[way[high][at][1]].name),
            tuple(differences(ends[0].outcome, ends[1].outcome, names)),
        )

    def _run_order(self, order: Sequence[Key]) -> tuple[Outcome, Schedule] | None:
        """Run the accesses in this order; None if that cannot be."""
        self._back_to(0)
        due = 0
        queue = self.walk.recorder.queue
        try:
            while queue:
                for at in queue:
                    if not self.visible[at.item.index]:
                        break
                    if due < len(order) and self._key(at) == order[due]:
                        due += 1
                        break
                else:
                    return None
                self.walk.do(at)
            return self.walk.outcome(), self.walk.schedule()
        except errors.OpError as error:
            return self.walk.failed(error), self.walk.schedule()
        finally:
            self._back_to(0)


def _try_all(states: Sequence[_State]) -> None:
    for state in states:
        state.backtrack += [key for key in state.enabled if key not in state.backtrack]
