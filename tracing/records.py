"""What a writer is given of a step: the row of `steps`, and rows of `batches`."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class StepRecord:
    """A row of `steps`; see the schema."""

    id: int
    session: int
    step: int
    stage_id: int
    site_id: int | None
    thread: int
    started_ns: int
    started_unix_ns: int
    fetches: str
    feeds: str
    targets: str
    duration_ns: int | None = None
    error: str | None = None
    error_node: str | None = None
    executions: int = 0
    dead: int = 0
    frames: int = 0
    iterations: int = 0
    captured: int = 0
    captured_bytes: int = 0
    dropped: int = 0
    dropped_bytes: int = 0
    recorder_ns: int = 0
    executor: str = "interpreter"


@dataclass(frozen=True, slots=True)
class Blob:
    """A row of `batches`; `base` is the id of one of `bases`."""

    kind: str
    data: bytes = field(repr=False)
    base: int | None = None
