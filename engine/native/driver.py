"""The machine that runs tapes: one function in LLVM IR, compiled once.

It steps over instructions of `INSTRUCTION.itemsize` bytes.  Operands are slots of a table of addresses plus byte offsets, so
one tape serves many runs, each with a table and buffers of its own.  What a run has besides, `STATE` lists.  The function
goes back to its caller with a `Status`; called again with the same state, it goes on where it stopped.
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache
from typing import Any

import numpy as np

from engine.native import compiler

__all__ = ["DEEPEST", "INSTRUCTION", "OPERANDS", "STATE", "Kind", "Status", "address"]

OPERANDS = 4  # of a loop; CALLs have any number of them, in the pool
DEEPEST = 32  # loops around an inner loop

INSTRUCTION = np.dtype(
    [
        ("kind", np.int32),
        ("nargs", np.int32),
        ("function", np.int64),  # what to call
        ("data", np.int64),  # a loop's data; the address of a CALL's parallel-for, or 0
        ("count", np.int64),  # elements, bytes, or a CALL's begin
        ("slots", np.int32, OPERANDS),
        ("offsets", np.int64, OPERANDS),
        ("strides", np.int64, OPERANDS),  # of the inner loop; of a CALL: end, grain
        ("depth", np.int32),  # loops around the inner one
        ("pool", np.int32),  # where in the pool the rest is
        ("target", np.int64),  # a jump's; the number of a stack or escape
    ]
)
assert INSTRUCTION.itemsize == 128  # two cache lines

STATE = (
    "code",  # address of the first instruction
    "pool",  # address of the pool of int64
    "table",  # address of the pointers
    "bound",  # address of the pointers as they were bound
    "restorable",  # bytes copied from `bound` to the table when a run begins
    "resume",  # 1 if the next call goes on with a run; else it begins one
    "pc",  # number of the next instruction
    "budget",  # jumps back until the caller is asked
    "number",  # out: what ESCAPE says; the stack that is full or empty
    "stack_count",
    "stacks",  # address of the stacks' rows: address, bytes used, bytes there, bytes an element
    "log",  # address of int64s: times and answers, in the order in which they came
    "logged",  # entries written
    "loggable",  # entries that there is room for
    "clock",  # address of clock_gettime, or 0: the processor's counter
    "machine",  # address of this machine
    "inputs",  # slots that are bound to the arrays of a call
    "input_slots",  # address of their numbers
    "array_type",  # address of the type object ndarray
    "scratch",  # address of pointers for a CALL's arguments
    "busy",  # 1 while it runs
)
"""The int64 fields of a run's state, in order."""


class Kind(IntEnum):
    """What an instruction does."""

    END = 0
    LOOP2 = 1  # an inner loop with 2, 3, 4 operands, once
    LOOP3 = 2
    LOOP4 = 3
    NEST = 4  # an inner loop in loops around it
    SCALAR2 = 5  # a function of 2, 3 addresses: one element
    SCALAR3 = 6
    BYTES = 7  # copy bytes
    ZERO = 8  # clear bytes
    CALL = 9  # f(args, begin, end)
    PARALLEL = 10  # parallel_for(f, args, begin, end, grain)
    POINT = 11  # table[slot 1] = table[slot 0] + offset 0
    SWAP = 12  # exchange two slots
    JUMP = 13
    UNLESS = 14  # jump if a bool is false, true
    WHEN = 15
    COUNT = 16  # an int64 grows by one
    PUSH = 17  # bytes onto a stack, from its top, its top's address into a slot
    POP = 18
    POP_POINTER = 19
    RESET = 20  # empty a stack
    ESCAPE = 21
    TIME = 22  # the time goes into the log
    TEST = 23  # a bool goes into the log, as 0 or 1


class Status(IntEnum):
    """Why the machine came back."""

    DONE = 0
    ESCAPED = 1  # at an ESCAPE; goes on behind it
    INTERRUPTED = 2  # the budget of jumps back is used up
    STACK_FULL = 3  # `number` says which; goes on once there is room
    STACK_EMPTY = 4
    BUSY = 5  # another thread runs this state
    BAD_INPUT = (
        6  # the call's arrays are not what is wanted: their number, or one that is no ndarray or not aligned
    )
    LOG_FULL = 7  # goes on once there is room


@lru_cache(maxsize=1)
def library() -> Any:
    """The compiled machine.  Raises UnavailableError without a compiler."""
    from engine.native.machine import source

    return compiler.compile(source())


def address(name: str = "run_tape") -> int:
    """Where ``run_tape`` is, or ``i64 counter()``, which reads the processor's counter."""
    found: int = library().address(name)
    return found
