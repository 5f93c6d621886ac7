"""Ops with native kernels of their own in plans: against the interpreter, float64, and each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from searches import examples

import engine as tf
from engine.native import compiler
from engine.runtime.plan import specials
from engine.runtime.plan.native_rules import RULES

pytestmark = [
    pytest.mark.skipif(not compiler.available(), reason=compiler.why_not()),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]


@pytest.fixture(autouse=True, scope="module")
def _however_small() -> Iterator[None]:
    """A program of one op gets a specialisation, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(specials, "TINY", 0)
        yield


RUNS = 4  # the first ones show that a specialisation is worth it
Arrays = Sequence[Any]
Make = Callable[..., Any]


def run(make: Make, arrays: Arrays, plans: str, exact: bool = False) -> tuple[list[Any], Any]:
    """What the op that `make` makes of fed arrays gives, and the plan's specialisation."""
    with tf.Graph().as_default() as graph:
        feeds = [tf.placeholder(array.dtype, array.shape) for array in arrays]
        made = make(*feeds)
        fetches = [each for each in (made if isinstance(made, list | tuple) else [made]) if each is not None]
    config = tf.ConfigProto(plans=plans, exact=exact)
    with tf.Session(graph=graph, config=config) as session:
        feed = dict(zip(feeds, arrays, strict=True))
        for _ in range(RUNS):
            given = session.run(fetches, feed)
        (executable,) = session._executables.values()
        special = None
        if plans == "always":
            assert executable.choice.plan is not None, executable.choice.reason
            (special,) = executable.choice.plan.specials.made.values()
    return given, special


def kernels(special: Any) -> set[str]:
    """The names of the native kernels that the specialisation calls."""
    if special is None:
        return set()
    return {
        step.data.name
        for native in special.segments
        for step in native.segment.steps
        if step.kind == "call" and hasattr(step.data, "name")
    }


def same(one: Arrays, other: Arrays) -> None:
    """Raise AssertionError unless all arrays are equal, bit for bit but for the payload of NaNs."""
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_array_equal(a, b)
        signs = ~np.isnan(a) if a.dtype.kind == "f" else np.ones(a.shape, bool)
        assert np.array_equal(np.signbit(a)[signs], np.signbit(b)[signs]) if a.dtype.kind == "f" else True


def close(one: Arrays, other: Arrays, units: float, scale: float = 0) -> None:
    """Within `units` in the last place of the largest of the result and `scale`; NaN and infinities as they are."""
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_array_equal(np.isfinite(a), np.isfinite(b))
        finite = np.isfinite(b)
        np.testing.assert_array_equal(a[~finite], b[~finite])
        room = units * np.finfo(a.dtype).eps * np.maximum(np.abs(b[finite]), scale)
        assert np.all(np.abs(a[finite] - b[finite]) <= room), np.abs(a[finite] - b[finite]).max()


def check(
    make: Make, arrays: Arrays, kernel: str, units: float = 0, scale: float = 0, exact: bool = False
) -> list[Any]:
    """The op through plans: by `kernel`, as the interpreter within `units`; in exact plans by it only if `exact`."""
    wanted, _ = run(make, arrays, "off")
    given, special = run(make, arrays, "always")
    assert kernel in kernels(special), special and special.refused
    if units:
        close(given, wanted, units, scale)
    else:
        same(given, wanted)
    precise, special = run(make, arrays, "always", exact=True)
    assert (kernel in kernels(special)) == exact
    same(precise, wanted)
    return given


def random(shape: Sequence[int], dtype: Any = np.float32, seed: int = 0) -> Any:
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(dtype)


# Convolution.

GEOMETRIES = [
    # images, filters, strides, padding
    ((2, 7, 6, 3), (3, 3, 3, 8), (1, 1), "SAME"),
    ((1, 8, 9, 1), (5, 5, 1, 16), (1, 1), "VALID"),
    ((3, 9, 8, 4), (3, 2, 4, 5), (2, 3), "SAME"),
    ((2, 6, 6, 8), (1, 1, 8, 4), (1, 1), "VALID"),
    ((2, 7, 7, 2), (3, 3, 2, 4), (2, 2), [[0, 0], [1, 2], [2, 0], [0, 0]]),
]


def sizes(images: Sequence[int], filters: Sequence[int]) -> float:
    """How many products a result of a convolution adds up, at most."""
    return float(np.prod(filters[:3]))


def in_float64(make: Make, arrays: Arrays) -> list[Any]:
    wide = [each.astype(np.float64) if each.dtype.kind == "f" else each for each in arrays]
    return run(make, wide, "off")[0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("images", "filters", "strides", "padding"), GEOMETRIES)
def test_convolution(images: Any, filters: Any, strides: Any, padding: Any, dtype: Any) -> None:
    x, w = random(images, dtype), random(filters, dtype, 1)

    def forward(x: Any, w: Any) -> Any:
        return tf.nn.conv2d(x, w, strides, padding)

    (y,) = check(forward, [x, w], "conv2d", sizes(images, filters), 4)
    (exact,) = in_float64(forward, [x, w])
    assert np.abs(y - exact).max() <= sizes(images, filters) * np.finfo(dtype).eps * 4
    g = random(y.shape, dtype, 2)

    def to_input(w: Any, g: Any) -> Any:
        return tf.nn.conv2d_backprop_input(images, w, g, strides, padding)

    def to_filter(x: Any, g: Any) -> Any:
        return tf.nn.conv2d_backprop_filter(x, filters, g, strides, padding)

    taps = filters[0] * filters[1] * filters[3]
    check(to_input, [w, g], "conv2d_backprop_input", taps, 4)
    pixels = float(np.prod(y.shape[:3]))
    check(to_filter, [x, g], "conv2d_backprop_filter", pixels, 4)


def test_convolution_of_what_is_not_finite() -> None:
    x, w = random((1, 6, 6, 2)), random((3, 3, 2, 4), seed=1)
    x[0, 2, 3, 0], x[0, 5, 5, 1], x[0, 0, 0, 0] = np.nan, np.inf, -np.inf
    wanted, _ = run(lambda x, w: tf.nn.conv2d(x, w, 1, "VALID"), [x, w], "off")
    given, special = run(lambda x, w: tf.nn.conv2d(x, w, 1, "VALID"), [x, w], "always")
    assert "conv2d" in kernels(special)
    close(given, wanted, 18, 4)


@pytest.mark.parametrize(
    "refuses",
    [
        lambda x, w: tf.nn.conv2d(x, w, 1, "SAME", dilations=2),
        lambda x, w: tf.nn.conv2d(tf.transpose(x, [0, 3, 1, 2]), w, 1, "SAME", data_format="NCHW"),
        lambda x, w: tf.nn.conv2d(x, w[:, :, :2], 1, "SAME"),  # two groups of channels
    ],
)
def test_convolutions_that_are_left_to_the_ops_kernel(refuses: Make) -> None:
    arrays = [random((2, 6, 6, 4)), random((3, 3, 4, 6), seed=1)]
    given, special = run(refuses, arrays, "always")
    assert "conv2d" not in kernels(special)
    same(given, run(refuses, arrays, "off")[0])


@pytest.mark.parametrize(
    "activation", ["none", "Relu", "Relu6", "Elu", "LeakyRelu", "Tanh", "sum", "sum and Relu"]
)
def test_fused_convolution(activation: str) -> None:
    """Bias and Relu inside of the kernel, the rest behind it."""
    arrays = [random((2, 6, 6, 3)), random((3, 3, 3, 8), seed=1), random((8,), seed=2), random((2, 6, 6, 8))]

    def make(x: Any, w: Any, b: Any, other: Any) -> Any:
        args, parts = [b], ["BiasAdd"]
        if "sum" in activation:
            args, parts = [b, other], ["BiasAdd", "Add"]
        if activation not in ("none", "sum"):
            parts.append(activation.split()[-1])
        return tf.raw_ops._FusedConv2D(
            x,
            w,
            args,
            [],
            num_args=len(args),
            strides=[1, 1, 1, 1],
            padding="SAME",
            fused_ops=parts,
        )

    given = check(make, arrays, "conv2d", 40, 4)
    (exact,) = in_float64(make, arrays)
    np.testing.assert_allclose(given[0], exact, rtol=1e-4, atol=1e-5)


def test_fused_with_normalization() -> None:
    vectors = [random((5,), seed=i) for i in range(3)]
    arrays = [
        random((2, 4, 4, 3)),
        random((3, 3, 3, 5), seed=1),
        *vectors,
        np.abs(random((5,), seed=9)) + 0.5,
    ]

    def make(x: Any, w: Any, *args: Any) -> Any:
        return tf.raw_ops._FusedConv2D(
            x,
            w,
            list(args),
            [],
            num_args=4,
            strides=[1, 1, 1, 1],
            padding="VALID",
            fused_ops=["FusedBatchNorm", "Relu"],
            epsilon=0.001,
        )

    check(make, arrays, "conv2d", 80, 8)


def test_relu_of_nan_in_a_fused_convolution() -> None:
    x = random((1, 4, 4, 1))
    x[0, 1, 1, 0] = np.nan
    arrays = [x, random((2, 2, 1, 8), seed=1), random((8,), seed=2)]

    def make(x: Any, w: Any, b: Any) -> Any:
        return tf.raw_ops._FusedConv2D(
            x, w, [b], [], num_args=1, strides=[1, 1, 1, 1], padding="VALID", fused_ops=["BiasAdd", "Relu"]
        )

    given, special = run(make, arrays, "always")
    assert "conv2d" in kernels(special)
    close(given, run(make, arrays, "off")[0], 16, 4)


# Pooling: the same bits, in exact plans, too.


@st.composite
def pools(draw: st.DrawFn) -> Any:
    shape = tuple(draw(st.integers(1, high)) for high in (3, 9, 9, 17))
    size = [draw(st.integers(1, min(3, n))) for n in shape[1:3]]
    strides = [draw(st.integers(1, 3)) for _ in range(2)]
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    return shape, size, strides, draw(st.sampled_from(["SAME", "VALID"])), dtype, draw(st.integers(0, 99))


@given(pools())
@examples(8)
def test_pooling(case: Any) -> None:
    shape, size, strides, padding, dtype, seed = case
    x = np.round(random(shape, dtype, seed) * 2)  # with ties
    if seed % 3 == 0:
        x.flat[seed % x.size] = np.nan
    kwargs = {"ksize": [1, *size, 1], "strides": [1, *strides, 1], "padding": padding}
    (y,) = check(lambda x: tf.raw_ops.MaxPool(x, **kwargs), [x], "max_pool", exact=True)
    g = random(y.shape, dtype, seed + 1)
    check(lambda *a: tf.raw_ops.MaxPoolGrad(*a, **kwargs), [x, y, g], "max_pool_grad", exact=True)
    check(lambda x: tf.raw_ops.AvgPool(x, **kwargs), [x], "avg_pool", exact=True)
    check(lambda g: tf.raw_ops.AvgPoolGrad(list(shape), g, **kwargs), [g], "avg_pool_grad", exact=True)


# Softmax and cross entropies.

ODD = np.array([[0, -np.inf, 1], [np.nan, 0, 1], [np.inf, 0, 1], [1e4, -1e4, 0]], np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(5, 10), (3, 1), (2, 7, 33), (1000,)])
def test_softmax(shape: Any, dtype: Any) -> None:
    x = random(shape, dtype) * 5
    (y,) = check(tf.raw_ops.Softmax, [x], "softmax", 12)
    close([y], [in_float64(tf.raw_ops.Softmax, [x])[0].astype(dtype)], 12)
    (y,) = check(tf.raw_ops.LogSoftmax, [x], "log_softmax", 12, 5)
    close([y], [in_float64(tf.raw_ops.LogSoftmax, [x])[0].astype(dtype)], 12, 5)


def test_softmax_of_what_is_not_finite() -> None:
    check(tf.raw_ops.Softmax, [ODD], "softmax", 12)
    check(tf.raw_ops.LogSoftmax, [ODD], "log_softmax", 12, 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("rows", "classes"), [(4, 10), (1, 3), (37, 100)])
def test_cross_entropies(rows: int, classes: int, dtype: Any) -> None:
    x = random((rows, classes), dtype) * 4
    labels = np.abs(random((rows, classes), dtype, 1))
    labels /= labels.sum(1, keepdims=True)
    make = tf.raw_ops.SoftmaxCrossEntropyWithLogits
    given = check(make, [x, labels], "cross_entropy", 24, 4)
    close(given, [each.astype(dtype) for each in in_float64(make, [x, labels])], 24, 4)
    for kind in (np.int32, np.int64):
        numbers = np.random.default_rng(3).integers(0, classes, rows).astype(kind)
        sparse = tf.raw_ops.SparseSoftmaxCrossEntropyWithLogits
        given = check(sparse, [x, numbers], "sparse_cross_entropy", 24, 4)
        close(given, [each.astype(dtype) for each in in_float64(sparse, [x, numbers])], 24, 4)


def test_labels_that_broadcast_are_left_to_the_ops_kernel() -> None:
    arrays = [random((4, 3)), np.array([[0.25, 0.5, 0.25]], np.float32)]
    make = tf.raw_ops.SoftmaxCrossEntropyWithLogits
    same(run(make, arrays, "always")[0], run(make, arrays, "off")[0])


@pytest.mark.parametrize("label", [-1, 3, 1 << 30])
def test_a_wrong_label_is_told_as_the_interpreter_tells_it(label: int) -> None:
    """A training step that finds one raises the op's error and changes nothing; the next one goes on."""

    def steps(plans: str) -> list[Any]:
        with tf.Graph().as_default() as graph:
            logits = tf.placeholder(tf.float32, [3, 3])
            labels = tf.placeholder(tf.int64, [3])
            weights = tf.Variable(np.ones(3, np.float32), name="weights")
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
                logits=logits * weights, labels=labels, name="the_losses"
            )
            loss = tf.reduce_mean(losses)
            train = tf.train.AdamOptimizer(0.1).minimize(loss)
        config = tf.ConfigProto(plans=plans)
        told: list[Any] = []
        with tf.Session(graph=graph, config=config) as session:
            with graph.as_default():
                session.run(tf.global_variables_initializer())
            x = random((3, 3))
            for number in [0, 1, 2, 0, 1, label, 2, label, 1]:
                try:
                    told.append(session.run([loss, train], {logits: x, labels: [0, number, 2]})[0])
                except tf.errors.InvalidArgumentError as error:
                    told.append((type(error), str(error), error.op.name if error.op else None))
                told.append(session.run(weights.value()))
        return told

    wanted, given = steps("off"), steps("always")
    assert sum(isinstance(each, tuple) for each in wanted) == 2
    for a, b in zip(wanted, given, strict=True):
        if isinstance(a, tuple):
            assert a == b
            assert "the_losses" in a[1] and __file__ in a[1]
        else:
            np.testing.assert_allclose(a, b, rtol=1e-5)


# Batch and layer normalization.


@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
@pytest.mark.parametrize(("training", "factor"), [(True, 1.0), (True, 0.25), (False, 1.0)])
def test_batch_normalization(training: bool, factor: float, data_format: str) -> None:
    shape = (3, 5, 4, 6) if data_format == "NHWC" else (3, 6, 5, 4)
    x = random(shape) * 3 + 1
    vectors = [random((6,), seed=i) for i in range(3)]
    vectors.append(np.abs(random((6,), seed=9)) + 0.5)
    if training and factor == 1.0:
        vectors[2:] = [np.zeros(0, np.float32)] * 2
    kwargs = {"epsilon": 0.001, "data_format": data_format, "is_training": training}
    given = check(
        lambda *a: list(tf.raw_ops.FusedBatchNormV3(*a, **kwargs, exponential_avg_factor=factor)),
        [x, *vectors],
        "batch_norm",
        64,
        8,
    )
    g = random(shape, seed=4)
    arrays = [g, x, vectors[0], given[3], given[4], np.zeros((), np.float32)]
    check(
        lambda *a: list(tf.raw_ops.FusedBatchNormGradV3(*a, **kwargs)),
        arrays,
        "batch_norm_gradient",
        64,
        40,
    )


@pytest.mark.parametrize("side", [False, True])
def test_batch_normalization_and_relu(side: bool) -> None:
    arrays = [random((2, 3, 4, 5)), random((5,), seed=1), random((5,), seed=2)]
    arrays += [np.zeros(0, np.float32)] * 2
    arrays += [random((2, 3, 4, 5), seed=3)] * side

    def make(*a: Any) -> Any:
        return list(
            tf.raw_ops._FusedBatchNormEx(
                *a[:5],
                list(a[5:]),
                U=tf.float32,
                T=tf.float32,
                num_side_inputs=int(side),
                activation_mode="Relu",
            )
        )

    check(make, arrays, "batch_norm", 64, 8)


def test_layer_normalization() -> None:
    x, scale, shift = random((6, 5, 33)) * 2 + 3, random((33,), seed=1), random((33,), seed=2)

    def make(x: Any, scale: Any, shift: Any) -> Any:
        mean, variance = tf.nn.moments(x, [-1], keep_dims=True)
        return (x - mean) * tf.rsqrt(variance + 1e-5) * scale + shift

    (y,) = check(make, [x, scale, shift], "layer_norm", 32, 8)
    np.testing.assert_allclose(y, in_float64(make, [x, scale, shift])[0], rtol=1e-4, atol=1e-5)


# Sums over rows: the same bits.


@given(
    st.lists(st.integers(1, 40), min_size=2, max_size=4),
    st.integers(1, 3),
    st.sampled_from([np.float32, np.float64]),
    st.booleans(),
)
@examples(12)
def test_sums_over_leading_dimensions(shape: Any, leading: int, dtype: Any, keep: bool) -> None:
    x = random(shape, dtype)
    axes = list(range(min(leading, len(shape) - 1)))
    for make in (
        lambda x: tf.raw_ops.Sum(x, axes, keep_dims=keep),
        lambda x: tf.raw_ops.BiasAddGrad(x),
    ):
        for exact in (False, True):
            same(run(make, [x], "always", exact)[0], run(make, [x], "off")[0])


def test_large_sums_are_native() -> None:
    x = random((64, 8, 40))
    check(lambda x: tf.raw_ops.Sum(x, [1, 0]), [x], "column_sums", exact=True)
    check(lambda x: tf.raw_ops.BiasAddGrad(x), [x], "column_sums", exact=True)


# The table.


def test_the_table() -> None:
    exact = {name for name, rule in RULES.items() if rule.exact}
    assert exact == {
        *("MaxPool", "MaxPoolGrad", "AvgPool", "AvgPoolGrad", "BiasAddGrad", "Sum"),
        *("ScatterAdd", "ScatterSub", "ScatterUpdate"),
        *(
            "ApplyGradientDescent",
            "ApplyMomentum",
            "ApplyAdam",
            "ApplyAdagrad",
            "ApplyAdagradV2",
            "ApplyRMSProp",
        ),
    }


@pytest.mark.parametrize("name", ["GradientDescent", "Momentum", "Adam", "Adagrad", "RMSProp"])
@pytest.mark.parametrize("exact", [False, True])
def test_updates_have_the_interpreters_bits(name: str, exact: bool) -> None:
    args = (0.1, 0.9) if name == "Momentum" else (0.1,)

    def steps(plans: str) -> list[Any]:
        with tf.Graph().as_default() as graph:
            x = tf.placeholder(tf.float32, [7, 5])
            weights = tf.Variable(random((7, 5), seed=4))
            loss = tf.reduce_sum(x * weights * weights)
            train = getattr(tf.train, f"{name}Optimizer")(*args).minimize(loss)
            start = tf.global_variables_initializer()
            variables = tf.global_variables()
        with tf.Session(graph=graph, config=tf.ConfigProto(plans=plans, exact=exact)) as session:
            session.run(start)
            for i in range(5):
                session.run(train, {x: random((7, 5), seed=i)})
            return session.run([each.value() for each in variables])

    same(steps("always"), steps("off"))
