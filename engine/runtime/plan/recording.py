"""What kernels do to arrays, taken down: steps over buffers that are not there yet.

A `Recorder` holds the steps that will become one tape.  Operands are `View`s whose slot is the number of a `Buffer`; which
buffers share memory, and where, is decided when all steps are known (`engine.runtime.plan.arena`).  Every step is tried on a
scratch tape at once, so that what a tape cannot do is known while there is still a way around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from engine.types.errors import OpError

if TYPE_CHECKING:
    from engine.native.kernel import NativeKernel
    from engine.native.layout import View
    from engine.native.tape import TapeBuilder

Array = npt.NDArray[Any]

MARKS = frozenset({"time", "test", "note", "look", "enter"})
"""Steps that are for those who watch: the time, an answer, what an operand holds, how it looks, that a frame begins.  They are
left out where nobody does."""


class NotRecordable(Exception):
    """Something cannot be a step of a tape; the message says what."""


class Home(Enum):
    """Where a buffer lives: in the run's arena, in an array that the caller gives or gets, or with the tape."""

    ARENA = "arena"
    INPUT = "input"
    OUTPUT = "output"
    CONSTANT = "constant"


@dataclass(slots=True, eq=False)
class Buffer:
    """Memory of so many bytes.  `value`: of a constant."""

    number: int
    nbytes: int
    home: Home = Home.ARENA
    value: Array | None = None


@dataclass(slots=True, eq=False)
class Step:
    """One instruction to be: `kind` is a method of `TapeBuilder`, or "call", "loop" and "end" (the bounds of a loop).

    A "place" with `writes` says that these buffers begin to live there, though what is written comes later.
    """

    kind: str
    reads: tuple[View, ...] = ()
    writes: tuple[View, ...] = ()
    data: Any = None
    owner: int = -1  # which of the lowered instructions made it
    short: bool = False  # a call of a few microseconds, for which it does not pay to let other threads go on


class Recorder:
    """Steps and buffers.  `owner` is put on steps as they come; `exact` says whether results must have NumPy's bits,
    `threads` how many may work on one step (0: all there are)."""

    def __init__(self, exact: bool = True, threads: int = 0) -> None:
        from engine.native.tape import TapeBuilder

        self.buffers: list[Buffer] = []
        self.steps: list[Step] = []
        self.owner = -1
        self.exact = exact
        self.threads = threads
        self.stacks: list[int] = []  # bytes an element of each stack
        self.notes: list[View] = []  # what `note` takes down
        self.looks: list[View] = []  # what `look` looks at
        self.alarm: View | None = None  # a bool that is up when the run has failed
        self._failed: Any = None  # the label at the end, where a failed run goes
        self._scratch: TapeBuilder = TapeBuilder()
        self._constants: dict[tuple[str, tuple[int, ...], bytes], View] = {}

    # Taking back.

    def mark(self) -> tuple[int, int]:
        """Where we are; `back` returns here."""
        return len(self.steps), len(self.buffers)

    def back(self, mark: tuple[int, int]) -> None:
        """Forget what has come since `mark`."""
        steps, buffers = mark
        del self.steps[steps:], self.buffers[buffers:]
        self._constants = {key: view for key, view in self._constants.items() if view.slot < buffers}
        if self.alarm is not None and self.alarm.slot >= buffers:
            self.alarm = self._failed = None
        for step in self.steps:
            if step.kind == "place" and step.writes:
                step.writes = tuple(view for view in step.writes if view.slot < buffers)

    # Operands.

    def new(
        self,
        dtype: np.dtype[Any],
        shape: Sequence[int],
        strides: tuple[int, ...] | None = None,
        home: Home = Home.ARENA,
    ) -> View:
        """A new buffer, laid out in C order or with these strides (which must fill it)."""
        from engine.native.layout import View

        if dtype.kind not in "biufc" or not dtype.isnative:
            raise NotRecordable(f"{dtype} is not one of NumPy's own numbers")
        view = View.of(len(self.buffers), dtype, shape)
        self.buffers.append(Buffer(len(self.buffers), view.nbytes, home))
        if strides is not None:
            view = View(view.slot, view.dtype, view.shape, strides)
        return view

    def constant(self, value: Any) -> View:
        """An operand that never changes."""
        array = np.ascontiguousarray(value).reshape(np.shape(value))
        key = array.dtype.str, array.shape, array.tobytes()
        found = self._constants.get(key)
        if found is None:
            found = self.new(array.dtype, array.shape, home=Home.CONSTANT)
            self.buffers[found.slot].value = array
            self._constants[key] = found
        return found

    def whole(self, view: View) -> bool:
        """Whether the view is all of its buffer, in C order."""
        return view.offset == 0 and view.is_contiguous and view.nbytes == self.buffers[view.slot].nbytes

    # Steps.

    def _add(self, kind: str, reads: Sequence[View], writes: Sequence[View], data: Any = None) -> None:
        self.steps.append(Step(kind, tuple(reads), tuple(writes), data, self.owner))

    def _try(self, method: str, *args: Any) -> None:
        try:
            getattr(self._scratch, method)(*args)
        except OpError as error:
            raise NotRecordable(error.message) from None

    def ufunc(self, name: str, inputs: Sequence[View], outputs: Sequence[View]) -> None:
        """An elementwise function; dtypes are those of one of its loops, inputs broadcast."""
        self._try("ufunc", name, list(inputs), list(outputs))
        self._add("ufunc", inputs, outputs, name)

    def select(self, condition: View, x: View, y: View, output: View) -> None:
        self._try("select", condition, x, y, output)
        self._add("select", (condition, x, y), (output,))

    def cast(self, source: View, target: View) -> None:
        self._try("cast", source, target)
        self._add("cast", (source,), (target,))

    def copy(self, source: View, target: View) -> None:
        self._try("copy", source, target)
        self._add("copy", (source,), (target,))

    def fill(self, target: View, value: Any) -> None:
        self._try("fill", target, value)
        self._add("fill", (), (target,), value)

    def reduce(self, name: str, source: View, target: View, axes: Sequence[int]) -> None:
        self._try("reduce", name, source, target, axes)
        self._add("reduce", (source,), (target,), (name, tuple(axes)))

    def call(self, kernel: NativeKernel, inputs: Sequence[View], outputs: Sequence[View]) -> None:
        """A native kernel; its operands are whole C-contiguous arrays."""
        if not all(view.is_contiguous for view in (*inputs, *outputs)):
            raise NotRecordable(f"{kernel.name} takes arrays in C order")
        scratch = [self.new(np.dtype(np.uint8), (max(size, 1),)) for size in kernel.scratch]
        self._add("call", inputs, (*outputs, *scratch), kernel)

    def label(self) -> Any:
        return self._scratch.label()

    def mark_step(self, kind: str, data: Any = None, reads: Sequence[View] = ()) -> None:
        """A step of control: "place", "jump", "jump_if_false", "jump_if_true" with a label; "loop", "end"."""
        self._add(kind, reads, (), data)

    # For those who watch.

    def time(self) -> None:
        """The time goes into the log."""
        self.steps.append(Step("time"))

    def test(self, condition: View) -> None:
        """One bool goes into the log."""
        self.steps.append(Step("test", (condition,)))

    def enter(self) -> None:
        """A frame begins, which is counted."""
        self.steps.append(Step("enter"))

    def note(self, view: View) -> int:
        """What an operand, which lies in C order, holds at this point is taken down; gives the number of the note."""
        self.notes.append(view)
        self.steps.append(Step("note", (view,), (), len(self.notes) - 1))
        return len(self.notes) - 1

    def look(self, view: View) -> int:
        """An operand is looked over at this point, at level values; gives the number of the look."""
        self.looks.append(view)
        self.steps.append(Step("look", (view,), (), len(self.looks) - 1))
        return len(self.looks) - 1

    # Stacks, and failure.

    def stack(self, nbytes: int) -> int:
        """A new stack of elements of so many bytes."""
        self.stacks.append(nbytes)
        return len(self.stacks) - 1

    def push(self, stack: int, source: View) -> None:
        if not source.is_contiguous:
            copied = self.new(source.dtype, source.shape)
            self.copy(source, copied)
            source = copied
        self._add("push", (source,), (), stack)

    def pop(self, stack: int, target: View) -> None:
        self._add("pop", (), (target,), stack)

    def reset(self, stack: int) -> None:
        self._add("reset", (), (), stack)

    def begin(self) -> Step:
        """A step from which on buffers live that are put into its `writes` later."""
        self._add("place", (), (), self.label())
        return self.steps[-1]

    def fail_if(self, condition: View) -> None:
        """Where `condition` (one bool) is true the run is over, and has failed: the program goes on as if it had not begun.

        The same instructions then run as Python, which raises the error that there is to raise, with all that belongs to it.
        """
        self.check_condition(condition)
        if self.alarm is None:
            self.alarm = self.new(np.dtype(np.bool_), (), home=Home.OUTPUT)
            self._failed = self.label()
        fine = self.label()
        self.mark_step("jump_if_false", fine, [condition])
        self.fill(self.alarm, True)
        self.mark_step("jump", self._failed)
        self.mark_step("place", fine)

    def finish(self) -> None:
        """All steps are there: the alarm is put down first of all, and failed runs end behind the last step."""
        if self.alarm is not None:
            self.owner = -1
            self.fill(self.alarm, False)
            self.steps.insert(0, self.steps.pop())
            self.mark_step("place", self._failed)

    def check_condition(self, view: View) -> None:
        if view.size != 1 or view.dtype != np.bool_:
            raise NotRecordable("what a jump depends on is one bool")
