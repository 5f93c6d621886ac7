"""What a tape is, and putting one together: slots, constants, jumps, stacks, calls.

The builder that most use, with loops over arrays in it, is `engine.native.tape.TapeBuilder`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from engine.native import driver
from engine.native.driver import INSTRUCTION, OPERANDS, Kind
from engine.native.kernel import NativeKernel
from engine.native.layout import View
from engine.types.errors import InternalError

__all__ = ["Assembler", "Label", "Note", "Tape"]

CONSTANTS = 0  # the slot that every tape has: its own constants
_HELD = 20_000  # ns of estimated work up to which the interpreter's lock is kept: giving it up costs more than it frees
_STEP = 16  # ns an instruction


@dataclass(frozen=True, slots=True)
class Note:
    """What `Tape.disassemble` says of an instruction: a name and its operands, inputs then outputs."""

    name: str
    views: tuple[View, ...] = ()
    outputs: int = 0
    text: str = ""


@dataclass(slots=True)
class Label:
    """A place in a tape to jump to; `target` is the number of the instruction there, once it is placed."""

    target: int | None = None


@dataclass(frozen=True, slots=True)
class Tape:
    """Immutable code.

    code: `INSTRUCTION`s; pool: int64s that they refer to; constants: bytes that slot 0 points to.
    slots: a name for each slot; inputs: those slots that every run gets anew; stacks: bytes an element of each stack;
    arguments: the most that a CALL has. keep: what owns the machine code that the instructions call.  held: whether running
    keeps the interpreter's lock. loops: whether it jumps back.  repoints: whether it changes where slots point to.
    """

    code: npt.NDArray[np.void]
    pool: npt.NDArray[np.int64]
    constants: npt.NDArray[np.uint8]
    slots: tuple[str, ...]
    inputs: tuple[int, ...]
    stacks: tuple[int, ...]
    arguments: int
    held: bool
    loops: bool
    repoints: bool
    notes: tuple[Note, ...]
    keep: tuple[Any, ...] = field(repr=False, default=())

    def __len__(self) -> int:
        return len(self.code)

    def slot(self, name: str) -> int:
        """The number of the slot with this name.  Raises ValueError."""
        return self.slots.index(name)

    def disassemble(self) -> list[str]:
        """One readable line for each instruction."""
        from engine.native.disassemble import lines

        return lines(self)


class Assembler:
    """Appends instructions; each method returns the number of the first instruction that it made."""

    def __init__(self) -> None:
        self._rows: list[dict[str, Any]] = []
        self._notes: list[Note] = []
        self._pool: list[int] = []
        self._constants = bytearray()
        self._known: dict[tuple[str, bytes], int] = {}
        self._slots: list[str] = ["constants"]
        self._inputs: list[int] = []
        self._stacks: list[int] = []
        self._keep: dict[int, Any] = {}
        self._jumps: list[tuple[int, Label]] = []
        self._arguments = 0
        self._work = 0.0
        self._repoints = False
        self._calls = False

    def __len__(self) -> int:
        return len(self._rows)

    # What instructions refer to.

    def slot(self, name: str = "") -> int:
        """A new slot in the table of pointers."""
        self._slots.append(name or f"s{len(self._slots)}")
        return len(self._slots) - 1

    def input(self, name: str = "") -> int:
        """A new slot that `Frame.run` is given an array for, in the order of these calls; results may go there as well."""
        self._inputs.append(self.slot(name))
        return self._inputs[-1]

    def stack(self, nbytes: int) -> int:
        """A new stack of elements of so many bytes; it is empty at the beginning of each run."""
        self._stacks.append(nbytes)
        return len(self._stacks) - 1

    def constant(self, value: npt.ArrayLike, dtype: npt.DTypeLike | None = None) -> View:
        """An operand that is part of the tape itself (meant for small ones; equal ones are kept once)."""
        array = np.asarray(value, dtype)
        array = array if array.flags.c_contiguous else array.copy()
        key = (array.dtype.str, array.tobytes())
        offset = self._known.get(key)
        if offset is None:
            self._constants += bytes(
                -len(self._constants) % 64 if array.nbytes > 16 else -len(self._constants) % 16
            )
            offset = self._known[key] = len(self._constants)
            self._constants += key[1]
        return View.of(CONSTANTS, array.dtype, array.shape, offset)

    # Other functions.

    def call(
        self,
        function: int,
        arguments: Sequence[tuple[int, int]],
        begin: int,
        end: int,
        *,
        name: str = "call",
        parallel: int = 0,
        grain: int = 1,
        keep: Any = None,
        held: bool = False,
    ) -> int:
        """``f(args, begin, end)`` as `engine.native.kernel` describes it.

        arguments: slot and byte offset of each.  parallel: the address of ``void parallel_for(f, args, begin, end, grain)``,
        which is called instead, or 0.  keep: what owns the code.  held: whether it is so short that the interpreter's lock
        is kept; a tape gives it up if any of its calls is not.
        """
        self._keep_for(keep)
        self._calls |= not held
        self._arguments = max(self._arguments, len(arguments))
        pool = len(self._pool)
        self._pool += [number for pair in arguments for number in pair]
        places = " ".join(self._place(*pair) for pair in arguments)
        note = Note(name, text=f"({places}) [{begin}, {end})" + (f" grain {grain}" if parallel else ""))
        fields: dict[str, Any] = {
            "function": function,
            "data": parallel,
            "count": begin,
            "strides": (end, grain),
        }
        kind = Kind.PARALLEL if parallel else Kind.CALL
        return self._add(kind, note, pool=pool, nargs=len(arguments), **fields)

    def kernel(
        self,
        kernel: NativeKernel,
        arguments: Sequence[tuple[int, int]],
        *,
        parallel: int = 0,
        held: bool = False,
    ) -> int:
        """All phases of a kernel, one after the other.  arguments: slot and byte offset of each of its inputs, outputs,
        scratch buffers.

        parallel, held: as for `call`.
        """
        if len(arguments) != kernel.arguments:
            wrong(f"{kernel.name} has {kernel.arguments} arguments, not {len(arguments)}")
        at = len(self)
        for phase in kernel.phases:
            given = [arguments[k] for k in phase.args]
            spread = parallel if phase.extent > phase.grain else 0
            self.call(
                phase.address,
                given,
                0,
                phase.extent,
                name=kernel.name,
                parallel=spread,
                grain=phase.grain,
                keep=kernel,
                held=held,
            )
        return at

    # Pointers.

    def point(self, target: int, source: int, offset: int = 0) -> int:
        """The target slot points where the source slot does, plus bytes."""
        self._repoints = True
        text = f"{self._slots[target]} -> {self._place(source, offset)}"
        return self._add(Kind.POINT, Note("point", text=text), [(source, offset), (target, 0)])

    def swap(self, a: int, b: int) -> int:
        """Exchange what two slots point to.  At the beginning of a run they point again to what they were bound to."""
        self._repoints = True
        return self._add(Kind.SWAP, Note("swap", text=f"{self._slots[a]} {self._slots[b]}"), [(a, 0), (b, 0)])

    # The way through.

    def label(self) -> Label:
        """A label, to be placed here or later."""
        return Label()

    def place(self, label: Label) -> Label:
        """The label stands for the next instruction."""
        if label.target is not None:
            wrong(f"a label stands at {label.target} already")
        label.target = len(self)
        return label

    def jump(self, label: Label) -> int:
        """Go on at the label."""
        return self._jump(Kind.JUMP, "jump", label)

    def jump_if_false(self, condition: View, label: Label) -> int:
        """Go on at the label if a bool of one element is false."""
        return self._jump(Kind.UNLESS, "unless", label, condition)

    def jump_if_true(self, condition: View, label: Label) -> int:
        """Go on at the label if a bool of one element is true."""
        return self._jump(Kind.WHEN, "when", label, condition)

    def _jump(self, kind: Kind, name: str, label: Label, *conditions: View) -> int:
        if any(view.size != 1 or view.dtype != np.bool_ for view in conditions):
            wrong("what a jump depends on is one bool")
        self._jumps.append((len(self), label))
        return self._add(kind, Note(name, conditions), places_of(*conditions))

    def escape(self, number: int) -> int:
        """Back to Python, which does what the number means to it, and on with the next instruction."""
        return self._add(Kind.ESCAPE, Note("escape", text=str(number)), target=number)

    def end(self) -> int:
        """The run is over.  `build` puts one at the end."""
        return self._add(Kind.END, Note("end"))

    # Counters, stacks, time.

    def count(self, counter: View) -> int:
        """An int64 grows by one."""
        if counter.dtype != np.int64 or counter.size != 1:
            wrong("a counter is one int64")
        return self._add(Kind.COUNT, Note("count", (counter,), 1), places_of(counter))

    def push(self, stack: int, source: View) -> int:
        """Copy a contiguous operand onto a stack."""
        return self._stacked(Kind.PUSH, "push", stack, source)

    def pop(self, stack: int, target: View) -> int:
        """Take the top off a stack into a contiguous operand.  At run time, InternalError if there is none."""
        return self._stacked(Kind.POP, "pop", stack, target)

    def pop_pointer(self, stack: int, slot: int) -> int:
        """Take the top off a stack without a copy: the slot points to it.  It stays there until the next `push` on this
        stack."""
        self._repoints = True
        text = f"#{stack} -> {self._slots[slot]}"
        return self._add(Kind.POP_POINTER, Note("pop_pointer", text=text), [(slot, 0)], target=stack)

    def reset(self, stack: int) -> int:
        """Empty a stack."""
        return self._add(Kind.RESET, Note("reset", text=f"#{stack}"), target=stack)

    def _stacked(self, kind: Kind, name: str, stack: int, view: View) -> int:
        if not view.is_contiguous or view.nbytes != self._stacks[stack]:
            wrong(f"stack {stack} has contiguous elements of {self._stacks[stack]} bytes, not {view}")
        note = Note(name, (view,), int(kind is Kind.POP), f"#{stack}")
        return self._add(kind, note, places_of(view), target=stack, work=view.nbytes / 8)

    def time(self) -> int:
        """Put the time into the log."""
        return self._add(Kind.TIME, Note("time"))

    def test(self, condition: View) -> int:
        """Put a bool of one element into the log, as 0 or 1."""
        if condition.size != 1 or condition.dtype != np.bool_:
            wrong("what is put into the log as an answer is one bool")
        return self._add(Kind.TEST, Note("test", (condition,)), places_of(condition))

    # Done.

    def build(self) -> Tape:
        """The tape.  Raises InternalError if a label that is jumped to was not placed."""
        if (
            not self._rows
            or self._rows[-1]["kind"] != Kind.END
            or any(label.target == len(self) for _, label in self._jumps)
        ):
            self.end()
        back = False
        for at, label in self._jumps:
            if label.target is None:
                wrong(f"instruction {at} jumps to a label that was not placed")
            self._rows[at]["target"] = label.target
            back |= label.target <= at
        code = np.zeros(len(self), INSTRUCTION)
        for name in INSTRUCTION.names or ():
            column = code[name]
            none: Any = 0 if column.ndim == 1 else (0,) * OPERANDS
            values = [row.get(name, none) for row in self._rows]
            column[:] = values if column.ndim == 1 else [(*value, *none)[:OPERANDS] for value in values]
        pool = np.array(self._pool or [0], np.int64)
        constants = np.frombuffer(bytes(self._constants) or bytes(16), np.uint8)
        for array in (code, pool):
            array.flags.writeable = False
        return Tape(
            code=code,
            pool=pool,
            constants=constants,
            slots=tuple(self._slots),
            inputs=tuple(self._inputs),
            stacks=tuple(self._stacks),
            arguments=self._arguments,
            held=not (back or self._calls) and self._work <= _HELD,
            loops=back,
            repoints=self._repoints,
            notes=tuple(self._notes),
            keep=(*self._keep.values(), driver.library()),
        )

    def _add(
        self,
        kind: Kind,
        note: Note,
        places: Sequence[tuple[int, int]] = (),
        *,
        work: float = 0.0,
        **fields: Any,
    ) -> int:
        row = {"kind": kind, "nargs": len(places), **fields}
        if places:
            row["slots"] = [slot for slot, _ in places]
            row["offsets"] = [offset for _, offset in places]
        self._rows.append(row)
        self._notes.append(note)
        self._work += _STEP + work
        return len(self._rows) - 1

    def _place(self, slot: int, offset: int) -> str:
        return self._slots[slot] + (f"+{offset}" if offset else "")

    def _keep_for(self, owner: Any) -> None:
        if owner is not None:
            self._keep[id(owner)] = owner


def places_of(*views: View) -> list[tuple[int, int]]:
    return [(view.slot, view.offset) for view in views]


def wrong(what: str) -> NoReturn:
    raise InternalError(
        None,
        None,
        f"Native tape: {what}.",
        hint="This is a defect of what made the tape; plans in Python still run.",
    )
