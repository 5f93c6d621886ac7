"""In the script's own process: what would the script run?  Answers with the stages of one signature, and ends the script there.

`workbench.host --ask FILE` installs this.  FILE holds a `Question` as JSON; the `Answer` goes into the same directory, beside a
run directory with the stages.  Nothing is executed of what is asked about; only the runs before it are.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.graph.graph import Graph
    from engine.passes.stage import Stage
    from engine.runtime.session import BaseSession

ANSWER = "answer.json"
_PLACEHOLDERS = ("Placeholder", "PlaceholderV2")


@dataclass(frozen=True)
class Question:
    """Which stages: those of `fetches` with `feeds` fed (by default what they cannot do without), names of tensors or operations.

    Without fetches: those of the script's first Session.run that fetches a value; runs before it are executed.
    `unplaced`: stop before placement, so that a graph can be asked about which would not fit the session's own devices.
    `planned`: say what would run it, too.
    """

    fetches: tuple[str, ...] = ()
    feeds: tuple[str, ...] = ()
    unplaced: bool = False
    planned: bool = False


@dataclass(frozen=True)
class Answer:
    """Where the stages are, and what the session is like; `error` is what is wrong with the question, else ''.

    Of a plan: `code` is the Python that runs it, `interpreted` why there is none, `note` when it takes over; `native` and
    `exact` are the session's options.
    """

    error: str = ""
    run: str = ""
    how: str = ""
    device_count: dict[str, int] = field(default_factory=dict)
    allow_soft_placement: bool = False
    code: str = ""
    interpreted: str = ""
    note: str = ""
    native: bool = False
    exact: bool = False


class _Answered(SystemExit):
    """The script is over: what it was asked is known."""


class Asker:
    """Watches the script's sessions from `install` on, and answers once."""

    def __init__(self, file: str) -> None:
        raw = json.loads(Path(file).read_text())
        self.directory = Path(file).parent
        self.question = Question(tuple(raw["fetches"]), tuple(raw["feeds"]), raw["unplaced"], raw["planned"])
        self._answered = False
        self._last: tuple[BaseSession, Any, Any] | None = None

    def install(self) -> None:
        """Be asked before a session makes the program of a run."""
        from engine.runtime.session import BaseSession

        original = BaseSession._executable

        def executable(session: BaseSession, taken: Any, feeds: Sequence[Any]) -> Any:
            if self._answered:
                os._exit(0)  # the script caught its own end
            if self.question.fetches:
                self._answer_named(session)
            elif taken.tensors:
                self._answer(
                    session, taken, feeds, "what the script's first Session.run with a value fetches"
                )
            self._last = session, taken, feeds
            return original(session, taken, feeds)

        BaseSession._executable = executable  # type: ignore[method-assign, assignment]
        self._original = original

    def finish(self, outcome: BaseException | None) -> None:
        """The script has ended by itself: answer with what it ran last, or, if it ran nothing, with all its graph leads to."""
        if self._answered or not (outcome is None or isinstance(outcome, SystemExit)):
            return
        from engine.graph.default import get_default_graph
        from engine.runtime.fetches import Fetches
        from engine.runtime.session import BaseSession

        try:
            if self._last is not None and not self.question.fetches:
                self._answer(*self._last, "what the script's last Session.run runs; none fetches a value")
            graph = get_default_graph()
            if not graph.get_operations():
                self._tell(
                    Answer(
                        error="the script made no operation in the default graph, and never called Session.run"
                    )
                )
            session = self._last[0] if self._last is not None else BaseSession(graph=graph)
            if self.question.fetches:
                self._answer_named(session)
            sinks = [
                op
                for op in graph.get_operations()
                if not op._control_outputs and not any(each.consumers() for each in op.outputs)
            ]
            self._answer(
                session,
                Fetches(graph, sinks),
                [],
                "all that nothing else reads: the script never calls Session.run",
            )
        except _Answered:
            return

    # Answers.  They end the script.

    def _answer_named(self, session: BaseSession) -> None:
        from engine.runtime.fetches import Fetches

        graph = session.graph
        fetches = [self._element(graph, name, "--fetch") for name in self.question.fetches]
        feeds = [self._element(graph, name, "--feed") for name in self.question.feeds]
        taken = Fetches(graph, fetches)
        self._answer(session, taken, [*feeds, *_placeholders(fetches, feeds)], "what --fetch names")

    def _element(self, graph: Graph, name: str, option: str) -> Any:
        """The tensor or operation of that name: an operation's first output if it has one."""
        from viz.stage_model import suggestion

        names = [op.name for op in graph.get_operations()]
        op_name, _, slot = name.partition(":")
        if op_name not in names:
            self._tell(
                Answer(
                    error=f"{option} {name}: there is no node '{op_name}' in the graph; {suggestion(op_name, names, 'node')}"
                )
            )
        op = graph.get_operation_by_name(op_name)
        if slot and not (slot.isdigit() and int(slot) < len(op.outputs)):
            there = ", ".join(each.name for each in op.outputs) or "none"
            self._tell(Answer(error=f"{option} {name}: '{op_name}' has no such output; its outputs: {there}"))
        if option == "--feed" and not op.outputs:
            self._tell(
                Answer(error=f"{option} {name}: '{op_name}' has no output, so there is nothing to feed")
            )
        return op.outputs[int(slot or 0)] if op.outputs else op

    def _answer(self, session: BaseSession, taken: Any, feeds: Sequence[Any], how: str) -> None:
        from engine.types import errors

        plan: dict[str, Any] = {}
        try:
            stage = self._stage(session, taken, feeds)
            if self.question.planned:
                plan = self._plan(session, taken, feeds)
        except (errors.OpError, ValueError) as error:
            self._tell(Answer(error=str(error)))
        config = session._config
        self._tell(
            Answer(
                run=str(_write(stage, self.directory)),
                how=how,
                device_count=dict(config.device_count),
                allow_soft_placement=config.allow_soft_placement,
                **plan,
            )
        )

    def _plan(self, session: BaseSession, taken: Any, feeds: Sequence[Any]) -> dict[str, Any]:
        """What would run it, as fields of an answer."""
        from engine.runtime.plan.explain import explain, special_of

        config = session._config
        executable = self._original(session, taken, feeds)
        said = explain(executable, config)
        plan = executable.choice.plan
        if not said.planned or plan is None:
            return {"interpreted": said.partitions[0].reason}
        special = special_of(plan)
        code = special.program.text if special is not None else plan.program().text
        return {"code": code, "note": said.note, "native": config.native, "exact": config.exact}

    def _stage(self, session: BaseSession, taken: Any, feeds: Sequence[Any]) -> Stage:
        if not self.question.unplaced:
            return self._original(session, taken, feeds).stage
        from engine.passes.pipeline import optimize
        from engine.passes.prune import prune

        fetches, targets = [each.name for each in taken.tensors], [each.name for each in taken.targets]
        stage = prune(session._builder.stage(), [each.name for each in feeds], fetches, targets)
        return optimize(stage, session._passes, placed=False)

    def _tell(self, answer: Answer) -> None:
        self._answered = True
        (self.directory / ANSWER).write_text(json.dumps(asdict(answer)))
        sys.stdout.flush()
        raise _Answered(0)


def _placeholders(fetches: Sequence[Any], feeds: Sequence[Any]) -> list[Any]:
    """The placeholders that cannot be done without beside `feeds`, in the order in which they are met."""
    fed = {tensor.name for tensor in feeds}
    found: dict[Any, None] = {}
    seen: set[Any] = set()
    pending = [getattr(each, "op", each) for each in reversed(fetches)]
    while pending:
        op = pending.pop()
        if op in seen:
            continue
        seen.add(op)
        if op.type in _PLACEHOLDERS and op.outputs[0].name not in fed:
            found[op.outputs[0]] = None
        pending += [tensor.op for tensor in op.inputs if tensor.name not in fed]
        pending += op.control_inputs
    return list(found)


def _write(stage: Stage, directory: Path) -> Path:
    """The chain of stages in a run directory, as a recording has it.  Raises OSError if it cannot be written."""
    from engine.observe import TraceLevel
    from tracing.recorder import Recorder

    recorder = Recorder.create(directory, TraceLevel.TIMES, "asked", tensorboard=False)
    recorder.stage(stage)
    recorder.close()
    return recorder.path
