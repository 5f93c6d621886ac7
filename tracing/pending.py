"""What a step under way has told and has not been written yet."""

from __future__ import annotations

import json
from typing import Any

from engine.observe import StepInfo
from tracing import columns
from tracing.batches import KINDS, Kind
from tracing.tensorboard import ToldStep
from tracing.writer import Blob, StepRecord


class PendingStep:
    """The row of a step as far as it is known, and its batches since they were last taken.

    `nbytes` is about how much memory these use, `cost_ns` what recording the step has cost so far.  `events` collects what the
    event file says of the step, if it is one that gets a RunMetadata.
    """

    __slots__ = ("cost_ns", "events", "info", "nbytes", "record", "told")

    def __init__(self, info: StepInfo, stage_id: int, site_id: int | None) -> None:
        self.info = info
        self.record = StepRecord(
            id=info.id,
            session=info.session,
            step=info.step,
            stage_id=stage_id,
            site_id=site_id,
            thread=info.thread,
            started_ns=info.started_ns,
            started_unix_ns=info.started_unix_ns,
            fetches=json.dumps(info.fetches),
            feeds=json.dumps(info.feeds),
            targets=json.dumps(info.targets),
            executor=info.executor,
        )
        self.told: dict[tuple[str, str], list[Any]] = {}
        self.nbytes = 0
        self.cost_ns = 0
        self.events: ToldStep | None = None

    def add(self, kind: Kind, batch: Any, nbytes: int, device: str = "") -> None:
        """Keep a batch; those of one kind and device are stored together."""
        self.told.setdefault((kind.name, device), []).append(batch)
        self.nbytes += nbytes

    def take(self, memory: dict[tuple[str, str], columns.Memory]) -> list[Blob]:
        """The batches, compressed; they are not kept any longer.  `memory` holds what earlier steps' columns were."""
        told, self.told, self.nbytes = self.told, {}, 0
        return [
            Blob(key[0], columns.pack(KINDS[key[0]].write(parts), memory.setdefault(key, {})))
            for key, parts in told.items()
        ]
