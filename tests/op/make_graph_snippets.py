"""Writes graph_snippets.json: the nodes that TensorFlow 1's API (`tensorflow.compat.v1`) makes for each snippet below.

Run it with a Python that has TensorFlow: ``python tests/op/make_graph_snippets.py``.  The tests compare the engine's graphs with
the file and need no TensorFlow.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PRELUDE = {
    "x": "tf.placeholder(tf.float32, [3, 4], name='x')",
    "y": "tf.placeholder(tf.float32, [None, 4, 5], name='y')",
    "u": "tf.placeholder(tf.float32, None, name='u')",
    "i": "tf.placeholder(tf.int32, [], name='i')",
    "v": "tf.placeholder(tf.int32, [None], name='v')",
    "b": "tf.placeholder(tf.bool, [None], name='b')",
    "w": "tf.placeholder(tf.float32, [4, 3], name='w')",
    "z": "tf.placeholder(tf.complex64, [3], name='z')",
    "s": "tf.placeholder(tf.string, [2], name='s')",
}

SNIPPETS = """
x[0]
x[-1]
x[1, 2]
x[1:3]
x[:, 1]
x[:, 0:3:2]
x[::-1]
x[..., 1]
x[..., None]
x[tf.newaxis, ..., tf.newaxis]
x[:]
x[()]
x[i]
x[i:]
x[:, i]
x[i, 1:]
x[1:i]
y[0]
y[:, 1:3, -1]
y[1:, ..., ::-1]
y[:, None, 2, :]
u[0]
u[..., 0]
v[1:]
v[:3]
tf.shape(y)[0]
tf.shape(y)[1:]
x[b]
x[v[0]]
tf.strided_slice(x, [0, 1], [2, 3])
tf.strided_slice(x, [0, 1], [2, 3], [1, 2], end_mask=1)
tf.slice(y, [0, 1, 2], [-1, 2, 1])
tf.slice(x, [i, 0], [1, 4])
tf.slice(x, v, [1, 2])
tf.stack([x, x])
tf.stack([x, x * 2.0], axis=1)
tf.stack([x, x], axis=-1, name='st')
tf.stack([1, 2, 3])
tf.stack([i, 2, 3])
tf.stack([[1.0, 2.0], [3.0, 4.0]], axis=1)
tf.unstack(x)
tf.unstack(x, axis=1)
tf.unstack(y, axis=-2)
tf.unstack(v, num=3)
tf.concat([x, x], 0)
tf.concat([x, x], axis=-1)
tf.concat([y, y], 0)
tf.concat([x], 0)
tf.concat([x, [[1.0, 2.0, 3.0, 4.0]]], 0)
tf.concat([v, [1, 2]], 0, name='c')
tf.concat([x, x], i)
tf.split(x, 2, axis=1)
tf.split(x, [1, 3], 1)
tf.split(y, [2, -1], 1)
tf.split(x, v, num=2)
tf.split(x, 3, name='parts')
tf.tile(x, [2, 1])
tf.tile(y, [2, 1, 3])
tf.tile(x, v)
tf.pad(x, [[1, 2], [0, 1]])
tf.pad(x, [[1, 2], [0, 1]], constant_values=1.0)
tf.pad(x, [[1, 2], [0, 1]], mode='REFLECT')
tf.pad(x, [[1, 2], [0, 1]], 'symmetric')
tf.pad(y, [[1, 1], [0, 0], [2, 2]])
tf.shape(x)
tf.shape(y)
tf.shape(y, out_type=tf.int64, name='sh')
tf.shape_n([x, y])
tf.size(x)
tf.size(y)
tf.rank(x)
tf.rank(u)
tf.reshape(x, [-1])
tf.reshape(x, [2, -1])
tf.reshape(y, [-1, 20])
tf.reshape(y, [tf.shape(y)[0], -1])
tf.reshape(y, [tf.shape(y)[0], 20])
tf.reshape(u, tf.shape(x))
tf.reshape(x, v)
tf.reshape(x, tf.stack([i, 4]))
tf.reshape(x, tf.concat([tf.shape(y)[1:2], [-1]], 0))
tf.transpose(x)
tf.transpose(y, [0, 2, 1])
tf.transpose(u)
tf.transpose(x, v)
tf.transpose(x, name='tr')
tf.matrix_transpose(y)
tf.matrix_transpose(u)
tf.expand_dims(x, 0)
tf.expand_dims(x, -1, name='e')
tf.expand_dims(y, axis=1)
tf.expand_dims(x, i)
tf.squeeze(tf.expand_dims(x, 1))
tf.squeeze(tf.expand_dims(x, 1), [1])
tf.squeeze(tf.expand_dims(y, 1), axis=1)
tf.squeeze(y)
tf.fill([2, 3], 7.0)
tf.fill([2, i], 7.0)
tf.fill(v, 1)
tf.zeros([2, 3])
tf.zeros([])
tf.zeros(3, tf.int32)
tf.zeros([2, i])
tf.zeros(tf.shape(y))
tf.zeros([100, 100])
tf.zeros([2], tf.string)
tf.zeros([2], tf.bool)
tf.zeros(v, name='z')
tf.ones([2, 3])
tf.ones([2, i], tf.int64)
tf.ones(x.shape)
tf.ones([40, 50])
tf.zeros_like(x)
tf.zeros_like(y)
tf.zeros_like(y, dtype=tf.int32)
tf.zeros_like(x, optimize=False)
tf.zeros_like([1, 2])
tf.ones_like(x)
tf.ones_like(y)
tf.ones_like(y, dtype=tf.int32)
tf.ones_like(v)
tf.identity(x)
tf.identity([1.0, 2.0])
tf.identity_n([x, i])
tf.stop_gradient(x)
tf.broadcast_to(x, [2, 3, 4])
tf.broadcast_to(x, [2, 3, i])
tf.ensure_shape(u, [None, 3])
tf.ensure_shape(y, [2, None, None])
tf.check_numerics(x, 'bad')
tf.bitcast(x, tf.int32)
tf.bitcast(x, tf.uint8)
tf.invert_permutation(v)
tf.range(5)
tf.range(2, 10, 3)
tf.range(i)
tf.range(i, 10)
tf.range(0.0, 1.0, 0.25)
tf.range(3, dtype=tf.float32)
tf.range(0, i, name='r')
tf.range(10, 0, -3)
tf.gather(x, [0, 2])
tf.gather(x, i)
tf.gather(y, [[0, 1], [2, 3]], axis=1)
tf.gather(y, v, axis=-1, name='g')
tf.gather(y, [[0, 1], [2, 3]], axis=1, batch_dims=1)
tf.gather_nd(x, [[0, 1], [2, 3]])
tf.gather_nd(x, [[0], [2]])
tf.gather_nd(y, v)
tf.scatter_nd([[0], [2]], [1.0, 2.0], [4])
tf.scatter_nd([[0], [2]], x[:2], [5, i])
tf.where(b)
tf.where(b, [1.0], [2.0])
tf.where(x > 0.0, x, -x)
tf.one_hot(v, 4)
tf.one_hot([0, 1, 2], 3, axis=0)
tf.one_hot(v, 4, on_value=5, off_value=-1)
tf.one_hot(v, i, on_value=2.0)
tf.boolean_mask(x, [True, False, True])
tf.boolean_mask(x, b)
tf.boolean_mask(y, b)
tf.boolean_mask(x, x > 0.0)
tf.boolean_mask(x, [True, False, True, True], axis=1)
tf.unique(v)
tf.unique(v, out_idx=tf.int64)
tf.unique_with_counts(v)
tf.nn.top_k(x)
tf.nn.top_k(x, 2, sorted=False)
tf.nn.top_k(y, i)
tf.sequence_mask([1, 3, 2], 5)
tf.sequence_mask(v)
tf.sequence_mask(v, 4, dtype=tf.float32)
tf.sequence_mask([[1, 2], [0, 3]], maxlen=i)
tf.sort(x)
tf.sort(x, direction='DESCENDING')
tf.argsort(x, axis=0)
tf.argsort(v, direction='DESCENDING')
tf.dynamic_stitch([[0, 2], [1, 3]], [[1.0, 2.0], [3.0, 4.0]])
tf.dynamic_partition(x, [0, 1, 0], 2)
tf.dynamic_partition(y, v, 3)
tf.reverse_sequence(x, [1, 2, 3], seq_axis=1, batch_axis=0)
tf.reverse(x, [0])
tf.reverse(y, [-1, 0])
tf.roll(x, 1, 0)
tf.roll(x, [1, 2], [0, 1])
tf.meshgrid([1, 2, 3], [4, 5])
tf.meshgrid([1, 2, 3], v, indexing='ij')
tf.diag([1.0, 2.0])
tf.diag_part(x[:3, :3])
tf.matrix_band_part(x, 1, -1)
tf.setdiff1d(v, [1, 2])
tf.string_join(['a', 'b'], separator='-')
tf.as_string(i)
tf.as_string(x, precision=2)
""".strip().splitlines()

MATH = """
x + x
x + 2
2 + x
v + 2
2 + v
x + [1.0, 2.0, 3.0, 4.0]
x - x
x - 2
2 - x
v - 2
2 - v
x - [1.0, 2.0, 3.0, 4.0]
x * x
x * 2
2 * x
v * 2
2 * v
x * [1.0, 2.0, 3.0, 4.0]
x / x
x / 2
2 / x
v / 2
2 / v
x / [1.0, 2.0, 3.0, 4.0]
x // x
x // 2
2 // x
v // 2
2 // v
x // [1.0, 2.0, 3.0, 4.0]
x % x
x % 2
2 % x
v % 2
2 % v
x % [1.0, 2.0, 3.0, 4.0]
x ** x
x ** 2
2 ** x
v ** 2
2 ** v
x ** [1.0, 2.0, 3.0, 4.0]
x < x
x < 2
2 < x
v < 2
2 < v
x < [1.0, 2.0, 3.0, 4.0]
x <= x
x <= 2
2 <= x
v <= 2
2 <= v
x <= [1.0, 2.0, 3.0, 4.0]
x > x
x > 2
2 > x
v > 2
2 > v
x > [1.0, 2.0, 3.0, 4.0]
x >= x
x >= 2
2 >= x
v >= 2
2 >= v
x >= [1.0, 2.0, 3.0, 4.0]
b & b
b & True
True & b
v & v
v & 2
2 & v
b | b
b | True
True | b
v | v
v | 2
2 | v
b ^ b
b ^ True
True ^ b
v ^ v
v ^ 2
2 ^ v
-x
-v
abs(x)
abs(z)
~b
~v
s + s
s + 'a'
x @ w
[[1.0, 2.0, 3.0]] @ x
tf.add(x, x)
tf.add(x, 1)
tf.add(s, s)
tf.add(x, x, 'q')
tf.subtract(x, x)
tf.multiply(x, 2.0)
tf.divide(x, x)
tf.divide(v, 2)
tf.div(x, x)
tf.div(v, 2)
tf.truediv(v, v)
tf.truediv(x, 2.0)
tf.realdiv(x, x)
tf.floordiv(x, x)
tf.floordiv(v, 2)
tf.floor_div(x, x)
tf.truncatediv(v, v)
tf.div_no_nan(x, x)
tf.floormod(x, x)
tf.mod(x, x)
tf.truncatemod(x, x)
tf.pow(x, 2.0)
tf.maximum(x, 0.0)
tf.minimum(x, x)
tf.squared_difference(x, x)
tf.atan2(x, x)
tf.equal(x, x)
tf.not_equal(v, 2)
tf.less(x, x)
tf.less_equal(x, 1.0)
tf.greater(x, x)
tf.greater_equal(x, x)
tf.logical_and(b, b)
tf.logical_or(b, b)
tf.logical_xor(b, b)
tf.logical_xor(b, b, name='q')
tf.logical_not(b)
tf.where(b, v, v)
tf.where(b, v, v, name='q')
tf.abs(x)
tf.abs(z)
tf.abs(z, name='q')
tf.negative(x)
tf.sign(x)
tf.sqrt(x)
tf.rsqrt(x)
tf.square(x)
tf.exp(x)
tf.round(x)
tf.round(v)
tf.rint(x)
tf.sigmoid(x)
tf.tanh(x)
tf.reciprocal(x)
tf.real(z)
tf.real(x)
tf.imag(z)
tf.conj(z)
tf.angle(z)
tf.cast(x, tf.int32)
tf.cast(x, tf.float32)
tf.cast(x, tf.int32, name='q')
tf.to_float(v)
tf.to_int32(x)
tf.to_float(x)
tf.add_n([x, x])
tf.add_n([x])
tf.add_n([x], name='q')
tf.accumulate_n([x, x])
tf.clip_by_value(x, 0.0, 1.0)
tf.clip_by_value(x, 0.0, 1.0, name='q')
tf.lgamma(x)
tf.digamma(x)
tf.erf(x)
tf.erfc(x)
tf.reduce_sum(x)
tf.reduce_sum(x, 0)
tf.reduce_sum(x, [0, 1], name='q')
tf.reduce_sum(x, name='q')
tf.reduce_sum(u)
tf.reduce_sum(y, [0, -1], keepdims=True)
tf.reduce_mean(x, -1, keepdims=True)
tf.reduce_max(x)
tf.reduce_all(b)
tf.reduce_any(b, 0)
tf.reduce_logsumexp(x)
tf.reduce_logsumexp(x, 1)
tf.reduce_logsumexp(u, 1, keepdims=True, name='q')
tf.argmax(x)
tf.argmax(y, 1)
tf.argmin(x, 0, name='q')
tf.arg_max(x, 1)
tf.cumsum(x)
tf.cumprod(x, 1)
tf.cumsum(x, name='q')
tf.norm(x)
tf.norm(x, axis=1)
tf.norm(x, 1, axis=0, keepdims=True)
tf.norm(x, float('inf'))
tf.norm(x, 3, axis=1)
tf.segment_sum(x, v)
tf.unsorted_segment_sum(x, v, 3)
tf.unsorted_segment_sum(y, v, i)
tf.tensordot(x, x, [[0], [0]])
tf.tensordot(x, w, 1)
tf.tensordot(y, x, [[1], [1]])
tf.complex(x, x)
tf.count_nonzero(x)
tf.count_nonzero(x, 1)
tf.scalar_mul(2.0, x)
tf.saturate_cast(x, tf.int8)
tf.is_nan(x)
tf.matmul(x, w)
tf.matmul(x, x, transpose_b=True)
tf.matmul(x, x, adjoint_a=True)
tf.matmul(z[:, None], z[:, None], adjoint_a=True)
tf.matmul(u, x)
tf.matmul(y, w, transpose_a=True)
tf.matmul(y, y, transpose_a=True, name='q')
tf.exp(1.0)
tf.sqrt([1.0, 4.0])
tf.maximum(1.0, x)
tf.reduce_prod(v)
""".strip().splitlines()


def describe(graph: Any) -> list[dict[str, Any]]:
    """One plain record a node."""
    nodes = []
    for op in graph.get_operations():
        shapes = [None if t.shape.ndims is None else t.shape.as_list() for t in op.outputs]
        nodes.append(
            {
                "name": op.name,
                "op": op.type,
                "inputs": [t.name for t in op.inputs],
                "dtypes": [t.dtype.name for t in op.outputs],
                "shapes": shapes,
            }
        )
    return nodes


def main() -> None:
    import tensorflow.compat.v1 as tf

    found = []
    for code in SNIPPETS + MATH:
        names = [name for name in PRELUDE if name in {word for word in _words(code)}]
        with tf.Graph().as_default() as graph:
            scope: dict[str, Any] = {"tf": tf}
            for name in names:
                exec(f"{name} = {PRELUDE[name]}", scope)
            eval(code, scope)
        setup = "; ".join(f"{name} = {PRELUDE[name]}" for name in names)
        found.append({"code": code, "setup": setup, "nodes": describe(graph)})
    text = ",\n".join(json.dumps(each) for each in found)
    Path(__file__).with_name("graph_snippets.json").write_text(f"[\n{text}\n]\n")


def _words(code: str) -> list[str]:
    import re

    return re.findall(r"(?<![\w.'])[a-z]+(?![\w'=])", code)


if __name__ == "__main__":
    main()
