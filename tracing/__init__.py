"""What the engine tells, kept: run directories, their readers, TensorBoard's event files.

`start`, `stop`, `record`, `scalar` and `histogram` record a program; `Run` reads what was recorded.  They are imported when
they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracing.api import active, histogram, record, scalar, start, stop
    from tracing.errors import RunError
    from tracing.reader import Run
    from tracing.recorder import Recorder

__all__ = [
    "Recorder",
    "Run",
    "RunError",
    "active",
    "histogram",
    "record",
    "scalar",
    "start",
    "stop",
]

_MODULES = {
    **dict.fromkeys(("active", "histogram", "record", "scalar", "start", "stop"), "tracing.api"),
    "Recorder": "tracing.recorder",
    "Run": "tracing.reader",
    "RunError": "tracing.errors",
}


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module 'tracing' has no attribute '{name}'")
    return getattr(importlib.import_module(module), name)


def __dir__() -> list[str]:
    return sorted(__all__)
