"""Gradients that the user writes, against TensorFlow: values, nodes, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gradient_programs import PROGRAMS
from gradient_stored import stored_graphs, stored_values

import engine as tf
from engine.function import Defun

# Programs whose nodes are not TensorFlow 2.21's, and why.
OTHER_NODES = {
    "custom_with_variables": "TensorFlow's are resource variables, the engine has variables with references",
    "recomputed": "TensorFlow differentiates with a tape and waits by adding a zero, as on devices without control edges",
    "sparse_branches": "the gradient's constants have other names",
    "sparse_gradients": "TensorFlow reads constant shapes of sparse tensors while building, and makes constants of them",
    "sparse_loop_variable": "the same",
    "sparse_moved": "the same",
    "matrices": "TensorFlow has newer ops for diagonals",
    "clipped": "constants have other names",
    "looked_up": "TensorFlow has newer ops for stitching",
    "normalized": "constants have other names",
    "sums_of_products": "TensorFlow has an op for it since 2.2",
    "switched": "TensorFlow makes a Case op with functions of it",
}


@pytest.fixture(autouse=True)
def _graph() -> Any:
    with tf.Graph().as_default():
        yield


@pytest.mark.parametrize("name", PROGRAMS)
def test_values_are_tensorflows(name: str) -> None:
    fetches, feeds = PROGRAMS[name](tf, Defun)
    dense = [tf.convert_to_tensor(each) for each in fetches]
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        found = session.run(dense, feeds)
    for value, answer in zip(found, stored_values(name), strict=True):
        np.testing.assert_allclose(value, answer, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", PROGRAMS)
def test_nodes_are_tensorflows(name: str) -> None:
    PROGRAMS[name](tf, Defun)
    ours = {node.name: [node.op, list(node.input)] for node in tf.get_default_graph().as_graph_def().node}
    theirs = {node: [op, inputs] for node, op, inputs in stored_graphs()[name]["nodes"]}
    assert (ours == theirs) == (name not in OTHER_NODES)
    if name not in OTHER_NODES:
        assert list(ours) == [node for node, _, _ in stored_graphs()[name]["nodes"]]


def run(fetches: Any, feeds: Any = None) -> Any:
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        return session.run(fetches, feeds)


def test_variables_in_a_loop() -> None:
    @tf.custom_gradient
    def layer(a: Any) -> Any:
        w = tf.get_variable("w", [2], initializer=tf.constant_initializer(0.5))

        def grad(dy: Any, variables: Any) -> Any:
            assert variables == [w]
            return dy * w, [dy * a]

        return a * w, grad

    x = tf.constant([2.0, 3.0])
    y = tf.while_loop(
        lambda i, v: i < 3,
        lambda i, v: (i + 1, layer(v)),
        [0, x],
    )[1]
    of_x, of_w = tf.gradients(y, [x, tf.trainable_variables()[0]])
    found = run([y, of_x, of_w])
    np.testing.assert_allclose(found[0], [0.25, 0.375])  # x w³
    np.testing.assert_allclose(found[1], [0.125, 0.125])
    np.testing.assert_allclose(found[2], [2 * 3 * 0.25, 3 * 3 * 0.25])


def test_sparse_arguments_and_results() -> None:
    @tf.custom_gradient
    def scaled(sparse: Any, factor: Any) -> Any:
        def grad(d: Any) -> Any:
            assert isinstance(d, tf.SparseTensor)
            return tf.SparseTensor(d.indices, d.values * 10.0, d.dense_shape), tf.constant(7.0)

        return tf.SparseTensor(sparse.indices, sparse.values * factor, sparse.dense_shape), grad

    values, factor = tf.constant([1.0, 2.0]), tf.constant(3.0)
    found = scaled(tf.SparseTensor([[0], [2]], values, [4]), factor)
    dense = tf.sparse.to_dense(found)
    result, of_values, of_factor = run([dense, *tf.gradients(dense, [values, factor])])
    assert result.tolist() == [3, 0, 6, 0]
    assert of_values.tolist() == [10, 10] and of_factor == 7


def test_a_recomputed_block_runs_twice_where_its_gradient_is_asked_for() -> None:
    seen: list[str] = []

    @tf.recompute_grad
    def block(a: Any) -> Any:
        with tf.control_dependencies([tf.py_func(lambda v: seen.append("block") or v, [a], tf.float32)]):
            return tf.identity(a) * a

    x = tf.constant(3.0)
    y = block(x)
    assert run(y) == 9 and len(seen) == 1
    assert run([y, tf.gradients(y * 2.0, x)[0]]) == [9, 12]
    assert len(seen) == 3


def test_what_is_refused() -> None:
    x = tf.constant(1.0)

    @tf.custom_gradient
    def uses_a_variable(a: Any) -> Any:
        return a * tf.get_variable("w", []), lambda dy: dy

    with pytest.raises(
        TypeError, match="must accept keyword argument 'variables', since function uses variables:.*'w:0'"
    ):
        uses_a_variable(x)

    with pytest.raises(
        ValueError, match="keywords arguments only when eager execution is enabled: pass a by position"
    ):
        tf.custom_gradient(lambda a: (a, lambda dy: dy))(a=x)
    with pytest.raises(TypeError, match=r"returns \(result, grad_fn\)"):
        tf.custom_gradient(lambda a: a)(x)

    @tf.custom_gradient
    def too_few(a: Any, b: Any) -> Any:
        return a * b, lambda dy: dy

    with pytest.raises(ValueError, match="returned 1 gradients for the function's 2 arguments"):
        tf.gradients(too_few(x, x), x)

    @tf.custom_gradient
    def forgets_a_variable(a: Any) -> Any:
        return a * tf.get_variable("v", []), lambda dy, variables: (dy, [])

    with pytest.raises(ValueError, match="Must return gradient for each variable"):
        tf.gradients(forgets_a_variable(x), x)


def test_it_may_be_called_before_it_decorates() -> None:
    @tf.custom_gradient()
    def doubled(a: Any) -> Any:
        return a * 2.0, lambda dy: dy * 5.0

    x = tf.constant(1.0)
    assert run(tf.gradients(doubled(x), x)) == [5]
