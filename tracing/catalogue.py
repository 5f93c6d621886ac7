"""What steps refer to and a run keeps once each: stages, the stacks of calls, the user's source files."""

from __future__ import annotations

import linecache
import threading
import weakref
from collections.abc import Iterable

from engine.passes.stage import Stage
from engine.types.site import Frame
from tracing.stages import frames_to_json, pack_stage
from tracing.tensorboard import TensorBoardWriter
from tracing.writer import RunWriter

_MAX_SOURCE = 1 << 20  # characters of one file; what is longer is data
_MAX_SOURCES = 500


class Catalogue:
    """Stores each of them when it is first met.  Thread-safe; raises `sqlite3.Error` or OSError when writing fails.

    The graph as the user built it, and each larger one after it, also goes into the event file.
    """

    def __init__(self, writer: RunWriter, tensorboard: TensorBoardWriter | None) -> None:
        self._writer = writer
        self._tensorboard = tensorboard
        self._lock = threading.RLock()
        self._stages: weakref.WeakKeyDictionary[Stage, int] = weakref.WeakKeyDictionary()
        self._graphs: set[tuple[int, int]] = set()
        self._sites: dict[tuple[Frame, ...], int] = {}
        self._sources: set[str] = set()

    def stage(self, stage: Stage) -> int:
        """The id of a stage in the run."""
        with self._lock:
            found = self._stages.get(stage)
            if found is None:
                before = None if stage.before is None else self.stage(stage.before)
                data, files = pack_stage(stage, before)
                found = self._writer.add_stage(stage.name, before, len(stage), data)
                self._stages[stage] = found
                self.sources(files)
                size = (stage.graph_version, len(stage))
                if before is None and size not in self._graphs and self._tensorboard is not None:
                    self._graphs.add(size)
                    self._tensorboard.graph(stage)
            return found

    def site(self, frames: tuple[Frame, ...]) -> int | None:
        """The id of a stack in the run; None for an empty one."""
        if not frames:
            return None
        with self._lock:
            found = self._sites.get(frames)
            if found is None:
                found = self._sites[frames] = self._writer.add_site(frames_to_json(frames))
                self.sources(frame.file for frame in frames)
            return found

    def sources(self, files: Iterable[str]) -> None:
        """Keep the text of these files as it is now."""
        with self._lock:
            for file in files:
                if file not in self._sources and len(self._sources) < _MAX_SOURCES:
                    self._sources.add(file)
                    text = "".join(linecache.getlines(file))
                    if text and len(text) <= _MAX_SOURCE:
                        self._writer.add_source(file, text)

    def forget_after_fork(self) -> None:
        """In a forked child: another thread of the parent may have held the lock."""
        self._lock = threading.RLock()
