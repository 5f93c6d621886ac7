"""Sparse tensors and references to variables in branches and loops, fed and fetched."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import engine as tf
from engine import errors
from engine.autodiff.check import compute_gradient


@pytest.fixture(autouse=True)
def _graph() -> Any:
    with tf.Graph().as_default():
        yield


def run(fetches: Any, feeds: Any = None) -> Any:
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        return session.run(fetches, feeds)


def types() -> list[str]:
    return [op.type for op in tf.get_default_graph().get_operations()]


VALUE = tf.SparseTensorValue([[0, 1], [2, 0]], np.array([2.0, 3.0], np.float32), [3, 3])


# Feeding and fetching.


def test_feeding_and_fetching() -> None:
    sparse = tf.sparse_placeholder(tf.float32, shape=[3, None], name="s")
    assert sparse.shape.as_list() == [3, None] and sparse.indices.shape.as_list() == [None, 2]
    assert [sparse.indices.name, sparse.values.name, sparse.dense_shape.name] == [
        "s/indices:0",
        "s/values:0",
        "s/shape:0",
    ]
    found = run({"sparse": sparse, "dense": tf.sparse_tensor_to_dense(sparse)}, {sparse: VALUE})
    assert isinstance(found["sparse"], tf.SparseTensorValue)
    assert found["sparse"].indices.tolist() == [[0, 1], [2, 0]] and found["sparse"].dense_shape.tolist() == [
        3,
        3,
    ]
    assert found["dense"].tolist() == [[0, 2, 0], [0, 0, 0], [3, 0, 0]]
    again = run(sparse, {sparse: found["sparse"]})
    assert again.values.tolist() == [2, 3]
    with tf.Session():
        assert sparse.eval({sparse: tuple(VALUE)}).values.tolist() == [2, 3]
    with pytest.raises(ValueError, match="fed with a SparseTensorValue"):
        run(sparse, {sparse: [1, 2]})


def test_a_placeholder_without_a_shape() -> None:
    sparse = tf.sparse_placeholder(tf.int32)
    assert sparse.shape.ndims is None
    assert run(tf.sparse_reduce_sum(sparse), {sparse: ([[1], [3]], [4, 5], [6])}) == 9


def test_parts_that_do_not_fit() -> None:
    with pytest.raises(ValueError):
        tf.SparseTensor([[0, 1]], [1.0, 2.0], [3, 3])
    with pytest.raises(ValueError):
        tf.SparseTensor([[0, 1]], [1.0], [3])
    with pytest.raises(TypeError, match="does not become a Tensor by itself. Use tf.sparse.to_dense"):
        tf.convert_to_tensor(tf.SparseTensor.from_value(VALUE))
    with pytest.raises(TypeError, match="Neither a SparseTensor nor SparseTensorValue"):
        tf.SparseTensor.from_value([1])


@pytest.mark.parametrize(
    "indices, message",
    [
        ([[0, 0], [0, 3]], r"indices\[1\] = \[0,3\] is out of bounds: need 0 <= index < \[3,3\]"),
        ([[1, 0], [0, 2]], r"indices\[1\] = \[0,2\] is out of order. .*\n.*tf.sparse.reorder"),
        ([[1, 2], [1, 2]], r"indices\[1\] = \[1,2\] is repeated"),
    ],
)
def test_positions_are_checked(indices: Any, message: str) -> None:
    sparse = tf.SparseTensor(indices, [1.0, 2.0], [3, 3])
    with pytest.raises(errors.InvalidArgumentError, match=message):
        run(tf.sparse_tensor_to_dense(sparse))


# Dependencies and groups.


def test_dependencies_groups_and_tuples() -> None:
    seen: list[float] = []
    values = tf.py_func(lambda: seen.append(1) or np.float32([2, 3]), [], tf.float32, stateful=True)
    values.set_shape([2])
    sparse = tf.SparseTensor([[0], [2]], values, [4])
    with tf.control_dependencies([sparse]):
        after = tf.py_func(lambda: len(seen), [], tf.int64, stateful=True)
    assert run(after) == 1
    run(tf.group(sparse))
    assert len(seen) == 2
    first, second = tf.tuple([sparse, tf.constant(5)])
    found = run([first, second, tf.identity(sparse)])
    assert found[0].values.tolist() == [2, 3] and found[1] == 5 and found[2].indices.tolist() == [[0], [2]]


# Branches and loops.


@pytest.mark.parametrize("taken", [True, False])
def test_a_branch_gives_a_sparse_tensor(taken: bool) -> None:
    pred = tf.placeholder(tf.bool, [])
    sparse = tf.cond(
        pred,
        lambda: tf.SparseTensor.from_value(VALUE),
        lambda: tf.SparseTensor([[1, 1]], [9.0], [3, 3]),
    )
    assert isinstance(sparse, tf.SparseTensor) and sparse.indices.shape.as_list() == [None, 2]
    found = run(sparse, {pred: taken})
    assert found.values.tolist() == ([2, 3] if taken else [9])


def test_a_loop_variable_with_more_and_more_values() -> None:
    def body(i: Any, sparse: Any) -> Any:
        indices = tf.concat([sparse.indices, [[tf.cast(i, tf.int64) + 3]]], 0)
        return i + 1, tf.SparseTensor(indices, tf.concat([sparse.values, [7.0]], 0), sparse.dense_shape)

    start = tf.SparseTensor([[0]], [1.0], [10])
    _, sparse = tf.while_loop(lambda i, _: i < 3, body, [0, start])
    found = run(sparse)
    assert found.indices.tolist() == [[0], [3], [4], [5]] and found.values.tolist() == [1, 7, 7, 7]


def test_a_loop_variable_with_an_invariant() -> None:
    def body(i: Any, sparse: Any) -> Any:
        return i + 1, tf.sparse.transpose(sparse)

    start = tf.SparseTensor([[0, 1]], [1.0], [2, 3])
    invariants = [tf.TensorShape([]), tf.TensorShape([None, None])]
    _, sparse = tf.while_loop(lambda i, _: i < 3, body, [0, start], shape_invariants=invariants)
    found = run(sparse)
    assert found.indices.tolist() == [[1, 0]] and found.dense_shape.tolist() == [3, 2]


def test_slices_stay_slices_in_a_loop() -> None:
    start = tf.IndexedSlices(tf.constant([[1.0, 2.0]]), tf.constant([3]), tf.constant([5, 2]))

    def body(i: Any, slices: Any) -> Any:
        assert isinstance(slices, tf.IndexedSlices)
        values = tf.concat([slices.values, slices.values * 2], 0)
        return i + 1, tf.IndexedSlices(values, tf.concat([slices.indices] * 2, 0), slices.dense_shape)

    _, slices = tf.while_loop(lambda i, _: i < 2, body, [0, start])
    assert run(tf.convert_to_tensor(slices)).tolist() == [[0, 0], [0, 0], [0, 0], [9, 18], [0, 0]]


def test_a_loop_variable_must_stay_sparse() -> None:
    with pytest.raises(TypeError, match="must stay what it is"):
        tf.while_loop(
            lambda i, _: i < 2,
            lambda i, s: (i + 1, tf.sparse_reduce_sum(s)),
            [0, tf.SparseTensor.from_value(VALUE)],
        )


def test_the_gradient_of_an_invariant() -> None:
    values = tf.placeholder(tf.float64, [4])
    sparse = tf.SparseTensor([[0, 1], [1, 2], [2, 0], [2, 2]], values, [3, 3])
    start = tf.constant(np.arange(6).reshape(3, 2) / 3.0)

    def body(i: Any, x: Any) -> Any:
        product = tf.sparse_tensor_dense_matmul(sparse, tf.sin(x))
        return i + 1, product + tf.sparse_reduce_sum(sparse, 1, keepdims=True) * tf.sparse_tensor_to_dense(
            sparse
        )[:, :2]

    y = tf.reduce_sum(tf.square(tf.while_loop(lambda i, _: i < 3, body, [0, start])[1]))
    at = np.array([0.5, -1.0, 2.0, 0.7])
    with tf.Session():
        symbolic, numeric = compute_gradient(values, (4,), y, [], at, delta=1e-5)
    np.testing.assert_allclose(symbolic, numeric, rtol=1e-6, atol=1e-5)


# References.


@pytest.mark.parametrize("taken, after", [(True, 11.0), (False, 0.0)])
def test_a_variable_assigned_in_a_branch(taken: bool, after: float) -> None:
    v = tf.Variable(1.0)
    pred = tf.placeholder(tf.bool, [])
    reference = tf.cond(pred, lambda: tf.assign_add(v, 10.0), lambda: tf.assign_sub(v, 1.0))
    assert {"RefSwitch", "RefMerge"} <= set(types())
    assert reference.dtype._is_ref_dtype
    doubled = tf.assign(reference, 2.0 * tf.identity(reference))
    with tf.control_dependencies([doubled]):
        read = v.read_value()
    assert run(read, {pred: taken}) == 2 * after


def test_a_reference_that_goes_around_a_loop() -> None:
    v = tf.Variable([1.0, 2.0])

    def body(i: Any, reference: Any) -> Any:
        assert reference.dtype._is_ref_dtype
        return i + 1, tf.assign_add(reference, [1.0, 10.0])

    _, last = tf.while_loop(lambda i, _: i < 4, body, [0, v._ref()], parallel_iterations=1)
    assert {"RefEnter", "RefMerge", "RefSwitch", "RefIdentity", "RefNextIteration", "RefExit"} <= set(types())
    with tf.control_dependencies([tf.assign_sub(last, [1.0, 1.0])]):
        read = v.read_value()
    assert run(read).tolist() == [4, 41]


def test_a_reference_in_a_branch_in_a_loop() -> None:
    v = tf.Variable(0)

    def body(i: Any) -> Any:
        changed = tf.cond(i % 2 < 1, lambda: tf.assign_add(v, 10), lambda: tf.assign_add(v, 1))
        with tf.control_dependencies([changed]):
            return i + 1

    looped = tf.while_loop(lambda i: i < 5, body, [0], parallel_iterations=1)
    with tf.control_dependencies([looped]):
        read = v.read_value()
    assert run(read) == 32


@pytest.mark.parametrize("index", [0, 1])
def test_a_selected_reference(index: int) -> None:
    variables = [tf.Variable(1.0), tf.Variable(2.0)]
    which = tf.placeholder(tf.int32, [])
    chosen = tf.raw_ops.RefSelect(which, [each._ref() for each in variables])
    assert chosen.dtype._is_ref_dtype and chosen.shape.as_list() == []
    with tf.control_dependencies([tf.assign(chosen, 7.0)]):
        read = [each.read_value() for each in variables]
    assert run(read, {which: index}) == ([7, 2] if index == 0 else [1, 7])
    with pytest.raises(errors.InvalidArgumentError, match=r"Index must be in the range \[0, 2\) but got 2"):
        run(chosen, {which: 2})
    with pytest.raises(LookupError, match="No gradient defined for operation.*RefSelect"):
        tf.gradients(tf.identity(chosen), variables[0])


@pytest.mark.parametrize("taken", [True, False])
def test_gradients_through_references(taken: bool) -> None:
    v = tf.Variable([1.5, 2.0])
    pred = tf.placeholder(tf.bool, [])
    reference = tf.cond(pred, lambda: v._ref(), lambda: tf.raw_ops.RefIdentity(v._ref()))
    _, last = tf.while_loop(
        lambda i, _: i < 2, lambda i, r: (i + 1, r), [0, reference], parallel_iterations=1
    )
    y = last * last
    assert run(tf.gradients(y, v)[0], {pred: taken}).tolist() == [3, 4]


# switch_case.


def test_switch_case() -> None:
    index = tf.placeholder(tf.int32, [])
    x = tf.constant(3.0)
    branches = {1: lambda: x * x, 0: lambda: x + 1.0}
    with_default = tf.switch_case(index, branches, default=lambda: -x)
    without = tf.switch_case(index, [(0, branches[0]), (1, branches[1])])
    found = [run([with_default, without], {index: number}) for number in (-1, 0, 1, 2)]
    assert found == [[-3, 9], [4, 4], [9, 9], [-3, 9]]


@pytest.mark.parametrize(
    "branches, error, message",
    [
        ([], ValueError, "at least one item"),
        (7, TypeError, "must be a list, tuple, or dict"),
        ([(0, lambda: 1), 3], TypeError, "must be a 2-tuple"),
        ([("a", lambda: 1)], TypeError, "key must be a Python `int`"),
        ({0: 3}, TypeError, "fn for key 0 must be callable"),
        ({0: lambda: 1, 2: lambda: 2}, ValueError, r"range of \[0 to 2\) but found \{0, 2\}"),
    ],
)
def test_branches_that_are_none(branches: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        tf.switch_case(tf.constant(0), branches)


def test_an_index_that_is_none() -> None:
    with pytest.raises(TypeError, match="branch_index must be a Tensor, got int"):
        tf.switch_case(0, [lambda: 1])
    with pytest.raises(TypeError, match="must be an int32 scalar"):
        tf.switch_case(tf.constant(0.5), [lambda: 1])
