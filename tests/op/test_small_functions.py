"""Functions built from ops: clipping, embeddings, `einsum`, `eye`, logging; against NumPy."""

from __future__ import annotations

import inspect
import logging
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from searches import examples

import engine as tf
from engine import errors


def run(fetches: Any, feeds: Any = None) -> Any:
    graph = tf.get_default_graph()
    with tf.Session(graph=graph) as session:
        return session.run(fetches, feeds)


@pytest.fixture(autouse=True)
def _graph() -> Any:
    with tf.Graph().as_default():
        yield


# einsum.


@st.composite
def equations(draw: st.DrawFn) -> Any:
    """An equation of two or three inputs over up to five letters, and the size of each."""
    letters = "abcde"
    terms = [
        draw(st.lists(st.sampled_from(letters), min_size=0, max_size=3, unique=True))
        for _ in range(draw(st.integers(1, 3)))
    ]
    present = sorted({letter for term in terms for letter in term})
    result = draw(
        st.permutations(draw(st.lists(st.sampled_from(present), unique=True) if present else st.just([])))
    )
    sizes = {letter: draw(st.integers(1, 3)) for letter in letters}
    return ",".join(map("".join, terms)) + "->" + "".join(result), [
        [sizes[each] for each in term] for term in terms
    ]


@examples(30)
@given(equations(), st.booleans(), st.integers(0, 2**31))
def test_einsum_is_numpys(equation: Any, known: bool, seed: int) -> None:
    text, shapes = equation
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=shape) for shape in shapes]
    with tf.Graph().as_default():
        inputs = [tf.placeholder(tf.float64, shape if known else [None] * len(shape)) for shape in shapes]
        found = tf.einsum(text, *inputs)
        value = run(found, dict(zip(inputs, arrays)))
    wanted = np.einsum(text, *arrays)
    assert found.shape.is_compatible_with(wanted.shape)
    np.testing.assert_allclose(value, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "equation, shapes",
    [
        ("...ij,...jk->...ik", [(2, 1, 2, 3), (4, 3, 4)]),
        ("...i,j", [(2, 3), (4,)]),
        ("i...->...", [(2, 3)]),
        ("ij , jk", [(2, 3), (3, 4)]),
    ],
)
def test_einsum_with_an_ellipsis_or_without_an_arrow(equation: str, shapes: Any) -> None:
    arrays = [np.arange(np.prod(shape), dtype=np.float64).reshape(shape) for shape in shapes]
    np.testing.assert_allclose(run(tf.einsum(equation, *arrays)), np.einsum(equation, *arrays))


@pytest.mark.parametrize(
    "equation, count, message",
    [
        ("ij,jk->ik", 1, "has 2, 1 were given"),
        ("ii->i", 1, "an axis appears more than once"),
        ("ij->ijj", 1, "repeats"),
        ("ij->k", 1, "label 'k', which no input has"),
        ("i->i", 1, "has 2 dimensions; 'i' .* names 1"),
        ("i1->i", 1, "incorrect format"),
    ],
)
def test_equations_that_are_none(equation: str, count: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tf.einsum(equation, *[tf.constant([[1.0]])] * count)


# Matrices.


def test_eye_and_trace() -> None:
    n = tf.placeholder(tf.int32, [])
    found = run(
        [tf.eye(n), tf.eye(2, n, dtype=tf.int32), tf.eye(2, batch_shape=[3, 1]), tf.eye(n, batch_shape=[2])],
        {n: 3},
    )
    np.testing.assert_array_equal(found[0], np.eye(3))
    np.testing.assert_array_equal(found[1], np.eye(2, 3))
    np.testing.assert_array_equal(found[2], np.broadcast_to(np.eye(2), (3, 1, 2, 2)))
    np.testing.assert_array_equal(found[3], np.broadcast_to(np.eye(3), (2, 3, 3)))
    array = np.arange(24.0).reshape(2, 3, 4)
    np.testing.assert_array_equal(run(tf.trace(array)), np.trace(array, axis1=1, axis2=2))


# Clipping.


def test_clip_by_norm_at_zero_has_a_gradient() -> None:
    x = tf.constant([0.0, 0.0])
    assert run(tf.gradients(tf.clip_by_norm(x, 2.0), x)[0]).tolist() == [1, 1]


def test_clipping_by_a_norm_that_is_not_finite() -> None:
    (clipped,), norm = tf.clip_by_global_norm([tf.constant([np.inf, 1.0], tf.float32)], 1.0)
    found = run([clipped, norm])
    assert np.isnan(found[0]).all() and np.isinf(found[1])
    with pytest.raises(TypeError, match="should be a sequence of tensors"):
        tf.clip_by_global_norm(tf.constant(1.0), 1.0)
    with pytest.raises(ValueError):
        tf.clip_by_norm(tf.constant([1.0]), tf.constant([1.0, 2.0]))


# Embeddings.


def test_embeddings() -> None:
    table = np.arange(14.0).reshape(7, 2)
    ids = np.array([[0, 6], [3, 4]])
    parts = {"mod": [table[i::3] for i in range(3)], "div": [table[:3], table[3:5], table[5:]]}
    for strategy, pieces in parts.items():
        found = tf.nn.embedding_lookup(
            [tf.constant(each) for each in pieces], ids, partition_strategy=strategy
        )
        np.testing.assert_array_equal(run(found), table[ids])
    v = tf.Variable(table)
    found = tf.nn.embedding_lookup(v, ids)
    gradient = tf.gradients(found, v)[0]
    assert isinstance(gradient, tf.IndexedSlices)
    with pytest.raises(ValueError, match="Unrecognized partition strategy: odd"):
        tf.nn.embedding_lookup([table, table], ids, partition_strategy="odd")
    with pytest.raises(ValueError, match="Need at least one param"):
        tf.nn.embedding_lookup([], ids)
    with pytest.raises(errors.InvalidArgumentError):
        run(tf.nn.embedding_lookup(table, [7]))


def test_zero_fraction_and_l2_normalize() -> None:
    x = np.array([[3.0, 4.0, 0.0], [0.0, 0.0, 0.0]])
    fraction, normal, turned = run(
        [tf.nn.zero_fraction(x), tf.nn.l2_normalize(x, 1), tf.nn.l2_normalize(np.array([3j, 4.0]))]
    )
    assert fraction == np.float32(4 / 6)
    np.testing.assert_allclose(normal, [[0.6, 0.8, 0], [0, 0, 0]])
    np.testing.assert_allclose(turned, [0.6j, 0.8])


# Names.


def test_names() -> None:
    assert tf.OpError is errors.OpError
    assert not tf.executing_eagerly()
    sparse = tf.SparseTensor([[0]], [1.0], [2])
    assert all(map(tf.is_tensor, [tf.constant(1), tf.Variable(1), sparse]))
    assert not any(map(tf.is_tensor, [1, np.ones(2), "a", tf.constant(1).op]))
    assert tf.equal(1, 2, "named").op.name == "named" and tf.not_equal(1, 2, "other").op.name == "other"
    assert list(inspect.signature(tf.switch_case).parameters) == [
        "branch_index",
        "branch_fns",
        "default",
        "name",
    ]


def test_logging(caplog: pytest.LogCaptureFixture) -> None:
    before = tf.logging.get_verbosity()
    try:
        tf.logging.set_verbosity(tf.logging.INFO)
        assert tf.logging.get_verbosity() == logging.INFO
        with caplog.at_level(tf.logging.INFO, "engine"):
            tf.logging.debug("hidden")
            tf.logging.info("loss %d", 3)
            tf.logging.log_if(tf.logging.WARN, "shown", True)
            tf.logging.log_if(tf.logging.WARN, "not shown", False)
            for i in range(5):
                tf.logging.log_every_n(tf.logging.ERROR, "every %d", 2, i)
                tf.logging.log_first_n(tf.logging.ERROR, "first %d", 1, i)
        assert [(each.levelno, each.getMessage()) for each in caplog.records] == [
            (20, "loss 3"), (30, "shown"), (40, "every 0"), (40, "first 0"), (40, "every 2"), (40, "every 4"),
        ]  # fmt: skip
    finally:
        tf.logging.set_verbosity(before)


def test_meta_graphs(tmp_path: Any) -> None:
    tf.constant(1.0, name="c")
    tf.train.export_meta_graph(str(tmp_path / "graph.meta"))
    with tf.Graph().as_default() as other:
        tf.train.import_meta_graph(str(tmp_path / "graph.meta"))
        assert other.get_tensor_by_name("c:0").dtype is tf.float32
