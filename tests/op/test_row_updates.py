"""Updates of rows of variables, against loops in Python."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import engine as tf

COMBINE: dict[str, Callable[[Any, Any], Any]] = {
    "update": lambda old, new: new,
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "min": np.minimum,
    "max": np.maximum,
}

INDICES: tuple[Any, ...] = (2, [1], [0, 3], [1, 1, 4, 1], [[0, 2], [2, 0]], [])


def loop(kind: str, start: Any, indices: Any, updates: Any) -> Any:
    result = start.astype(np.float64)
    indices = np.asarray(indices, np.int64)
    for position in np.ndindex(*indices.shape):
        row = indices[position]
        result[row] = COMBINE[kind](result[row], updates if np.ndim(updates) == 0 else updates[position])
    return result


@pytest.mark.parametrize("kind", COMBINE)
@pytest.mark.parametrize("indices", INDICES, ids=str)
@pytest.mark.parametrize("index_type", [np.int32, np.int64])
def test_against_a_loop(kind: str, indices: Any, index_type: Any) -> None:
    rng = np.random.default_rng(1)
    start = rng.uniform(1, 2, (5, 3)).astype(np.float32)
    where = np.array(indices, index_type)
    updates = rng.uniform(1, 2, (*where.shape, 3)).astype(np.float32)
    v = tf.Variable(start)
    changed = getattr(tf, f"scatter_{kind}")(v, where, updates)
    single = getattr(tf, f"scatter_{kind}")(v, where, 1.5)
    with tf.Session() as session:
        session.run(v.initializer)
        expected = loop(kind, start, indices, updates)
        np.testing.assert_allclose(session.run(changed), expected, rtol=1e-6)
        np.testing.assert_allclose(session.run(single), loop(kind, expected, indices, 1.5), rtol=1e-6)
        assert session.run(v).dtype == np.float32


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.float16, np.float64, np.complex64])
def test_other_dtypes(dtype: Any) -> None:
    v = tf.Variable(np.array([10, 20, 30], dtype))
    with tf.Session() as session:
        session.run(v.initializer)
        result = session.run(tf.scatter_add(v, [0, 0, 2], np.array([1, 2, 3], dtype)))
        assert result.tolist() == [13, 20, 33]
        assert result.dtype == dtype


def test_integers_are_divided_toward_zero() -> None:
    v = tf.Variable([7, -7, 7, -7])
    zero = tf.scatter_div(v, [0], [0])
    with tf.Session() as session:
        session.run(v.initializer)
        assert session.run(tf.scatter_div(v, [0, 1, 2, 3], [2, 2, -2, -2])).tolist() == [3, -3, -3, 3]
        with pytest.raises(tf.errors.InvalidArgumentError, match="zero"):
            session.run(zero)


def test_errors() -> None:
    v = tf.Variable(np.zeros((5, 2), np.float32), name="table")
    scalar = tf.Variable(0.0)
    where, updates = tf.placeholder(tf.int32, None), tf.placeholder(tf.float32, None)
    changed = tf.scatter_add(v, where, updates)
    with pytest.raises(ValueError):
        tf.scatter_add(v, [0, 1], np.zeros((3, 2), np.float32))
    with pytest.raises(TypeError, match="requires a variable"):
        tf.scatter_add(tf.constant([1.0]), [0], [1.0])
    with tf.Session() as session:
        with pytest.raises(tf.errors.FailedPreconditionError, match="table"):
            session.run(changed, {where: [0], updates: [[1, 1]]})
        session.run([v.initializer, scalar.initializer])
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"indices\[1\] = 5 is not in \[0, 5\)"):
            session.run(changed, {where: [0, 5], updates: 1.0})
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"indices\[0,1\] = -1 is not in"):
            session.run(changed, {where: [[0, -1]], updates: 1.0})
        with pytest.raises(tf.errors.InvalidArgumentError, match="updates.shape"):
            session.run(changed, {where: [0, 1], updates: [[1, 1, 1]]})
        with pytest.raises(tf.errors.InvalidArgumentError, match="at least 1-D"):
            session.run(tf.scatter_add(scalar, where, updates), {where: [0], updates: [1]})
        np.testing.assert_array_equal(session.run(v), np.zeros((5, 2)))  # a failed update changes nothing
