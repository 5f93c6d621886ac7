"""Elementwise arithmetic on two inputs that broadcast: sums, products, powers, extremes; and sums of many tensors.

`binary` makes the block of such an op.  Division has its own file, `division`; operators on tensors are installed by `operators`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from engine.graph.convert import convert_to_tensor
from engine.graph.default import control_dependencies
from engine.op import shapes
from engine.op.broadcasting import fully_known_and_equal, unbroadcast
from engine.op.const import constant
from engine.op.elementwise import INEXACT, conjugate
from engine.op.fills import ones_like, zeros_like
from engine.op.kernels import invalid, require
from engine.op.registry import Kernel, OpDef, op, raw
from engine.op.samples import Sample, pairs, random_array
from engine.types import dtypes, errors

__all__ = [
    "accumulate_n", "add", "add_n", "maximum", "minimum", "multiply", "multiply_no_nan", "pow", "scalar_mul",
    "squared_difference", "subtract",
]  # fmt: skip


def binary(
    name: str,
    types: str,
    *,
    ufunc: str | None = None,
    kernel: Kernel | None = None,
    grad: Any = None,
    samples: Any,
    reference: Callable[..., Any] | None = None,
    result: str = "T",
    inputs: tuple[str, str] = ("x", "y"),
) -> OpDef:
    """The block of an elementwise op of two inputs that broadcast; `types` is a set of dtypes as in a signature."""
    return op(
        f"{name}({inputs[0]}: T, {inputs[1]}: T; T: {types}) -> z: {result}",
        ufunc=ufunc,
        kernel=kernel,
        shape=shapes.broadcast,
        grad=grad,
        samples=samples,
        reference=reference,
        int32_on_host=True,
    )


# Sums and products.


def _add_grad(op: Any, g: Any) -> Any:
    return (g, g) if fully_known_and_equal(*op.inputs, g) else unbroadcast(op, g, g)


def _sub_grad(op: Any, g: Any) -> Any:
    return (g, -g) if fully_known_and_equal(*op.inputs, g) else unbroadcast(op, g, -g)


# Add differs from AddV2 in that it also joins strings; in TensorFlow 2's compat.v1, `+` and tf.add make an AddV2.
_ADD_TYPES = (
    "{bfloat16, float16, float32, float64, uint8, int8, int16, int32, int64, complex64, complex128, string}"
)


def _add(k: Any, x: Any, y: Any) -> Any:
    total = k.xp.add(x, y)
    # NumPy gives the bare bytes, not an array, for strings of rank 0.
    return np.array(total, object) if x.dtype.kind == "O" and not isinstance(total, np.ndarray) else total


binary("Add", _ADD_TYPES, kernel=_add, grad=_add_grad, samples=pairs(-9, 9), reference=lambda x, y: x + y)
binary("AddV2", "numbers", ufunc="add", grad=_add_grad, samples=pairs(-9, 9))


def add(x: Any, y: Any, name: str | None = None) -> Any:
    """x + y, elementwise with broadcasting; strings are joined.  Both have the same dtype, which the result has."""
    decides = x if own_dtype(x) is not None else y
    if own_dtype(decides) is None:
        decides = x = convert_to_tensor(x, name="x")
    make = raw.Add if own_dtype(decides) is dtypes.string else raw.AddV2
    return make(x, y, name=name or "Add")


def own_dtype(value: Any) -> dtypes.DType | None:
    """The base dtype of a tensor, variable or the like; None for numbers and arrays, which follow the other operand."""
    dtype = getattr(value, "dtype", None)
    return dtype.base_dtype if isinstance(dtype, dtypes.DType) else None


subtract = binary(
    "Sub",
    "numbers",
    ufunc="subtract",
    grad=_sub_grad,
    samples=pairs(-9, 9),
)


def _mul_grad(op: Any, g: Any) -> Any:
    x, y = op.inputs
    if g.dtype in (dtypes.float32, dtypes.int32) and fully_known_and_equal(x, y, g):
        return raw.Mul(g, y), raw.Mul(g, x)
    x, y = conjugate(x), conjugate(y)
    return unbroadcast(op, raw.Mul(g, y), raw.Mul(x, g))


multiply = binary("Mul", "numbers", ufunc="multiply", grad=_mul_grad, samples=pairs(-9, 9))


def scalar_mul(scalar: Any, x: Any, name: str | None = None) -> Any:
    """scalar · x, where x is a Tensor or IndexedSlices.  Raises ValueError if `scalar` is not of rank 0."""
    scalar = convert_to_tensor(scalar, dtype=x.dtype.base_dtype, name="scalar")
    if scalar.shape.ndims not in (0, None):
        raise ValueError(f"Only scalar multiply works, the scalar has shape {scalar.shape}")
    if hasattr(x, "indices"):
        return type(x)(multiply(scalar, x.values, name=name), x.indices, x.dense_shape)
    return multiply(scalar, x, name=name)


# Powers.


def _pow(k: Any, x: Any, y: Any) -> Any:
    if x.dtype.kind == "i":
        require(k, y < 0, lambda: invalid("Integers to negative integer powers are not allowed"))
    return k.xp.power(x, y)


def _pow_grad(op: Any, g: Any) -> Any:
    x, y = conjugate(op.inputs[0]), conjugate(op.inputs[1])
    z = conjugate(op.outputs[0])
    grad_x = g * y * raw.Pow(x, y - 1.0)
    # log x where it is defined, else 0, without ever taking the logarithm of what is not: 0 · NaN would be NaN.
    defined = raw.NotEqual(x, 0.0) if x.dtype.is_complex else raw.Greater(x, 0.0)
    safe = raw.Select(defined, x, ones_like(x))
    log_x = raw.Select(defined, raw.Log(safe), zeros_like(x))
    return unbroadcast(op, grad_x, g * z * log_x)


_POW_TYPES = "{bfloat16, float32, float16, float64, int8, int16, int32, int64, complex64, complex128}"


def _pow_samples(rng: np.random.Generator, dtype: Any) -> Any:
    base = pairs(0.2, 3, special=not dtype.is_integer) if not dtype.is_complex else pairs(0.3, 2)
    yield from base(rng, dtype)
    if dtype.is_floating:
        x = np.array([-2, -1, -0.5, 0, 0, 0, 3], np.float64).astype(dtype.np_dtype)
        y = np.array([2, 3, -1, 0, 1, 2, -2], np.float64).astype(dtype.np_dtype)
        yield Sample(x, y, grad=(), note="negative and zero bases, whole exponents")
    if dtype.is_integer:
        yield Sample(random_array(rng, dtype, (7,), -3, 3), random_array(rng, dtype, (7,), 0, 4))


# Raises InvalidArgumentError when run with integers and a negative exponent; integers wrap around.
pow = binary("Pow", _POW_TYPES, kernel=_pow, grad=_pow_grad, samples=_pow_samples, reference=np.power)


# Extremes.  Where both operands are equal the gradient goes to x, as in TensorFlow.


def _extreme_grad(compare: str) -> Callable[[Any, Any], Any]:
    def grad(op: Any, g: Any) -> Any:
        x, y = op.inputs
        zero = zeros_like(g)
        first = getattr(raw, compare)(x, y)
        return unbroadcast(op, raw.SelectV2(first, g, zero), raw.SelectV2(first, zero, g))

    return grad


maximum = binary(
    "Maximum",
    "reals",
    ufunc="maximum",
    grad=_extreme_grad("GreaterEqual"),
    samples=pairs(-9, 9, apart=0.25),
)

minimum = binary(
    "Minimum",
    "reals",
    ufunc="minimum",
    grad=_extreme_grad("LessEqual"),
    samples=pairs(-9, 9, apart=0.25),
)


# Squared difference: |x - y|², which for complex operands TensorFlow computes as (x - y)·conj(x - y).


def _squared_difference(k: Any, x: Any, y: Any) -> Any:
    difference = k.xp.subtract(x, y)
    return difference * k.xp.conj(difference)


def _squared_difference_grad(op: Any, g: Any) -> Any:
    x, y = op.inputs
    with control_dependencies([g]):
        slope = raw.Mul(constant(2.0, g.dtype.base_dtype, name="scalar"), g) * (x - y)
    grads = slope, -slope
    return grads if fully_known_and_equal(x, y, g) else unbroadcast(op, *grads)


squared_difference = binary(
    "SquaredDifference",
    "{bfloat16, float16, float32, float64, int32, int64, complex64, complex128}",
    kernel=_squared_difference,
    grad=_squared_difference_grad,
    # Of complex operands it has no derivative; the gradient is TensorFlow's all the same.
    samples=lambda rng, dtype: pairs(-9, 9, grad=() if dtype.is_complex else None)(rng, dtype),
    reference=lambda x, y: np.abs(x - y) ** 2,
)


# Products and quotients that are 0 wherever one operand is, also where the other is infinite or NaN.


def _mul_no_nan(k: Any, x: Any, y: Any) -> Any:
    return k.xp.where(y == 0, y.dtype.type(0), k.xp.multiply(x, y))


def _mul_no_nan_grad(op: Any, g: Any) -> Any:
    x, y = op.inputs
    grads = raw.MulNoNan(g, conjugate(y)), raw.MulNoNan(conjugate(x), g)
    return grads if fully_known_and_equal(x, y, g) else unbroadcast(op, *grads)


multiply_no_nan = binary(
    "MulNoNan",
    INEXACT,
    kernel=_mul_no_nan,
    grad=_mul_no_nan_grad,
    samples=pairs(0.5, 3),
    reference=lambda x, y: np.where(np.equal(y, 0), 0, x * y),
)


# Sums of many tensors of one shape.


def _add_n(k: Any, *inputs: Any) -> Any:
    shape = inputs[0].shape
    for i, x in enumerate(inputs):
        if x.shape != shape:
            raise errors.InvalidArgumentError(
                None,
                None,
                "Inputs to operation AddN must have the same size and shape. "
                f"Input 0: {list(shape)} != input {i}: {list(x.shape)}",
            )
    if len(inputs) == 1:
        return inputs[0]
    add = k.xp.add
    total = add(inputs[0], inputs[1])
    if not shape:
        for x in inputs[2:]:
            total = total + x
        return total
    for x in inputs[2:]:
        add(total, x, out=total)
    return total


def _add_n_samples(rng: np.random.Generator, dtype: Any) -> Any:
    for shape in ((2, 3), (), (0, 2)):
        for count in (1, 2, 5):
            yield Sample([random_array(rng, dtype, shape, 0, 9) for _ in range(count)])


def _add_n_reference(inputs: Any) -> Any:
    return np.sum(np.stack(inputs), axis=0)


op(
    "AddN(inputs: N * T; N: int >= 1, T: numbers) -> sum: T",
    kernel=_add_n,
    shape=shapes.merged,
    grad=lambda op, g: [g] * len(op.inputs),
    samples=_add_n_samples,
    reference=_add_n_reference,
)


def add_n(inputs: Sequence[Any], name: str | None = None) -> Any:
    """The sum of tensors of one shape and dtype (IndexedSlices are made dense).  One tensor is returned as it is.

    Raises ValueError if `inputs` is no list, or empty.
    """
    if not isinstance(inputs, list | tuple) or not inputs:
        raise ValueError(
            "Inputs must be a list of at least one Tensor or IndexedSlices with the same dtype and shape"
        )
    if len(inputs) == 1:
        only = convert_to_tensor(inputs[0])
        return only if name is None else raw.Identity(only, name=name)
    return raw.AddN(list(inputs), name=name)


def accumulate_n(
    inputs: Sequence[Any], shape: Any = None, tensor_dtype: Any = None, name: str | None = None
) -> Any:
    """`add_n`, whose inputs' static shapes must agree with `shape` and whose dtype must be `tensor_dtype`, where given.

    Raises ValueError for no inputs or shapes that disagree, TypeError for another dtype.
    """
    if not isinstance(inputs, list | tuple) or not inputs:
        raise ValueError("inputs must be a list of at least one Tensor with the same dtype and shape")
    tensors = [convert_to_tensor(each) for each in inputs]
    if tensor_dtype is not None and tensors[0].dtype.base_dtype != tensor_dtype:
        raise TypeError(f"tensor_dtype is {tensor_dtype}, but input is of type {tensors[0].dtype}")
    for tensor in tensors:
        if shape is not None:
            tensor.shape.assert_is_compatible_with(shape)
        tensor.shape.assert_is_compatible_with(tensors[0].shape)
    result = add_n(tensors, name=name)
    if shape is not None and len(tensors) > 1:
        result.set_shape(shape)
    return result
