"""Tensor: one output of an operation, a handle and not a value."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from engine.types.shape import TensorShape, as_shape

if TYPE_CHECKING:
    from engine.graph.graph import Graph
    from engine.graph.operation import Operation
    from engine.types.dtypes import DType


class Tensor:
    """The `value_index`-th output of `op`, as in TensorFlow 1.

    A tensor has a dtype and a static shape, which may be partial.  Arithmetic on it adds operations to its graph.
    """

    __slots__ = ("__weakref__", "_consumers", "_shape", "dtype", "op", "value_index")
    __array_priority__ = 100.0  # so that `array * tensor` asks the tensor

    # Operators; the op families install them (see `_override_operator`).
    __add__: Callable[[Any, Any], Any]
    __radd__: Callable[[Any, Any], Any]
    __sub__: Callable[[Any, Any], Any]
    __rsub__: Callable[[Any, Any], Any]
    __mul__: Callable[[Any, Any], Any]
    __rmul__: Callable[[Any, Any], Any]
    __truediv__: Callable[[Any, Any], Any]
    __rtruediv__: Callable[[Any, Any], Any]
    __floordiv__: Callable[[Any, Any], Any]
    __rfloordiv__: Callable[[Any, Any], Any]
    __mod__: Callable[[Any, Any], Any]
    __rmod__: Callable[[Any, Any], Any]
    __pow__: Callable[[Any, Any], Any]
    __rpow__: Callable[[Any, Any], Any]
    __matmul__: Callable[[Any, Any], Any]
    __rmatmul__: Callable[[Any, Any], Any]
    __and__: Callable[[Any, Any], Any]
    __rand__: Callable[[Any, Any], Any]
    __or__: Callable[[Any, Any], Any]
    __ror__: Callable[[Any, Any], Any]
    __xor__: Callable[[Any, Any], Any]
    __rxor__: Callable[[Any, Any], Any]
    __lt__: Callable[[Any, Any], Any]
    __le__: Callable[[Any, Any], Any]
    __gt__: Callable[[Any, Any], Any]
    __ge__: Callable[[Any, Any], Any]
    __neg__: Callable[[Any], Any]
    __abs__: Callable[[Any], Any]
    __invert__: Callable[[Any], Any]
    __getitem__: Callable[[Any, Any], Any]

    def __init__(self, op: Operation, value_index: int, dtype: DType) -> None:
        self.op = op
        self.value_index = value_index
        self.dtype = dtype
        self._shape = _UNKNOWN
        self._consumers: list[Operation] | None = None

    @classmethod
    def _override_operator(cls, operator: str, function: Callable[..., Any]) -> None:
        """Make `function` the meaning of `operator` ('__add__', …) on tensors."""
        setattr(cls, operator, function)

    @property
    def graph(self) -> Graph:
        return self.op.graph

    @property
    def name(self) -> str:
        return f"{self.op.name}:{self.value_index}"

    @property
    def device(self) -> str:
        return self.op.device

    @property
    def shape(self) -> TensorShape:
        return self._shape

    def get_shape(self) -> TensorShape:
        return self._shape

    def set_shape(self, shape: Any) -> None:
        """Refine the static shape.  Raises ValueError if `shape` contradicts what is known."""
        self._shape = self._shape.merge_with(as_shape(shape))

    def consumers(self) -> list[Operation]:
        """The operations that take this tensor as an input, each once, in the order in which they were made."""
        return [] if self._consumers is None else list(dict.fromkeys(self._consumers))

    def _as_node_def_input(self) -> str:
        return self.op.name if self.value_index == 0 else f"{self.op.name}:{self.value_index}"

    def eval(self, feed_dict: Any = None, session: Any = None) -> Any:
        """Run this tensor in `session`, or in the default session.  Raises ValueError if there is none."""
        from engine.graph.default import eval_in_session

        return eval_in_session(self, feed_dict, session)

    def __repr__(self) -> str:
        return f"<tf.Tensor '{self.name}' shape={self._shape} dtype={self.dtype.name}>"

    def __str__(self) -> str:
        shape = "" if self._shape.ndims is None else f", shape={self._shape}"
        return f'Tensor("{self.name}"{shape}, dtype={self.dtype.name})'

    def __iter__(self) -> Any:
        length = self._shape.as_list()[0] if self._shape.ndims else None
        if length is None:
            raise TypeError(
                f"Tensor '{self.name}' cannot be iterated over: its static shape is {self._shape}, and the number of "
                "steps must be known while the graph is built. Use tf.map_fn or tf.while_loop, or give it a shape."
            )
        return (self[i] for i in range(length))

    def __len__(self) -> int:
        raise TypeError(
            f"len() of Tensor '{self.name}' is not known while the graph is built; use tf.shape(x)[0]"
        )

    def __bool__(self) -> bool:
        raise TypeError(
            f"Tensor '{self.name}' has no truth value while the graph is built. Use `if t is not None:` to ask whether a "
            "tensor is there, and tf.cond or tf.where to choose by its value."
        )

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError(
            f"Tensor '{self.name}' is a node of a graph, not an array: run it in a session to get its value"
        )


_UNKNOWN = TensorShape(None)
