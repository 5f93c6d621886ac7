"""Fused elementwise kernels against the ops' NumPy kernels, bit for bit where no function is involved, and long doubles."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from native_kernels import run, ulps, unaligned

import engine as tf
from engine.native import compiler
from engine.native.elements import OPS
from engine.native.elementwise import Reduction, fused, why_not
from engine.op.fused_program import Program, Step, read
from engine.op.fused_samples import elementwise_samples
from engine.passes.fuse import ELEMENTWISE

pytestmark = [
    pytest.mark.skipif(not compiler.available(), reason=compiler.why_not()),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]

FLOATS = (np.float32, np.float64)
HALVES = (*((np.float16,) if compiler.cpu().avx2 else ()), ml_dtypes.bfloat16)
INTS = tuple(np.dtype(f"{sign}int{bits}").type for sign in ("", "u") for bits in (8, 16, 32, 64))
Steps = Sequence[tuple[str, Sequence[str], Mapping[str, Any]]]


def by_numpy(steps: Steps, arrays: Sequence[Any]) -> Any:
    with np.errstate(all="ignore"):
        program = Program([Step(*each) for each in steps])
        return np.asarray(program.run(np, list(arrays[: program.n_inputs])))


def natively(
    steps: Steps, arrays: Sequence[Any], expected: Any, chunk: int | None = None, **options: Any
) -> Any:
    kernel = fused(steps, [each.dtype for each in arrays], [each.shape for each in arrays], **options)
    assert kernel is not None, why_not(
        steps, [each.dtype for each in arrays], [each.shape for each in arrays], **options
    )
    out = np.empty(expected.shape, expected.dtype)
    run(kernel, [*map(np.ascontiguousarray, arrays), out], chunk)
    return out


def same_bits(found: Any, expected: Any) -> None:
    assert found.dtype == expected.dtype
    if found.dtype.kind in "fV":
        nan = np.isnan(found) & np.isnan(expected)
        integer = f"u{found.dtype.itemsize}"
        equal = (np.atleast_1d(found).view(integer) == np.atleast_1d(expected).view(integer)).reshape(
            found.shape
        )
        assert np.all(nan | equal), (found[~(nan | equal)][:5], expected[~(nan | equal)][:5])
    else:
        np.testing.assert_array_equal(found, expected)


def edges(dtype: Any) -> Any:
    dtype = np.dtype(dtype)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return np.array([0, 1, 2, 3, limits.min, limits.min + 1, limits.max, limits.max - 1, 100], dtype)
    if dtype.kind == "b":
        return np.array([False, True])
    info = ml_dtypes.finfo(dtype)
    tiny, least, most = float(info.tiny), float(info.smallest_subnormal), float(info.max)
    values = [
        0.0,
        -0.0,
        1,
        -1,
        2.5,
        -2.5,
        0.5,
        1.5,
        6,
        7,
        math.inf,
        -math.inf,
        math.nan,
        tiny,
        -tiny,
        least,
        -least,
    ]
    return np.array([*values, 3 * least, tiny / 2, most, -most, float(info.eps), 1 + float(info.eps)]).astype(
        dtype
    )


def numbers(rng: np.random.Generator, dtype: Any, size: int) -> Any:
    """Random values of every magnitude, with the edges among them."""
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return rng.integers(0, 2, size).astype(bool)
    bits = rng.integers(0, 256, size * dtype.itemsize, dtype=np.uint8).view(dtype)
    usual = (
        (rng.normal(size=size) * 4).astype(dtype)
        if dtype.kind not in "iu"
        else rng.integers(0, 9, size).astype(dtype)
    )
    special = rng.choice(edges(dtype), size)
    return np.choose(rng.integers(0, 3, size), [bits, usual, special]).astype(dtype)


# Ops one by one.

FUNCTIONS = {"Exp", "Expm1", "Log", "Log1p", "Tanh", "Sigmoid", "Elu", "Selu", "Softplus", "SoftplusGrad", "Pow", "Atan2",
             "FloorMod", "Mod", "TruncateMod", "Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh",
             "Atanh", "Erf", "Erfc"}  # fmt: skip
EXACT = sorted(set(OPS) & ELEMENTWISE - FUNCTIONS - {"BiasAdd", "BiasAddV1", "Cast", "Conj"})


def operands_of(name: str, dtype: Any, rng: np.random.Generator, size: int) -> list[Any] | None:
    op = OPS[name]
    kind = "f" if np.dtype(dtype).kind == "V" else np.dtype(dtype).kind
    if kind not in op.kinds:
        return None
    count = 3 if op.operands < 0 else op.operands
    arrays = [numbers(rng, dtype, size) for _ in range(count)]
    if op.condition:
        arrays[0] = numbers(rng, bool, size)
    return arrays


@pytest.mark.parametrize("name", EXACT)
def test_bits_of_ops(name: str) -> None:
    rng = np.random.default_rng(1)
    tried = 0
    for dtype in (*FLOATS, *HALVES, np.int32, np.int64, np.uint8, np.int16, np.bool_):
        arrays = operands_of(name, dtype, rng, 333)
        if arrays is None:
            continue
        steps = [(name, [f"x{i}" for i in range(len(arrays))], {})]
        try:
            expected = by_numpy(steps, arrays)
        except Exception:
            continue  # the op has no kernel for the dtype
        same_bits(natively(steps, arrays, expected), expected)
        tried += 1
    assert tried


def test_attrs() -> None:
    x = numbers(np.random.default_rng(2), np.float32, 100)
    for dtype in (np.float32, *HALVES):
        steps = [("LeakyRelu", ["x0"], {"alpha": 0.3}), ("LeakyReluGrad", ["t0", "x0"], {"alpha": 0.7})]
        expected = by_numpy(steps, [x.astype(dtype)])
        same_bits(natively(steps, [x.astype(dtype)], expected), expected)


@pytest.mark.parametrize("source", [*FLOATS, *HALVES, np.bool_, *INTS])
def test_casts(source: Any) -> None:
    rng = np.random.default_rng(3)
    x = numbers(rng, source, 300)
    whole = (tf.int8, tf.uint8, tf.int32, tf.int64, tf.uint32)
    for target in (tf.float32, tf.float64, tf.float16, tf.bfloat16, tf.bool, *whole):
        values = x
        if x.dtype.kind in "fV" and target.is_integer:  # C leaves what does not fit undefined
            values = (rng.normal(size=300) * 20 + (60 if target.is_unsigned else 0)).astype(source)
        steps = [("Cast", ["x0"], {"DstT": target})]
        if fused(steps, [x.dtype], [x.shape]) is None:
            assert "cast from" in why_not(steps, [x.dtype], [x.shape]) or target is tf.float16
            continue
        expected = by_numpy(steps, [values])
        same_bits(natively(steps, [values], expected), expected)


# Functions.

_longs: dict[str, Callable[[Any], Any]] = {
    "Exp": np.exp, "Expm1": np.expm1, "Log": np.log, "Log1p": np.log1p, "Tanh": np.tanh, "Sin": np.sin, "Cos": np.cos,
    "Tan": np.tan, "Sinh": np.sinh, "Cosh": np.cosh, "Asin": np.arcsin, "Acos": np.arccos, "Atan": np.arctan,
    "Asinh": np.arcsinh, "Acosh": np.arccosh, "Atanh": np.arctanh,
    "Erf": np.frompyfunc(math.erf, 1, 1), "Erfc": np.frompyfunc(math.erfc, 1, 1),
}  # fmt: skip


def arguments_for(dtype: Any) -> Any:
    rng = np.random.default_rng(4)
    n = 4000
    near = [
        0.75,
        0.46875,
        88.72,
        88.73,
        -87.4,
        -103.9,
        -104.1,
        709.7,
        709.8,
        -745.1,
        -745.2,
        -708.5,
        2.0**20,
        2.0**21,
        1e30,
    ]
    pieces = [
        edges(dtype),
        np.array(near),
        np.arange(-40, 40) * (math.pi / 2),
        np.linspace(-110, 110, n),
        rng.normal(size=n),
        1 + rng.normal(size=n) * 0.05,
        rng.normal(size=n) * 1e-3,
        rng.uniform(-750, 750, n),
        rng.integers(0, 2**63, n, dtype=np.uint64).view(np.float64),
    ]
    return np.concatenate([np.asarray(piece).astype(dtype) for piece in pieces])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", sorted(_longs))
def test_functions(name: str, dtype: Any) -> None:
    x = arguments_for(dtype)
    steps = [(name, ["x0"], {})]
    kernel = fused(steps, [dtype], [x.shape])
    assert kernel is not None
    with np.errstate(all="ignore"):
        wide = x.astype(np.float64 if name.startswith("Erf") else np.longdouble)
        exact = _longs[name](wide).astype(wide.dtype)
    found = natively(steps, [x], x)
    distance = ulps(found, exact, dtype)
    worst = int(np.argmax(distance))
    assert distance.max() <= kernel.ulps, (x[worst], found[worst], exact[worst], distance.max())
    assert kernel.ulps <= 4
    zero = found[x == 0]
    np.testing.assert_array_equal(np.signbit(zero), np.signbit(exact[x == 0].astype(dtype)))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["Sigmoid", "Softplus", "Elu", "Selu"])
def test_activations(name: str, dtype: Any) -> None:
    """Against the same formula, computed more precisely."""
    x = arguments_for(dtype)
    steps = [(name, ["x0"], {})]
    wide = x.astype(np.longdouble)
    limit = math.log(np.finfo(dtype).eps) + 2
    with np.errstate(all="ignore"):
        exp = np.exp(wide)
        exact = {
            "Sigmoid": lambda: np.where(-wide > math.log(np.finfo(dtype).max), 0, 1 / (1 + np.exp(-wide))),
            "Softplus": lambda: np.where(wide > -limit, wide, np.where(wide < limit, exp, np.log1p(exp))),
            "Elu": lambda: np.where(wide < 0, np.expm1(wide), wide),
            "Selu": lambda: np.where(
                wide < 0, 1.7580993408473768599 * np.expm1(wide), np.longdouble(1.0507009873554804934) * wide
            ),
        }[name]()
    found = natively(steps, [x], x)
    distance = ulps(found, exact, dtype)
    # Right at the threshold the formula jumps by more than a unit.
    distance[np.abs(np.abs(x) - abs(limit)) < 1e-4] = 0
    assert distance.max() <= 4, x[int(np.argmax(distance))]


@pytest.mark.parametrize("dtype", FLOATS)
def test_powers(dtype: Any) -> None:
    rng = np.random.default_rng(5)
    special = np.array(
        [0.0, -0.0, 1, -1, 2, -2, 3, 0.5, -0.5, math.inf, -math.inf, math.nan, 1e30, -3, 2.0**24 + 1]
    )
    x, y = (part.ravel() for part in np.meshgrid(special, special))
    x = np.concatenate([x, np.exp(rng.normal(size=3000) * 3), -np.exp(rng.normal(size=500))]).astype(dtype)
    y = np.concatenate([y, rng.normal(size=3000) * 9, rng.integers(-9, 9, 500)]).astype(dtype)
    with np.errstate(all="ignore"):
        exact = np.power(x.astype(np.longdouble), y.astype(np.longdouble))
    found = natively([("Pow", ["x0", "x1"], {})], [x, y], x)
    assert ulps(found, exact, dtype).max() <= 1
    for name, function in (("Atan2", np.arctan2), ("Mod", np.fmod), ("FloorMod", np.remainder)):
        with np.errstate(all="ignore"):
            exact = function(x.astype(np.longdouble), y.astype(np.longdouble))
        found = natively([(name, ["x0", "x1"], {})], [x, y], x)
        if name == "Atan2":
            assert ulps(found, exact, dtype).max() <= 1
        else:
            same_bits(found, by_numpy([(name, ["x0", "x1"], {})], [x, y]))


def test_sixteen_bits_are_rounded_once() -> None:
    rng = np.random.default_rng(6)
    for dtype in HALVES:
        x = (rng.normal(size=500) * 3).astype(dtype)
        steps = [("Tanh", ["x0"], {}), ("Mul", ["t0", "x0"], {}), ("Sigmoid", ["t1"], {})]
        expected = by_numpy(steps, [x])
        found = natively(steps, [x], expected)
        assert np.mean(found != expected) < 0.01
        np.testing.assert_allclose(found.astype(np.float64), expected.astype(np.float64), rtol=0.01)


# Chains, shapes, and where things lie.

GELU: Steps = [
    ("Mul", ["x0", "x0"], {}),
    ("Mul", ["t0", "x0"], {}),
    ("Mul", ["t1", "x1"], {}),
    ("AddV2", ["x0", "t2"], {}),
    ("Mul", ["t3", "x2"], {}),
    ("Tanh", ["t4"], {}),
    ("AddV2", ["t5", "x3"], {}),
    ("Mul", ["x0", "x4"], {}),
    ("Mul", ["t7", "t6"], {}),
]


@pytest.mark.parametrize("size", [1, 7, 16, 1000])
def test_a_chain(size: int) -> None:
    x = np.linspace(-5, 5, size).astype(np.float32)
    constants = [np.asarray(c, np.float32) for c in (0.044715, math.sqrt(2 / math.pi), 1, 0.5)]
    expected = by_numpy(GELU, [x.astype(np.float64), *(c.astype(np.float64) for c in constants)])
    found = natively(GELU, [x, *constants], x, chunk=37)
    np.testing.assert_allclose(found, expected, rtol=3e-6, atol=2e-7)


_SHAPES = [
    ((5, 7), (7,)), ((5, 7), (5, 1)), ((2, 3, 4), (3, 1)), ((3, 100), (100,)), ((3, 100), (3, 1)), ((2, 3, 80), (3, 1)),
    ((2, 3, 80), (2, 1, 80)), ((4, 1), (1, 6)), ((130,), ()), ((), ()), ((2, 1, 3), (4, 1)), ((300, 5), (5,)), ((1, 1), (1,)),
    ((2, 3, 4, 70), (3, 1, 1)), ((70, 3), (70, 1)), ((2, 70, 3), (70, 1)), ((0, 3), (3,)), ((1300, 2), (1300, 1)),
    ((600, 5), (5,)), ((400, 3, 4), (3, 1)), ((40, 30, 40), (30, 1)), ((700, 2, 3), (2, 3)), ((90, 2, 3), (90, 1, 3)),
]  # fmt: skip


@pytest.mark.parametrize("left,right", _SHAPES)
def test_broadcasting(left: Any, right: Any) -> None:
    rng = np.random.default_rng(7)
    x, y = rng.normal(size=left).astype(np.float32), rng.normal(size=right).astype(np.float32)
    steps = [
        ("Mul", ["x0", "x1"], {}),
        ("Sub", ["t0", "x1"], {}),
        ("Less", ["t1", "x0"], {}),
        ("SelectV2", ["t2", "t1", "x1"], {}),
    ]
    for a, b in ((x, y), (y, x)):
        expected = by_numpy(steps, [a, b])
        same_bits(natively(steps, [a, b], expected), expected)
        same_bits(natively(steps, [a, b], expected, chunk=3), expected)


@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
@pytest.mark.parametrize("shape", [(2, 3), (4, 100), (2, 3, 4, 5), (2, 4, 9, 9)])
def test_bias(shape: tuple[int, ...], data_format: str) -> None:
    rng = np.random.default_rng(8)
    value = rng.normal(size=shape).astype(np.float32)
    bias = rng.normal(size=shape[-1 if data_format == "NHWC" else 1]).astype(np.float32)
    steps = [("BiasAdd", ["x0", "x1"], {"data_format": data_format}), ("Relu", ["t0"], {})]
    expected = by_numpy(steps, [value, bias])
    same_bits(natively(steps, [value, bias], expected), expected)


def test_several_outputs_over_the_inputs() -> None:
    rng = np.random.default_rng(9)
    x, y = rng.normal(size=(2, 50)).astype(np.float32)
    steps = [("AddV2", ["x0", "x1"], {}), ("Sub", ["x0", "x1"], {}), ("Greater", ["t0", "t1"], {})]
    kernel = fused(steps, [x.dtype, y.dtype], [x.shape, y.shape], outputs=(0, 1, 2))
    assert kernel is not None
    assert kernel.ulps == 0
    assert kernel.overwrites == {0: (0, 1), 1: (0, 1)}
    total, difference, larger = x + y, x - y, (x + y) > (x - y)
    flags = np.empty(50, bool)
    run(kernel, [x, y, x, y, flags], chunk=9)
    same_bits(x, total)
    same_bits(y, difference)
    np.testing.assert_array_equal(flags, larger)


def test_unaligned_arrays() -> None:
    rng = np.random.default_rng(10)
    for dtype in (np.float32, np.float64, np.int16):
        x = numbers(rng, dtype, 77)
        steps = [("Square", ["x0"], {}), ("Maximum", ["t0", "x0"], {})]
        expected = by_numpy(steps, [x])
        kernel = fused(steps, [x.dtype], [x.shape])
        assert kernel is not None
        out = unaligned(np.empty_like(x))
        run(kernel, [unaligned(x), out])
        same_bits(out, expected)


def test_nothing_outside_is_touched() -> None:
    x = np.arange(40, dtype=np.float32)
    space = np.full(60, 7, np.float32)
    kernel = fused([("Neg", ["x0"], {})], [np.float32], [(37,)])
    assert kernel is not None
    run(kernel, [x, space[10:47]], chunk=5)
    assert np.all(space[:10] == 7) and np.all(space[47:] == 7)
    np.testing.assert_array_equal(space[10:47], -x[:37])


_BINARY = ["AddV2", "Sub", "Mul", "Maximum", "Minimum", "SquaredDifference"]
_UNARY = ["Neg", "Abs", "Square", "Sign", "Relu", "Relu6"]


@st.composite
def programs(draw: st.DrawFn) -> tuple[Steps, list[Any]]:
    dtype = draw(st.sampled_from([np.float32, np.float64, np.int32, np.int64]))
    full = tuple(draw(st.lists(st.sampled_from([1, 2, 3, 5, 17, 65]), max_size=3)))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    arrays = [numbers(rng, dtype, math.prod(full)).reshape(full)]
    for _ in range(draw(st.integers(0, 2))):
        dims = [1 if draw(st.booleans()) else each for each in full]
        while dims and dims[0] == 1 and draw(st.booleans()):
            del dims[0]
        arrays.append(numbers(rng, dtype, math.prod(dims)).reshape(dims))
    names = [f"x{i}" for i in range(len(arrays))]
    steps: list[tuple[str, list[str], Mapping[str, Any]]] = []
    last = "x0"
    for _ in range(draw(st.integers(1, 6))):
        floating = np.dtype(dtype).kind == "f"
        kind = draw(
            st.sampled_from(
                [*_UNARY, *_BINARY, *(["RealDiv", "Sqrt", "Reciprocal"] if floating else []), "where"]
            )
        )
        other = draw(st.sampled_from([*names, last]))
        if kind == "where":
            steps.append(("LessEqual", [last, other], {}))
            steps.append(("SelectV2", [f"t{len(steps) - 1}", other, last], {}))
        elif kind in _BINARY or kind == "RealDiv":
            steps.append((kind, [last, other], {}))
        else:
            steps.append((kind, [last], {}))
        last = f"t{len(steps) - 1}"
    return steps, arrays


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(programs(), st.sampled_from([None, 1, 13]))
def test_random_chains(program: tuple[Steps, list[Any]], chunk: int | None) -> None:
    steps, arrays = program
    expected = by_numpy(steps, arrays)
    same_bits(natively(steps, arrays, expected, chunk=chunk), expected)


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64, tf.bfloat16, tf.int32, tf.bool])
def test_programs_of_the_fused_op(dtype: Any) -> None:
    for sample in elementwise_samples(np.random.default_rng(12), dtype):
        arrays, text = sample.inputs[0], sample.attrs["program"]
        steps = [(each.type, each.operands, each.attrs) for each in read(text).steps]
        expected = by_numpy(steps, arrays)
        found = natively(steps, arrays, expected)
        if found.dtype.kind in "ib":
            np.testing.assert_array_equal(found, expected)
        else:
            room = 40 * float(ml_dtypes.finfo(found.dtype).eps)
            np.testing.assert_allclose(
                found.astype(np.float64), expected.astype(np.float64), rtol=room, atol=room
            )


def test_threads_share_a_phase() -> None:
    x = np.random.default_rng(13).normal(size=(60, 70)).astype(np.float32)
    row = x[0].copy()
    steps = [("AddV2", ["x0", "x1"], {}), ("Tanh", ["t0"], {})]
    kernel = fused(steps, [x.dtype] * 2, [x.shape, row.shape])
    assert kernel is not None
    whole, shared = np.empty_like(x), np.empty_like(x)
    run(kernel, [x, row, whole])
    (phase,) = kernel.phases
    parts = [replace(kernel, phases=(replace(phase, extent=end),)) for end in range(15, phase.extent + 1, 15)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda part: run(part, [x, row, shared], chunk=4), parts))
    same_bits(shared, whole)


# Reductions.


@pytest.mark.parametrize("kind", ["Sum", "Mean", "Max", "Min"])
@pytest.mark.parametrize(
    "shape,rank",
    [((5, 7), 1), ((5, 7), 2), ((3, 2000), 1), ((70000,), 1), ((2, 3, 4), 2), ((9, 1), 1), ((1,), 1)],
)
def test_reductions(kind: str, shape: tuple[int, ...], rank: int) -> None:
    rng = np.random.default_rng(11)
    axes = tuple(range(len(shape) - rank, len(shape)))
    function = {"Sum": np.sum, "Mean": np.mean, "Max": np.max, "Min": np.min}[kind]
    steps = [("Mul", ["x0", "x1"], {}), ("Square", ["t0"], {})]
    for dtype in (np.float32, np.float64, np.int32):
        if dtype is np.int32 and kind == "Mean":
            continue
        x = (rng.normal(size=shape) * 9).astype(dtype)
        y = (rng.normal(size=shape[-1:]) * 9).astype(dtype)
        product = np.square(x * y)
        exact = function(product.astype(np.float64), axis=axes)
        expected = np.empty(exact.shape, dtype)
        found = natively(steps, [x, y], expected, chunk=2, reduction=Reduction(kind, rank))
        if kind in ("Max", "Min"):
            same_bits(found, np.asarray(function(product, axis=axes)))
        elif dtype is np.int32:
            np.testing.assert_array_equal(found, np.asarray(np.sum(product, axis=axes, dtype=np.int32)))
        else:
            np.testing.assert_allclose(found, exact, rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize(
    "left,right", [((3, 200), (200,)), ((3, 200), (3, 1)), ((2, 3, 70), (3, 1)), ((5, 1, 90), (4, 1))]
)
def test_reductions_of_what_broadcasts(left: Any, right: Any) -> None:
    rng = np.random.default_rng(14)
    x, y = rng.normal(size=left), rng.normal(size=right)
    exact = ((x + y) * y).sum(axis=-1)
    steps = [("AddV2", ["x0", "x1"], {}), ("Mul", ["t0", "x1"], {})]
    found = natively(steps, [x, y], exact, chunk=2, reduction=Reduction("Sum", 1))
    np.testing.assert_allclose(found, exact, rtol=1e-12, atol=1e-12)


def test_extremes_keep_nan() -> None:
    x = np.arange(40, dtype=np.float32)
    for place in (0, 20, 39):
        x[place] = np.nan
        found = natively([("Neg", ["x0"], {})], [x], np.empty((), np.float32), reduction=Reduction("Max", 1))
        assert np.isnan(found)
        x[place] = 0


# What is not expressed.


@pytest.mark.parametrize(
    "steps,dtypes,shapes,reason",
    [
        ([("Lgamma", ["x0"], {})], [np.float32], [(3,)], "Lgamma has no native form"),
        ([("FloorDiv", ["x0", "x1"], {})], [np.int32] * 2, [(3,)] * 2, "FloorDiv of int32"),
        ([("AddV2", ["x0", "x1"], {})], [np.int32, np.int64], [(3,)] * 2, "int32, int64"),
        ([("AddV2", ["x0", "x1"], {})], [np.float32] * 2, [(3,), (4,)], "do not broadcast"),
        ([("Neg", ["x0"], {})], [np.complex64], [(3,)], "complex64"),
        ([("BiasAdd", ["x0", "x1"], {})], [np.float32] * 2, [(3, 4), (3,)], "BiasAdd of shapes"),
        ([("Select", ["x0", "x1", "x1"], {})], [np.bool_, np.float32], [(3,), (3, 2)], "Select of shapes"),
        ([("AddN", ["x0", "x1"], {})], [np.float32] * 2, [(3,), ()], "AddN of shapes"),
    ],
)
def test_reasons(steps: Steps, dtypes: Any, shapes: Any, reason: str) -> None:
    assert fused(steps, dtypes, shapes) is None
    assert reason in why_not(steps, dtypes, shapes)


def test_most_of_what_the_pass_fuses_has_a_native_form() -> None:
    assert set() == ELEMENTWISE - set(OPS) - {"Lgamma", "Xdivy", "Xlogy"}
