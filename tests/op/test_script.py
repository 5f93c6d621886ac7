"""Python functions, Print and Assert."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

import engine as tf
from engine.op.summarize import summarize

# Python functions.


def test_a_function_gets_arrays_and_returns_arrays() -> None:
    x = tf.placeholder(tf.float32, [None])
    doubled = tf.py_func(lambda a: a * 2, [x], tf.float32)
    total, text = tf.py_func(
        lambda a, b: (np.int64(len(a)), f"{len(b)} words"), [x, ["a", "b"]], [tf.int64, tf.string]
    )
    assert isinstance(doubled, tf.Tensor)
    assert doubled.shape.ndims is None
    with tf.Session() as session:
        values = session.run([doubled, total, text], {x: [1, 2.5]})
    np.testing.assert_array_equal(values[0], np.array([2, 5], np.float32))
    assert values[1:] == [2, b"2 words"]


def test_a_function_without_results_is_an_operation() -> None:
    seen = []
    made = tf.py_func(lambda a: seen.append(a), [tf.constant([1.0, 2.0])], [])
    assert isinstance(made, tf.Operation)
    with tf.Session() as session:
        assert session.run(made) is None
    assert [each.tolist() for each in seen] == [[1, 2]]


def test_scalars_arrive_as_numpy_scalars_and_strings_as_bytes() -> None:
    seen: list[Any] = []

    def look(number: Any, word: Any) -> Any:
        seen.extend([type(number), word])
        return np.float32(0)

    with tf.Session() as session:
        session.run(tf.py_func(look, [tf.constant(2.0), tf.constant("hi")], tf.float32))
    assert seen == [np.float32, b"hi"]


def test_what_the_function_does_to_its_arrays_stays_inside() -> None:
    kept = np.zeros(2, np.float32)

    def meddle(a: Any) -> Any:
        a += 1
        return kept

    x = tf.Variable([1.0, 2.0])
    with tf.Session() as session:
        session.run(x.initializer)
        result = session.run([tf.py_func(meddle, [x], tf.float32), x])[1]
        kept += 7
        assert result.tolist() == [1, 2]
        assert session.run(x).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("error", "becomes"),
    [
        (ValueError("odd"), tf.errors.InvalidArgumentError),
        (TypeError("odd"), tf.errors.InvalidArgumentError),
        (StopIteration("odd"), tf.errors.OutOfRangeError),
        (MemoryError("odd"), tf.errors.ResourceExhaustedError),
        (NotImplementedError("odd"), tf.errors.UnimplementedError),
        (ZeroDivisionError("odd"), tf.errors.UnknownError),
    ],
)
def test_exceptions(error: Exception, becomes: type[Exception]) -> None:
    def fail() -> Any:
        raise error

    with tf.Session() as session, pytest.raises(becomes, match="odd") as caught:
        session.run(tf.py_func(fail, [], tf.float32))
    assert type(error).__name__ in str(caught.value)
    assert "in fail" in str(caught.value)  # the user's own line
    assert caught.value.__cause__ is error


def test_results_that_do_not_fit() -> None:
    with tf.Session() as session:
        with pytest.raises(
            tf.errors.InvalidArgumentError,
            match="0-th value returned by pyfunc.* is float64, but expects float32",
        ):
            session.run(tf.py_func(lambda: np.zeros(2), [], tf.float32))
        with pytest.raises(tf.errors.InvalidArgumentError, match="returns 1 values, but expects to see 2"):
            session.run(tf.py_func(lambda: np.float32(1), [], [tf.float32, tf.float32])[0])


def test_the_function_lives_as_long_as_the_graph() -> None:
    class Counter:
        def __call__(self) -> Any:
            return np.int64(1)

    counter = Counter()
    alive = weakref.ref(counter)
    graph = tf.Graph()
    with graph.as_default():
        made = tf.py_func(counter, [], tf.int64)
    definition = graph.as_graph_def()
    del counter
    gc.collect()
    with tf.Session(graph=graph) as session:
        assert session.run(made) == 1
    # An import elsewhere in the process finds it, too.
    with tf.Graph().as_default() as other:
        (imported,) = tf.import_graph_def(definition, return_elements=[made.name], name="")
        with tf.Session(graph=other) as session:
            assert session.run(imported) == 1
    del graph, made, session, other, imported
    gc.collect()
    assert alive() is None
    with tf.Graph().as_default():
        (orphan,) = tf.import_graph_def(definition, return_elements=["PyFunc:0"], name="")
        with tf.Session() as session, pytest.raises(tf.errors.NotFoundError, match="pyfunc"):
            session.run(orphan)


def test_gradients_stop_unless_one_is_registered() -> None:
    x = tf.constant([1.0, 2.0])
    assert tf.gradients(tf.py_func(lambda a: a * a, [x], tf.float32), x) == [None]


# Print.


def test_print_writes_to_stderr_and_passes_its_input(capfd: pytest.CaptureFixture[str]) -> None:
    x = tf.constant([1.5, 2.0, 3.0, 4.0])
    printed = tf.Print(x, [x, tf.constant("word"), tf.shape(x)], message="see: ")
    with tf.Session() as session:
        np.testing.assert_array_equal(session.run(printed), [1.5, 2, 3, 4])
    assert capfd.readouterr().err == "see: [1.5 2 3...][word][4]\n"
    (gradient,) = tf.gradients(printed * printed, x)
    with tf.Session() as session:
        np.testing.assert_array_equal(session.run(gradient), [3, 4, 6, 8])


def test_print_only_the_first_times(capfd: pytest.CaptureFixture[str]) -> None:
    x = tf.placeholder(tf.int32, [])
    printed = tf.Print(x, [x], first_n=2)
    with tf.Session() as session:
        for i in range(4):
            session.run(printed, {x: i})
    with tf.Session() as session:
        session.run(printed, {x: 9})
    assert capfd.readouterr().err == "[0]\n[1]\n[9]\n"


# Texts as TensorFlow's: its own output for the same arrays.
SUMMARIES: tuple[tuple[Any, int, str], ...] = (
    (np.float32(1.5), 3, "1.5"),
    (np.arange(7, dtype=np.float32) / 3, 3, "0 0.333333343 0.666666687..."),
    (np.arange(7, dtype=np.float32) / 3, -1, "0 0.333333343 0.666666687 1 1.33333337 1.66666663 2"),
    (np.arange(4).reshape(2, 2), 3, "[0 1][2...]..."),
    (np.arange(4).reshape(2, 2), 2, "[0 1]..."),
    (np.arange(12).reshape(2, 3, 2), 3, "[[0 1][2...]]..."),
    (np.arange(12).reshape(2, 3, 2), 2, "[[0 1]]..."),
    (np.arange(12).reshape(2, 3, 2), 100, "[[0 1][2 3][4 5]][[6 7][8 9][10 11]]"),
    (np.zeros((3, 1), np.int32), 2, "[0][0]..."),
    (np.array([True, False]), 3, "1 0"),
    (np.array([b"a b", b'c"\n'], object), 3, 'a b c\\"\\n'),
    (np.array([b"a b", b"c"], object), 1, "a b..."),
    (
        np.array([1e-10, 1e10, np.nan, np.inf, -np.inf, 123456.789, 0.1], np.float32),
        -1,
        "1e-10 1e+10 nan inf -inf 123456.789 0.1",
    ),
    (np.array([0.1, 1 / 3, 1e300]), -1, "0.1 0.33333333333333331 1e+300"),
    (np.zeros((0, 3), np.float32), 3, ""),
    (np.zeros((2, 0), np.float32), 3, ""),
    (np.array([1.5, 2], np.float16), 3, "1.5 2"),
    (np.array([200], np.uint8), 3, "200"),
)


@pytest.mark.parametrize(("array", "limit", "text"), SUMMARIES)
def test_summaries(array: Any, limit: int, text: str) -> None:
    assert summarize(array, limit) == text


# Assert.


def test_assert_shows_its_data() -> None:
    x = tf.placeholder(tf.float32, [None])
    checked = tf.Assert(tf.reduce_all(x > 0), ["x was", x], summarize=2)
    with tf.Session() as session:
        session.run(checked, {x: [1, 2, 3]})
        with pytest.raises(
            tf.errors.InvalidArgumentError, match=r"assertion failed: \[x was\] \[1 -2\.\.\.\]"
        ):
            session.run(checked, {x: [1, -2, 3]})


def test_assert_as_a_control_dependency() -> None:
    x = tf.placeholder(tf.int32, [])
    with tf.control_dependencies([tf.Assert(x > 0, [x])]):
        y = x * 2
    with tf.Session() as session:
        assert session.run(y, {x: 3}) == 6
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"\[-3\]"):
            session.run(y, {x: -3})
