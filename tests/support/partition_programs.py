"""Programs on two CPU devices, written for any module with TensorFlow 1's interface; and what is compared of their partitions.

`PROGRAMS` maps names to functions that build one in the default graph and return what to fetch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any


def _diamond(tf: Any) -> Any:
    with tf.device("/cpu:0"):
        x = tf.constant([1.0, 2.0], name="x")
    with tf.device("/cpu:1"):
        a, b = tf.sqrt(x, name="a"), tf.square(x, name="b")
    with tf.device("/cpu:0"):
        return tf.add(a, b, name="sum")


def _outputs(tf: Any) -> Any:
    with tf.device("/cpu:0"):
        first, second = tf.split(tf.constant([[1.0], [2.0]], name="x"), 2, name="pieces")
    with tf.device("/cpu:1"):
        return tf.add(first, second, name="sum"), tf.subtract(first, second, name="difference")


def _after(tf: Any) -> Any:
    with tf.device("/cpu:0"):
        first = tf.random_uniform([2], name="first")
    with tf.device("/cpu:1"), tf.control_dependencies([first]):
        return tf.constant(2.0, name="late"), tf.constant(3.0, name="later")


def _loop(tf: Any) -> Any:
    def body(i: Any, x: Any) -> Any:
        with tf.device("/cpu:1"):
            more = tf.multiply(x, x, name="there")
        with tf.device("/cpu:0"):
            return tf.add(i, 1), tf.add(more, x, name="back")

    with tf.device("/cpu:0"):
        return tf.while_loop(lambda i, x: tf.less(i, 3), body, [0, 0.5], name="loop")[1]


def _carried(tf: Any) -> Any:
    """A loop one of whose variables lives on the other device."""

    def body(i: Any, x: Any) -> Any:
        with tf.device("/cpu:1"):
            more = tf.multiply(x, x, name="there")
        with tf.device("/cpu:0"):
            return tf.add(i, 1), more

    with tf.device("/cpu:0"):
        count = tf.constant(0, name="count")
    with tf.device("/cpu:1"):
        start = tf.constant(0.5, name="start")
    with tf.device("/cpu:0"):
        return tf.while_loop(lambda i, x: tf.less(i, 3), body, [count, start], name="loop")[1]


def _nested(tf: Any) -> Any:
    def inner(x: Any) -> Any:
        def body(j: Any, y: Any) -> Any:
            with tf.device("/cpu:1"):
                more = tf.multiply(y, y, name="there")
            return tf.add(j, 1), tf.add(more, y, name="back")

        return tf.while_loop(lambda j, y: tf.less(j, 2), body, [0, x], name="in")[1]

    with tf.device("/cpu:0"):
        return tf.while_loop(
            lambda i, x: tf.less(i, 3), lambda i, x: (tf.add(i, 1), inner(x)), [0, 0.5], name="out"
        )[1]


def _branches(tf: Any) -> Any:
    def branch(name: str) -> Any:
        def build() -> Any:
            with tf.device("/cpu:1"):
                return tf.multiply(x, x, name=name)

        return build

    with tf.device("/cpu:0"):
        x = tf.constant(3.0, name="x")
        taken = tf.greater(x, 2.0, name="taken")
        return tf.cond(taken, branch("then"), branch("otherwise"), name="choose")


def _gradient(tf: Any) -> Any:
    with tf.device("/cpu:0"):
        # TensorFlow copies small constants that are read on several devices; not what is made by a kernel.
        x, w = tf.fill([1, 2], 1.0, name="x"), tf.fill([2, 1], 2.0, name="w")
    with tf.device("/cpu:1"):
        loss = tf.square(tf.matmul(x, w, name="product"), name="loss")
    with tf.device("/cpu:0"):
        return tf.gradients(loss, w, name="back")[0]


PROGRAMS: dict[str, Callable[[Any], Any]] = {
    "a tensor with two readers": _diamond,
    "two outputs of a node": _outputs,
    "control edges": _after,
    "a loop": _loop,
    "a loop variable elsewhere": _carried,
    "nested loops": _nested,
    "branches": _branches,
    "a gradient": _gradient,
}


def cuts(graphs: Iterable[Any]) -> list[list[Any]]:
    """[node, from, to, dtype, whether it is a control edge] of every edge that is cut, from the partitions' GraphDefs.

    TensorFlow's `tensor_name` is ``edge_<number>_<node>``; the numbers are those of its own edges, and left out.
    """
    found = []
    for graph in graphs:
        nodes = {node.name: node for node in graph.node}
        for node in graph.node:
            if node.op in ("_Send", "_HostSend"):
                source = nodes[node.input[0].removeprefix("^").partition(":")[0]]
                attr = node.attr
                name = attr["tensor_name"].s.decode()
                is_control = (
                    source.op == "Const" and bool(source.input) and source.name != name.split("_", 2)[2]
                )
                found.append(
                    [
                        name.split("_", 2)[2],
                        attr["send_device"].s.decode()[-5:],
                        attr["recv_device"].s.decode()[-5:],
                        attr["T"].type,
                        is_control,
                    ]
                )
    return sorted(found)


def loops(graphs: Iterable[Any]) -> list[list[Any]]:
    """[frame, device] of each control loop: an Enter of an empty float constant, or of another control loop's Merge."""
    found = []
    for graph in graphs:
        nodes = {node.name: node for node in graph.node}

        def is_control(node: Any, nodes: dict[str, Any] = nodes) -> bool:
            while node.op in ("Enter", "Merge"):
                node = nodes[node.input[0].partition(":")[0]]
            shape = node.attr["value"].tensor.tensor_shape.dim if node.op == "Const" else ()
            return [dim.size for dim in shape] == [0]

        for node in graph.node:
            if node.op == "Enter" and is_control(node):
                found.append([node.attr["frame_name"].s.decode(), node.device[-5:]])
    return sorted(found)
