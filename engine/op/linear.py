"""Matrices: `eye`, `trace`; and `einsum`."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from engine.graph.convert import convert_to_tensor
from engine.graph.default import name_scope
from engine.graph.tensor import Tensor
from engine.op.array import shape as shape_of
from engine.op.diagonal import matrix_diag_part
from engine.op.fills import ones, zeros
from engine.op.reduce import reduce_sum
from engine.op.registry import raw
from engine.types import dtypes
from engine.types.shape import as_shape

__all__ = ["einsum", "eye", "trace"]


def eye(
    num_rows: Any,
    num_columns: Any = None,
    batch_shape: Any = None,
    dtype: Any = dtypes.float32,
    name: str | None = None,
) -> Any:
    """Identity matrices of shape ``[*batch_shape, num_rows, num_columns]`` (None: square); sizes may be tensors."""
    with name_scope(
        name, "eye", [each for each in (num_rows, num_columns, batch_shape) if isinstance(each, Tensor)]
    ):
        square = num_columns is None
        columns = num_rows if square else num_columns
        batch = [] if batch_shape is None else batch_shape
        if isinstance(num_rows, Tensor) or isinstance(columns, Tensor):
            length: Any = raw.Minimum(num_rows, columns)
        else:
            length = min(int(num_rows), int(columns))
        diagonal = ones(_joined(batch, [length]), dtype=dtype)
        if square:
            return raw.MatrixDiag(diagonal)
        return raw.MatrixSetDiag(zeros(_joined(batch, [num_rows, columns]), dtype=dtype), diagonal)


def _joined(batch: Any, sizes: Sequence[Any]) -> Any:
    """The shape of both together: a list if everything is known, else a tensor."""
    if not isinstance(batch, Tensor) and not any(isinstance(each, Tensor) for each in (*batch, *sizes)):
        return as_shape([*batch, *sizes]).as_list()
    rest = raw.Pack([raw.Cast(convert_to_tensor(each), DstT=dtypes.int32) for each in sizes])
    front = (
        convert_to_tensor(batch, dtypes.int32)
        if not isinstance(batch, Tensor)
        else raw.Cast(batch, DstT=dtypes.int32)
    )
    return raw.ConcatV2([front, rest], 0)


def trace(x: Any, name: str | None = None) -> Any:
    """The sums of the main diagonals of the matrices in the last two dimensions of `x`."""
    with name_scope(name, "Trace", [x]) as scope:
        matrices = convert_to_tensor(x, name="x")
        return reduce_sum(matrix_diag_part(matrices), [-1], name=scope)


# einsum.


def einsum(equation: str, *inputs: Any, name: str | None = None) -> Any:
    """The sum of products that `equation` says, as NumPy's `einsum`: ``einsum('ij,jk->ik', a, b)`` is a matrix product.

    Each letter names a dimension; those that are not after the arrow are summed over.  Without an arrow the result has the
    letters that occur once, in alphabetical order.  ``...`` stands for dimensions that broadcast.  It becomes matrix products
    of two inputs after another, from the left.

    Raises ValueError for an equation that is none, that repeats a letter in one input, or does not fit the inputs.
    """
    with name_scope(name, "einsum", [each for each in inputs if isinstance(each, Tensor)]) as scope:
        tensors = [convert_to_tensor(each, name="input") for each in inputs]
        labels, result = _parse(equation, tensors)
        total = _Term(tensors[0], labels[0])
        for i in range(1, len(tensors)):
            later = {label for each in (*labels[i + 1 :], result) for label in each}
            total = _product(total, _Term(tensors[i], labels[i]), later)
        return raw.Identity(_summed(total, set(result)).to(result), name=scope)


_EQUATION = re.compile(r"[A-Za-z.,]*(->[A-Za-z.]*)?\Z")


def _parse(equation: str, tensors: Sequence[Tensor]) -> tuple[list[list[str]], list[str]]:
    """The labels of each input and of the result; those of an ellipsis are numbers, counted from the last dimension."""
    text = equation.replace(" ", "")
    if not _EQUATION.match(text) or not tensors:
        raise ValueError(f"Indices have incorrect format: {equation!r} is not of the form 'ij,jk->ik'")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(tensors):
        raise ValueError(
            f"Incorrect number of arguments to einsum: {equation!r} has {len(terms)}, {len(tensors)} were given"
        )
    labels = [_labels(term, tensor, equation) for term, tensor in zip(terms, tensors, strict=True)]
    hidden = max((sum(each.isdigit() for each in row) for row in labels), default=0)
    ellipsis = [str(i) for i in reversed(range(hidden))]
    if not arrow:
        flat = left.replace(",", "").replace(".", "")
        right = "..." * bool(hidden) + "".join(each for each in sorted(set(flat)) if flat.count(each) == 1)
    before, dots, after = right.partition("...")
    result = [*before, *(ellipsis if dots else ()), *after]
    if "." in before + after or len(set(result)) != len(result):
        raise ValueError(f"Output subscripts contain a label that repeats: {equation!r}")
    for label in result:
        if not any(label in row for row in labels):
            raise ValueError(
                f"Output subscripts contain the label '{label}', which no input has: {equation!r}"
            )
    return labels, result


def _labels(term: str, tensor: Tensor, equation: str) -> list[str]:
    before, dots, after = term.partition("...")
    letters = before + after
    if "." in letters:
        raise ValueError(f"Indices have incorrect format: {equation!r}")
    if len(set(letters)) != len(letters):
        raise ValueError(
            f"Subscripts not supported: an axis appears more than once: {term} in {equation!r}. Take the diagonal first."
        )
    rank = tensor.shape.ndims
    if rank is None and dots:
        raise ValueError(f"einsum cannot tell what '...' stands for: '{tensor.name}' has an unknown rank")
    if rank is not None and (rank < len(letters) if dots else rank != len(letters)):
        raise ValueError(
            f"Input '{tensor.name}' has {rank} dimensions; '{term}' in {equation!r} names {len(letters)}"
        )
    count = rank - len(letters) if dots and rank is not None else 0
    return [*before, *(str(i) for i in reversed(range(count))), *after]


class _Term:
    """A tensor and the label of each of its dimensions."""

    def __init__(self, tensor: Any, labels: Sequence[str]) -> None:
        self.tensor = tensor
        self.labels = list(labels)

    def sizes(self) -> dict[str, Any]:
        """The size of each dimension: an int, or a scalar tensor where it is not known."""
        known = self.tensor.shape.dims_or_none or (None,) * len(self.labels)
        whole: Any = shape_of(self.tensor) if None in known else ()
        return {
            label: whole[i] if size is None else size
            for i, (label, size) in enumerate(zip(self.labels, known, strict=True))
        }

    def to(self, labels: Sequence[str]) -> Any:
        """The tensor with its dimensions in the order of `labels`, which are its own."""
        order = [self.labels.index(label) for label in labels]
        if order == list(range(len(order))):
            return self.tensor
        return raw.Transpose(self.tensor, np.array(order, np.int32))


def _summed(term: _Term, wanted: set[str]) -> _Term:
    """The term without the dimensions that nobody wants."""
    gone = [i for i, label in enumerate(term.labels) if label not in wanted]
    if not gone:
        return term
    return _Term(reduce_sum(term.tensor, gone), [label for label in term.labels if label in wanted])


def _product(a: _Term, b: _Term, later: set[str]) -> _Term:
    """The product of two terms, summed over the labels that both have and nothing later needs."""
    a, b = _summed(a, later | set(b.labels)), _summed(b, later | set(a.labels))
    both = [label for label in a.labels if label in b.labels]
    inner = [label for label in both if label not in later]
    batch = [label for label in both if label in later]
    rows = [label for label in a.labels if label not in both]
    columns = [label for label in b.labels if label not in both]
    left, right = a.sizes(), b.sizes()
    x = _reshaped(a.to([*batch, *rows, *inner]), [left[each] for each in batch], left, [rows, inner])
    y = _reshaped(b.to([*batch, *inner, *columns]), [right[each] for each in batch], right, [inner, columns])
    product = raw.BatchMatMulV2(x, y)
    # Batch dimensions broadcast, so their sizes are known from the product alone.
    together = _Term(product, [*batch, "rows", "columns"]).sizes()
    sizes = {**left, **right, **{label: together[label] for label in batch}}
    labels = [*batch, *rows, *columns]
    return _Term(raw.Reshape(product, _packed([sizes[label] for label in labels])), labels)


def _reshaped(
    tensor: Any, batch: Sequence[Any], sizes: dict[str, Any], groups: Sequence[Sequence[str]]
) -> Any:
    """The tensor with its batch dimensions as they are and each group of labels as one dimension."""
    return raw.Reshape(
        tensor, _packed([*batch, *(_times([sizes[label] for label in group]) for group in groups)])
    )


def _times(sizes: Sequence[Any]) -> Any:
    known = math.prod(size for size in sizes if isinstance(size, int))
    total: Any = known
    for size in sizes:
        if not isinstance(size, int):
            total = size if total is known and known == 1 else raw.Mul(total, size)
    return total


def _packed(sizes: Sequence[Any]) -> Any:
    if all(isinstance(size, int) for size in sizes):
        return np.array(sizes, np.int32)
    return raw.Pack(list(sizes))
