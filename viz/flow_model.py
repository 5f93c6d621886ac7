"""What control flow has done in a step under the debugger, as the screen shows it: frames, resources, the way of a dead token.

Made from the plain data that a debugger sends (`workbench.debugger.snapshot` has its schema), leniently: what is missing is
empty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Iteration:
    """An open iteration of a frame, with how many of its nodes are ready and how many wait."""

    number: int
    ready: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Enter:
    """An Enter node through which a token came in, and in which execution; a `constant` one goes to every iteration."""

    node: str
    row: int
    dead: bool
    constant: bool


@dataclass(frozen=True, slots=True)
class FrameNode:
    """A frame with its open iterations and the open frames that were entered from them.

    `count` iterations have begun, `ended` of them have ended, `deferred` were held back by the `limit` (`parallel_iterations`),
    number `held` (-1: none) still is.  `end_row` is -1 while it is open.
    """

    id: int
    name: str
    path: str
    parent: int
    parent_iteration: int
    live: bool
    count: int
    iterations: tuple[Iteration, ...]
    children: tuple[FrameNode, ...] = ()
    ended: int = 0
    enters: tuple[Enter, ...] = ()
    enter_count: int = 0
    begin_row: int = -1
    end_row: int = -1
    limit: int = 0
    deferred: int = 0
    held: int = -1
    most: int = 0
    made_at: str = ""
    made_by: str = ""
    gradient_of: str = ""


@dataclass(frozen=True, slots=True)
class Writer:
    """The execution that put something where it is."""

    row: int
    node: str
    path: str


@dataclass(frozen=True, slots=True)
class Summary:
    """A value in a few words; `type` is its dtype, `low`, `high` and `mean` are over the finite elements."""

    type: str
    shape: tuple[int, ...]
    text: str
    complete: bool
    low: float | None
    high: float | None
    mean: float | None
    nan: int
    inf: int


@dataclass(frozen=True, slots=True)
class Element:
    """An element of a stack or array; `value` is None where it was read and let go, `by` where that is not known."""

    index: int
    value: Summary | None
    by: Writer | None


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource; `size` counts its elements, and is -1 for what has a `value` instead (a variable)."""

    name: str
    kind: str
    size: int
    elements: tuple[Element, ...]
    value: Summary | None
    by: Writer | None
    keeps: tuple[str, ...]
    readers: tuple[str, ...]
    original: str
    made_at: str


@dataclass(frozen=True, slots=True)
class Place:
    """An execution on the way of a dead token; `row` is -1 for one that is still to come."""

    node: str
    type: str
    path: str
    row: int
    note: str


@dataclass(frozen=True, slots=True)
class Way:
    """The way of the dead token that reached `asked`."""

    asked: Place
    killer: Place | None
    chain: tuple[Place, ...]
    stops: tuple[Place, ...]


def short_path(path: str) -> str:
    """The frames around by their last names: ``outer:2 › inner:0``, or nothing in the root frame."""
    parts = [part for part in path.split(" > ") if part and part != "root"]
    return " › ".join(part.rsplit("/", 1)[-1] for part in parts)


def frame_nodes(rows: Sequence[Any]) -> tuple[FrameNode, ...]:
    """The frames as a tree: the roots, each with what was entered from it."""
    below: dict[int, list[Any]] = {}
    known = {int(row["id"]) for row in rows}
    for row in rows:
        parent = int(row.get("parent", -1))
        below.setdefault(parent if parent in known else -1, []).append(row)

    def make(row: Any) -> FrameNode:
        return _frame(row, tuple(make(child) for child in below.get(int(row["id"]), ()) if child is not row))

    return tuple(make(row) for row in below.get(-1, ()))


def flat_frames(rows: Sequence[Any]) -> tuple[FrameNode, ...]:
    """The frames one by one, as they come."""
    return tuple(_frame(row, ()) for row in rows)


def _frame(row: Row, children: tuple[FrameNode, ...]) -> FrameNode:
    iterations = tuple(
        Iteration(int(it["number"]), int(it.get("ready", 0)), int(it.get("waiting", 0)))
        for it in row.get("iterations", ())
    )
    enters = tuple(
        Enter(str(it["node"]), int(it.get("row", -1)), bool(it.get("dead")), bool(it.get("constant")))
        for it in row.get("enters", ())
    )
    return FrameNode(
        id=int(row["id"]),
        name=str(row.get("name", "")),
        path=str(row.get("path", "")),
        parent=int(row.get("parent", -1)),
        parent_iteration=int(row.get("parent_iteration", 0)),
        live=bool(row.get("live", True)),
        count=int(row.get("iteration_count", len(iterations))),
        iterations=iterations,
        children=children,
        ended=int(row.get("ended_count", 0)),
        enters=enters,
        enter_count=int(row.get("enter_count", len(enters))),
        begin_row=int(row.get("begin_row", -1)),
        end_row=int(row.get("end_row", -1)),
        limit=int(row.get("limit", 0)),
        deferred=int(row.get("deferred_count", 0)),
        held=int(row.get("held", -1)),
        most=int(row.get("most_under_way", 0)),
        made_at=str(row.get("made_at", "")),
        made_by=str(row.get("made_by", "")),
        gradient_of=str(row.get("gradient_of", "")),
    )


def resources(rows: Sequence[Any]) -> tuple[Resource, ...]:
    """The resources of a snapshot."""
    return tuple(
        Resource(
            name=str(row["name"]),
            kind=str(row.get("kind", "")),
            size=int(row.get("size", -1)),
            elements=tuple(
                Element(int(it["index"]), summary(it.get("value")), _writer(it.get("by")))
                for it in row.get("elements", ())
            ),
            value=summary(row.get("value")),
            by=_writer(row.get("by")),
            keeps=tuple(row.get("keeps", ())),
            readers=tuple(row.get("readers", ())),
            original=str(row.get("original", "")),
            made_at=str(row.get("made_at", "")),
        )
        for row in rows
    )


def summary(value: Any) -> Summary | None:
    """A value's summary; None where there is none."""
    if not value:
        return None
    return Summary(
        type=str(value.get("dtype", "")),
        shape=tuple(value.get("shape", ())),
        text=" ".join(str(value.get("text", "")).split()),
        complete=bool(value.get("complete", True)),
        low=value.get("minimum"),
        high=value.get("maximum"),
        mean=value.get("mean"),
        nan=int(value.get("nan", 0)),
        inf=int(value.get("inf", 0)),
    )


def _writer(row: Any) -> Writer | None:
    return Writer(int(row["row"]), str(row["node"]), str(row.get("path", "root"))) if row else None


def way(row: Any) -> Way | None:
    """The way of a dead token; None where none was asked for."""
    if not row:
        return None
    killer = row.get("killer")
    return Way(
        _place(row["asked"]),
        _place(killer) if killer else None,
        tuple(_place(each) for each in row.get("chain", ())),
        tuple(_place(each) for each in row.get("stops", ())),
    )


def _place(row: Row) -> Place:
    return Place(
        str(row["node"]),
        str(row.get("type", "")),
        str(row.get("path", "root")),
        int(row.get("row", -1)),
        str(row.get("note", "")),
    )
