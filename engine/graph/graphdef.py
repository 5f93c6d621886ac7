"""Graphs as GraphDef messages, and those in files, binary or text.

The other way, from a GraphDef to nodes, is `import_graph_def`, in `engine.graph.importer`.
"""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING, Any

from engine.graph.attr_value import attr_to_proto
from engine.graph.function_def import graph_library
from engine.graph.importer import import_graph_def

if TYPE_CHECKING:
    from engine.graph.graph import Graph
    from engine.graph.operation import Operation

__all__ = [
    "graph_to_def",
    "import_graph_def",
    "node_to_def",
    "parse_graph_def",
    "read_graph",
    "write_graph",
]


def node_to_def(op: Operation) -> Any:
    """`op` as a NodeDef: data inputs, then control inputs by name (as TensorFlow writes them), all attrs (defaults too)."""
    from tensorboard.compat.proto.node_def_pb2 import NodeDef

    node = NodeDef(name=op.name, op=op.type, device=op.device)
    node.input.extend([tensor._as_node_def_input() for tensor in op._inputs])
    node.input.extend(sorted("^" + source.name for source in op._control_inputs))
    specs = op.opdef.signature.attrs
    for name, value in op.attrs.items():
        if value is not None:
            try:
                node.attr[name].CopyFrom(attr_to_proto(value, specs.get(name)))
            except (TypeError, ValueError) as error:
                raise type(error)(f"attr '{name}' of '{op.name}' ({op.type}): {error}") from error
    return node


def graph_to_def(graph: Graph, from_version: int | None = None, add_shapes: bool = False) -> Any:
    """`graph` as a GraphDef, its nodes in the order in which they were added.

    from_version: only nodes added after `graph.version` was that.  add_shapes: put the static shapes of the outputs into the
    attr `_output_shapes`.
    """
    from tensorboard.compat.proto.graph_pb2 import GraphDef

    result = GraphDef()
    with graph._lock:
        result.versions.producer = graph._versions_producer
        for op in graph._get_operations_after(from_version or 0):
            node = result.node.add()
            node.CopyFrom(node_to_def(op))
            if add_shapes and op.outputs:
                shapes = tuple(tensor.shape for tensor in op.outputs)
                node.attr["_output_shapes"].CopyFrom(attr_to_proto(shapes))
        library = graph_library(graph)
        if library is not None:
            result.library.CopyFrom(library)
    return result


def write_graph(graph_or_graph_def: Any, logdir: str, name: str, as_text: bool = True) -> str:
    """Write a Graph or GraphDef to the file `name` in `logdir` (made if need be), and give its path.

    The file is replaced as a whole: whoever reads it sees the old one or the new one.  Raises OSError where it cannot be written.
    """
    from google.protobuf import text_format

    message = graph_or_graph_def
    if not hasattr(message, "SerializeToString"):
        message = graph_to_def(message)
    data = text_format.MessageToString(message).encode() if as_text else message.SerializeToString()
    path = os.path.join(logdir, name)
    folder = os.path.dirname(path) or "."
    os.makedirs(folder, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{os.path.basename(path)}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes it the user's alone
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return path


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def read_graph(path: str | os.PathLike[str]) -> Any:
    """The GraphDef in a file, binary or text.  Raises OSError if it cannot be read, ValueError if it holds no GraphDef."""
    with open(path, "rb") as file:
        data = file.read()
    return parse_graph_def(data, os.fspath(path))


def parse_graph_def(data: bytes, what: str = "The data") -> Any:
    """The GraphDef in `data`, binary or text; `what` is what the error calls it.  Raises ValueError if it is neither."""
    from google.protobuf import text_format
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.graph_pb2 import GraphDef

    if not data.strip():
        raise ValueError(f"{what} is empty: it holds no GraphDef")
    result = GraphDef()
    try:
        result.ParseFromString(data)
    except DecodeError:
        pass  # then it may be text
    else:
        if _sensible(result):
            return result
    result.Clear()
    reason = ""
    try:
        text_format.Parse(data.decode(), result)
    except UnicodeDecodeError:
        pass
    except text_format.ParseError as error:
        reason = f" (as text, line {error})"
    else:
        if _sensible(result):
            return result
    raise ValueError(f"{what} is not a GraphDef, neither binary nor text{reason}")


def _sensible(graph_def: Any) -> bool:
    """Whether it was a GraphDef that was parsed: the wire format takes many other messages for one, with odd contents."""
    if graph_def.node:
        return all(node.name and node.op for node in graph_def.node)
    return bool(graph_def.HasField("versions"))
