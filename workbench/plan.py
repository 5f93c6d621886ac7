"""``workbench plan``: what runs a graph: the plan's program, line by line, or the interpreter and why."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import click
import numpy as np

from engine.passes.stage import Stage, StageNode
from engine.runtime.config import ConfigProto
from engine.runtime.executable import Executable
from engine.runtime.plan.explain import Explanation, explain, of_stage, why_text
from engine.types import errors
from tracing.reader import Run, StepRow
from tracing.stages import TensorSummary
from viz.draw_plan import draw_plan
from viz.palette import DARK
from viz.plan_json import plan_json
from viz.plan_model import PlanModel
from viz.timings import Timings
from workbench.asked import Asked, NoAnswer, stages_of
from workbench.asking import Question
from workbench.stages import head, show, width


def plan(
    target: str,
    args: Sequence[str],
    question: Question,
    *,
    logdir: str | os.PathLike[str],
    code: bool,
    as_json: bool,
) -> None:
    """Print what runs the graph.  Raises NoAnswer, UnknownName and RunError."""
    with stages_of(target, args, question, logdir) as asked:
        try:
            said = _explained(asked)
            text = _code(asked, said) if code else ""
        except errors.OpError as error:
            raise NoAnswer(str(error)) from None
        step = _last_step(asked)
        timings = (
            _timings(asked.run, step, asked.stage) if asked.run is not None and step is not None else None
        )
        model = PlanModel(said)
        if as_json:
            made = _as_json(asked, model, step, timings, text)
        else:
            times = model.times(timings) if timings is not None else None
            drawings = [head(asked), draw_plan(model, DARK, width(), times)]
    if as_json:
        click.echo(json.dumps(made, indent=2))
    elif code:
        click.echo(text.rstrip())
    else:
        for drawing in drawings:
            show(drawing)
        if step is not None and model.rows:
            click.echo(
                f"times are those of step {step.step} of session {step.session}, run by: {step.executor}"
            )


def _as_json(
    asked: Asked, model: PlanModel, step: StepRow | None, timings: Timings | None, text: str
) -> dict[str, Any]:
    stage = asked.stage
    made: dict[str, Any] = {
        "of": asked.title,
        "chosen": asked.how,
        "fetches": list(stage.fetches),
        "targets": list(stage.targets),
        "feeds": list(stage.feeds),
        "step": step.step if step is not None else None,
        "executor": step.executor if step is not None else None,
        **plan_json(model, timings),
    }
    return {**made, "code": text} if text else made


def _explained(asked: Asked) -> Explanation:
    """What runs the stage: of a script as its session has it; recorded steps, which leave times behind, are Python."""
    said = of_stage(asked.stage)
    answer = asked.answer
    if answer is None or not said.planned:
        return said
    if answer.interpreted:
        return of_stage(asked.stage, off=answer.interpreted)
    if answer.native:
        config = ConfigProto(plans="always", exact=answer.exact)
        made = explain(Executable(_with_all_constants(asked.stage)), config)
        said = replace(made, stage=asked.stage, fused=said.fused)
    return replace(said, note=answer.note)


def _code(asked: Asked, said: Explanation) -> str:
    if not said.planned:
        raise NoAnswer(f"there is no code, since the interpreter runs this: {why_text(said.partitions[0])}")
    if asked.answer is not None:
        return asked.answer.code
    found = Executable(_with_all_constants(asked.stage)).choice.compile(ConfigProto(native=False))
    assert found is not None  # `said` has a program
    return found.program().text


def _with_all_constants(stage: Stage) -> Stage:
    """The stage with zeros for the constants that were too large to be recorded: the code does not say what they are."""
    nodes = {node.name: _with_constant(node) for node in stage}
    return stage.followed_by(stage.name, nodes)


def _with_constant(node: StageNode) -> StageNode:
    value = node.attrs.get("value")
    if not isinstance(value, TensorSummary):
        return node
    kind = node.output_dtypes[0].as_numpy_dtype
    zeros = np.broadcast_to(np.zeros((), kind), value.shape)  # which takes no memory
    return replace(node, attrs={**node.attrs, "value": zeros})


def _last_step(asked: Asked) -> StepRow | None:
    """The last recorded step that ran the stage."""
    steps = asked.run.steps() if asked.run is not None else []
    return next((step for step in reversed(steps) if step.stage_id == asked.stage.id), None)


def _timings(run: Run, step: StepRow, stage: Stage) -> Timings:
    batches = [batch for each in run.partitions(step.id).values() for batch in each]
    return Timings(stage.order, batches, run.totals(step.id))
