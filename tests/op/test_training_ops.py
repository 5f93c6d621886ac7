"""The optimizers' update ops: duplicate rows, dtypes, flags and errors (the rules themselves: tests/train/test_optimizers.py)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import engine as tf
from engine.op.registry import raw

START = np.array([[1.0, -2.0], [3.0, 0.5], [-1.0, 2.0]])
GRADIENTS = np.array([[1.0, 2.0], [0.5, -1.0], [-2.0, 1.0], [1.0, 1.0]])
INDICES = [1, 2, 1, 1]

SLOTS: dict[str, tuple[str, ...]] = {
    "Momentum": ("accum",),
    "Adagrad": ("accum",),
    "RMSProp": ("ms", "mom"),
    "CenteredRMSProp": ("mg", "ms", "mom"),
}
NUMBERS: dict[str, dict[str, float]] = {
    "Momentum": {"lr": 0.1, "momentum": 0.9},
    "Adagrad": {"lr": 0.1},
    "RMSProp": {"lr": 0.1, "rho": 0.9, "momentum": 0.5, "epsilon": 1e-3},
    "CenteredRMSProp": {"lr": 0.1, "rho": 0.9, "momentum": 0.5, "epsilon": 1e-3},
}


def variables(kind: str, start: Any, dtype: str) -> dict[str, Any]:
    found = {"var": tf.Variable(start.astype(dtype), name="var")}
    for slot in SLOTS[kind]:
        # The mean of gradients starts at 0, so that the variance, which is what is left of the squares, is positive.
        found[slot] = tf.Variable(np.full_like(start, 0.0 if slot == "mg" else 1.0).astype(dtype), name=slot)
    return found


def apply(kind: str, found: dict[str, Any], gradient: Any, dtype: str, **more: Any) -> Any:
    numbers = {name: np.array(value, dtype) for name, value in NUMBERS[kind].items()}
    refs = {name: variable._ref() for name, variable in found.items()}
    op = getattr(raw, ("SparseApply" if "indices" in more else "Apply") + kind)
    return op(**refs, **numbers, grad=gradient.astype(dtype), **more)


@pytest.mark.parametrize("kind", SLOTS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_row_that_comes_twice_is_updated_twice(kind: str, dtype: str) -> None:
    """The sparse op on all rows at once, against the dense op on one row after the other."""
    at_once = variables(kind, START, dtype)
    sparse = apply(kind, at_once, GRADIENTS, dtype, indices=INDICES)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        session.run(sparse.op)
        found = {name: session.run(variable) for name, variable in at_once.items()}
    expected = dict.fromkeys(found)
    with tf.Graph().as_default():
        rows = [variables(kind, row, dtype) for row in START]
        gradient = tf.placeholder(dtype, [2])
        numbers = {name: np.array(value, dtype) for name, value in NUMBERS[kind].items()}
        dense = [
            getattr(raw, f"Apply{kind}")(**{k: v._ref() for k, v in row.items()}, **numbers, grad=gradient).op
            for row in rows
        ]
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            for index, g in zip(INDICES, GRADIENTS, strict=True):
                session.run(dense[index], {gradient: g})
            expected = {name: np.stack([session.run(row[name]) for row in rows]) for name in found}
    for name, value in found.items():
        # The sparse rules group the same sums differently, and a variance is a small difference of large numbers.
        np.testing.assert_allclose(
            value, expected[name], rtol=1e-4 if dtype == "float32" else 1e-9, err_msg=name
        )
        assert value.dtype == dtype


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "complex64"])
def test_gradient_descent_in_other_dtypes(dtype: str) -> None:
    wanted = tf.as_dtype(dtype)
    v = tf.Variable(np.array([1, 2]).astype(wanted.np_dtype))
    half = np.array(0.5).astype(wanted.np_dtype)
    changed = raw.ApplyGradientDescent(v._ref(), half, np.array([1, -2]).astype(wanted.np_dtype))
    with tf.Session() as session:
        session.run(v.initializer)
        result = session.run(changed)
        assert result.tolist() == [0.5, 3]
        assert result.dtype == wanted.np_dtype


def test_adagrad_may_leave_its_slot_alone() -> None:
    found = variables("Adagrad", START, "float32")
    changed = apply("Adagrad", found, START, "float32", update_slots=False)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        np.testing.assert_allclose(session.run(changed), START - 0.1 * START, rtol=1e-6)
        np.testing.assert_array_equal(session.run(found["accum"]), np.ones((3, 2)))


def test_adagrad_v2_adds_epsilon_to_the_root() -> None:
    v, accum = tf.Variable([2.0]), tf.Variable([3.0])
    changed = raw.ApplyAdagradV2(v._ref(), accum._ref(), 0.1, 0.5, [1.0])
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        np.testing.assert_allclose(session.run(changed), [2 - 0.1 / 2.5], rtol=1e-6)


def test_adam_with_nesterov_momentum() -> None:
    """Dozat, "Incorporating Nesterov Momentum into Adam" (2016), first step."""
    v, m, s = tf.Variable([1.0]), tf.Variable([0.0]), tf.Variable([0.0])
    changed = raw.ApplyAdam(
        v._ref(), m._ref(), s._ref(), 0.9, 0.999, 0.01, 0.9, 0.999, 1e-8, [2.0], use_nesterov=True
    )
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        rate = 0.01 * np.sqrt(1 - 0.999) / (1 - 0.9)
        mean, square = 0.1 * 2.0, 0.001 * 4.0
        np.testing.assert_allclose(
            session.run(changed), [1 - rate * (0.9 * mean + 0.1 * 2.0) / np.sqrt(square)], rtol=1e-4
        )


def test_scalars() -> None:
    v = tf.Variable(1.0)
    changed = raw.ApplyGradientDescent(v._ref(), 0.5, 3.0)
    with tf.Session() as session:
        session.run(v.initializer)
        assert session.run(changed) == -0.5


def test_shapes_are_checked_while_building() -> None:
    v, accum = tf.Variable([1.0, 2.0]), tf.Variable([1.0, 2.0, 3.0])
    with pytest.raises(ValueError):
        raw.ApplyGradientDescent(v._ref(), 0.1, [1.0, 2.0, 3.0])
    with pytest.raises(ValueError):
        raw.ApplyMomentum(v._ref(), accum._ref(), 0.1, [1.0, 2.0], 0.9)
    with pytest.raises(ValueError):
        raw.ApplyGradientDescent(v._ref(), [0.1], [1.0, 2.0])


def test_errors_while_running_name_what_is_wrong() -> None:
    v, accum = tf.Variable([1.0, 2.0], name="weights"), tf.Variable([1.0, 2.0], name="slot")
    number, gradient, rows = (tf.placeholder(tf.float32, None) for _ in range(3))
    indices = tf.placeholder(tf.int32, None)
    dense = raw.ApplyMomentum(v._ref(), accum._ref(), number, gradient, 0.9)
    sparse = raw.SparseApplyMomentum(v._ref(), accum._ref(), 0.1, rows, indices, 0.9)
    with tf.Session() as session:
        session.run(v.initializer)
        with pytest.raises(tf.errors.FailedPreconditionError, match="slot"):
            session.run(dense, {number: 1, gradient: [1, 1]})
        session.run(accum.initializer)
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"lr is not a scalar: \[1\]"):
            session.run(dense, {number: [1], gradient: [1, 1]})
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"same shape\[2\] \[3\]"):
            session.run(dense, {number: 1, gradient: [1, 1, 1]})
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"indices\[0\] = 2 is not in \[0, 2\)"):
            session.run(sparse, {rows: [1], indices: [2]})
        with pytest.raises(tf.errors.InvalidArgumentError, match="one row for each index"):
            session.run(sparse, {rows: [1, 2], indices: [1]})
        np.testing.assert_array_equal(session.run(v), [1, 2])
