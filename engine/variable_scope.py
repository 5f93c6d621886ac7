"""Variable scopes, as in TensorFlow 1: how variables are shared by name (with `engine.get_variable`).

A variable scope prefixes the names of the variables that `get_variable` makes or finds inside it, and holds defaults for them.
It opens a name scope, too, which is made unique each time; the variables' names are not: that is how they are shared.
"""

from __future__ import annotations

import contextlib
import enum
import functools
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from engine.graph.default import get_default_graph, graph_of, name_scope
from engine.graph.keys import GraphKeys
from engine.types import dtypes
from engine.types.dtypes import DType, as_dtype

if TYPE_CHECKING:
    pass

__all__ = [
    "AUTO_REUSE",
    "VariableScope",
    "get_variable_scope",
    "no_regularizer",
    "variable_scope",
]


class _Reuse(enum.Enum):
    AUTO_REUSE = 1


AUTO_REUSE = _Reuse.AUTO_REUSE


def no_regularizer(_: Any) -> None:
    """As a scope's or variable's regularizer: none, whatever the surrounding scope says."""
    return


class Store(threading.local):
    """What a graph knows of its shared variables and, for each thread, of the scope that it is in."""

    def __init__(self, variables: dict[str, Any]) -> None:
        self.variables = variables  # one dictionary for all threads
        self.scope = VariableScope(False)
        self.opened: dict[str, int] = {}

    def open(self, name: str) -> None:
        self.opened[name] = self.opened.get(name, 0) + 1

    def close_inner(self, name: str) -> None:
        """Forget the scopes opened inside `name`: when it is entered again, theirs are numbered anew."""
        for inner in self.opened:
            if not name or inner.startswith(name + "/"):
                self.opened[inner] = 0

    def unique(self, prefix: str) -> str:
        """`prefix`, inside the current scope, with a number if such a scope has been opened."""
        outer = self.scope.name
        count, candidate = 0, prefix
        while self.opened.get(f"{outer}/{candidate}" if outer else candidate, 0):
            count += 1
            candidate = f"{prefix}_{count}"
        return candidate


_KEY = ("variable_store",)  # of the collection that holds a graph's store; tuples are not exported
_lock = threading.Lock()


def store_of_default_graph() -> Store:
    """The default graph's store, made if there is none."""
    kept = get_default_graph().get_collection_ref(_KEY)
    with _lock:
        if not kept:
            kept.append(Store({}))
    found: Store = kept[0]
    return found


class VariableScope:
    """The prefix of variable names, and the defaults for `get_variable`, inside a `variable_scope`.

    `name` is the prefix, `original_name_scope` the name scope that was opened with it, with a '/'.  `reuse` is False (a variable
    must be new), True (it must be there) or AUTO_REUSE.
    """

    def __init__(
        self,
        reuse: Any,
        name: str = "",
        initializer: Any = None,
        regularizer: Any = None,
        caching_device: Any = None,
        custom_getter: Any = None,
        name_scope: str = "",
        dtype: Any = dtypes.float32,
        constraint: Any = None,
    ) -> None:
        self._reuse = reuse
        self._name = name
        self._name_scope = name_scope
        self._initializer = initializer
        self._regularizer = regularizer
        self._caching_device = caching_device
        self._custom_getter = custom_getter
        self._dtype = as_dtype(dtype)
        self._constraint = constraint

    @property
    def name(self) -> str:
        return self._name

    @property
    def original_name_scope(self) -> str:
        return self._name_scope

    @property
    def reuse(self) -> Any:
        return self._reuse

    @property
    def initializer(self) -> Any:
        return self._initializer

    @property
    def regularizer(self) -> Any:
        return self._regularizer

    @property
    def caching_device(self) -> Any:
        return self._caching_device

    @property
    def custom_getter(self) -> Any:
        return self._custom_getter

    @property
    def dtype(self) -> DType:
        return self._dtype

    @property
    def constraint(self) -> Any:
        return self._constraint

    def reuse_variables(self) -> None:
        """From now on, variables must be there already."""
        self._reuse = True

    def set_initializer(self, initializer: Any) -> None:
        self._initializer = initializer

    def set_regularizer(self, regularizer: Any) -> None:
        self._regularizer = regularizer

    def set_dtype(self, dtype: Any) -> None:
        self._dtype = as_dtype(dtype)

    def set_caching_device(self, caching_device: Any) -> None:
        self._caching_device = caching_device

    def set_custom_getter(self, custom_getter: Any) -> None:
        self._custom_getter = custom_getter

    def get_collection(self, name: str) -> list[Any]:
        """The items of a collection whose names begin with this scope's."""
        return get_default_graph().get_collection(name, f"{self._name}/" if self._name else None)

    def trainable_variables(self) -> list[Any]:
        return self.get_collection(GraphKeys.TRAINABLE_VARIABLES)

    def global_variables(self) -> list[Any]:
        return self.get_collection(GraphKeys.GLOBAL_VARIABLES)

    def local_variables(self) -> list[Any]:
        return self.get_collection(GraphKeys.LOCAL_VARIABLES)

    def _inherit(self, **changes: Any) -> VariableScope:
        """A scope with this one's defaults, apart from `changes` that are not None."""
        settings = {
            "reuse": self._reuse,
            "name": self._name,
            "initializer": self._initializer,
            "regularizer": self._regularizer,
            "caching_device": self._caching_device,
            "custom_getter": self._custom_getter,
            "name_scope": self._name_scope,
            "dtype": self._dtype,
            "constraint": self._constraint,
        }
        settings.update((key, value) for key, value in changes.items() if value is not None)
        return VariableScope(**settings)


def get_variable_scope() -> VariableScope:
    """The variable scope that this thread is in, in the default graph."""
    return store_of_default_graph().scope


@contextlib.contextmanager
def variable_scope(
    name_or_scope: Any,
    default_name: str | None = None,
    values: Any = None,
    initializer: Any = None,
    regularizer: Any = None,
    caching_device: Any = None,
    partitioner: Any = None,
    custom_getter: Any = None,
    reuse: Any = None,
    dtype: Any = None,
    use_resource: bool | None = None,
    constraint: Any = None,
    auxiliary_name_scope: bool = True,
) -> Iterator[VariableScope]:
    """Enter a variable scope: a name inside the current one, or a VariableScope, wherever that was made.

    default_name: used, made unique, where `name_or_scope` is None.  initializer, regularizer, custom_getter, dtype, constraint:
    defaults for `get_variable` inside.  reuse: True (variables must be there already), AUTO_REUSE (made if they are not), or None
    (as the outer scope).  auxiliary_name_scope False opens no name scope.
    Raises ValueError without a name, for reuse together with a default name, TypeError for what is neither name nor scope.
    """
    del partitioner, use_resource
    if name_or_scope is None and default_name is None:
        raise TypeError("If default_name is None then name_or_scope is required")
    if name_or_scope is not None and not isinstance(name_or_scope, str | VariableScope):
        raise TypeError("VariableScope: name_or_scope must be a string or VariableScope.")
    if reuse not in (None, False, True, AUTO_REUSE):
        raise ValueError("The reuse parameter must be True or False or None.")
    with contextlib.ExitStack() as stack:
        if values is not None:
            stack.enter_context(graph_of(values).as_default())
        store = store_of_default_graph()
        outer, counts = store.scope, store.opened
        overrides = {
            "initializer": initializer,
            "regularizer": regularizer,
            "caching_device": caching_device,
            "dtype": dtype,
            "constraint": constraint,
        }
        if isinstance(name_or_scope, VariableScope):
            entered = name_or_scope
            if auxiliary_name_scope:
                last = entered.name.split("/")[-1]
                if last:
                    stack.enter_context(name_scope(last))
            store.opened = dict(
                counts
            )  # what is opened in a scope jumped to is not counted where we come from
            scope = entered._inherit(
                reuse=reuse or None,
                custom_getter=nested_getter(custom_getter, entered.custom_getter),
                **overrides,
            )
        else:
            if name_or_scope is None and reuse:
                raise ValueError("reuse=True cannot be used without a name_or_scope")
            name = name_or_scope if name_or_scope is not None else store.unique(str(default_name))
            opened = get_default_graph().get_name_scope()
            full_scope = f"{opened}/" if opened else ""
            if auxiliary_name_scope:
                full_scope = stack.enter_context(name_scope(name)) if name else full_scope
            full = f"{outer.name}/{name}" if outer.name else name
            scope = outer._inherit(
                reuse=reuse or None,
                name=full,
                name_scope=full_scope,
                custom_getter=nested_getter(custom_getter, outer.custom_getter),
                **overrides,
            )
        store.open(scope.name)
        store.scope = scope
        try:
            yield scope
        finally:
            store.close_inner(scope.name)
            store.scope = outer
            if isinstance(name_or_scope, VariableScope):
                store.opened = counts


def nested_getter(inner: Any, outer: Any) -> Any:
    """The custom getter of an inner scope, with the outer one's as the getter that it calls."""
    if inner is None or outer is None:
        return inner or outer

    def getter(getter: Any, *args: Any, **kwargs: Any) -> Any:
        return inner(functools.partial(outer, getter), *args, **kwargs)

    return getter
