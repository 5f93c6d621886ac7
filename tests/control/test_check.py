"""Assertions about tensors: what holds, what fails when it runs, what fails at once."""

from __future__ import annotations

from typing import Any

import pytest

import engine as tf

# Name, arguments that hold, arguments that do not (a tensor is made of each).
PAIRS: tuple[tuple[str, Any, Any], ...] = (
    ("equal", ([1, 2], [1, 2]), ([1, 2], [1, 3])),
    ("none_equal", ([1, 2], [2, 1]), ([1, 2], [1, 3])),
    ("less", ([1, 2], [2, 3]), ([1, 2], [2, 2])),
    ("less_equal", ([1, 2], [2, 2]), ([1, 3], [2, 2])),
    ("greater", ([2, 3], 1), ([2, 3], 2)),
    ("greater_equal", ([2, 3], 2), ([2, 3], 3)),
    ("near", ([1.0, 2.0], [1.0, 2.0000001]), ([1.0, 2.0], [1.0, 2.1])),
)
SIGNS: tuple[tuple[str, Any, Any], ...] = (
    ("positive", [1, 2], [1, 0]),
    ("negative", [-1, -2], [-1, 0]),
    ("non_negative", [0, 2], [0, -1]),
    ("non_positive", [0, -2], [0, 1]),
)


@pytest.mark.parametrize("dtype", [tf.int32, tf.float32])
@pytest.mark.parametrize(("name", "holds", "fails"), PAIRS)
def test_two_tensors(name: str, holds: Any, fails: Any, dtype: Any) -> None:
    if name == "near":
        dtype = tf.float32
    x, y = tf.placeholder(dtype, None), tf.placeholder(dtype, None)
    check = getattr(tf, f"assert_{name}")(x, y, message="they differ")
    assert isinstance(check, tf.Operation)
    with tf.Session() as session:
        session.run(check, {x: holds[0], y: holds[1]})
        with pytest.raises(tf.errors.InvalidArgumentError, match="assertion failed: .they differ.*x .*y "):
            session.run(check, {x: fails[0], y: fails[1]})


@pytest.mark.parametrize(("name", "holds", "fails"), SIGNS)
def test_signs(name: str, holds: Any, fails: Any) -> None:
    x = tf.placeholder(tf.float32, None, name="measured")
    check = getattr(tf, f"assert_{name}")(x)
    with tf.Session() as session:
        session.run(check, {x: holds})
        with pytest.raises(tf.errors.InvalidArgumentError, match="measured:0"):
            session.run(check, {x: fails})


@pytest.mark.parametrize(("name", "holds", "fails"), [each for each in PAIRS if each[0] != "near"])
def test_constants_are_checked_at_once(name: str, holds: Any, fails: Any) -> None:
    function = getattr(tf, f"assert_{name}")
    function(*holds)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"did not hold.*\[1 2\]|did not hold.*\[[12] 3\]"
    ):
        function(*fails)


def test_own_data_and_empty_tensors() -> None:
    x = tf.placeholder(tf.int32, None)
    check = tf.assert_equal(x, 1, data=["saw", x, "instead"], summarize=1)
    with tf.Session() as session:
        session.run(check, {x: []})
        with pytest.raises(
            tf.errors.InvalidArgumentError, match=r"assertion failed: \[saw\] \[7\.\.\.\] \[instead\]"
        ):
            session.run(check, {x: [7, 8]})


def test_ranks() -> None:
    matrix, anything = tf.zeros([2, 3]), tf.placeholder(tf.float32, None)
    tf.assert_rank(matrix, 2)
    tf.assert_rank_at_least(matrix, 1)
    with pytest.raises(ValueError, match="must have rank 1.  Received rank 2"):
        tf.assert_rank(matrix, 1)
    with pytest.raises(ValueError, match="at least 3"):
        tf.assert_rank_at_least(matrix, 3)
    check = tf.assert_rank(anything, 1)
    with tf.Session() as session:
        session.run(check, {anything: [1]})
        with pytest.raises(tf.errors.InvalidArgumentError, match="must have rank"):
            session.run(check, {anything: 1})


def test_types() -> None:
    tf.assert_type(tf.zeros([2]), tf.float32)
    tf.assert_integer(tf.constant(1))
    with pytest.raises(TypeError, match="int32"):
        tf.assert_type(tf.zeros([2]), tf.int32)
    with pytest.raises(TypeError, match="integer"):
        tf.assert_integer(tf.zeros([2]))


def test_scalars() -> None:
    scalar, anything = tf.constant(1), tf.placeholder(tf.float32, None)
    assert tf.assert_scalar(scalar) is scalar
    with pytest.raises(ValueError, match="scalar"):
        tf.assert_scalar(tf.zeros([1]))
    checked = tf.assert_scalar(anything)
    assert checked.shape.ndims == 0
    with tf.Session() as session:
        assert session.run(checked, {anything: 2}) == 2
        with pytest.raises(tf.errors.InvalidArgumentError):
            session.run(checked, {anything: [2]})


def test_a_check_that_nothing_waits_for_does_not_run() -> None:
    x = tf.placeholder(tf.float32, [])
    tf.assert_positive(x)
    with tf.Session() as session:
        assert session.run(x + 1, {x: -1}) == 0
