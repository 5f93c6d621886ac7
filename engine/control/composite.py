"""What travels through branches and loops as tensors, though it is none: sparse tensors, slices, TensorArrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from engine.control.tensor_array import TensorArray
from engine.graph.indexed_slices import IndexedSlices
from engine.graph.sparse_tensor import SparseTensor
from engine.graph.tensor import Tensor
from engine.types import nest
from engine.types.shape import TensorShape, as_shape


class _Kind(NamedTuple):
    """`tensors` of a value, the value that has `rebuilt(value, tensors)`, and each tensor's invariant, given the value's."""

    type: type
    tensors: Callable[[Any], list[Tensor]]
    rebuilt: Callable[[Any, Sequence[Tensor]], Any]
    invariants: Callable[[Any, TensorShape], list[TensorShape]]


def _sparse(like: SparseTensor, tensors: Sequence[Tensor]) -> SparseTensor:
    return SparseTensor(*tensors)


def _sparse_invariants(value: SparseTensor, shape: TensorShape) -> list[TensorShape]:
    """How many values there are may change; `shape` is the dense tensor's."""
    rank = shape.ndims
    return [TensorShape.of((None, rank)), TensorShape.of((None,)), TensorShape.of((rank,))]


def _slices_invariants(value: IndexedSlices, shape: TensorShape) -> list[TensorShape]:
    """`shape` is that of the values."""
    rows = None if shape.ndims is None else shape.as_list()[0]
    found = [shape, TensorShape.of((rows,))]
    return found if value.dense_shape is None else [*found, TensorShape.of((shape.ndims,))]


def _slices(value: IndexedSlices) -> list[Tensor]:
    found = [value.values, value.indices]
    return found if value.dense_shape is None else [*found, value.dense_shape]


_KINDS = (
    _Kind(
        SparseTensor,
        lambda value: [value.indices, value.values, value.dense_shape],
        _sparse,
        _sparse_invariants,
    ),
    _Kind(IndexedSlices, _slices, lambda like, tensors: IndexedSlices(*tensors), _slices_invariants),
    _Kind(
        TensorArray,
        lambda value: [value.flow],
        lambda like, tensors: like._with_flow(tensors[0]),
        lambda value, shape: [shape],
    ),
)


def _kind(value: Any) -> _Kind | None:
    return next((kind for kind in _KINDS if isinstance(value, kind.type)), None)


def tensors_of(value: Any) -> list[Any]:
    """The tensors by which `value` travels; any other value is by itself."""
    kind = _kind(value)
    return [value] if kind is None else kind.tensors(value)


def rebuilt(like: Any, supply: Iterator[Tensor]) -> Any:
    """A value of the kind of `like` made of the next tensors of `supply`."""
    kind = _kind(like)
    if kind is None:
        return next(supply)
    return kind.rebuilt(like, [next(supply) for _ in kind.tensors(like)])


def flatten(structure: Any) -> list[Any]:
    """The tensors of all leaves, in order."""
    return [tensor for leaf in nest.flatten(structure) for tensor in tensors_of(leaf)]


def pack(structure: Any, tensors: Sequence[Tensor]) -> Any:
    """The structure with values made of `tensors`, which are as `flatten` gives them."""
    supply = iter(tensors)
    return nest.pack_sequence_as(structure, [rebuilt(leaf, supply) for leaf in nest.flatten(structure)])


def invariants_of(value: Any, shape: Any) -> list[TensorShape]:
    """The invariant of each of the value's tensors, from the one that the user gave for the value."""
    kind = _kind(value)
    return [as_shape(shape)] if kind is None else kind.invariants(value, as_shape(shape))


def own_invariants(structure: Any, tensors: Sequence[Tensor]) -> list[TensorShape] | None:
    """The invariants of loop variables, which travel as `tensors`, for which the user gave none; None if all are as they enter.

    How many values a sparse tensor (how many rows slices) has may change; the shape of the whole may not.
    """
    leaves = nest.flatten(structure)
    if not any(isinstance(leaf, SparseTensor | IndexedSlices) for leaf in leaves):
        return None
    found: list[TensorShape] = []
    supply = iter(tensors)
    for leaf in leaves:
        own = [next(supply) for _ in tensors_of(leaf)]
        if isinstance(leaf, SparseTensor):
            found.extend(invariants_of(leaf, leaf.shape))
        elif isinstance(leaf, IndexedSlices):
            dims = leaf.values.shape.dims_or_none
            found.extend(invariants_of(leaf, TensorShape.of(None if dims is None else (None, *dims[1:]))))
        else:
            found.extend(tensor.shape for tensor in own)
    return found


def differently(wanted: Any, found: Any) -> tuple[Any, Any] | None:
    """The first leaves of two equal structures that travel differently; None if there are none."""
    for left, right in zip(nest.flatten(wanted), nest.flatten(found), strict=True):
        # None is an error of its own, a number becomes a tensor.
        if _kind(left) is not _kind(right) or len(tensors_of(left)) != len(tensors_of(right)):
            return left, right
    return None
