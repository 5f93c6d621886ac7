"""Ops that reach out of the graph: Python functions, Print and Assert."""

from __future__ import annotations

import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.graph.convert import convert_to_tensor
from engine.graph.default import get_default_graph
from engine.op.kernels import invalid
from engine.op.registry import HOST, NotDifferentiable, op, raw
from engine.op.samples import untested
from engine.op.shapes import no_outputs, unchanged, unknown
from engine.op.summarize import summarize
from engine.types import dtypes, errors
from engine.types.dtypes import DType, as_dtype
from engine.types.shape import TensorShape

if TYPE_CHECKING:
    from engine.graph.graph import Graph

__all__ = ["Print", "numpy_function", "py_func"]

_BY_HAND = untested("tests/op/test_script.py")


# Python functions.  A node names its function by a token; the function lives as long as a graph that uses it.

_functions: weakref.WeakValueDictionary[str, _Function] = weakref.WeakValueDictionary()
_KEY = ("py_functions",)  # of the collection that keeps a graph's functions; tuples are not exported
_lock = threading.Lock()
_count = 0


class _Function:
    """A Python function with the token that nodes know it by."""

    __slots__ = ("__weakref__", "call", "token")

    def __init__(self, call: Callable[..., Any], token: str) -> None:
        self.call = call
        self.token = token


def _register(function: Callable[..., Any], graph: Graph) -> str:
    global _count
    with _lock:
        token = f"pyfunc_{_count}"
        _count += 1
        entry = _Function(function, token)
        _functions[token] = entry
        graph.get_collection_ref(_KEY).append(entry)
    return token


# What an exception of the user's function becomes, as in TensorFlow.
_TRANSLATED: tuple[tuple[type[BaseException], type[errors.OpError]], ...] = (
    (StopIteration, errors.OutOfRangeError),
    (MemoryError, errors.ResourceExhaustedError),
    (NotImplementedError, errors.UnimplementedError),
    (TypeError, errors.InvalidArgumentError),
    (ValueError, errors.InvalidArgumentError),
)


def _py_func(k: Any, *inputs: Any) -> Any:
    token, wanted = k.attrs["token"], k.attrs["Tout"]
    function = _functions.get(token)
    if function is None:
        raise errors.NotFoundError(
            None,
            None,
            f"There is no Python function for '{token}'",
            hint="A graph with py_func nodes runs only in the process that built it, while the graph that built it lives.",
        )
    try:
        # Copies: the function may write to what it is given.  A scalar arrives as a NumPy scalar.
        found = function.call(*(np.array(each)[()] for each in inputs))
    except errors.OpError:
        raise
    except Exception as error:
        kind = next((ours for theirs, ours in _TRANSLATED if isinstance(error, theirs)), errors.UnknownError)
        trace = "".join(traceback.format_tb(error.__traceback__)[1:])
        raise kind(None, None, f"{type(error).__name__}: {error}\n{trace}".rstrip()) from error
    values = (
        list(found) if isinstance(found, list | tuple) else [] if found is None and not wanted else [found]
    )
    if len(values) != len(wanted):
        raise invalid(f"{token} returns {len(values)} values, but expects to see {len(wanted)} values.")
    arrays = tuple(
        _as_output(value, dtype, i, token)
        for i, (value, dtype) in enumerate(zip(values, wanted, strict=True))
    )
    return arrays[0] if len(arrays) == 1 else arrays


def _as_output(value: Any, wanted: DType, index: int, token: str) -> Any:
    if wanted is dtypes.string:
        given = np.asarray(value)
        texts = np.empty(given.shape, object)
        for position, item in np.ndenumerate(given):
            texts[position] = item.encode() if isinstance(item, str) else bytes(item)
        return texts
    array = np.array(value, order="C")  # a copy: the function may go on changing what it returned
    if array.dtype != wanted.np_dtype:
        got = "an array of objects" if array.dtype == object else array.dtype.name
        raise errors.InvalidArgumentError(
            None,
            None,
            f"{index}-th value returned by {token} is {got}, but expects {wanted.name}",
            hint="Convert inside of the function, or give py_func the dtype that it returns.",
        )
    return array


op(
    "PyFunc(input: list(Tin); token: string, Tin: list(type) >= 0, Tout: list(type) >= 0) -> output: list(Tout)",
    kernel=_py_func,
    shape=unknown,
    grad=NotDifferentiable,
    samples=_BY_HAND,
    stateful=True,
    devices=("CPU",),
)

op(
    "PyFuncStateless(input: list(Tin); token: string, Tin: list(type) >= 0, Tout: list(type) >= 0) -> output: list(Tout)",
    kernel=_py_func,
    shape=unknown,
    grad=NotDifferentiable,
    samples=_BY_HAND,
    devices=("CPU",),
)


def py_func(
    func: Callable[..., Any], inp: Sequence[Any], Tout: Any, stateful: bool = True, name: str | None = None
) -> Any:
    """A Python function as a node, as `tf.py_func`: called with the inputs as NumPy arrays, it returns arrays.

    inp: a list of tensors.  Tout: the dtype of what `func` returns, or a list of them; the result is a tensor or a list
    accordingly (an Operation where the list is empty).  stateful: whether it may give other results for the same inputs.
    What it raises becomes an OpError; a result of another dtype or number is an InvalidArgumentError.
    """
    single = not isinstance(Tout, list | tuple)
    wanted = [as_dtype(each) for each in ([Tout] if single else Tout)]
    token = _register(func, get_default_graph())
    kind = raw.PyFunc if stateful else raw.PyFuncStateless
    inputs = [convert_to_tensor(each) for each in inp]
    found = kind(inputs, token=token, Tout=wanted, name=name)
    return found[0] if single else found


def numpy_function(func: Callable[..., Any], inp: Sequence[Any], Tout: Any, name: str | None = None) -> Any:
    """As `py_func` with `stateful`, under its later name."""
    return py_func(func, inp, Tout, stateful=True, name=name)


# Print.


def _print(k: Any, value: Any, *data: Any) -> Any:
    first_n = k.attrs["first_n"]
    if first_n >= 0:
        printed = k.resources.variable("print", k.op.name, dtypes.int64, TensorShape.of(()))
        with printed.lock:
            count = 0 if printed.value is None else int(printed.value)
            if count >= first_n:
                return value
            k.write(printed, np.int64(count + 1), kind="print")
    texts = "".join(f"[{summarize(_on_host(each), k.attrs['summarize'])}]" for each in data)
    sys.stderr.write(f"{k.attrs['message']}{texts}\n")
    sys.stderr.flush()
    return value


def _on_host(array: Any) -> Any:
    return array.get() if hasattr(array, "get") else array


op(
    "Print(input: T, data: list(U); T: type, U: list(type) >= 0, message: string = '', first_n: int = -1, summarize: int = 3)"
    " -> output: T",
    kernel=_print,
    shape=unchanged,
    grad=lambda node, g: [g, *[None] * (len(node.inputs) - 1)],
    samples=_BY_HAND,
    stateful=True,
    devices=("CPU",),
)


def Print(
    input_: Any,
    data: Sequence[Any],
    message: str | None = None,
    first_n: int | None = None,
    summarize: int | None = None,
    name: str | None = None,
) -> Any:
    """`input_` itself; when it runs, it writes `message` and the first elements of the tensors `data` to stderr, as `tf.Print`.

    first_n: how many times at most in a session (None: always); summarize: how many elements of each (None: 3, negative: all).
    """
    attrs = {"message": message, "first_n": first_n, "summarize": summarize}
    return raw.Print(
        input_, list(data), **{key: value for key, value in attrs.items() if value is not None}, name=name
    )


# Assert.


def _assert(k: Any, condition: Any, *data: Any) -> Any:
    if getattr(condition, "size", 1) != 1:
        raise invalid(f"The condition of an Assert must be a scalar, not of shape {condition.shape}")
    if not condition:
        texts = " ".join(f"[{summarize(_on_host(each), k.attrs['summarize'])}]" for each in data)
        raise invalid(f"assertion failed: {texts}")
    return ()


op(
    "Assert(condition: bool, data: list(T); T: list(type) >= 1, summarize: int = 3) -> ",
    kernel=_assert,
    shape=no_outputs,
    grad=NotDifferentiable,
    samples=_BY_HAND,
    stateful=True,
    memory=HOST,
)
