"""What became of each node between two stages of a chain: added, removed, merged, rewritten, moved; with reasons and lines.

Lineages say, from one stage to the next, which nodes a node came from; here they are followed through all the stages between.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from engine.passes.stage import Stage, StageNode
from engine.types.site import Frame
from viz import format as fmt

_CARRIERS = ("_Send", "_Recv")


class Change(enum.Enum):
    """What happened to a node; the value is the letter that stands for it everywhere."""

    ADDED = "+"
    REMOVED = "-"
    MERGED = "&"  # gone as a node of its own, and part of another
    REWRITTEN = "~"
    MOVED = ">"

    @property
    def word(self) -> str:
        return self.name.lower()


class Reason(NamedTuple):
    """One sentence of the stage that says why it changed the node."""

    stage: str
    text: str


@dataclass(frozen=True, slots=True)
class NodeChange:
    """What became of one node.

    `name` is its name in the later stage, or in the earlier one if it is gone.  `changes` has one member, or REWRITTEN and MOVED.
    `sources` are nodes of the earlier stage that it came from, `into` those of the later one that it is part of (MERGED).
    `details` say what is different about it, `frame` is the user's line that made it.
    """

    name: str
    changes: tuple[Change, ...]
    type: str
    device: str
    sources: tuple[str, ...] = ()
    into: tuple[str, ...] = ()
    reasons: tuple[Reason, ...] = ()
    details: tuple[str, ...] = ()
    frame: Frame | None = None

    @property
    def letters(self) -> str:
        return "".join(change.value for change in self.changes)

    @property
    def is_gone(self) -> bool:
        return self.changes[0] in (Change.REMOVED, Change.MERGED)

    @property
    def place(self) -> str:
        """``digits.py:62``, or '' for a node that no line of the user's made."""
        return "" if self.frame is None else f"{self.frame.file.rpartition('/')[2]}:{self.frame.line}"


@dataclass(frozen=True)
class StageDiff:
    """All changes from `before` to `after`, in the later stage's order, what is gone behind them; `kept` counts the rest."""

    before: Stage
    after: Stage
    changes: Mapping[str, NodeChange]
    kept: int

    @cached_property
    def counts(self) -> Counter[Change]:
        return Counter(change for each in self.changes.values() for change in each.changes)

    def of(self, change: Change) -> list[NodeChange]:
        """The nodes to which that happened."""
        return [each for each in self.changes.values() if change in each.changes]


def same_stage(a: Stage, b: Stage) -> bool:
    """Whether both are one stage of one program (a stage that is read from a run twice is two objects)."""
    return a is b or (a.id == b.id != 0 and a.name == b.name)


def path_between(before: Stage, after: Stage) -> list[Stage]:
    """The stages after `before` up to `after`.  Raises ValueError if `before` is no earlier stage of the same chain."""
    found: list[Stage] = []
    walk: Stage | None = after
    while walk is not None and not same_stage(walk, before):
        found.append(walk)
        walk = walk.before
    if walk is None:
        names = ", ".join(stage.name for stage in after.chain())
        raise ValueError(f"'{before.name}' is no stage before '{after.name}', which came about by {names}")
    return found[::-1]


def diff(before: Stage, after: Stage) -> StageDiff:
    """What became of each node between two stages of a chain.  Raises ValueError if they are not of one."""
    path = path_between(before, after)
    ancestors: dict[str, tuple[str, ...]] = {name: (name,) for name in before.nodes}
    for stage in path:
        ancestors = {
            name: tuple(dict.fromkeys(far for near in stage.sources(name) for far in ancestors.get(near, ())))
            for name in stage.nodes
        }
    changes: dict[str, NodeChange] = {}
    kept = 0
    for name, node in after.nodes.items():
        old = before.nodes.get(name)
        if old is None or name not in ancestors[name]:
            changes[name] = _change(node, (Change.ADDED,), path, sources=ancestors[name])
            continue
        details = tuple(_details(old, node))
        kinds = (
            *((Change.REWRITTEN,) if details else ()),
            *((Change.MOVED,) if _has_moved(old, node) else ()),
        )
        if kinds:
            if Change.MOVED in kinds:
                details += (f"{fmt.device(old.device)} → {fmt.device(node.device)}",)
            changes[name] = _change(node, kinds, path, ancestors[name], details)
        else:
            kept += 1
    parts: dict[str, list[str]] = {}
    for name, sources in ancestors.items():
        for source in sources:
            parts.setdefault(source, []).append(name)
    for name, node in before.nodes.items():
        into = tuple(parts.get(name, ()))
        if name not in into:
            # What carries its result to another device came of it too, but is not what it has become.
            into = tuple(each for each in into if after.nodes[each].type not in _CARRIERS) or into
        if name not in into:
            kind = Change.MERGED if into else Change.REMOVED
            reasons = tuple(_why_gone(name, path))
            key = name if name not in changes else f"{name} (before)"
            changes[key] = NodeChange(
                name, (kind,), node.type, node.device, into=into, reasons=reasons, frame=user_frame(node)
            )
    return StageDiff(before, after, changes, kept)


def _change(
    node: StageNode,
    kinds: tuple[Change, ...],
    path: list[Stage],
    sources: tuple[str, ...],
    details: tuple[str, ...] = (),
) -> NodeChange:
    reasons = tuple(reasons_of(node.name, path))
    return NodeChange(
        node.name, kinds, node.type, node.device, sources, (), reasons, details, user_frame(node)
    )


def user_frame(node: StageNode) -> Frame | None:
    """The line of the user's script that made the node."""
    return node.site.user if node.site is not None else None


def reasons_of(name: str, path: Iterable[Stage]) -> list[Reason]:
    """What the stages of `path`, the last of which has the node, say of it and of what it came from, in their order."""
    found: list[Reason] = []
    for stage in reversed(list(path)):
        if name not in stage.nodes:
            break
        lineage = stage.nodes[name].lineage
        if stage.made(name) and lineage.reason:
            found.append(Reason(stage.name, lineage.reason))
        sources = stage.sources(name)
        if not sources:
            break
        name = name if name in sources else sources[0]
    return found[::-1]


def _why_gone(name: str, path: Iterable[Stage]) -> list[Reason]:
    """Why `name`, and then all that came of it, went."""
    found: list[Reason] = []
    names = {name: None}
    for stage in path:
        following: dict[str, None] = {}
        for each in names:
            into = stage.successors.get(each, ())
            if each in stage.removed and each not in into:
                found.append(Reason(stage.name, stage.removed[each]))
            elif each not in into and into:
                found.append(Reason(stage.name, stage.nodes[into[0]].lineage.reason or f"now {into[0]}"))
            following.update(dict.fromkeys(into))
        if name in names and name not in following and following:
            break  # it goes on as a part of others, which have stories of their own
        names = following
        if not names:
            break
    return list(dict.fromkeys(found))


def _has_moved(old: StageNode, new: StageNode) -> bool:
    return old.device != new.device and fmt.device(old.device) != fmt.device(new.device)


def _details(old: StageNode, new: StageNode) -> list[str]:
    """What is different, apart from the device, in a few words each."""
    found: list[str] = []
    if old.type != new.type:
        found.append(f"{old.type} → {new.type}")
    if old.inputs != new.inputs:
        if len(old.inputs) == len(new.inputs):
            pairs = [(a, b) for a, b in zip(old.inputs, new.inputs) if a != b]
            found += [f"reads {_edge(b)} instead of {_edge(a)}" for a, b in pairs]
        else:
            found.append(f"reads {', '.join(map(_edge, new.inputs)) or 'nothing'}")
    if old.control_inputs != new.control_inputs:
        gone = [name for name in old.control_inputs if name not in new.control_inputs]
        come = [name for name in new.control_inputs if name not in old.control_inputs]
        if gone:
            found.append(f"no longer waits for {', '.join(gone)}")
        if come:
            found.append(f"waits for {', '.join(come)}")
    if old.type == new.type:
        names = [
            name for name in (*old.attrs, *new.attrs) if not _equal(old.attrs.get(name), new.attrs.get(name))
        ]
        found += [f"another {name}" for name in dict.fromkeys(names)]
    return found


def _edge(edge: tuple[str, int]) -> str:
    name, slot = edge
    return f"{name}:{slot}" if slot else name


def _equal(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        same_kind = isinstance(a, np.ndarray) and isinstance(b, np.ndarray)
        return same_kind and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, tuple | list) and isinstance(b, tuple | list):
        return len(a) == len(b) and all(map(_equal, a, b))
    if hasattr(a, "dims_or_none") and hasattr(b, "dims_or_none"):
        return bool(a.dims_or_none == b.dims_or_none)  # unknown shapes are equal to nothing
    return bool(a == b)
