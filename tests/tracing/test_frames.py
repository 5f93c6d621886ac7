"""Frames of recorded steps: against plain Python's loops, and against a naive reading of the events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import engine as tf
import tracing
from engine.observe import FrameChange
from engine.types import errors
from tracing.frames import FrameTree, frame_label
from tracing.reader import Run

pytestmark = pytest.mark.usefixtures("as_written")


@pytest.fixture(autouse=True)
def graph() -> Any:
    with tf.Graph().as_default() as graph:
        yield graph


def recorded(folder: Path, fetch: Any, level: Any = "times", threads: int = 1, plans: str = "auto") -> Run:
    """A run of one step."""
    config = tf.ConfigProto(inter_op_parallelism_threads=threads, plans=plans)
    with tracing.record(folder, level, tensorboard=False) as recorder, tf.Session(config=config) as session:
        session.run(fetch)
    return Run.open(recorder.path)


def tree_of(run: Run) -> FrameTree:
    return run.frame_tree(run.steps()[-1].id)


@settings(max_examples=10, deadline=None)
@given(counts=st.lists(st.integers(0, 3), min_size=0, max_size=4))
def test_nested_loops_have_the_iterations_that_plain_python_has(
    counts: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """``for i in range(len(counts)): if counts[i] != 2: for j in range(counts[i]): total += j``"""
    with tf.Graph().as_default():
        table = tf.constant(counts or [0], name="table")

        def outer(i: Any, total: Any) -> Any:
            count = tf.gather(table, i)

            def loop() -> Any:
                return tf.while_loop(
                    lambda j, t: j < count, lambda j, t: (j + 1, t + j), [0, total], name="inner"
                )[1]

            return i + 1, tf.cond(tf.not_equal(count, 2), loop, lambda: total)

        total = tf.while_loop(lambda i, t: i < len(counts), outer, [0, 0], name="outer")[1]
        run = recorded(tmp_path_factory.mktemp("runs"), total)
    with run:
        tree, executions = tree_of(run), run.executions(run.steps()[0].id)
        stage = run.stage(run.steps()[0].stage_id)
        (outer_frame,) = tree.children(0)
        # The last iteration of a loop that ends only finds its condition false.
        assert (outer_frame.begun, outer_frame.ended, outer_frame.live) == (len(counts) + 1,) * 2 + (True,)
        inner = tree.children(outer_frame.id)
        assert [frame.parent_iteration for frame in sorted(inner, key=lambda f: f.parent_iteration)] == list(
            range(len(counts) + 1)
        )
        for frame in inner:
            i = frame.parent_iteration
            taken = i < len(counts) and counts[i] != 2
            assert frame.live == taken
            assert frame.begun == frame.ended == (counts[i] + 1 if taken else 1)
            assert tree.path(frame.id, 0) == f"root > outer:{i} > {tree.label(frame.id)}:0"
        for frame in tree:
            assert frame.begin_row == min(token.row for token in frame.enters)
            for token in frame.enters:
                node = stage.nodes[stage.order[executions.node[token.row]]]
                assert (node.name, node.type) == (token.node, "Enter")
                assert node.attrs["frame_name"] == frame.name
                assert token.dead == executions.dead[token.row]
                assert (executions.frame[token.row], executions.iteration[token.row]) == (
                    frame.parent,
                    frame.parent_iteration,
                )
            entered = {
                name for name in stage.order if stage.nodes[name].attrs.get("frame_name") == frame.name
            }
            assert {token.node for token in frame.enters} == entered


def test_a_frame_names_the_line_that_made_its_loop_and_the_loop_whose_gradient_it_is(tmp_path: Path) -> None:
    x = tf.constant(1.5)
    y = tf.while_loop(lambda i, v: i < 3, lambda i, v: (i + 1, v * x), [0, x], name="steps")[1]  # the loop
    (g,) = tf.gradients(y, x)  # the gradient
    with recorded(tmp_path, g) as run:
        by_name = {frame_label(frame.name): frame for frame in tree_of(run)}
        forward = by_name.pop("steps")
        assert forward.site is not None and forward.site.source.endswith("# the loop")
        assert forward.gradient_of == "" and forward.limit == 10
        (backward,) = by_name.values()
        assert backward.site is not None and backward.site.source.endswith("# the gradient")
        assert backward.gradient_of == forward.name
        assert backward.begun == forward.begun == 4


def chain(limit: int, iterations: int = 25) -> Any:
    """A loop whose counter is far quicker than what it carries, so that iterations pile up."""

    def body(i: Any, v: Any) -> Any:
        for _ in range(15):
            v = tf.sin(v)
        return i + 1, v

    return tf.while_loop(
        lambda i, v: i < iterations, body, [0, tf.constant(1.0)], parallel_iterations=limit, name="loop"
    )[1]


@pytest.mark.usefixtures("as_written")
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("limit", [1, 4, 10])
def test_what_parallel_iterations_holds_back(tmp_path: Path, limit: int, threads: int) -> None:
    with recorded(tmp_path, chain(limit), threads=threads, plans="off") as run:
        step = run.steps()[0].id
        (frame,) = tree_of(run)
        events, ends = run.frames(step), np.maximum.accumulate(run.executions(step).end_ns)
    assert frame.limit == limit
    assert frame.begun == frame.ended == 26
    # Counted one by one.
    under_way = most = 0
    held: dict[int, int] = {}
    waited = 0
    for event in events:
        if event.change is FrameChange.ITERATION_BEGIN:
            under_way += 1
            if event.iteration in held:
                waited += int(ends[event.row] - ends[held[event.iteration]])
        under_way -= event.change is FrameChange.ITERATION_END
        if event.change is FrameChange.ITERATION_DEFERRED:
            assert under_way == limit
            held[event.iteration] = event.row
        most = max(most, under_way)
        assert under_way <= limit
    assert frame.most_under_way == most
    assert {each.number: each.deferred_row for each in frame.deferred} == held
    assert frame.waited_ns == waited
    assert all(each.waited_ns >= 0 and each.deferred_row < each.begin_row for each in frame.deferred)
    times, counts = frame.under_way
    assert (np.diff(times) >= 0).all() and counts[-1] == 0 and counts.max() == most
    assert 0 < frame.mean_under_way <= most
    if limit == 1:  # every iteration but the first has to wait for the one before
        assert sorted(held) == list(range(1, 26)) and frame.mean_under_way == pytest.approx(1)
    elif threads == 1:  # on several, how far the counter gets ahead depends on who is quick
        assert held and most == limit


@pytest.mark.usefixtures("as_written")
def test_a_loop_with_room_holds_nothing_back(tmp_path: Path) -> None:
    with recorded(tmp_path, chain(1000), plans="off") as run:
        (frame,) = tree_of(run)
    assert frame.deferred == () and frame.waited_ns == 0
    assert 10 < frame.most_under_way <= 26


def test_a_step_that_fails_leaves_its_frames_open(tmp_path: Path) -> None:
    x = tf.placeholder(tf.float32, None)
    y = tf.while_loop(
        lambda i, v: i < 5,
        lambda i, v: (i + 1, tf.reshape(v, tf.where(tf.equal(i, 2), [7], [1]))),
        [0, x],
        shape_invariants=[tf.TensorShape([]), tf.TensorShape(None)],
    )[1]
    with (
        tracing.record(tmp_path, tensorboard=False) as recorder,
        tf.Session() as session,
        pytest.raises(errors.InvalidArgumentError),
    ):
        session.run(y, {x: [1.0]})
    with Run.open(recorder.path) as run:
        (frame,) = tree_of(run)
    assert frame.end_row == -1 and frame.live
    assert {each.state for each in frame.iterations} >= {"under way"}
    assert frame.begun > frame.ended
    assert frame.end_ns >= frame.begin_ns


def test_a_step_without_loops_has_no_frames(tmp_path: Path) -> None:
    with recorded(tmp_path, tf.constant(1.0) + 2.0) as run:
        assert len(tree_of(run)) == 0
        assert tree_of(run).path(0) == "root"
