"""Tapes as text, one line an instruction."""

from __future__ import annotations

from engine.native.assembler import Tape
from engine.native.driver import Kind
from engine.native.layout import View

_JUMPS = (Kind.JUMP, Kind.UNLESS, Kind.WHEN)
_LOOPS = (Kind.LOOP2, Kind.LOOP3, Kind.LOOP4, Kind.NEST)


def lines(tape: Tape) -> list[str]:
    """For each instruction its number, what it does, its operands (outputs last), and how it walks them.

    ``>`` before a number: something jumps there.
    """
    targets = {int(row["target"]) for row in tape.code if row["kind"] in _JUMPS}
    width = len(str(len(tape)))
    text = []
    for at, (row, note) in enumerate(zip(tape.code, tape.notes)):
        kind = Kind(int(row["kind"]))
        parts = [f"{'>' if at in targets else ' '}{at:>{width}}  {note.name:<14}"]
        cut = len(note.views) - note.outputs
        operands = ", ".join(operand(tape, view) for view in note.views[:cut])
        results = ", ".join(operand(tape, view) for view in note.views[cut:])
        parts += [operands, f"-> {results}" if results else "", note.text]
        if kind in _LOOPS:
            lengths = [int(n) for n in tape.pool[row["pool"] :][: row["depth"]]][::-1]
            parts.append("; " + " x ".join(str(n) for n in (*lengths, int(row["count"]))))
        elif kind in _JUMPS:
            parts.append(f"=> {int(row['target'])}")
        text.append(" ".join(part for part in parts if part).rstrip())
    return text


def operand(tape: Tape, view: View) -> str:
    """Name, offset, dtype, shape; strides where they are not C-contiguous."""
    place = tape.slots[view.slot] + (f"+{view.offset}" if view.offset else "")
    shape = ",".join(str(n) for n in view.shape)
    strides = "" if view.is_contiguous else f" by {','.join(str(n) for n in view.strides)}"
    return f"{place}:{view.dtype}[{shape}]{strides}"
