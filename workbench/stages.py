"""``workbench stages``: the chain of stages of a script or a run, a difference between two, or one node's way."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from typing import Any

import click

from engine.passes.stage import Stage
from viz.cells import Drawing, Page
from viz.draw_stages import draw_chain, draw_diff, draw_history
from viz.palette import DARK
from viz.stage_diff import diff
from viz.stage_json import chain_json, decision_json, decisions_json, diff_json, history_json
from viz.stage_model import ChainModel, chain_model, history
from workbench.asked import Asked, stages_of
from workbench.asking import Question

WIDTH = 80


def stages(
    target: str,
    args: Sequence[str],
    question: Question,
    *,
    logdir: str | os.PathLike[str],
    between: tuple[str, str] | None,
    node: str | None,
    as_json: bool,
) -> None:
    """Print what became of the graph.  Raises NoAnswer, UnknownName and RunError."""
    with stages_of(target, args, question, logdir) as asked:
        model = chain_model(asked.stage)
        pair = None
        if between is not None:
            a, b = (model.find(name) for name in between)
            pair = (a, b) if model.stages.index(a) <= model.stages.index(b) else (b, a)
        made = _as_json(asked, model, pair, node) if as_json else None
        drawings = [] if as_json else [head(asked), _body(model, pair, node)]
    if as_json:
        click.echo(json.dumps(made, indent=2))
    for drawing in drawings:
        show(drawing)


def _as_json(
    asked: Asked, model: ChainModel, pair: tuple[Stage, Stage] | None, node: str | None
) -> dict[str, Any]:
    last = asked.stage
    made: dict[str, Any] = {
        "of": asked.title,
        "chosen": asked.how,
        "fetches": list(last.fetches),
        "targets": list(last.targets),
        "feeds": list(last.feeds),
    }
    if pair is not None:
        return {**made, "diff": diff_json(diff(*pair))}
    if node is not None:
        decision = decision_of(model, node)
        found = {"name": node, "history": history_json(history(model, node))}
        return {
            **made,
            "node": {**found, "decision": decision_json(decision) if decision is not None else None},
        }
    return {**made, "stages": chain_json(model), "placement": decisions_json(last)}


def head(asked: Asked) -> Drawing:
    """What was asked about, and what it fetches, runs and is fed."""
    page = Page(width())
    stage = asked.stage
    page.add((asked.title, DARK.strong), (f"  {asked.how}", DARK.quiet))
    for label, names in (("fetches", stage.fetches), ("runs", stage.targets), ("fed", stage.feeds)):
        if names:
            page.add((f"{label:<8} ", DARK.dim), (", ".join(names), DARK.plain))
    page.blank()
    return page.drawing()


def _body(model: ChainModel, pair: tuple[Stage, Stage] | None, node: str | None) -> Drawing:
    if pair is not None:
        return draw_diff(diff(*pair), DARK, width())
    if node is not None:
        return draw_history(node, history(model, node), decision_of(model, node), DARK, width())
    return draw_chain(model, DARK, width())


def decision_of(model: ChainModel, name: str) -> Any:
    """The placement of `name`, or of what it has become."""
    names = next((row.names for row in reversed(history(model, name)) if row.names), ())
    for stage in reversed(model.stages):
        for each in names:
            node = stage.nodes.get(each)
            if node is not None and node.decision is not None:
                return node.decision
    return None


def width() -> int:
    """How many cells a line may take: the terminal's, up to a hundred; 80 where there is none."""
    return max(60, min(100, shutil.get_terminal_size((WIDTH, 24)).columns)) if sys.stdout.isatty() else WIDTH


def show(drawing: Drawing) -> None:
    """Print a drawing, in colours where there is a terminal for them."""
    if sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        from rich.console import Console

        Console(highlight=False, soft_wrap=True).print(drawing.text())
    else:
        click.echo("\n".join(drawing.rows()))
