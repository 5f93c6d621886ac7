"""Variable scopes and get_variable: names, reuse, defaults, errors.  The expected names are TensorFlow 1's."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import engine as tf


def test_names_follow_variable_scopes_only() -> None:
    with tf.variable_scope("a") as outer:
        x = tf.get_variable("x", [1])
        with tf.name_scope("names"), tf.variable_scope("b"):
            y = tf.get_variable("y", [1])
            constant = tf.constant(1.0, name="c")
    assert (x.name, y.name, constant.name) == ("a/x:0", "a/b/y:0", "a/names/b/c:0")
    assert (outer.name, outer.original_name_scope) == ("a", "a/")
    assert tf.get_variable_scope().name == ""


def test_name_scopes_are_unique_where_variables_are_shared() -> None:
    for scope in ("a/", "a_1/", "a_2/"):
        with tf.variable_scope("a", reuse=tf.AUTO_REUSE) as opened:
            assert opened.original_name_scope == scope
            assert tf.get_variable("x", [1]).name == "a/x:0"
            assert tf.constant(1.0, name="c").op.name == f"{scope}c"


def test_reuse() -> None:
    with tf.variable_scope("a"):
        x = tf.get_variable("x", [2])
        with pytest.raises(
            ValueError, match=r"(?s)Variable a/x already exists, disallowed.*test_variable_scope.py"
        ):
            tf.get_variable("x", [2])
    with tf.variable_scope("a", reuse=True):
        assert tf.get_variable("x") is x
        with pytest.raises(ValueError, match="Variable a/y does not exist"):
            tf.get_variable("y", [2])
        with tf.variable_scope("inner"), pytest.raises(ValueError, match="does not exist"):
            tf.get_variable("z", [2])  # inherited
    with tf.variable_scope("a") as scope:
        scope.reuse_variables()
        assert tf.get_variable("x", [2]) is x
    with tf.variable_scope("a", reuse=True):
        with pytest.raises(ValueError, match=r"specified shape \(3,\) and found shape \(2,\)"):
            tf.get_variable("x", [3])
        with pytest.raises(ValueError, match="specified dtype int32 and found dtype float32"):
            tf.get_variable("x", [2], dtype=tf.int32)


def test_a_scope_object_can_be_entered_again_from_anywhere() -> None:
    with tf.variable_scope("a") as a:
        x = tf.get_variable("x", [1])
    with tf.variable_scope("b"):
        with tf.variable_scope(a, reuse=True) as again:
            assert again.name == "a"
            assert tf.get_variable("x", [1]) is x
            assert tf.constant(1.0, name="c").op.name == "b/a/c"
        assert tf.get_variable_scope().name == "b"


def test_default_names_are_numbered() -> None:
    found = []
    for _ in range(2):
        with tf.variable_scope(None, "layer"):
            found.append(tf.get_variable("w", [1]).name)
            with tf.variable_scope(None, "inner"):
                found.append(tf.get_variable("w", [1]).name)
    assert found == ["layer/w:0", "layer/inner/w:0", "layer_1/w:0", "layer_1/inner/w:0"]


def test_without_a_name_scope() -> None:
    with tf.variable_scope("a", auxiliary_name_scope=False):
        assert tf.get_variable("x", [1]).name == "a/x:0"
        assert tf.constant(1.0, name="c").op.name == "c"


def test_plain_variables_take_the_name_scope() -> None:
    with tf.variable_scope("a"):
        assert tf.Variable(1.0, name="v").name == "a/v:0"
    with tf.variable_scope("a"):
        assert tf.Variable(1.0, name="v").name == "a_1/v:0"


def test_defaults_of_a_scope() -> None:
    with tf.variable_scope("a", initializer=tf.constant_initializer(3.0), dtype=tf.float64):
        x = tf.get_variable("x", [2])
        with tf.variable_scope("b", initializer=tf.ones_initializer()):
            y = tf.get_variable("y", [2])
        z = tf.get_variable("z", [2], initializer=tf.zeros_initializer())
    assert x.dtype.base_dtype == tf.float64
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        assert [v.tolist() for v in session.run([x, y, z])] == [[3, 3], [1, 1], [0, 0]]


def test_regularizers() -> None:
    with tf.variable_scope("a", regularizer=lambda w: tf.reduce_sum(w * w)):
        tf.get_variable("x", initializer=np.array([3.0, 4.0], np.float32))
        tf.get_variable("free", [2], regularizer=tf.no_regularizer)
    (loss,) = tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)
    assert loss.op.name.startswith("a/x/Regularizer/")
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        assert session.run(loss) == 25


def test_custom_getters_nest() -> None:
    calls = []

    def getter(label: str) -> Any:
        def get(getter: Any, name: str, *args: Any, **kwargs: Any) -> Any:
            calls.append((label, name))
            return getter(name, *args, **kwargs)

        return get

    with (
        tf.variable_scope("a", custom_getter=getter("outer")),
        tf.variable_scope("b", custom_getter=getter("inner")),
    ):
        tf.get_variable("x", [1])
    assert calls == [("inner", "a/b/x"), ("outer", "a/b/x")]


def test_default_initializers() -> None:
    w = tf.get_variable("w", [30, 50])
    i = tf.get_variable("i", [2], dtype=tf.int64)
    b = tf.get_variable("b", [2], dtype=tf.bool)
    with pytest.raises(ValueError, match="initializer for variable s"):
        tf.get_variable("s", [2], dtype=tf.string)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        values, whole, flags = session.run([w, i, b])
    limit = np.sqrt(6 / 80)
    assert np.abs(values).max() <= limit
    assert np.abs(values).max() > 0.9 * limit
    assert whole.tolist() == [0, 0]
    assert flags.tolist() == [False, False]


def test_initial_values_in_place_of_initializers() -> None:
    a = tf.get_variable("a", initializer=tf.constant([1.0, 2.0]))
    b = tf.get_variable("b", initializer=5)
    c = tf.get_variable("c", initializer=lambda: tf.ones([3]))
    assert (a.shape.as_list(), b.dtype.base_dtype, c.shape.as_list()) == ([2], tf.int32, [3])
    with pytest.raises(ValueError, match="do not specify shape"):
        tf.get_variable("d", [2], initializer=tf.constant([1.0, 2.0]))
    with pytest.raises(ValueError, match="fully defined"):
        tf.get_variable("e")
    with pytest.raises(ValueError, match="don't match"):
        tf.get_variable("f", dtype=tf.int32, initializer=tf.constant(1.0))


def test_local_variables() -> None:
    v = tf.get_local_variable("v", [2])
    assert tf.local_variables() == [v]
    assert tf.global_variables() == tf.trainable_variables() == []


def test_inside_a_loop_the_variable_is_outside() -> None:
    def body(i: Any) -> Any:
        with tf.variable_scope("loop", reuse=tf.AUTO_REUSE):
            return i + tf.get_variable(
                "step", initializer=tf.constant_initializer(3), shape=[], dtype=tf.int32
            )

    end = tf.while_loop(lambda i: i < 10, body, [tf.constant(0)])
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        assert session.run(end) == 12


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"name_or_scope": None}, TypeError),
        ({"name_or_scope": 7}, TypeError),
        ({"name_or_scope": None, "default_name": "a", "reuse": True}, ValueError),
        ({"name_or_scope": "a", "reuse": "yes"}, ValueError),
    ],
)
def test_refusals(arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error), tf.variable_scope(**arguments):
        pass


def test_an_error_inside_leaves_the_scope() -> None:
    with pytest.raises(ZeroDivisionError), tf.variable_scope("a"), tf.variable_scope("b"):
        raise ZeroDivisionError
    assert tf.get_variable_scope().name == ""
    assert tf.get_default_graph().get_name_scope() == ""


def test_each_thread_has_its_own_scope_and_all_share_the_variables() -> None:
    graph = tf.get_default_graph()
    found = []

    def other() -> None:
        with graph.as_default(), tf.variable_scope("a", reuse=True):
            found.append(tf.get_variable("x", [1]))

    with tf.variable_scope("a"):
        x = tf.get_variable("x", [1])
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert tf.get_variable_scope().name == "a"
    assert found == [x]


def test_graphs_do_not_share() -> None:
    x = tf.get_variable("x", [1])
    with tf.Graph().as_default():
        assert tf.get_variable("x", [1]) is not x
