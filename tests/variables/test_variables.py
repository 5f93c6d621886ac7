"""The Variable object: its four nodes, reading, changing, initial values that depend on other variables, collections."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import engine as tf


def initialized(session: Any) -> Any:
    session.run(tf.global_variables_initializer())
    return session


# Nodes.


def test_four_nodes() -> None:
    v = tf.Variable([1.0, 2.0], name="v")
    nodes = [
        (op.name, op.type, [t.name for t in op.inputs]) for op in tf.get_default_graph().get_operations()
    ]
    assert nodes == [
        ("v/initial_value", "Const", []),
        ("v", "VariableV2", []),
        ("v/Assign", "Assign", ["v:0", "v/initial_value:0"]),
        ("v/read", "Identity", ["v:0"]),
    ]
    assert (v.name, v.op.name, v.initializer.name, v.value().name) == ("v:0", "v", "v/Assign", "v/read:0")
    assert v.initial_value.name == "v/initial_value:0"
    assert v.dtype == tf.float32._as_ref
    assert v.shape.as_list() == v.get_shape().as_list() == [2]
    assert v.graph is tf.get_default_graph()
    assert repr(v) == "<tf.Variable 'v:0' shape=(2,) dtype=float32_ref>"


def test_names_are_unique_and_scoped() -> None:
    assert [tf.Variable(0).name for _ in range(3)] == ["Variable:0", "Variable_1:0", "Variable_2:0"]
    with tf.name_scope("outer"):
        assert tf.Variable(0, name="v").name == "outer/v:0"
        assert tf.Variable(0, name="v").name == "outer/v_1:0"


def test_an_initial_value_made_by_a_function_is_built_beside_the_variable() -> None:
    v = tf.Variable(lambda: tf.ones([2]), name="v")
    assert v.initial_value.name == "v/Initializer/ones:0"
    assert v.initial_value.op.colocation_groups() == [b"loc:@v"]


def test_dtypes() -> None:
    assert tf.Variable(1).dtype.base_dtype == tf.int32
    assert tf.Variable(1, dtype=tf.float64).dtype.base_dtype == tf.float64
    assert tf.Variable(np.zeros(2)).dtype.base_dtype == tf.float64
    assert tf.Variable("word").dtype.base_dtype == tf.string
    with pytest.raises((TypeError, ValueError)):
        tf.Variable(tf.constant(1.0), dtype=tf.int32)


def test_shapes() -> None:
    given = tf.placeholder(tf.float32, None)
    with pytest.raises(ValueError, match="validate_shape"):
        tf.Variable(given)
    free = tf.Variable(given, validate_shape=False)
    assert free.shape.ndims is None
    with tf.Session() as session:
        session.run(free.initializer, {given: [1, 2]})
        assert session.run(tf.assign(free, [[3.0]], validate_shape=False)).shape == (1, 1)
        assert session.run(free + 1).tolist() == [[4]]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({}, "initial_value must be specified"),
        ({"initial_value": 1, "collections": "global"}, "list, tuple or set"),
    ],
)
def test_refusals(arguments: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        tf.Variable(**arguments)


def test_an_initial_value_from_inside_a_loop_is_refused() -> None:
    def body(i: Any) -> Any:
        with pytest.raises(ValueError, match="inside a loop or a branch"):
            tf.Variable(i * 2)
        return i + 1

    tf.while_loop(lambda i: i < 3, body, [tf.constant(0)])


def test_a_function_as_initial_value_works_inside_a_loop() -> None:
    made = []

    def body(i: Any) -> Any:
        made.append(tf.Variable(lambda: tf.constant(5)))
        return i + made[0]

    end = tf.while_loop(lambda i: i < 12, body, [tf.constant(0)])
    with tf.Session() as session:
        assert initialized(session).run(end) == 15


# Reading.


def test_operators_read_the_value() -> None:
    v = tf.Variable([4.0, -2.0])
    m = tf.Variable([[1.0, 2.0], [3.0, 4.0]])
    flag = tf.Variable([True, False])
    cases = {
        "v + 1": v + 1, "1 + v": 1 + v, "v - 1": v - 1, "1 - v": 1 - v, "v * 2": v * 2, "2 * v": 2 * v,
        "v / 2": v / 2, "2 / v": 2 / v, "v // 3": v // 3, "v % 3": v % 3, "v ** 2": v ** 2, "2.0 ** v": 2.0 ** v,
        "-v": -v, "abs(v)": abs(v), "v > 0": v > 0, "v >= 4": v >= 4, "v < 0": v < 0, "v <= 4": v <= 4,
        "m @ m": m @ m, "v[0]": v[0], "m[:, 1]": m[:, 1], "~flag": ~flag, "flag & True": flag & True,
        "np.ones(2) * v": np.ones(2, np.float32) * v, "v + v": v + v,
    }  # fmt: skip
    names: dict[str, Any] = {
        "v": np.array([4, -2], np.float32),
        "m": np.array([[1, 2], [3, 4]], np.float32),
        "flag": np.array([True, False]),
        "np": np,
    }
    with tf.Session() as session:
        initialized(session)
        for text, tensor in cases.items():
            np.testing.assert_allclose(session.run(tensor), eval(text, names), err_msg=text)


def test_it_stands_for_a_tensor() -> None:
    v = tf.Variable([[1.0, 2.0]])
    assert tf.convert_to_tensor(v) is v.value()
    assert tf.matmul(v, v, transpose_b=True).op.inputs[0] is v.value()
    assert tf.stack([v, v]).shape.as_list() == [2, 1, 2]
    with pytest.raises((TypeError, ValueError)):
        tf.convert_to_tensor(v, dtype=tf.int32)
    with tf.Session() as session:
        initialized(session)
        assert session.run(v).tolist() == session.run(v.value()).tolist() == [[1, 2]]
        assert session.run("Variable:0").tolist() == [[1, 2]]
        assert session.run(v * 2, {v: [[5, 5]]}).tolist() in ([[10, 10]], [[2, 4]])
        with session.as_default():
            assert v.eval().tolist() == [[1, 2]]


def test_it_is_no_list_and_no_truth() -> None:
    v = tf.Variable([1.0])
    with pytest.raises(TypeError, match="not iterable"):
        list(v)
    with pytest.raises(TypeError, match="truth"):
        bool(v)
    assert v in {v}


def test_a_read_of_its_own_comes_after_what_it_waits_for() -> None:
    v = tf.Variable(1.0)
    with tf.control_dependencies([v.assign_add(10.0)]):
        read = v.read_value()
    with tf.Session() as session:
        assert initialized(session).run(read) == 11


# Changing.


def test_assignments() -> None:
    v = tf.Variable([1.0, 2.0])
    slices = tf.IndexedSlices(tf.constant([5.0]), tf.constant([1]))
    with tf.Session() as session:
        initialized(session)
        assert session.run(v.assign([3.0, 4.0])).tolist() == [3, 4]
        assert session.run(v.assign_add([1.0, 1.0])).tolist() == [4, 5]
        assert session.run(v.assign_sub([2.0, 0.0])).tolist() == [2, 5]
        assert session.run(v.scatter_sub(slices)).tolist() == [2, 0]
        assert session.run(v.scatter_add(slices)).tolist() == [2, 5]
        assert session.run(v.scatter_update(slices)).tolist() == [2, 5]
        assert session.run(v.assign([0.0, 0.0], read_value=False)) is None
        v.load([7.0, 8.0], session)
        assert session.run(v).tolist() == [7, 8]
    with pytest.raises(TypeError, match="IndexedSlices"):
        v.scatter_add([1.0])


def test_one_step_reads_before_or_after_but_never_half() -> None:
    """Many updates and reads in one step: each read is some version of the variable."""
    v = tf.Variable(tf.zeros([1000]))
    updates = [v.assign_add(tf.ones([1000])) for _ in range(20)]
    with tf.control_dependencies([updates[3]]):
        reads = [v.read_value() for _ in range(10)]
    with tf.Session() as session:
        initialized(session)
        values = session.run([reads, [update.op for update in updates]])[0]
        assert all(len(set(value.tolist())) == 1 and value[0] >= 1 for value in values)
        assert session.run(v)[0] == 20


def test_sessions_have_their_own_values() -> None:
    v = tf.Variable(1)
    with tf.Session() as first, tf.Session() as second:
        initialized(first)
        first.run(v.assign(5))
        with pytest.raises(tf.errors.FailedPreconditionError, match="Variable"):
            second.run(v)
        initialized(second)
        assert (first.run(v), second.run(v)) == (5, 1)


# Initial values that depend on other variables.


def test_initial_values_may_read_other_variables() -> None:
    tf.set_random_seed(1)
    a = tf.Variable(tf.random_normal([3]), name="a")
    b = tf.Variable(a * 2.0 + 1.0, name="b")
    c = tf.Variable(b.initialized_value() - a.initialized_value(), name="c")
    d = tf.Variable(tf.reduce_sum(c) + b[0], name="d")
    with tf.Session() as session:
        first = initialized(session).run(a)
        values = session.run([b, c, d])
        np.testing.assert_allclose(values[0], first * 2 + 1, rtol=1e-6)
        np.testing.assert_allclose(values[1], first + 1, rtol=1e-5)
        np.testing.assert_allclose(values[2], (first + 1).sum() + first[0] * 2 + 1, rtol=1e-5)


def test_initialized_value_is_the_value_once_there_is_one() -> None:
    v = tf.Variable(3.0)
    value = v.initialized_value()
    with tf.Session() as session:
        assert session.run(value) == 3
        session.run(v.initializer)
        session.run(v.assign(4.0))
        assert session.run(value) == 4


# Collections and initializers.


def test_collections() -> None:
    a = tf.Variable(1.0)
    b = tf.Variable(2.0, trainable=False)
    c = tf.Variable(3.0, collections=[tf.GraphKeys.LOCAL_VARIABLES], trainable=False)
    with tf.name_scope("inside"):
        d = tf.Variable(4.0)
    assert tf.global_variables() == [a, b, d]
    assert tf.trainable_variables() == [a, d]
    assert tf.trainable_variables("inside") == [d]
    assert tf.local_variables() == [c]
    assert (a.trainable, b.trainable) == (True, False)
    assert tf.global_variables_initializer().name == "init"
    with tf.Session() as session:
        initialized(session)
        with pytest.raises(tf.errors.FailedPreconditionError):
            session.run(c)
        session.run(tf.local_variables_initializer())
        assert session.run([a, b, c, d]) == [1, 2, 3, 4]


def test_nothing_to_initialize() -> None:
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        assert session.run(tf.report_uninitialized_variables()).tolist() == []


def test_report_uninitialized_variables() -> None:
    a, b = tf.Variable(1.0, name="a"), tf.Variable(2.0, name="b")
    report, known = tf.report_uninitialized_variables(), tf.is_variable_initialized(a)
    with tf.Session() as session:
        assert session.run(report).tolist() == [b"a", b"b"]
        session.run(a.initializer)
        assert session.run(report).tolist() == [b"b"]
        assert session.run(known)
        session.run(b.initializer)
        assert session.run(report).tolist() == []


def test_gradients_with_respect_to_variables() -> None:
    v, w = tf.Variable(2.0), tf.Variable(3.0)
    gradients = tf.gradients(v * v * w, [v, w, v.value()])
    with tf.Session() as session:
        assert initialized(session).run(gradients) == [12, 4, 12]


def test_a_graph_with_variables_travels() -> None:
    v = tf.Variable([1.0, 2.0], name="v")
    _ = tf.identity(v.assign_add([1.0, 1.0]), name="more")
    definition = tf.get_default_graph().as_graph_def()
    with tf.Graph().as_default():
        initializer, more = tf.import_graph_def(definition, return_elements=["v/Assign", "more:0"], name="")
        with tf.Session() as session:
            session.run(initializer)
            assert session.run(more).tolist() == [2, 3]


def test_a_use_after_a_change_sees_the_change() -> None:
    v = tf.Variable(1.0, name="v")
    other = tf.Variable(7.0, name="other")
    changed = tf.assign(v, 5.0)
    train = tf.group(tf.assign_add(v, 1.0))
    with tf.control_dependencies([changed]):
        used = v + 0.25
        same = tf.identity(v)
        element = tf.stack([v, v])[1]
        untouched = tf.identity(other)
    with tf.control_dependencies([train]):
        after_train = v * 2.0
    plain = v + 0.25
    assert untouched.op.inputs[0] is other.value()
    assert plain.op.inputs[0] is v.value()
    with tf.Session() as session:
        session.run([v.initializer, other.initializer])
        for _ in range(3):
            session.run(tf.assign(v, 1.0))
            assert session.run([used, same, element]) == [5.25, 5.0, 5.0]
        assert session.run(after_train) == 12.0
