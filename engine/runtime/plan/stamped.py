"""What segments log, put into the log of a step: times, answers and writes, as if Python had run them.

The machine appends to a log of its own (`recording.MARKS`), which is taken whenever it is full and when a run ends.  Its entries
are those that the generated Python would have appended, for the program in the order in which it runs with segments
(`expanded`); so the same walk tells what was executed.  A run that fails has never been, to those who watch: what it logged is
taken back, or, where they have been told of it already, what Python logs of the same until it is new.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from engine.runtime.plan.ir import Block, Branch, Instruction, Linear, Loop, Native
from engine.runtime.plan.native_health import NativeHealth
from engine.runtime.plan.native_writes import NativeWrites

if TYPE_CHECKING:
    from engine.native.frame import Frame
    from engine.runtime.plan.native_writes import Effect
    from engine.runtime.plan.record import Log
    from engine.runtime.plan.rows import Rows
    from engine.runtime.resources import Write


def expanded(linear: Linear) -> Linear:
    """A program with segments, with what they stand for in their stead."""
    return Linear(_expanded(linear.body), linear.sources, linear.flags, linear.unreachable)


def _expanded(block: Block) -> Block:
    made: list[Instruction] = []
    for each in block.code:
        if isinstance(each, Native):
            made.extend(each.covers)
        elif isinstance(each, Branch):
            made.append(Branch(each.test, each.item, _expanded(each.then), _expanded(each.orelse)))
        elif isinstance(each, Loop):
            made.append(
                Loop(
                    each.spec,
                    _expanded(each.cond),
                    each.enters,
                    each.inits,
                    each.predicate,
                    each.test,
                    _expanded(each.body),
                    each.nexts,
                    _expanded(each.after),
                    each.indices,
                    each.merges,
                    each.advances,
                    each.exits,
                )
            )
        else:
            made.append(each)
    return Block(made)


class Tapes(dict[int, "Tracing"]):
    """The runs of the segments in one step, by number, and what they have in common.

    segments, effects: as `Special.watched` gives them.  container: of the step's own resources.  looks: whether outputs are
    looked at.
    """

    def __init__(
        self,
        segments: Sequence[Native],
        effects: Mapping[int, tuple[int, Effect]],
        container: str,
        log: Log,
        *,
        looks: bool = False,
    ) -> None:
        self.log = log
        self.writes = NativeWrites(effects, container)
        self.wrote: Callable[[int, int, Write], None] = self.writes.put
        self.fallen = self.writes.fallen
        self.health = NativeHealth(segments, self.fallen) if looks else None
        self._frames = 0  # that have begun, of all in the step but the first
        self._gone = 0  # entries that the log has had, and has forgotten
        self._raw: list[
            tuple[int, npt.NDArray[np.int64], int, int]
        ] = []  # at which entry, entries, between which times
        self._skipped: tuple[int, int] = (0, 0)  # from which entry of all on, and how many, were told already
        for number, native in enumerate(segments, 1):
            self[number] = Tracing(self, number, native)

    @property
    def position(self) -> int:
        """The number of the log's next entry."""
        return self._gone + len(self.log.stamps)

    def new_frame(self) -> int:
        """The number of a frame that Python begins."""
        self._frames += 1
        return self._frames

    def entered(self, many: int) -> None:
        """So many frames have begun in a segment."""
        self._frames += many

    def fall(self, number: int) -> None:
        """The run of this segment has failed; Python runs the same now, and for the rest of the step."""
        if number in self.fallen:
            return
        self.writes.fall(number)
        self._frames -= self[number].frames
        if self.health is not None:
            self.health.fall(number)
        stamps = self.log.stamps
        self._raw = [each for each in self._raw if each[0] < self[number].first]
        first = self[number].first - self._gone
        # Entry 0 is the last time that was taken before.
        del stamps[max(first, 1) :]
        if first < 1:
            self._skipped = self.position, 1 - first

    def logged(self, taken: npt.NDArray[np.int64], low: int, high: int) -> None:
        """A tape has logged these entries, between two times.

        What they mean is worked out when the log is: here it would count as time of the node that runs next.
        """
        self._raw.append((self.position, taken, low, high))
        self.log.stamps.frombytes(taken.tobytes())

    def _settle(self) -> None:
        """Times in nanoseconds for those of a tape, whose clock is another one; answers as they are."""
        from engine.native import clock

        stamps = np.frombuffer(self.log.stamps, np.int64) if self._raw else None
        for position, taken, low, high in self._raw:
            at = position - self._gone
            times = np.minimum(np.maximum(clock.nanoseconds(taken), low), high)
            assert stamps is not None
            stamps[at : at + len(taken)] = times if taken.min() > 1 else np.where(taken > 1, times, taken)
        self._raw.clear()

    # What the log calls.

    def trim(self) -> None:
        """Work out what tapes have logged, and take out of the log what was told already."""
        self._settle()
        at, many = self._skipped
        if many:
            stamps = self.log.stamps
            first = max(at - self._gone, 1)
            gone = min(many, len(stamps) - first)
            del stamps[first : first + gone]
            self._skipped = self._gone + first, many - gone
        self.writes.trim(self.log.writes)
        if self.health is not None:
            self.health.trim(self.log.measured)

    def complete(self, rows: Rows) -> None:
        """Put in the writes."""
        self.writes.complete(rows, self.log.writes)

    def forgotten(self, many: int) -> None:
        """So many entries have left the log."""
        self._gone += many


class Tracing:
    """The runs of one segment in one step.

    first: the number of the log's entry with which the last of them began.  frames: how many frames began in it.
    """

    __slots__ = ("_loops", "_low", "_notes", "_number", "_records", "_tapes", "first", "frames", "looks")

    def __init__(self, tapes: Tapes, number: int, native: Native) -> None:
        self._tapes = tapes
        self._number = number
        self._notes = native.segment.notes
        self._records = -1 - len(self._notes)  # the stack of what looks have found
        self.looks = tapes.health is not None
        self._loops = native.has_loops
        self.first = self.frames = 0
        self._low = 0

    def run(self, frame: Frame, arrays: Sequence[Any], check: Callable[[], None] | None) -> bool:
        """One run of a frame whose tape has marks; False if it took from an empty stack.

        `check` is called with everything so far in the step's log.
        """
        from engine.native.frame import EmptyStackError

        self._tapes.writes.begin(self._number)
        if self._tapes.health is not None:
            self._tapes.health.begin(self._number)
        self.first = self._tapes.position
        self._low = time.perf_counter_ns()

        def look() -> None:
            self._take(frame)
            if check is not None:
                check()

        try:
            status = frame.enter(*arrays)
            if status:
                frame.go_on(status, None, look, lambda: self._take(frame))
        except EmptyStackError:
            return False
        finally:
            self._take(frame)
            if self._loops:
                counter = frame.owner(frame.tape.slot("frames"))
                self.frames = int(counter[0])
                counter[0] = 0
                self._tapes.entered(self.frames)
        return True

    def _take(self, frame: Frame) -> None:
        from engine.native.summary import RECORD

        taken = frame.take_log()
        if len(taken):
            high = time.perf_counter_ns()
            self._tapes.logged(taken, self._low, high)
            self._low = high
        if self._tapes.health is not None:
            records = frame.take_stack(self._records)
            if len(records):
                self._tapes.health.found(self._number, records.view(RECORD))
        for number, (dtype, shape) in enumerate(self._notes, -len(self._notes)):
            noted = frame.take_stack(number)
            if len(noted):
                self._tapes.writes.noted(
                    self._number, number + len(self._notes), list(noted.view(dtype).reshape(-1, *shape))
                )
