"""``workbench show RUN --step N``: what control flow did in a step."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tracing import step_report
from tracing.errors import RunError
from tracing.reader import Run, StepRow


def show_step(
    path: Path,
    which: str | None,
    *,
    frames: bool,
    stacks: bool,
    after: int | None,
    why: str | None,
    as_json: bool,
) -> str:
    """The parts of a step that were asked for (frames and stacks if none was), as text or JSON.  Raises RunError."""
    with Run.open(path) as run:
        step = step_report.step_of(run, which)
        if not (frames or stacks or why):
            frames = stacks = True
        tree = run.frame_tree(step.id)
        texts: list[Callable[[], str]] = [lambda: step_report.head(run, step)]
        data: dict[str, Any] = {"step": step.id, "session": step.session, "run": step.step}
        if frames:
            texts.append(lambda: step_report.frames_text(tree))
            data["frames"] = step_report.frames_data(tree) if as_json else None
        if stacks:
            contents = run.contents(step.id)
            texts.append(lambda: step_report.contents_text(contents, tree, after))
            data["stacks"] = step_report.contents_data(contents, tree, after) if as_json else None
        if why:
            found = _dead_path(run, step, why)
            texts.append(lambda: step_report.dead_path_text(run, step, found))
            data["why"] = step_report.dead_path_data(run, step, found) if as_json else None
        if as_json:
            return json.dumps(data, indent=2, allow_nan=False)
        return "\n\n".join(text().rstrip() for text in texts)


def _dead_path(run: Run, step: StepRow, why: str) -> Any:
    name, at, where = why.rpartition("@")
    if not at:
        return run.dead_path(step.id, why)
    found = re.fullmatch(r"(\d+)(?::(\d+))?", where)
    if found is None:
        raise RunError(
            f"'{why}' is not NODE@FRAME or NODE@FRAME:ITERATION, with the numbers that --frames lists"
        )
    frame, iteration = found.groups()
    return run.dead_path(step.id, name, int(frame), None if iteration is None else int(iteration))
