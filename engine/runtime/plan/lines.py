"""The lines of a listing, the values that go between them, and from where to where each lives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from engine.passes.stage import StageNode
from engine.runtime.plan.words import static_bytes

PYTHON, TAPE = "python", "tape"
COMPUTE, BRANCH, LOOP, MOVE = "compute", "branch", "loop", "move"
KINDS = (COMPUTE, BRANCH, LOOP, MOVE)


@dataclass(frozen=True, slots=True)
class Line:
    """One line: `depth` blocks are around it; `kind` is one of KINDS.

    `nodes` are names of the stage's nodes whose work the line is; `handed` of those that only hand on what it makes or asks
    (Switch, Enter, Identity, …).  `reads` and `writes` are numbers of values.
    """

    number: int
    depth: int
    kind: str
    text: str
    nodes: tuple[str, ...]
    handed: tuple[str, ...]
    reads: tuple[int, ...]
    writes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Segment:
    """Lines `first` to `last`, one after the other, that one `backend` runs ("python", "tape"); `steps` of a tape, else 0."""

    backend: str
    first: int
    last: int
    steps: int = 0


@dataclass(frozen=True, slots=True)
class Value:
    """What goes between lines.

    `tensor` names the output that made it (``"h:0"``); `dims` is its static shape, None where the rank is not known, with None
    for a dimension that is not; `nbytes` its size, None where the shape leaves it open or elements are strings, 0 for a
    reference to a variable or other resource.  It lives from line `first` to line `last`, loops that need it again included.
    """

    number: int
    tensor: str
    dtype: str
    dims: tuple[int | None, ...] | None
    nbytes: int | None
    first: int
    last: int

    @property
    def name(self) -> str:
        """As in the text: ``%3``."""
        return f"%{self.number}"


def lives(
    lines: Sequence[Line], loops: Iterable[tuple[int, int]], sources: Iterable[tuple[StageNode, int]]
) -> tuple[Value, ...]:
    """The values, made by the outputs `sources` in the order of their numbers, with their first and last lines.

    A value that is read in a loop older than it is lives until that loop's end; `loops` are first and last lines.
    """
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    around = _loops_around(len(lines), loops)
    for line in lines:
        for value in line.writes:
            first.setdefault(value, line.number)
            last[value] = max(last.get(value, 0), line.number)
        for value in line.reads:
            born = first.get(value, line.number)
            ends = (end for start, end in around[line.number] if start >= born)
            last[value] = max(last.get(value, 0), max(ends, default=line.number))
    return tuple(
        Value(
            number,
            f"{node.name}:{output}",
            node.output_dtypes[output].name,
            node.output_shapes[output].dims_or_none,
            static_bytes(node, output),
            first.get(number, 1),
            last.get(number, 1),
        )
        for number, (node, output) in enumerate(sources)
    )


def _loops_around(count: int, loops: Iterable[tuple[int, int]]) -> list[tuple[tuple[int, int], ...]]:
    """For each line, from 1, the loops around it."""
    found: list[tuple[tuple[int, int], ...]] = [()] * (count + 1)
    for start, end in loops:
        for number in range(start + 1, end + 1):
            found[number] = (*found[number], (start, end))
    return found
