"""One execution in full: what it took, with who made it, what it gave, each with a histogram; and where it comes from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from engine.passes.stage import StageNode
from engine.runtime.frames import ABSENT, DEAD, Activation
from engine.runtime.resources import Variable
from viz.format import shorten
from workbench.debugger import looking, source, views
from workbench.debugger.command import CommandError
from workbench.debugger.entries import Entry
from workbench.debugger.fitting import shown
from workbench.debugger.pages import MAX_BINS, MAX_TOKENS, DetailView, HistogramView, TensorView
from workbench.debugger.questions import trail
from workbench.debugger.questions.trail import Trail
from workbench.debugger.snapshot import SourceView, TokenState, TokenView
from workbench.debugger.stepping import Stepping
from workbench.debugger.values import Reference, Summaries

_SAMPLED = 1 << 20  # elements of which a histogram is made at most
_WRITES = 8


def executed(stepping: Stepping, summaries: Summaries, row: int, run: SourceView | None) -> DetailView:
    """Execution `row`.  Raises CommandError if it is not in the history."""
    entry = stepping.entry_at(row)
    if entry is None:
        raise CommandError(f"execution #{row} is not in the history")
    view = views.executed_view(entry, summaries)
    node = entry.activation.item.node
    values = list(entry.outputs or ())
    outputs = [
        TensorView(token, histogram(values[index]) if index < len(values) else None)
        for index, token in enumerate(view.outputs[:MAX_TOKENS])
    ]
    return DetailView(
        row=row,
        state="executed",
        activation=view.activation,
        inputs=tuple(_arrived(stepping, summaries, entry)),
        outputs=tuple(outputs),
        duration_ns=entry.duration_ns,
        effect=entry.effect,
        change=view.change,
        tainted=view.tainted,
        writes=tuple(_writes(entry)),
        lineage=lineage(node),
        source=source_of(node),
        run_source=run,
    )


def ready(stepping: Stepping, summaries: Summaries, index: int, run: SourceView | None) -> DetailView:
    """What is number `index` of the ready ones.  Raises CommandError if there is no such one."""
    if not 0 <= index < len(stepping.ready):
        raise CommandError(f"only {len(stepping.ready)} are ready")
    return _waiting(stepping, summaries, stepping.ready[index], "ready" if index else "next", run)


def node(stepping: Stepping, summaries: Summaries, name: str, run: SourceView | None) -> DetailView:
    """A node: its latest execution, or else what is there of its inputs.  Raises CommandError if there is no such node."""
    item = looking.item_of(stepping, name)
    latest = stepping.latest.get(item.index)
    if latest is not None and stepping.entry_at(latest.row) is latest:
        return executed(stepping, summaries, latest.row, run)
    for index, each in enumerate(stepping.ready):
        if each.item is item:
            return ready(stepping, summaries, index, run)
    for frame in stepping.state.live_frames():
        if item in frame.spec.items:
            for number in sorted(frame.iterations):
                return _waiting(stepping, summaries, Activation(item, frame, number), "waiting", run)
    root = Activation(item, stepping.state.root, 0)
    return DetailView(
        -1,
        "waiting",
        views.activation_view(root, False),
        lineage=lineage(item.node),
        source=source_of(item.node),
        run_source=run,
    )


def _waiting(
    stepping: Stepping, summaries: Summaries, at: Activation, state: str, run: SourceView | None
) -> DetailView:
    item, frame, number = at
    tokens = views.input_views(stepping, item, frame, number, summaries)[:MAX_TOKENS]
    values = frame.iterations[number].inputs[item.start : item.end]
    inputs = tuple(
        TensorView(token, histogram(values[token.slot]) if 0 <= token.slot < len(values) else None)
        for token in tokens
    )
    dead = state != "waiting" and stepping.state.is_dead(at)
    return DetailView(
        -1,
        state,
        views.activation_view(at, dead),
        inputs,
        lineage=lineage(item.node),
        source=source_of(item.node),
        run_source=run,
    )


def _arrived(stepping: Stepping, summaries: Summaries, entry: Entry) -> Iterator[TensorView]:
    for index, each in enumerate(Trail.of(stepping).arrivals(entry)):
        if index == MAX_TOKENS:
            return
        row = each.source.row if each.source is not None else -1
        if each.how == trail.CONTROL:
            dead = each.source is not None and each.source.outputs is None
            state = TokenState.DEAD if dead else TokenState.VALUE
            yield TensorView(TokenView(-1, each.name, state), None, row)
        elif each.value is ABSENT:
            yield TensorView(TokenView(each.slot, each.name, TokenState.MISSING), None, row)
        elif isinstance(each.value, Reference) or hasattr(each.value, "dtype") or each.value is DEAD:
            token = summaries.token(each.slot, each.name, each.value)
            yield TensorView(token, histogram(each.value), row)


def _writes(entry: Entry) -> Iterator[str]:
    for write in entry.writes[:_WRITES]:
        name = write.resource.name
        if isinstance(write.resource, Variable) and hasattr(write.new, "dtype"):
            before = shown(write.old) if hasattr(write.old, "dtype") else "uninitialized"
            yield shorten(f"{name}: {before} → {shown(write.new)}", 160)
        else:
            yield shorten(f"{write.kind} {name}", 160)


def histogram(value: Any) -> HistogramView | None:
    """The finite elements of an array in up to `MAX_BINS` parts; None where there is nothing to see in that."""
    if isinstance(value, Reference):
        value = value.value
    if not isinstance(value, np.ndarray) or value.size < 2 or value.dtype.kind not in "fiub":
        return None
    flat = value.reshape(-1)
    if flat.size > _SAMPLED:
        flat = flat[:: flat.size // _SAMPLED + 1]
    numbers = flat.astype(np.float64)
    numbers = numbers[np.isfinite(numbers)]
    if not numbers.size:
        return None
    low, high = float(numbers.min()), float(numbers.max())
    if not np.isfinite(high - low) or not high > low:
        return HistogramView((int(numbers.size),), low, high)
    counts, _ = np.histogram(numbers, bins=min(MAX_BINS, numbers.size), range=(low, high))
    return HistogramView(tuple(counts.tolist()), low, high)


def lineage(node: StageNode) -> str:
    """Where a node comes from among the stages, in a line."""
    found = node.lineage
    if not found.sources or found.by == "built":
        return ""
    sources = ", ".join(found.sources[:3]) + (" …" if len(found.sources) > 3 else "")
    return shorten(
        f"{found.by}: {found.reason or 'made'}" + (f" (from {sources})" if sources != node.name else ""), 200
    )


def source_of(node: StageNode) -> SourceView | None:
    """The user's lines around the one that made a node."""
    return source.view(node.site.user if node.site is not None else None)
