"""Programs for every argument of `gradients` and `hessians` in and around control flow.

Each takes a module with TensorFlow 1's interface and gives (what to fetch, what to feed).  The maker of
`tests/golden/gradient_options.npz` builds them with TensorFlow, the test with the engine.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

Program = Callable[[Any], tuple[list[Any], dict[Any, Any]]]

X, Z = np.array([0.3, -0.7], np.float32), np.array([0.9, 0.4], np.float32)


def _inputs(tf: Any) -> tuple[Any, Any, dict[Any, Any]]:
    x, z = tf.placeholder(tf.float32, [2], name="x"), tf.placeholder(tf.float32, [2], name="z")
    return x, z, {x: X, z: Z}


def _loop(tf: Any, times: Any, body: Any, start: Any) -> Any:
    return tf.while_loop(lambda i, v: i < times, lambda i, v: (i + 1, body(i, v)), [0, start])[1]


# What is differentiated: each uses x and z more than once, so that gradients meet inside and outside of control flow.


def _a_loop(tf: Any, x: Any, z: Any) -> Any:
    return _loop(tf, 3, lambda i, v: tf.sin(v) * z + v * v * z + z, x) + x * z


def _a_cond(tf: Any, x: Any, z: Any) -> Any:
    return tf.cond(tf.reduce_sum(x) < 0.0, lambda: x * z * tf.sin(x) + z, lambda: z - x) * x


def _a_cond_in_a_loop(tf: Any, x: Any, z: Any) -> Any:
    def body(i: Any, v: Any) -> Any:
        return tf.cond(tf.equal(i % 2, 0), lambda: tf.sin(v) * z + v * z, lambda: v * v + x * z) + v

    return _loop(tf, 4, body, x)


def _a_loop_in_a_cond(tf: Any, x: Any, z: Any) -> Any:
    return tf.cond(
        tf.reduce_sum(x) < 0.0,
        lambda: _loop(tf, 2, lambda i, v: v * z + tf.sin(v) * z * x, x),
        lambda: x * z,
    )


def _a_loop_in_a_loop(tf: Any, x: Any, z: Any) -> Any:
    return _loop(tf, 3, lambda i, v: _loop(tf, i, lambda j, w: tf.tanh(w) * z + w * z, v) + v * z, x)


SHAPES = [_a_loop, _a_cond, _a_cond_in_a_loop, _a_loop_in_a_cond, _a_loop_in_a_loop]


# How.


def _plain(tf: Any, y: Any, x: Any, z: Any, options: dict[str, Any]) -> list[Any]:
    return list(tf.gradients(y, [x, z], **options))


def _weighted(tf: Any, y: Any, x: Any, z: Any, options: dict[str, Any]) -> list[Any]:
    return list(tf.gradients([y, y * x], [x, z], grad_ys=[tf.constant([2.0, -1.0]), tf.sin(z)], **options))


def _stopped_at_an_invariant(tf: Any, y: Any, x: Any, z: Any, options: dict[str, Any]) -> list[Any]:
    return list(tf.gradients(y, [x, z], stop_gradients=[z], **options))


def _stopped_at_the_result(tf: Any, y: Any, x: Any, z: Any, options: dict[str, Any]) -> list[Any]:
    return list(tf.gradients(y * x + z, [x, z], stop_gradients=[y], **options))


def _unconnected(tf: Any, y: Any, x: Any, z: Any, options: dict[str, Any]) -> list[Any]:
    apart = tf.constant([[1.0], [2.0]])
    return list(tf.gradients(y, [x, apart], unconnected_gradients="zero", **options))


WAYS = [_plain, _weighted, _stopped_at_an_invariant, _stopped_at_the_result, _unconnected]
OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "gated": {"gate_gradients": True},
    "tree": {"aggregation_method": 1},
    "accumulate": {"aggregation_method": 2},
    "colocated": {"colocate_gradients_with_ops": True, "gate_gradients": True},
}


def _gradient_program(shape: Any, way: Any, options: dict[str, Any]) -> Program:
    def build(tf: Any) -> tuple[list[Any], dict[Any, Any]]:
        x, z, feeds = _inputs(tf)
        y = shape(tf, x, z)
        return [y, *way(tf, y, x, z, options)], feeds

    return build


# Hessians of what TensorFlow can: no loops.


def _of_a_vector(tf: Any) -> tuple[list[Any], dict[Any, Any]]:
    x, z, feeds = _inputs(tf)
    return tf.hessians(tf.reduce_sum(tf.sin(x) * z * x), x), feeds


def _of_a_scalar(tf: Any) -> tuple[list[Any], dict[Any, Any]]:
    x = tf.placeholder(tf.float32, [], name="x")
    return tf.hessians(x * x * x, [x]), {x: np.float32(1.5)}


def _of_a_matrix(tf: Any) -> tuple[list[Any], dict[Any, Any]]:
    x = tf.placeholder(tf.float32, [3, 2], name="x")
    values = np.array([[0.3, -0.7], [0.5, 1.1], [0.2, 0.1]], np.float32)
    return tf.hessians(
        [tf.reduce_sum(tf.matmul(x, x, transpose_b=True)), tf.square(tf.reduce_sum(x * x))], x
    ), {x: values}


def _of_two(tf: Any) -> tuple[list[Any], dict[Any, Any]]:
    x, z, feeds = _inputs(tf)
    y = tf.reduce_sum(x * x * z) * tf.reduce_sum(tf.exp(z))
    return tf.hessians(y, [x, z], gate_gradients=True, aggregation_method=1), feeds


def _through_a_cond(tf: Any) -> tuple[list[Any], dict[Any, Any]]:
    x, z, feeds = _inputs(tf)
    y = tf.cond(
        tf.reduce_sum(x) < 0.0, lambda: tf.square(tf.reduce_sum(tf.sin(x) * z)), lambda: tf.reduce_sum(x * x)
    )
    return tf.hessians(y, x, colocate_gradients_with_ops=True), feeds


HESSIANS: list[Program] = [_of_a_vector, _of_a_scalar, _of_a_matrix, _of_two, _through_a_cond]

PROGRAMS: dict[str, Program] = {
    f"{shape.__name__}{way.__name__}_{name}": _gradient_program(shape, way, options)
    for (shape, way), (name, options) in itertools.product(itertools.product(SHAPES, WAYS), OPTIONS.items())
} | {f"hessian{build.__name__}": build for build in HESSIANS}
