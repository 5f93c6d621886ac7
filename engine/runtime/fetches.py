"""Fetches and feeds: from what the caller writes to tensors, and back to the same structure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from engine.graph.graph import Graph
from engine.graph.indexed_slices import IndexedSlices
from engine.graph.operation import Operation
from engine.graph.sparse_tensor import SparseTensor, SparseTensorValue
from engine.graph.tensor import Tensor
from engine.op.const import to_array
from engine.types import dtypes
from engine.types.shape import TensorShape


class IndexedSlicesValue(NamedTuple):
    """The fetched (or fed) value of IndexedSlices."""

    values: Any
    indices: Any
    dense_shape: Any


class Fetches:
    """A fetch structure taken apart: the distinct `tensors` and `targets` to run, and how results go back into its form.

    Raises TypeError for what cannot be fetched, ValueError for what is not in `graph` or may not be fetched.
    """

    def __init__(self, graph: Graph, structure: Any) -> None:
        self._graph = graph
        self.tensors: list[Tensor] = []
        self.targets: list[Operation] = []
        self._position: dict[Tensor, int] = {}
        self._rebuild = self._mapper(structure)

    def rebuild(self, results: Sequence[Any]) -> Any:
        """The results, one for each of `tensors`, in the structure of the fetches."""
        return self._rebuild(results)

    def _mapper(self, fetch: Any) -> Callable[[Sequence[Any]], Any]:
        if fetch is None:
            raise TypeError(
                "Argument `fetch` = None has invalid type NoneType: fetch a Tensor, an Operation or a name"
            )
        if isinstance(fetch, list):
            members = [self._mapper(each) for each in fetch]
            return lambda results: [member(results) for member in members]
        if isinstance(fetch, tuple):
            members = [self._mapper(each) for each in fetch]
            if hasattr(fetch, "_fields"):
                kind: Any = type(fetch)
                return lambda results: kind(*[member(results) for member in members])
            return lambda results: tuple(member(results) for member in members)
        if isinstance(fetch, Mapping):
            keyed = {key: self._mapper(each) for key, each in fetch.items()}
            make: Any = type(fetch) if isinstance(fetch, dict) else dict
            return lambda results: make((key, member(results)) for key, member in keyed.items())
        if isinstance(fetch, SparseTensor):
            three = [self._element(part) for part in (fetch.indices, fetch.values, fetch.dense_shape)]
            return lambda results: SparseTensorValue(*[part(results) for part in three])
        if isinstance(fetch, IndexedSlices):
            parts = [self._element(part) for part in (fetch.values, fetch.indices)]
            shape = self._element(fetch.dense_shape) if fetch.dense_shape is not None else None
            return lambda results: IndexedSlicesValue(
                parts[0](results), parts[1](results), None if shape is None else shape(results)
            )
        return self._element(fetch)

    def _element(self, fetch: Any) -> Callable[[Sequence[Any]], Any]:
        try:
            element = self._graph.as_graph_element(fetch)
        except TypeError:
            raise TypeError(
                f"Fetch argument {fetch!r} has invalid type {type(fetch).__name__}, must be a string, a Tensor or an Operation."
            ) from None
        except (ValueError, KeyError) as error:
            reason = error.args[0]
            raise ValueError(
                f"Fetch argument {fetch!r} cannot be interpreted as a Tensor. ({reason})"
            ) from None
        if not self._graph.is_fetchable(element):
            op = element if isinstance(element, Operation) else element.op
            inside = op._get_control_flow_context() is not None
            why = (
                " It lies inside a tf.cond or tf.while_loop: return it from there and fetch what that gives."
                if inside
                else ""
            )
            raise ValueError(f"Operation '{element.name}' has been marked as not fetchable.{why}")
        if isinstance(element, Operation):
            if element not in self.targets:
                self.targets.append(element)
            return lambda results: None
        position = self._position.setdefault(element, len(self.tensors))
        if position == len(self.tensors):
            self.tensors.append(element)
        return lambda results: results[position]


def flatten_feeds(graph: Graph, feed_dict: Mapping[Any, Any] | None) -> list[tuple[Tensor, Any]]:
    """The fed tensors with their values, nested keys (a tuple of tensors with a tuple of values) taken apart.

    Raises TypeError or ValueError, naming the tensor, for what cannot be fed.
    """
    if not feed_dict:
        return []
    if not isinstance(feed_dict, Mapping):
        raise TypeError(
            f"feed_dict must be a dictionary from tensors to values, not {type(feed_dict).__name__}"
        )
    feeds: dict[Tensor, Any] = {}
    for key, value in feed_dict.items():
        for single, part in _pairs(key, value):
            try:
                element = graph.as_graph_element(single, allow_operation=False)
            except (TypeError, ValueError, KeyError) as error:
                raise TypeError(f"Cannot interpret feed_dict key as Tensor: {error.args[0]}") from None
            assert isinstance(element, Tensor)
            if element in feeds:
                raise ValueError(f"Tensor '{element.name}' is fed twice")
            feeds[element] = part
    return list(feeds.items())


def _pairs(key: Any, value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(key, tuple):
        if not isinstance(value, tuple | list) or len(value) != len(key):
            raise ValueError(f"A feed of {len(key)} tensors needs {len(key)} values, not {value!r}")
        for each, part in zip(key, value, strict=True):
            yield from _pairs(each, part)
    elif isinstance(key, SparseTensor):
        if not isinstance(value, tuple | list) or len(value) != 3:
            raise ValueError(
                f"A SparseTensor is fed with a SparseTensorValue (indices, values, dense_shape), not {value!r}"
            )
        yield from zip((key.indices, key.values, key.dense_shape), value, strict=True)
    elif isinstance(key, IndexedSlices):
        values = tuple(value)
        yield key.values, values[0]
        yield key.indices, values[1]
        if key.dense_shape is not None:
            yield key.dense_shape, values[2]
    else:
        yield key, value


def feed_array(graph: Graph, tensor: Tensor, value: Any) -> Any:
    """`value` as a fresh array that `tensor` may be fed with.  Raises TypeError or ValueError, naming the tensor."""
    if isinstance(value, Tensor) or isinstance(getattr(value, "dtype", None), dtypes.DType):
        raise TypeError(
            f"The value of a feed cannot be a Tensor or a Variable (feeding '{tensor.name}' with {value!r}). "
            "Feeds are Python scalars, strings, lists, or numpy arrays; run the tensor first to get its value."
        )
    if not graph.is_feedable(tensor):
        raise ValueError(f"Tensor '{tensor.name}' may not be fed.")
    dtype = tensor.dtype.base_dtype
    array = _as_array(tensor, value, dtype)
    shape: TensorShape = tensor._shape
    dims = shape._dims
    if dims is not None and (
        len(dims) != array.ndim
        or any(size is not None and size != actual for size, actual in zip(dims, array.shape, strict=True))
    ):
        raise ValueError(
            f"Cannot feed value of shape {TensorShape.of(array.shape)} for Tensor '{tensor.name}', which has shape '{shape}'"
            f"{_made_at(tensor)}"
        )
    return array


def _as_array(tensor: Tensor, value: Any, dtype: dtypes.DType) -> Any:
    if dtype is dtypes.string:
        try:
            return to_array(value if isinstance(value, np.ndarray) else _nested(value), dtype)
        except (TypeError, ValueError) as error:
            raise TypeError(f"Cannot feed '{tensor.name}': {error}{_made_at(tensor)}") from None
    if value is None:
        raise TypeError(
            f"Cannot feed None for Tensor '{tensor.name}' of dtype {dtype.name}{_made_at(tensor)}"
        )
    if not dtype.is_complex and getattr(getattr(value, "dtype", None), "kind", "") == "c":
        raise TypeError(
            f"Cannot feed complex numbers for Tensor '{tensor.name}' of dtype {dtype.name}{_made_at(tensor)}"
        )
    try:
        with np.errstate(invalid="ignore", over="ignore"):
            array = np.array(value, dtype=dtype.np_dtype, order="C")
    except OverflowError as error:
        raise TypeError(
            f"Feed value {value!r} is not compatible with Tensor type {dtype.name} of '{tensor.name}': {error}{_made_at(tensor)}"
        ) from None
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Cannot feed a {type(value).__name__} for Tensor '{tensor.name}' of dtype {dtype.name}: {error}{_made_at(tensor)}"
        ) from None
    if dtype.is_integer and getattr(value, "dtype", None) != array.dtype:
        _check_kept(tensor, value, array)
    return array


def _check_kept(tensor: Tensor, value: Any, array: Any) -> None:
    """Raise TypeError if numbers changed when they became integers: a fraction was cut off, or a number did not fit."""
    given = np.asarray(value)
    if given.dtype.kind not in "fiu":
        return
    changed = np.flatnonzero(given != array)
    if changed.size:
        was, now = given.flat[changed[0]], array.flat[changed[0]]
        raise TypeError(
            f"Feed value {was} is not compatible with Tensor type {tensor.dtype.name} of '{tensor.name}': it would become {now}"
            f"{_made_at(tensor)}"
        )


def _nested(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _made_at(tensor: Tensor) -> str:
    site = tensor.op.site
    frame = site.user if site is not None else None
    return "" if frame is None else f"\n  '{tensor.op.name}' was made at {frame}:  {frame.source}"


def result_of(value: Any) -> Any:
    """A fetched value as the caller gets it: an array of his own, a NumPy scalar for rank 0, bytes for a string."""
    if isinstance(value, np.ndarray):
        if value.ndim:
            return value.copy()
        return value[()]
    return value
