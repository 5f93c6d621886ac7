"""Groups of elementwise steps as one call of a fused kernel each, where a plan need not have NumPy's bits.

Between the bounds of branches and loops, steps are looked at in order.  One joins a group that makes what it reads, or reads the
same, if all of the group's elements go together and nothing in between stands in the way: a group runs where its last step was,
so a step that is not of it closes it by reading what it writes, or by writing what it reads or writes.  What nobody else reads is
not written to memory any more.  A reduction over the last dimensions may end a group.  Whether a group pays is estimated
(`engine.runtime.plan.fusion_costs`).

Arithmetic, comparisons, choices and conversions keep NumPy's bits; functions and sums are off by what `Fusion.ulps` says.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from engine.runtime.plan.fusion_chains import Chain, Program, kernel_of, write
from engine.runtime.plan.fusion_forms import Form, folds, form_of
from engine.runtime.plan.recording import Home, Recorder, Step

ELEMENTWISE = frozenset({"ufunc", "select", "cast", "copy"})
_CONTROL = frozenset({"place", "jump", "jump_if_false", "jump_if_true", "loop", "end", "test"})
_MOST_STEPS = 64  # of a group: a compiler's patience, and a person's
TRIPS = 30  # how often a loop is thought to go round
_LEAST = 15.0  # ns that a group has to save
_SHARE = 0.1  # of what groups of a segment save on average: one that saves less is left
_SHORT = 5e3  # ns of a call that keeps the interpreter's lock


@dataclass(frozen=True, slots=True)
class Apart:
    """A step beside a group that is not in it: what it does, the index of the item that made it (-1: none), and why."""

    step: str
    owner: int
    reason: str


@dataclass(frozen=True, slots=True)
class Fusion:
    """A call that does the work of several steps.

    steps: what they do, in order; owners: the indices of the items that made them, each once.  shape: of the loop; results: how
    many arrays it gives.  saved: ns that one call is thought to save.  ulps: what functions and sums in it may be off, in units
    in the last place.  apart: the steps that end it.
    """

    steps: tuple[str, ...]
    owners: tuple[int, ...]
    shape: tuple[int, ...]
    results: int
    saved: float
    ulps: float
    apart: tuple[Apart, ...]


@dataclass(slots=True, eq=False)
class Group:
    """Steps that may become one call: their numbers, in order; shape None: elements lie alike, in whatever dimensions."""

    members: list[int]
    size: int
    shape: tuple[int, ...] | None
    writes: set[int]
    reads: dict[
        int, int
    ]  # slots from outside: bytes an element if all its elements are read in order, else 0
    fold: int = -1  # the reduction at its end
    apart: list[Apart] = field(default_factory=list)


class Grouping:
    """The groups of a recorder's steps that pay, not yet compiled; `outputs` are the slots of the buffers that somebody is given.

    saved: ns that a run is thought to save.  declined: (items' indices, reason) of groups that were not fused.
    """

    def __init__(self, recorder: Recorder, steps: Sequence[Step], outputs: Iterable[int]) -> None:
        self.recorder = recorder
        self.steps = steps
        self.declined: list[tuple[tuple[int, ...], str]] = []
        self._given = set(outputs)
        self._readers: dict[int, list[int]] = {}
        writers: dict[int, list[int]] = {}
        self._depths: list[int] = []
        depth = 0
        for at, step in enumerate(steps):
            depth += (step.kind == "loop") - (step.kind == "end")
            self._depths.append(depth)
            for view in step.reads:
                self._readers.setdefault(view.slot, []).append(at)
            for view in step.writes:
                writers.setdefault(view.slot, []).append(at)
        # Buffers that hold one number all over, and nothing else ever.
        self._filled = {
            slot: steps[at[0]]
            for slot, at in writers.items()
            if len(at) == 1
            and steps[at[0]].kind == "fill"
            and recorder.buffers[slot].home is Home.ARENA
            and steps[at[0]].writes[0].nbytes == recorder.buffers[slot].nbytes
        }
        self._forms: dict[int, Form] = {}
        self._program = Program(recorder, steps, self._forms, self._filled)
        self._why: dict[int, str] = {}
        self._groups: dict[Group, None] = {}  # in order
        self._open: set[Group] = set()
        self._touching: dict[
            int, dict[Group, None]
        ] = {}  # by slot, those that read or write it; some are closed
        for at, step in enumerate(steps):
            self._look(at, step)
        self.chains: list[tuple[Group, list[Chain]]] = []
        self.saved = 0.0
        for group in self._groups:
            self._consider(group)
        self._sort_out()

    # Groups.

    def _look(self, at: int, step: Step) -> None:
        if step.kind in _CONTROL:
            for group in self._open:
                group.apart.append(Apart(step.kind, step.owner, "a branch or a loop begins or ends there"))
            self._open.clear()
            self._touching.clear()
            return
        if step.kind == "time":  # a node that is part of a group may end when the one before it does
            return
        found = form_of(self.recorder, step, self._filled)
        mine = None
        if isinstance(found, Form):
            self._forms[at] = found
            mine = self._join(at, found)
            if mine is None:
                mine = Group([], found.size, None, set(), {})
                self._groups[mine] = None
                self._open.add(mine)
            self._take(mine, at, found)
        else:
            self._why[at] = found
            mine = self._fold(at, step)
        self._close(at, step, mine)

    def _join(self, at: int, form: Form) -> Group | None:
        """The group that the step joins: all those that make what it reads, as one, where that can be."""
        slots = {operand.view.slot: None for operand in form.operands if operand.shape != ()}
        near = self._near(slots)
        makers = [each for each in near if not each.writes.isdisjoint(slots)]
        mine: Group | None = None
        for group in reversed(makers):
            why = _unfit(group, form) or (_apart(mine, group) if mine is not None else "")
            if why:
                self._why.setdefault(at, why)
            elif mine is None:
                mine = group
            else:
                self._merge(mine, group)
        if mine is None and not makers:
            mine = next((each for each in reversed(near) if not _unfit(each, form)), None)
        return mine

    def _near(self, slots: Iterable[int]) -> list[Group]:
        """The open groups that touch one of these, by their last step."""
        found = {group for slot in slots for group in self._touching.get(slot, ()) if group in self._open}
        return sorted(found, key=lambda each: each.members[-1])

    def _merge(self, mine: Group, other: Group) -> None:
        mine.members = sorted(mine.members + other.members)
        mine.shape = mine.shape or other.shape
        mine.writes |= other.writes
        for slot, itemsize in other.reads.items():
            mine.reads[slot] = itemsize if mine.reads.get(slot, itemsize) == itemsize else 0
        mine.apart += other.apart
        del self._groups[other]
        self._open.remove(other)
        for slot in (*other.writes, *other.reads):
            self._touching.setdefault(slot, {})[mine] = None

    def _take(self, group: Group, at: int, form: Form) -> None:
        group.members.append(at)
        if not form.flat:
            group.shape = form.shape
        for operand in form.operands:
            slot = operand.view.slot
            if slot not in group.writes:
                itemsize = (
                    operand.view.dtype.itemsize if operand.shape is None and not operand.view.offset else 0
                )
                group.reads[slot] = itemsize if group.reads.get(slot, itemsize) == itemsize else 0
        group.writes.add(form.target.slot)
        for slot in (form.target.slot, *(operand.view.slot for operand in form.operands)):
            self._touching.setdefault(slot, {})[group] = None

    def _fold(self, at: int, step: Step) -> Group | None:
        """The group that a reduction may end, so that nothing joins it any more."""
        if step.kind != "reduce":
            return None
        for group in self._near([step.reads[0].slot]):
            if step.reads[0].slot in group.writes and folds(self.recorder, step, group.shape):
                group.fold = at
                self._open.remove(group)
                return group
        return None

    def _close(self, at: int, step: Step, mine: Group | None) -> None:
        reads, writes = {view.slot for view in step.reads}, {view.slot for view in step.writes}
        for group in self._near(reads | writes):
            touched = writes & (group.writes | group.reads.keys()) or reads & group.writes
            if group is not mine and touched:
                why = self._why.get(at, "it is in another group")
                group.apart.append(Apart(_word(step), step.owner, why))
                self._open.remove(group)

    # Which pay.

    def _needed(self, slot: int, members: set[int]) -> list[int]:
        """The other steps that may read what the group leaves in a buffer; -1 for whoever is given it."""
        last = max(members)
        looped = self._depths[last] > 0
        found = [at for at in self._readers.get(slot, ()) if at not in members and (looped or at > last)]
        return [*found, -1] if slot in self._given else found

    def _consider(self, group: Group) -> None:
        """Choose how the group becomes calls: all of it one, or what only its reduction reads one with that, and the rest one."""
        members = set(group.members)
        live = {slot: readers for slot in group.writes if (readers := self._needed(slot, members))}
        ways = [[(group.members, live, -1)]]
        if group.fold >= 0 and list(live.values()) == [[group.fold]]:
            ways.append([(group.members, live, group.fold)])
        elif group.fold >= 0:
            ways += self._split(group, live)
        best: list[Chain] = []
        saved, why = _LEAST, ""
        for way in ways:
            made = [
                write(
                    self._program,
                    steps,
                    group.shape or (group.size,),
                    left,
                    fold,
                    fold if fold >= 0 else group.members[-1],
                )
                for steps, left, fold in way
            ]
            good = [each for each in made if isinstance(each, Chain)]
            total = sum(each.saved for each in good)
            if len(good) == len(made) and total >= saved:
                best, saved = good, total
            why = why or (f"it would save {max(total, 0):.0f} ns a run" if good else str(made[0]))
        if best:
            self.chains.append((group, best))
        elif len(group.members) > 1:
            self.declined.append((self._owners(group.members), why))

    def _split(
        self, group: Group, live: dict[int, list[int]]
    ) -> list[list[tuple[list[int], dict[int, list[int]], int]]]:
        """The group in two, if there is a part of it that only the reduction reads."""
        folded = self.steps[group.fold].reads[0].slot
        targets = [self._forms[at].target.slot for at in group.members]
        if (
            live.get(folded) != [group.fold]
            or len(set(targets)) < len(targets)
            or not group.writes.isdisjoint(group.reads)
        ):
            return []
        wanted = set(live) - {folded}
        first: list[int] = []
        tail: list[int] = []
        for at in reversed(group.members):
            form = self._forms[at]
            (first if form.target.slot in wanted else tail).insert(0, at)
            if first[:1] == [at]:
                wanted |= {operand.view.slot for operand in form.operands}
        read = {operand.view.slot for at in tail for operand in self._forms[at].operands}
        kept = {
            slot: live.get(slot, [])
            for slot in (self._forms[at].target.slot for at in first)
            if slot in read or slot in live
        }
        return [[(first, kept, -1), (tail, {folded: [group.fold]}, group.fold)]] if first and tail else []

    def _sort_out(self) -> None:
        """Leave those that save next to nothing beside the others: each kernel takes as long to compile."""
        weighed = [
            sum(each.saved for each in chains) * TRIPS ** min(self._depths[group.members[-1]], 3)
            for group, chains in self.chains
        ]
        least = _SHARE * sum(weighed) / max(self.kernels, 1)
        kept = []
        for (group, chains), saved in zip(self.chains, weighed, strict=True):
            if saved >= least * len(chains):
                kept.append((group, chains))
                self.saved += saved
            else:
                little = max(sum(each.saved for each in chains), 0.0)
                why = f"it would save {little:.0f} ns a run, which is little beside the others"
                self.declined.append((self._owners(group.members), why))
        self.chains = kept

    @property
    def kernels(self) -> int:
        """How many there are to compile."""
        return sum(len(chains) for _, chains in self.chains)

    def _owners(self, members: Iterable[int]) -> tuple[int, ...]:
        return tuple(dict.fromkeys(self.steps[at].owner for at in members))

    # Compiling.

    def compiled(self) -> tuple[list[Step], list[Fusion]]:
        """The steps with calls in the groups' stead, and what the calls are; compiles, or finds, a kernel for each.

        Raises UnavailableError without llvmlite.
        """
        calls: dict[int, Step] = {}
        gone: set[int] = set()
        fusions: list[Fusion] = []
        for group, chains in self.chains:
            kernels = [kernel_of(each) for each in chains]
            whys = [each for each in kernels if isinstance(each, str)]
            if whys:
                self.declined.append((self._owners(group.members), whys[0]))
                continue
            for kernel, chain in zip(kernels, chains, strict=True):
                assert not isinstance(kernel, str)
                scratch = [self.recorder.new(np.dtype(np.uint8), (max(size, 1),)) for size in kernel.scratch]
                writes = (*(view for view, _ in chain.outputs), *scratch)
                owner, short = self.steps[chain.at].owner, chain.took <= _SHORT
                calls[chain.at] = Step("call", tuple(chain.inputs), writes, kernel, owner, short)
                gone.update(chain.members)
                words = tuple(_word(self.steps[at]) for at in chain.members)
                owners, count = self._owners(chain.members), len(chain.outputs)
                apart = tuple(group.apart)
                fusions.append(Fusion(words, owners, chain.shape, count, chain.saved, kernel.ulps, apart))
        steps = []
        for at, step in enumerate(self.steps):
            if at not in gone:
                steps.append(step)
            if at in calls:
                steps.append(calls[at])
        read = {view.slot for step in steps for view in step.reads}
        unread = {
            id(step) for slot, step in self._filled.items() if slot not in read and slot not in self._given
        }
        return [step for step in steps if id(step) not in unread], fusions


def _unfit(group: Group, form: Form) -> str:
    """Why a step cannot join a group, or ""."""
    if form.size != group.size:
        return f"it is about {form.size} elements, the group about {group.size}"
    if not form.flat and group.shape not in (None, form.shape):
        return "its operands repeat along other dimensions than the group's"
    if len(group.members) >= _MOST_STEPS:
        return f"the group has {_MOST_STEPS} steps already"
    for operand in form.operands:
        if operand.view.slot in group.writes and (operand.shape is not None or operand.view.offset):
            return "it reads elements in another order than the group makes them"
    target = form.target
    if group.reads.get(target.slot, target.dtype.itemsize) != target.dtype.itemsize:
        return "it writes over what the group reads in another order"
    return ""


def _apart(mine: Group, other: Group) -> str:
    """Why two groups cannot be one, or ""."""
    if mine.shape is not None and other.shape not in (None, mine.shape):
        return "two groups that it reads repeat operands along different dimensions"
    if len(mine.members) + len(other.members) >= _MOST_STEPS:
        return f"together they would have more than {_MOST_STEPS} steps"
    return ""


def _word(step: Step) -> str:
    if step.kind == "ufunc":
        return str(step.data)
    if step.kind == "call":
        return str(step.data.name)
    return f"{step.data[0]}.reduce" if step.kind == "reduce" else step.kind
