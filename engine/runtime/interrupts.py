"""Work that Ctrl-C must not cut in two."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

try:
    # What `signal` wraps; its enums take 25 us a block.
    from _signal import getsignal  # type: ignore[import-not-found]
    from _signal import signal as _set
except ImportError:
    from signal import getsignal
    from signal import signal as _set

_SIGNALS = (int(signal.SIGINT), int(signal.SIGTERM))


class Held:
    """Inside `with Held():` signals that have a handler in Python wait; at the end of the block the last of them is handled.

    Python runs such handlers on the main thread between any two instructions, and SIGINT's raises KeyboardInterrupt there.  On
    other threads there is nothing to hold back, and nothing is done.
    """

    __slots__ = ("_before", "_came")

    def __enter__(self) -> Held:
        self._before: list[tuple[int, Any]] = []
        self._came: tuple[int, FrameType | None] | None = None
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                handler = getsignal(number)
                if callable(handler):
                    self._before.append((number, handler))
                    _set(number, self._wait)
        return self

    def _wait(self, number: int, frame: FrameType | None) -> None:
        self._came = number, frame

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before:
            _set(number, handler)
        if self._came is not None:
            number, frame = self._came
            dict(self._before)[number](number, frame)
