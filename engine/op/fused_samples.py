"""What the fused ops are proven on, and references in plain NumPy float64 that know nothing of the ops they are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.op import conv_samples
from engine.op.batchnorm_samples import forward_samples
from engine.op.samples import Sample, random_array
from engine.types import dtypes

if TYPE_CHECKING:
    from engine.types.dtypes import DType

_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "Relu": lambda y, alpha: np.where(y < 0, 0.0, y),
    "Relu6": lambda y, alpha: np.clip(y, 0.0, 6.0),
    "Elu": lambda y, alpha: np.where(y < 0, np.exp(np.minimum(y, 0)) - 1, y),
    "LeakyRelu": lambda y, alpha: np.where(y < 0, alpha * y, y),
    "Tanh": lambda y, alpha: 1 - 2 / (np.exp(2 * y) + 1),
    "Sigmoid": lambda y, alpha: 1 / (1 + np.exp(-y)),
}
_FUSIONS: tuple[tuple[str, ...], ...] = (("BiasAdd",), *(("BiasAdd", name) for name in _FUNCTIONS))
# What is rounded to 16 bits between the parts may be most of what is left where they cancel.
_SLACK = {"float16": 0.05, "bfloat16": 0.4}


def _slack(dtype: DType) -> float | None:
    return _SLACK.get(dtype.name)


# Products.


def matmul_samples(rng: np.random.Generator, dtype: DType | None) -> Iterator[Sample]:
    assert dtype is not None
    shapes = ((2, 3, 4), (0, 2, 3), (3, 0, 2), (60, 8, 70))
    for i, fused in enumerate(_FUSIONS):
        n, inner, m = shapes[i % len(shapes)]
        flip_a, flip_b = i % 2 == 1, i % 3 == 1
        a = random_array(rng, dtype, (inner, n) if flip_a else (n, inner))
        b = random_array(rng, dtype, (m, inner) if flip_b else (inner, m))
        attrs = {"transpose_a": flip_a, "transpose_b": flip_b, "fused_ops": fused, "leakyrelu_alpha": 0.25}
        yield Sample(a, b, [random_array(rng, dtype, (m,))], attrs=attrs, atol=_slack(dtype))


def matmul_reference(
    a: Any,
    b: Any,
    args: Sequence[Any],
    transpose_a: bool,
    transpose_b: bool,
    fused_ops: Sequence[str],
    leakyrelu_alpha: float,
) -> Any:
    left, right = (a.T if transpose_a else a), (b.T if transpose_b else b)
    y = np.einsum("ni,im->nm", left, right) + args[0]
    for name in fused_ops[1:]:
        y = _FUNCTIONS[name](y, leakyrelu_alpha)
    return y


# Convolutions.


def conv2d_samples(rng: np.random.Generator, dtype: DType | None) -> Iterator[Sample]:
    assert dtype is not None
    plain = list(conv_samples.conv2d_samples(rng, dtype))
    normalized = dtype.name == "float32"
    fusions = [*_FUSIONS, *([("FusedBatchNorm",), ("FusedBatchNorm", "Relu")] if normalized else [])]
    for i in range(max(len(plain), len(fusions))):
        sample, fused = plain[i % len(plain)], fusions[i % len(fusions)]
        outputs = sample.inputs[1].shape[3]  # type: ignore[union-attr]  # an array
        args = [random_array(rng, dtype, (outputs,)) for _ in range(4 if fused[0] == "FusedBatchNorm" else 1)]
        if len(args) == 4:
            args[3] = np.abs(args[3]) + args[3].dtype.type(0.5)
        attrs = {
            **sample.attrs,
            "fused_ops": fused,
            "leakyrelu_alpha": 0.25,
            "epsilon": 0.0078125,
            "num_args": len(args),
        }
        yield Sample(*sample.inputs, args, [], attrs=attrs, atol=_slack(dtype))


def conv2d_reference(
    images: Any,
    filters: Any,
    args: Sequence[Any],
    host_args: Sequence[Any],
    fused_ops: Sequence[str],
    leakyrelu_alpha: float,
    epsilon: float,
    num_args: int,
    **attrs: Any,
) -> Any:
    y = conv_samples.conv2d_reference(images, filters, **attrs)
    across = (-1,) if attrs["data_format"] == "NHWC" else (-1, 1, 1)
    vectors = [each.reshape(across) for each in args]
    if fused_ops[0] == "FusedBatchNorm":
        scale, offset, mean, variance = vectors
        y = (y - mean) / np.sqrt(variance + epsilon) * scale + offset
    else:
        y = y + vectors[0]
    for name in fused_ops[1:]:
        y = _FUNCTIONS[name](y, leakyrelu_alpha)
    return y


# Batch normalization.


def batch_norm_samples(rng: np.random.Generator, dtype: DType | None) -> Iterator[Sample]:
    assert dtype is not None
    for i, sample in enumerate(forward_samples(False)(rng, dtype)):
        side = [random_array(rng, dtype, sample.inputs[0].shape)] if i % 2 else []
        attrs = {**sample.attrs, "activation_mode": "Relu" if i % 3 else "Identity"}
        yield Sample(*sample.inputs, side, attrs=attrs, grad=(), atol=_slack(dtype))


def batch_norm_reference(normalize: Callable[..., Any]) -> Callable[..., Any]:
    """The reference, given that of the normalization itself."""

    def reference(
        x: Any,
        scale: Any,
        offset: Any,
        mean: Any,
        variance: Any,
        side: Any,
        activation_mode: str,
        **attrs: Any,
    ) -> Any:
        y, *rest = normalize(x, scale, offset, mean, variance, **attrs)
        for other in side:
            y = y + other
        return (np.where(y < 0, 0.0, y) if activation_mode == "Relu" else y, *rest, np.zeros(()))

    return reference


# Elementwise programs.  Each is proven on arrays that are worth writing over and on small ones.

_REAL = (
    (2, "t0 = Mul(x0, x1)\nt1 = AddV2(t0, x0)\nt2 = Sub(t1, x1)"),
    (1, "t0 = Square(x0)\nt1 = Neg(t0)\nt2 = Maximum(t1, x0)\nt3 = Relu(t2)\nt4 = Minimum(t3, t0)"),
    (3, "t0 = Less(x0, x1)\nt1 = SelectV2(t0, x2, x0)\nt2 = AddN(t1, x0, t1)"),
    (2, "t0 = Cast(x0; DstT=float64)\nt1 = Mul(t0, x1)"),
)
_FLOATING = (
    (2, "t0 = BiasAdd(x0, x1)\nt1 = Tanh(t0)\nt2 = Sigmoid(t1)\nt3 = Mul(t2, t1)"),
    (2, "t0 = LeakyRelu(x0; alpha=0.25)\nt1 = RealDiv(t0, x1)\nt2 = Relu6(t1)"),
    (1, "t0 = Exp(x0)\nt1 = Sqrt(t0)\nt2 = Log(t1)\nt3 = Square(t1)\nt4 = AddV2(t2, t3)"),
)
_LOGICAL = ((2, "t0 = LogicalNot(x0)\nt1 = LogicalAnd(t0, x1)\nt2 = LogicalOr(t1, x0)"),)


def elementwise_samples(rng: np.random.Generator, dtype: DType | None) -> Iterator[Sample]:
    assert dtype is not None
    programs: list[tuple[int, str]] = []
    if dtype.is_floating:
        programs = [*(_REAL if dtype is dtypes.float64 else _REAL[:-1]), *_FLOATING]
    elif dtype is dtypes.int32:
        programs = list(_REAL[:-1])
    elif dtype.is_bool:
        programs = list(_LOGICAL)
    for count, text in programs:
        for shape in ((2, 3), (40, 60)):
            arrays = [random_array(rng, dtype, shape, 0.5, 3) for _ in range(count)]
            if count == 2:
                arrays[1] = arrays[1][0]  # it broadcasts
            if "Cast" in text:
                arrays[0] = arrays[0].astype(np.float32)
            yield Sample(arrays, attrs={"program": text, "T": dtype}, grad=(), atol=_slack(dtype))


_MEANS: Mapping[str, Any] = {
    "Mul": lambda a, b: a * b,
    "AddV2": lambda a, b: a + b,
    "AddN": lambda *each: sum(each),
    "BiasAdd": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "RealDiv": lambda a, b: a / b,
    "Square": lambda a: a * a,
    "Neg": lambda a: -a,
    "Maximum": lambda a, b: np.where(a > b, a, b),
    "Minimum": lambda a, b: np.where(a < b, a, b),
    "Less": lambda a, b: a < b,
    "SelectV2": lambda c, a, b: np.where(c, a, b),
    "Cast": lambda a, DstT: a,
    "LeakyRelu": lambda a, alpha: np.where(a < 0, alpha * a, a),
    "Exp": np.exp,
    "Log": np.log,
    "Sqrt": lambda a: a**0.5,
    "Relu": lambda a: np.where(a < 0, 0, a),
    "Relu6": lambda a: np.clip(a, 0, 6),
    "Tanh": lambda a: 1 - 2 / (np.exp(2 * a) + 1),
    "Sigmoid": lambda a: 1 / (1 + np.exp(-a)),
    "LogicalNot": lambda a: ~a,
    "LogicalAnd": lambda a, b: a & b,
    "LogicalOr": lambda a, b: a | b,
    "float64": None,
}


def elementwise_reference(args: Sequence[Any], program: str, T: DType) -> Any:
    """The program, run as the Python that it nearly is."""
    names = {**_MEANS, **{f"x{i}": value for i, value in enumerate(args)}}
    exec(program.replace(";", ","), {}, names)  # the programs are those above
    return names[f"t{program.count(chr(10))}"]
