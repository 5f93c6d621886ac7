"""HTML for notebooks: tables and paragraphs.  No scripts, and no styles but inline ones, so that it looks the same wherever a
notebook is shown."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

TABLE = "border-collapse:collapse;margin:2px 0 8px 0"
CELL = "text-align:left;padding:1px 10px 1px 0;font-family:monospace;white-space:pre-wrap;vertical-align:top"
QUIET = "color:gray"
STRONG = "font-weight:bold"


def paragraph(said: str, style: str = "") -> str:
    """A line of text."""
    return f"<div style='margin:2px 0{';' + style if style else ''}'>{escape(said)}</div>"


def table(
    title: str,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    more: int = 0,
    strong: Sequence[bool] = (),
) -> str:
    """A table under a title; empty without rows.  `more` rows were left out; `strong` says which rows stand out."""
    if not rows:
        return ""
    lines = []
    if head:
        cells = "".join(f"<th style='{CELL};{QUIET}'>{escape(cell)}</th>" for cell in head)
        lines.append(f"<tr>{cells}</tr>")
    for index, row in enumerate(rows):
        style = f"{CELL};{STRONG}" if index < len(strong) and strong[index] else CELL
        cells = "".join(f"<td style='{style}'>{escape(cell)}</td>" for cell in row)
        lines.append(f"<tr>{cells}</tr>")
    rest = f" <span style='{QUIET}'>and {more} more</span>" if more > 0 else ""
    return f"<div style='{QUIET}'>{escape(title)}{rest}</div><table style='{TABLE}'>{''.join(lines)}</table>"
