"""A program with loops in branches and branches in loops, variables and collections, for any module like TensorFlow 1."""

from __future__ import annotations

from typing import Any

FEEDS = {"x:0": [0.3, -0.5, 0.8], "p:0": True}


def build(tf: Any) -> None:
    """Build it in the default graph."""
    x = tf.placeholder(tf.float32, [3], name="x")
    p = tf.placeholder(tf.bool, [], name="p")
    v = tf.Variable([1.0, 2.0, 3.0], name="v")
    w = tf.Variable([0.5, 0.5, 0.5], name="w", trainable=False)

    def body(i: Any, a: Any) -> Any:
        return i + 1, tf.cond(p, lambda: tf.sin(a) * v, lambda: a + x)

    y = tf.while_loop(lambda i, a: i < 3, body, [0, x], parallel_iterations=4)[1]
    z = tf.cond(
        p, lambda: tf.while_loop(lambda i, a: i < 2, lambda i, a: (i + 1, a * x), [0, y])[1], lambda: y * w
    )
    result = tf.reduce_sum(z, name="result")
    tf.add_to_collection("results", result)
    tf.add_to_collection("operations", result.op)
    tf.add_to_collection("numbers", 3)
    tf.add_to_collection("rates", 0.25)
    tf.add_to_collection("texts", "a text")


def gradients(tf: Any, graph: Any) -> list[Any]:
    """The gradients of the result by x and by the variable v, made now in `graph`."""
    found: list[Any] = tf.gradients(
        graph.get_tensor_by_name("result:0"),
        [graph.get_tensor_by_name("x:0"), graph.get_tensor_by_name("v:0")],
    )
    return found


def answers(tf: Any, session: Any, grads: list[Any]) -> list[Any]:
    """[result, gradients] for p true and p false, after the variables have been initialized."""
    session.run(tf.global_variables_initializer())
    found = []
    for p in (True, False):
        found.extend(session.run(["result:0", *grads], {**FEEDS, "p:0": p}))
    return found
