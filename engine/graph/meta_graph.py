"""A graph with what belongs to it, as a MetaGraphDef: its nodes and its collections, as TensorFlow 1's
`tf.train.export_meta_graph`.

A collection becomes a list of names (of tensors and operations), of numbers, of bytes, or of messages, where a function
that makes messages of its items has been registered for it: variables and control-flow contexts have one.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.graph.keys import GraphKeys

if TYPE_CHECKING:
    from engine.graph.graph import Graph

__all__ = [
    "export_meta_graph",
    "import_meta_graph",
    "prepend_name_scope",
    "read_meta_graph_file",
    "register_proto_function",
]


class _ProtoFunctions(NamedTuple):
    message_class: Callable[[], Any]
    to_proto: Callable[[Any], Any]
    from_proto: Callable[[Any, str | None], Any]


_proto_functions: dict[str, _ProtoFunctions] = {}


def register_proto_function(
    collection_name: str,
    message_class: Callable[[], Any],
    to_proto: Callable[[Any], Any],
    from_proto: Callable[[Any, str | None], Any],
) -> None:
    """Keep the items of a collection as messages.

    message_class: gives the class of the messages when it is called (their modules are imported then).  to_proto: from an item to
    its message, or None to leave it out.  from_proto: from a message and the import scope (None: none) to an item.
    """
    _proto_functions[collection_name] = _ProtoFunctions(message_class, to_proto, from_proto)


def prepend_name_scope(name: str, scope: str | None) -> str:
    """The name that ``name`` (also "^name", "loc:@name") has in the scope `scope`."""
    if not scope:
        return name
    for prefix in ("^", "loc:@"):
        if name.startswith(prefix):
            return f"{prefix}{scope.rstrip('/')}/{name.removeprefix(prefix)}"
    return f"{scope.rstrip('/')}/{name}"


# Out.


def export_meta_graph(
    filename: str | None = None,
    meta_info_def: Any = None,
    graph_def: Any = None,
    saver_def: Any = None,
    collection_list: Iterable[str] | None = None,
    as_text: bool = False,
    graph: Graph | None = None,
    clear_devices: bool = False,
) -> Any:
    """The default graph, or `graph`, as a MetaGraphDef, also written to the file `filename` if it is given.

    meta_info_def, graph_def, saver_def: messages to use as they are; without a graph_def the graph's own is made.
    collection_list: the names of the collections to take along (None: all whose names are strings).  as_text: write the file as
    text.  clear_devices: leave out where nodes are placed.  A collection that no MetaGraphDef can hold is left out, with
    a warning.
    """
    from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

    from engine.graph.default import get_default_graph
    from engine.graph.graphdef import graph_to_def, write_graph

    if graph is None:
        graph = get_default_graph()
    result = MetaGraphDef()
    if meta_info_def is not None:
        result.meta_info_def.MergeFrom(meta_info_def)
    result.graph_def.CopyFrom(graph_to_def(graph) if graph_def is None else graph_def)
    if clear_devices:
        for node in result.graph_def.node:
            node.device = ""
    if saver_def is not None:
        result.saver_def.MergeFrom(saver_def)
    for key in graph.get_all_collection_keys() if collection_list is None else collection_list:
        _export_collection(result, key, graph.get_collection(key))
    if filename is not None:
        folder, name = os.path.split(filename)
        write_graph(result, folder, name, as_text=as_text)
    return result


def _export_collection(result: Any, key: str, items: list[Any]) -> None:
    """Put the items of one collection into the message, or warn."""
    from tensorboard.compat.proto.meta_graph_pb2 import CollectionDef

    collection = CollectionDef()
    functions = _proto_functions.get(key)
    try:
        if functions is not None:
            found = (functions.to_proto(item) for item in items)
            collection.bytes_list.value.extend(
                each.SerializeToString(deterministic=True) for each in found if each is not None
            )
        else:
            kind, convert = _kind_of(items)
            getattr(collection, kind).value.extend(convert(item) for item in items)
    except (AttributeError, TypeError, ValueError) as error:
        warnings.warn(
            f"The collection '{key}' is left out of the MetaGraphDef: its items are no tensors, operations, numbers, strings or "
            f"messages of one kind ({error})",
            stacklevel=3,
        )
        return
    result.collection_def[key].CopyFrom(collection)


def _kind_of(items: list[Any]) -> tuple[str, Callable[[Any], Any]]:
    """The field for items like the first one, and what makes a field's value of each.  They must all be of one kind."""
    first = items[0] if items else None
    if isinstance(first, str | bytes):
        return "bytes_list", lambda item: item if isinstance(item, bytes) else item.encode()
    if isinstance(first, int):
        return "int64_list", int
    if isinstance(first, float):
        return "float_list", float
    return "node_list", lambda item: str(item.name)


# In.


def read_meta_graph_file(filename: str | os.PathLike[str]) -> Any:
    """The MetaGraphDef in a file, binary or text.  Raises OSError if it cannot be read, ValueError if it holds none."""
    from google.protobuf import text_format
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

    with open(filename, "rb") as file:
        data = file.read()
    result = MetaGraphDef()
    try:
        result.ParseFromString(data)
    except DecodeError:
        result.Clear()
    if result.graph_def.node or (data and result.ListFields()):
        return result
    try:
        text_format.Parse(data.decode(), result)
    except (UnicodeDecodeError, text_format.ParseError) as error:
        raise ValueError(
            f"Cannot parse file {os.fspath(filename)}: it is no MetaGraphDef ({error})"
        ) from None
    return result


def import_meta_graph(
    meta_graph_or_file: Any,
    clear_devices: bool = False,
    import_scope: str | None = None,
    graph: Graph | None = None,
) -> dict[str, Any]:
    """Add the nodes and collections of a MetaGraphDef (or of a file that holds one) to the default graph or to `graph`.

    clear_devices: forget where nodes were placed.  import_scope: a name scope for all nodes.  Variables and control-flow contexts
    are objects again, so that `tf.global_variables()` has them and gradients go through imported loops and branches.

    Returns the variables by their names without the import scope.  Raises ValueError for a file that holds none and for what
    `import_graph_def` refuses.
    """
    from engine.graph.default import get_default_graph
    from engine.graph.importer import import_graph_def

    message = meta_graph_or_file
    if not hasattr(message, "graph_def"):
        message = read_meta_graph_file(message)
    graph_def = message.graph_def
    if clear_devices:
        graph_def = type(graph_def).FromString(graph_def.SerializeToString())
        for node in graph_def.node:
            node.device = ""
    if graph is None:
        graph = get_default_graph()
    with graph.as_default():
        scope = None
        if import_scope:
            with graph.name_scope(import_scope) as entered:
                scope = entered.rstrip("/")
        outer = graph.get_name_scope()
        operators = (
            message.meta_info_def.stripped_op_list
            if message.meta_info_def.HasField("stripped_op_list")
            else None
        )
        import_graph_def(graph_def, name=f"{scope}/" if scope else "", producer_op_list=operators)
        return _import_collections(graph, message, scope or outer or None)


def _import_collections(graph: Graph, message: Any, scope: str | None) -> dict[str, Any]:
    made: dict[tuple[str, bytes], Any] = {}
    for key in sorted(message.collection_def):
        collection = message.collection_def[key]
        kind = collection.WhichOneof("kind")
        functions = _proto_functions.get(key)
        if kind is None:
            continue
        values = getattr(collection, kind).value
        if functions is not None and kind == "bytes_list":
            # One object, however many collections it is in.
            family = "variable" if key in _VARIABLES else key
            for data in values:
                if (family, data) not in made:
                    definition = functions.message_class().FromString(data)
                    made[family, data] = functions.from_proto(definition, scope)
                graph.add_to_collection(key, made[family, data])
        elif kind == "node_list":
            for name in values:
                graph.add_to_collection(key, graph.as_graph_element(prepend_name_scope(name, scope)))
        else:
            for value in values:
                graph.add_to_collection(key, value)
    prefix = f"{scope}/" if scope else ""
    variables = [item for (family, _), item in made.items() if family == "variable"]
    return {variable.op.name.removeprefix(prefix): variable for variable in variables}


_VARIABLES = (
    GraphKeys.GLOBAL_VARIABLES,
    GraphKeys.LOCAL_VARIABLES,
    GraphKeys.METRIC_VARIABLES,
    GraphKeys.MODEL_VARIABLES,
    GraphKeys.TRAINABLE_VARIABLES,
    GraphKeys.MOVING_AVERAGE_VARIABLES,
    GraphKeys.CONCATENATED_VARIABLES,
    GraphKeys.GLOBAL_STEP,
)
