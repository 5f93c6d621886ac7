"""The default graph and the default session of each thread."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from typing import Any

from engine.graph.graph import Graph
from engine.graph.operation import Operation
from engine.graph.tensor import Tensor


class _Stacks(threading.local):
    def __init__(self) -> None:
        self.graphs: list[Graph] = []
        self.sessions: list[Any] = []


_stacks = _Stacks()
_global_graph: Graph | None = None
_global_lock = threading.Lock()


def get_default_graph() -> Graph:
    """The innermost `Graph.as_default()` of this thread, or the process's global graph."""
    stack = _stacks.graphs
    if stack:
        return stack[-1]
    global _global_graph
    if _global_graph is None:
        with _global_lock:
            if _global_graph is None:
                _global_graph = Graph()
    return _global_graph


def reset_default_graph() -> None:
    """Replace the global graph with an empty one.  Raises AssertionError inside an `as_default` block, as TensorFlow does."""
    if _stacks.graphs:
        raise AssertionError(
            "Do not use tf.reset_default_graph() inside a `with graph.as_default():` block: it would not be the default."
        )
    global _global_graph
    _global_graph = Graph()


@contextlib.contextmanager
def as_default(graph: Graph) -> Iterator[Graph]:
    """Make `graph` this thread's default."""
    _stacks.graphs.append(graph)
    try:
        yield graph
    finally:
        if not _stacks.graphs or _stacks.graphs[-1] is not graph:
            raise AssertionError(
                "Nesting of `with graph.as_default():` blocks is broken: they must be left innermost first"
            )
        _stacks.graphs.pop()


def get_default_session() -> Any:
    """The innermost default session of this thread, or None."""
    return _stacks.sessions[-1] if _stacks.sessions else None


def push_session(session: Any) -> None:
    """Make `session` this thread's default until `pop_session`."""
    _stacks.sessions.append(session)


def pop_session(session: Any) -> None:
    """Take `session` off this thread's stack; it need not be the innermost."""
    for i in reversed(range(len(_stacks.sessions))):
        if _stacks.sessions[i] is session:
            del _stacks.sessions[i]
            return


def eval_in_session(fetch: Tensor | Operation, feed_dict: Any, session: Any) -> Any:
    """Run `fetch` in `session` or the default one.  Raises ValueError if there is none, or if it has another graph."""
    if session is None:
        session = get_default_session()
        if session is None:
            verb = (
                "evaluate a tensor with `eval()`"
                if isinstance(fetch, Tensor)
                else "run an operation with `run()`"
            )
            raise ValueError(
                f"Cannot {verb} ('{fetch.name}'): no default session is registered. "
                "Use `with tf.Session():` or pass one as `session=`."
            )
    if session.graph is not fetch.graph:
        raise ValueError(
            f"'{fetch.name}' is of another graph than the session. Pass a session of its own graph as `session=`."
        )
    return session.run(fetch, feed_dict)


# Functions of the default graph, under TensorFlow 1's names.


def _name_scope_name(name: str | None, default_name: str | None, values: Any) -> str | None:
    if name is None and default_name is None and values is not None:
        raise ValueError("A name scope needs a name or a default_name")
    return default_name if name is None else name


@contextlib.contextmanager
def name_scope(name: str | None, default_name: str | None = None, values: Any = None) -> Iterator[str]:
    """A name scope in the default graph, or in the graph of `values`; `default_name` is used where `name` is None."""
    graph = graph_of(values or ())
    default = contextlib.nullcontext() if graph is get_default_graph() else graph.as_default()
    with default, graph.name_scope(_name_scope_name(name, default_name, values)) as scope:
        yield scope


def graph_of(values: Iterable[Any]) -> Graph:
    """The graph of the first tensor or operation among `values`, or the default graph; ValueError if they are of several."""
    found: Any = None
    if get_default_graph()._building_function:  # what it is given from outside is captured
        return get_default_graph()
    for value in values:
        graph = getattr(value, "graph", None)
        if not isinstance(graph, Graph):
            continue
        if found is None:
            found = value
        elif graph is not found.graph:
            raise ValueError(f"'{value.name}' must be from the same graph as '{found.name}'.")
    return get_default_graph() if found is None else found.graph


def control_dependencies(control_inputs: Iterable[Any] | None) -> contextlib.AbstractContextManager[None]:
    return get_default_graph().control_dependencies(control_inputs)


def device(device_name_or_function: Any) -> contextlib.AbstractContextManager[None]:
    return get_default_graph().device(device_name_or_function)


def colocate_with(op: Any, ignore_existing: bool = False) -> contextlib.AbstractContextManager[None]:
    return get_default_graph().colocate_with(op, ignore_existing)


def container(container_name: str) -> contextlib.AbstractContextManager[str]:
    return get_default_graph().container(container_name)


def add_to_collection(name: Any, value: Any) -> None:
    get_default_graph().add_to_collection(name, value)


def add_to_collections(names: Any, value: Any) -> None:
    get_default_graph().add_to_collections(names, value)


def get_collection(key: Any, scope: str | None = None) -> list[Any]:
    return get_default_graph().get_collection(key, scope)


def get_collection_ref(key: Any) -> list[Any]:
    return get_default_graph().get_collection_ref(key)


def set_random_seed(seed: int | None) -> None:
    """Set the default graph's random seed."""
    get_default_graph().seed = seed
