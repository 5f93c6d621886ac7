"""Small programs with optimizers, written for `tf` whoever that is: the engine, or TensorFlow's compat.v1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "gradient_descent": lambda tf: tf.train.GradientDescentOptimizer(0.1),
    "momentum": lambda tf: tf.train.MomentumOptimizer(0.1, 0.9),
    "adam": lambda tf: tf.train.AdamOptimizer(),
    "adagrad": lambda tf: tf.train.AdagradOptimizer(0.1),
    "rms_prop": lambda tf: tf.train.RMSPropOptimizer(0.1),
    "centered_rms_prop": lambda tf: tf.train.RMSPropOptimizer(0.1, centered=True, momentum=0.5),
    "decayed": lambda tf: tf.train.GradientDescentOptimizer(
        tf.train.exponential_decay(0.1, tf.train.get_global_step(), 10, 0.9, staircase=True)
    ),
}


def _dense(make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def program(tf: Any) -> None:
        x = tf.placeholder(tf.float32, [None, 3], name="x")
        weights = tf.Variable(np.ones((3, 2), np.float32), name="weights")
        bias = tf.Variable(tf.zeros([2]), name="bias")
        loss = tf.reduce_sum(tf.square(tf.matmul(x, weights) + bias), name="loss")
        step = tf.train.get_or_create_global_step()
        make(tf).minimize(loss, global_step=step)
        tf.global_variables_initializer()

    return program


def _sparse(make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def program(tf: Any) -> None:
        table = tf.Variable(np.ones((5, 2), np.float32), name="table")
        rows = tf.gather(table, tf.placeholder(tf.int32, [None], name="ids"))
        make(tf).minimize(tf.reduce_sum(tf.square(rows)))

    return program


def _scopes(tf: Any) -> None:
    """Two optimizers of one class, name scopes and variable scopes around them."""
    weights = tf.get_variable("weights", [2, 2])
    loss = tf.reduce_sum(tf.square(weights), name="loss")
    optimizer = tf.train.AdamOptimizer(0.1)
    optimizer.apply_gradients([(2.0 * g, v) for g, v in optimizer.compute_gradients(loss)], name="apply")
    with tf.name_scope("names"):
        tf.train.MomentumOptimizer(0.1, 0.9).minimize(loss)
    with tf.variable_scope("variables"):
        tf.train.AdamOptimizer(0.1).minimize(loss, name="train")


PROGRAMS: dict[str, Callable[[Any], Any]] = {
    **{name: _dense(make) for name, make in OPTIMIZERS.items()},
    **{f"sparse {name}": _sparse(make) for name, make in OPTIMIZERS.items() if name != "decayed"},
    "scopes": _scopes,
}


def nodes(graph: Any) -> list[list[Any]]:
    """Every node that is no gradient's: name, op, inputs that are no gradients, colocation."""
    found = []
    for node in graph.as_graph_def().node:
        if "gradients" in node.name:
            continue
        inputs = [each for each in node.input if "gradients" not in each]
        data = [each for each in inputs if not each.startswith("^")]
        beside = sorted(each.decode() for each in node.attr["_class"].list.s) if "_class" in node.attr else []
        if any("gradients" in each for each in beside):
            continue
        found.append(
            [node.name, node.op, data + sorted(each for each in inputs if each.startswith("^")), beside]
        )
    return sorted(found)
