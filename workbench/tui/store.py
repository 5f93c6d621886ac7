"""What the screens read of runs, with no Textual in it.

Every method may take a while and is called on the one thread that reads; what it returns is never changed afterwards.
"""

from __future__ import annotations

import gc
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from engine.observe import Executions
from engine.passes.stage import Stage
from tracing.reader import Run, StageRow, StepRow
from viz.graph_model import ScopeTree
from viz.loop_tracks import LoopTrack, loop_tracks
from viz.runs_model import RunRow, RunsModel
from viz.scope_colours import ScopeColours
from viz.timeline_model import Timeline
from viz.timings import Timings

MOST_BARS = 2_000_000
AROUND = 20


@dataclass(frozen=True)
class OpenRun:
    """An open run as of the last look: its stages and the steps that have ended."""

    path: Path
    name: str
    state: str
    run: Run
    stages: tuple[StageRow, ...]
    steps: tuple[StepRow, ...]

    def stage_row(self, stage_id: int) -> StageRow | None:
        return next((row for row in self.stages if row.id == stage_id), None)

    def step_index(self, step_id: int) -> int:
        """The place of a step in `steps`, or -1."""
        return next((i for i, row in enumerate(self.steps) if row.id == step_id), -1)

    def main_stage(self) -> int | None:
        """The stage that most steps ran: the training step's, as a rule."""
        if self.steps:
            ran = Counter(row.stage_id for row in self.steps)
            return max(ran, key=lambda stage_id: (ran[stage_id], stage_id))
        return self.stages[-1].id if self.stages else None

    def last_step(self, stage_id: int | None = None) -> StepRow | None:
        """The last step, or the last that ran that stage."""
        steps = [row for row in self.steps if stage_id is None or row.stage_id == stage_id]
        return steps[-1] if steps else None


@dataclass(frozen=True)
class StageView:
    """A stage with what drawing it takes."""

    row: StageRow
    stage: Stage
    tree: ScopeTree
    colours: ScopeColours


@dataclass(frozen=True)
class StepData:
    """What a step (and those around it) did: bars, and times by node of the step itself."""

    step: StepRow
    stage: StageView
    timeline: Timeline
    timings: Timings
    scope_times: dict[str, int]
    frame_names: dict[int, str]
    steps: int
    loops: tuple[LoopTrack, ...] = ()


class Store:
    """Runs in a directory, and what has been read of them."""

    def __init__(
        self, logdir: str | os.PathLike[str] | None, run: str | os.PathLike[str] | None = None
    ) -> None:
        self.model = RunsModel(logdir)
        if run is not None:
            self.model.add(run)
        self._stages: dict[tuple[Path, int], StageView] = {}

    def poll(self) -> list[RunRow]:
        """The rows of the list of runs."""
        return self.model.poll()

    def open(self, path: Path) -> OpenRun:
        """The run at `path` as it is now.  Raises RunError."""
        run = self.model.run(path)
        run.refresh()
        return OpenRun(path, run.name, run.state, run, tuple(run.stages()), tuple(run.steps()))

    def look_again(self, opened: OpenRun) -> OpenRun | None:
        """The same run with what has been added, or None if nothing has.  Raises RunError."""
        # The list's own polling may have taken the news in already, so compare what counts.
        opened.run.refresh()
        steps, state = opened.run.steps(), opened.run.state
        if len(steps) == len(opened.steps) and state == opened.state:
            return None
        return OpenRun(opened.path, opened.name, state, opened.run, tuple(opened.run.stages()), tuple(steps))

    def stage(self, opened: OpenRun, stage_id: int) -> StageView:
        """A stage of the run.  Raises RunError."""
        key = opened.path, stage_id
        found = self._stages.get(key)
        if found is None:
            stage = opened.run.stage(stage_id)
            row = opened.stage_row(stage_id) or StageRow(stage_id, stage.name, None, len(stage))
            tree = ScopeTree(stage)
            found = self._stages[key] = StageView(row, stage, tree, ScopeColours(tree))
            # A large graph is many objects that will not go away: full collections need not walk them again and again.
            gc.collect()
            gc.freeze()
        return found

    def step(self, opened: OpenRun, step: StepRow, around: int = 0) -> StepData:
        """What `step` did, with up to `around` steps before it and as many after.  Raises RunError."""
        view = self.stage(opened, step.stage_id)
        mine = _batches(opened, step)
        timings = Timings(view.stage.order, mine)
        at = opened.step_index(step.id)
        chosen = [step]
        bars = step.executions
        for distance in range(1, around + 1):
            for index in (at - distance, at + distance):
                if 0 <= index < len(opened.steps) and at >= 0:
                    other = opened.steps[index]
                    bars += other.executions
                    if bars <= MOST_BARS:
                        chosen.append(other)
        sources = []
        hues: dict[str, int] = {}
        for row in sorted(chosen, key=lambda each: each.started_ns):
            its = self.stage(opened, row.stage_id)
            batches = mine if row is step else _batches(opened, row)
            for name in its.stage.order:
                hues.setdefault(name, its.colours.of(name))
            sources.append((row, its.stage.order, batches))
        timeline = Timeline.build(sources, lambda name: hues.get(name, -1))
        # Only steps with loops have frames to read.
        trees = [(row.id, opened.run.frame_tree(row.id)) for row in chosen if row.frames]
        names = {frame.id: tree.path(frame.id) for row, tree in trees if row == step.id for frame in tree}
        scopes = timings.by_scope(view.tree)
        return StepData(step, view, timeline, timings, scopes, names, len(chosen), loop_tracks(trees))

    def close(self) -> None:
        """Close all runs."""
        self.model.close()


def _batches(opened: OpenRun, step: StepRow) -> list[Executions]:
    return [batch for batches in opened.run.partitions(step.id).values() for batch in batches]
