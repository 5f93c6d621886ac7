"""What a script, or a recorded run, says of its stages: the front end of `workbench.asking`."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from engine.passes.stage import Stage
from tracing.reader import Run
from viz.stage_model import suggestion
from workbench.asking import ANSWER, Answer, Question
from workbench.process import ChildProcess, describe_exit, host_command
from workbench.runs import locate


class NoAnswer(Exception):
    """There are no stages to show; the message says why.  `output` is the end of what the script printed, if that tells more."""

    def __init__(self, message: str, output: str = "") -> None:
        super().__init__(message)
        self.output = output


@dataclass(frozen=True)
class Asked:
    """The last stage of a chain, what it is of, how it was chosen; of a script, what its session is like, of a run, the run."""

    stage: Stage
    title: str
    how: str
    answer: Answer | None = None
    run: Run | None = None


def is_script(target: str) -> bool:
    """Whether `target` is a program rather than a run."""
    if os.path.isdir(target):
        return os.path.isfile(os.path.join(target, "__main__.py"))
    return target.endswith((".py", ".pyz", ".zip")) or (
        os.path.isfile(target) and not target.endswith(".sqlite")
    )


@contextmanager
def stages_of(
    target: str, args: Sequence[str], question: Question, logdir: str | os.PathLike[str]
) -> Iterator[Asked]:
    """The stages of a script or a run, inside the `with` block.  Raises NoAnswer, and RunError for a run that is damaged."""
    if is_script(target):
        with tempfile.TemporaryDirectory(prefix="workbench-") as folder:
            answer = _ask(target, args, question, Path(folder))
            with Run.open(answer.run) as run:
                stage = run.stage(run.stages()[-1].id)
                stage.chain()  # all of it is read before the directory goes
                yield Asked(stage, os.path.basename(target.rstrip(os.sep)), answer.how, answer)
    else:
        with Run.open(locate(target, logdir)) as run:
            yield _of_run(run, question)


def _ask(script: str, args: Sequence[str], question: Question, folder: Path) -> Answer:
    file = folder / "question.json"
    file.write_text(json.dumps(asdict(question)))
    with ChildProcess(host_command(script, args, ask=file)) as process:
        code = process.wait()
        output = process.output_tail()
    try:
        answer = Answer(**json.loads((folder / ANSWER).read_text()))
    except OSError:
        how = describe_exit(code) if code else "ended"
        raise NoAnswer(f"{script} {how} before it could say what it runs", output) from None
    if answer.error:
        raise NoAnswer(answer.error)
    return answer


def _of_run(run: Run, question: Question) -> Asked:
    """The chain that most steps of the run went through, or the one that fetches what is asked for."""
    title = f"run {run.name}"
    steps = run.steps()
    if not steps:
        stages = run.stages()
        if not stages:
            raise NoAnswer(f"there is no stage in {run.path}: nothing was run in it")
        return Asked(run.stage(stages[-1].id), title, "the last stage that was made", run=run)
    ran: dict[int, int] = {}
    for step in steps:
        ran[step.stage_id] = ran.get(step.stage_id, 0) + 1
    chosen = [stage_id for stage_id in ran if _fetches(run.stage(stage_id), question)]
    if not chosen:
        fetched = dict.fromkeys(name for stage_id in ran for name in _wanted(run.stage(stage_id)))
        missing = question.fetches[0] if question.fetches else question.feeds[0]
        raise NoAnswer(
            f"no step of the run fetches '{missing}'; {suggestion(missing, list(fetched), 'name')}"
        )
    best = max(chosen, key=lambda stage_id: (ran[stage_id], stage_id))
    how = f"what {ran[best]:,} of {len(steps):,} recorded steps ran"
    return Asked(run.stage(best), title, how, run=run)


def _wanted(stage: Stage) -> tuple[str, ...]:
    return *stage.fetches, *stage.targets


def _fetches(stage: Stage, question: Question) -> bool:
    wanted = {name.removesuffix(":0") for name in _wanted(stage)}
    fed = {name.removesuffix(":0") for name in stage.feeds}
    return {name.removesuffix(":0") for name in question.fetches} <= wanted and {
        name.removesuffix(":0") for name in question.feeds
    } <= fed
