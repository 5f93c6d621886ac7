"""Optimizers: against loops in NumPy float64 over many steps, and their nodes against TensorFlow's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optimizer_programs import PROGRAMS, nodes

import engine as tf

Array = np.ndarray[Any, Any]

GRAPHS = json.loads(Path(__file__).with_name("optimizer_graphs.json").read_text())


@pytest.mark.parametrize("name", PROGRAMS)
def test_nodes_are_tensorflows(name: str) -> None:
    PROGRAMS[name](tf)
    ours = nodes(tf.get_default_graph())
    assert [node[0] for node in ours] == [node[0] for node in GRAPHS[name]]
    for mine, theirs in zip(ours, GRAPHS[name], strict=True):
        # What the gradient of a gather looks like inside is not what this test is about.
        assert mine[:2] == theirs[:2]
        assert mine[2] == theirs[2], mine[0]
        assert mine[3] == theirs[3], mine[0]


# Each rule as its paper or TensorFlow's documentation has it: one function from (variable, gradient, state, step) to variable.


def gradient_descent(x: Array, g: Array, state: dict[str, Any], step: int) -> Array:
    return x - 0.1 * g


def momentum(x: Array, g: Array, state: dict[str, Any], step: int) -> Array:
    state["a"] = 0.9 * state.get("a", 0.0) + g
    return x - 0.05 * state["a"]


def nesterov(x: Array, g: Array, state: dict[str, Any], step: int) -> Array:
    state["a"] = 0.9 * state.get("a", 0.0) + g
    return x - 0.05 * (g + 0.9 * state["a"])


def adam(x: Array, g: Array, state: dict[str, Any], step: int) -> Array:
    state["m"] = 0.9 * state.get("m", 0.0) + 0.1 * g
    state["v"] = 0.999 * state.get("v", 0.0) + 0.001 * g * g
    rate = 0.01 * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
    return x - rate * state["m"] / (np.sqrt(state["v"]) + 1e-8)


def adagrad(x: Array, g: Array, state: dict[str, Any], step: int) -> Array:
    state["s"] = state.get("s", 0.1) + g * g
    return x - 0.1 * g / np.sqrt(state["s"])


def rms_prop(x: Array, g: Array, state: dict[str, Any], step: int) -> Array:
    state["s"] = 0.9 * state.get("s", 1.0) + 0.1 * g * g
    state["a"] = 0.5 * state.get("a", 0.0) + 0.01 * g / np.sqrt(state["s"] + 1e-10)
    return x - state["a"]


def centered_rms_prop(x: Array, g: Array, state: dict[str, Any], step: int) -> Array:
    state["s"] = 0.9 * state.get("s", 1.0) + 0.1 * g * g
    state["m"] = 0.9 * state.get("m", 0.0) + 0.1 * g
    state["a"] = 0.5 * state.get("a", 0.0) + 0.01 * g / np.sqrt(state["s"] - state["m"] ** 2 + 1e-10)
    return x - state["a"]


def decayed(x: Array, g: Array, state: dict[str, Any], step: int) -> Array:
    return x - 0.1 * 0.8 ** ((step - 1) // 4) * g


RULES: dict[str, tuple[Callable[[], Any], Callable[[Array, Array, dict[str, Any], int], Array]]] = {
    "gradient_descent": (lambda: tf.train.GradientDescentOptimizer(0.1), gradient_descent),
    "momentum": (lambda: tf.train.MomentumOptimizer(0.05, 0.9), momentum),
    "nesterov": (lambda: tf.train.MomentumOptimizer(0.05, 0.9, use_nesterov=True), nesterov),
    "adam": (lambda: tf.train.AdamOptimizer(0.01), adam),
    "adagrad": (lambda: tf.train.AdagradOptimizer(0.1), adagrad),
    "rms_prop": (lambda: tf.train.RMSPropOptimizer(0.01, momentum=0.5), rms_prop),
    "centered_rms_prop": (
        lambda: tf.train.RMSPropOptimizer(0.01, momentum=0.5, centered=True),
        centered_rms_prop,
    ),
    "decayed": (
        lambda: tf.train.GradientDescentOptimizer(
            tf.train.exponential_decay(0.1, tf.train.get_or_create_global_step(), 4, 0.8, staircase=True)
        ),
        decayed,
    ),
}

RNG = np.random.default_rng(0)
INPUTS, TARGETS = RNG.normal(size=(20, 6)), RNG.normal(size=(20, 3))
START = RNG.normal(size=(6, 3))


def gradient(weights: Array) -> Array:
    """Of the mean over the examples of sum((x w - t)^2), by hand."""
    return 2 * INPUTS.T @ (INPUTS @ weights - TARGETS) / len(INPUTS)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-6), ("float32", 2e-4)])
def test_a_hundred_steps_against_a_float64_loop(name: str, dtype: str, rtol: float) -> None:
    # The hyperparameters are float32 in a graph, whatever the variable's dtype: hence no more than 1e-6.
    make, rule = RULES[name]
    weights = tf.Variable(START.astype(dtype))
    x, t = (tf.constant(array.astype(dtype)) for array in (INPUTS, TARGETS))
    loss = tf.reduce_mean(tf.reduce_sum(tf.square(tf.matmul(x, weights) - t), 1))
    step = tf.train.get_or_create_global_step()
    train = make().minimize(loss, global_step=step)
    expected, state = START, {}
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for i in range(1, 101):
            session.run(train)
            expected = rule(expected, gradient(expected), state, i)
            if i in (1, 2, 10, 100):
                np.testing.assert_allclose(session.run(weights), expected, rtol=rtol, atol=rtol)
        assert session.run(step) == 100
        assert session.run(weights).dtype == dtype


@pytest.mark.parametrize("name", [name for name in RULES if name not in ("adam", "decayed")])
def test_sparse_gradients_change_only_their_rows_and_as_dense_ones_would(name: str) -> None:
    make, rule = RULES[name]
    table = tf.Variable(START)
    ids = tf.placeholder(tf.int32, [None])
    train = make().minimize(tf.reduce_sum(tf.square(tf.gather(table, ids) - 1.0)))
    expected = START.copy()
    states: dict[int, dict[str, Any]] = {}
    steps = [[0, 3, 3], [3], [1, 0, 1, 1], [5, 3, 0]]
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for rows in steps:
            session.run(train, {ids: rows})
            for row in set(rows):
                g = rows.count(row) * 2 * (expected[row] - 1)
                expected[row] = rule(expected[row], g, states.setdefault(row, {}), 0)
        np.testing.assert_allclose(session.run(table), expected, rtol=1e-6, atol=1e-6)


def test_adam_moves_every_row_for_a_sparse_gradient() -> None:
    table = tf.Variable(START)
    ids = tf.placeholder(tf.int32, [None])
    train = tf.train.AdamOptimizer(0.01).minimize(tf.reduce_sum(tf.square(tf.gather(table, ids) - 1.0)))
    expected, state = START.copy(), {}
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for i, rows in enumerate([[0, 3, 3], [3], [1, 0, 1, 1], [5, 3, 0]], 1):
            session.run(train, {ids: rows})
            g = np.array([[rows.count(row)] for row in range(len(START))]) * 2 * (expected - 1)
            expected = adam(expected, g, state, i)
        np.testing.assert_allclose(session.run(table), expected, rtol=1e-6, atol=1e-6)


# The base class.


def test_slots() -> None:
    weights = tf.Variable(tf.zeros([2, 3]), name="weights")
    optimizer = tf.train.AdamOptimizer()
    optimizer.minimize(tf.reduce_sum(weights * weights))
    assert optimizer.get_slot_names() == ["m", "v"]
    assert optimizer.get_slot(weights, "m").name == "weights/Adam:0"
    assert optimizer.get_slot(weights, "v").name == "weights/Adam_1:0"
    assert optimizer.get_slot(weights, "other") is None
    names = ["beta1_power:0", "beta2_power:0", "weights/Adam:0", "weights/Adam_1:0"]
    assert [variable.name for variable in optimizer.variables()] == names
    assert tf.trainable_variables() == [weights]
    assert tf.get_collection(tf.GraphKeys.TRAIN_OP)[0].name == "Adam"


def test_applying_twice_shares_the_slots() -> None:
    weights = tf.Variable([1.0])
    optimizer = tf.train.MomentumOptimizer(0.1, 0.9)
    first = optimizer.minimize(weights[0] ** 2)
    count = len(tf.global_variables())
    second = optimizer.minimize(weights[0] ** 4)
    assert len(tf.global_variables()) == count
    assert (first.name, second.name) == ("Momentum", "Momentum_1")


def test_gradients_may_be_changed_in_between() -> None:
    weights = tf.Variable([3.0, -4.0])
    optimizer = tf.train.GradientDescentOptimizer(0.5)
    pairs = optimizer.compute_gradients(tf.reduce_sum(weights * weights) / 2)
    assert [variable for _, variable in pairs] == [weights]
    train = optimizer.apply_gradients([(tf.clip_by_value(g, -1.0, 1.0), v) for g, v in pairs])
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        session.run(train)
        np.testing.assert_allclose(session.run(weights), [2.5, -3.5])


@pytest.mark.parametrize("gate", ["GATE_NONE", "GATE_OP", "GATE_GRAPH"])
def test_gating_changes_nothing_but_the_order(gate: str) -> None:
    a, b = tf.Variable(2.0), tf.Variable(3.0)
    optimizer = tf.train.GradientDescentOptimizer(0.1)
    train = optimizer.minimize(a * b, gate_gradients=getattr(tf.train.Optimizer, gate))
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        session.run(train)
        np.testing.assert_allclose(session.run([a, b]), [1.7, 2.8], rtol=1e-6)


def test_hyperparameters_may_be_tensors_and_functions() -> None:
    rate = tf.placeholder_with_default(0.5, [])
    weights = tf.Variable(1.0)
    train = tf.train.MomentumOptimizer(rate, lambda: 0.0).minimize(weights * 2)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        session.run(train)
        session.run(train, {rate: 10.0})
        assert session.run(weights) == 1 - 0.5 * 2 - 10 * 2


def test_constraints_apply_after_the_update() -> None:
    weights = tf.Variable([1.0, -1.0], constraint=lambda v: tf.maximum(v, 0.0))
    train = tf.train.GradientDescentOptimizer(0.1).minimize(tf.reduce_sum(weights))
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        session.run(train)
        np.testing.assert_allclose(session.run(weights), [0.9, 0.0])


def test_refusals() -> None:
    weights = tf.Variable(1.0)
    integer = tf.Variable(1)
    optimizer = tf.train.GradientDescentOptimizer(0.1)
    with pytest.raises(ValueError, match="No gradients provided for any variable"):
        optimizer.minimize(tf.constant(1.0), var_list=[weights])
    with pytest.raises(ValueError, match="No variables provided"):
        optimizer.apply_gradients([])
    with pytest.raises(ValueError, match="Invalid type tf.int32"):
        optimizer.minimize(integer * 2)
    with pytest.raises(TypeError, match="not a tf.Variable"):
        optimizer.minimize(weights * 2, var_list=["weights"])
    with pytest.raises(ValueError, match="gate_gradients"):
        optimizer.minimize(weights * 2, gate_gradients=7)
    with pytest.raises(ValueError, match="must be positive"):
        tf.train.AdagradOptimizer(0.1, initial_accumulator_value=0.0)
    with tf.Graph().as_default(), pytest.raises(ValueError, match="No variables to optimize"):
        optimizer.minimize(tf.constant(1.0))


def test_an_uninitialized_slot_is_named() -> None:
    weights = tf.Variable(1.0, name="weights")
    train = tf.train.AdamOptimizer().minimize(weights * weights)
    with tf.Session() as session:
        session.run(weights.initializer)
        with pytest.raises(tf.errors.FailedPreconditionError, match="weights/Adam|beta._power"):
            session.run(train)


# The global step.


def test_global_step() -> None:
    assert tf.train.get_global_step() is None
    step = tf.train.create_global_step()
    assert step.name == "global_step:0"
    assert step.dtype.base_dtype == tf.int64
    assert tf.train.get_global_step() is step
    assert tf.train.get_or_create_global_step() is step
    assert step not in tf.trainable_variables()
    with pytest.raises(ValueError, match="already exists"):
        tf.train.create_global_step()
    with tf.Session() as session:
        session.run(step.initializer)
        assert tf.train.global_step(session, step) == 0


def test_a_global_step_found_by_name_must_be_an_integer_scalar() -> None:
    tf.Variable(0.5, name="global_step")
    with pytest.raises(TypeError, match="integer"):
        tf.train.get_global_step()
