"""Random ops: uniform, normal, truncated normal, shuffling and sampling from categories.

Each op node has a stream of random blocks (`engine.op.philox`) that starts where its attrs `seed` and `seed2` say.  How far it
has come is a counter that the ResourceManager holds, so a step can be replayed or taken back exactly.  With both seeds 0 the
stream starts anywhere, anew in each session.  For given seeds the numbers are TensorFlow's on the CPU, bit for bit (normal
float64 deviates but for the last one: they take sine and logarithm from NumPy).
"""

from __future__ import annotations

import hashlib
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.graph.convert import convert_to_tensor
from engine.graph.default import get_default_graph, name_scope
from engine.op import philox
from engine.op.kernels import ints, shape_text
from engine.op.philox import BLOCKS_PER_OUTPUT, Stream
from engine.op.registry import HOST, NotDifferentiable, op, raw
from engine.op.samples import untested
from engine.op.shapes import constant_value, constant_value_as_shape, unchanged
from engine.types import dtypes, errors
from engine.types.shape import TensorShape

if TYPE_CHECKING:
    from engine.graph.graph import Graph
    from engine.graph.tensor import Tensor

__all__ = [
    "categorical",
    "get_seed",
    "multinomial",
    "random_normal",
    "random_shuffle",
    "random_uniform",
    "truncated_normal",
]

_BY_HAND = untested("tests/op/test_random.py")
_COUNTERS = "random"  # the container that holds the counters
_COUNTER_SHAPE = TensorShape.of((3,))


def take(k: Any, blocks: int) -> Stream:
    """The next `blocks` blocks of the running op's stream; the stream moves on behind them."""
    counter = k.resources.variable(_COUNTERS, k.op.name, dtypes.uint64, _COUNTER_SHAPE)
    with counter.lock:
        if counter.value is None:
            seed, seed2 = k.attrs["seed"], k.attrs["seed2"]
            if seed == 0 and seed2 == 0:
                seed, seed2 = k.resources.entropy, _number_of(k.op.name)
            stream = Stream.seeded(seed, seed2)
        else:
            stream = Stream(*(int(word) for word in counter.value))
        after = stream.skip(blocks)
        k.write(counter, np.array([after.key, after.low, after.high], np.uint64), kind="advance")
    return stream


def _number_of(name: str) -> int:
    """64 bits that differ from name to name, and are the same in every process."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


def _wanted_shape(shape: Any) -> tuple[int, ...]:
    if shape.ndim != 1:
        raise errors.InvalidArgumentError(
            None, None, f"shape must be a vector, not of shape {shape_text(shape.shape)}"
        )
    dims = ints(shape)
    if min(dims, default=0) < 0:
        raise errors.InvalidArgumentError(
            None, None, f"Dimensions must be non-negative, got the shape {shape_text(dims)}"
        )
    return dims


def _drawing(draw: Any) -> Any:
    """A kernel that fills the shape it is given with what ``draw(xp, stream, count, dtype)`` gives."""

    def kernel(k: Any, shape: Any) -> Any:
        dims = _wanted_shape(shape)
        count = int(np.prod(dims, dtype=np.int64))
        dtype = k.attrs["dtype"].np_dtype
        return draw(k.xp, take(k, count * BLOCKS_PER_OUTPUT), count, dtype).reshape(dims)

    return kernel


def _shape_from_input(node: Any) -> TensorShape:
    return constant_value_as_shape(node.inputs[0])


op(
    "RandomUniform(shape: T; seed: int = 0, seed2: int = 0, dtype: floats, T: index) -> output: dtype",
    kernel=_drawing(philox.uniform),
    shape=_shape_from_input,
    grad=NotDifferentiable,
    samples=_BY_HAND,
    stateful=True,
    memory={"shape": HOST},
)

op(
    "RandomStandardNormal(shape: T; seed: int = 0, seed2: int = 0, dtype: floats, T: index) -> output: dtype",
    kernel=_drawing(philox.normal),
    shape=_shape_from_input,
    grad=NotDifferentiable,
    samples=_BY_HAND,
    stateful=True,
    memory={"shape": HOST},
)

op(
    "TruncatedNormal(shape: T; seed: int = 0, seed2: int = 0, dtype: floats, T: index) -> output: dtype",
    kernel=_drawing(philox.truncated_normal),
    shape=_shape_from_input,
    grad=NotDifferentiable,
    samples=_BY_HAND,
    stateful=True,
    memory={"shape": HOST},
)


def _random_uniform_int(k: Any, shape: Any, minval: Any, maxval: Any) -> Any:
    dims = _wanted_shape(shape)
    for name, bound in (("minval", minval), ("maxval", maxval)):
        if bound.ndim != 0:
            raise errors.InvalidArgumentError(
                None, None, f"{name} must be a scalar, not of shape {shape_text(bound.shape)}"
            )
    low, high = int(minval), int(maxval)
    if low >= high:
        raise errors.InvalidArgumentError(None, None, f"Need minval < maxval, got {low} >= {high}")
    count = int(np.prod(dims, dtype=np.int64))
    stream = take(k, count * BLOCKS_PER_OUTPUT)
    return philox.uniform_int(k.xp, stream, count, low, high, k.attrs["Tout"].np_dtype).reshape(dims)


op(
    "RandomUniformInt(shape: T, minval: Tout, maxval: Tout; seed: int = 0, seed2: int = 0, Tout: index, T: index)"
    " -> output: Tout",
    kernel=_random_uniform_int,
    shape=_shape_from_input,
    grad=NotDifferentiable,
    samples=_BY_HAND,
    stateful=True,
    memory={"shape": HOST, "minval": HOST, "maxval": HOST},
)


def _random_shuffle(k: Any, value: Any) -> Any:
    if value.ndim == 0 or len(value) < 2:
        return value
    draws = len(value) - 1
    stream = take(k, -(-draws // 4))
    return value[k.xp.asarray(philox.permutation(stream, len(value)))]


op(
    "RandomShuffle(value: T; seed: int = 0, seed2: int = 0, T: type) -> output: T",
    kernel=_random_shuffle,
    shape=unchanged,
    samples=_BY_HAND,
    stateful=True,
)


def _multinomial(k: Any, logits: Any, num_samples: Any) -> Any:
    """By inverting the cumulated probabilities, in float64; -inf and NaN have none."""
    xp, count = k.xp, int(num_samples)
    if logits.ndim != 2:
        raise errors.InvalidArgumentError(
            None, None, f"logits should be a matrix, got shape {shape_text(logits.shape)}"
        )
    if count < 0:
        raise errors.InvalidArgumentError(None, None, f"num_samples should be nonnegative, got {count}")
    rows, classes = logits.shape
    dtype = k.attrs["output_dtype"].np_dtype
    if rows == 0 or count == 0:
        return xp.empty((rows, count), dtype)
    if classes == 0:
        raise errors.InvalidArgumentError(
            None, None, f"num_classes should be positive, got shape {shape_text(logits.shape)}"
        )
    stream = take(k, rows * (-(-count // 4) * 4) * 2 * BLOCKS_PER_OUTPUT)  # a float64 takes two words
    wide = logits.astype(xp.float64)
    finite = xp.isfinite(wide)
    largest = xp.where(finite, wide, -xp.inf).max(axis=1, keepdims=True)
    weights = xp.where(
        finite, xp.exp(xp.where(finite, wide - xp.where(xp.isfinite(largest), largest, 0.0), 0.0)), 0.0
    )
    cumulated = xp.cumsum(weights, axis=1)
    draws = philox.uniform(xp, stream, rows * count, np.dtype(np.float64)).reshape(rows, count)
    return xp.stack(
        [
            xp.searchsorted(row, draw * row[-1], side="right")
            for row, draw in zip(cumulated, draws, strict=True)
        ]
    ).astype(dtype)


def _multinomial_shape(node: Any) -> TensorShape:
    rows = node.inputs[0].shape.with_rank(2).dims_or_none
    count = constant_value(node.inputs[1])
    return TensorShape.of((None if rows is None else rows[0], None if count is None else int(count)))


op(
    "Multinomial(logits: T, num_samples: int32; seed: int = 0, seed2: int = 0, T: reals, output_dtype: index = int64)"
    " -> output: output_dtype",
    kernel=_multinomial,
    shape=_multinomial_shape,
    grad=NotDifferentiable,
    samples=_BY_HAND,
    stateful=True,
    memory={"num_samples": HOST},
)


# Seeds.

_DEFAULT_GRAPH_SEED = 87654321
_SEED_MODULUS = 2**31 - 1
_unseeded_ops: weakref.WeakKeyDictionary[Graph, int] = weakref.WeakKeyDictionary()


def get_seed(op_seed: int | None) -> tuple[int | None, int | None]:
    """The two seeds of an op built now with the user's `op_seed`, as `tf.get_seed`.

    With neither a graph nor an op seed, (None, None): the op draws differently in each session.  With a graph seed alone the
    ops are counted, so that each has a sequence of its own; with an op seed alone the graph's is a constant.
    """
    graph = get_default_graph()
    seed = graph.seed
    if seed is None and op_seed is None:
        return None, None
    if seed is None:
        seed = _DEFAULT_GRAPH_SEED
    if op_seed is None:
        op_seed = _unseeded_ops.get(graph, 0)
        _unseeded_ops[graph] = op_seed + 1
    first, second = seed % _SEED_MODULUS, op_seed % _SEED_MODULUS
    return (0, _SEED_MODULUS) if first == second == 0 else (first, second)  # both 0 would mean: not seeded


def _seeds(op_seed: int | None) -> dict[str, Any]:
    seed, seed2 = get_seed(op_seed)
    return {"seed": seed or 0, "seed2": seed2 or 0}


# Public functions.


def _shape_tensor(shape: Any) -> Tensor:
    if isinstance(shape, list | tuple) and not shape:
        return convert_to_tensor(shape, dtype=dtypes.int32, name="shape")
    return convert_to_tensor(shape, name="shape")


def random_uniform(
    shape: Any,
    minval: Any = 0,
    maxval: Any = None,
    dtype: Any = dtypes.float32,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """A tensor of `shape` with values uniform in [minval, maxval), as `tf.random_uniform`; floats: [0, 1) unless said otherwise.

    Raises ValueError for a dtype that is not floating, int32 or int64, or an integer dtype without `maxval`.
    """
    wanted = dtypes.as_dtype(dtype)
    if not (wanted.is_floating or wanted in (dtypes.int32, dtypes.int64)):
        raise ValueError(f"random_uniform makes floats, int32 and int64, not {wanted.name}")
    if maxval is None:
        if wanted.is_integer:
            raise ValueError(f"Must specify maxval for integer dtype {wanted.name}")
        maxval = 1
    with name_scope(name, "random_uniform", [shape, minval, maxval]) as scope:
        dims = _shape_tensor(shape)
        from_zero = type(minval) is int and minval == 0
        to_one = type(maxval) is int and maxval == 1
        if not from_zero or not to_one or wanted.is_integer:
            minval = convert_to_tensor(minval, dtype=wanted, name="min")
            maxval = convert_to_tensor(maxval, dtype=wanted, name="max")
        result: Tensor
        if wanted.is_integer:
            return raw.RandomUniformInt(dims, minval, maxval, **_seeds(seed), name=scope)  # type: ignore[no-any-return]
        result = raw.RandomUniform(dims, dtype=wanted, **_seeds(seed))
        if from_zero:
            return result if to_one else raw.Mul(result, maxval)
        return raw.AddV2(result * (maxval - minval), minval, name=scope)  # type: ignore[no-any-return]


def _scaled(
    kind: Any, default_name: str, shape: Any, mean: Any, stddev: Any, dtype: Any, seed: Any, name: str | None
) -> Tensor:
    wanted = dtypes.as_dtype(dtype)
    with name_scope(name, default_name, [shape, mean, stddev]) as scope:
        dims = _shape_tensor(shape)
        center = convert_to_tensor(mean, dtype=wanted, name="mean")
        width = convert_to_tensor(stddev, dtype=wanted, name="stddev")
        drawn = kind(dims, dtype=wanted, **_seeds(seed))
        result: Tensor = raw.AddV2(drawn * width, center, name=scope)
        return result


def random_normal(
    shape: Any,
    mean: Any = 0.0,
    stddev: Any = 1.0,
    dtype: Any = dtypes.float32,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """A tensor of `shape` with normally distributed floats, as `tf.random_normal`."""
    return _scaled(raw.RandomStandardNormal, "random_normal", shape, mean, stddev, dtype, seed, name)


def truncated_normal(
    shape: Any,
    mean: Any = 0.0,
    stddev: Any = 1.0,
    dtype: Any = dtypes.float32,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """As `random_normal`, but values two or more standard deviations away are drawn again; as `tf.truncated_normal`."""
    return _scaled(raw.TruncatedNormal, "truncated_normal", shape, mean, stddev, dtype, seed, name)


def random_shuffle(value: Any, seed: int | None = None, name: str | None = None) -> Tensor:
    """`value` with its rows (along the first dimension) in random order, as `tf.random_shuffle`."""
    result: Tensor = raw.RandomShuffle(value, **_seeds(seed), name=name)
    return result


def multinomial(
    logits: Any, num_samples: Any, seed: int | None = None, name: str | None = None, output_dtype: Any = None
) -> Tensor:
    """For each row of unnormalized log-probabilities, `num_samples` class numbers; as `tf.multinomial`.

    logits: shape [rows, classes].  The result has shape [rows, num_samples] and dtype int64, or `output_dtype` (int32, int64).
    """
    return _categories("multinomial", logits, num_samples, seed, name, output_dtype)


def categorical(
    logits: Any, num_samples: Any, dtype: Any = None, seed: int | None = None, name: str | None = None
) -> Tensor:
    """As `multinomial`, under its later name `tf.random.categorical`."""
    return _categories("categorical", logits, num_samples, seed, name, dtype)


def _categories(kind: str, logits: Any, num_samples: Any, seed: Any, name: str | None, dtype: Any) -> Tensor:
    with name_scope(name, kind, [logits]):
        values = convert_to_tensor(logits, name="logits")
        wanted = dtypes.int64 if dtype is None else dtypes.as_dtype(dtype)
        result: Tensor = raw.Multinomial(values, num_samples, **_seeds(seed), output_dtype=wanted)
        return result
