"""Elementwise fusion: the same bits as the ops apart, fewer nodes, and only where nothing can tell the difference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pass_runs import run, same_bits, types
from searches import examples

import engine as tf
from engine.op.fused_program import read
from engine.types import errors

# Programs: random DAGs of elementwise ops.

_UNARY = {
    "f": (
        "Neg",
        "Abs",
        "Square",
        "Exp",
        "Tanh",
        "Sigmoid",
        "Relu",
        "Relu6",
        "Softplus",
        "Sin",
        "Floor",
        "Sign",
    ),
    "c": ("Neg", "Square", "Exp", "Tanh", "Conj"),
    "i": ("Neg", "Abs", "Square", "Sign"),
}
_BINARY = {
    "f": ("AddV2", "Sub", "Mul", "Maximum", "Minimum", "RealDiv", "SquaredDifference", "DivNoNan"),
    "c": ("AddV2", "Sub", "Mul", "RealDiv"),
    "i": ("AddV2", "Sub", "Mul", "Maximum", "Minimum"),
}
_SHAPES = ((48, 64), (64,), (48, 1), ())  # the first is large enough to be written over


@st.composite
def dags(draw: st.DrawFn) -> Any:
    """(dtype, shapes of the inputs, whether they are known, rows (op, operands), which rows are fetched)."""
    dtype = draw(st.sampled_from(["float32", "float32", "float64", "float16", "complex64", "int32"]))
    kind = np.dtype(dtype).kind
    shapes = draw(st.lists(st.sampled_from(_SHAPES), min_size=1, max_size=4))
    known = draw(st.booleans())
    rows: list[tuple[str, tuple[int, ...]]] = []
    for _ in range(draw(st.integers(2, 14))):
        value = st.integers(0, len(shapes) + len(rows) - 1)
        if draw(st.booleans()):
            rows.append((draw(st.sampled_from(_UNARY[kind])), (draw(value),)))
        else:
            rows.append((draw(st.sampled_from(_BINARY[kind])), (draw(value), draw(value))))
    fetched = {len(rows) - 1, *draw(st.sets(st.integers(0, len(rows) - 1), max_size=2))}
    return dtype, shapes, known, rows, sorted(fetched)


@examples(30)
@given(dags(), st.integers(0, 2**32 - 1))
def test_random_dags_have_the_same_bits(dag: Any, seed: int) -> None:
    dtype, shapes, known, rows, fetched = dag
    rng = np.random.default_rng(seed)
    with tf.Graph().as_default():
        inputs = [tf.placeholder(dtype, shape if known else None) for shape in shapes]
        values = list(inputs)
        for op_type, operands in rows:
            values.append(getattr(tf.raw_ops, op_type)(*(values[i] for i in operands)))
        feeds = {x: _random(rng, dtype, shape) for x, shape in zip(inputs, shapes)}
        fetches = [values[len(shapes) + i] for i in fetched]
        plain, before = run(fetches, feeds)
        fused, after = run(fetches, feeds, "fuse")
    same_bits(fused, plain)
    assert len(after) <= len(before)
    gone = len(before) - len(after)
    steps = [read(node.attrs["program"]).steps for node in after if node.type == "_FusedElementwise"]
    assert gone == sum(len(each) - 1 for each in steps)


def _random(rng: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> Any:
    if dtype == "int32":
        return rng.integers(-9, 10, shape).astype(dtype)
    values = rng.normal(size=shape) * 2
    if dtype == "complex64":
        values = values + 1j * rng.normal(size=shape)
    return np.asarray(values).astype(dtype)


# What is fused, and what is not.


@pytest.fixture
def x() -> Any:
    with tf.Graph().as_default():
        yield tf.placeholder(tf.float32, [4, 8], name="x")


FEED = np.linspace(-2, 2, 32, dtype=np.float32).reshape(4, 8)


def test_a_chain_is_one_node_with_all_its_sources(x: Any) -> None:
    y = tf.tanh(tf.exp(x, name="e") * 2.0 + 1.0, name="out")
    _, stage = run([y], {x: FEED}, "fuse")
    node = stage.nodes["out"]
    assert node.type == "_FusedElementwise"
    assert node.attrs["program"].splitlines() == [
        "t0 = Exp(x0)",
        "t1 = Mul(t0, x1)",
        "t2 = AddV2(t1, x2)",
        "t3 = Tanh(t2)",
    ]
    assert set(stage.origin("out")) == {"e", "mul", "add", "out"}
    assert node.lineage.reason == "Exp + Mul + AddV2 + Tanh as one node"


def test_what_is_fetched_or_read_elsewhere_or_waited_for_stays(x: Any) -> None:
    fetched = tf.exp(x, name="fetched")
    shared = tf.square(fetched, name="shared")
    waited = tf.negative(shared, name="waited")
    with tf.control_dependencies([waited]):
        after = tf.abs(fetched, name="after")
    total = tf.reduce_sum(shared)
    _, stage = run([fetched, after, total, waited * 2.0], {x: FEED}, "fuse")
    assert "_FusedElementwise" not in types(stage)


def test_two_readers_in_one_group_are_no_reason_to_stay(x: Any) -> None:
    t = x * 3.0
    y = tf.multiply(t, tf.sigmoid(t), name="swish")
    values, stage = run([y], {x: FEED}, "fuse")
    assert len(read(stage.nodes["swish"].attrs["program"]).steps) == 3
    wide = FEED.astype(np.float64) * 3
    np.testing.assert_allclose(values[0], wide / (1 + np.exp(-wide)), rtol=1e-6)


def test_a_smaller_iteration_space_stays_apart(x: Any) -> None:
    row = tf.exp(tf.constant(np.arange(8, dtype=np.float32)))
    _, stage = run([tf.tanh(x * row)], {x: FEED}, "fuse")
    assert types(stage).count("Exp") == 1


def test_devices_and_frames_are_not_crossed() -> None:
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [3])
        with tf.device("/cpu:1"):
            a = tf.exp(x)
        y = tf.tanh(a)
        z = tf.while_loop(lambda i, v: i < 3, lambda i, v: (i + 1, tf.sin(v * 2.0) + 1.0), [0, y])[1]
        plain, before = run([z], {x: [0.1, 0.2, 0.3]}, cpus=2)
        fused, after = run([z], {x: [0.1, 0.2, 0.3]}, "fuse", cpus=2)
    same_bits(fused, plain)
    assert types(after).count("Exp") == 1 and types(after).count("Tanh") == 1
    assert types(after).count("_FusedElementwise") == 1  # in the loop's body
    assert len(after) == len(before) - 2


def test_what_is_placed_on_one_device_is_fused_whoever_asked_for_it() -> None:
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [3])
        with tf.device("/cpu:0"):
            a = tf.exp(x)
        y = tf.tanh(a)
        with tf.colocate_with(x.op):
            z = tf.sin(y)
        plain, _ = run([z], {x: [0.1, 0.2, 0.3]}, cpus=2)
        fused, after = run([z], {x: [0.1, 0.2, 0.3]}, "fuse", cpus=2)
    same_bits(fused, plain)
    (node,) = [node for node in after if node.type == "_FusedElementwise"]
    assert [each.type for each in read(node.attrs["program"]).steps] == ["Exp", "Tanh", "Sin"]
    assert node.device.endswith("/device:CPU:0")


def test_a_step_that_fails_names_its_own_op_and_line(x: Any) -> None:
    other = tf.placeholder(tf.float32, None)
    scaled = tf.multiply(tf.exp(x), other, name="scaled")
    y = tf.tanh(scaled)
    with pytest.raises(
        errors.InvalidArgumentError, match=r"Incompatible shapes: \[4,8\] vs\. \[3\]"
    ) as caught:
        run([y], {x: FEED, other: np.ones(3, np.float32)}, "fuse")
    assert caught.value.op is scaled.op
    assert "tf.multiply(tf.exp(x), other" in str(caught.value)


def test_integers_divided_by_zero_are_an_error_as_ever() -> None:
    with tf.Graph().as_default():
        a = tf.placeholder(tf.int32, [2])
        y = -tf.floordiv(a * 2, a, name="quotient")
        with pytest.raises(errors.InvalidArgumentError, match="Integer division by zero") as caught:
            run([y], {a: [1, 0]}, "fuse")
    assert caught.value.op.name == "quotient"


def test_a_program_that_is_none_says_which_line() -> None:
    with tf.Graph().as_default(), pytest.raises(ValueError, match="line 1 of a fused program is 'nonsense'"):
        tf.raw_ops._FusedElementwise([tf.constant(1.0)], T=tf.float32, program="nonsense")


def test_nothing_that_is_fed_is_written_over() -> None:
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [64, 64])
        kept = tf.identity(x)
        y = ((kept + 1.0) * 2.0 - 3.0) / 4.0
        value = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
        before = value.copy()
        (result, again), _ = run([y, kept], {x: value}, "fuse")
    np.testing.assert_array_equal(value, before)
    np.testing.assert_array_equal(again, before)
    np.testing.assert_array_equal(result, ((before + 1) * 2 - 3) / 4)
