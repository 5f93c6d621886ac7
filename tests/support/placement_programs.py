"""Programs over two CPUs, written against `tf` (the engine's module or TensorFlow's `compat.v1`); some cannot be placed.

Each is a function of the module that builds into the default graph and returns (fetches, feeds); `SOFT` names those that run with
`allow_soft_placement`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Program = Callable[[Any], tuple[list[Any], dict[Any, Any]]]
SOFT = {"soft_gpu", "soft_number", "soft_colocated", "soft_reference"}


def shapes_and_generators(tf: Any) -> tuple[list[Any], dict[Any, Any]]:
    with tf.device("/cpu:1"):
        x = tf.placeholder(tf.float32, [None, 3], name="x")
        y = tf.add(x, 1.0, name="y")
    shape = tf.shape(y, name="shape")
    size = tf.size(y, name="size")
    rank = tf.identity(tf.rank(y, name="rank"), name="rank_read")
    only = tf.constant([2, 2], name="only_there")
    with tf.device("/cpu:1"):
        there = tf.add(shape, only, name="there")
    both = tf.constant(7, name="both_places")
    here = tf.add(size, both, name="here")
    with tf.device("/device:CPU:1"):
        away = tf.add(size, both, name="away")
    return [there, here, away, rank], {x: np.ones([2, 3], np.float32)}


def device_functions(tf: Any) -> tuple[list[Any], dict[Any, Any]]:
    def by_type(op: Any) -> str:
        return "/cpu:1" if op.type == "MatMul" else "/cpu:0"

    x = tf.placeholder(tf.float32, [4, 4], name="x")
    with tf.device(by_type):
        a = tf.matmul(x, x, name="a")
        b = tf.tanh(a, name="b")
        with tf.device("/cpu:1"):
            c = tf.exp(b, name="c")
        with tf.device(None):
            d = tf.exp(c, name="d")
    with tf.device("/job:localhost/task:0"):
        e = tf.sqrt(d, name="e")
    return [e], {x: np.eye(4, dtype=np.float32)}


def training(tf: Any) -> tuple[list[Any], dict[Any, Any]]:
    x = tf.placeholder(tf.float32, [8, 4], name="x")
    with tf.device("/cpu:0"):
        w1 = tf.Variable(np.ones([4, 5], np.float32), name="w1", use_resource=False)
    with tf.device("/cpu:1"):
        w2 = tf.Variable(np.ones([5, 2], np.float32), name="w2", use_resource=False)
        hidden = tf.tanh(tf.matmul(x, w1), name="hidden")
    loss = tf.reduce_sum(tf.matmul(hidden, w2), name="loss")
    train = tf.train.AdamOptimizer(0.1).minimize(loss, colocate_gradients_with_ops=True)
    return [train, loss], {x: np.ones([8, 4], np.float32)}


def momentum(tf: Any) -> tuple[list[Any], dict[Any, Any]]:
    with tf.device("/cpu:1"):
        w = tf.Variable(np.ones([4], np.float32), name="w", use_resource=False)
    loss = tf.reduce_sum(tf.square(w), name="loss")
    train = tf.train.MomentumOptimizer(0.1, 0.9).minimize(loss)
    return [train], {}


def references_stay(tf: Any) -> tuple[list[Any], dict[Any, Any]]:
    with tf.device("/cpu:0"):
        v = tf.Variable(1.0, name="v", use_resource=False)
    with tf.device("/cpu:1"):
        update = tf.assign_add(v, 2.0, name="update")
        read = tf.identity(update, name="read_there")
    return [read], {}


def colocation(tf: Any) -> tuple[list[Any], dict[Any, Any]]:
    x = tf.placeholder(tf.float32, [2], name="x")
    with tf.device("/cpu:1"):
        a = tf.add(x, 1.0, name="a")
    g = tf.get_default_graph()
    with g.colocate_with(a.op):
        b = tf.multiply(x, 2.0, name="b")
        with tf.device("/cpu:0"):
            pass
    with g.colocate_with(b.op):
        c = tf.multiply(x, 3.0, name="c")
    d = tf.add(c, x, name="d")
    return [d, b], {x: np.ones([2], np.float32)}


def conditional(tf: Any) -> tuple[list[Any], dict[Any, Any]]:
    x = tf.placeholder(tf.float32, [2], name="x")
    with tf.device("/cpu:1"):
        y = tf.exp(x, name="y")
    p = tf.less(tf.reduce_sum(x), 100.0, name="p")

    def inner() -> Any:
        with tf.device("/cpu:1"):
            return tf.square(x, name="squared")

    with tf.device("/cpu:0"):
        z = tf.cond(p, lambda: tf.add(y, 1.0, name="more"), inner)
    return [tf.negative(z, name="z")], {x: np.ones([2], np.float32)}


def loop(tf: Any) -> tuple[list[Any], dict[Any, Any]]:
    start = tf.placeholder(tf.float32, [2, 2], name="start")
    with tf.device("/cpu:1"):
        w = tf.exp(start, name="w")

    def body(i: Any, x: Any) -> Any:
        with tf.device("/cpu:1"):
            y = tf.matmul(x, w, name="y")
        return i + 1, tf.tanh(y, name="t")

    _, last = tf.while_loop(lambda i, x: i < 3, body, [tf.constant(0), start])
    with tf.device("/cpu:1"):
        result = tf.reduce_sum(last, name="result")
    return [result], {start: np.ones([2, 2], np.float32)}


def loop_on_a_device(tf: Any) -> tuple[list[Any], dict[Any, Any]]:
    start = tf.placeholder(tf.float32, [2], name="start")
    with tf.device("/cpu:1"):

        def body(i: Any, x: Any) -> Any:
            with tf.device("/cpu:0"):
                z = tf.multiply(x, 2.0, name="z")
            return i + 1, tf.cond(i < 1, lambda: z + 1.0, lambda: z - 1.0)

        _, last = tf.while_loop(lambda i, x: i < 3, body, [tf.constant(0), start])
    return [tf.identity(last, name="last")], {start: np.ones([2], np.float32)}


def loop_gradient(tf: Any) -> tuple[list[Any], dict[Any, Any]]:
    x = tf.placeholder(tf.float32, [2, 2], name="x")

    def body(i: Any, h: Any) -> Any:
        with tf.device("/cpu:1"):
            h = tf.matmul(h, x, name="h")
        return i + 1, tf.tanh(h, name="t")

    _, last = tf.while_loop(lambda i, h: i < 3, body, [tf.constant(0), x])
    (grad,) = tf.gradients(tf.reduce_sum(last), [x], colocate_gradients_with_ops=True)
    return [tf.identity(grad, name="grad")], {x: np.eye(2, dtype=np.float32)}


def tensor_array(tf: Any) -> tuple[list[Any], dict[Any, Any]]:
    x = tf.placeholder(tf.float32, [3, 2], name="x")
    with tf.device("/cpu:1"):
        y = tf.map_fn(lambda row: tf.exp(row, name="row_exp"), x, name="map")
    return [tf.reduce_sum(y, name="sum")], {x: np.ones([3, 2], np.float32)}


def soft_gpu(tf: Any) -> tuple[list[Any], dict[Any, Any]]:
    x = tf.placeholder(tf.float32, [2], name="x")
    with tf.device("/gpu:0"):
        a = tf.add(x, 1.0, name="a")
    with tf.device("/cpu:1"):
        b = tf.add(a, 1.0, name="b")
    return [b], {x: np.ones([2], np.float32)}


def soft_number(tf: Any) -> tuple[list[Any], dict[Any, Any]]:
    x = tf.placeholder(tf.float32, [2], name="x")
    with tf.device("/cpu:7"):
        a = tf.add(x, 1.0, name="a")
    return [a], {x: np.ones([2], np.float32)}


def soft_colocated(tf: Any) -> tuple[list[Any], dict[Any, Any]]:
    return _colocated_apart(tf, "/cpu:1", "/cpu:0")


def soft_reference(tf: Any) -> tuple[list[Any], dict[Any, Any]]:
    with tf.device("/gpu:0"):
        v = tf.Variable(1.0, name="v", use_resource=False)
    with tf.device("/cpu:1"):
        update = tf.assign_add(v, 2.0, name="update")
    return [tf.identity(update, name="out")], {}


def _colocated_apart(tf: Any, first: str, second: str) -> tuple[list[Any], dict[Any, Any]]:
    """Two nodes that must be in one place and ask for two, as an imported graph may have them."""
    x = tf.placeholder(tf.float32, [2], name="x")
    with tf.device(first):
        a = tf.exp(x, name="a")
    graph = tf.get_default_graph()
    with graph.colocate_with(a.op):
        b = tf.exp(x, name="b")
    b.op._set_device(second)
    return [tf.add(a, b, name="sum")], {x: np.ones([2], np.float32)}


def _two_variables(tf: Any) -> tuple[list[Any], dict[Any, Any]]:
    with tf.device("/cpu:0"):
        v = tf.Variable(1.0, name="v", use_resource=False)
    with tf.device("/cpu:1"):
        w = tf.Variable(1.0, name="w", use_resource=False)
    return [tf.raw_ops.RefSelect(index=0, inputs=[v._ref(), w._ref()], name="select")], {}


def _one(tf: Any, device: str) -> tuple[list[Any], dict[Any, Any]]:
    c = tf.constant(1.0, name="c")
    with tf.device(device):
        return [tf.exp(c, name="a")], {}


PROGRAMS: dict[str, Program] = {
    each.__name__: each
    for each in (
        shapes_and_generators,
        device_functions,
        training,
        momentum,
        references_stay,
        colocation,
        conditional,
        loop,
        loop_on_a_device,
        loop_gradient,
        tensor_array,
        soft_gpu,
        soft_number,
        soft_colocated,
        soft_reference,
    )
}

WRITTEN = ("loop_gradient",)  # of which the graph as written is compared too


def where(graph_def: Any) -> dict[str, str]:
    """The op, the device ("-": none) and the colocation of each node."""
    return {
        node.name: " ".join(
            (node.op, node.device or "-", *sorted(each.decode() for each in node.attr["_class"].list.s))
        )
        for node in graph_def.node
    }


IMPOSSIBLE: dict[str, Program] = {
    "no_gpu": lambda tf: _one(tf, "/device:GPU:0"),
    "no_such_number": lambda tf: _one(tf, "/cpu:9"),
    "no_such_job": lambda tf: _one(tf, "/job:worker"),
    "colocated_apart": lambda tf: _colocated_apart(tf, "/cpu:0", "/cpu:1"),
    "colocated_kinds": lambda tf: _colocated_apart(tf, "/cpu:0", "/device:GPU:0"),
    "two_variables": _two_variables,
}
