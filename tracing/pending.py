"""What a step under way has told and has not been written yet."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from engine.observe import StepInfo
from tracing.batches import KINDS
from tracing.common import Common
from tracing.kinds import Kind
from tracing.records import Blob, StepRecord
from tracing.tensorboard import ToldStep


class PendingStep:
    """The row of a step as far as it is known, and its batches since they were last taken.

    `nbytes` is about how much memory these use, `costs` the nanoseconds that recording the step has cost so far, by counter, and
    `ended` whether these have been counted.  `events` collects what the event file says of the step, if it is one that gets a
    RunMetadata.
    """

    __slots__ = ("costs", "ended", "events", "info", "nbytes", "record", "told")

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
            fetches=_as_json(info.fetches),
            feeds=_as_json(info.feeds),
            targets=_as_json(info.targets),
            executor=info.executor,
        )
        self.told: dict[tuple[str, str], list[Any]] = {}
        self.nbytes = 0
        self.costs: dict[str, int] = {}
        self.ended = False
        self.events: ToldStep | None = None

    def add(self, kind: Kind, batch: Any, nbytes: int, device: str = "") -> None:
        """Keep a batch; those of one kind and device are stored together."""
        self.told.setdefault((kind.name, device), []).append(batch)
        self.nbytes += nbytes

    def take(self, common: Common) -> list[Blob]:
        """The batches, packed; they are not kept any longer."""
        told, self.told, self.nbytes = self.told, {}, 0
        return [
            common.pack(KINDS[kind], device, self.record.stage_id, parts)
            for (kind, device), parts in told.items()
        ]


@lru_cache(maxsize=256)
def _as_json(names: tuple[str, ...]) -> str:
    return json.dumps(names)
