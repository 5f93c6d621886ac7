"""Products of matrices, single and batched."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.graph.convert import convert_to_tensor
from engine.graph.default import name_scope
from engine.op import shapes
from engine.op.binary import own_dtype
from engine.op.broadcasting import shape_of
from engine.op.elementwise import conjugate, in_float32
from engine.op.registry import op, raw
from engine.op.samples import Sample, random_array
from engine.types import errors
from engine.types.shape import TensorShape, broadcast_static_shape

__all__ = ["matmul"]


def _mismatch(x: Any, y: Any) -> errors.InvalidArgumentError:
    return errors.InvalidArgumentError(
        None, None, f"Matrix size-incompatible: In[0]: {list(x.shape)}, In[1]: {list(y.shape)}"
    )


# MatMul: two matrices.


@in_float32
def _matmul(k: Any, a: Any, b: Any) -> Any:
    if a.ndim != 2 or b.ndim != 2:
        raise errors.InvalidArgumentError(
            None, None, f"MatMul takes two matrices, not shapes {list(a.shape)} and {list(b.shape)}"
        )
    attrs = k.attrs
    if attrs["transpose_a"]:
        a = a.T
    if attrs["transpose_b"]:
        b = b.T
    if a.shape[1] != b.shape[0]:
        raise _mismatch(
            *(x.T if flip else x for x, flip in ((a, attrs["transpose_a"]), (b, attrs["transpose_b"])))
        )
    return k.xp.matmul(a, b)


def _matmul_shape(op: Any) -> TensorShape:
    a, b = op.inputs[0].shape.with_rank(2), op.inputs[1].shape.with_rank(2)
    rows, inner_a = a.dims_or_none[::-1] if op.attrs["transpose_a"] else a.dims_or_none
    inner_b, columns = b.dims_or_none[::-1] if op.attrs["transpose_b"] else b.dims_or_none
    if inner_a is not None and inner_b is not None and inner_a != inner_b:
        raise ValueError(
            f"Dimensions must be equal, but are {inner_a} and {inner_b}: the product of matrices of shapes {a} and {b}"
            f"{_flips(op.attrs['transpose_a'], op.attrs['transpose_b'])}"
        )
    return TensorShape.of((rows, columns))


def _flips(first: bool, second: bool) -> str:
    flipped = [name for name, flip in (("the first", first), ("the second", second)) if flip]
    return f" ({' and '.join(flipped)} transposed)" if flipped else ""


def _product_grads(product: Any, x: Any, y: Any, g: Any, flip_x: bool, flip_y: bool) -> tuple[Any, Any]:
    """The two gradients of a product of x and y; ``product(a, b, flip_a, flip_b)`` builds one that flips its operands first."""
    if not flip_x and not flip_y:
        return product(g, y, False, True), product(x, g, True, False)
    if not flip_x:
        return product(g, y, False, False), product(g, x, True, False)
    if not flip_y:
        return product(y, g, False, True), product(x, g, False, False)
    return product(y, g, True, True), product(g, x, True, True)


def _matmul_grad(op: Any, g: Any) -> Any:
    # MatMul transposes without conjugating, so complex operands are conjugated beforehand.
    def product(a: Any, b: Any, flip_a: bool, flip_b: bool) -> Any:
        return raw.MatMul(a, b, transpose_a=flip_a, transpose_b=flip_b)

    x, y = (conjugate(tensor) for tensor in op.inputs)
    return _product_grads(product, x, y, g, op.attrs["transpose_a"], op.attrs["transpose_b"])


def _flipped(x: Any, flip: bool) -> Any:
    return np.ascontiguousarray(np.swapaxes(x, -1, -2)) if flip else x


def _matmul_samples(rng: np.random.Generator, dtype: Any) -> Any:
    for n, inner, m in ((2, 3, 4), (1, 1, 1), (3, 0, 2), (0, 2, 3), (2, 3, 0), (1, 5, 2)):
        for flip_a in (False, True):
            for flip_b in (False, True):
                a = _flipped(random_array(rng, dtype, (n, inner), -3, 3), flip_a)
                b = _flipped(random_array(rng, dtype, (inner, m), -3, 3), flip_b)
                yield Sample(a, b, attrs={"transpose_a": flip_a, "transpose_b": flip_b})


def _matmul_reference(a: Any, b: Any, transpose_a: bool = False, transpose_b: bool = False, **_: Any) -> Any:
    """The sum of products, by its definition."""
    a, b = _turned(a, transpose_a), _turned(b, transpose_b)
    return np.sum(a[:, :, None] * b[None, :, :], axis=1)


def _turned(x: Any, flip: bool) -> Any:
    return np.swapaxes(x, -1, -2) if flip else x


_MATMUL_TYPES = "{bfloat16, float16, float32, float64, int32, int64, uint8, uint16, uint32, uint64, complex64, complex128}"

op(
    f"MatMul(a: T, b: T; transpose_a: bool = False, transpose_b: bool = False, T: {_MATMUL_TYPES}, grad_a: bool = False, "
    "grad_b: bool = False) -> product: T",
    kernel=_matmul,
    shape=_matmul_shape,
    grad=_matmul_grad,
    samples=_matmul_samples,
    reference=_matmul_reference,
)


# BatchMatMul and BatchMatMulV2: stacks of matrices; those of V2 broadcast.  Transposing conjugates.


def _adjoint(xp: Any, x: Any) -> Any:
    x = xp.swapaxes(x, -1, -2)
    return xp.conj(x) if x.dtype.kind == "c" else x


@in_float32
def _batch_matmul(k: Any, x: Any, y: Any) -> Any:
    for i, each in enumerate((x, y)):
        if each.ndim < 2:
            raise errors.InvalidArgumentError(None, None, f"In[{i}] ndims must be >= 2: {each.ndim}")
    if k.op.type == "BatchMatMul" and x.shape[:-2] != y.shape[:-2]:
        raise errors.InvalidArgumentError(
            None,
            None,
            f"In[0] and In[1] must have the same batch dimensions: {list(x.shape)} vs {list(y.shape)}",
        )
    a = _adjoint(k.xp, x) if k.attrs["adj_x"] else x
    b = _adjoint(k.xp, y) if k.attrs["adj_y"] else y
    if a.shape[-1] != b.shape[-2]:
        raise _mismatch(x, y)
    try:
        return k.xp.matmul(a, b)
    except ValueError:
        raise errors.InvalidArgumentError(
            None,
            None,
            f"In[0] and In[1] must have compatible batch dimensions: {list(x.shape)} vs. {list(y.shape)}",
        ) from None


def _batch_shape(op: Any) -> TensorShape:
    x, y = (tensor.shape.with_rank_at_least(2) for tensor in op.inputs)
    if x.ndims is None or y.ndims is None:
        return shapes.UNKNOWN
    a, b = x.dims_or_none, y.dims_or_none
    rows, inner_x = a[:-3:-1] if op.attrs["adj_x"] else a[-2:]
    inner_y, columns = b[:-3:-1] if op.attrs["adj_y"] else b[-2:]
    if inner_x is not None and inner_y is not None and inner_x != inner_y:
        raise ValueError(
            f"Dimensions must be equal, but are {inner_x} and {inner_y}: the product of matrices of shapes {x} and {y}"
            f"{_flips(op.attrs['adj_x'], op.attrs['adj_y'])}"
        )
    batch_x, batch_y = TensorShape.of(a[:-2]), TensorShape.of(b[:-2])
    if op.type == "BatchMatMul":
        batch = batch_x.merge_with(batch_y)
    else:
        batch = broadcast_static_shape(batch_x, batch_y)
    return batch.concatenate(TensorShape.of((rows, columns)))


def _batch_grad(op: Any, g: Any) -> Any:
    def product(a: Any, b: Any, flip_a: bool, flip_b: bool) -> Any:
        return raw.BatchMatMulV2(a, b, adj_x=flip_a, adj_y=flip_b, name="MatMul")

    x, y = op.inputs
    grad_x, grad_y = _product_grads(product, x, y, g, op.attrs["adj_x"], op.attrs["adj_y"])
    if op.type == "BatchMatMul" or _same_batch(x.shape, y.shape):
        return grad_x, grad_y
    shape_x, shape_y = shape_of(x), shape_of(y)
    batch_x, batch_y = (
        each[:-2] if isinstance(each, np.ndarray) else raw.StridedSlice(each, [0], [-2], [1], begin_mask=1)
        for each in (shape_x, shape_y)
    )
    axes = raw.BroadcastGradientArgs(batch_x, batch_y)
    return (
        raw.Reshape(raw.Sum(grad_x, axes.r0), shape_x),
        raw.Reshape(raw.Sum(grad_y, axes.r1), shape_y),
    )


def _same_batch(x: TensorShape, y: TensorShape) -> bool:
    a, b = x.dims_or_none, y.dims_or_none
    return a is not None and b is not None and a[:-2] == b[:-2] and None not in a[:-2]


def _batch_samples(broadcasts: bool) -> Any:
    def samples(rng: np.random.Generator, dtype: Any) -> Any:
        batches = [((5,), (5,)), ((), ()), ((2, 2), (2, 2)), ((0,), (0,))]
        if broadcasts:
            batches += [((5,), ()), ((2, 1), (3,)), ((), (2,)), ((1,), (0,))]
        for batch_x, batch_y in batches:
            for flip_x, flip_y in ((False, False), (True, False), (False, True), (True, True)):
                x = _flipped(random_array(rng, dtype, (*batch_x, 2, 3), -3, 3), flip_x)
                y = _flipped(random_array(rng, dtype, (*batch_y, 3, 4), -3, 3), flip_y)
                yield Sample(x, y, attrs={"adj_x": flip_x, "adj_y": flip_y})
        yield Sample(random_array(rng, dtype, (2, 2, 0)), random_array(rng, dtype, (2, 0, 3)))

    return samples


def _batch_reference(x: Any, y: Any, adj_x: bool = False, adj_y: bool = False, **_: Any) -> Any:
    x = np.conj(_turned(x, True)) if adj_x else x
    y = np.conj(_turned(y, True)) if adj_y else y
    return np.sum(x[..., :, :, None] * y[..., None, :, :], axis=-2)


_BATCH_ATTRS = "adj_x: bool = False, adj_y: bool = False, grad_x: bool = False, grad_y: bool = False"

for _name, _types in (
    ("BatchMatMul", "{bfloat16, float16, float32, float64, int32, int64, complex64, complex128}"),
    (
        "BatchMatMulV2",
        "{bfloat16, float16, float32, float64, int16, int32, int64, uint8, uint16, uint32, uint64, complex64, complex128}",
    ),
):
    op(
        f"{_name}(x: T, y: T; T: {_types}, {_BATCH_ATTRS}) -> output: T",
        kernel=_batch_matmul,
        shape=_batch_shape,
        grad=_batch_grad,
        samples=_batch_samples(_name == "BatchMatMulV2"),
        reference=_batch_reference,
    )


def matmul(
    a: Any,
    b: Any,
    transpose_a: bool = False,
    transpose_b: bool = False,
    adjoint_a: bool = False,
    adjoint_b: bool = False,
    a_is_sparse: bool = False,
    b_is_sparse: bool = False,
    name: str | None = None,
) -> Any:
    """The product of matrices (…, n, k) and (…, k, m): (…, n, m); leading dimensions broadcast.

    transpose_…: use the transpose of that operand's last two dimensions; adjoint_…: the conjugate transpose.  a_is_sparse and
    b_is_sparse are hints that many values are zero; they change nothing.  Raises ValueError where both transpose and adjoint
    are asked of an operand, or where shapes do not fit.
    """
    del a_is_sparse, b_is_sparse
    if transpose_a and adjoint_a:
        raise ValueError("Only one of transpose_a and adjoint_a can be True")
    if transpose_b and adjoint_b:
        raise ValueError("Only one of transpose_b and adjoint_b can be True")
    with name_scope(name, "MatMul", [a, b]) as scope:
        dtype = own_dtype(a) or own_dtype(b)
        a = convert_to_tensor(a, dtype, name="a")
        b = convert_to_tensor(b, own_dtype(b) or a.dtype.base_dtype, name="b")
        if _is_batch(a.shape) or _is_batch(b.shape):
            # BatchMatMul knows adjoints only.
            a, adjoint_a = _as_adjoint(a, transpose_a, adjoint_a)
            b, adjoint_b = _as_adjoint(b, transpose_b, adjoint_b)
            return raw.BatchMatMulV2(a, b, adj_x=adjoint_a, adj_y=adjoint_b, name=scope)
        # MatMul knows transposes only.
        a, transpose_a = (conjugate(a), True) if adjoint_a else (a, transpose_a)
        b, transpose_b = (conjugate(b), True) if adjoint_b else (b, transpose_b)
        return raw.MatMul(a, b, transpose_a=transpose_a, transpose_b=transpose_b, name=scope)


def _is_batch(shape: TensorShape) -> bool:
    return shape.ndims is None or shape.ndims > 2


def _as_adjoint(x: Any, transpose: bool, adjoint: bool) -> tuple[Any, bool]:
    return (conjugate(x), True) if transpose else (x, adjoint)
