"""Random graphs with random wishes about devices, for hypothesis."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

import engine as tf
from engine.passes.build import Builder
from engine.passes.stage import Stage

WISHES = (
    "",
    "",
    "",
    "/cpu:0",
    "/cpu:1",
    "/gpu:0",
    "/device:GPU:*",
    "/device:CPU:*",
    "/job:localhost",
    "/gpu:7",
)
KINDS = ("add", "exp", "matmul", "variable", "update", "text", "shape", "constant", "random", "where")


@st.composite
def constrained(draw: Any, most: int = 14) -> Stage:
    """A graph of variables, updates, host-only ops and others, each with a wish, some colocated with others."""
    with tf.Graph().as_default() as graph:
        start = tf.placeholder(tf.float32, [2, 2], name="start")
        tensors, variables = [start], []
        for number in range(draw(st.integers(1, most))):
            kind = draw(st.sampled_from(KINDS))
            a, b = draw(st.sampled_from(tensors)), draw(st.sampled_from(tensors))
            wish = draw(st.sampled_from(WISHES))
            beside = draw(st.sampled_from(tensors)) if draw(st.integers(0, 5)) == 0 else None
            with tf.device(wish or None):
                made = _node(kind, a, b, variables, f"{kind}{number}")
            if beside is not None:
                made.op.attrs["_class"] = (f"loc:@{beside.op.name}",)
            if made.dtype == tf.float32:
                tensors.append(made)
    return Builder(graph).stage()


def _node(kind: str, a: Any, b: Any, variables: list[Any], name: str) -> Any:
    match kind:
        case "add":
            return tf.add(a, b, name=name)
        case "exp":
            return tf.exp(a, name=name)
        case "matmul":
            return tf.matmul(a, b, name=name)
        case "text":
            return tf.as_string(a, name=name)
        case "shape":
            return tf.raw_ops.Shape(a, name=name)
        case "constant":
            return tf.constant([[1.0, 2.0], [3.0, 4.0]], name=name)
        case "random":
            return tf.random_uniform([2, 2], name=name)
        case "where":
            return tf.cond(tf.reduce_sum(a) > 0, lambda: tf.exp(a), lambda: tf.tanh(b), name=name)
        case "update" if variables:
            return tf.assign_add(variables[-1], a, name=name)
        case _:
            variables.append(tf.Variable([[1.0, 2.0], [3.0, 4.0]], name=name))
            return variables[-1].value()


@st.composite
def small(draw: Any, most: int = 8) -> Stage:
    """A graph of at most `most` nodes that take time, reading each other at random; constants beside them."""
    with tf.Graph().as_default() as graph:
        made: list[Any] = []
        for number in range(draw(st.integers(1, most))):
            sources = draw(st.lists(st.sampled_from(made), max_size=3, unique=True)) if made else []
            waits = draw(st.lists(st.sampled_from(made), max_size=1)) if made else []
            inputs = sources or [tf.constant(1.0, name=f"c{number}")]
            with tf.control_dependencies([each.op for each in waits]):
                made.append(
                    tf.add_n(inputs, name=f"n{number}")
                    if len(inputs) > 1
                    else tf.exp(inputs[0], name=f"n{number}")
                )
    return Builder(graph).stage()
