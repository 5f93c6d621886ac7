"""What array ops say of bad values and shapes, while running and while building.

The texts are TensorFlow's wherever it names the value and the bound.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import engine as tf
from engine.types import errors

raw = tf.raw_ops


class Given:
    """Placeholders whose static shape says nothing, so that what is wrong shows only when it runs."""

    def __init__(self) -> None:
        self.x = tf.placeholder_with_default(np.ones((2, 3), np.float32), None)
        self.seven = tf.placeholder_with_default(np.int32(7), None)
        self.v = tf.placeholder_with_default(np.array([0, 7], np.int32), None)
        self.pairs = tf.placeholder_with_default(np.array([[0, 7], [0, 0]], np.int32), None)


RUNNING: dict[str, tuple[Callable[[Given], Any], str]] = {
    "gather_scalar": (lambda g: tf.gather(g.x, g.seven), "indices = 7 is not in [0, 2)"),
    "gather": (lambda g: tf.gather(g.x, g.v), "indices[1] = 7 is not in [0, 2)"),
    "gather_axis": (lambda g: tf.gather(g.x, [g.v], axis=1), "indices[0,1] = 7 is not in [0, 3)"),
    "gather_negative": (lambda g: tf.gather(g.x, -g.v), "indices[1] = -7 is not in [0, 2)"),
    "gather_bad_axis": (lambda g: tf.gather(g.x, g.v, axis=g.seven), "axis in the range [-2, 2), but got 7"),
    "gather_batch": (
        lambda g: tf.gather(g.x, tf.concat([g.pairs, g.pairs], 0) * 0, axis=1, batch_dims=1),
        "params.shape[0]: 2 should be equal to indices.shape[0]: 4",
    ),
    "old_gather": (lambda g: raw.Gather(g.x, g.v), "indices[1] = 7 is not in [0, 2)"),
    "gather_nd": (
        lambda g: tf.gather_nd(g.x, [g.v]),
        "indices[0] = [0, 7] does not index into param shape [2,3]",
    ),
    "gather_nd_deep": (
        lambda g: tf.gather_nd(g.x, [[[0, 0, 0]]]),
        "index innermost dimension length must be <= params rank",
    ),
    "scatter_nd": (
        lambda g: tf.scatter_nd([[1], [g.seven]], [1.0, 2.0], [3]),
        "indices[1] = [7] does not index into shape [3]",
    ),
    "scatter_nd_shape": (lambda g: tf.scatter_nd([[1], [0]], g.x, [3]), "updates of shape [2,3] do not fit"),
    "concat_axis": (
        lambda g: tf.concat([g.x, g.x], g.seven),
        "ConcatOp : Expected concatenating dimensions in the range [-2, 2), but got 7",
    ),
    "concat": (
        lambda g: tf.concat([g.x, tf.transpose(g.x)], 0),
        "Dimension 1 in both shapes must be equal: shape[0] = [2,3] vs. shape[1] = [3,2]",
    ),
    "concat_ranks": (
        lambda g: tf.concat([g.x, tf.cast(g.v, tf.float32)], 0),
        "Ranks of all input tensors should match",
    ),
    "concat_offset": (
        lambda g: raw.ConcatOffset(0, [g.v, g.v + 1]),
        "must match. Input 1 has shape [1,8]",
    ),
    "stack": (
        lambda g: tf.stack([g.x, tf.transpose(g.x)]),
        "Shapes of all inputs must match: values[0].shape = [2,3] != values[1].shape = [3,2]",
    ),
    "stack_axis": (lambda g: tf.stack([g.x, g.x], axis=4), "axis = 4 not in [-3, 3)"),
    "unstack": (lambda g: tf.unstack(g.x, num=3), "Input shape axis 0 must equal 3, got shape [2,3]"),
    "split": (
        lambda g: tf.split(g.x, 2, axis=1),
        "Number of ways to split should evenly divide the split dimension, but got split_dim 1 (size = 3) and num_split 2",
    ),
    "split_axis": (
        lambda g: tf.split(g.x, 2, axis=g.seven),
        "-input rank(-2) <= split_dim < input rank (2), but got 7",
    ),
    "split_sizes": (lambda g: tf.split(g.x, g.v, num=2), "Determined shape must either match input shape"),
    "split_minus": (lambda g: tf.split(g.x, g.v * 0 - 1, num=2), "There can only be one -1"),
    "split_negative": (
        lambda g: tf.split(g.x, g.v - 3, num=2),
        "Split size at index 0 must be >= 0. Got: -3",
    ),
    "tile": (lambda g: tf.tile(g.x, -g.v), "Expected multiples[1] >= 0, but got -7"),
    "tile_length": (
        lambda g: tf.tile(g.x, [2]),
        "Expected multiples argument to be a vector of length 2 but got length 1",
    ),
    "pad": (lambda g: tf.pad(g.x, -g.pairs), "Paddings must be non-negative: 0 -7"),
    "pad_rank": (
        lambda g: tf.pad(g.x, [[1, 2]]),
        "The first dimension of paddings must be the rank of inputs",
    ),
    "pad_columns": (lambda g: tf.pad(g.x, tf.transpose([g.v, g.v, g.v])), "matrix with 2 columns: [2,3]"),
    "reflect": (
        lambda g: tf.pad(g.x, g.pairs, "REFLECT"),
        "paddings must be less than the dimension size: 0, 7 not less than 2",
    ),
    "symmetric": (
        lambda g: tf.pad(g.x, g.pairs, "SYMMETRIC"),
        "paddings must be no greater than the dimension size: 0, 7 greater than 2",
    ),
    "top_k": (lambda g: tf.nn.top_k(g.x, g.seven), "input must have at least k columns. Had 3, needed 7"),
    "top_k_scalar": (lambda g: tf.nn.top_k(g.seven), "input must be >= 1-D"),
    "one_hot": (lambda g: tf.one_hot(g.v, -g.seven), "depth must be non-negative, got: -7"),
    "fill": (lambda g: tf.fill(-g.v, 1.0), "Dimension -7 must be >= 0"),
    "fill_value": (lambda g: tf.fill([2], g.x), "value must be a scalar, got shape [2,3]"),
    "range_delta": (lambda g: tf.range(0, g.seven, 0), "Requires delta != 0: 0"),
    "range_up": (lambda g: tf.range(g.seven, 0), "Requires start <= limit when delta > 0: 7/0"),
    "range_down": (lambda g: tf.range(0, g.seven, -1), "Requires start >= limit when delta < 0: 0/7"),
    "range_nan": (
        lambda g: tf.range(0.0, tf.cast(g.seven, tf.float32) * np.nan),
        "Requires finite start, limit and delta",
    ),
    "range_vector": (lambda g: tf.range(g.v), "limit must be a scalar, not shape [2]"),
    "lin_space": (lambda g: tf.lin_space(0.0, 1.0, -g.seven), "Requires num > 0: -7"),
    "transpose": (lambda g: tf.transpose(g.x, g.v), "7 is out of range [0 .. 2)"),
    "transpose_length": (
        lambda g: tf.transpose(g.x, [0]),
        "transpose expects a vector of size 2. But input(1) is a vector of size 1",
    ),
    "transpose_twice": (lambda g: tf.transpose(g.x, g.v * 0), "1 is missing from [0,0]."),
    "invert": (lambda g: tf.invert_permutation(g.v), "7 is not between 0 and 2"),
    "invert_twice": (lambda g: tf.invert_permutation(g.v * 0), "0 is duplicated in the input."),
    "squeeze": (lambda g: tf.squeeze(g.x, [1]), "Can not squeeze dim[1], expected a dimension of 1, got 3"),
    "squeeze_axis": (
        lambda g: tf.squeeze(g.x, [5]),
        "Tried to squeeze dim index 5 for tensor with 2 dimensions.",
    ),
    "expand_dims": (
        lambda g: tf.expand_dims(g.x, g.seven),
        "Tried to expand dim index 7 for tensor with 2 dimensions.",
    ),
    "reshape": (
        lambda g: tf.reshape(g.x, [g.seven]),
        "Input to reshape is a tensor with 6 values, but the requested shape has 7",
    ),
    "reshape_negative": (lambda g: tf.reshape(g.x, [-g.seven]), "Size 0 must be non-negative, not -7"),
    "reshape_twice": (
        lambda g: tf.reshape(g.x, g.v * 0 - 1),
        "Only one input size may be -1, not both 0 and 1",
    ),
    "reshape_multiple": (
        lambda g: tf.reshape(g.x, [g.seven, -1]),
        "Input to reshape is a tensor with 6 values, but the requested shape requires a multiple of 7",
    ),
    "reshape_empty": (
        lambda g: tf.reshape(g.x[:0], [0 * g.seven, -1]),
        "reshape cannot infer the missing input size for an empty tensor unless all specified input sizes are non-zero",
    ),
    "ensure_shape": (
        lambda g: tf.ensure_shape(g.x, [3, None]),
        "[2,3] is not compatible with expected shape (3, ?)",
    ),
    "broadcast_to": (lambda g: tf.broadcast_to(g.x, g.v), "Incompatible shapes: [2,3] vs. [0,7]"),
    "bitcast": (lambda g: tf.bitcast(g.x, tf.float64), "the last dimension of shape [2,3] must be 2"),
    "check_numerics": (
        lambda g: tf.check_numerics(tf.log(g.x - 1), "in the log"),
        "in the log : Tensor had Inf values",
    ),
    "stitch": (
        lambda g: tf.dynamic_stitch([[0, g.seven - 9]], [[1.0, 2.0]]),
        "indices[1] = -2 is not in [0, 1)",
    ),
    "stitch_shape": (
        lambda g: tf.dynamic_stitch([g.v], [g.x[:, 0:1][0]]),
        "does not start with indices[0].shape = [2]",
    ),
    "partition": (lambda g: tf.dynamic_partition(g.x, g.v, 2), "partitions[1] = 7 is not in [0, 2)"),
    "partition_shape": (
        lambda g: tf.dynamic_partition(g.v, g.pairs, 2),
        "data.shape must start with partitions.shape",
    ),
    "reverse": (lambda g: tf.reverse(g.x, [g.seven]), "axis 7 has to be in the range [-2, 2)"),
    "reverse_twice": (lambda g: tf.reverse(g.x, g.v * 0), "axis 0 specified more than once."),
    "reverse_sequence": (
        lambda g: tf.reverse_sequence(g.x, g.v, 1, 0),
        "seq_lengths must be in [0, 3], but one is 7",
    ),
    "roll": (lambda g: tf.roll(g.x, [1], [g.seven]), "axis 7 is out of range"),
    "diag_part": (lambda g: tf.diag_part(g.x), "Invalid shape [2,3]: dimensions 0 and 1 do not match."),
    "matrix_diag_part": (
        lambda g: tf.matrix_diag_part(g.seven),
        "input must be at least 2-dim, received shape: []",
    ),
    "set_diag": (lambda g: tf.matrix_set_diag(g.x, g.x[0]), "input.shape[:-2] + min(input.shape[-2:])"),
    "band": (lambda g: tf.matrix_band_part(g.x, g.seven, 0), "number of rows (2) got: 7"),
    "unique": (lambda g: tf.unique(g.x), "unique expects a 1D vector"),
    "string_join": (
        lambda g: tf.string_join([tf.as_string(g.x), tf.as_string(g.v)]),
        "Input shapes do not match: [2,3] vs. [2]",
    ),
    "as_string": (lambda g: tf.as_string(g.x, fill="ab"), "Fill string must be one or fewer characters"),
}


@pytest.mark.parametrize("name", RUNNING)
def test_while_running(name: str) -> None:
    build, text = RUNNING[name]
    result = build(Given())
    with (
        tf.Session() as session,
        np.errstate(all="ignore"),
        pytest.raises(errors.InvalidArgumentError) as info,
    ):
        session.run(result)
    assert text in info.value.message
    assert info.value.op is not None


X = [2, 3]
BUILDING: dict[str, tuple[Callable[[Any], Any], str]] = {
    "reshape": (
        lambda x: tf.reshape(x, [4, 2]),
        "Cannot reshape a tensor with 6 elements, of shape (2, 3), to shape (4, 2)",
    ),
    "reshape_multiple": (lambda x: tf.reshape(x, [4, -1]), "6 is no multiple of 4"),
    "squeeze": (lambda x: tf.squeeze(x, [1]), "Can not squeeze dim[1], expected a dimension of 1, got 3"),
    "squeeze_both": (lambda x: tf.squeeze(x, [1], squeeze_dims=[1]), "Cannot specify both"),
    "expand_dims": (lambda x: tf.expand_dims(x, 4), "dim 4 not in the interval [-3, 2]"),
    "expand_dims_none": (lambda x: tf.expand_dims(x), "Must specify an axis"),
    "transpose": (lambda x: tf.transpose(x, [0, 1, 2]), "shape (2, 3) has rank 2, but must have rank 3"),
    "transpose_out": (lambda x: tf.transpose(x, [0, 2]), "perm dim 2 is out of range"),
    "transpose_twice": (lambda x: tf.transpose(x, [0, 0]), "is not a permutation"),
    "matrix_transpose": (lambda x: tf.matrix_transpose(x[0]), "rank >= 2"),
    "concat": (lambda x: tf.concat([x, tf.zeros([3, 2])], 0), "Cannot concatenate along axis 0"),
    "concat_axis": (lambda x: tf.concat([x, x], 2), "axis 2 is out of range for shape (2, 3)"),
    "stack": (lambda x: tf.stack([x, x[0]], axis=1), "shapes (2, 3) and (3,) are not compatible"),
    "stack_axis": (lambda x: tf.stack([x, x], axis=3), "Argument `axis` = 3 not in range [-3, 3)"),
    "unstack": (lambda x: tf.unstack(x, num=3), "Cannot unstack 3 tensors from axis 0 of shape (2, 3)"),
    "unstack_axis": (lambda x: tf.unstack(x, axis=2), "Argument `axis` = 2 not in range [-2, 2)"),
    "unstack_num": (
        lambda x: tf.unstack(tf.boolean_mask(x, x > 0)),
        "Cannot infer argument `num` from shape (?,)",
    ),
    "split": (
        lambda x: tf.split(x, 2, axis=1),
        "Dimension 1 of shape (2, 3) cannot be split evenly into 2 parts",
    ),
    "split_sizes": (lambda x: tf.split(x, [1, 1], axis=1), "do not add up to the 3 of dimension 1"),
    "split_num": (lambda x: tf.split(x, tf.placeholder(tf.int32, [None])), "Cannot infer argument `num`"),
    "tile": (lambda x: tf.tile(x, [1]), "shape (2, 3) has rank 2, but must have rank 1"),
    "pad": (lambda x: tf.pad(x, [[1, 1]]), "shape (2, 3) has rank 2, but must have rank 1"),
    "pad_mode": (lambda x: tf.pad(x, [[1, 1], [0, 0]], "WRAP"), "Unknown padding mode: WRAP"),
    "slice": (lambda x: tf.slice(x, [0, 2], [1, 2]), "does not fit shape (2, 3)"),
    "gather": (lambda x: tf.gather(x, [0], axis=3), "axis 3 is out of range for params of shape (2, 3)"),
    "gather_batch": (
        lambda x: tf.gather(x, [[0]], axis=0, batch_dims=1),
        "(1) must be less than or equal to axis (0)",
    ),
    "gather_nd": (lambda x: tf.gather_nd(x, [[0, 0, 0]]), "name 3 axes of params of shape (2, 3)"),
    "scatter_nd": (lambda x: tf.scatter_nd([[0]], x, [5]), "updates of shape (2, 3) must have shape (1,)"),
    "one_hot": (lambda x: tf.one_hot([1], -1), "depth must be non-negative, got: -1"),
    "one_hot_axis": (lambda x: tf.one_hot([1], 3, axis=2), "axis must be -1 or in [0, 1], not 2"),
    "boolean_mask": (lambda x: tf.boolean_mask(x, [True, False, True]), "the mask must fit the tensor"),
    "boolean_mask_scalar": (lambda x: tf.boolean_mask(x, True), "mask cannot be scalar."),
    "boolean_mask_rank": (
        lambda x: tf.boolean_mask(x, tf.placeholder(tf.bool)),
        "Number of mask dimensions must be specified",
    ),
    "top_k": (lambda x: tf.nn.top_k(x, 4), "input must have last dimension >= k = 4 but is 3"),
    "sort": (lambda x: tf.sort(x, direction="UP"), "`direction` must be 'ASCENDING' or 'DESCENDING'"),
    "sort_axis": (lambda x: tf.sort(x, axis=2), "axis 2 is out of range for values of shape (2, 3)"),
    "range": (lambda x: tf.range(5, 0), "Requires start <= limit when delta > 0: 5/0"),
    "broadcast_to": (lambda x: tf.broadcast_to(x, [2, 2]), "shape (2, 3) cannot be broadcast to (2, 2)"),
    "ensure_shape": (lambda x: tf.ensure_shape(x, [3, 3]), "shapes (2, 3) and (3, 3) are not compatible"),
    "where": (lambda x: tf.where(x > 0, x), "x and y must both be given"),
    "meshgrid": (lambda x: tf.meshgrid([1], indexing="yx"), "`indexing` must be either 'xy' or 'ij'"),
    "diag_part": (lambda x: tf.diag_part(x), "are not compatible"),
    "sequence_mask": (lambda x: tf.sequence_mask([1], x), "`maxlen` must be scalar"),
    "bitcast": (lambda x: tf.bitcast(x, tf.float64), "the last dimension of shape (2, 3) must be 2"),
}


@pytest.mark.parametrize("name", BUILDING)
def test_while_building(name: str) -> None:
    build, text = BUILDING[name]
    x = tf.placeholder(tf.float32, X)
    with pytest.raises(ValueError) as info:
        build(x)
    assert text in str(info.value)
