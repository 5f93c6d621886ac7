"""The chain of stages that a program went through, told in few words: what each one did, and why; and a node's way through it."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from engine.passes.stage import Stage
from viz.stage_diff import Change, Reason, StageDiff, diff

_WHY = {
    "built": "The graph as the program wrote it.",
    "pruned": "Keeps what the fetches need; fed tensors come from outside.",
    "placed": "Gives every node a device.",
    "partitioned": "Cuts the edges between devices: what crosses is sent and received.",
}


class UnknownName(ValueError):
    """Nothing has that name; the message lists what there is, the closest first."""


@dataclass(frozen=True, slots=True)
class ReasonGroup:
    """Changes of one kind for one reason; names in the reason are written as ``…``."""

    change: Change
    text: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class StageSummary:
    """One stage: its nodes, what it changed in the stage before, and why."""

    stage: Stage
    why: str
    diff: StageDiff | None

    @property
    def counts(self) -> Counter[Change]:
        return self.diff.counts if self.diff is not None else Counter()

    @cached_property
    def devices(self) -> dict[str, int]:
        """How many nodes there are on each device, in the order of the stage."""
        return dict(Counter(node.device for node in self.stage))

    @cached_property
    def reasons(self) -> tuple[ReasonGroup, ...]:
        """The stage's own reasons, those alike as one; those with the most nodes first."""
        if self.diff is None:
            return ()
        known = {**self.diff.before.nodes, **self.stage.nodes}
        groups: dict[tuple[Change, str], list[str]] = {}
        for change in self.diff.changes.values():
            text = change.reasons[-1].text if change.reasons else ""
            if text:
                groups.setdefault((change.changes[0], generalized(text, known)), []).append(change.name)
        found = [ReasonGroup(change, text, tuple(names)) for (change, text), names in groups.items()]
        return tuple(sorted(found, key=lambda group: -len(group.names)))


@dataclass(frozen=True)
class ChainModel:
    """A chain of stages with what each one did."""

    summaries: tuple[StageSummary, ...]

    @property
    def stages(self) -> tuple[Stage, ...]:
        return tuple(summary.stage for summary in self.summaries)

    @property
    def last(self) -> Stage:
        return self.summaries[-1].stage

    def find(self, name: str) -> Stage:
        """The stage of that name, or the only one whose name ends so (``fold`` for ``optimized/fold``).  Raises UnknownName."""
        names = [stage.name for stage in self.stages]
        short = {each.removeprefix("optimized/"): each for each in names}
        wanted = name if name in names else short.get(name)
        if wanted is None:
            raise unknown("stage", name, names)
        return self.stages[names.index(wanted)]


def chain_model(last: Stage) -> ChainModel:
    """The chain that ends in `last`."""
    found: list[StageSummary] = []
    for stage in last.chain():
        before = stage.before
        found.append(
            StageSummary(stage, why_of(stage.name), diff(before, stage) if before is not None else None)
        )
    return ChainModel(tuple(found))


def why_of(stage_name: str) -> str:
    """What a stage of that name is for, in one sentence; '' for one that nobody knows."""
    from engine.passes.pipeline import PASSES, PREFIX

    if stage_name.startswith(PREFIX):
        row_name = stage_name.removeprefix(PREFIX).partition("/")[0]
        return next((row.why for row in PASSES if row.name == row_name), "")
    return _WHY.get(stage_name, "")


def generalized(reason: str, known: Mapping[str, object]) -> str:
    """`reason` with … for each name of a node, so that reasons of one kind are one text."""

    def without(match: re.Match[str]) -> str:
        word = match.group(0)
        bare = word.strip("'^")
        marked = word != bare or "/" in word or ":" in word  # a bare word may be an op type, or just a word
        return "…" if marked and (bare in known or bare.rpartition(":")[0] in known) else word

    text = re.sub(r"'[^' ]+'|[\w.^][\w./:\-]*[\w]", without, reason)
    return re.sub(r"…(, …)+", "…", text)


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """A node at one stage of its way: the names of what it is there, what happened to it there, and why."""

    stage: str
    names: tuple[str, ...]
    changes: tuple[Change, ...]
    type: str
    device: str
    reasons: tuple[Reason, ...]
    details: tuple[str, ...]


def history(model: ChainModel, name: str) -> list[HistoryRow]:
    """What `name`, a node of any stage, was before and became after, stage by stage.  Raises UnknownName."""
    stages = model.stages
    at = next((i for i, stage in enumerate(stages) if name in stage.nodes), None)
    if at is None:
        raise unknown("node", name, dict.fromkeys(each for stage in stages for each in stage.nodes))
    names: list[tuple[str, ...]] = [()] * len(stages)
    names[at] = (name,)
    for i in range(at, 0, -1):
        names[i - 1] = _all(stages[i].sources(each) for each in names[i])
    for i in range(at + 1, len(stages)):
        names[i] = _all(stages[i].successors.get(each, ()) for each in names[i - 1])
    rows: list[HistoryRow] = []
    for i, summary in enumerate(model.summaries):
        here, before = names[i], names[i - 1] if i else ()
        if not here and not before:
            continue
        changes = summary.diff.changes if summary.diff is not None else {}
        main = name if name in here else here[0] if here else name
        gone = next((changes[each] for each in before if each in changes and changes[each].is_gone), None)
        found = changes.get(main)
        change = gone if gone is not None and (found is None or name not in here) else found
        node = summary.stage.nodes.get(main)
        rows.append(
            HistoryRow(
                summary.stage.name,
                here,
                change.changes if change is not None else (),
                node.type if node is not None else "",
                node.device if node is not None else "",
                change.reasons if change is not None else (),
                change.details if change is not None else (),
            )
        )
        if not here:
            break
    return rows


def _all(groups: Iterable[Sequence[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for group in groups for name in group))


def unknown(kind: str, name: str, there: Iterable[str]) -> UnknownName:
    """The error for a `kind` of thing ("stage", "node") that is not among those `there` are."""
    return UnknownName(f"there is no {kind} '{name}'; {suggestion(name, list(there), kind)}")


def suggestion(name: str, there: Sequence[str], kind: str, most: int = 12) -> str:
    """The names closest to `name`; where none is close, what there is, as far as a line holds it."""
    if not there:
        return f"there is no {kind} at all"
    wanted = name.lower()
    close = sorted((each for each in there if wanted in each.lower()), key=len)[:3]
    close += difflib.get_close_matches(name, there, 2, 0.6)
    tails = {each.rpartition("/")[2].lower(): each for each in reversed(there)}
    close += [tails[tail] for tail in difflib.get_close_matches(wanted, tails, 3, 0.6)]
    close += difflib.get_close_matches(name, there, 5, 0.55)
    if close:
        return "did you mean " + " or ".join(f"'{each}'" for each in list(dict.fromkeys(close))[:3]) + "?"
    rest = f" and {len(there) - most:,} more" if len(there) > most else ""
    return f"the {kind}s: {', '.join(there[:most])}{rest}"
