"""The way of dead tokens, on everything that dies in a nested program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import engine as tf
import tracing
from engine.runtime.context import StepContext
from engine.runtime.driver import Executable, StepRun
from engine.runtime.frames import DEAD
from engine.runtime.resources import ResourceManager
from tracing.dead_path import DeadPath, Place, dead_path
from tracing.errors import RunError
from tracing.reader import Run

pytestmark = pytest.mark.usefixtures("as_written")


def run(fetch: Any) -> tuple[Any, dict[Place, bool], dict[Place, Any], dict[int, tuple[int, int]]]:
    """What ran: the stage, places with their deadness, their outputs, and each frame's parent."""
    with tf.Session(config=tf.ConfigProto(plans="off")) as session:
        made = Executable(session.stage_for(fetch))
    step = StepRun(made, None, StepContext(1, [], 1), ResourceManager(), None)
    ran: dict[Place, bool] = {}
    outputs: dict[Place, Any] = {}
    parents: dict[int, tuple[int, int]] = {}
    step.begin()
    while not step.state.finished:
        activation = step.state.ready[0]
        with np.errstate(all="ignore"):
            outcome = step.execute(activation)
        place = Place(activation.name, activation.frame.id, activation.iteration)
        ran[place], outputs[place] = outcome.outputs is None, outcome.outputs
        if activation.frame.parent is not None:
            parents[activation.frame.id] = (activation.frame.parent.id, activation.frame.parent_iteration)
        step.finish(activation, outcome)
    return made.stage, ran, outputs, parents


def nested() -> tf.Tensor:
    x = tf.constant(1.0)

    def inner(v: Any) -> Any:
        return tf.while_loop(lambda j, w: j < 2, lambda j, w: (j + 1, tf.sqrt(w)), [0, v])[1]

    def body(i: Any, v: Any) -> Any:
        return i + 1, tf.cond(tf.equal(i % 2, 0), lambda: inner(v * x), lambda: tf.sin(tf.negative(v)))

    return tf.while_loop(lambda i, v: i < 3, body, [0, x])[1]


def two_predicates() -> tf.Tensor:
    """What a cond inside a cond reads comes through Switches of both."""
    x = tf.constant(4.0)

    def inside() -> Any:
        y = tf.negative(x)
        return tf.cond(x > 100.0, lambda: tf.add(tf.sqrt(x), tf.sin(y)), lambda: tf.add(y, x))

    return tf.cond(x > 0.0, inside, lambda: tf.cos(x) * 2.0) + nested()


@pytest.mark.parametrize("program", [nested, two_predicates])
def test_every_dead_node_was_killed_by_a_switch_that_chose_otherwise(program: Any) -> None:
    stage, ran, outputs, parents = run(program())
    dead = [place for place, is_dead in ran.items() if is_dead]
    assert len(dead) > 20
    for place in dead:
        found = dead_path(stage, ran, parents, place)
        assert found.killer is not None, place
        assert stage.nodes[found.killer.node].type == "Switch"
        slot = next(i for i, token in enumerate(outputs[found.killer]) if token is DEAD)
        assert found.chose is (slot == 0), place  # told from what ran, as it was
        assert found.predicate.startswith(stage.nodes[found.killer.node].inputs[1][0])
        first = stage.nodes[found.chain[0].node]
        assert (found.killer.node, slot) in first.inputs
        assert found.chain[-1] == place
        before = found.killer
        for each in found.chain:
            assert ran[each]
            assert before.node in [
                *(name for name, _ in stage.nodes[each.node].inputs),
                *stage.nodes[each.node].control_inputs,
            ]
            before = each
        for stop in found.stops:
            kind = stage.nodes[stop.node].type
            assert kind in ("NextIteration", "Exit") if ran[stop] else kind == "Merge", stop


def test_a_plain_cond() -> None:
    x = tf.constant(4.0)
    stage, ran, _, parents = run(
        tf.cond(tf.equal(x, 0.0), lambda: tf.sqrt(tf.square(x)), lambda: -x, name="branch")
    )
    assert dead_path(stage, ran, parents, Place("branch/Sqrt", 0, 0)) == DeadPath(
        Place("branch/Square/Switch", 0, 0),
        (Place("branch/Square", 0, 0), Place("branch/Sqrt", 0, 0)),
        (Place("branch/Merge", 0, 0),),
        "branch/pred_id:0",
        False,
    )
    with pytest.raises(ValueError, match="'branch/Neg' was not dead"):
        dead_path(stage, ran, parents, Place("branch/Neg", 0, 0))


def test_where_the_way_back_is_not_known() -> None:
    stage, ran, _, parents = run(
        tf.cond(tf.constant(False), lambda: tf.sqrt(4.0), lambda: tf.constant(1.0), name="branch")
    )
    known = {place: dead for place, dead in ran.items() if place.node == "branch/Sqrt"}
    assert dead_path(stage, known, parents, Place("branch/Sqrt", 0, 0)).killer is None


def test_the_way_in_a_recorded_run(tmp_path: Path) -> None:
    """What is told from the recording is what the executor's own tokens say."""
    stage, ran, outputs, parents = run(nested())
    with (
        tracing.record(tmp_path, "times", tensorboard=False) as recorder,
        tf.Session(config=tf.ConfigProto(plans="off")) as session,
    ):
        session.run(tf.get_default_graph().get_tensor_by_name("while/Exit_1:0"))
    with Run.open(recorder.path) as recorded:
        (step,) = recorded.steps()
        for place in [place for place, is_dead in ran.items() if is_dead][::7]:
            found = recorded.dead_path(step.id, *place)
            assert found.killer is not None and found.chain[-1] == place
            assert found == dead_path(stage, ran, parents, place)
        last = recorded.dead_path(step.id, "while/cond/Sin")
        assert last.chain[-1].iteration == 3  # nothing of the body lives in the last iteration
        with pytest.raises(RunError, match="'while/cond/Sin' was alive there"):
            recorded.dead_path(step.id, "while/cond/Sin", 1, 1)
        with pytest.raises(RunError, match="'nobody' did not run"):
            recorded.dead_path(step.id, "nobody")


def test_deadness_leaves_a_loop_that_was_not_entered_alive() -> None:
    """A loop in a branch not taken ends with dead Exits, which pass deadness on to what reads the loop."""
    x = tf.constant(1.0)

    def loop() -> Any:
        return tf.sqrt(tf.while_loop(lambda i, v: i < 2, lambda i, v: (i + 1, v * x), [0, x], name="in")[1])

    stage, ran, _, parents = run(tf.cond(x > 5.0, loop, lambda: -x, name="branch"))
    found = dead_path(stage, ran, parents, Place("branch/Sqrt", 0, 0))
    assert [stage.nodes[place.node].type for place in found.chain][-2:] == ["Exit", "Sqrt"]
    assert found.chose is False
    assert found.stops == (Place("branch/Merge", 0, 0),)
    enter = next(place for place in ran if place.node == "branch/in/Enter_1")
    assert Place("branch/Merge", 0, 0) in dead_path(stage, ran, parents, enter).stops
