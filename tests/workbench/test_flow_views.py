"""What the debugger says of frames, stacks and dead tokens: against recordings, plain Python, and itself taken back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from debug_fronts import Quiet

import engine as tf
import tracing
from engine.runtime.context import StepContext
from engine.runtime.driver import Executable, StepRun
from engine.runtime.resources import ResourceManager
from tracing.dead_path import Place
from tracing.reader import Run
from workbench.debugger.command import Answer
from workbench.debugger.core import Debugger
from workbench.debugger.flow_views import resource_views, way_view
from workbench.debugger.snapshot import Snapshot, from_dict, to_dict
from workbench.debugger.stepping import Stepping
from workbench.debugger.values import Summaries
from workbench.debugger.views import ended_views, frame_views

pytestmark = pytest.mark.usefixtures("as_written")


def program() -> Any:
    """A loop in a loop in a cond, with its gradient; the counters run ahead, so that iterations are held back."""
    x = tf.constant(1.25, name="x")

    def inner(v: Any) -> Any:
        return tf.while_loop(
            lambda j, w: j < 2,
            lambda j, w: (j + 1, tf.sin(tf.sin(w)) * x),
            [0, v],
            parallel_iterations=1,
            name="in",
        )[1]

    def body(i: Any, v: Any) -> Any:
        return i + 1, tf.cond(tf.equal(i % 2, 0), lambda: inner(v), lambda: tf.sin(v), name="choose")

    y = tf.while_loop(lambda i, v: i < 3, body, [0, x], parallel_iterations=2, name="out")[1]
    return tf.gradients(y, x)[0]


def stepping_of(fetch: Any) -> Stepping:
    with tf.Session() as session:
        made = Executable(session.stage_for(fetch))
    return Stepping(StepRun(made, None, StepContext(1, [], 1), ResourceManager(), None, record=True))


def picture(stepping: Stepping) -> Any:
    """All that is said of frames and resources; a stack that was made stays, empty, when that is taken back."""
    resources = [view for view in resource_views(stepping, Summaries())[0] if view.version]
    return frame_views(stepping), ended_views(stepping), resources


@pytest.fixture(autouse=True)
def graph() -> Any:
    with tf.Graph().as_default() as graph:
        yield graph


def test_taking_back_gives_every_picture_again() -> None:
    stepping = stepping_of(program())
    pictures = []
    while stepping.ready:
        pictures.append(picture(stepping))
        with np.errstate(all="ignore"):
            stepping.execute()
    assert len(pictures) > 300
    while pictures:
        stepping.back()
        assert picture(stepping) == pictures.pop(), stepping.executed


class End(Quiet):
    """Runs to the end of the step and keeps its picture."""

    def __init__(self, *commands: str) -> None:
        self.commands = iter([*commands, *["c"] * 20])
        self.last: Snapshot | None = None
        self.answers: list[Answer] = []

    def stopped(self, debugger: Debugger) -> None:
        self.last = debugger.snapshot()

    def command(self, debugger: Debugger) -> str:
        return next(self.commands)

    def answered(self, debugger: Debugger, answer: Answer) -> None:
        self.last = debugger.snapshot()
        self.answers.append(answer)


def test_the_debugger_and_the_recording_agree_on_frames(tmp_path: Path) -> None:
    fetch = program()
    front = End("n 100000")
    with (
        tracing.record(tmp_path, "times", tensorboard=False) as recorder,
        Debugger(front).installed(),
        tf.Session() as session,
    ):
        session.run(fetch)
    assert front.last is not None and len(front.last.frames) == 1 and not front.last.ready
    with Run.open(recorder.path) as run:
        tree = run.frame_tree(run.steps()[0].id)
    assert {view.id for view in front.last.ended} == {frame.id for frame in tree}
    for view in front.last.ended:
        frame = tree[view.id]
        assert view.path == tree.path(frame.id)
        assert (view.begin_row, view.end_row, view.live) == (frame.begin_row, frame.end_row, frame.live)
        assert (view.iteration_count, view.ended_count) == (frame.begun, frame.ended)
        assert (view.deferred_count, view.most_under_way) == (len(frame.deferred), frame.most_under_way)
        assert (view.limit, view.held) == (frame.limit, -1)
        assert view.enter_count == len(frame.enters)
        assert {(each.node, each.row, each.dead, each.constant) for each in view.enters} <= {
            (each.node, each.row, each.dead, each.constant) for each in frame.enters
        }
        assert frame.site is not None and view.made_at == f"test_flow_views.py:{frame.site.line}"
    assert any(view.deferred_count for view in front.last.ended)
    assert from_dict(to_dict(front.last)) == front.last


def test_a_stack_says_what_it_keeps_and_who_pushed_each_element() -> None:
    stepping = stepping_of(program())
    pushed: dict[str, list[tuple[int, Any]]] = {}  # by resource: rows and values, from the bottom
    deepest = 0
    while stepping.ready:
        with np.errstate(all="ignore"):
            entry = stepping.execute()
        for write in entry.writes:
            rows = pushed.setdefault(write.resource.name, [])
            assert entry.outputs is not None
            if write.kind == "push":
                rows.append((entry.row, entry.outputs[0]))
            elif write.kind == "pop":
                rows.pop()
        views = {view.name: view for view in resource_views(stepping, Summaries())[0]}
        for name, rows in pushed.items():
            view = views[name]
            assert view.kind == "stack" and view.size == len(rows) and view.keeps and view.readers
            assert [each.by.row for each in view.elements if each.by] == [row for row, _ in rows[::-1][:12]]
            assert [each.value.text for each in view.elements if each.value] == [
                str(value) for _, value in rows[::-1][:12]
            ]
            assert [each.index for each in view.elements] == list(range(len(rows)))[::-1][:12]
            deepest = max(deepest, len(rows))
    assert deepest >= 3
    assert {view.original for view in views.values()} >= {"out/choose/Sin"}


def test_the_way_of_every_dead_node_ends_at_the_switch_whose_token_was_dead() -> None:
    from engine.runtime.frames import DEAD

    stepping = stepping_of(program())
    outputs: dict[Place, Any] = {}
    asked = 0
    while stepping.ready:
        ahead = stepping.ready[0]
        if stepping.state.is_dead(ahead):
            way = way_view(stepping, ahead)
            assert way is not None and way.asked.row == -1 and way.asked.node == ahead.name
            assert way.killer is not None
            asked += 1
        with np.errstate(all="ignore"):
            entry = stepping.execute()
        outputs[Place(entry.activation.name, entry.activation.frame.id, entry.activation.iteration)] = (
            entry.outputs
        )
    assert asked > 100
    for entry in [entry for entry in stepping.history if entry.outputs is None][::5]:
        way = way_view(stepping, entry.activation)
        assert way is not None and way.killer is not None and way.stops and way.chose is not None
        killer = stepping.history[way.killer.row]
        assert killer.outputs is not None and killer.outputs[int(not way.chose)] is DEAD
        assert way.chain[-1] == way.asked


def test_the_way_goes_along_with_the_step() -> None:
    front = End("b out/choose/Sin", "c", "why", "n 30")
    with Debugger(front).installed(), tf.Session() as session:
        front.commands = iter(["b out/choose/Sin", "c", "why", "n 150", "info step", *["c"] * 20])
        ways = []

        def answered(debugger: Debugger, answer: Answer) -> None:
            ways.append((answer, debugger.snapshot().way))

        front.answered = answered  # type: ignore[method-assign]
        session.run(program())
    before, after = ways[1][1], ways[2][1]
    assert before is not None and before.asked.row == -1 and not before.stops
    assert after is not None and after.asked.row > 0
    assert [(place.node, place.note) for place in after.stops] == [
        ("out/choose/Merge", "alive: another of its inputs was")
    ]
