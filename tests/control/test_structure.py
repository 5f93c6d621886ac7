"""The nodes that control flow adds are TensorFlow's: names, types, inputs and control inputs, against a graph it built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import engine as tf

GOLDEN = Path(__file__).parents[1] / "golden" / "tf_graphs"


def nodes_of(graph_def: Any) -> dict[str, tuple[str, list[str]]]:
    return {node.name: (node.op, list(node.input)) for node in graph_def.node}


def build_nested_control() -> None:
    """The program behind `nested_control`, read off its graph."""
    n = tf.placeholder(tf.int32, [], name="n")
    v = tf.Variable(0.0, name="v")

    def inner_body(i: tf.Tensor, j: tf.Tensor, acc: tf.Tensor) -> Any:
        acc = tf.cond(
            tf.equal(j % 2, 0),
            lambda: acc * 1.5,
            lambda: tf.cond(tf.greater(acc, 10.0), lambda: acc - 3.0, lambda: acc + tf.cast(i, tf.float32)),
        )
        return j + 1, acc

    def outer_body(i: tf.Tensor, acc: tf.Tensor) -> Any:
        _, acc = tf.while_loop(lambda j, a: j < i + 1, lambda j, a: inner_body(i, j, a), [0, acc])
        return i + 1, acc

    _, total = tf.while_loop(lambda i, a: i < n, outer_body, [0, 1.0])
    update = tf.assign_add(v, total)
    with tf.control_dependencies([update]):
        tf.identity(total, name="out")
    chosen = tf.case(
        [
            (tf.greater(total, 100.0), lambda: tf.constant(2)),
            (tf.greater(total, 10.0), lambda: tf.constant(1)),
        ],
        default=lambda: tf.constant(0),
    )
    tf.identity(chosen, name="chosen")
    tf.variables_initializer([v], name="init")


def test_nested_loops_and_conds_have_tensorflows_nodes() -> None:
    from tensorboard.compat.proto.graph_pb2 import GraphDef

    theirs = nodes_of(GraphDef.FromString((GOLDEN / "nested_control" / "graph.pb").read_bytes()))
    build_nested_control()
    ours = nodes_of(tf.get_default_graph().as_graph_def())
    assert sorted(ours) == sorted(theirs)
    different = {name: (ours[name], theirs[name]) for name in theirs if ours[name] != theirs[name]}
    assert different == {}


def test_an_external_tensor_is_switched_in_once() -> None:
    pred, x = tf.placeholder(tf.bool, []), tf.constant(2.0)
    tf.cond(pred, lambda: x * x + x, lambda: x)
    switches = [op for op in x.consumers() if op.type == "Switch"]
    assert len(switches) == 2  # one a branch


def test_side_effects_happen_in_the_taken_branch_only() -> None:
    pred = tf.placeholder(tf.bool, [])
    v = tf.Variable(0.0)
    result = tf.cond(pred, lambda: tf.assign_add(v, 1.0), lambda: tf.constant(-1.0))
    with tf.Session() as session:
        session.run(v.initializer)
        assert session.run(result, {pred: False}) == -1.0
        assert session.run(v) == 0.0
        assert session.run(result, {pred: True}) == 1.0
        assert session.run(v) == 1.0


def test_a_value_in_a_branch_can_be_fed_and_one_in_a_loop_cannot() -> None:
    made = []

    def compute(x: tf.Tensor) -> tf.Tensor:
        made.append(x + 1)
        return made[-1]

    result = tf.cond(tf.placeholder_with_default(True, []), lambda: compute(tf.constant(7)) * 2, lambda: 0)
    tf.while_loop(lambda i: i < 3, compute, [0])
    with tf.Session() as session:
        assert session.run(result, {made[0]: 5}) == 10
        with pytest.raises(ValueError, match="may not be fed"):
            session.run(result, {made[1]: 5})


def test_waiting_outside_of_a_loop_for_what_is_inside_is_refused() -> None:
    made = []

    def body(i: tf.Tensor) -> tf.Tensor:
        made.append(i + 1)
        return made[-1]

    tf.while_loop(lambda i: i < 3, body, [0])
    with tf.control_dependencies([made[0]]):
        waits = tf.constant(1, name="waits")
    with (
        tf.Session() as session,
        pytest.raises(
            tf.errors.InvalidArgumentError, match="'waits:0' cannot be fetched.*waits for 'while/add'"
        ),
    ):
        session.run(waits)


@pytest.mark.parametrize("times", [0, 1, 5])
def test_zero_and_more_iterations(times: int) -> None:
    n = tf.placeholder(tf.int32, [])
    result = tf.while_loop(lambda i, s: i < n, lambda i, s: (i + 1, s + i), [0, 0])
    with tf.Session() as session:
        assert session.run(result, {n: times}) == (times, sum(range(times))) or session.run(
            result, {n: times}
        ) == [
            times,
            sum(range(times)),
        ]


def test_maximum_iterations() -> None:
    one = tf.while_loop(lambda i: i < 100, lambda i: i + 1, [0], maximum_iterations=7)
    two = tf.while_loop(lambda i, s: i < 100, lambda i, s: (i + 1, s * 2), [0, 1], maximum_iterations=3)
    with tf.Session() as session:
        assert session.run(one) == 7
        assert list(session.run(two)) == [3, 8]


def test_a_shape_may_change_with_an_invariant_and_not_without() -> None:
    start = tf.zeros([1, 2])

    def body(i: tf.Tensor, rows: tf.Tensor) -> Any:
        return i + 1, tf.concat([rows, rows], 0)

    with pytest.raises(
        ValueError, match=r"enters the loop with shape \(1, 2\), but has shape \(2, 2\) after one iteration"
    ):
        tf.while_loop(lambda i, rows: i < 3, body, [0, start])
    _, rows = tf.while_loop(
        lambda i, rows: i < 3,
        body,
        [0, start],
        shape_invariants=[tf.TensorShape([]), tf.TensorShape([None, 2])],
    )
    assert rows.shape.as_list() == [None, 2]
    with tf.Session() as session:
        assert session.run(rows).shape == (8, 2)


def test_nested_structures_travel_through_a_loop() -> None:
    start = {"a": tf.constant(1), "b": (tf.constant(2.0), [tf.constant(3)])}
    i, result = tf.while_loop(
        lambda i, s: i < 3,
        lambda i, s: (i + 1, {"a": s["a"] * 2, "b": (s["b"][0] + 1.0, [s["b"][1][0] - 1])}),
        [0, start],
    )
    with tf.Session() as session:
        assert session.run(result) == {"a": 8, "b": (5.0, [0])}


def test_the_result_comes_in_the_lists_and_tuples_that_the_body_returned() -> None:
    def cond(i: Any, *_: Any) -> Any:
        return i < 3

    with tf.Session() as session:
        pair = tf.while_loop(cond, lambda i, j: (i + 1, j), [0, 1])
        assert isinstance(pair, tuple)
        assert session.run(pair) == (3, 1)
        assert isinstance(tf.while_loop(cond, lambda i, j: [i + 1, j], (0, 1)), list)
        assert isinstance(tf.while_loop(cond, lambda i: (i + 1,), [0]), tf.Tensor)
        assert isinstance(tf.while_loop(cond, lambda i: i + 1, (0,), return_same_structure=True), list)
        nested = tf.while_loop(lambda p: p[0] < 3, lambda p: [(p[0] + 1, p[1])], [(0, 1)])
        assert session.run(nested) == [(3, 1)]


@pytest.mark.parametrize(
    ("build", "kind", "message"),
    [
        (lambda: tf.cond(True, lambda: 1, lambda: 2), TypeError, "Python bool"),
        (lambda: tf.cond(tf.constant([True]), lambda: 1, lambda: 2), ValueError, r"must be a scalar.*\(1,\)"),
        (lambda: tf.cond(tf.constant(1), lambda: 1, lambda: 2), TypeError, "must be bool.*int32"),
        (lambda: tf.cond(tf.constant(True), lambda: 1, lambda: 2.0), ValueError, "same type: int32.*float32"),
        (
            lambda: tf.cond(tf.constant(True), lambda: [1, 2], lambda: [1]),
            ValueError,
            "same structure|as many",
        ),
        (
            lambda: tf.cond(tf.constant(True), lambda: None, lambda: 1),
            ValueError,
            "true_fn must have a return value",
        ),
        (lambda: tf.while_loop(lambda i: i < 3, lambda i: i, []), ValueError, "No loop variables"),
        (lambda: tf.while_loop(lambda i: i, lambda i: i, [0]), TypeError, "must be bool.*int32"),
        (lambda: tf.while_loop(lambda i: i < [3], lambda i: i, [0]), ValueError, r"must be a scalar"),
        (lambda: tf.while_loop(lambda i: i < 3, lambda i: (i, i), [0]), ValueError, "structure of loop_vars"),
        (
            lambda: tf.while_loop(lambda i: i < 3, lambda i: tf.cast(i, tf.float32), [0]),
            TypeError,
            "keep its dtype",
        ),
        (
            lambda: tf.while_loop(lambda i: i < 3, lambda i: i, [0], parallel_iterations=0),
            TypeError,
            "positive",
        ),
        (lambda: tf.group(None), TypeError, "got None"),
    ],
)
def test_mistakes_are_named(build: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        build()
