"""Queues: what they hold and give, how they wait, and that going back leaves them as they were."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from running import PATIENCE, once_it_runs, wait_until
from searches import examples

import engine as tf
from engine.runtime.driver import StepRun, install, uninstall
from engine.runtime.queues import Queue


def contents(session: tf.Session, name: str) -> list[Any]:
    queue = session.resources.lookup(name)
    assert isinstance(queue, Queue)
    return [tuple(part.tolist() for part in element) for element in queue.value.elements]


# --- as in TensorFlow -----------------------------------------------------------------------------------------------------


def test_first_in_first_out() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        queue = tf.FIFOQueue(3, [tf.float32, tf.int32], shapes=[[2], []], name="q")
        assert queue.queue_ref.dtype == tf.resource
        session.run(queue.enqueue([[1.0, 2.0], 3]))
        session.run(queue.enqueue_many([np.ones((2, 2), np.float32), [4, 5]]))
        assert session.run(queue.size()) == 3
        first, number = session.run(queue.dequeue())
        assert first.tolist() == [1, 2] and number == 3 and number.dtype == np.int32
        batch, numbers = session.run(queue.dequeue_many(2))
        assert batch.tolist() == [[1, 1], [1, 1]] and numbers.tolist() == [4, 5]


def test_names_of_nodes() -> None:
    with tf.Graph().as_default() as graph:
        queue = tf.FIFOQueue(3, tf.float32, shapes=[], name="q")
        queue.enqueue(1.0)
        queue.enqueue_many([[1.0]])
        queue.dequeue()
        queue.dequeue_many(2)
        queue.dequeue_up_to(2)
        queue.size()
        queue.close()
        queue.close()
        queue.is_closed()
        assert [each.name for each in graph.get_operations()] == [
            "q",
            "q_enqueue/component_0",
            "q_enqueue",
            "q_EnqueueMany/component_0",
            "q_EnqueueMany",
            "q_Dequeue",
            "q_DequeueMany/n",
            "q_DequeueMany",
            "q_DequeueUpTo/n",
            "q_DequeueUpTo",
            "q_Size",
            "q_Close",
            "q_Close_1",
            "q_Is_Closed",
        ]


def test_shapes_of_what_comes_out() -> None:
    with tf.Graph().as_default():
        queue = tf.FIFOQueue(3, [tf.float32, tf.int32], shapes=[[2], []])
        assert [each.shape.as_list() for each in queue.dequeue()] == [[2], []]
        assert [each.shape.as_list() for each in queue.dequeue_many(5)] == [[5, 2], [5]]
        assert [each.shape.as_list() for each in queue.dequeue_up_to(5)] == [[None, 2], [None]]
        assert tf.FIFOQueue(3, tf.float32).dequeue().shape.ndims is None


def test_closed() -> None:
    """Messages as TensorFlow's, but for the number that it puts before a queue's name."""
    with tf.Graph().as_default(), tf.Session() as session:
        queue = tf.FIFOQueue(5, tf.int32, shapes=[], name="q")
        put, close = queue.enqueue(7), queue.close()
        session.run([put])
        session.run([put])
        assert not session.run(queue.is_closed())
        session.run(close)
        assert session.run(queue.is_closed())
        with pytest.raises(tf.errors.CancelledError, match="FIFOQueue 'q' is closed."):
            session.run(put)
        with pytest.raises(
            tf.errors.OutOfRangeError,
            match=r"is closed and has insufficient elements \(requested 3, current size 2\)",
        ):
            session.run(queue.dequeue_many(3))
        assert session.run(queue.dequeue_up_to(3)).tolist() == [7, 7]
        for taking in (queue.dequeue(), queue.dequeue_up_to(3)):
            with pytest.raises(tf.errors.OutOfRangeError, match="insufficient elements"):
                session.run(taking)
        with pytest.raises(tf.errors.CancelledError, match="Queue 'q' is already closed."):
            session.run(close)


def test_random_order() -> None:
    """TensorFlow's numbers for these seeds."""
    with tf.Graph().as_default(), tf.Session() as session:
        queue = tf.RandomShuffleQueue(10, 2, tf.int32, shapes=[], seed=7)
        session.run(queue.enqueue_many([np.arange(8)]))
        one = queue.dequeue()
        assert [session.run(one) for _ in range(3)] == [7, 4, 1]
        assert session.run(queue.dequeue_many(3)).tolist() == [6, 0, 2]
        with pytest.raises(tf.errors.DeadlineExceededError, match="which holds 2, of which 2 have to stay"):
            session.run(one, options=tf.RunOptions(timeout_in_ms=50))
        session.run(queue.close())
        assert sorted(session.run(queue.dequeue_many(2)).tolist()) == [3, 5]


def test_padding() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        queue = tf.PaddingFIFOQueue(10, [tf.int32, tf.string], shapes=[[None, 2], [None]])
        session.run(queue.enqueue([[[1, 2]], ["a"]]))
        session.run(queue.enqueue([[[3, 4], [5, 6]], ["b", "c"]]))
        numbers, texts = session.run(queue.dequeue_many(2))
        assert numbers.tolist() == [[[1, 2], [0, 0]], [[3, 4], [5, 6]]]
        assert texts.tolist() == [[b"a", b""], [b"b", b"c"]]


def test_priorities() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        queue = tf.PriorityQueue(10, tf.string, shapes=[[]])
        session.run(queue.enqueue_many([np.array([5, 1, 3, 1], np.int64), ["a", "b", "c", "d"]]))
        taken = [session.run(queue.dequeue()) for _ in range(4)]
        assert [(int(priority), text) for priority, text in taken] == [
            (1, b"b"),
            (1, b"d"),
            (3, b"c"),
            (5, b"a"),
        ]


def test_names_of_components() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        queue = tf.FIFOQueue(5, [tf.float32, tf.int32], names=["x", "y"], shapes=[[], []])
        session.run(queue.enqueue({"y": 2, "x": 1.0}))
        assert session.run(queue.dequeue()) == {"x": 1.0, "y": 2}
        with pytest.raises(ValueError, match="Keys in dictionary to enqueue do not match names of Queue"):
            queue.enqueue({"x": 1.0})
        with pytest.raises(ValueError, match="You must enqueue a dictionary"):
            queue.enqueue([1.0, 2])


def test_shared_by_name() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        session.run(tf.FIFOQueue(2, tf.int32, shapes=[], shared_name="shared").enqueue(4))
        assert session.run(tf.FIFOQueue(2, tf.int32, shapes=[], shared_name="shared").dequeue()) == 4
        with pytest.raises(
            tf.errors.InvalidArgumentError,
            match="Shared queue 'shared' has capacity 2 but requested capacity was 3",
        ):
            session.run(tf.FIFOQueue(3, tf.int32, shapes=[], shared_name="shared").size())


@pytest.mark.parametrize(
    ("make", "kind", "said"),
    [
        (lambda q: q.enqueue([[1.0, 2.0], 3.5]), TypeError, "Expected int32, got 3.5"),
        (lambda q: q.enqueue([1.0, 3]), ValueError, "compatible"),
        (lambda q: q.enqueue([[1.0, 2.0]]), ValueError, "has 2 components, 1 were given"),
        (lambda q: q.enqueue_many([np.ones((2, 2), np.float32), [1, 2, 3]]), ValueError, "compatible"),
    ],
)
def test_what_does_not_go_in(make: Callable[[Any], Any], kind: type[Exception], said: str) -> None:
    with tf.Graph().as_default(), pytest.raises(kind, match=said):
        make(tf.FIFOQueue(3, [tf.float32, tf.int32], shapes=[[2], []]))


def test_what_does_not_go_in_when_it_runs() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        queue = tf.FIFOQueue(3, [tf.float32, tf.float32], shapes=[[None, 2], [None]])
        x, y = tf.placeholder(tf.float32, None), tf.placeholder(tf.float32, None)
        put, many = queue.enqueue([x, y]), queue.enqueue_many([x, y])
        with pytest.raises(
            tf.errors.InvalidArgumentError,
            match=r"Shape mismatch in tuple component 0. Expected \[-1,2\], got \[3\]",
        ):
            session.run(put, {x: np.ones(3), y: np.ones(3)})
        with pytest.raises(tf.errors.InvalidArgumentError, match="same size in the 0th dimension"):
            session.run(many, {x: np.ones((2, 1, 2)), y: np.ones((3, 1))})
        with pytest.raises(tf.errors.InvalidArgumentError, match="requires the components to have specified"):
            session.run(tf.FIFOQueue(3, tf.float32).dequeue_many(2))


def test_what_was_put_in_does_not_change() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        queue = tf.FIFOQueue(3, tf.float32, shapes=[[2]])
        x = tf.placeholder(tf.float32, [2])
        mine = np.ones(2, np.float32)
        session.run(queue.enqueue(x), {x: mine})
        mine[:] = 5
        assert session.run(queue.dequeue()).tolist() == [1, 1]


# --- waiting --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [{}, {"device_count": {"CPU": 2}}], ids=["one device", "two devices"])
def test_producers_and_consumers(config: dict[str, Any]) -> None:
    with tf.Graph().as_default() as graph:
        queue = tf.FIFOQueue(3, tf.int32, shapes=[])
        x = tf.placeholder(tf.int32, [])
        put, taken, close = queue.enqueue(x), queue.dequeue(), queue.close()
        if config:
            with tf.device("/cpu:1"):
                taken = taken + tf.constant(0)
    with tf.Session(graph=graph, config=tf.ConfigProto(**config)) as session:
        got: list[int] = []

        def produce(numbers: range) -> None:
            for number in numbers:
                session.run(put, {x: number})

        def consume() -> None:
            while True:
                try:
                    got.append(int(session.run(taken)))
                except tf.errors.OutOfRangeError:
                    return

        producers = [
            threading.Thread(target=produce, args=(range(i * 100, i * 100 + 100),)) for i in range(3)
        ]
        consumers = [threading.Thread(target=consume) for _ in range(2)]
        for thread in (*producers, *consumers):
            thread.start()
        for thread in producers:
            thread.join()
        session.run(close)
        for thread in consumers:
            thread.join()
    assert sorted(got) == list(range(300))


def test_in_one_step() -> None:
    """A dequeue that nothing orders waits for the enqueue beside it."""
    with tf.Graph().as_default(), tf.Session() as session:
        queue = tf.FIFOQueue(3, tf.int32, shapes=[])
        taken = queue.dequeue()
        put = queue.enqueue(taken.dtype.as_numpy_dtype(4))
        assert session.run([taken, put])[0] == 4


def test_more_than_it_takes() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        queue = tf.FIFOQueue(2, tf.int32, shapes=[])
        one, many, batch = queue.enqueue(0), queue.enqueue_many([[1, 2, 3, 4]]), queue.dequeue_many(5)
        session.run(one)
        got: list[Any] = []
        thread = threading.Thread(target=lambda: got.append(session.run(batch)))
        thread.start()
        first = session.run(queue.dequeue())  # one of the two takes the element that is there
        session.run(many)
        session.run(one)
        thread.join(PATIENCE)
        assert first == 0 and got[0].tolist() == [1, 2, 3, 4, 0]


def test_closing_with_enqueues_waiting() -> None:
    for cancel in (False, True):
        with tf.Graph().as_default(), tf.Session() as session:
            queue = tf.FIFOQueue(1, tf.int32, shapes=[])
            put, taken = queue.enqueue(1), queue.dequeue()
            session.run(put)
            failures: list[BaseException] = []

            def wait(session: Any = session, put: Any = put, failures: Any = failures) -> None:
                try:
                    session.run(put)
                except tf.errors.OpError as error:
                    failures.append(error)

            thread = threading.Thread(target=wait)
            thread.start()
            held = session.resources.lookup(queue.name)
            wait_until(lambda held=held: held.pending)
            session.run(queue.close(cancel_pending_enqueues=cancel))
            if not cancel:
                session.run(taken)
            thread.join(PATIENCE)
            assert [type(each) for each in failures] == ([tf.errors.CancelledError] if cancel else [])
            assert session.run(queue.size()) == 1


def test_a_wait_ends_with_the_session() -> None:
    with tf.Graph().as_default():
        session = tf.Session()
        taken = tf.FIFOQueue(1, tf.int32, shapes=[], name="q").dequeue()
        with once_it_runs(session.close), pytest.raises(tf.errors.CancelledError) as caught:
            session.run(taken)
        assert "'q_Dequeue' in root@0 waits for 1 element in FIFOQueue 'q', which holds 0" in str(
            caught.value
        )


def test_a_step_that_waits_is_no_plan() -> None:
    with tf.Graph().as_default() as graph, tf.Session(graph=graph) as session:
        taken = tf.FIFOQueue(1, tf.int32, shapes=[]).dequeue()
        assert "may wait for a queue" in str(session.explain(taken))


# --- against a model, and back --------------------------------------------------------------------------------------------

ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("enqueue"), st.integers(0, 99)),
        st.tuples(st.just("many"), st.lists(st.integers(0, 99), min_size=1, max_size=3)),
        st.tuples(st.just("dequeue"), st.just(1)),
        st.tuples(st.just("take"), st.integers(0, 3)),
        st.tuples(st.just("close"), st.booleans()),
    ),
    max_size=25,
)


@examples(25)
@given(ACTIONS)
def test_against_a_deque(actions: list[tuple[str, Any]]) -> None:
    """Every action that would not have to wait, on a queue of 4 and on a deque."""
    with tf.Graph().as_default(), tf.Session() as session:
        queue = tf.FIFOQueue(4, tf.int32, shapes=[], name="q")
        x, n, many = (
            tf.placeholder(tf.int32, []),
            tf.placeholder(tf.int32, []),
            tf.placeholder(tf.int32, [None]),
        )
        put, put_many, one, some = (
            queue.enqueue(x),
            queue.enqueue_many([many]),
            queue.dequeue(),
            queue.dequeue_many(n),
        )
        session.run(queue.size())
        model: deque[int] = deque()
        closed = False
        for what, value in actions:
            if what == "close":
                if not closed:
                    session.run(queue.close(cancel_pending_enqueues=value))
                closed = True
            elif what in ("enqueue", "many"):
                values = [value] if what == "enqueue" else value
                feeds = {x: value} if what == "enqueue" else {many: value}
                op = put if what == "enqueue" else put_many
                if closed:
                    with pytest.raises(tf.errors.CancelledError):
                        session.run(op, feeds)
                elif len(model) + len(values) <= 4:
                    session.run(op, feeds)
                    model.extend(values)
            else:
                count = value
                if len(model) >= count:
                    got = session.run(one) if what == "dequeue" else session.run(some, {n: count})
                    assert np.atleast_1d(got).tolist() == [model.popleft() for _ in range(count)]
                elif closed:
                    with pytest.raises(tf.errors.OutOfRangeError):
                        session.run(
                            one if what == "dequeue" else some, None if what == "dequeue" else {n: count}
                        )
            assert contents(session, "q") == [(each,) for each in model]


class _BackAndForth:
    """Takes every execution back once before it counts."""

    record = True

    def drive(self, step: StepRun) -> None:
        queue = deque(step.begin())
        while queue:
            activation = queue.popleft()
            step.finish(activation, step.execute(activation))
            step.undo()
            outcome = step.execute(activation)
            queue.extend(step.finish(activation, outcome).run)


def test_back_and_forth() -> None:
    def results(driver: Any) -> Any:
        with tf.Graph().as_default(), tf.Session() as session:
            queue = tf.RandomShuffleQueue(20, 0, tf.int32, shapes=[], seed=3, name="q")
            if driver is not None:
                install(driver)
            try:
                session.run(queue.enqueue_many([np.arange(12)]))
                got = [session.run(queue.dequeue_many(3)).tolist() for _ in range(3)]
                session.run(queue.close())
            finally:
                uninstall()
            return got, contents(session, "q")

    assert results(_BackAndForth()) == results(None)
