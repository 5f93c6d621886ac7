"""Lines of the user's source file around the one that matters."""

from __future__ import annotations

import linecache
import os

from engine.types.site import Frame
from workbench.debugger.snapshot import SOURCE_LINES, SourceView

MAX_LINE = 200  # characters of one line


def view(frame: Frame | None, around: int = SOURCE_LINES) -> SourceView | None:
    """The source around `frame`, or None if there is no frame."""
    if frame is None:
        return None
    all_lines = linecache.getlines(frame.file)
    if not 0 < frame.line <= len(all_lines):
        return SourceView(frame.file, frame.line, frame.function, frame.line, ())
    first = max(1, frame.line - around)
    lines = tuple(line.rstrip("\n")[:MAX_LINE] for line in all_lines[first - 1 : frame.line + around])
    return SourceView(frame.file, frame.line, frame.function, first, lines)


def short_path(path: str) -> str:
    """`path` relative to the current directory if that is shorter."""
    try:
        relative = os.path.relpath(path)
    except (OSError, ValueError):  # the directory is gone, or on another drive
        return path
    return min(relative, path, key=len)


def short_place(frame: Frame | None) -> str:
    """A line of the user's program as ``script.py:12``; '' for none."""
    return f"{os.path.basename(frame.file)}:{frame.line}" if frame is not None else ""
