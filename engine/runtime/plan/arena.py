"""Where the buffers of recorded steps lie, and the tape over them.

Buffers share one arena.  A buffer lives from the step that first touches it to the last one (to the end of a loop that it is
older than); what does not live at the same time may lie in the same place.  An elementwise step writes over an operand that dies
there, and what becomes a loop variable's next value is written where the variable is, where that changes nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.runtime.plan.recording import Home, Recorder, Step

if TYPE_CHECKING:
    from engine.native.layout import View
    from engine.native.tape import Tape

ALIGN = 64
_SMALL = 4096  # bytes: buffers up to here have places of their own size
_IN_TAPE = 256  # bytes: a larger constant is an array of its own
_SAME_PLACE = frozenset("fdbBhHiIlLqQ?")  # dtypes whose loops give the same bits in place


@dataclass(slots=True)
class _Life:
    first: int
    last: int
    reads: list[int] = field(default_factory=list)
    writes: list[int] = field(default_factory=list)


def _loops(steps: Sequence[Step]) -> list[tuple[int, int]]:
    """The (first, last) steps of the loops, inner ones before outer ones."""
    found, open_ = [], []
    for at, step in enumerate(steps):
        if step.kind == "loop":
            open_.append(at)
        elif step.kind == "end":
            found.append((open_.pop(), at))
    return found


def _lives(steps: Sequence[Step]) -> dict[int, _Life]:
    """By buffer: from which step to which it lives."""
    lives: dict[int, _Life] = {}
    for at, step in enumerate(steps):
        for view in step.reads:
            lives.setdefault(view.slot, _Life(at, at)).reads.append(at)
        for view in step.writes:
            lives.setdefault(view.slot, _Life(at, at)).writes.append(at)
        for view in (*step.reads, *step.writes):
            lives[view.slot].last = at
    for first, last in _loops(steps):
        for life in lives.values():
            if life.first < first <= life.last:
                life.last = max(life.last, last)
    return lives


def in_place(recorder: Recorder, steps: list[Step]) -> list[Step]:
    """Next values of loop variables are written where the variable is, if nothing reads its old value afterwards."""
    lives = _lives(steps)
    loops = _loops(steps)
    same: dict[int, int] = {}
    dropped: set[int] = set()
    for at, step in enumerate(steps):
        if step.data != "next":
            continue
        (source,), (target,) = step.reads, step.writes
        if (
            source.slot in same
            or target.slot in same.values()
            or not _may_move(recorder, steps, lives, loops, at)
        ):
            continue
        same[source.slot] = target.slot
        dropped.add(at)
    if not same:
        return steps

    def place(slot: int) -> int:
        while slot in same:  # an inner loop's variable may itself become an outer one's next value
            slot = same[slot]
        return slot

    def moved(views: Sequence[View]) -> tuple[View, ...]:
        return tuple(replace(view, slot=place(view.slot)) if view.slot in same else view for view in views)

    return [
        replace(step, reads=moved(step.reads), writes=moved(step.writes))
        for at, step in enumerate(steps)
        if at not in dropped
    ]


def _may_move(
    recorder: Recorder, steps: Sequence[Step], lives: dict[int, _Life], loops: list[tuple[int, int]], at: int
) -> bool:
    (source,), (target,) = steps[at].reads, steps[at].writes
    mine, theirs = lives[source.slot], lives[target.slot]
    inner = [loop for loop in loops if loop[0] < at < loop[1]]
    if not inner or recorder.buffers[source.slot].home is not Home.ARENA or not recorder.whole(source):
        return False
    first, last = max(inner, key=lambda loop: loop[0])
    if not first < mine.first <= mine.last <= last or source.dtype.char not in _SAME_PLACE:
        return False
    born = mine.first
    made = steps[born]
    if born not in mine.writes or made.kind not in ("ufunc", "select", "copy", "cast", "call"):
        return False
    for read in theirs.reads:
        if first < read < last and read >= born:
            # Reading what it overwrites is allowed to the step itself, element by element.
            if read == born and made.kind == "call" and _may_overwrite(made, source.slot, target.slot):
                continue
            if read != born or made.kind != "ufunc":
                return False
            if any(
                view.slot == target.slot
                and (view.shape, view.strides, view.offset) != (target.shape, target.strides, 0)
                for view in made.reads
            ):
                return False
            if made.writes[0].shape != target.shape:
                return False
    # Nobody else gives this variable a value in the loop.
    return sum(first < write < last for write in theirs.writes) == 1


def _may_overwrite(step: Step, out: int, operand: int) -> bool:
    """Whether a kernel's result in the buffer `out` may be where its inputs from the buffer `operand` are."""
    number = next(i for i, view in enumerate(step.writes) if view.slot == out)
    allowed = step.data.overwrites.get(number, ())
    return all(i in allowed for i, view in enumerate(step.reads) if view.slot == operand)


class Layout:
    """Where each buffer lies, and the tape over it."""

    def __init__(self, recorder: Recorder, steps: Sequence[Step]) -> None:
        self.recorder = recorder
        self.steps = steps
        self.size = 0
        self.work_bytes = 0
        self.offsets: dict[int, int] = {}
        self._place(_lives(steps))

    def _place(self, lives: dict[int, _Life]) -> None:
        over = self._overwritten(lives)
        root_of: dict[int, int] = {}
        roots: dict[int, list[int]] = {}
        for slot in sorted(lives, key=lambda each: lives[each].first):  # what is written over comes first
            if self.recorder.buffers[slot].home is Home.ARENA:
                before = over.get(slot, slot)
                root = root_of[slot] = root_of.get(before, before)
                roots.setdefault(root, []).append(slot)
        small: list[tuple[int, int, int, list[int]]] = []
        large: list[tuple[int, int, int, list[int]]] = []
        for slots in roots.values():
            nbytes = max(self.recorder.buffers[slot].nbytes for slot in slots)
            size = max(-(-nbytes // ALIGN) * ALIGN, ALIGN)
            group = (
                min(lives[slot].first for slot in slots),
                max(lives[slot].last for slot in slots),
                size,
                slots,
            )
            (small if size <= _SMALL else large).append(group)
        self._place_small(sorted(small))
        self._place_large(sorted(large))

    def _place_small(self, groups: Sequence[tuple[int, int, int, list[int]]]) -> None:
        """Small buffers are many: each takes a free place of just its size, or a new one."""
        free: dict[int, list[int]] = {}
        busy: list[tuple[int, int, int]] = []  # (last, offset, size)
        for first, last, size, slots in groups:
            while busy and busy[0][0] < first:
                _, offset, length = heapq.heappop(busy)
                free.setdefault(length, []).append(offset)
            if free.get(size):
                offset = free[size].pop()
            else:
                offset, self.size = self.size, self.size + size
            heapq.heappush(busy, (last, offset, size))
            self.offsets.update(dict.fromkeys(slots, offset))

    def _place_large(self, groups: Sequence[tuple[int, int, int, list[int]]]) -> None:
        """Large buffers are few: each takes the first gap that it fits into, behind the small ones."""
        base = self.size
        busy: list[tuple[int, int, int]] = []
        for first, last, size, slots in groups:
            busy = [each for each in busy if each[0] >= first]
            offset = base
            for _, start, length in sorted(busy, key=lambda each: each[1]):
                if offset + size <= start:
                    break
                offset = max(offset, start + length)
            busy.append((last, offset, size))
            self.size = max(self.size, offset + size)
            self.offsets.update(dict.fromkeys(slots, offset))

    def _overwritten(self, lives: dict[int, _Life]) -> dict[int, int]:
        """Outputs of elementwise steps by the operand whose place they take."""
        found: dict[int, int] = {}
        taken: set[int] = set()
        whole, buffers = self.recorder.whole, self.recorder.buffers
        for at, step in enumerate(self.steps):
            if step.kind == "call":
                self._overwritten_by_call(at, step, lives, found, taken)
            if step.kind != "ufunc" or len(step.writes) != 1:
                continue
            (out,) = step.writes
            if (
                lives[out.slot].first != at
                or not whole(out)
                or buffers[out.slot].home is not Home.ARENA
                or out.dtype.char not in _SAME_PLACE
            ):
                continue
            for view in step.reads:
                if (
                    view.slot not in taken
                    and buffers[view.slot].home is Home.ARENA
                    and lives[view.slot].last == at
                    and whole(view)
                    and view.shape == out.shape
                    and view.dtype.itemsize == out.dtype.itemsize
                    and view.dtype.char in _SAME_PLACE
                    and all(other.slot != view.slot or other == view for other in step.reads)
                ):
                    found[out.slot] = view.slot
                    taken.add(view.slot)
                    break
        return found

    def _overwritten_by_call(
        self, at: int, step: Step, lives: dict[int, _Life], found: dict[int, int], taken: set[int]
    ) -> None:
        whole, buffers = self.recorder.whole, self.recorder.buffers
        for number, out in enumerate(step.writes):
            if lives[out.slot].first != at or not whole(out) or buffers[out.slot].home is not Home.ARENA:
                continue
            for k in step.data.overwrites.get(number, ()):
                view = step.reads[k]
                if (
                    view.slot not in taken
                    and buffers[view.slot].home is Home.ARENA
                    and lives[view.slot].last == at
                    and whole(view)
                    and view.nbytes == out.nbytes
                    and _may_overwrite(step, out.slot, view.slot)
                ):
                    found[out.slot] = view.slot
                    taken.add(view.slot)
                    break

    def build(
        self,
        inputs: Sequence[View],
        outputs: Sequence[View],
        recorder: Recorder,
        *,
        marks: bool = False,
        looks: bool = False,
    ) -> tuple[Tape, list[tuple[int, Any]]]:
        """The tape, and the constants that its frames are to bind.

        `marks`: there are notes, whose stacks come last; `looks`: there are looks, and the first stack behind the program's own
        gets their records.
        """
        from engine.native.layout import View
        from engine.native.tape import TapeBuilder
        from engine.runtime.plan.looking import Looker

        builder = TapeBuilder()
        slots: dict[int, tuple[int, int]] = {}
        for i, view in enumerate(inputs):
            slots[view.slot] = builder.input(f"in{i}"), 0
        for i, view in enumerate(outputs):
            slots[view.slot] = builder.input(f"out{i}"), 0
        if self.size:
            arena = builder.slot("arena")
            for slot, offset in self.offsets.items():
                slots[slot] = arena, offset
        constants = []
        for buffer in recorder.buffers:
            if buffer.home is Home.CONSTANT and buffer.value is not None:
                if buffer.value.nbytes <= _IN_TAPE:
                    view = builder.constant(buffer.value)
                    slots[buffer.number] = view.slot, view.offset
                else:
                    slot = builder.slot(f"c{buffer.number}")
                    slots[buffer.number] = slot, 0
                    constants.append((slot, np.require(buffer.value, requirements=("C", "A"))))

        def at(view: View) -> View:
            slot, offset = slots[view.slot]
            return replace(view, slot=slot, offset=view.offset + offset)

        for nbytes in recorder.stacks:
            builder.stack(nbytes)
        entered = View.of(builder.slot("frames"), np.dtype(np.int64), ()) if marks else None
        looker = Looker(builder) if looks else None
        notes = [builder.stack(view.nbytes) for view in recorder.notes] if marks else []
        labels: dict[int, Any] = {}  # the steps' own may stand in another tape already
        for step in self.steps:
            if step.kind in ("place", "jump", "jump_if_false", "jump_if_true"):
                label = labels.setdefault(id(step.data), builder.label())
                step = replace(step, data=label)
            elif step.kind == "note":
                step = replace(step, kind="push", data=notes[step.data])
            views = [at(view) for view in step.reads], [at(view) for view in step.writes]
            if entered is not None and step.kind == "enter":
                builder.count(entered)
                continue
            if looker is not None and step.kind == "look":
                looker.look(step.data, *views[0])
                continue
            _append(builder, step, *views, recorder.threads)
        if looker is not None:
            self.work_bytes = looker.nbytes
        return builder.build(), constants


def _append(builder: Any, step: Step, reads: list[View], writes: list[View], threads: int) -> None:
    kind = step.kind
    if kind == "ufunc":
        builder.ufunc(step.data, reads, writes)
    elif kind == "select":
        builder.select(*reads, *writes)
    elif kind in ("copy", "cast"):
        getattr(builder, kind)(*reads, *writes)
    elif kind == "fill":
        builder.fill(writes[0], step.data)
    elif kind == "reduce":
        name, axes = step.data
        builder.reduce(name, reads[0], writes[0], axes)
    elif kind == "call":
        _append_call(builder, step.data, [*reads, *writes], threads, step.short)
    elif kind == "time":
        builder.time()
    elif kind == "test":
        builder.test(reads[0])
    elif kind == "push":
        builder.push(step.data, reads[0])
    elif kind == "pop":
        builder.pop(step.data, writes[0])
    elif kind == "reset":
        builder.reset(step.data)
    elif kind == "place":
        builder.place(step.data)
    elif kind == "jump":
        builder.jump(step.data)
    elif kind in ("jump_if_false", "jump_if_true"):
        getattr(builder, kind)(reads[0], step.data)


def _append_call(builder: Any, kernel: Any, operands: list[View], threads: int, short: bool) -> None:
    from engine.runtime.plan.threads import parallel_for

    for phase in kernel.phases:
        arguments = [(operands[i].slot, operands[i].offset) for i in phase.args]
        shared = phase.extent > phase.grain
        builder.call(
            phase.address,
            arguments,
            0,
            phase.extent,
            name=kernel.name,
            parallel=parallel_for(threads) if shared and threads != 1 else 0,
            grain=phase.grain,
            keep=kernel,
            held=short,
        )
