"""Layer normalization as one node: the ops that users write it with, run in order, or one CUDA kernel.

TensorFlow 1 has no op for it.  What is written as moments over the last axis and a normalization by them (Ba, Kiros and Hinton,
"Layer Normalization", 2016) is found by `engine.passes.layer_norm`.  The node holds the ops as a program, which is what the CPU
runs: the bits are those of the ops apart.  On a GPU one kernel reads each row three times; its result differs from the ops' by a
few units in the last place of the largest of x, the mean and the offset (each scaled as the result is), since it sums in another
order, and computes 16-bit floats in float32 throughout.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.op import cuda
from engine.op.fused_program import NAMES, read
from engine.op.kernels import invalid
from engine.op.reduce import axes_of
from engine.op.registry import HOST, op, register_kernel
from engine.op.samples import Sample, random_array
from engine.types.shape import TensorShape, broadcast_static_shape

if TYPE_CHECKING:
    from engine.types.dtypes import DType

__all__: list[str] = []


def _run(k: Any, *inputs: Any) -> Any:
    """The program, op by op; its inputs are x, epsilon, scale and offset as far as there are any, and the axes."""
    attrs = k.attrs
    if len(inputs) != 3 + attrs["has_scale"] + attrs["has_offset"]:
        raise invalid(
            f"a layer normalization with has_scale={attrs['has_scale']} and has_offset={attrs['has_offset']} "
            f"has {len(inputs) - 2} args: epsilon, and each of those that it has"
        )
    try:
        program = read(attrs["program"])
    except ValueError as error:
        raise invalid(str(error)) from None
    if program.n_inputs != len(inputs):
        raise invalid(
            f"the program of a layer normalization reads {program.n_inputs} inputs, it has {len(inputs)}:\n{attrs['program']}"
        )
    return program.run(k.xp, inputs, attrs.get(NAMES, ()))


def _shape(node: Any) -> TensorShape:
    found: TensorShape = node.inputs[0].shape
    for vector in node.inputs[2:-1]:
        found = broadcast_static_shape(found, vector.shape)
    return found


# Written in both ways: as `tf.nn.moments` and `tf.nn.batch_normalization` do, and by hand.
_MOMENTS = (
    "t0 = Mean(x0, {axes}; keep_dims=True)\nt1 = SquaredDifference(x0, t0)\nt2 = Mean(t1, {axes}; keep_dims=True)\n"
    "t3 = AddV2(t2, x1)\nt4 = Rsqrt(t3)\n"
)
_BY_GAIN = "t5 = Mul(t4, x2)\nt6 = Mul(x0, t5)\nt7 = Mul(t0, t5)\nt8 = Sub(x3, t7)\nt9 = AddV2(t6, t8)"
_BY_HAND = (
    "t0 = Mean(x0, {axes}; keep_dims=True)\nt1 = Sub(x0, t0)\nt2 = Square(t1)\nt3 = Mean(t2, {axes}; keep_dims=True)\n"
    "t4 = AddV2(t3, x1)\nt5 = Sqrt(t4)\nt6 = RealDiv(t1, t5)\nt7 = Mul(t6, x2)"
)
_PROGRAMS = (
    ((True, True), _MOMENTS + _BY_GAIN),
    ((False, False), _MOMENTS + "t5 = Sub(x0, t0)\nt6 = Mul(t5, t4)"),
    ((True, False), _BY_HAND),
)
_SLACK = {"float16": 0.05, "bfloat16": 0.4}  # what is rounded to 16 bits between the ops


def _samples(rng: np.random.Generator, dtype: DType | None) -> Iterator[Sample]:
    assert dtype is not None
    for (has_scale, has_offset), text in _PROGRAMS:
        for shape in ((3, 5), (2, 3, 37), (0, 4)):
            vectors = [random_array(rng, dtype, shape[-1:]) for _ in range(has_scale + has_offset)]
            args = [np.asarray(0.0625, dtype.np_dtype), *vectors]
            attrs = {
                "program": text.format(axes=f"x{1 + len(args)}"),
                "has_scale": has_scale,
                "has_offset": has_offset,
            }
            axes = np.array([len(shape) - 1], np.int32)
            yield Sample(
                random_array(rng, dtype, shape), args, axes, attrs=attrs, grad=(), atol=_SLACK.get(dtype.name)
            )


def _reference(
    x: Any, args: Sequence[Any], axes: Any, program: str, has_scale: bool, has_offset: bool
) -> Any:
    epsilon, *vectors = args
    y = np.zeros(x.shape)
    for i in np.ndindex(*x.shape[:-1]):
        row = np.asarray(x[i], np.float64)
        away = row - np.sum(row) / len(row)
        y[i] = away / np.sqrt(np.dot(away, away) / len(row) + epsilon)
    if has_scale:
        y = y * vectors[0]
    return y + vectors[-1] if has_offset else y


op(
    "_FusedLayerNorm(x: T, args: num_args * T, axes: Tidx; T: floats, num_args: int >= 1, Tidx: index = int32, "
    "program: string, has_scale: bool = False, has_offset: bool = False) -> y: T",
    kernel=_run,
    shape=_shape,
    samples=_samples,
    reference=_reference,
    memory={"axes": HOST},
)


@register_kernel("_FusedLayerNorm", device="CUDA")
def _in_one_kernel(k: Any, x: Any, epsilon: Any, *rest: Any) -> Any:
    """One CUDA kernel; op by op where the axis is not the last one, or scale or offset are no vectors along it."""
    *vectors, axes = rest
    attrs = k.attrs
    fits = (
        x.size > 0
        and len(vectors) == attrs["has_scale"] + attrs["has_offset"]
        and axes_of(axes, x.ndim) == (x.ndim - 1,)
        and epsilon.size == 1
        and all(each.size == x.shape[-1] == each.shape[-1] and each.ndim <= x.ndim for each in vectors)
    )
    if not fits:
        return _run(k, x, epsilon, *rest)
    scale = vectors[0] if attrs["has_scale"] else None
    offset = vectors[-1] if attrs["has_offset"] else None
    return cuda.layer_norm(k.xp, x, epsilon, scale, offset)
