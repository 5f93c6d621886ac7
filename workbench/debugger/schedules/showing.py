"""A race shown live: two schedules of one step that run its accesses in both orders, and what each comes to."""

from __future__ import annotations

from dataclasses import dataclass

from engine.runtime.frames import Activation, Frame
from engine.runtime.step import StepRun
from engine.types import errors
from workbench.debugger.schedules.races import Race
from workbench.debugger.schedules.record import Recorder, Schedule
from workbench.debugger.schedules.walk import Outcome, Walk, differences

_FIRST, _SECOND = 0, 1


@dataclass(frozen=True)
class Shown:
    """The two runs: `schedules[0]` runs the race's first access before its second, `schedules[1]` the other way round.

    `differences`: what the outcomes differ in, one line each; empty if they are equal bit for bit.  `why_not` says why one of the
    orders could not be had in this step; both are "" where they could.
    """

    schedules: tuple[Schedule, Schedule]
    outcomes: tuple[Outcome, Outcome]
    differences: tuple[str, ...]
    why_not: tuple[str, str]

    @property
    def both(self) -> bool:
        """Whether both orders were run."""
        return not any(self.why_not)


class _Order:
    """Runs a walk to its end with one access held back until the other has happened.

    With `earlier_by`, an execution of `late` is meant and that of `early` so many iterations after it, in the same frame;
    without, any execution of `early`.
    """

    def __init__(self, walk: Walk, early: str, late: str, earlier_by: int) -> None:
        self.walk = walk
        self.early, self.late = early, late
        self.earlier_by = earlier_by
        self.pair: tuple[Activation, int] | None = (
            None  # the `late` that is held, and the iteration of its `early`
        )
        self.early_ran = self.late_ran = self.early_dead = False
        self.gave_up = False
        self.awaited = ""  # what the early one waits for in a queue, where all else is held or done
        self._before: dict[tuple[Frame, int], bool] = {}  # executions of `early`, and whether they were alive

    def run(self) -> Outcome:
        """Raises nothing of the step's: its error is the outcome."""
        walk, queue = self.walk, self.walk.recorder.queue
        while queue:
            at = next((each for each in queue if not self._held(each)), None)
            if at is None:  # nothing else is ready
                at = queue[0]
                self.gave_up = True
                self.awaited = next(
                    (why.reason for each, why in walk.step.blocked.items() if each.name == self.early), ""
                )
            try:
                executed, _ = walk.do(at)
            except errors.OpError as error:
                return walk.failed(error)
            if executed is not None:
                self._ran(at, executed.outputs is not None)
        return walk.outcome()

    def _held(self, activation: Activation) -> bool:
        if self.early_ran or self.gave_up or activation.name != self.late:
            return False
        if self.pair is None:
            wanted = activation.iteration + self.earlier_by
            if wanted < 0:
                return False
            known = self._before.get((activation.frame, wanted)) if self.earlier_by else None
            if known is False:  # of this pair the other one was dead
                self.early_dead = True
                return False
            self.pair = activation, wanted
            if known:
                self.early_ran = True
                return False
        late, wanted = self.pair
        if self.early == self.late and activation.frame is late.frame and activation.iteration == wanted:
            return False
        # Of a loop all that would come of it is held, too, but for what the other access waits for.
        return activation.frame is not late.frame or (
            activation.iteration == late.iteration or self.earlier_by == 0
        )

    def _ran(self, activation: Activation, alive: bool) -> None:
        if activation.name == self.late and alive and self.early_ran:
            self.late_ran |= not self.earlier_by or (self.pair is not None and activation == self.pair[0])
        if activation.name != self.early or self.early_ran:
            return
        self._before[activation.frame, activation.iteration] = alive
        if self.earlier_by:
            if self.pair is None or (activation.frame, activation.iteration) != (
                self.pair[0].frame,
                self.pair[1],
            ):
                return
        elif self.pair is not None and activation == self.pair[0]:
            self.gave_up = True
        self.early_ran = alive and not self.gave_up
        self.early_dead = not alive

    @property
    def why_not(self) -> str:
        """Why the order was not had, "" if it was."""
        if self.early_ran and self.late_ran:
            return ""
        if self.early_ran:
            return f"{self.late} does not run in this step"
        if self.early_dead:
            return f"{self.early} is dead in this step: its branch is not taken"
        if self.awaited:
            return f"{self.early} waits for {self.awaited}, which does not come before {self.late} runs"
        return f"{self.early} does not become ready before {self.late} in this step"


def show(step: StepRun, recorder: Recorder, race: Race, seconds: float = 20.0) -> Shown:
    """Run `step`, made with `record`, to its end twice from where it stands; it stands there again afterwards.

    Neither access may have been executed.  Raises ScheduleError if a run takes longer than `seconds`, or if another step changes
    the same resources in the meantime.
    """
    first, second, apart = race.first.node, race.second.node, race.distance
    # In the second order the access of a later iteration comes before that of an earlier one.
    orders = [(first, second, -apart), (second, first, apart)]
    schedules, outcomes, why_not = [], [], []
    for early, late, earlier_by in orders:
        walk = Walk(step, recorder.copy(), seconds)
        with walk.quiet():
            order = _Order(walk, early, late, earlier_by)
            outcomes.append(order.run())
            why_not.append(order.why_not)
            schedules.append(walk.schedule())
        walk.check_alone()
    return Shown(
        (schedules[0], schedules[1]),
        (outcomes[0], outcomes[1]),
        tuple(differences(outcomes[0], outcomes[1], step.stage.fetches)),
        (why_not[0], why_not[1]),
    )
