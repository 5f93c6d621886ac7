"""One run's share of a tape: the table of pointers, stacks, log; and the runs themselves.

Who owns what: the tape owns its code, its constants and the machine code it calls.  The frame owns table, stacks and log,
and holds a reference to every array that was bound, until its slot is bound again, whatever the tape does with the pointers
meanwhile: a run begins with the pointers as bound.  What is bound by address alone (`bind_address`), the caller keeps alive.

The interpreter's lock: a tape of little estimated work (`Tape.held`) runs with it, which saves what giving it up and getting it
back cost; all others run without it, so that other threads go on.  While a tape jumps back, it returns to Python about every
5 ms: there signals are handled (Ctrl-C), and `check` is called, which may raise.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.native import clock, entry
from engine.native.assembler import CONSTANTS, Tape
from engine.native.driver import STATE, Status
from engine.native.layout import View
from engine.types.errors import InternalError, InvalidArgumentError, ResourceExhaustedError

__all__ = ["Frame"]

Array = npt.NDArray[Any]

_AT = {name: index for index, name in enumerate(STATE)}
_BUDGET, _NUMBER, _RESUME = _AT["budget"], _AT["number"], _AT["resume"]
_LOGGED = _AT["logged"]

_SLICE = 5e6  # ns that a tape may jump back before Python is asked
_FIRST_BUDGET = 64
_MOST = 1 << 40

# PyArrayObject's first field after the object's head is the address of the data (NumPy's public C API).
_DATA = object.__basicsize__
_word = ctypes.c_ssize_t.from_address


def address_of(array: Array) -> int:
    """The address of an array's first element, faster than ``array.ctypes.data``."""
    return _word(id(array) + _DATA).value


class EmptyStackError(InternalError):
    """A tape takes from a stack on which there is nothing."""


class Frame:
    """What one run at a time of a tape needs.  Several frames of one tape may run at once; one frame may not.

    log: how many times and answers are logged before somebody has to take them.
    stack_bytes: how large all stacks together may get; ResourceExhaustedError beyond.
    """

    def __init__(self, tape: Tape, *, log: int = 0, stack_bytes: int = 1 << 40) -> None:
        self.tape = tape
        count = len(tape.slots)
        self.bound: npt.NDArray[np.int64] = np.zeros(count, np.int64)
        self.table: npt.NDArray[np.int64] = np.zeros(count, np.int64) if tape.repoints else self.bound
        self._owned: list[Any] = [None] * count
        self._stack_bytes = stack_bytes
        self._stacks = np.zeros((max(len(tape.stacks), 1), 4), np.int64)
        self._stack_buffers: list[Array | None] = [None] * len(tape.stacks)
        for row, size in zip(self._stacks, tape.stacks):
            row[3] = size
        self._log = np.zeros(log, np.int64)
        self._scratch = np.zeros(max(tape.arguments, 1), np.int64)
        self._inputs = np.array(tape.inputs or (0,), np.int64)
        self._state = np.zeros(len(STATE), np.int64)
        self._budget = _FIRST_BUDGET
        values = {
            "code": address_of(tape.code),
            "pool": address_of(tape.pool),
            "table": address_of(self.table),
            "bound": address_of(self.bound),
            "restorable": self.table.nbytes if tape.repoints else 0,
            "stack_count": len(tape.stacks),
            "budget": self._budget,
            "stacks": address_of(self._stacks),
            "log": address_of(self._log),
            "loggable": log,
            "clock": clock.native(),
            "scratch": address_of(self._scratch),
            "inputs": len(tape.inputs),
            "input_slots": address_of(self._inputs),
            **entry.constants(),
        }
        for name, value in values.items():
            self._state[_AT[name]] = value
        self._address = address_of(self._state)
        self.enter = entry.enter(self._address, tape.held)
        self.bind(CONSTANTS, tape.constants)

    # Where slots point to.

    def bind(self, slot: int, array: Array) -> None:
        """The slot points to the first element of an array, of which a reference is held.

        Raises InvalidArgumentError if this is no array (but a NumPy scalar), not aligned, or not in the machine's byte
        order.  Its shape and strides are not looked at: they are those of the tape's views, or the run reads and writes
        elsewhere.
        """
        if not (isinstance(array, np.ndarray) and array.flags.aligned and array.dtype.isnative):
            raise InvalidArgumentError(
                None,
                None,
                f"Slot {self.tape.slots[slot]!r} cannot point to a {type(array).__name__} that is no array, "
                "not aligned, or not in native byte order.",
                hint="Copy it first: numpy.require(value, value.dtype.newbyteorder('='), 'A').",
            )
        self.bound[slot] = _word(id(array) + _DATA).value
        self._owned[slot] = array

    def bind_view(self, view: View, array: Array) -> None:
        """Like `bind`, and checks that dtype, shape and strides are those of a view of this slot."""
        same = (array.dtype, array.shape) == (view.dtype, view.shape) and view.offset == 0
        if not same or any(n > 1 and a != b for n, a, b in zip(view.shape, array.strides, view.strides)):
            raise InvalidArgumentError(
                None,
                None,
                f"Slot {self.tape.slots[view.slot]!r} is for {view.dtype}{list(view.shape)} with strides {view.strides}, "
                f"not for {array.dtype}{list(array.shape)} with strides {array.strides}.",
            )
        self.bind(view.slot, array)

    def bind_address(self, slot: int, address: int, owner: Any = None) -> None:
        """The slot points to an address; `owner` is held on to."""
        self.bound[slot] = address
        self._owned[slot] = owner

    def owner(self, slot: int) -> Any:
        """The array (or other owner) that a slot was last bound to, or None."""
        return self._owned[slot]

    def read(self, view: View) -> Array:
        """A copy of an operand's elements where its slot points to now: after a run, where the run left it."""
        low, high = view.extent()
        place = (ctypes.c_char * (high - low)).from_address(int(self.table[view.slot]) + low)
        array: Array = np.ndarray(
            view.shape, view.dtype, memoryview(place), view.offset - low, view.strides
        ).copy()
        return array

    # Runs.

    def run(
        self,
        *arrays: Array,
        escape: Callable[[int], None] | None = None,
        check: Callable[[], None] | None = None,
    ) -> None:
        """Run the tape from its beginning to its end.

        arrays: for the tape's input slots, all of them or none (those of the run before still hold then, if the caller has kept
        them).  They are trusted to have the dtypes, shapes and strides of the tape's views.  escape: called with the number
        of each ESCAPE; the run then goes on.  check: called every few milliseconds while the tape jumps back.  What either
        raises ends the run.  Raises InvalidArgumentError for inputs that are too few, no arrays or not aligned;
        InternalError for an escape that nobody handles, for an empty stack, or if this frame is running already;
        ResourceExhaustedError if stacks grow too large.

        Where a microsecond matters: ``status = frame.enter(*arrays)``, and ``if status: frame.go_on(status, escape, check)``.
        """
        status = self.enter(*arrays)
        if status:
            self.go_on(status, escape, check)

    def go_on(
        self,
        status: int,
        escape: Callable[[int], None] | None = None,
        check: Callable[[], None] | None = None,
        full: Callable[[], None] | None = None,
    ) -> None:
        """What `run` does with a status of `enter` that is not 0.

        full: called when the log is full, and has to take it (`take_log`); `check` is called at the next jump back then.
        """
        state, enter = self._state, self.enter
        hurried = False
        if status == Status.BUSY:
            raise InternalError(None, None, "A frame of a native tape was run twice at the same time.")
        if status == Status.BAD_INPUT:
            names = ", ".join(self.tape.slots[slot] for slot in self.tape.inputs) or "none"
            raise InvalidArgumentError(
                None,
                None,
                f"A native tape takes aligned arrays for its {len(self.tape.inputs)} inputs ({names}).",
                hint="Pass numpy.require(array, requirements='A') for each.",
            )
        while status:
            if status == Status.INTERRUPTED:
                if hurried:
                    state[_BUDGET], hurried = self._budget, False
                if check is not None:
                    check()
            elif status == Status.ESCAPED:
                number = int(state[_NUMBER])
                if escape is None:
                    raise InternalError(
                        None, None, f"A native tape escaped with {number}, and nobody handles it."
                    )
                escape(number)
            elif status == Status.STACK_FULL:
                self._grow_stack(int(state[_NUMBER]))
            elif status == Status.LOG_FULL:
                if full is None:
                    raise InternalError(None, None, "The log of a native tape is full, and nobody takes it.")
                full()
                state[_BUDGET], hurried = 1, True
            elif status == Status.STACK_EMPTY:
                raise EmptyStackError(
                    None, None, f"A native tape takes from stack {int(state[_NUMBER])}, which is empty."
                )
            else:
                raise InternalError(None, None, "A frame of a native tape was run twice at the same time.")
            began = time.perf_counter_ns()
            # The machine clears this, so that whatever leaves this loop leaves 0, and the next run begins at the beginning.
            # Nothing stands between the two lines: the interpreter handles signals after calls.
            state[_RESUME] = 1
            status = enter()
            if status == Status.INTERRUPTED and not hurried:
                self._adapt(time.perf_counter_ns() - began)
        if hurried:
            state[_BUDGET] = self._budget

    def _adapt(self, took: int) -> None:
        """Choose the number of jumps back that takes about a slice of time."""
        factor = min(8.0, max(0.125, _SLICE / max(took, 1)))
        self._budget = max(1, min(_MOST, int(self._budget * factor)))
        self._state[_BUDGET] = self._budget

    # Stacks.

    def _grow_stack(self, index: int) -> None:
        row, size = self._stacks[index], self.tape.stacks[index]
        used = int(row[1])
        wanted = max(4 * size, min(64 * size, 4096), 2 * used)
        others = int(self._stacks[:, 2].sum()) - int(row[2])
        if others + used + size > self._stack_bytes:
            raise ResourceExhaustedError(
                None,
                None,
                f"The stacks of a native tape have grown to {others + used} bytes, and may have {self._stack_bytes}.",
                hint="A loop whose gradient is taken keeps what every iteration computed: run fewer iterations.",
            )
        buffer = np.empty(max(min(wanted, self._stack_bytes - others), used + size), np.uint8)
        old = self._stack_buffers[index]
        if old is not None:
            buffer[:used] = old[:used]
        self._stack_buffers[index] = buffer
        row[0], row[2] = address_of(buffer), len(buffer)

    def stack_length(self, stack: int) -> int:
        """How many elements there are on a stack."""
        return int(self._stacks[stack, 1]) // max(self.tape.stacks[stack], 1)

    def take_stack(self, stack: int) -> npt.NDArray[np.uint8]:
        """The bytes on a stack, from the bottom up (negative: counted from the last stack); it is empty then."""
        number = range(len(self.tape.stacks))[stack]
        row, buffer = self._stacks[number], self._stack_buffers[number]
        used = int(row[1])
        row[1] = 0
        return np.zeros(0, np.uint8) if buffer is None else buffer[:used].copy()

    # The log.

    def take_log(self) -> npt.NDArray[np.int64]:
        """What the log has, as the machine put it there (`engine.native.clock` makes times of it); it is empty then."""
        taken = self._log[: int(self._state[_LOGGED])].copy()
        self._state[_LOGGED] = 0
        return taken
