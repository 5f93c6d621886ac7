"""A segment: recorded steps, laid out in memory and made a tape (`engine.runtime.plan.arena`); and its runs.

A run needs a frame, with its arena, for itself: frames that are free are kept.  Arrays that a segment gives are new, or were
given before and nobody holds them any more.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.runtime.plan.arena import ALIGN, Layout, in_place
from engine.runtime.plan.fusion_hot import Heat
from engine.runtime.plan.recording import MARKS, Recorder, Step

if TYPE_CHECKING:
    from engine.native.frame import Frame
    from engine.native.layout import View
    from engine.native.tape import Tape
    from engine.runtime.plan.fusion import Fusion
    from engine.runtime.plan.stamped import Tracing

_REUSED = 4096  # bytes: a smaller array is made anew each time, which is as fast
_SPARE = 3  # arrays kept for one output: the one in use, the one before it, and one more
_FRAMES = 8  # that are kept for runs at the same time
LOG = 1 << 15  # times and answers that a run which is watched logs before they are taken


class Segment:
    """The tape of a recorder's steps; `inputs` are the views that a run gets arrays for, `outputs` those that it gives.

    ``run(check, *arrays)`` gives the outputs, or None where the run failed (`Recorder.fail_if`, or a stack was empty).  Arrays
    that do not lie as the tape wants them are copied; one of another shape or dtype raises ValueError.
    """

    def __init__(self, recorder: Recorder, inputs: Sequence[View], outputs: Sequence[View]) -> None:
        self.steps = list(recorder.steps)
        self.alarm = -1  # which output says that the run failed
        if recorder.alarm is not None:
            self.alarm = len(outputs)
            outputs = [*outputs, recorder.alarm]
        self.may_fail = self.alarm >= 0 or any(step.kind == "pop" for step in self.steps)
        self.inputs = [(view.dtype, view.shape) for view in inputs]
        self.outputs = [(view.dtype, view.shape) for view in outputs]
        self._code = _Code(recorder, self.steps, inputs, outputs)
        self.steps = self._code.steps
        self._recorder, self._views = recorder, (inputs, outputs)
        self._traced: tuple[_Code, _Code] | None = None  # the code as it is, and the same with marks
        self._looking: _Code | None = None
        self.heat: Heat | None = None  # None: nothing is ever fused here
        if not recorder.exact:
            self.heat = Heat(recorder, [view.slot for view in outputs])

    @property
    def tape(self) -> Tape:
        """What runs at present: another one once groups of steps are fused."""
        return self._code.tape

    @property
    def arena_bytes(self) -> int:
        return self._code.arena_bytes

    @property
    def fusions(self) -> tuple[Fusion, ...]:
        """The calls that stand for several steps each."""
        return self.heat.fusions if self.heat is not None else ()

    def fuse(self) -> None:
        """Fuse what pays, at once; runs that begin after this have the kernels.  Raises what the compiler raises."""
        if self.heat is not None and (found := self.heat.take()) is not None:
            steps, fusions = found
            if fusions:
                code = _Code(self._recorder, steps, *self._views)
                self._code, self.steps, self.heat.fusions = code, code.steps, fusions

    def __len__(self) -> int:
        return len(self.steps)

    def run(self, check: Callable[[], None] | None, *arrays: Any) -> list[Any] | None:
        """Run once; `check` is called now and then while a loop goes on."""
        if self.heat is not None and self.heat.left > 0:
            self.heat.run(self)
        return self._run(self._code, check, arrays)

    @property
    def notes(self) -> list[tuple[np.dtype[Any], tuple[int, ...]]]:
        """What the notes of a watched run are: dtype and shape."""
        return [(view.dtype, view.shape) for view in self._recorder.notes]

    @property
    def looks(self) -> list[View]:
        """What a run that is watched at level values looks at."""
        return self._recorder.looks

    def prepare(self, *, looks: bool = False) -> _Code:
        """The code for those who watch, made if it is not there yet; `looks`: at level values, where nothing is fused."""
        if looks:
            if self._looking is None:
                steps = self._recorder.steps
                self._looking = _Code(self._recorder, steps, *self._views, marks=True, looks=True)
            return self._looking
        code, traced = self._code, self._traced
        if traced is None or traced[0] is not code:
            made = _Code(self._recorder, code.marked, *self._views, marks=True)
            traced = self._traced = code, made
        return traced[1]

    def run_traced(
        self, tracing: Tracing, check: Callable[[], None] | None, *arrays: Any
    ) -> list[Any] | None:
        """Like `run`, and `tracing` is given what the log and the notes have, whenever there is much and at the end."""
        return self._run(self.prepare(looks=tracing.looks), check, arrays, tracing)

    def _run(
        self,
        code: _Code,
        check: Callable[[], None] | None,
        arrays: Sequence[Any],
        tracing: Tracing | None = None,
    ) -> list[Any] | None:
        free = code.free
        try:
            mine = free.pop()
        except IndexError:
            mine = _Run(code, self.outputs)
        given = [
            array
            if type(array) is np.ndarray
            and array.shape == shape
            and array.flags.c_contiguous
            and array.dtype == dtype
            else _fitted(array, dtype, shape)
            for array, (dtype, shape) in zip(arrays, self.inputs, strict=True)
        ]
        made = [spare.take() for spare in mine.spares]
        if tracing is not None:
            fine = tracing.run(mine.frame, [*given, *made], check)
        else:
            status = mine.frame.enter(*given, *made)
            fine = not status or mine.go_on(status, check)
        if not fine:
            return None
        if len(free) < _FRAMES:
            free.append(mine)
        return None if self.alarm >= 0 and made[self.alarm] else made


class _Code:
    """Steps laid out, the tape of them, and what is free to run it.

    marked: the steps with marks; marks: whether these run, and `looks` whether those that look do.  work_bytes: what they need.
    """

    __slots__ = ("arena_bytes", "constants", "free", "marked", "marks", "steps", "tape", "work_bytes")

    def __init__(
        self,
        recorder: Recorder,
        steps: list[Step],
        inputs: Sequence[View],
        outputs: Sequence[View],
        *,
        marks: bool = False,
        looks: bool = False,
    ) -> None:
        self.marked, self.marks = steps, marks
        without = frozenset[str]() if looks else frozenset({"look"}) if marks else MARKS
        self.steps = in_place(recorder, [each for each in steps if each.kind not in without])
        layout = Layout(recorder, self.steps)
        self.arena_bytes = layout.size
        self.tape, self.constants = layout.build(inputs, outputs, recorder, marks=marks, looks=looks)
        self.work_bytes = layout.work_bytes
        self.free: list[_Run] = []


class _Run:
    """What one run at a time needs: a frame, its arena, and arrays to give."""

    __slots__ = ("frame", "spares")

    def __init__(self, code: _Code, outputs: Sequence[tuple[np.dtype[Any], tuple[int, ...]]]) -> None:
        from engine.native.frame import Frame

        frame: Frame = Frame(code.tape, log=LOG if code.marks else 0)
        if code.marks:
            frame.bind(code.tape.slot("frames"), np.zeros(1, np.int64))
        if "arena" in code.tape.slots:
            arena = np.empty(code.arena_bytes + ALIGN, np.uint8)
            start = -arena.__array_interface__["data"][0] % ALIGN
            frame.bind(code.tape.slot("arena"), arena[start:])
        for slot, array in code.constants:
            frame.bind(slot, array)
        if code.work_bytes:
            work = np.empty(code.work_bytes + ALIGN, np.uint8)
            frame.bind(code.tape.slot("work"), work[-work.__array_interface__["data"][0] % ALIGN :])
        self.frame = frame
        self.spares = [_Spare(dtype, shape) for dtype, shape in outputs]

    def go_on(self, status: int, check: Callable[[], None] | None) -> bool:
        """To the end of a run that was interrupted; False if it took from an empty stack."""
        from engine.native.frame import EmptyStackError

        try:
            self.frame.go_on(status, None, check)
        except EmptyStackError:
            return False
        return True


class _Spare:
    """Arrays of one kind, given again once nobody else holds them."""

    __slots__ = ("arrays", "dtype", "keeps", "shape")

    def __init__(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self.dtype = dtype
        self.shape = shape
        self.arrays: list[Any] = []
        self.keeps = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize >= _REUSED

    def take(self) -> Any:
        if not self.keeps:
            return np.empty(self.shape, self.dtype)
        arrays = self.arrays
        for i in range(len(arrays)):
            # One reference is the list's, one is that of the call itself.
            if sys.getrefcount(arrays[i]) == 2:
                return arrays[i]
        made = np.empty(self.shape, self.dtype)
        if len(arrays) < _SPARE:
            arrays.append(made)
        return made


def _fitted(array: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Any:
    found = np.asarray(array)
    if found.shape != shape or found.dtype != dtype:
        raise ValueError(
            f"a segment was given {found.dtype}{list(found.shape)}, and is for {dtype}{list(shape)}"
        )
    return np.require(found, dtype, ("C", "A")).reshape(shape)
