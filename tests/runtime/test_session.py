"""Session: fetches, feeds, callables, threads, options, closing."""

from __future__ import annotations

import collections
import threading
from typing import Any

import numpy as np
import pytest
from optimizing import plain
from running import interrupt, once_it_runs

import engine as tf
from engine import observe
from engine.types import errors

Pair = collections.namedtuple("Pair", ["first", "second"])


def test_fetches_come_back_in_their_structure() -> None:
    a, b = tf.constant(1), tf.constant([2.0, 3.0])
    op = tf.no_op()
    with tf.Session() as session:
        assert session.run(a) == 1 and isinstance(session.run(a), np.int32)
        assert session.run(op) is None
        assert session.run("Const:0") == 1
        assert session.run([a, op, [a]]) == [1, None, [1]]
        result = session.run({"x": (a, b), "y": Pair(b, a), "z": collections.OrderedDict(k=a)})
        assert result["x"][0] == 1 and isinstance(result["x"], tuple)
        np.testing.assert_array_equal(result["y"].first, [2.0, 3.0])
        assert isinstance(result["y"], Pair) and type(result["z"]) is collections.OrderedDict
        assert session.run([]) == [] and session.run(()) == () and session.run({}) == {}
        slices = session.run(tf.IndexedSlices(b, tf.constant([0, 1]), tf.constant([4])))
        np.testing.assert_array_equal(slices.indices, [0, 1])


def test_feeds_replace_any_tensor_and_cut_what_is_behind_it() -> None:
    x = tf.placeholder(tf.float32, [2], name="x")
    y = tf.sqrt(x, name="y")
    z = y * 2.0
    with tf.Session() as session:
        np.testing.assert_array_equal(session.run(z, {y: [1.0, 2.0]}), [2.0, 4.0])  # x is not needed
        np.testing.assert_array_equal(session.run(z, {"x:0": [4.0, 9.0]}), [4.0, 6.0])
        np.testing.assert_array_equal(session.run(x, {x: [4.0, 9.0]}), [4.0, 9.0])
        assert session.run([x, z], {(x, "y:0"): ([1, 2], [3, 4])})[1].tolist() == [6.0, 8.0]


def test_what_is_fed_and_fetched_is_the_callers_own() -> None:
    x = tf.placeholder(tf.float32, [2])
    v = tf.Variable([0.0, 0.0])
    save = tf.assign(v, x)
    mine = np.array([1.0, 2.0], np.float32)
    with tf.Session() as session:
        got = session.run(save, {x: mine})
        mine[:] = 7
        got[:] = 8
        np.testing.assert_array_equal(session.run(v), [1.0, 2.0])
        constant = tf.constant([5.0, 6.0])
        session.run(constant)[:] = 0
        np.testing.assert_array_equal(session.run(constant), [5.0, 6.0])


@pytest.mark.parametrize(
    ("feed", "kind", "message"),
    [
        (
            lambda x: {x: [1.0, 2.0, 3.0]},
            ValueError,
            r"Cannot feed value of shape \(3,\) for Tensor 'x:0', which has shape '\(2,\)'",
        ),
        (lambda x: {x: ["a", "b"]}, ValueError, "Cannot feed a list for Tensor 'x:0' of dtype float32"),
        (lambda x: {x: tf.constant([1.0, 2.0])}, TypeError, "cannot be a Tensor"),
        (lambda x: {"nowhere:0": 1.0}, TypeError, "Cannot interpret feed_dict key"),
        (lambda x: {x.op: 1.0}, TypeError, "Cannot interpret feed_dict key"),
        (lambda x: [x], TypeError, "must be a dictionary"),
        (lambda x: {x: [1.0, 2.0], "x:0": [1.0, 2.0]}, ValueError, "fed twice"),
    ],
)
def test_bad_feeds_are_named(feed: Any, kind: type[Exception], message: str) -> None:
    x = tf.placeholder(tf.float32, [2], name="x")
    with tf.Session() as session, pytest.raises(kind, match=message):
        session.run(x, feed(x))


def test_an_integer_that_does_not_fit_is_refused() -> None:
    x = tf.placeholder(tf.int8, [])
    with (
        tf.Session() as session,
        pytest.raises(TypeError, match="300 is not compatible with Tensor type int8"),
    ):
        session.run(x, {x: 300})


@pytest.mark.parametrize(
    ("fetch", "kind", "message"),
    [
        (lambda: None, TypeError, "None has invalid type"),
        (lambda: 3.5, TypeError, "3.5 has invalid type float"),
        (lambda: "Sqrt_typo:0", ValueError, "Did you mean 'Sqrt'"),
        (lambda: "Sqrt:1", ValueError, "only has 1 outputs"),
    ],
)
def test_bad_fetches_are_named(fetch: Any, kind: type[Exception], message: str) -> None:
    tf.sqrt(4.0)
    with tf.Session() as session, pytest.raises(kind, match=message):
        session.run(fetch())


def test_a_fetch_from_another_graph_is_refused() -> None:
    other = tf.Graph()
    with other.as_default():
        foreign = tf.constant(1)
    with tf.Session() as session, pytest.raises(ValueError, match="not an element of this graph"):
        session.run(foreign)


def test_make_callable() -> None:
    x, y = tf.placeholder(tf.float32, []), tf.placeholder(tf.float32, [])
    with tf.Session() as session:
        add = session.make_callable([x + y], [x, y])
        assert add(1, 2) == [3.0]
        with pytest.raises(TypeError, match="takes 2 feeds, 1 were given"):
            add(1)
        with pytest.raises(TypeError, match="accept_options"):
            add(1, 2, options=tf.RunOptions())
    with pytest.raises(RuntimeError, match="closed Session"):
        add(1, 2)


def test_the_graph_may_grow_after_a_run() -> None:
    a = tf.constant(2)
    with tf.Session() as session:
        assert session.run(a) == 2
        b = a * 3
        assert session.run(b) == 6
        c = b + 1
        b.op._update_input(0, tf.constant(10))
        assert session.run(c) == 31  # an edit reaches programs made before


def test_sessions_have_their_own_variables() -> None:
    v = tf.Variable(1.0)
    with tf.Session() as one, tf.Session() as two:
        one.run(v.initializer)
        with pytest.raises(errors.FailedPreconditionError, match="uninitialized value Variable"):
            two.run(v)
        two.run(tf.assign(v, 5.0))
        assert (one.run(v), two.run(v)) == (1.0, 5.0)


def test_default_sessions() -> None:
    a = tf.constant(3)
    with pytest.raises(ValueError, match="no default session"):
        a.eval()
    with tf.Session() as session:
        assert tf.get_default_session() is session
        assert a.eval() == 3
        tf.no_op().run()
    interactive = tf.InteractiveSession()
    assert a.eval() == 3
    interactive.close()
    interactive.close()
    assert tf.get_default_session() is None


def test_a_closed_session_says_so() -> None:
    session = tf.Session()
    session.close()
    with pytest.raises(RuntimeError, match="Attempted to use a closed Session"):
        session.run(tf.constant(1))


def test_many_threads_run_one_session() -> None:
    x = tf.placeholder(tf.int32, [])
    y = tf.while_loop(lambda i, s: i < 10, lambda i, s: (i + 1, s + x), [0, 0])[1]
    v = tf.Variable(0)
    bump = tf.assign_add(v, 1)
    wrong = []
    with tf.Session() as session:
        session.run(v.initializer)

        def work(k: int) -> None:
            for _ in range(20):
                if session.run([y, bump], {x: k})[0] != 10 * k:
                    wrong.append(k)

        threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert session.run(v) == 120


def test_threads_inside_a_step_give_the_same_result() -> None:
    x = tf.constant(np.arange(6.0).reshape(2, 3))
    y = tf.add_n([tf.sin(x + k) for k in np.arange(20.0)])
    z = tf.while_loop(lambda i, s: i < 5, lambda i, s: (i + 1, s * 0.5 + y), [0, y])[1]
    with tf.Session() as alone, tf.Session(config=tf.ConfigProto(inter_op_parallelism_threads=4)) as together:
        np.testing.assert_array_equal(alone.run(z), together.run(z))
        with pytest.raises(errors.InvalidArgumentError, match="must feed"):
            together.run(tf.placeholder(tf.float32) + tf.constant(1.0))


def test_a_timeout_ends_an_endless_loop_and_says_where_it_was() -> None:
    endless = tf.while_loop(lambda i: i >= 0, lambda i: tf.abs(i), [0], name="spin")
    with (
        tf.Session() as session,
        pytest.raises(errors.DeadlineExceededError, match=r"next to run: 'spin/.*spin/while_context"),
    ):
        session.run(endless, options=tf.RunOptions(timeout_in_ms=100))


def test_closing_cancels_a_running_step() -> None:
    endless = tf.while_loop(lambda i: i >= 0, lambda i: tf.abs(i), [0])
    session = tf.Session()
    with once_it_runs(session.close), pytest.raises(errors.CancelledError):
        session.run(endless)


def test_ctrl_c_ends_an_endless_loop_and_says_where_it_was() -> None:
    endless = tf.while_loop(lambda i: i >= 0, lambda i: tf.abs(i), [0], name="spin")
    with tf.Session() as session:
        with once_it_runs(interrupt), pytest.raises(KeyboardInterrupt) as caught:
            session.run(endless)
        assert session.run(tf.constant(1)) == 1  # and the session goes on
    assert "next to run: 'spin/" in caught.value.__notes__[0]


def test_errors_point_at_the_operation_and_its_line() -> None:
    x = tf.placeholder(tf.float32, [2], name="x")
    y = tf.reshape(x, tf.constant([3]) * tf.placeholder(tf.int32, [], name="k"), name="bad")
    with tf.Session() as session, pytest.raises(errors.InvalidArgumentError) as caught:
        session.run(y, {x: [1, 2], "k:0": 1})
    assert caught.value.op is y.op
    assert "test_session.py" in str(caught.value) and 'name="bad"' in str(caught.value)


def test_a_traceback_ends_at_the_callers_run() -> None:
    x = tf.placeholder(tf.float32, [2], name="x")
    with tf.Session() as session:
        for feed in ({}, {x: [1.0]}):
            with pytest.raises((ValueError, errors.OpError)) as caught:
                session.run(x, feed)
            assert [entry.name for entry in caught.traceback] == [
                "test_a_traceback_ends_at_the_callers_run",
                "run",
            ]


def test_a_dead_fetch_is_explained() -> None:
    pred = tf.placeholder(tf.bool, [])
    switched = tf.raw_ops.Switch(data=tf.constant(1.0), pred=pred)
    with tf.Session() as session:
        assert session.run(switched[1], {pred: True}) == 1.0
        with pytest.raises(errors.InvalidArgumentError, match=r"Retval\[0\] does not have value.*not taken"):
            session.run(switched[1], {pred: False})


def test_full_trace_fills_run_metadata() -> None:
    a = tf.constant([[1.0, 2.0]], name="a")
    b = tf.matmul(a, a, transpose_b=True, name="b")
    metadata = tf.RunMetadata()
    with tf.Session(config=plain()) as session:
        session.run(b, options=tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE), run_metadata=metadata)
        untouched = tf.RunMetadata()
        session.run(b, run_metadata=untouched)
    names = {stats.node_name for device in metadata.step_stats.dev_stats for stats in device.node_stats}
    assert {"a", "b"} <= names
    (device,) = {device.device for device in metadata.step_stats.dev_stats}
    assert device == "/job:localhost/replica:0/task:0/device:CPU:0"
    assert not untouched.step_stats.dev_stats


class Recording(observe.Observer):
    def __init__(self, level: observe.TraceLevel) -> None:
        self.level = level
        self.calls: list[tuple[str, Any]] = []

    def stage(self, stage: Any) -> None:
        self.calls.append(("stage", stage.name))

    def step_begin(self, step: Any) -> None:
        self.calls.append(("begin", step.step))

    def executions(self, step: Any, batch: Any) -> None:
        self.calls.append(("executions", [step.stage.order[i] for i in batch.node]))

    def health(self, step: Any, batch: Any) -> None:
        self.calls.append(("health", batch))

    def values(self, step: Any, batch: Any) -> None:
        self.calls.append(("values", [float(value.array) for value in batch]))

    def tokens(self, step: Any, batch: Any) -> None:
        self.calls.append(("tokens", len(batch)))

    def resource_writes(self, step: Any, batch: Any) -> None:
        self.calls.append(("writes", [(write.resource, write.kind, write.version) for write in batch]))

    def step_end(self, step: Any, ended_ns: int, error: Any) -> None:
        self.calls.append(("end", type(error)))


@pytest.mark.parametrize(
    "level", [observe.TraceLevel.TIMES, observe.TraceLevel.VALUES, observe.TraceLevel.FULL]
)
def test_observers_are_told_what_their_level_asks_for(level: observe.TraceLevel) -> None:
    a = tf.constant(3.0, name="a")
    b = tf.sqrt(a * 0.0 - 1.0, name="b")
    observer = Recording(level)
    observe.install(observer)
    try:
        with tf.Session(config=plain()) as session:
            session.run(b)
            session.run(b)
    finally:
        observe.uninstall(observer)
    kinds = [name for name, _ in observer.calls]
    per_step = ["begin", "executions"]
    if level >= observe.TraceLevel.VALUES:
        per_step.append("health")
    if level >= observe.TraceLevel.FULL:
        per_step += ["values", "tokens"]
    assert kinds == ["stage", "stage", *per_step, "end", *per_step, "end"]
    told = dict(observer.calls)
    assert told["executions"][-2:] == ["b", "_retval_b_0_0"]
    if level >= observe.TraceLevel.VALUES:
        assert told["health"].nan.sum() == 1
    if level >= observe.TraceLevel.FULL:
        assert told["values"][:1] == [3.0] and np.isnan(told["values"][-1])


def test_an_observer_learns_of_writes_and_of_the_error_that_ends_a_step() -> None:
    v = tf.Variable(1.0, name="v")
    observer = Recording(observe.TraceLevel.TIMES)
    observe.install(observer)
    try:
        with tf.Session() as session:
            session.run(v.initializer)
            with pytest.raises(errors.InvalidArgumentError):
                session.run(tf.placeholder(tf.float32, name="p"))
    finally:
        observe.uninstall(observer)
    assert ("writes", [("v", "assign", 1)]) in observer.calls
    assert observer.calls[-1] == ("end", errors.InvalidArgumentError)
