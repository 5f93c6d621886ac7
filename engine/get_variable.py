"""`get_variable`: a variable found by its name in the current variable scope, or made there."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from engine.graph.default import add_to_collection, colocate_with, get_default_graph, name_scope
from engine.graph.keys import GraphKeys
from engine.initializers import glorot_uniform_initializer, zeros_initializer
from engine.types import dtypes
from engine.types.dtypes import DType, as_dtype
from engine.types.shape import TensorShape, as_shape
from engine.variable_scope import Store, nested_getter, store_of_default_graph
from engine.variables import Variable

__all__ = ["get_local_variable", "get_variable"]


def get_variable(
    name: str,
    shape: Any = None,
    dtype: Any = None,
    initializer: Any = None,
    regularizer: Any = None,
    trainable: bool | None = None,
    collections: Any = None,
    caching_device: Any = None,
    partitioner: Any = None,
    validate_shape: bool = True,
    use_resource: bool | None = None,
    custom_getter: Any = None,
    constraint: Any = None,
    synchronization: Any = None,
    aggregation: Any = None,
) -> Any:
    """The variable `name` of the current variable scope: made if it is not there, found if the scope reuses.

    As `tf.get_variable`.

    shape: needed for a new variable unless `initializer` is a value.  initializer: a function of shape and dtype, a function
    without arguments, or a value; None: the scope's, or Glorot's uniform for floats and zeros for integers and bools.
    regularizer: a function of the variable whose result joins the collection of regularization losses.

    Raises ValueError if the variable exists and the scope does not reuse, if it does not exist and the scope only reuses, or if
    shape or dtype are not those of the one found.
    """
    del partitioner, use_resource, synchronization, aggregation
    store = store_of_default_graph()
    scope = store.scope
    full_name = f"{scope.name}/{name}" if scope.name else name
    settings = {
        "shape": shape,
        "dtype": dtype,
        "initializer": scope.initializer if initializer is None else initializer,
        "regularizer": scope.regularizer if regularizer is None else regularizer,
        "reuse": scope.reuse,
        "trainable": trainable,
        "collections": collections,
        "caching_device": scope.caching_device if caching_device is None else caching_device,
        "validate_shape": validate_shape,
        "constraint": scope.constraint if constraint is None else constraint,
    }
    if dtype is None:
        settings["dtype"] = scope.dtype
    elif initializer is not None and not callable(initializer) and hasattr(initializer, "dtype"):
        if as_dtype(initializer.dtype).base_dtype is not as_dtype(dtype).base_dtype:
            raise ValueError(
                f"Initializer type '{as_dtype(initializer.dtype).name}' and explicit dtype '{as_dtype(dtype).name}' don't match."
            )
    getter = nested_getter(custom_getter, scope.custom_getter)
    # The name is the variable scope's alone: name scopes do not enter into it.
    with name_scope(None):
        if getter is not None:
            return getter(functools.partial(_get, store), name=full_name, **settings)
        return _get(store, full_name, **settings)


def get_local_variable(name: str, *args: Any, **kwargs: Any) -> Any:
    """As `get_variable`, for a variable that is not saved and not trained: it joins the local variables."""
    kwargs["trainable"] = False
    kwargs["collections"] = [*(kwargs.get("collections") or ()), GraphKeys.LOCAL_VARIABLES]
    return get_variable(name, *args, **kwargs)


def _get(
    store: Store,
    name: str,
    shape: Any = None,
    dtype: Any = dtypes.float32,
    initializer: Any = None,
    regularizer: Any = None,
    reuse: Any = None,
    trainable: bool | None = None,
    collections: Any = None,
    caching_device: Any = None,
    validate_shape: bool = True,
    constraint: Any = None,
    **_: Any,
) -> Any:
    from_value = initializer is not None and not callable(initializer)
    if shape is not None and from_value:
        raise ValueError("If initializer is a constant, do not specify shape.")
    wanted, static = as_dtype(dtype), as_shape(shape)
    found = store.variables.get(name)
    if found is not None:
        return _shared(name, found, static, wanted, reuse)
    if reuse is True:
        raise ValueError(
            f"Variable {name} does not exist, or was not created with tf.get_variable(). "
            "Did you mean to set reuse=tf.AUTO_REUSE in VarScope?"
        )
    if initializer is None:
        initializer = _default_initializer(name, wanted)
    # get_variable may be called in a loop or a branch; the variable is outside.
    with get_default_graph().control_dependencies(None):
        variable = Variable(
            initial_value=initializer if from_value else _initial_value(initializer, static, wanted),
            name=name,
            trainable=trainable,
            collections=collections,
            caching_device=caching_device,
            dtype=None if from_value else wanted.base_dtype,
            validate_shape=validate_shape,
            constraint=constraint,
        )
    store.variables[name] = variable
    if regularizer is not None:
        with colocate_with(variable.op), name_scope(f"{name}/Regularizer/"):
            loss = regularizer(variable)
        if loss is not None:
            add_to_collection(GraphKeys.REGULARIZATION_LOSSES, loss)
    return variable


def _shared(name: str, found: Any, shape: TensorShape, dtype: DType, reuse: Any) -> Any:
    if not reuse:
        site = found.op.site.user if found.op.site is not None else None
        where = (
            f" Originally defined at:\n\n  {site.file}:{site.line} in {site.function}\n    {site.source}"
            if site
            else ""
        )
        raise ValueError(
            f"Variable {name} already exists, disallowed. "
            f"Did you mean to set reuse=True or reuse=tf.AUTO_REUSE in VarScope?{where}"
        )
    if not shape.is_compatible_with(found.get_shape()):
        raise ValueError(
            f"Trying to share variable {name}, but specified shape {shape} and found shape {found.get_shape()}."
        )
    if not dtype.is_compatible_with(found.dtype):
        raise ValueError(
            f"Trying to share variable {name}, but specified dtype {dtype.name} and found dtype {found.dtype.name}."
        )
    return found


def _default_initializer(name: str, dtype: DType) -> Any:
    if dtype.is_floating:
        return glorot_uniform_initializer()
    if dtype.is_integer or dtype.is_bool:
        return zeros_initializer()
    raise ValueError(f"An initializer for variable {name} of {dtype!r} is required")


def _initial_value(initializer: Callable[..., Any], shape: TensorShape, dtype: DType) -> Callable[[], Any]:
    if isinstance(initializer, type):
        initializer = initializer(dtype=dtype)
    if shape.is_fully_defined():
        dims = shape.as_list()
        if "dtype" in inspect.signature(initializer).parameters:
            return lambda: initializer(dims, dtype=dtype)
        return lambda: initializer(dims)
    if not inspect.signature(initializer).parameters:
        return initializer
    raise ValueError(
        "The initializer passed is not valid. It should be a callable with no arguments and the shape should not be provided "
        "or an instance of `tf.initializers.*` and `shape` should be fully defined."
    )
