"""Changes made by hand, in recordings: what was changed, what descends from it, and that what was taken back is not there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from debug_fronts import Quiet

import engine as tf
import tracing
from engine import observe
from engine.observe import Descents, Override, StepInfo
from engine.runtime import collector
from tracing.metadata import step_metadata
from tracing.reader import Run, StepRow
from tracing.report import report, report_json, report_text
from viz.runs_model import row_of
from workbench.debugger.command import Answer
from workbench.debugger.core import Debugger

pytestmark = pytest.mark.usefixtures("as_written")


class Script(Quiet):
    """A front that gives commands from a list."""

    def __init__(self, commands: Sequence[str]) -> None:
        self._commands = iter([*commands, *["c"] * 100])
        self.answers: list[Answer] = []

    def command(self, debugger: Debugger) -> str:
        return next(self._commands)

    def answered(self, debugger: Debugger, answer: Answer) -> None:
        self.answers.append(answer)


@pytest.fixture(autouse=True)
def _fresh_graph() -> Iterator[None]:
    with tf.Graph().as_default():
        yield


def chain() -> Any:
    total = tf.add(tf.constant(1.0, name="one"), tf.constant(2.0, name="two"), name="total")
    return tf.multiply(total, 3.0, name="product")


def recorded(
    path: Path, fetches: Any, *commands: str, level: str = "values", initial: Any = None
) -> tuple[Any, Run]:
    """What a debugged `Session.run` gives, and its recording; `initial` runs before it, not debugged."""
    front = Script(commands)
    with tracing.record(path, level, "changed") as recorder, tf.Session() as session:
        if initial is not None:
            session.run(initial)
        with Debugger(front, script="test.py").installed():
            value = session.run(fetches)
    assert [answer.text for answer in front.answers if not answer.ok] == []
    return value, Run.open(recorder.path)


def descending(run: Run, step: StepRow) -> dict[str, int]:
    """The nodes of a step that descend from a change, and from which."""
    order = run.stage(step.stage_id).order
    node = run.executions(step.id).node
    found = run.descents(step.id)
    return {
        order[node[row]]: override
        for row, override in zip(found.row.tolist(), found.override.tolist(), strict=True)
    }


def name_of(run: Run, step: StepRow, override: Override) -> str:
    return run.stage(step.stage_id).order[override.node]


def test_a_token_that_was_set(tmp_path: Path) -> None:
    value, run = recorded(tmp_path, chain(), "s total", "n", "set total = 10")
    assert value == 30.0
    (step,) = run.steps()
    (made,) = run.overrides(step.id)
    assert (made.kind, made.text, made.slot, made.frame, made.iteration) == (
        "set",
        "set total:0 = 10.0",
        0,
        0,
        0,
    )
    assert name_of(run, step, made) == "total" and not made.resource
    order = [run.stage(step.stage_id).order[node] for node in run.executions(step.id).node]
    assert (
        order[: made.row][-1] == "total" and step.started_ns < made.at_ns < step.started_ns + step.duration_ns
    )
    assert descending(run, step) == {"product": made.number, "_retval_product_0_0": made.number}
    # What the node did give is still what was recorded of it.
    health = run.health(step.id)
    assert health.maximum[health.row == order.index("total")] == 3.0
    assert health.maximum[health.row == order.index("product")] == 30.0


@pytest.mark.parametrize(
    ("commands", "value", "kind", "slot", "later"),
    [
        (["s total", "set next = 4"], 12.0, "set next", 0, {"total", "product"}),
        (["skip total = 7"], 21.0, "skip", -1, {"total", "product"}),
        (["s product", "skip"], 0.0, "skip", -1, {"product"}),
    ],
)
def test_nodes_that_were_told_what_to_give(
    tmp_path: Path, commands: list[str], value: float, kind: str, slot: int, later: set[str]
) -> None:
    found, run = recorded(tmp_path, chain(), *commands)
    (step,) = run.steps()
    (made,) = run.overrides(step.id)
    assert found == value
    assert (made.kind, made.slot) == (kind, slot)
    assert name_of(run, step, made) == min(later, key=["total", "product"].index)
    assert descending(run, step) == dict.fromkeys({*later, "_retval_product_0_0"}, made.number)


def test_a_branch_that_was_forced(tmp_path: Path) -> None:
    asks = tf.less(tf.constant(1), tf.constant(2), name="asks")
    result = tf.cond(asks, lambda: tf.constant(1.0), lambda: tf.constant(2.0))
    value, run = recorded(tmp_path, result, "force asks false")
    (step,) = run.steps()
    (made,) = run.overrides(step.id)
    assert value == 2.0 and made.kind == "force" and made.text == "force asks:0 false"
    assert name_of(run, step, made) == "asks" and made.slot == 0
    assert made.number in descending(run, step).values()


def test_a_variable_that_was_set_is_told_with_its_version_and_marks_later_steps(tmp_path: Path) -> None:
    w = tf.Variable(1.0, name="w")
    more = tf.assign_add(w, 1.0, name="more")
    again = tf.assign(w, 5.0, name="again")
    front = Script(["set var w = 10", "r", "r", "r", "r", "r"])
    with tracing.record(tmp_path, "values", "changed") as recorder, tf.Session() as session:
        session.run(w.initializer)
        with Debugger(front).installed():
            values = [session.run(each) for each in (more, more, again, more)]
    assert [answer.text for answer in front.answers if not answer.ok] == []
    assert values == [11.0, 12.0, 5.0, 6.0]
    with Run.open(recorder.path) as run:
        before, first, second, third, fourth = run.steps()
        (made,) = run.overrides(first.id)
        assert (made.kind, made.resource, made.version, made.node) == ("set var", "w", 2, -1)
        # The versions of a variable have no gap.
        versions = [write.version for step in run.steps() for write in run.resource_writes(step.id)]
        assert sorted([*versions, made.version]) == [1, 2, 3, 4, 5, 6]
        assert descending(run, first)["more"] == descending(run, second)["more"] == made.number
        assert (
            not descending(run, before)
            and "again" not in descending(run, third)
            and not descending(run, fourth)
        )
        assert list(run.changed_steps()) == [first.id]


def test_an_iteration_of_a_loop(tmp_path: Path) -> None:
    result = tf.while_loop(
        lambda i, x: i < 4, lambda i, x: (i + 1, tf.multiply(x, 2.0, name="twice")), [0, 1.0]
    )[1]
    commands = ["b while/twice if iteration == 2", "c", "n", "set while/twice = 100"]
    value, run = recorded(tmp_path, result, *commands, level="full")
    (step,) = run.steps()
    (made,) = run.overrides(step.id)
    assert value == 200.0
    assert made.iteration == 2 and made.frame == run.frame_tree(step.id).children(0)[0].id
    executions, later = run.executions(step.id), run.descents(step.id)
    assert (later.row >= made.row).all()
    order = run.stage(step.stage_id).order
    iterations = {
        int(executions.iteration[row])
        for row in later.row
        if order[executions.node[row]] == "while/twice" and not executions.dead[row]
    }
    assert iterations == {3}


@pytest.mark.parametrize("back", [["back 2"], ["n", "back 3"], ["back 1"]])
def test_what_is_taken_back_is_not_there(tmp_path: Path, back: list[str]) -> None:
    value, run = recorded(tmp_path, chain(), "s total", "n", "set total = 10", *back)
    (step,) = run.steps()
    assert value == 9.0
    assert run.overrides(step.id) == () and not len(run.descents(step.id)) and not run.changed_steps()
    assert "by hand" not in report_text(report(run))


def test_what_had_been_handed_on_is_taken_back_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector, "FLUSH_ROWS", 1)
    value, run = recorded(
        tmp_path, chain(), "s total", "n", "set total = 10", "n", "back 2", "set total = 20"
    )
    (step,) = run.steps()
    (made,) = run.overrides(step.id)
    assert value == 60.0 and made.text == "set total:0 = 20.0"
    assert set(descending(run, step).values()) == {made.number}


def test_reports_lists_and_exports_tell_of_it(tmp_path: Path) -> None:
    _, run = recorded(tmp_path, chain(), "s total", "n", "set total = 10", "set total = old + 1")
    (step,) = run.steps()
    made = report(run)
    assert [change.text for change in made.by_hand] == ["set total:0 = 10.0", "set total:0 = 11.0"]
    assert made.descending == 2
    said = report_text(made)
    assert (
        "changed by hand in 1 step; executions that descend from that: 2" in said
        and "set total:0 = 11.0" in said
    )
    assert '"by_hand": [' in report_json(made)
    assert row_of(run).changed_steps == 1
    (device,) = [each for each in step_metadata(run, step.id).step_stats.dev_stats if "hand" in each.device]
    assert [each.timeline_label for each in device.node_stats] == ["set total:0 = 10.0", "set total:0 = 11.0"]
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.path))
    events.Reload()
    (text,) = events.Tensors("changed by hand")
    assert [line.decode().split(": ")[1] for line in text.tensor_proto.string_val] == [
        "set total:0 = 10.0",
        "set total:0 = 11.0",
    ]


def test_a_run_that_goes_on_is_looked_at_where_it_is_new(tmp_path: Path) -> None:
    front = Script(["s total", "n", "set total = 10", "r", "r", "skip total = 7", "r"])
    product = chain()
    with (
        tracing.record(tmp_path, "times", "changed") as recorder,
        tf.Session() as session,
        Debugger(front).installed(),
    ):
        session.run(product)
        with Run.open(recorder.path) as run:
            (first,) = run.changed_steps()
            assert [session.run(product) for _ in range(2)] == [9.0, 21.0]
            assert list(run.changed_steps()) == [first]
            run.refresh()
            changed = run.changed_steps()
            assert [made.text for (made,) in changed.values()] == ["set total:0 = 10.0", "skip total = 7.0"]
            assert list(changed) == [first, run.steps()[-1].id]


def test_a_step_in_which_nothing_was_changed_tells_of_nothing(tmp_path: Path) -> None:
    told: list[Any] = []

    class Watcher(observe.Observer):
        def overrides(self, step: StepInfo, batch: tuple[Override, ...]) -> None:
            told.append(batch)

        def descents(self, step: StepInfo, batch: Descents) -> None:
            told.append(batch)

    watcher = Watcher()
    observe.install(watcher)
    try:
        _, run = recorded(tmp_path, chain(), "s total", "n 2", "back 2", "n")
    finally:
        observe.uninstall(watcher)
    (step,) = run.steps()
    assert told == [] and run.overrides(step.id) == () and run.descents(step.id).row.dtype == np.int64
