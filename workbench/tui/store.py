"""What the screens read of runs, with no Textual in it.

Every method may take a while and is called on the one thread that reads; what it returns is never changed afterwards.
"""

from __future__ import annotations

import gc
import os
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from engine.observe import Executions, Transfer
from engine.passes.stage import Stage
from engine.types.errors import OpError
from tracing.reader import Run, StageRow, StepRow
from viz.devices_model import DevicesView, devices_view
from viz.graph_model import ScopeTree
from viz.loop_tracks import LoopTrack, loop_tracks
from viz.plan_model import PlanModel, plan_model
from viz.runs_model import RunRow, RunsModel
from viz.scope_colours import ScopeColours
from viz.stage_diff import Change, StageDiff, diff
from viz.stage_view import DeviceColours, joined, transfer_notes, union
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
    """A stage with what drawing it takes.

    `stage` is as it is drawn: each `_Send` joined with its `_Recv`, and with a `diff`, laid over an earlier stage; `plain` is the
    stage itself.
    """

    row: StageRow
    stage: Stage
    tree: ScopeTree
    colours: ScopeColours
    diff: StageDiff | None
    plain: Stage

    @cached_property
    def by_device(self) -> DeviceColours:
        """Colours that tell devices apart."""
        return DeviceColours(self.tree)


@dataclass(frozen=True)
class ChainRow:
    """A stage of a chain: its row, and how many nodes it added, removed, and so on."""

    row: StageRow
    counts: Counter[Change]


@dataclass(frozen=True)
class PlanView:
    """The program of a stage, or why there is none to show."""

    stage_id: int
    model: PlanModel | None
    why: str = ""


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
    transfers: tuple[Transfer, ...] = ()
    devices: DevicesView | None = None


class Store:
    """Runs in a directory, and what has been read of them."""

    def __init__(
        self, logdir: str | os.PathLike[str] | None, run: str | os.PathLike[str] | None = None
    ) -> None:
        self.model = RunsModel(logdir)
        if run is not None:
            self.model.add(run)
        self._stages: dict[tuple[Path, int], StageView] = {}
        self._compared: dict[tuple[Path, int, int], StageView] = {}
        self._counts: dict[tuple[Path, int], Counter[Change]] = {}
        self._plans: dict[tuple[Path, int], PlanView] = {}

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
            plain, stage = stage, joined(stage)
            tree = ScopeTree(stage)
            tree.notes = transfer_notes(stage)
            found = self._stages[key] = StageView(row, stage, tree, ScopeColours(tree), None, plain)
            # A large graph is many objects that will not go away: full collections need not walk them again and again.
            gc.collect()
            gc.freeze()
        return found

    def compared(self, opened: OpenRun, base_id: int, stage_id: int) -> StageView | None:
        """A stage laid over an earlier one of its chain; None if the two are not of one chain.  Raises RunError."""
        key = opened.path, base_id, stage_id
        found = self._compared.get(key)
        if found is None:
            base, view = self.stage(opened, base_id), self.stage(opened, stage_id)
            if base_id > stage_id:
                base, view = view, base
            try:
                made = diff(base.plain, view.plain)
            except ValueError:
                return None
            stage = union(made)
            tree = ScopeTree(stage)
            tree.notes = transfer_notes(stage)
            found = self._compared[key] = StageView(
                view.row, stage, tree, ScopeColours(tree), made, view.plain
            )
        return found

    def chain(self, opened: OpenRun, stage_id: int) -> tuple[ChainRow, ...]:
        """The chain that a stage is in, from the graph as written to the stage that runs.  Raises RunError."""
        rows = {row.id: row for row in opened.stages}
        ids = _ancestors(rows, stage_id)
        main = opened.main_stage()
        through_main = _ancestors(rows, main) if main is not None else []
        if stage_id in through_main:
            ids = through_main
        else:
            while following := [row.id for row in opened.stages if row.before_id == ids[-1]]:
                ids.append(following[-1])
        found = []
        for before, each in zip([None, *ids], ids):
            counts: Counter[Change] = Counter()
            if before is not None:
                key = opened.path, each
                if key not in self._counts:
                    self._counts[key] = diff(opened.run.stage(before), opened.run.stage(each)).counts
                counts = self._counts[key]
            found.append(ChainRow(rows[each], counts))
        return tuple(found)

    def plan(self, opened: OpenRun, stage_id: int) -> PlanView:
        """What runs a stage, as it is recomputed from the stage's nodes.  Raises RunError."""
        key = opened.path, stage_id
        ran = any(step.stage_id == stage_id for step in opened.steps)
        last = next((row for row in opened.stages if row.before_id == stage_id), None) is None
        if not (ran or last):
            return PlanView(
                stage_id, None, "A program is made of the last stage of a chain: ] goes on to it."
            )
        found = self._plans.get(key)
        if found is None:
            try:
                found = PlanView(stage_id, plan_model(opened.run.stage(stage_id)))
            except OpError as error:
                found = PlanView(stage_id, None, str(error))
            self._plans[key] = found
        return found

    def step(self, opened: OpenRun, step: StepRow, around: int = 0) -> StepData:
        """What `step` did, with up to `around` steps before it and as many after.  Raises RunError."""
        view = self.stage(opened, step.stage_id)
        mine = _batches(opened, step)
        timings = Timings(view.stage.order, mine, opened.run.totals(step.id))
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
        states = opened.run.devices(step.id)
        modelled = {state.name for state in states if state.modelled}
        changed = {row.id: opened.run.overrides(row.id) for row in chosen}
        timeline = Timeline.build(sources, lambda name: hues.get(name, -1), modelled, changed)
        # Only steps with loops have frames to read.
        trees = [(row.id, opened.run.frame_tree(row.id)) for row in chosen if row.frames]
        names = {frame.id: tree.path(frame.id) for row, tree in trees if row == step.id for frame in tree}
        scopes = timings.by_scope(view.tree)
        transfers = opened.run.transfers(step.id)
        view.tree.notes = transfer_notes(view.plain, transfers)
        devices = devices_view(
            f"step {step.step}",
            view.plain,
            mine,
            transfers,
            opened.run.allocations(step.id),
            step.started_ns,
            states,
        )
        loops = loop_tracks(trees)
        return StepData(step, view, timeline, timings, scopes, names, len(chosen), loops, transfers, devices)

    def close(self) -> None:
        """Close all runs."""
        self.model.close()


def _batches(opened: OpenRun, step: StepRow) -> list[Executions]:
    return [batch for batches in opened.run.partitions(step.id).values() for batch in batches]


def _ancestors(rows: dict[int, StageRow], stage_id: int) -> list[int]:
    """A stage and those it was made from, the first one first."""
    found = [stage_id]
    while (before := rows[found[-1]].before_id) is not None:
        found.append(before)
    return found[::-1]
