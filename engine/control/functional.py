"""`map_fn`, `foldl`, `foldr`, `scan`: loops over the first axis, on `while_loop` and TensorArrays; as in TensorFlow 1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.control.tensor_array import TensorArray
from engine.control.while_loop import while_loop
from engine.graph.convert import convert_to_tensor
from engine.graph.default import name_scope
from engine.graph.tensor import Tensor
from engine.op.array import shape
from engine.types import nest
from engine.types.dtypes import as_dtype
from engine.types.shape import Dimension, TensorShape

__all__ = ["foldl", "foldr", "map_fn", "scan"]


def _rows(elems: Any) -> tuple[list[Tensor], Any, int | None]:
    """The flat tensors, how many rows they have (an int, or a tensor where it is not known), and that int or None.

    Raises ValueError for a scalar, or tensors of different lengths.
    """
    flat = [convert_to_tensor(each, name="elem") for each in nest.flatten(elems)]
    if not flat:
        raise ValueError("elems holds no tensor")
    length = Dimension(None)
    for tensor in flat:
        if tensor.shape.ndims == 0:
            raise ValueError(f"elems must have a first axis to go along; '{tensor.name}' is a scalar")
        if tensor.shape.ndims is not None:
            length = length.merge_with(tensor.shape.as_list()[0])
    count = length.value if length.value is not None else shape(flat[0])[0]
    return flat, count, length.value


def _arrays_of(flat: list[Tensor], count: Tensor) -> list[TensorArray]:
    return [
        TensorArray(
            tensor.dtype.base_dtype,
            size=count,
            infer_shape=True,
            element_shape=None if tensor.shape.ndims is None else tensor.shape.as_list()[1:],
        ).unstack(tensor)
        for tensor in flat
    ]


def _read(arrays: list[TensorArray], elems: Any, index: Any) -> Any:
    return nest.pack_sequence_as(elems, [array.read(index) for array in arrays])


def _stacked(arrays: list[TensorArray], length: int | None) -> list[Tensor]:
    found = []
    for array in arrays:
        tensor = array.stack()
        if array.element_shape.ndims is not None:
            tensor.set_shape(TensorShape.of((length,)).concatenate(array.element_shape))
        found.append(tensor)
    return found


def map_fn(
    fn: Callable[[Any], Any],
    elems: Any,
    dtype: Any = None,
    parallel_iterations: int | None = None,
    back_prop: bool = True,
    swap_memory: bool = False,
    infer_shape: bool = True,
    name: str | None = None,
) -> Any:
    """``fn`` of each row of `elems`, stacked.

    elems: a tensor of shape [n, …] or a structure of them; `fn` gets the rows in that structure.  dtype: of the result, as a
    structure, where it differs from that of `elems`.  Raises TypeError if fn is not callable, ValueError for scalars, different
    lengths, or results of another structure than `dtype`.
    """
    if not callable(fn):
        raise TypeError(f"fn must be callable, not {fn!r}")
    with name_scope(name, "map", nest.flatten(elems)):
        flat, count, length = _rows(elems)
        inputs = _arrays_of(flat, count)
        result_dtypes = [tensor.dtype.base_dtype for tensor in flat] if dtype is None else nest.flatten(dtype)
        result_structure = elems if dtype is None else dtype
        outputs = [
            TensorArray(as_dtype(each), size=count, dynamic_size=False, infer_shape=infer_shape)
            for each in result_dtypes
        ]

        def body(i: Any, arrays: Any) -> Any:
            result = fn(_read(inputs, elems, i))
            nest.assert_same_structure(result_structure, result)
            return i + 1, [
                array.write(i, value) for array, value in zip(arrays, nest.flatten(result), strict=True)
            ]

        _, arrays = while_loop(
            lambda i, _: i < count,
            body,
            (convert_to_tensor(0), outputs),
            parallel_iterations=parallel_iterations or 10,
            back_prop=back_prop,
            swap_memory=swap_memory,
            maximum_iterations=count,
        )
        return nest.pack_sequence_as(result_structure, _stacked(arrays, length))


def _fold(
    fn: Callable[[Any, Any], Any],
    elems: Any,
    initializer: Any,
    options: dict[str, Any],
    backward: bool,
) -> Any:
    if not callable(fn):
        raise TypeError(f"fn must be callable, not {fn!r}")
    flat, count, _ = _rows(elems)
    inputs = _arrays_of(flat, count)
    if initializer is None:
        first = count - 1 if backward else convert_to_tensor(1)
        start = _read(inputs, elems, count - 1 if backward else 0)
    else:
        first = count if backward else convert_to_tensor(0)
        start = nest.map_structure(convert_to_tensor, initializer)

    def forth(i: Any, value: Any) -> Any:
        following = fn(value, _read(inputs, elems, i))
        return [i + 1, following]

    def back(i: Any, value: Any) -> Any:
        i = i - 1
        return [i, fn(value, _read(inputs, elems, i))]

    going = (lambda i, _: i > 0) if backward else (lambda i, _: i < count)
    body = back if backward else forth
    return while_loop(going, body, [first, start], maximum_iterations=count, **options)[1]


def foldl(
    fn: Callable[[Any, Any], Any],
    elems: Any,
    initializer: Any = None,
    parallel_iterations: int = 10,
    back_prop: bool = True,
    swap_memory: bool = False,
    name: str | None = None,
) -> Any:
    """``fn(… fn(fn(initializer, elems[0]), elems[1]) …, elems[n-1])``; without an initializer it begins with ``elems[0]``."""
    options = {"parallel_iterations": parallel_iterations, "back_prop": back_prop, "swap_memory": swap_memory}
    with name_scope(name, "foldl", nest.flatten(elems)):
        return _fold(fn, elems, initializer, options, backward=False)


def foldr(
    fn: Callable[[Any, Any], Any],
    elems: Any,
    initializer: Any = None,
    parallel_iterations: int = 10,
    back_prop: bool = True,
    swap_memory: bool = False,
    name: str | None = None,
) -> Any:
    """As `foldl`, from the last row to the first."""
    options = {"parallel_iterations": parallel_iterations, "back_prop": back_prop, "swap_memory": swap_memory}
    with name_scope(name, "foldr", nest.flatten(elems)):
        return _fold(fn, elems, initializer, options, backward=True)


def scan(
    fn: Callable[[Any, Any], Any],
    elems: Any,
    initializer: Any = None,
    parallel_iterations: int = 10,
    back_prop: bool = True,
    swap_memory: bool = False,
    infer_shape: bool = True,
    reverse: bool = False,
    name: str | None = None,
) -> Any:
    """The intermediate results of `foldl` (or, with `reverse`, of `foldr`), stacked along a first axis of n.

    Without an initializer the first result is the first row itself.  `fn` returns the structure of the initializer.
    """
    if not callable(fn):
        raise TypeError(f"fn must be callable, not {fn!r}")
    with name_scope(name, "scan", nest.flatten(elems)):
        flat, count, length = _rows(elems)
        inputs = _arrays_of(flat, count)
        if initializer is None:
            structure: Any = elems
            begin = count - 1 if reverse else 0
            start = nest.flatten(_read(inputs, elems, begin))
            first = begin - 1 if reverse else 1
        else:
            structure = initializer
            start = [convert_to_tensor(each) for each in nest.flatten(initializer)]
            first = count - 1 if reverse else 0
        outputs = [
            TensorArray(
                each.dtype.base_dtype,
                size=count,
                element_shape=each.shape if infer_shape else None,
                infer_shape=infer_shape,
            )
            for each in start
        ]
        if initializer is None:
            outputs = [array.write(begin, value) for array, value in zip(outputs, start, strict=True)]

        def body(i: Any, values: Any, arrays: Any) -> Any:
            row = _read(inputs, elems, i)
            result = fn(nest.pack_sequence_as(structure, values), row)
            nest.assert_same_structure(structure, result)
            following = [convert_to_tensor(each) for each in nest.flatten(result)]
            written = [array.write(i, value) for array, value in zip(arrays, following, strict=True)]
            return i - 1 if reverse else i + 1, following, written

        *_, arrays = while_loop(
            (lambda i, *_: i >= 0) if reverse else (lambda i, *_: i < count),
            body,
            (first, start, outputs),
            parallel_iterations=parallel_iterations,
            back_prop=back_prop,
            swap_memory=swap_memory,
            maximum_iterations=count,
        )
        return nest.pack_sequence_as(structure, _stacked(arrays, length))
