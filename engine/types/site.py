"""Where in the user's program something was made.

`stack` is on the path of building every node, so it keeps only code objects and instruction offsets; a `Site`, its lines, and the
source text are worked out when somebody asks.
"""

from __future__ import annotations

import linecache
import os
import sys
from functools import lru_cache
from types import CodeType, FrameType
from typing import Any, NamedTuple

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_hidden: tuple[str, ...] = tuple(
    os.path.join(_ROOT, name) + os.sep for name in ("engine", "tracing", "workbench/host")
)


class _Files(dict[str, bool]):
    """By file name, whether its frames are the user's.  (Hashing a code object would read all of its instructions.)"""

    def __missing__(self, name: str) -> bool:
        # Frozen modules and runpy are the interpreter's own start-up, under every script run with -m.
        found = not name.startswith("<frozen") and not os.path.abspath(name).startswith(_hidden)
        if len(self) > 100_000:
            self.clear()
        self[name] = found
        return found


_is_user = _Files()


def hide(path_prefix: str) -> None:
    """Leave frames of files whose path starts with `path_prefix` out of every site captured from now on."""
    global _hidden
    _hidden = (*_hidden, os.path.abspath(path_prefix) + (os.sep if path_prefix.endswith(os.sep) else ""))
    _is_user.clear()


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


Captured = tuple[Any, ...]
"""What `stack` gives: code object, offset, code object, offset, …: nothing that the garbage collector would have to visit."""


class Site:
    """The user's stack when something was made, innermost frame first; the engine's own frames are left out."""

    __slots__ = ("_captured", "_frames")

    def __init__(self, captured: Captured = (), frames: tuple[Frame, ...] | None = None) -> None:
        self._captured = captured
        self._frames = frames

    @property
    def frames(self) -> tuple[Frame, ...]:
        """The frames, innermost first."""
        if self._frames is None:
            pairs = zip(self._captured[::2], self._captured[1::2])
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


_known_frames: dict[tuple[int, ...], tuple[Captured, tuple[Frame, ...]]] = {}


def frames(limit: int = 6) -> tuple[Frame, ...]:
    """The frames of the site of the call being made.  The lines of a call that comes again are not looked up again."""
    captured = stack(1, limit)
    # By identity, since hashing a code object reads all of its instructions; who is known here stays alive.
    key = (*map(id, captured[::2]), *captured[1::2])
    known = _known_frames.get(key)
    if known is None:
        if len(_known_frames) >= 1024:
            _known_frames.clear()
        known = _known_frames[key] = captured, Site(captured).frames
    return known[1]


def capture(limit: int = 6) -> Site:
    """The site of the call being made: at most `limit` frames of the user's program, innermost first."""
    return Site(stack(1, limit))


def stack(skip: int = 0, limit: int = 6) -> Captured:
    """What `capture` makes a `Site` of.

    skip: so many of the innermost frames, the caller's first, are known to be the engine's own, and are not looked at.
    """
    found: list[Any] = []
    frame: FrameType | None = sys._getframe(1 + skip)
    is_user = _is_user
    while frame is not None:
        code = frame.f_code
        if is_user[code.co_filename]:
            found.append(code)
            found.append(frame.f_lasti)
            limit -= 1
            if not limit:
                break
        frame = frame.f_back
    return tuple(found)


def stacklevel() -> int:
    """The `stacklevel` with which `warnings.warn`, called where this is, points at the user's line; 1 if there is none."""
    frame: FrameType | None = sys._getframe(1)
    level = 1
    while frame is not None:
        if _is_user[frame.f_code.co_filename]:
            return level
        frame = frame.f_back
        level += 1
    return 1
