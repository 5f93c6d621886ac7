"""What the math ops refuse: each with one message that says what was wrong, as TensorFlow words it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import engine as tf
from engine.types import errors

raw = tf.raw_ops

# A name, what to build (with hidden inputs, so that nothing is known before it runs), its inputs, and the message.
AT_RUN_TIME: dict[str, tuple[Any, list[Any], str]] = {
    "FloorDiv": (raw.FloorDiv, [np.int32([7, 7]), np.int32([2, 0])], "Integer division by zero"),
    "FloorMod": (raw.FloorMod, [np.int64(7), np.int64(0)], "Integer division by zero"),
    "Div": (raw.Div, [np.int8([1]), np.int8([0])], "Integer division by zero"),
    "Mod": (raw.Mod, [np.int32([1]), np.int32([0])], "Integer division by zero"),
    "TruncateDiv": (raw.TruncateDiv, [np.uint8([1]), np.uint8([0])], "Integer division by zero"),
    "Pow": (raw.Pow, [np.int32([2]), np.int32([-1])], "Integers to negative integer powers are not allowed"),
    "Sum twice": (raw.Sum, [np.ones((2, 3)), np.int32([0, -2])], "Axes contains duplicate dimension: 0"),
    "Sum beyond": (
        raw.Sum,
        [np.ones((2, 3)), np.int32([2])],
        r"Invalid reduction dimension \(2 for input with 2",
    ),
    "ArgMax empty": (
        raw.ArgMax,
        [np.ones((0, 3)), np.int32(0)],
        r"Reduction axis 0 is empty in shape \[0,3\]",
    ),
    "ArgMax beyond": (
        raw.ArgMax,
        [np.ones((2, 3)), np.int32(2)],
        r"dimension in the range \[-2, 2\), but got 2",
    ),
    "Cumsum": (raw.Cumsum, [np.ones(3), np.int32(1)], r"scan axis in the range \[-1, 1\), but got 1"),
    "MatMul": (raw.MatMul, [np.ones((2, 3)), np.ones((2, 3))], r"In\[0\]: \[2, 3\], In\[1\]: \[2, 3\]"),
    "MatMul rank": (raw.MatMul, [np.ones((2, 3)), np.ones(3)], "MatMul takes two matrices"),
    "BatchMatMul": (raw.BatchMatMul, [np.ones((1, 2, 3)), np.ones((5, 3, 3))], "same batch dimensions"),
    "BatchMatMulV2": (
        raw.BatchMatMulV2,
        [np.ones((5, 2, 3)), np.ones((4, 3, 3))],
        "compatible batch dimensions",
    ),
    "BatchMatMulV2 rank": (
        raw.BatchMatMulV2,
        [np.ones(3), np.ones((3, 3))],
        r"In\[0\] ndims must be >= 2: 1",
    ),
    "Select": (raw.Select, [np.array([True] * 3), np.ones((2, 2)), np.ones((2, 2))], "but saw: 2 vs. 3"),
    "Select shapes": (raw.Select, [np.array(True), np.ones(2), np.ones(3)], "must have the same size"),
    "ClipByValue": (
        raw.ClipByValue,
        [np.ones(3), np.ones(2), np.ones(())],
        "same shape as input, or a scalar",
    ),
    "ApproximateEqual": (raw.ApproximateEqual, [np.ones(2), np.ones(1)], "must be of the same shape"),
    "SegmentSum order": (
        raw.SegmentSum,
        [np.ones(3), np.int32([1, 0, 2])],
        "segment ids are not increasing: 0 at 1",
    ),
    "SegmentSum negative": (raw.SegmentSum, [np.ones(3), np.int32([-1, 0, 2])], "segment ids must be >= 0"),
    "SegmentSum size": (raw.SegmentSum, [np.ones(3), np.int32([0, 0])], "same size as dimension 0"),
    "UnsortedSegmentSum": (
        raw.UnsortedSegmentSum,
        [np.ones((2, 2)), np.int32([[0, 1], [5, 0]]), np.int32(3)],
        r"segment_ids\[1, 0\] = 5 is out of range \[0, 3\)",
    ),
    "UnsortedSegmentSum shape": (
        raw.UnsortedSegmentSum,
        [np.ones(3), np.int32([0, 1]), np.int32(3)],
        r"data.shape = \[3\] does not start with segment_ids.shape = \[2\]",
    ),
    "UnsortedSegmentSum count": (
        raw.UnsortedSegmentSum,
        [np.ones(3), np.int32([0, 0, 0]), np.int32(-1)],
        "num_segments == -1 must not be negative",
    ),
}


@pytest.mark.parametrize("name", AT_RUN_TIME)
def test_at_run_time(name: str) -> None:
    build, values, message = AT_RUN_TIME[name]
    with tf.Graph().as_default(), tf.Session() as session:
        inputs = [tf.placeholder(value.dtype, None) for value in values]
        with pytest.raises(errors.InvalidArgumentError, match=message):
            session.run(build(*inputs), dict(zip(inputs, values)))


def test_add_n_of_different_shapes() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        x, y = tf.placeholder(tf.float32), tf.placeholder(tf.float32)
        with pytest.raises(errors.InvalidArgumentError, match=r"Input 0: \[2\] != input 1: \[1\]"):
            session.run(tf.add_n([x, y]), {x: [1, 2], y: [1]})


def test_dividing_no_integers_by_zero_is_no_error() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        assert session.run(tf.constant([], tf.int32) // 0).shape == (0,)


WHILE_BUILDING: dict[str, tuple[Any, type[Exception], str]] = {
    "matmul inner": (lambda x: tf.matmul(x, x), ValueError, "Dimensions must be equal, but are 3 and 2"),
    "matmul transposed": (
        lambda x: tf.matmul(x, x, True, True),
        ValueError,
        "the first and the second transposed",
    ),
    "matmul rank": (lambda x: tf.matmul(x, [1.0]), ValueError, "rank"),
    "matmul both": (
        lambda x: tf.matmul(x, x, True, adjoint_a=True),
        ValueError,
        "Only one of transpose_a and adjoint_a",
    ),
    "reduce axis": (lambda x: tf.reduce_sum(x, 2), ValueError, "Invalid reduction dimension 2"),
    "both names": (
        lambda x: tf.reduce_sum(x, 0, reduction_indices=1),
        ValueError,
        "Cannot specify both 'axis'",
    ),
    "argmax": (lambda x: tf.argmax(x, 5), ValueError, "range"),
    "cumsum": (lambda x: tf.cumsum(x, 2), ValueError, r"not in \[-2, 2\)"),
    "broadcast": (lambda x: x + tf.ones([4]), ValueError, "3.*4"),
    "dtypes": (lambda x: x / tf.constant(1), TypeError, "same dtype"),
    "int and float": (lambda x: tf.constant(1) + 2.5, TypeError, "2.5"),
    "bool division": (lambda x: tf.constant(True) / tf.constant(True), TypeError, "tf.bool in __truediv__"),
    "where one": (lambda x: tf.where(x > 0, x), ValueError, "both be given"),
    "add_n": (lambda x: tf.add_n(x), ValueError, "list"),
    "add_n empty": (lambda x: tf.add_n([]), ValueError, "at least one"),
    "scalar_mul": (lambda x: tf.scalar_mul([1.0, 2.0], x), ValueError, "Only scalar multiply"),
    "clip": (lambda x: tf.clip_by_value(x, tf.zeros([4, 2, 3]), 1.0), ValueError, "compatible"),
    "complex": (
        lambda x: tf.complex(x, tf.zeros([2, 3], tf.float64)),
        TypeError,
        "both float32 or both float64",
    ),
    "cast": (lambda x: tf.cast(x, tf.string), TypeError, "no cast"),
    "norm": (lambda x: tf.norm(x, ord=-1), ValueError, "positive number"),
    "norm axis": (lambda x: tf.norm(x, axis=[1, 1]), ValueError, "pair of different integers"),
    "tensordot": (lambda x: tf.tensordot(x, x, 3), ValueError, "larger than the number of dimensions"),
    "variance": (lambda x: tf.reduce_variance(tf.constant([1, 2])), TypeError, "cast it first"),
}


@pytest.mark.parametrize("name", WHILE_BUILDING)
def test_while_building(name: str) -> None:
    build, kind, message = WHILE_BUILDING[name]
    with tf.Graph().as_default(), pytest.raises(kind, match=message):
        build(tf.placeholder(tf.float32, [2, 3]))
