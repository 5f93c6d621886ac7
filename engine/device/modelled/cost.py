"""What a modelled kernel costs: operations and bytes, from which the roofline gives its time.

Counts are those of the textbook: 2·m·n·k for a matrix product, one an element for arithmetic, more for what takes a series.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from engine.device.modelled.parameters import GPUModel

# Operations an element, where it is not 1.
_PER_ELEMENT = {
    **dict.fromkeys(("exp", "expm1", "exp2", "log", "log1p", "log2", "log10", "sqrt", "reciprocal"), 8),
    **dict.fromkeys(("sin", "cos", "tan", "tanh", "sinh", "cosh", "arctan", "arcsin", "arccos", "power"), 16),
    **dict.fromkeys(("arctan2", "arcsinh", "arccosh", "arctanh", "divide", "true_divide"), 16),
    **dict.fromkeys(("floor_divide", "remainder", "fmod"), 20),
}
_PRODUCTS = frozenset({"matmul", "linalg.matmul", "dot", "inner", "tensordot", "einsum", "vdot"})
_SORTS = frozenset({"sort", "argsort", "unique", "lexsort", "partition", "argpartition"})


def nbytes_of(arrays: Sequence[np.ndarray[Any, Any]]) -> int:
    """Bytes that are really there: a broadcast array counts once."""
    total = 0
    for array in arrays:
        size = array.itemsize
        for extent, stride in zip(array.shape, array.strides, strict=True):
            size *= extent if stride else min(extent, 1)
        total += size
    return total


def flops_of(
    name: str, inputs: Sequence[np.ndarray[Any, Any]], outputs: Sequence[np.ndarray[Any, Any]]
) -> float:
    """Operations of the function `name`."""
    made = sum(array.size for array in outputs)
    read = max((array.size for array in inputs), default=0)
    if name in _PRODUCTS and len(inputs) >= 2 and made:
        a, b = inputs[0], inputs[1]
        batch = math.prod(outputs[0].shape[:-2]) if name.endswith("matmul") else 1
        return 2.0 * made * math.sqrt(max(1.0, a.size * b.size / made / max(1, batch)))
    if name in _SORTS:
        return read * math.log2(max(2, read))
    return float(max(made, read) * _PER_ELEMENT.get(name, 1))


def kernel_ns(
    model: GPUModel,
    name: str,
    inputs: Sequence[np.ndarray[Any, Any]],
    outputs: Sequence[np.ndarray[Any, Any]],
) -> float:
    """How long the kernel of the function `name` takes on the device, by the roofline."""
    dtype = (inputs or outputs)[0].dtype.name if inputs or outputs else "float32"
    rate = model.flops.get(dtype) or model.flops["float32"]
    arithmetic = flops_of(name, inputs, outputs) / rate
    traffic = nbytes_of((*inputs, *outputs)) / model.bytes_per_second
    return max(model.kernel_ns, 1e9 * max(arithmetic, traffic))
