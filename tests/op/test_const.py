"""What `tf.constant` makes of Python values and arrays; the expected dtypes, shapes and values are TensorFlow's answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import engine as tf

# Arguments of tf.constant, and the dtype, shape and values that TensorFlow 2.21's compat.v1 gives.
MADE: list[tuple[tuple[Any, ...], str, list[int], Any]] = [
    ((1,), "int32", [], 1),
    ((1.5,), "float32", [], 1.5),
    ((True,), "bool", [], True),
    (("a",), "string", [], b"a"),
    ((b"a",), "string", [], b"a"),
    ((2**40,), "int64", [], 2**40),
    ((2**31 - 1,), "int32", [], 2**31 - 1),
    ((2**31,), "int64", [], 2**31),
    ((-(2**31),), "int32", [], -(2**31)),
    ((1 + 2j,), "complex128", [], 1 + 2j),
    (([1, 2.5],), "float32", [2], [1, 2.5]),
    (((1, 2),), "int32", [2], [1, 2]),
    (([[1.0, 2.0], [3.0, 4.0]],), "float32", [2, 2], [[1, 2], [3, 4]]),
    (([],), "float32", [0], []),
    (([[], []],), "float32", [2, 0], [[], []]),
    (([True, False],), "bool", [2], [True, False]),
    ((["a", b"bc"],), "string", [2], [b"a", b"bc"]),
    ((np.float64(1.5),), "float64", [], 1.5),
    ((np.ones(2),), "float64", [2], [1, 1]),
    ((np.int8([1, 2]),), "int8", [2], [1, 2]),
    ((np.array(["ab", "c"]),), "string", [2], [b"ab", b"c"]),
    ((np.bool_(True),), "bool", [], True),
    ((np.zeros((0, 3)),), "float64", [0, 3], np.zeros((0, 3))),
    (([np.float32(1), 2],), "float32", [2], [1, 2]),
    ((1, tf.float64), "float64", [], 1),
    ((1, tf.bfloat16), "bfloat16", [], 1),
    ((1e40,), "float32", [], np.inf),
    ((1e40, tf.float16), "float16", [], np.inf),
    ((float("nan"),), "float32", [], np.nan),
    ((2, tf.complex64), "complex64", [], 2),
    ((np.float64(1.5), tf.float32), "float32", [], 1.5),
    ((np.ones(2), tf.int32), "int32", [2], [1, 1]),
    ((np.int64([1, 2]), tf.int32), "int32", [2], [1, 2]),
    ((7, None, [2, 3]), "int32", [2, 3], [[7] * 3] * 2),
    (([1, 2, 3], None, [2, 3]), "int32", [2, 3], [[1, 2, 3], [3, 3, 3]]),
    (([1, 2, 3, 4], None, [2, 2]), "int32", [2, 2], [[1, 2], [3, 4]]),
    ((1.0, None, []), "float32", [], 1.0),
    ((np.ones((2, 2)), None, [4]), "float64", [4], [1, 1, 1, 1]),
]

REFUSED: list[tuple[tuple[Any, ...], type[Exception]]] = [
    (([1, "a"],), TypeError),
    ((["a", 1],), TypeError),
    (([[1, 2], [3]],), ValueError),
    ((1.5, tf.int32), TypeError),
    ((2.0, tf.int32), TypeError),
    ((1, tf.bool), TypeError),
    ((1, tf.string), TypeError),
    (("a", tf.int32), TypeError),
    ((1j, tf.float32), TypeError),
    (([1, 2, 3, 4], None, [2]), ValueError),
    (([1, 2], None, [2, 1], "Const", True), TypeError),
    ((1, None, [None]), ValueError),
]


@pytest.mark.parametrize("arguments, dtype, shape, value", MADE, ids=lambda v: repr(v)[:40])
def test_made(arguments: tuple[Any, ...], dtype: str, shape: list[int], value: Any) -> None:
    with tf.Graph().as_default() as graph, tf.Session() as session:
        tensor = tf.constant(*arguments)
        assert tensor.dtype.name == dtype
        assert tensor.shape.as_list() == shape
        found = session.run(tensor)
        np.testing.assert_array_equal(found, np.asarray(value, object if dtype == "string" else None))
        data = graph.as_graph_def().SerializeToString()
    with tf.Graph().as_default() as copy, tf.Session() as session:
        message = tf.GraphDef()
        message.ParseFromString(data)
        tf.import_graph_def(message, name="")
        imported = copy.get_tensor_by_name(tensor.name)
        assert imported.dtype is tensor.dtype
        np.testing.assert_array_equal(session.run(imported), found)


@pytest.mark.parametrize("arguments, kind", REFUSED, ids=lambda v: repr(v)[:40])
def test_refused(arguments: tuple[Any, ...], kind: type[Exception]) -> None:
    with tf.Graph().as_default(), pytest.raises(kind):
        tf.constant(*arguments)


def test_the_array_may_change_afterwards() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        array = np.ones(2)
        tensor = tf.constant(array)
        array[:] = 5
        assert session.run(tensor).tolist() == [1, 1]


def test_no_gradient_flows() -> None:
    with tf.Graph().as_default():
        assert tf.gradients(tf.constant(1.0) * 2.0, [tf.placeholder(tf.float32)]) == [None]
