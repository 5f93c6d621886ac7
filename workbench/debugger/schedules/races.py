"""Races of a graph: two accesses to one resource, at least one a write, that no path orders.

Found in the graph as it runs (pruned, optimized, partitioned), without running it; see `ordering` for what counts as ordered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from engine.passes.stage import Stage
from engine.runtime.program import Item, Program
from workbench.debugger.schedules.accesses import KIND_OF, Kind
from workbench.debugger.schedules.in_order import MAKERS
from workbench.debugger.schedules.ordering import Access, Ordering, queue_of
from workbench.debugger.schedules.unrolled import Instance, Resource, reach

_UNSEEN = {Kind.PUT, Kind.TAKE}
_ORDERS = {
    Kind.PUT: "a queue gives its elements in an order that depends on the one in which they came",
    Kind.TAKE: "which of the elements each gets depends on which of the two comes first",
}


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two accesses: `node` as it runs, its type, what it does, its device, and the user's line that made it."""

    node: str
    type: str
    kind: Kind
    device: str
    file: str
    line: int
    source: str

    @property
    def place(self) -> str:
        """The line of the user's script, "" if it is not known."""
        return f"{self.file}:{self.line}" if self.file else ""


@dataclass(frozen=True, slots=True)
class Race:
    """Two accesses to `resource` that no path orders.

    distance: in how many iterations of `loop` (the frame's name, "" outside of loops) the second comes after the first; 0: in the
    same.  why: sentences.  adds: both add to what is there, so that the end is the same but for rounding, and what is read in
    between is not.
    """

    number: int
    resource: str
    kind: str
    first: Side
    second: Side
    loop: str
    distance: int
    why: tuple[str, ...]
    adds: bool

    def __str__(self) -> str:
        a, b = self.first, self.second
        other = f"{b.node} in a later iteration" if self.distance else b.node
        return f"{a.node} {a.kind.value} and {other} {b.kind.value} the {self.kind} '{self.resource}'"


def find_races(program: Program, most: int = 1_000) -> list[Race]:
    """The races of a program, by resource, in the order of the nodes; `most` of them."""
    ordering = Ordering(program)
    in_order = _in_order(program, ordering.accesses)
    by_resource: dict[object, list[Access]] = {}
    for access in ordering.accesses:
        by_resource.setdefault(access.resource, []).append(access)
    found: dict[tuple[int, int, object, bool], tuple[Access, Access, int]] = {}
    for accesses in by_resource.values():
        writes = [access for access in accesses if access.kind.writes]
        if not writes:
            continue
        for a, b in combinations(accesses, 2):
            if not (a.kind.writes or b.kind.writes) or a.instance is b.instance:
                continue
            if a.resource in in_order and {a.kind, b.kind} == _UNSEEN:
                continue
            if _apart(a, b) or ordering.ordered(a, b) or ordering.exclusive(a.instance, b.instance):
                continue
            if _sort_key(b) < _sort_key(a):
                a, b = b, a
            distance = _distance(a.instance, b.instance)
            key = (a.instance.item.index, b.instance.item.index, _label(a), distance > 0)
            known = found.get(key)
            if known is None or distance < known[2]:
                found[key] = (a, b, distance)
    # A pair that races within one iteration is not told again for iterations apart.
    kept = [
        each
        for key, each in found.items()
        if not (key[3] and ((*key[:3], False) in found or (key[1], key[0], key[2], False) in found))
    ]
    return [_race(number, a, b, distance, program) for number, (a, b, distance) in enumerate(kept[:most], 1)]


def races_of(stage: Stage, devices: int = 1) -> list[Race]:
    """The races of a stage that runs on that many devices."""
    return find_races(Program(stage, per_device=devices > 1))


def _in_order(program: Program, accesses: Sequence[Access]) -> set[Resource]:
    """The queues of which nobody can tell whether an element was put in before another one was taken out (`in_order`)."""
    closed = {access.resource for access in accesses if access.kind is Kind.CLOSE}
    return {queue_of(item.node) for item in program.items if item.node.type in MAKERS} - closed


def _apart(a: Access, b: Access) -> bool:
    """Whether they are about different elements of an array."""
    return a.element is not None and b.element is not None and a.element != b.element


def _sort_key(access: Access) -> tuple[tuple[int, ...], int]:
    return access.instance.copies, access.instance.item.index


def _label(access: Access) -> object:
    return access.resource[:2]


def _distance(a: Instance, b: Instance) -> int:
    """How many iterations apart, in the innermost loop that differs; 0 if in one iteration or in different loops."""
    for one, other in zip(a.copies, b.copies, strict=False):
        if one != other:
            return other - one if a.item.frame.name == b.item.frame.name else 0
    return 0


def _race(number: int, a: Access, b: Access, distance: int, program: Program) -> Race:
    item, other = a.instance.item, b.instance.item
    return Race(
        number,
        str(a.resource[1]),
        str(a.resource[0]),
        side(item, a.kind),
        side(other, b.kind),
        item.frame.name if distance else "",
        distance,
        tuple(_why(item, other, distance, program)),
        a.kind is Kind.ADD and b.kind is Kind.ADD,
    )


def side(item: Item, kind: Kind) -> Side:
    """One side of a race, as it is told."""
    node = item.node
    user = node.site.user if node.site is not None else None
    place = (user.file, user.line, user.source) if user is not None else ("", 0, "")
    return Side(node.name, node.type, kind, node.device, *place)


def _why(a: Item, b: Item, distance: int, program: Program) -> list[str]:
    """Why the two are not ordered."""
    items = program.items
    from_a, from_b = reach(a, items), reach(b, items)
    found = []
    if a is b or distance:
        found.append(
            f"up to {a.frame.parallel_iterations} iterations of {a.frame.name or 'the loop'} run at once, and what {b.name} "
            f"waits for in an iteration does not include {a.name} of the one before"
        )
    elif b.index in from_a or a.index in from_b:
        early, late = (a, b) if b.index in from_a else (b, a)
        found.append(
            f"the way from {early.name} to {late.name} goes through a Merge, which does not wait for the branch not taken"
        )
    else:
        found.append(f"no data or control edge leads from {a.name} to {b.name}, or back")
    kinds = {KIND_OF.get(each.node.type) for each in (a, b)}
    found += [said for kind, said in _ORDERS.items() if kinds == {kind}]
    meeting = [index for index in from_a.keys() & from_b.keys() if index not in (a.index, b.index)]
    if meeting:
        nearest = min(meeting, key=lambda index: (from_a[index] + from_b[index], index))
        found.append(f"the first that waits for both is {items[nearest].name}")
    else:
        found.append("nothing waits for both")
    if a.node.device != b.node.device:
        found.append(f"they run on different devices: {a.node.device} and {b.node.device}")
    if not distance and a is not b:
        found.append(
            f"to order them, make one under tf.control_dependencies([...]) with the other, as {b.name} after {a.name}"
        )
    return found
