"""SparseTensor: the elements of a tensor that are not zero, by their positions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from engine.graph.convert import convert_to_tensor, register_tensor_conversion_function
from engine.graph.default import name_scope
from engine.graph.tensor import Tensor
from engine.types import dtypes
from engine.types.shape import TensorShape, as_shape

if TYPE_CHECKING:
    from engine.graph.graph import Graph
    from engine.types.dtypes import DType

__all__ = [
    "SparseTensor",
    "SparseTensorValue",
    "convert_to_tensor_or_sparse_tensor",
    "is_sparse",
]


class SparseTensorValue(NamedTuple):
    """The fetched (or fed) value of a SparseTensor."""

    indices: Any
    values: Any
    dense_shape: Any


class SparseTensor:
    """`values[i]` at position `indices[i]` of a tensor of shape `dense_shape`, zero elsewhere; as `tf.SparseTensor`.

    indices: int64 [n, rank], usually in row-major order (`tf.sparse.reorder`); values: [n], of any dtype; dense_shape: int64
    [rank].  All convert to tensors.  Raises ValueError for static shapes that do not fit together.
    """

    __slots__ = ("__weakref__", "_dense_shape", "_indices", "_shape", "_values")
    __array_priority__ = 100.0

    def __init__(self, indices: Any, values: Any, dense_shape: Any) -> None:
        with name_scope(None, "SparseTensor", [indices, values, dense_shape]):
            self._indices = convert_to_tensor(indices, dtypes.int64, name="indices")
            self._values = convert_to_tensor(values, name="values")
            self._dense_shape = convert_to_tensor(dense_shape, dtypes.int64, name="dense_shape")
        positions = self._indices.shape.with_rank(2)
        elements = self._values.shape.with_rank(1)
        dims = self._dense_shape.shape.with_rank(1)
        positions[0].assert_is_compatible_with(elements[0])
        positions[1].assert_is_compatible_with(dims[0])
        self._shape = TensorShape(None)  # what `set_shape` says beyond what `dense_shape` does

    @classmethod
    def from_value(cls, sparse_tensor_value: Any) -> SparseTensor:
        """A SparseTensor of a SparseTensor or a SparseTensorValue.  Raises TypeError for anything else."""
        if not isinstance(sparse_tensor_value, SparseTensor | SparseTensorValue):
            raise TypeError(f"Neither a SparseTensor nor SparseTensorValue: {sparse_tensor_value}.")
        value = sparse_tensor_value
        return cls(value.indices, value.values, value.dense_shape)

    @property
    def indices(self) -> Tensor:
        return self._indices

    @property
    def values(self) -> Tensor:
        return self._values

    @property
    def dense_shape(self) -> Tensor:
        return self._dense_shape

    @property
    def shape(self) -> TensorShape:
        """The static shape of the dense tensor."""
        from engine.op.shapes import constant_value_as_shape

        return self._shape.merge_with(constant_value_as_shape(self._dense_shape))

    def set_shape(self, shape: Any) -> None:
        """Refine the static shape.  Raises ValueError if `shape` contradicts what is known."""
        self._shape = self.shape.merge_with(as_shape(shape))

    def get_shape(self) -> TensorShape:
        return self.shape

    @property
    def dtype(self) -> DType:
        return self._values.dtype

    @property
    def op(self) -> Any:
        """The operation that computes the values."""
        return self._values.op

    @property
    def name(self) -> str:
        return self._values.name

    @property
    def device(self) -> str:
        return self._values.device

    @property
    def graph(self) -> Graph:
        return self._indices.graph

    @property
    def _as_control_input(self) -> Any:
        return self._values.op

    def with_values(self, new_values: Any) -> SparseTensor:
        """Other values at the same positions."""
        return SparseTensor(self._indices, new_values, self._dense_shape)

    def consumers(self) -> list[Any]:
        """The operations that take one of the three tensors."""
        users = [
            op for tensor in (self._indices, self._values, self._dense_shape) for op in tensor.consumers()
        ]
        return list(dict.fromkeys(users))

    def eval(self, feed_dict: Any = None, session: Any = None) -> SparseTensorValue:
        """Run it in `session`, or in the default session."""
        from engine.graph.default import get_default_session

        session = session or get_default_session()
        if session is None:
            raise ValueError(
                f"Cannot evaluate '{self.name}': no default session is registered. "
                "Use `with tf.Session():` or pass one as `session=`."
            )
        found: SparseTensorValue = session.run(self, feed_dict)
        return found

    def __repr__(self) -> str:
        return (
            f"SparseTensor(indices={self._indices}, values={self._values}, dense_shape={self._dense_shape})"
        )

    def __iter__(self) -> Any:
        raise TypeError("'SparseTensor' object is not iterable")

    def __bool__(self) -> bool:
        raise TypeError(f"SparseTensor '{self.name}' has no truth value while the graph is built")


def is_sparse(x: Any) -> bool:
    """Whether `x` is a SparseTensor or a SparseTensorValue."""
    return isinstance(x, SparseTensor | SparseTensorValue)


def convert_to_tensor_or_sparse_tensor(value: Any, dtype: Any = None, name: str | None = None) -> Any:
    """As `convert_to_tensor`, but what is sparse becomes a SparseTensor.

    Raises RuntimeError for a sparse one of another dtype than asked for.
    """
    if isinstance(value, SparseTensorValue):
        value = SparseTensor.from_value(value)
    if not isinstance(value, SparseTensor):
        return convert_to_tensor(value, dtype, name)
    if dtype is not None and not dtypes.as_dtype(dtype).is_compatible_with(value.dtype):
        raise RuntimeError(
            f"Sparse dtype mismatch. Requested: {dtypes.as_dtype(dtype).name}, actual: {value.dtype.name}"
        )
    return value


def _not_dense(value: SparseTensor, dtype: Any = None, name: str | None = None, as_ref: bool = False) -> Any:
    raise TypeError(
        f"A SparseTensor ('{value.name}') does not become a Tensor by itself. Use tf.sparse.to_dense, or one of its parts: "
        "indices, values, dense_shape."
    )


register_tensor_conversion_function(SparseTensor, _not_dense)
