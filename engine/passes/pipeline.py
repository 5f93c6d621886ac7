"""The pipeline: the passes, in the order in which they run, to a fixed point."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from engine.passes import (
    arithmetic,
    branches,
    cse,
    dependencies,
    fold,
    fuse,
    invariants,
    layout,
    recompute,
    remap,
    swap,
)
from engine.passes.facts import Facts
from engine.passes.rewrite import Draft
from engine.passes.settings import Settings
from engine.passes.stage import Stage

PREFIX = "optimized/"


@dataclass(frozen=True, slots=True)
class Pass:
    """One row: `run` edits a draft.

    `default`: whether it runs if the settings say nothing of it.  `placed`: it needs to know devices, and runs after placement.
    `late`: it runs when the others have come to rest, since they could not look into what it makes.
    `why`: what it does, in one sentence.  `option`: the option of `RewriterConfig` that switches it with others of its kind.
    """

    name: str
    run: Callable[[Draft, Facts], None]
    default: bool = True
    placed: bool = False
    late: bool = False
    why: str = ""
    option: str = ""


PASSES: tuple[Pass, ...] = (
    Pass(
        "fold",
        fold.run,
        option="constant_folding",
        why="Computes now what follows from constants and static shapes.",
    ),
    Pass(
        "arithmetic",
        arithmetic.run,
        option=arithmetic.OPTION,
        why="Puts smaller expressions in place of equal larger ones.",
    ),
    Pass(
        "branches",
        branches.run,
        option="loop_optimization",
        why="Removes branches and loops that are never taken.",
    ),
    Pass(
        "invariants",
        invariants.run,
        option="loop_optimization",
        why="Computes once, outside, what a loop need not compute again.",
    ),
    Pass("cse", cse.run, option="common_subgraph_elimination", why="Computes once what is computed twice."),
    Pass(
        "dependencies",
        dependencies.run,
        option="dependency_optimization",
        why="Drops Identities, NoOps and control edges that say nothing.",
    ),
    Pass(
        "recompute",
        recompute.run,
        late=True,
        option="memory_optimization",
        why="Makes again what is cheap, where memory is short.",
    ),
    Pass(
        "layout",
        layout.run,
        placed=True,
        option="layout_optimizer",
        why="Keeps images in the order that their device prefers.",
    ),
    Pass(
        "remap",
        remap.run,
        placed=True,
        late=True,
        option="remapping",
        why="Makes layers (product, bias, activation) one kernel.",
    ),
    Pass(
        "fuse",
        fuse.run,
        placed=True,
        late=True,
        option="remapping",
        why="Makes trees of elementwise ops one kernel.",
    ),
    Pass(
        "swap",
        swap.run,
        placed=True,
        late=True,
        option="memory_optimization",
        why="Lets tensors wait on the host where a device is full.",
    ),
)

# Called with each stage that a pass has made, if set: the tests check every graph around every pass.
checker: Callable[[Stage], None] | None = None


def optimize(
    stage: Stage, settings: Settings, *, placed: bool | None = None, devices: Sequence[Any] = ()
) -> Stage:
    """The stage that the passes in question make of `stage`: in turn, again and again, until none changes anything.

    Every pass that changes something leaves a stage ``optimized/<name>``; when it does so
    again, ``optimized/<name>/2`` and so on.  `placed` chooses the passes that run before or after placement, which are told the
    `devices`; None, for a graph that is not placed since all of it is on one, chooses both.
    Raises ValueError if the settings name a pass that there is not.
    """
    unknown = set(settings.rewriter.passes) - {row.name for row in PASSES}
    if unknown:
        known = ", ".join(row.name for row in PASSES)
        raise ValueError(f"There is no pass named '{min(unknown)}'; the passes: {known}")
    chosen = [row for row in PASSES if placed in (None, row.placed) and settings.runs(row, len(stage))]
    if not chosen:
        return stage
    draft = Draft(stage, "")
    facts = Facts(draft, devices, settings)
    for late in (False, True):
        draft = _to_rest(draft, facts, [row for row in chosen if row.late == late], settings.rounds)
    return draft.finish()


def _stage_name(draft: Draft, row: Pass) -> str:
    """A name that no stage of the chain has."""
    taken = {stage.name for stage in draft.finish().chain()}
    names = (f"{PREFIX}{row.name}" + (f"/{number}" if number > 1 else "") for number in itertools.count(1))
    return next(name for name in names if name not in taken)


def _to_rest(draft: Draft, facts: Facts, rows: Sequence[Pass], rounds: int) -> Draft:
    """Run `rows` in turn until none changes anything, or for so many rounds."""
    quiet = 0  # how many passes in a row have changed nothing
    for _ in range(rounds):
        for row in rows:
            draft = draft.then(_stage_name(draft, row))
            row.run(draft, facts.carry_on(draft))
            if draft.edits:
                draft.sweep(facts.effect, facts.frame)
            quiet = 0 if draft.edits else quiet + 1
            if draft.edits and checker is not None:
                checker(draft.finish())
            if quiet == len(rows):
                return draft
    return draft
