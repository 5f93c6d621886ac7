"""Every op on its own samples: what the generated tests and the comparison with TensorFlow have in common.

A case is an op and one dtype of its first type attr.  Its samples are the same in every process: the generator is seeded by
the names.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import engine as tf
from engine.op.registry import OpDef, all_ops, lookup
from engine.op.samples import Sample, Untested
from engine.types import dtypes
from engine.types.dtypes import DType, as_dtype

ANY = [
    "float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "complex64", "complex128", "bool", "string",
]  # fmt: skip


# What TensorFlow cannot be asked: ops that it does not have, or not on the CPU.
NOT_ASKED = frozenset({"_FusedElementwise", "_FusedLayerNorm", "_FusedBatchNormEx"})


@dataclass(frozen=True)
class Case:
    """An op, and the dtype that its sampler is asked for (None if it has no type attr)."""

    op_type: str
    dtype_name: str | None

    def __str__(self) -> str:
        return self.op_type if self.dtype_name is None else f"{self.op_type}-{self.dtype_name}"

    @property
    def opdef(self) -> OpDef:
        found = lookup(self.op_type)
        assert found is not None
        return found

    @property
    def dtype(self) -> DType | None:
        return None if self.dtype_name is None else as_dtype(self.dtype_name)

    def samples(self) -> list[Sample]:
        rng = np.random.Generator(np.random.PCG64(zlib.crc32(str(self).encode())))
        return list(self.opdef.samples(rng, self.dtype))


def type_attr(opdef: OpDef) -> Any:
    """The attr whose dtypes the sampler is asked for: T, or the first of kind type; None if there is none."""
    attrs = opdef.signature.attrs
    if "T" in attrs and attrs["T"].kind == "type":
        return attrs["T"]
    return next((attr for attr in attrs.values() if attr.kind == "type"), None)


def sampled_ops() -> list[OpDef]:
    """The ops that have samples, by name."""
    return [opdef for opdef in all_ops() if not isinstance(opdef.samples, Untested)]


def cases() -> list[Case]:
    """Every sampled op with every dtype that it takes."""
    found = []
    for opdef in sampled_ops():
        attr = type_attr(opdef)
        if attr is None:
            found.append(Case(opdef.name, None))
        else:
            names = ANY if attr.allowed is None else [dtype.name for dtype in attr.allowed]
            found.extend(Case(opdef.name, name) for name in names)
    return found


def flat(sample: Sample) -> list[np.ndarray[Any, Any]]:
    """The sample's arrays, lists opened."""
    found: list[np.ndarray[Any, Any]] = []
    for value in sample.inputs:
        found.extend(value if isinstance(value, list) else [value])
    return found


def regroup(sample: Sample, values: Sequence[Any]) -> list[Any]:
    """`values`, one for each array of `flat`, in the sample's own lists."""
    remaining = iter(values)
    return [
        [next(remaining) for _ in value] if isinstance(value, list) else next(remaining)
        for value in sample.inputs
    ]


def build(case: Case, sample: Sample, tensors: Sequence[Any], **attrs: Any) -> list[Any]:
    """A node of the case's op in the default graph, with the sample's attrs; its outputs."""
    attr = type_attr(case.opdef)
    keywords = {**sample.attrs, **attrs}
    if attr is not None and attr.name not in case.opdef.signature.inferred and attr.name not in keywords:
        keywords[attr.name] = case.dtype
    inputs = regroup(sample, tensors)
    result = case.opdef(*inputs, **keywords)
    if isinstance(result, tf.Tensor):
        return [result]
    if isinstance(result, tf.Operation):
        return []
    outputs: list[Any] = []
    for each in result:
        outputs.extend(each if isinstance(each, list) else [each])
    return outputs


def placeholders(arrays: Sequence[Any], shapes: bool = True) -> list[Any]:
    """A placeholder for each array, of its shape or of unknown shape."""
    return [tf.placeholder(as_dtype(a.dtype), a.shape if shapes else None) for a in arrays]


def checked_inputs(sample: Sample) -> list[int]:
    """Positions in `flat(sample)` of the inputs whose gradient is checked."""
    chosen = []
    position = 0
    for i, value in enumerate(sample.inputs):
        arrays = value if isinstance(value, list) else [value]
        for array in arrays:
            dtype = as_dtype(array.dtype)
            if (sample.grad is None or i in sample.grad) and (dtype.is_floating or dtype.is_complex):
                chosen.append(position)
            position += 1
    return chosen


def weights(case: Case, number: int, shapes: Sequence[Any], kinds: Sequence[Any]) -> list[Any]:
    """What to start a gradient with at each output: fixed numbers between 0.5 and 1.5, of alternating sign."""
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(f"{case}/{number}".encode())))
    found = []
    for shape, dtype in zip(shapes, kinds, strict=True):
        value = rng.uniform(0.5, 1.5, shape) * np.where(rng.uniform(size=shape) < 0.5, -1, 1)
        if dtype.is_complex:
            value = value + 1j * rng.uniform(0.5, 1.5, shape)
        found.append(np.asarray(value).astype(dtype.np_dtype))
    return found


def differentiable(dtype: DType) -> bool:
    return dtype.is_floating or dtype.is_complex


# Comparing.

GRADIENTS = ("float32", "complex64")  # the dtypes in which TensorFlow's gradients are kept


def digest(arrays: list[Any]) -> int:
    """A number that tells whether samples have changed."""
    total = 0
    for array in arrays:
        data = (
            repr(array.tolist()).encode()
            if array.dtype.kind == "O"
            else np.ascontiguousarray(array).tobytes()
        )
        total = zlib.crc32(data, zlib.crc32(f"{array.dtype}{array.shape}".encode(), total))
    return total


_TOLERANCES = {
    dtypes.float64: (1e-9, 1e-10),
    dtypes.complex128: (1e-9, 1e-10),
    dtypes.float32: (1e-5, 1e-6),
    dtypes.complex64: (2e-5, 2e-6),
    dtypes.float16: (4e-3, 1e-3),
    dtypes.bfloat16: (3e-2, 1e-2),
}


def tolerances(dtype: DType, sample: Sample | None = None, factor: float = 1.0) -> tuple[float, float]:
    """rtol and atol for results of `dtype`: at least the sample's own."""
    rtol, atol = _TOLERANCES[dtype]
    if sample is not None:
        rtol, atol = max(rtol, sample.rtol or 0), max(atol, sample.atol or 0)
    return rtol * factor, atol * factor


def assert_close(
    found: Any, wanted: Any, dtype: DType, sample: Sample | None = None, factor: float = 1.0
) -> None:
    """That `found`, of `dtype`, is `wanted`: exactly for integers, bools and strings, else within the tolerances.

    `wanted` may be more precise; it is rounded to `dtype` first, so that what overflows there is infinite in both.
    """
    found, wanted = np.asarray(found), np.asarray(wanted)
    assert found.shape == wanted.shape, f"shape {found.shape} instead of {wanted.shape}"
    if dtype is dtypes.string or dtype.is_bool:
        assert found.tolist() == wanted.tolist()
        return
    if dtype.is_integer:
        bits = 2 ** (8 * dtype.size) - 1  # compared as they wrap around
        limits = {float("inf"): dtype.max, float("-inf"): dtype.min}  # the extremes of nothing
        exact = [
            limits[v] if isinstance(v, float) and v in limits else int(v.real)
            for v in wanted.ravel().tolist()
        ]
        assert [v & bits for v in found.ravel().tolist()] == [int(v) & bits for v in exact]
        return
    rtol, atol = tolerances(dtype, sample, factor)
    wide = np.complex128 if dtype.is_complex else np.float64
    with np.errstate(all="ignore"):
        rounded = (
            (wanted if dtype.is_complex else wanted.real).astype(wide).astype(dtype.np_dtype).astype(wide)
        )
    np.testing.assert_allclose(found.astype(wide), rounded, rtol=rtol, atol=atol, equal_nan=True)


def run_outputs(outputs: Sequence[Any], feeds: dict[Any, Any]) -> list[Any]:
    """The values of `outputs`, in a session of its own; strings of rank 0 as arrays, not as bare bytes."""
    if not outputs:
        return []
    with tf.Session(graph=outputs[0].graph) as session:
        values = session.run(list(outputs), feeds)
    return [np.array(v, object) if isinstance(v, bytes) else np.asarray(v) for v in values]
