"""IndexedSlices: a sparse set of rows of a larger tensor, as the gradient of `gather` gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.graph.convert import register_tensor_conversion_function
from engine.graph.tensor import Tensor
from engine.op.registry import raw
from engine.types.shape import TensorShape

if TYPE_CHECKING:
    from engine.graph.graph import Graph
    from engine.types.dtypes import DType


class IndexedSlices:
    """Rows `values[i]` at `indices[i]` of a tensor of shape `dense_shape`; rows with the same index add up.

    values: Tensor of shape [n, d1, …]; indices: int32 or int64 Tensor [n]; dense_shape: int Tensor [d0, d1, …] or None.
    """

    __slots__ = ("_dense_shape", "_indices", "_values")

    def __init__(self, values: Tensor, indices: Tensor, dense_shape: Tensor | None = None) -> None:
        self._values = values
        self._indices = indices
        self._dense_shape = dense_shape

    @property
    def values(self) -> Tensor:
        return self._values

    @property
    def indices(self) -> Tensor:
        return self._indices

    @property
    def dense_shape(self) -> Tensor | None:
        return self._dense_shape

    @property
    def shape(self) -> TensorShape:
        """The static shape of the dense tensor."""
        if self._dense_shape is None:
            return TensorShape(None)
        from engine.op.shapes import constant_value_as_shape

        return constant_value_as_shape(self._dense_shape)

    @property
    def dtype(self) -> DType:
        return self._values.dtype

    @property
    def name(self) -> str:
        return self._values.name

    @property
    def op(self) -> Any:
        return self._values.op

    @property
    def device(self) -> str:
        return self._values.device

    @property
    def graph(self) -> Graph:
        return self._values.graph

    @property
    def _as_control_input(self) -> Any:
        return self._values.op

    def __neg__(self) -> IndexedSlices:
        return IndexedSlices(-self._values, self._indices, self._dense_shape)

    def __repr__(self) -> str:
        shape = "" if self._dense_shape is None else f", dense_shape={self._dense_shape}"
        return f"IndexedSlices(indices={self._indices}, values={self._values}{shape})"


def _to_dense(value: IndexedSlices, dtype: Any = None, name: str | None = None, as_ref: bool = False) -> Any:
    """The dense tensor: rows of equal index summed, absent rows zero."""
    del as_ref
    if dtype is not None and not dtype.is_compatible_with(value.dtype):
        raise ValueError(
            f"Tensor conversion requested dtype {dtype.name} for IndexedSlices with dtype {value.dtype.name}"
        )
    if value.dense_shape is None:
        raise ValueError(
            f"IndexedSlices '{value.name}' has no dense_shape, so it cannot become a dense tensor. "
            "Pass dense_shape when making it."
        )
    return raw.UnsortedSegmentSum(value.values, value.indices, value.dense_shape[0], name=name)


register_tensor_conversion_function(IndexedSlices, _to_dense)
