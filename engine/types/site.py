"""Where in the user's program something was made.

`capture` is on the path of building every node, so it keeps only (code object, instruction offset) pairs; lines, and the
source text, are worked out when somebody asks.
"""

from __future__ import annotations

import linecache
import os
import sys
from collections.abc import Sequence
from functools import lru_cache
from types import CodeType, FrameType
from typing import Any, NamedTuple

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_hidden: tuple[str, ...] = tuple(
    os.path.join(_ROOT, name) + os.sep for name in ("engine", "tracing", "workbench/host")
)
# By file name: hashing a code object reads all of its instructions.
_is_user: dict[str, bool] = {}


def hide(path_prefix: str) -> None:
    """Leave frames of files whose path starts with `path_prefix` out of every site captured from now on."""
    global _hidden
    _hidden = (*_hidden, os.path.abspath(path_prefix) + (os.sep if path_prefix.endswith(os.sep) else ""))
    _is_user.clear()


def _decide(name: str) -> bool:
    # Frozen modules and runpy are the interpreter's own start-up, under every script run with -m.
    known = not name.startswith("<frozen") and not os.path.abspath(name).startswith(_hidden)
    if len(_is_user) > 100_000:
        _is_user.clear()
    _is_user[name] = known
    return known


class Frame(NamedTuple):
    """One line of the user's program."""

    file: str
    line: int
    function: str

    @property
    def source(self) -> str:
        """The text of the line, stripped; '' if the file cannot be read."""
        return linecache.getline(self.file, self.line).strip()

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class Site:
    """The user's stack when something was made, innermost frame first; the engine's own frames are left out."""

    __slots__ = ("_frames", "_pairs")

    def __init__(self, pairs: Sequence[Any] = (), frames: tuple[Frame, ...] | None = None) -> None:
        self._pairs = (
            pairs  # code object, offset, code object, offset, …: half the objects of a list of pairs
        )
        self._frames = frames

    @property
    def frames(self) -> tuple[Frame, ...]:
        """The frames, innermost first."""
        if self._frames is None:
            pairs = zip(self._pairs[::2], self._pairs[1::2])
            self._frames = tuple(
                Frame(code.co_filename, _line(code, lasti), code.co_name) for code, lasti in pairs
            )
        return self._frames

    @property
    def user(self) -> Frame | None:
        """The innermost frame, or None if there is none."""
        frames = self.frames
        return frames[0] if frames else None

    def __reduce__(self) -> tuple[type[Site], tuple[tuple[()], tuple[Frame, ...]]]:
        return Site, ((), self.frames)

    def __str__(self) -> str:
        return str(self.user) if self.frames else "<unknown>"

    def __repr__(self) -> str:
        return f"<Site {self}>"


@lru_cache(maxsize=1024)
def _line(code: CodeType, lasti: int) -> int:
    for start, end, line in code.co_lines():
        if start <= lasti < end and line is not None:
            return line
    return code.co_firstlineno


def capture(limit: int = 6) -> Site:
    """The site of the call being made: at most `limit` frames of the user's program, innermost first."""
    pairs: list[Any] = []
    frame: FrameType | None = sys._getframe(1)
    known = _is_user
    while frame is not None:
        code = frame.f_code
        use = known.get(code.co_filename)
        if use is None:
            use = _decide(code.co_filename)
        if use:
            pairs.append(code)
            pairs.append(frame.f_lasti)
            limit -= 1
            if not limit:
                break
        frame = frame.f_back
    return Site(pairs)


def stacklevel() -> int:
    """The `stacklevel` with which `warnings.warn`, called where this is, points at the user's line; 1 if there is none."""
    frame: FrameType | None = sys._getframe(1)
    level = 1
    while frame is not None:
        name = frame.f_code.co_filename
        if _is_user.get(name) or (name not in _is_user and _decide(name)):
            return level
        frame = frame.f_back
        level += 1
    return 1
