"""A snapshot or an answer as HTML, for notebooks: where the step stands, what is ready, what has executed, frames; why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from viz.format import duration, plural
from viz.html import QUIET, STRONG, paragraph, table
from workbench.debugger import text
from workbench.debugger.questions.reasoning import Reasoning
from workbench.debugger.snapshot import ExecutedView, FrameView, Snapshot, TokenView
from workbench.debugger.source import short_path

SHOWN = 12  # rows of a table
REASONS = 60  # statements of an answer
INDENT = "   "


def page(snapshot: Snapshot) -> str:
    """Where the step stands."""
    step = snapshot.step
    if step is None:
        return paragraph(text.status(snapshot))
    fetched = ", ".join((*step.fetches, *step.targets))
    counts = (
        f"step {step.step} · {snapshot.executed} executed · {snapshot.ready_count} ready · "
        f"{snapshot.waiting_count} waiting"
    )
    parts = [f"<b>{escape(fetched)}</b> <span style='{QUIET}'>{escape(counts)}</span>"]
    if snapshot.reason:
        parts.append(paragraph(f"stopped: {snapshot.reason}"))
    if snapshot.error is not None:
        parts.append(paragraph(f"{snapshot.error.type}: {snapshot.error.message}"))
    parts += [
        _next(snapshot),
        _source(snapshot),
        _ready(snapshot),
        _history(snapshot.history),
        _frames(snapshot.frames),
    ]
    return f"<div>{''.join(parts)}</div>"


def reasoning(found: Reasoning) -> str:
    """An answer: what is at the bottom of it stands out."""
    rows, strong = [], []
    for each in found.reasons[:REASONS]:
        row = f"#{each.row}" if each.row >= 0 else ""
        rows.append(
            (INDENT * each.depth + each.statement, each.place, row, each.line, each.code if each.root else "")
        )
        strong.append(each.root)
    more = len(found.reasons) - len(rows) + found.omitted
    return f"<div>{paragraph(found.answer, STRONG)}{table(found.question, (), rows, more, strong)}</div>"


def _next(snapshot: Snapshot) -> str:
    view = snapshot.next
    if view is None:
        return paragraph(f"nothing is left after {plural(snapshot.executed, 'execution')}")
    dead = " DEAD" if view.dead else ""
    head = f"<div style='{STRONG}'>next: {escape(view.node)} ({escape(view.type)}) {escape(view.path)}{dead}</div>"
    return head + table("inputs", (), [(token.name, _token(token)) for token in snapshot.next_inputs])


def _source(snapshot: Snapshot) -> str:
    source = snapshot.source
    if source is None:
        return ""
    line = next((each for n, each in enumerate(source.lines, source.first) if n == source.line), "")
    return f"<div style='{QUIET}'>{escape(f'{short_path(source.file)}:{source.line}')} <code>{escape(line.strip())}</code></div>"


def _ready(snapshot: Snapshot) -> str:
    rows = []
    for view in snapshot.ready[:SHOWN]:
        at = view.activation
        notes = [*(["DEAD"] if at.dead else []), *(["breakpoint"] if view.breakpoint else [])]
        rows.append((str(view.index), at.node, at.type, at.path, ", ".join(notes)))
    return table("ready", ("", "node", "type", "frame", ""), rows, snapshot.ready_count - len(rows))


def _history(history: Sequence[ExecutedView]) -> str:
    rows = []
    for entry in history[-SHOWN:]:
        at = entry.activation
        gave = "DEAD" if at.dead else "; ".join(_token(token) for token in entry.outputs)
        notes = [
            note
            for note in (entry.change, text.descends(entry.tainted) if entry.tainted else "", entry.effect)
            if note
        ]
        took = duration(entry.duration_ns) if entry.duration_ns else ""
        rows.append((f"#{entry.row}", at.node, at.type, at.path, gave, took, ", ".join(notes[:1])))
    head = ("", "node", "type", "frame", "outputs", "took", "")
    return table("executed", head, rows, len(history) - len(rows))


def _frames(frames: Iterable[FrameView]) -> str:
    rows = [
        (frame.path, plural(frame.iteration_count, "iteration"), f"{frame.ended_count} ended", frame.made_at)
        for frame in frames
        if frame.parent >= 0
    ]
    return table("frames", (), rows[:SHOWN], len(rows) - SHOWN)


def _token(token: TokenView) -> str:
    said = text.token(token, short=True)
    return f"{said}  ({text.descends(token.tainted)})" if token.tainted else said
