"""Functions written in Python: `Defun`, as in TensorFlow 1's `tensorflow.python.framework.function`.

::

    @Defun(tf.float32, tf.float32)
    def scaled(x, y):
        return x * y, x + y
"""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from engine.graph.convert import convert_to_tensor
from engine.graph.default import get_default_graph
from engine.graph.function import Function, FunctionGraph
from engine.graph.function_def import argument_name, output_names, unique
from engine.graph.graph import Graph
from engine.graph.keys import GraphKeys
from engine.graph.tensor import Tensor
from engine.op.registry import raw
from engine.types.dtypes import DType, as_dtype
from engine.variable_scope import get_variable_scope, store_of_default_graph, variable_scope

__all__ = ["DefinedFunction", "Defun", "OverloadedFunction"]

_VARIABLE_COLLECTIONS = (
    GraphKeys.GLOBAL_VARIABLES,
    GraphKeys.LOCAL_VARIABLES,
    GraphKeys.MODEL_VARIABLES,
    GraphKeys.TRAINABLE_VARIABLES,
)


class Defun:
    """Decorator that makes a Python function one operation of the graph: its call.

    input_types: a dtype for each argument; with none at all, the types are those of each call, and there is one function for
    each list of them.  func_name: the function's name in the graph (None: the Python name with a hash of the body).
    grad_func: a Defun'd function of the arguments and the gradients of the results that returns the gradients of the
    arguments.  python_grad_func: ``f(op, *grads)``, as `tf.RegisterGradient` has it.  With neither the body is differentiated.
    out_names: names of the results.  shape_func: ``f(op)`` gives the results' static shapes, which are unknown otherwise.

    The body is built once, at the first call, in a graph of its own.  Tensors from outside that it uses are passed with each
    call; variables that it makes with `get_variable` are made outside.  A body cannot call itself.

    Raises ValueError for a function with keyword arguments or defaults, or with another number of arguments than types.
    """

    def __init__(self, *input_types: Any, **kwargs: Any) -> None:
        self._input_types = input_types
        known = ("func_name", "grad_func", "python_grad_func", "out_names", "shape_func", "noinline")
        unknown = [key for key in kwargs if key not in known]
        if unknown:
            raise ValueError(
                f"Unknown keyword arguments: {', '.join(unknown)}. Defun takes {', '.join(known)}."
            )
        self._options = kwargs

    def __call__(self, func: Callable[..., Any]) -> Any:
        if not callable(func):
            raise ValueError(f"Function {func} must be a callable.")
        spec = inspect.getfullargspec(func)
        if spec.varkw or spec.defaults or spec.kwonlyargs:
            raise ValueError(
                f"Functions with argument defaults or keywords arguments are not supported. {func} has defaults "
                f"{spec.defaults} and keywords {spec.varkw or spec.kwonlyargs}."
            )
        names = spec.args[1:] if inspect.ismethod(func) else spec.args
        if self._input_types:
            given = len(self._input_types)
            if given < len(names) or (given > len(names) and not spec.varargs):
                raise ValueError(
                    f"The function {_python_name(func)} takes {len(names)}{' or more' if spec.varargs else ''} arguments; "
                    f"Defun has {given} types"
                )
        elif names or spec.varargs:
            return OverloadedFunction(func, names, self._options)
        return DefinedFunction(func, names, [as_dtype(each) for each in self._input_types], **self._options)


def _python_name(func: Callable[..., Any]) -> str:
    return re.sub(r"[^A-Za-z0-9_.]", "", getattr(func, "__name__", type(func).__name__))


class DefinedFunction:
    """A Python function with typed arguments, which can be called to add its call to the default graph; see `Defun`."""

    def __init__(
        self,
        func: Callable[..., Any],
        argument_names: Sequence[str],
        input_types: Sequence[DType],
        func_name: str | None = None,
        grad_func: Any = None,
        python_grad_func: Callable[..., Any] | None = None,
        out_names: Sequence[str] | None = None,
        shape_func: Callable[..., Any] | None = None,
        noinline: bool | None = None,
    ) -> None:
        self._func = func
        self._input_types = tuple(input_types)
        self._argument_names = [
            argument_names[i] if i < len(argument_names) else f"arg{i}" for i in range(len(input_types))
        ]
        self._func_name = func_name
        self._grad_func = grad_func
        self._python_grad_func = python_grad_func
        self._out_names = out_names
        self._shape_func = shape_func
        self._noinline = noinline
        self._function: Function | None = None
        self._being_built = False

    @property
    def name(self) -> str:
        """The function's name in the graph, which is the type of its calls."""
        return self._defined().name

    @property
    def definition(self) -> Any:
        """The function as a FunctionDef message."""
        return self._defined().definition()

    @property
    def declared_input_types(self) -> tuple[DType, ...]:
        return self._input_types

    @property
    def captured_inputs(self) -> list[Tensor]:
        """The tensors from outside that each call passes beside its arguments."""
        return list(self._defined().graph.captured)

    @property
    def stateful_ops(self) -> list[tuple[str, str]]:
        """(name, type) of the body's stateful operations."""
        return self._defined().stateful_ops

    @property
    def grad_func_name(self) -> str | None:
        return None if self._grad_func is None else self._grad_func.name

    @property
    def python_grad_func(self) -> Callable[..., Any] | None:
        return self._python_grad_func

    def set_grad_func(self, grad_func: Any) -> None:
        """Make the Defun'd `grad_func` this function's gradient, which must not have one yet."""
        if self._grad_func is not None:
            raise ValueError(f"Function '{_python_name(self._func)}' has a gradient function already")
        self._grad_func = grad_func
        if self._function is not None:
            self._function.grad_func = grad_func._defined()

    def add_to_graph(self, graph: Graph) -> None:
        """Put the function into the library of `graph`."""
        self._defined().add_to_graph(graph)

    def _defined(self) -> Function:
        if self._function is None:
            if self._being_built:
                raise ValueError(
                    f"Function '{_python_name(self._func)}' calls itself. A function of a graph cannot be recursive: it would "
                    "have no end. Use tf.while_loop."
                )
            self._being_built = True
            try:
                self._function = self._build()
            finally:
                self._being_built = False
        return self._function

    def _build(self) -> Function:
        graph = FunctionGraph(self._func_name or _python_name(self._func), get_default_graph())
        for key in (*_VARIABLE_COLLECTIONS, *_store_keys()):
            graph._collections[key] = get_default_graph().get_collection_ref(key)
        with graph.as_default():
            for name, dtype in zip(self._argument_names, self._input_types, strict=True):
                graph.inputs.append(raw.Placeholder(dtype=dtype, shape=None, name=name))
            with _hoisting(graph):
                returned = self._func(*graph.inputs)
            if returned is None:
                returned = ()
            elif not isinstance(returned, list | tuple):
                returned = (returned,)
            if any(each is None for each in returned):
                raise ValueError(f"Function {graph.name} can not return None.")
            graph.outputs = [graph.capture(convert_to_tensor(each)) for each in returned]
            for each in graph.outputs:
                if each.graph is not graph:
                    raise ValueError(
                        f"Function {graph.name} returns '{each.name}', which is of another graph"
                    )
        names: set[str] = set()
        arguments = [unique(argument_name(tensor.op.name), names) for tensor in graph.inputs]
        results = output_names(graph.outputs, self._out_names)
        if len(results) != len(graph.outputs):
            raise ValueError(
                f"Function {graph.name} returns {len(graph.outputs)} tensors; out_names has {len(results)} names"
            )
        gradient = None if self._grad_func is None else self._grad_func._defined()
        function = Function(
            self._func_name or "unnamed",
            graph,
            arguments,
            results,
            grad_func=gradient,
            python_grad_func=self._python_grad_func,
            description=self._func.__doc__ or "",
        )
        if self._func_name is None:
            base = _python_name(self._func) + ("" if gradient is None else f"_{gradient.name}")
            digest = hashlib.sha1(function.definition().SerializeToString(deterministic=True)).hexdigest()
            function.rename(f"{base}_{digest[:11]}")
        return function

    def __call__(self, *args: Any, name: str | None = None, noinline: bool | None = None) -> Any:
        """Add a call; gives its result, a tuple of them, or the operation if there are none.

        Raises ValueError for another number of arguments, TypeError for arguments of other dtypes.
        """
        function = self._defined()
        graph = get_default_graph()
        function.add_to_graph(graph)
        if len(args) != len(self._input_types):
            raise ValueError(
                f"Expected {len(self._input_types)} arguments, got {len(args)}: {function.name} takes "
                f"({', '.join(self._argument_names)})."
            )
        inputs = [convert_to_tensor(each) for each in args] + self.captured_inputs
        if isinstance(graph, FunctionGraph):
            inputs = [graph.capture(tensor) for tensor in inputs]
        for label, dtype, tensor in zip(self._argument_names, self._input_types, inputs, strict=False):
            if tensor.dtype.base_dtype is not dtype:
                raise TypeError(
                    f"Argument '{label}' of function {function.name} is {dtype.name}, and '{tensor.name}' is {tensor.dtype.name}"
                )
        attrs: dict[str, Any] = {"_disable_call_shape_inference": True}
        noinline = self._noinline if noinline is None else noinline
        if noinline is not None:
            attrs["_noinline"] = bool(noinline)
        op = graph.create_op(
            function.name, inputs, name=name or function.name, attrs=attrs, op_def=function.opdef
        )
        if self._shape_func is not None:
            shapes = self._shape_func(op)
            if len(shapes) != len(op.outputs):
                raise ValueError(
                    f"shape_func {self._shape_func} produced {len(shapes)} shapes, which does not match "
                    f"{len(op.outputs)} outputs."
                )
            for tensor, shape in zip(op.outputs, shapes, strict=True):
                tensor.set_shape(shape)
        if not op.outputs:
            return op
        return op.outputs[0] if len(op.outputs) == 1 else tuple(op.outputs)


def _store_keys() -> list[Any]:
    """The collections that hold the default graph's store of variables."""
    store = store_of_default_graph()
    return [key for key, items in get_default_graph()._collections.items() if store in items]


@contextmanager
def _hoisting(graph: FunctionGraph) -> Iterator[None]:
    """Make variables asked for in a function's body outside of it."""
    outer = graph.outer_graph
    assert outer is not None

    def getter(getter: Callable[..., Any], name: str, **settings: Any) -> Any:
        with outer.as_default(), outer.name_scope(None), outer.control_dependencies(None):
            return getter(name=name, **settings)

    with variable_scope(get_variable_scope(), custom_getter=getter, auxiliary_name_scope=False):
        yield


def _shortened(types: Sequence[DType]) -> str:
    """The types as TensorFlow puts them into names: "f32i64"."""
    return "".join(
        _SHORT.get(each.name, re.sub(r"[a-z]+", lambda word: word[0][0], each.name)) for each in types
    )


_SHORT = {"bool": "b", "string": "s", "resource": "r", "bfloat16": "b16"}


class OverloadedFunction:
    """A Python function that is defined for each list of argument types that it is called with; see `Defun`."""

    def __init__(
        self, func: Callable[..., Any], argument_names: Sequence[str], options: dict[str, Any]
    ) -> None:
        self._func = func
        self._argument_names = argument_names
        self._options = options
        self._defined: dict[tuple[DType, ...], DefinedFunction] = {}

    def instantiate(self, input_types: Sequence[Any]) -> DefinedFunction:
        """The function for arguments of these dtypes."""
        types = tuple(as_dtype(each).base_dtype for each in input_types)
        found = self._defined.get(types)
        if found is None:
            options = dict(self._options)
            if options.get("func_name"):
                options["func_name"] = f"{options['func_name']}_{_shortened(types)}"
            gradient = options.pop("grad_func", None)
            found = DefinedFunction(self._func, self._argument_names, types, **options)
            if gradient is not None:
                outputs = [each.dtype for each in found._defined().graph.outputs]
                found.set_grad_func(gradient.instantiate([*types, *outputs]))
            self._defined[types] = found
        return found

    def __call__(self, *args: Any, name: str | None = None, noinline: bool | None = None) -> Any:
        tensors = [convert_to_tensor(each) for each in args]
        return self.instantiate([each.dtype for each in tensors])(*tensors, name=name, noinline=noinline)
