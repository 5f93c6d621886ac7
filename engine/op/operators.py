"""Python's operators on tensors, as TensorFlow 1 defines them.

The other operand is converted to the tensor's dtype: ``x + 1`` adds a 1.0 to a float tensor, and ``i + 2.5`` is a TypeError for
an integer one.  Comparisons with ``<`` give bool tensors; ``==`` compares the tensors' identity, as in TensorFlow 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.graph.convert import convert_to_tensor
from engine.graph.default import name_scope
from engine.graph.tensor import Tensor
from engine.op import division, elementwise
from engine.op.compare import logical_xor
from engine.op.matmul import matmul
from engine.op.registry import raw
from engine.types import dtypes

Binary = Callable[[Any, Any, str | None], Any]


def _named(op_type: str) -> Binary:
    def build(x: Any, y: Any, name: str | None) -> Any:
        return getattr(raw, op_type)(x, y, name=name)

    return build


def _add(x: Any, y: Any, name: str | None) -> Any:
    tensor = x if isinstance(x, Tensor) else y
    return (raw.Add if tensor.dtype.base_dtype is dtypes.string else raw.AddV2)(x, y, name=name)


def _converted(x: Any, y: Any) -> Any:
    """x as a tensor of y's dtype, named as the operand it is; a tensor is returned as it is."""
    return x if isinstance(x, Tensor) else convert_to_tensor(x, y.dtype.base_dtype, name="x")


def _bitwise(logical: Binary, bitwise: str) -> Binary:
    """Logical on bools, bit by bit on integers."""

    def build(x: Any, y: Any, name: str | None) -> Any:
        tensor = x if isinstance(x, Tensor) else y
        if tensor.dtype.is_bool:
            return logical(x, y, name)
        with name_scope(name):
            return getattr(raw, bitwise)(_converted(x, y), y)

    return build


def _logical_xor(x: Any, y: Any, name: str | None) -> Any:
    with name_scope(name) as scope:
        return logical_xor(_converted(x, y), y, scope)


def _matmul(x: Any, y: Any, name: str | None) -> Any:
    with name_scope(name) as scope:
        return matmul(_converted(x, y), y, name=scope)


# Operator, the name of the node it makes, and what makes it.
_ARITHMETIC: tuple[tuple[str, Binary], ...] = (
    ("add", _add),
    ("sub", _named("Sub")),
    ("mul", _named("Mul")),
    ("truediv", division.truediv),
    ("floordiv", _named("FloorDiv")),
    ("mod", _named("FloorMod")),
    ("pow", _named("Pow")),
    ("matmul", _matmul),
    ("and", _bitwise(_named("LogicalAnd"), "BitwiseAnd")),
    ("or", _bitwise(_named("LogicalOr"), "BitwiseOr")),
    ("xor", _bitwise(_logical_xor, "BitwiseXor")),
)


def _install() -> None:
    for name, build in _ARITHMETIC:

        def forward(self: Any, other: Any, build: Binary = build, name: str = name) -> Any:
            return build(self, other, name)

        def reflected(self: Any, other: Any, build: Binary = build, name: str = name) -> Any:
            return build(other, self, name)

        Tensor._override_operator(f"__{name}__", forward)
        Tensor._override_operator(f"__r{name}__", reflected)
    for operator, op_type in (("lt", "Less"), ("le", "LessEqual"), ("gt", "Greater"), ("ge", "GreaterEqual")):

        def compare(self: Any, other: Any, op_type: str = op_type) -> Any:
            return getattr(raw, op_type)(self, other)

        Tensor._override_operator(f"__{operator}__", compare)
    Tensor._override_operator("__neg__", lambda self: raw.Neg(self))
    Tensor._override_operator("__abs__", lambda self: elementwise.abs(self))
    Tensor._override_operator(
        "__invert__", lambda self: raw.LogicalNot(self) if self.dtype.is_bool else raw.Invert(self)
    )


_install()
