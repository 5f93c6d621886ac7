"""Groups of elementwise steps as one call of a fused kernel each, where a plan need not have NumPy's bits.

Between the bounds of branches and loops, steps are looked at in order.  One joins a group that makes what it reads, or reads the
same, if all of the group's elements go together and nothing in between stands in the way: a group runs where its last step was,
so a step that is not of it closes it by reading what it writes, or by writing what it reads or writes.  What nobody else reads is
not written to memory any more.  A reduction over the last dimensions may end a group.  Whether a group pays is estimated
(`engine.runtime.plan.fusion_costs`).

Arithmetic, comparisons, choices and conversions keep NumPy's bits; functions and sums are off by what `Fusion.ulps` says.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.runtime.plan import fusion_costs
from engine.runtime.plan.fusion_forms import Form, Operand, folds, form_of
from engine.runtime.plan.recording import Home, Recorder, Step

if TYPE_CHECKING:
    from engine.native.layout import View

_CONTROL = frozenset({"place", "jump", "jump_if_false", "jump_if_true", "loop", "end"})
_MOST_STEPS = 64  # of a group: a compiler's patience, and a person's
_MOST_OPERANDS = 24
_TRIPS = 30  # how often a loop is thought to go round
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


@dataclass(slots=True)
class Chain:
    """A group as `engine.native.elementwise.fused` wants it."""

    steps: list[tuple[str, list[str], dict[str, Any]]]
    inputs: list[View]
    outputs: list[tuple[View, int]]  # where to, and the number of the step
    shape: tuple[int, ...]
    members: list[int]
    rank: int = 0  # of the reduction
    kind: str = ""
    saved: float = 0.0
    took: float = 0.0


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
        self._why: dict[int, str] = {}
        self._groups: dict[Group, None] = {}  # in order
        self._open: set[Group] = set()
        self._touching: dict[
            int, dict[Group, None]
        ] = {}  # by slot, those that read or write it; some are closed
        for at, step in enumerate(steps):
            self._look(at, step)
        self.chains: list[tuple[Group, Chain]] = []
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
        chain = self._chain(group)
        if isinstance(chain, Chain):
            if chain.saved >= _LEAST:
                self.chains.append((group, chain))
                return
            chain = f"it would save {max(chain.saved, 0):.0f} ns a run"
        if len(group.members) > 1:
            self.declined.append((self._owners(group.members), chain))

    def _sort_out(self) -> None:
        """Leave those that save next to nothing beside the others: each kernel takes as long to compile."""
        weighed = [
            chain.saved * _TRIPS ** min(self._depths[group.members[-1]], 3) for group, chain in self.chains
        ]
        least = _SHARE * sum(weighed) / max(len(weighed), 1)
        for (group, chain), saved in zip(self.chains, weighed, strict=True):
            if saved < least:
                why = f"it would save {chain.saved:.0f} ns a run, which is little beside the other groups"
                self.declined.append((self._owners(group.members), why))
        self.chains = [each for each, saved in zip(self.chains, weighed, strict=True) if saved >= least]
        self.saved = sum(saved for saved in weighed if saved >= least)

    def _owners(self, members: Iterable[int]) -> tuple[int, ...]:
        return tuple(dict.fromkeys(self.steps[at].owner for at in members))

    def _chain(self, group: Group) -> Chain | str:
        members = set(group.members)
        live = {slot: readers for slot in group.writes if (readers := self._needed(slot, members))}
        if group.fold >= 0 and list(live.values()) != [[group.fold]]:
            group.fold = -1
        shape = group.shape or (group.size,)
        made = _Writer(self.recorder, self._filled, shape)
        for at in group.members:
            form = self._forms[at]
            if self.steps[at].kind == "copy" and not form.full and form.target.slot in live:
                made.spread(form)  # it stays, and its readers here do without it
                live.pop(form.target.slot)
                members.discard(at)
            else:
                made.add(self.steps[at], form)
        chain = Chain(made.steps, made.inputs, [], shape, sorted(members))
        if not live or not members:
            return "nothing but the group reads what it makes"
        if len(chain.inputs) + len(live) > _MOST_OPERANDS:
            return f"it has more than {_MOST_OPERANDS} operands"
        for slot in live:
            token = made.values[slot]
            if token[0] != "t" or not made.full[int(token[1:])]:
                return "a result is smaller than the loop"
            dtype = next(
                form.target.dtype
                for at in reversed(group.members)
                if (form := self._forms[at]).target.slot == slot
            )
            chain.outputs.append((_view(slot, dtype, shape), int(token[1:])))
        if group.fold >= 0:
            self._end(chain, self.steps[group.fold])
        self._estimate(chain, group)
        return chain

    def _end(self, chain: Chain, step: Step) -> None:
        (target,) = step.writes
        width, axes = step.reads[0].size // target.size, 0
        if len(chain.shape) == 1:
            chain.shape = (target.size, width)
            chain.inputs = [
                _view(view.slot, view.dtype, chain.shape, view.offset) if view.size > 1 else view
                for view in chain.inputs
            ]
        while math.prod(chain.shape[len(chain.shape) - axes :]) < width or not axes:
            axes += 1
        chain.rank, chain.kind = axes, fusion_costs.FOLDS[step.data[0]]
        chain.outputs = [(_view(target.slot, target.dtype, target.shape), chain.outputs[0][1])]

    def _estimate(self, chain: Chain, group: Group) -> None:
        steps = [self.steps[at] for at in chain.members]
        before = sum(map(fusion_costs.alone, steps))
        if chain.rank:
            before += fusion_costs.alone(self.steps[group.fold])
        repeated = sum(1 < view.size < group.size for view in chain.inputs)
        outside = [*chain.inputs, *(view for view, _ in chain.outputs)]
        after = fusion_costs.fused(steps, outside, chain.shape, repeated, folded=chain.rank > 0)
        chain.saved, chain.took = before - after, after

    # Compiling.

    def compiled(self) -> tuple[list[Step], list[Fusion]]:
        """The steps with calls in the groups' stead, and what the calls are; compiles, or finds, a kernel for each.

        Raises UnavailableError without llvmlite.
        """
        calls: dict[int, Step] = {}
        gone: set[int] = set()
        fusions: list[Fusion] = []
        for group, chain in self.chains:
            kernel = self._kernel(group, chain)
            if kernel is None:
                continue
            last = group.fold if chain.rank else group.members[-1]
            scratch = [self.recorder.new(np.dtype(np.uint8), (max(size, 1),)) for size in kernel.scratch]
            members = [*chain.members, *([group.fold] if chain.rank else [])]
            writes = (*(view for view, _ in chain.outputs), *scratch)
            short = chain.took <= _SHORT
            calls[last] = Step("call", tuple(chain.inputs), writes, kernel, self.steps[last].owner, short)
            gone.update(members)
            words = tuple(_word(self.steps[at]) for at in members)
            count = len(chain.outputs)
            fusions.append(
                Fusion(
                    words,
                    self._owners(members),
                    chain.shape,
                    count,
                    chain.saved,
                    kernel.ulps,
                    tuple(group.apart),
                )
            )
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

    def _kernel(self, group: Group, chain: Chain) -> Any:
        from engine.native.elementwise import Reduction, fused, why_not

        arguments: tuple[Any, ...] = (
            chain.steps,
            [view.dtype for view in chain.inputs],
            [view.shape for view in chain.inputs],
            [number for _, number in chain.outputs],
            Reduction(chain.kind, chain.rank) if chain.rank else None,
        )
        kernel = fused(*arguments)
        if kernel is None:
            why = why_not(*arguments)
        else:
            shared = [
                (i, k)
                for i, (out, _) in enumerate(chain.outputs)
                for k, view in enumerate(chain.inputs)
                if view.slot == out.slot
            ]
            if all(k in kernel.overwrites.get(i, ()) for i, k in shared):
                return kernel
            why = "it would write over what it reads"
        self.declined.append((self._owners(group.members), why))
        return None


class _Writer:
    """Writes a group down: `values` has, by slot, what a buffer holds at this point, as "x" or "t" and a number."""

    def __init__(self, recorder: Recorder, filled: dict[int, Step], shape: tuple[int, ...]) -> None:
        self.recorder = recorder
        self.filled = filled
        self.shape = shape
        self.steps: list[tuple[str, list[str], dict[str, Any]]] = []
        self.full: list[bool] = []  # of each step: whether it is as large as the loop
        self.inputs: list[View] = []
        self.values: dict[int, str] = {}

    def add(self, step: Step, form: Form) -> None:
        tokens = [self._operand(each) for each in form.operands]
        attrs = {"DstT": form.target.dtype} if step.kind == "cast" else {}
        given, rest = tokens[: len(tokens) - len(form.types) + 1], tokens[len(tokens) - len(form.types) + 1 :]
        for i, type in enumerate(form.types):
            operands = given if not i else [f"t{len(self.steps) - 1}", rest[i - 1]]
            self.full.append(any(self._is_full(each) for each in operands))
            self.steps.append((type, operands, attrs))
        self.values[form.target.slot] = f"t{len(self.steps) - 1}"

    def spread(self, form: Form) -> None:
        """A copy that only repeats its source: what reads it, reads the source."""
        self.values[form.target.slot] = self._operand(form.operands[0])

    def _operand(self, operand: Operand) -> str:
        view = operand.view
        found = self.values.get(view.slot)
        if found is not None:
            return found
        fill = self.filled.get(view.slot)
        if fill is not None:
            view = self.recorder.constant(np.array(fill.data).astype(view.dtype))
            placed = _view(view.slot, view.dtype, ())
        else:
            placed = _view(
                view.slot, view.dtype, self.shape if operand.shape is None else operand.shape, view.offset
            )
        if placed not in self.inputs:
            self.inputs.append(placed)
        return f"x{self.inputs.index(placed)}"

    def _is_full(self, token: str) -> bool:
        number = int(token[1:])
        return self.full[number] if token[0] == "t" else self.inputs[number].shape == self.shape


def _view(slot: int, dtype: Any, shape: tuple[int, ...], offset: int = 0) -> View:
    from engine.native.layout import View

    return View.of(slot, dtype, shape, offset)


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
