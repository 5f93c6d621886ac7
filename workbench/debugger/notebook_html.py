"""A snapshot as HTML, for notebooks: where the step stands, what is ready, what has executed, frames.  No scripts, no styles of
its own but inline ones, so that it is shown the same wherever a notebook is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from viz.format import duration, plural
from workbench.debugger import text
from workbench.debugger.snapshot import ExecutedView, FrameView, Snapshot, TokenView
from workbench.debugger.source import short_path

SHOWN = 12  # rows of a table

_TABLE = "border-collapse:collapse;margin:2px 0 8px 0"
_CELL = "text-align:left;padding:1px 10px 1px 0;font-family:monospace;white-space:pre-wrap;vertical-align:top"
_QUIET = "color:gray"
_NEXT = "font-weight:bold"


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
    parts = [f"<b>{escape(fetched)}</b> <span style='{_QUIET}'>{escape(counts)}</span>"]
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


def paragraph(said: str) -> str:
    """A line of text."""
    return f"<div style='margin:2px 0'>{escape(said)}</div>"


def _next(snapshot: Snapshot) -> str:
    view = snapshot.next
    if view is None:
        return paragraph(f"nothing is left after {plural(snapshot.executed, 'execution')}")
    dead = " DEAD" if view.dead else ""
    head = f"<div style='{_NEXT}'>next: {escape(view.node)} ({escape(view.type)}) {escape(view.path)}{dead}</div>"
    return head + _table("inputs", (), [(token.name, _token(token)) for token in snapshot.next_inputs])


def _source(snapshot: Snapshot) -> str:
    source = snapshot.source
    if source is None:
        return ""
    line = next((each for n, each in enumerate(source.lines, source.first) if n == source.line), "")
    return f"<div style='{_QUIET}'>{escape(f'{short_path(source.file)}:{source.line}')} <code>{escape(line.strip())}</code></div>"


def _ready(snapshot: Snapshot) -> str:
    rows = []
    for view in snapshot.ready[:SHOWN]:
        at = view.activation
        notes = [*(["DEAD"] if at.dead else []), *(["breakpoint"] if view.breakpoint else [])]
        rows.append((str(view.index), at.node, at.type, at.path, ", ".join(notes)))
    return _table("ready", ("", "node", "type", "frame", ""), rows, snapshot.ready_count - len(rows))


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
    return _table("executed", head, rows, len(history) - len(rows))


def _frames(frames: Iterable[FrameView]) -> str:
    rows = [
        (frame.path, plural(frame.iteration_count, "iteration"), f"{frame.ended_count} ended", frame.made_at)
        for frame in frames
        if frame.parent >= 0
    ]
    return _table("frames", (), rows[:SHOWN], len(rows) - SHOWN)


def _token(token: TokenView) -> str:
    said = text.token(token, short=True)
    return f"{said}  ({text.descends(token.tainted)})" if token.tainted else said


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], more: int = 0) -> str:
    if not rows:
        return ""
    lines = []
    if head:
        cells = "".join(f"<th style='{_CELL};{_QUIET}'>{escape(cell)}</th>" for cell in head)
        lines.append(f"<tr>{cells}</tr>")
    for row in rows:
        cells = "".join(f"<td style='{_CELL}'>{escape(cell)}</td>" for cell in row)
        lines.append(f"<tr>{cells}</tr>")
    rest = f" <span style='{_QUIET}'>and {more} more</span>" if more > 0 else ""
    return (
        f"<div style='{_QUIET}'>{escape(title)}{rest}</div><table style='{_TABLE}'>{''.join(lines)}</table>"
    )
