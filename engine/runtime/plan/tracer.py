"""Arrays that take down what is done to them: how an op's kernel becomes steps of a tape without a word about it in its block.

A kernel's body is written against an array namespace.  Called with `Traced` arrays it runs as it is; NumPy hands what it calls to
them (NEP 13 and NEP 18), and each call becomes a step with the same dtypes, casts and order of axes that NumPy would have chosen,
so that the tape gives the kernel's bits.  Whatever looks at an element (a check, a count, an index) cannot be known beforehand:
it raises `NotRecordable`, and the op stays in Python.  Constants are real arrays and are computed with as such.
"""

from __future__ import annotations

import contextlib
import itertools
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.lib.stride_tricks import as_strided

from engine.runtime.plan.recording import NotRecordable, Recorder

if TYPE_CHECKING:
    from engine.native.layout import View

_REAL = (np.ndarray, np.generic)
_clip: Any = np._core.umath.clip  # type: ignore[attr-defined]  # the ufunc behind np.clip
_WEAK = (bool, int, float, complex)


class Traced(NDArrayOperatorsMixin):
    """An array of a recorder: dtype, shape and where it will lie, but no elements."""

    __slots__ = ("recorder", "view")
    __array_priority__ = 1000

    def __init__(self, recorder: Recorder, view: View) -> None:
        self.recorder = recorder
        self.view = view

    # What is known.

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.view.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self.view.shape

    @property
    def strides(self) -> tuple[int, ...]:
        return self.view.strides

    @property
    def ndim(self) -> int:
        return len(self.view.shape)

    @property
    def size(self) -> int:
        return self.view.size

    @property
    def nbytes(self) -> int:
        return self.view.nbytes

    @property
    def itemsize(self) -> int:
        return int(self.view.dtype.itemsize)

    @property
    def flags(self) -> Any:
        return self._dummy().flags

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    # What is not.

    def _unknown(self, *args: Any, **keywords: Any) -> Any:
        raise NotRecordable("it depends on elements")

    __bool__ = __int__ = __float__ = __complex__ = __index__ = __contains__ = _unknown
    __array__ = item = tolist = any = all = argmax = argmin = nonzero = argsort = tobytes = _unknown
    __hash__ = None  # type: ignore[assignment]  # as arrays

    # Views.

    def _dummy(self) -> np.ndarray[Any, Any]:
        """An array that lies like this one, for NumPy to tell how views of it lie; its elements must not be touched."""
        return as_strided(np.empty(1, self.dtype), self.shape, self.strides)

    def _viewed(self, function: Callable[[Any], Any]) -> Traced:
        """The view that `function`, which touches no element, makes."""
        from engine.native.layout import View

        dummy = self._dummy()
        made = function(dummy)
        offset = made.__array_interface__["data"][0] - dummy.__array_interface__["data"][0]
        old = self.view
        return Traced(self.recorder, View(old.slot, old.dtype, made.shape, made.strides, old.offset + offset))

    @property
    def T(self) -> Traced:
        return self._viewed(lambda a: a.T)

    @property
    def real(self) -> Traced:
        return self if self.dtype.kind != "c" else self._unknown()

    def transpose(self, *axes: Any) -> Traced:
        return self._viewed(lambda a: a.transpose(*axes))

    def swapaxes(self, one: int, other: int) -> Traced:
        return self._viewed(lambda a: a.swapaxes(one, other))

    def squeeze(self, axis: Any = None) -> Traced:
        return self._viewed(lambda a: a.squeeze(axis))

    def reshape(self, *shape: Any, order: str = "C") -> Traced:
        wanted = shape[0] if len(shape) == 1 and not isinstance(shape[0], int | np.integer) else shape
        if order != "C":
            raise NotRecordable("reshaping in another order")
        wanted = tuple(operator.index(each) for each in wanted)
        if -1 in wanted:
            known = int(np.prod([each for each in wanted if each >= 0], dtype=np.int64))
            if known == 0 or self.size % known:
                raise ValueError(f"cannot reshape array of size {self.size} into shape {wanted}")
            wanted = tuple(self.size // known if each == -1 else each for each in wanted)
        if int(np.prod(wanted, dtype=np.int64)) != self.size:
            raise ValueError(f"cannot reshape array of size {self.size} into shape {wanted}")

        def reshaped(a: Any) -> Any:
            a.shape = wanted  # raises where a copy is needed
            return a

        try:
            return self._viewed(reshaped)
        except AttributeError:
            return self.copy().reshape(wanted)

    def ravel(self, order: str = "C") -> Traced:
        return self.reshape(-1, order=order)

    def flatten(self, order: str = "C") -> Traced:
        return self.copy().reshape(-1, order=order)

    def __getitem__(self, key: Any) -> Traced:
        parts = key if isinstance(key, tuple) else (key,)
        if not all(
            each is None or each is Ellipsis or isinstance(each, int | np.integer | slice) for each in parts
        ):
            raise NotRecordable("indexing by an array")
        if not any(each is Ellipsis for each in parts):
            parts = (*parts, Ellipsis)  # so that a single element, too, is a view
        return self._viewed(lambda a: a[parts])

    def __setitem__(self, key: Any, value: Any) -> None:
        target = self[key]
        source = _operand(self.recorder, value, self.dtype)
        self.recorder.copy(_cast(self.recorder, source, self.dtype).view, target.view)

    # Copies.

    def copy(self, order: str = "C") -> Traced:
        made = _new(self.recorder, self.dtype, self.shape)
        self.recorder.copy(self.view, made.view)
        return made

    def astype(
        self, dtype: Any, order: str = "K", casting: str = "unsafe", subok: bool = True, copy: bool = True
    ) -> Traced:
        wanted = np.dtype(dtype)
        if wanted == self.dtype and not copy:
            return self
        made = _new(self.recorder, wanted, self.shape, _layout([self.view], self.shape, wanted))
        self.recorder.cast(self.view, made.view)
        return made

    def conj(self) -> Any:
        return np.conjugate(self) if self.dtype.kind == "c" else self

    conjugate = conj

    # Reductions.

    def sum(self, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False) -> Any:
        return np.add.reduce(self, axis=axis, dtype=dtype, out=out, keepdims=keepdims)

    def prod(self, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False) -> Any:
        return np.multiply.reduce(self, axis=axis, dtype=dtype, out=out, keepdims=keepdims)

    def max(self, axis: Any = None, out: Any = None, keepdims: bool = False) -> Any:
        return np.maximum.reduce(self, axis=axis, out=out, keepdims=keepdims)

    def min(self, axis: Any = None, out: Any = None, keepdims: bool = False) -> Any:
        return np.minimum.reduce(self, axis=axis, out=out, keepdims=keepdims)

    def clip(self, lo: Any = None, hi: Any = None) -> Any:
        if lo is None or hi is None:
            raise NotRecordable("clipping on one side")
        return _clip(self, lo, hi)

    # NumPy's protocols.

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **keywords: Any) -> Any:
        recorder = self.recorder
        out = keywords.pop("out", None)
        if method == "__call__":
            return _call(recorder, ufunc, inputs, out, keywords)
        if method == "reduce" and len(inputs) == 1 and isinstance(inputs[0], Traced):
            return _reduce(recorder, ufunc, inputs[0], out, **keywords)
        raise NotRecordable(f"{ufunc.__name__}.{method}")

    def __array_function__(self, function: Any, types: Any, args: Any, keywords: Any) -> Any:
        handler = _FUNCTIONS.get(function.__name__)
        if handler is None:
            raise NotRecordable(f"numpy.{function.__name__}")
        return handler(self.recorder, *args, **keywords)


class Namespace:
    """NumPy for kernels that are traced: what makes arrays makes traced ones, all else is NumPy's."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def __getattr__(self, name: str) -> Any:
        made = _MAKERS.get(name)
        if made is None:
            return getattr(np, name)
        recorder = self._recorder
        return lambda *args, **keywords: made(recorder, *args, **keywords)


# Operands.


def _new(
    recorder: Recorder, dtype: Any, shape: Sequence[int], strides: tuple[int, ...] | None = None
) -> Traced:
    return Traced(recorder, recorder.new(np.dtype(dtype), tuple(shape), strides))


def _operand(recorder: Recorder, value: Any, weak: np.dtype[Any] | None = None) -> Traced:
    """A value as an operand; a Python number becomes one of dtype `weak`."""
    if isinstance(value, Traced):
        return value
    if isinstance(value, _REAL):
        return Traced(recorder, recorder.constant(value))
    if isinstance(value, _WEAK):
        return Traced(recorder, recorder.constant(np.asarray(value, weak)))
    raise NotRecordable(f"a {type(value).__name__} as an operand")


def _cast(recorder: Recorder, operand: Traced, dtype: np.dtype[Any]) -> Traced:
    return operand if operand.dtype == dtype else operand.astype(dtype)


def _layout(views: Sequence[View], shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, ...] | None:
    """The strides that NumPy gives a result of these operands: their order of axes, where it is not C order (then None)."""
    if len(shape) < 2 or all(
        view.is_contiguous or view.size == 1 for view in views if len(view.shape) == len(shape)
    ):
        return None
    dummies = [as_strided(np.empty(1, view.dtype), view.shape, view.strides) for view in views]
    operands = [*dummies, None]
    flags = [["readonly"]] * len(dummies) + [["writeonly", "allocate"]]
    dtypes: list[Any] = [None] * len(dummies) + [dtype]
    found = np.nditer(operands, ["zerosize_ok"], flags, op_dtypes=dtypes, order="K")  # type: ignore[call-overload]
    return tuple(found.operands[-1].strides)


# Elementwise.


def _call(
    recorder: Recorder, ufunc: np.ufunc, inputs: Sequence[Any], out: Any, keywords: dict[str, Any]
) -> Any:
    casting = keywords.pop("casting", "same_kind")
    keywords.pop("subok", None)
    wanted = keywords.pop("dtype", None)
    if keywords:
        raise NotRecordable(f"{ufunc.__name__} with {', '.join(keywords)}")
    if ufunc is np.matmul:
        return _matmul(recorder, *inputs) if out is None else _unsupported("matmul with out")
    if ufunc.signature is not None:
        raise NotRecordable(ufunc.__name__)
    known = [value.dtype if hasattr(value, "dtype") else type(value) for value in inputs]
    outs: tuple[Any, ...] = (None,) * ufunc.nout if out is None else tuple(out)
    if wanted is not None:
        raise NotRecordable(f"{ufunc.__name__} with a dtype")
    dtypes = ufunc.resolve_dtypes((*known, *(None,) * ufunc.nout))
    operands = [
        _cast(recorder, _operand(recorder, value, dtype), dtype)
        for value, dtype in zip(inputs, dtypes, strict=False)
    ]
    shape = np.broadcast_shapes(*(each.shape for each in operands))
    if out is not None:  # which may be larger than what the operands say
        shape = np.broadcast_shapes(shape, *(each.shape for each in outs if isinstance(each, Traced)))
    results = []
    for given, dtype in zip(outs, dtypes[ufunc.nin :], strict=True):
        if given is None:
            results.append(
                _new(recorder, dtype, shape, _layout([each.view for each in operands], shape, dtype))
            )
        elif not isinstance(given, Traced) or given.shape != shape:
            raise NotRecordable("an output of another shape")
        elif given.dtype == dtype:
            results.append(given)
        elif np.can_cast(dtype, given.dtype, casting):
            results.append(_new(recorder, dtype, shape))
        else:
            raise TypeError(f"Cannot cast ufunc '{ufunc.__name__}' output from {dtype} to {given.dtype}")
    recorder.ufunc(ufunc.__name__, [each.view for each in operands], [each.view for each in results])
    for at, given in enumerate(outs):
        if given is not None and results[at] is not given:
            recorder.cast(results[at].view, given.view)
            results[at] = given
    return results[0] if len(results) == 1 else tuple(results)


def _reduce(
    recorder: Recorder,
    ufunc: np.ufunc,
    array: Traced,
    out: Any,
    axis: Any = 0,
    dtype: Any = None,
    keepdims: bool = False,
    **others: Any,
) -> Any:
    if out not in (None, (None,)) or any(
        value is not np._NoValue and value is not True for value in others.values()
    ):
        raise NotRecordable(f"{ufunc.__name__}.reduce with more arguments")
    rank = array.ndim
    axes = range(rank) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    reduced = tuple(np.lib.array_utils.normalize_axis_tuple(axes, rank))
    kind = np.dtype(dtype) if dtype is not None else array.dtype
    if (
        dtype is None
        and ufunc in (np.add, np.multiply)
        and (kind.kind == "b" or (kind.kind in "iu" and kind.itemsize < 8))
    ):
        kind = np.dtype(np.uint64 if kind.kind == "u" else np.int64)
    if kind != array.dtype:
        if kind.kind not in "iu" or array.dtype.kind not in "biu":
            raise NotRecordable("a reduction in another dtype")
        array = array.astype(kind)
    if ufunc not in (np.add, np.multiply) and any(array.shape[each] == 0 for each in reduced):
        raise NotRecordable(f"{ufunc.__name__} of nothing")
    shape = tuple(
        1 if i in reduced else size for i, size in enumerate(array.shape) if keepdims or i not in reduced
    )
    made = _new(recorder, kind, shape)
    recorder.reduce(ufunc.__name__, array.view, made.view, reduced)
    return made


def _unsupported(what: str) -> Any:
    raise NotRecordable(what)


# Products.


def _lies(view: View) -> tuple[bool, View] | None:
    """Whether a matrix (or batch) is the transpose of one in C order, and that one; None if it is neither."""
    from engine.native.layout import View

    if view.is_contiguous:
        return False, view
    axes = (*range(len(view.shape) - 2), len(view.shape) - 1, len(view.shape) - 2)
    turned = View(
        view.slot,
        view.dtype,
        tuple(view.shape[axis] for axis in axes),
        tuple(view.strides[axis] for axis in axes),
        view.offset,
    )
    return (True, turned) if turned.is_contiguous else None


def _matmul(recorder: Recorder, a: Any, b: Any) -> Any:
    from engine.native.gemm import gemm

    one, other = _operand(recorder, a), _operand(recorder, b)
    if one.ndim < 2 or other.ndim < 2 or one.dtype != other.dtype or one.dtype.kind not in "f":
        raise NotRecordable("a product of vectors, or of mixed or integer dtypes")
    if one.shape[-1] != other.shape[-2]:
        raise ValueError("matmul: the inner dimensions differ")
    lies = [_lies(each.view) or (False, each.copy().view) for each in (one, other)]
    (flip_a, view_a), (flip_b, view_b) = lies
    m, k, n = one.shape[-2], one.shape[-1], other.shape[-1]
    kernel = gemm(
        m,
        n,
        k,
        one.dtype,
        flip_a,
        flip_b,
        batch_a=one.shape[:-2],
        batch_b=other.shape[:-2],
        exact=recorder.exact,
    )
    if kernel is None:
        raise NotRecordable("there is no BLAS to call")
    batch = np.broadcast_shapes(one.shape[:-2], other.shape[:-2])
    made = _new(recorder, one.dtype, (*batch, m, n))
    recorder.call(kernel, [view_a, view_b], [made.view])
    return made


# Functions that are no ufuncs.


def _where(recorder: Recorder, condition: Any, x: Any, y: Any) -> Traced:
    kinds = [each.dtype if hasattr(each, "dtype") else each for each in (x, y)]
    dtype = np.result_type(*kinds)
    operands = [_cast(recorder, _operand(recorder, each, dtype), dtype) for each in (x, y)]
    test = _operand(recorder, condition)
    if test.dtype != np.bool_:
        test = test != np.zeros((), test.dtype)
    shape = np.broadcast_shapes(test.shape, *(each.shape for each in operands))
    made = _new(recorder, dtype, shape)
    recorder.select(test.view, operands[0].view, operands[1].view, made.view)
    return made


def _concatenate(recorder: Recorder, arrays: Sequence[Any], axis: int = 0, **others: Any) -> Traced:
    if others:
        raise NotRecordable("concatenate with more arguments")
    parts = [_operand(recorder, each) for each in arrays]
    rank = parts[0].ndim
    axis = operator.index(axis) + (rank if axis < 0 else 0)
    if not 0 <= axis < rank or any(each.ndim != rank for each in parts):
        raise ValueError("concatenate: dimensions do not fit")
    dtype = np.result_type(*(each.dtype for each in parts))
    shape = list(parts[0].shape)
    shape[axis] = sum(each.shape[axis] for each in parts)
    for each in parts:
        if [*each.shape[:axis], *each.shape[axis + 1 :]] != [*shape[:axis], *shape[axis + 1 :]]:
            raise ValueError("concatenate: dimensions do not fit")
    made = _new(recorder, dtype, shape)
    start = 0
    for each in parts:
        length = each.shape[axis]
        if each.size:
            recorder.copy(_cast(recorder, each, dtype).view, made.view.at(axis, start, length))
        start += length
    return made


def _stack(recorder: Recorder, arrays: Sequence[Any], axis: int = 0, **others: Any) -> Traced:
    parts = [_operand(recorder, each) for each in arrays]
    rank = parts[0].ndim + 1
    axis = operator.index(axis) + (rank if axis < 0 else 0)
    wide = [each[(*(slice(None),) * axis, None)] for each in parts]
    return _concatenate(recorder, wide, axis, **others)


def _broadcast_to(recorder: Recorder, array: Any, shape: Any, **others: Any) -> Traced:
    wanted = tuple(shape) if not isinstance(shape, int) else (shape,)
    return _operand(recorder, array)._viewed(lambda a: np.broadcast_to(a, wanted))


def _tile(recorder: Recorder, array: Any, repeats: Any) -> Traced:
    source = _operand(recorder, array)
    counts = tuple(int(each) for each in np.ravel(repeats))
    rank = max(len(counts), source.ndim)
    counts = (1,) * (rank - len(counts)) + counts
    dims = (1,) * (rank - source.ndim) + source.shape
    wide = source.reshape(tuple(each for size in dims for each in (1, size)))
    whole = tuple(each for count, size in zip(counts, dims, strict=True) for each in (count, size))
    made = _new(recorder, source.dtype, whole)
    recorder.copy(_broadcast_to(recorder, wide, whole).view, made.view)
    return made.reshape(tuple(count * size for count, size in zip(counts, dims, strict=True)))


def _filled(value: Any) -> Callable[..., Any]:
    def make(recorder: Recorder, shape: Any, dtype: Any = np.float64, **others: Any) -> Any:
        if others.get("order", "C") not in ("C", None):
            raise NotRecordable("arrays in another order")
        dims = tuple(shape) if not isinstance(shape, int | np.integer) else (int(shape),)
        made = _new(recorder, dtype, [operator.index(each) for each in dims])
        recorder.fill(made.view, value)
        return made

    return make


def _full(recorder: Recorder, shape: Any, fill_value: Any, dtype: Any = None, **others: Any) -> Any:
    dims = tuple(shape) if not isinstance(shape, int | np.integer) else (int(shape),)
    kind = np.dtype(dtype) if dtype is not None else np.asarray(fill_value).dtype
    made = _new(recorder, kind, dims)
    made[...] = fill_value
    return made


def _like(value: Any) -> Callable[..., Any]:
    def make(recorder: Recorder, array: Any, dtype: Any = None, **others: Any) -> Any:
        shape = others.get("shape")
        made = _new(recorder, dtype or array.dtype, array.shape if shape is None else shape)
        recorder.fill(made.view, value)
        return made

    return make


def _as_contiguous(recorder: Recorder, array: Any, dtype: Any = None) -> Any:
    if not isinstance(array, Traced):
        return np.ascontiguousarray(array, dtype)
    made = array if dtype is None else array.astype(dtype, copy=False)
    return made if made.view.is_contiguous else made.copy()


def _as_array(recorder: Recorder, value: Any, dtype: Any = None, **others: Any) -> Any:
    if not isinstance(value, Traced):
        return np.asarray(value, dtype, **others)
    return value if dtype is None else value.astype(dtype, copy=False)


def _array(recorder: Recorder, value: Any, dtype: Any = None, copy: bool = True, **others: Any) -> Any:
    if not isinstance(value, Traced):
        return np.array(value, dtype, **others)
    return value.astype(dtype or value.dtype)


def _method(name: str) -> Callable[..., Any]:
    def function(recorder: Recorder, array: Any, *args: Any, **keywords: Any) -> Any:
        keywords = {key: value for key, value in keywords.items() if value is not np._NoValue}
        return getattr(_operand(recorder, array), name)(*args, **keywords)

    return function


def _by_view(function: Callable[..., Any]) -> Callable[..., Any]:
    def make(recorder: Recorder, array: Any, *args: Any, **keywords: Any) -> Any:
        return _operand(recorder, array)._viewed(lambda a: function(a, *args, **keywords))

    return make


def _split(recorder: Recorder, array: Any, sections: Any, axis: int = 0) -> list[Any]:
    source = _operand(recorder, array)
    axis = axis % source.ndim
    length = source.shape[axis]
    if isinstance(sections, int | np.integer):
        if length % sections:
            raise ValueError("array split does not result in an equal division")
        ends = [length // sections * i for i in range(1, sections)]
    else:
        ends = [int(each) for each in sections]
    bounds = [0, *ends, length]
    lead = (slice(None),) * axis
    return [source[(*lead, slice(a, b))] for a, b in itertools.pairwise(bounds)]


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "where": _where,
    "concatenate": _concatenate,
    "stack": _stack,
    "broadcast_to": _broadcast_to,
    "broadcast_arrays": lambda r, *arrays, **k: tuple(
        _broadcast_to(r, each, np.broadcast_shapes(*(a.shape for a in arrays))) for each in arrays
    ),
    "tile": _tile,
    "split": _split,
    "array_split": _split,
    "zeros_like": _like(0),
    "ones_like": _like(1),
    "empty_like": _like(0),
    "reshape": _method("reshape"),
    "ravel": _method("ravel"),
    "transpose": _method("transpose"),
    "swapaxes": _method("swapaxes"),
    "squeeze": _method("squeeze"),
    "sum": _method("sum"),
    "prod": _method("prod"),
    "max": _method("max"),
    "amax": _method("max"),
    "min": _method("min"),
    "amin": _method("min"),
    "clip": _method("clip"),
    "copy": _method("copy"),
    "expand_dims": _by_view(np.expand_dims),
    "moveaxis": _by_view(np.moveaxis),
    "flip": _by_view(np.flip),
    "shape": lambda r, array: array.shape,
    "ndim": lambda r, array: array.ndim,
    "size": lambda r, array: array.size,
}

_MAKERS: dict[str, Callable[..., Any]] = {
    "empty": _filled(0),
    "zeros": _filled(0),
    "ones": _filled(1),
    "full": _full,
    "ascontiguousarray": _as_contiguous,
    "asarray": _as_array,
    "array": _array,
}


# A kernel's other inputs.


class TracedVariable:
    """A variable, to a kernel that is traced: what it holds at that point of the program, and what is written to it."""

    def __init__(self, name: str, holds: Callable[[Any], Traced]) -> None:
        self.name = name
        self.lock = contextlib.nullcontext()
        self._holds = holds

    def read(self, node: Any = None) -> Traced:
        return self._holds(node)

    @property
    def value(self) -> Any:
        raise NotRecordable("it asks whether a variable has a value")


class TracedContext:
    """What a traced kernel is given as `k`: no step and no resources, so that who needs them is not traced."""

    def __init__(self, recorder: Recorder, node: Any) -> None:
        self.xp = Namespace(recorder)
        self.op = node
        self.attrs = node.attrs
        self.n_outputs = len(node.output_dtypes)
        self.writes: list[tuple[TracedVariable, Any, str]] = []

    def write(self, variable: TracedVariable, value: Any, kind: str = "write") -> None:
        self.writes.append((variable, value, kind))
