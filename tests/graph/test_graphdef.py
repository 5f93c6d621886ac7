"""GraphDefs in and out: TensorFlow's graphs come back as they were, and what cannot be built is said clearly."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from tensorboard.compat.proto import graph_pb2, op_def_pb2

import engine
import engine.op.flow
import engine.op.passing
import engine.op.placeholder  # noqa: F401 (registers its ops, as the others do)
from engine.graph.graph import Graph
from engine.graph.graphdef import (
    graph_to_def,
    import_graph_def,
    parse_graph_def,
    read_graph,
    write_graph,
)
from engine.graph.tensor_proto import proto_to_array
from engine.op import registry
from engine.op.const import constant
from engine.op.registry import raw
from engine.op.samples import untested
from engine.types import dtypes
from engine.types.shape import TensorShape

TF_GRAPHS = sorted((Path(__file__).parents[1] / "golden" / "tf_graphs").glob("*/graph.pb"))

FLOAT = "attr {key: 'T' value {type: DT_FLOAT}}"
A = "node {name: 'A' op: 'Placeholder' attr {key: 'dtype' value {type: DT_FLOAT}}}"
B = f"node {{name: 'B' op: 'Identity' input: 'A' {FLOAT}}}"


def parsed(text: str) -> Any:
    return text_format.Parse(text, graph_pb2.GraphDef())


@pytest.fixture
def graph() -> Iterator[Graph]:
    made = Graph()
    with made.as_default():
        yield made


def names(graph: Graph) -> list[str]:
    return [op.name for op in graph.get_operations()]


def assert_same_nodes(found: Any, expected: Any) -> None:
    """Equal in every field but the order of nodes and the form of tensors."""
    by_name = {node.name: node for node in found.node}
    assert set(by_name) == {node.name for node in expected.node}
    for node in expected.node:
        other = by_name[node.name]
        assert (other.op, list(other.input), other.device) == (node.op, list(node.input), node.device)
        assert set(other.attr) >= set(node.attr)
        for key, value in node.attr.items():
            if value.WhichOneof("value") == "tensor":
                a, b = proto_to_array(other.attr[key].tensor), proto_to_array(value.tensor)
                assert a.dtype == b.dtype
                assert a.shape == b.shape
                assert a.tolist() == b.tolist()
            else:
                assert other.attr[key] == value, (node.name, key)


def ops_of(path: Path) -> set[str]:
    return {node.op for node in read_graph(path).node}


@pytest.mark.parametrize("path", TF_GRAPHS, ids=lambda path: path.parent.name)
def test_tensorflows_graphs_come_back_as_they_were(path: Path, graph: Graph) -> None:
    graph_def = read_graph(path)
    missing = sorted({op for op in ops_of(path) if registry.lookup(op) is None})
    if missing:
        with pytest.raises(ValueError, match="no op of type") as caught:
            import_graph_def(graph_def, name="")
        assert all(op in str(caught.value) for op in missing)
        assert names(graph) == []
        return
    import_graph_def(graph_def, name="")
    assert_same_nodes(graph.as_graph_def(), graph_def)
    again = Graph()
    with again.as_default():
        import_graph_def(graph.as_graph_def(), name="")
    assert_same_nodes(again.as_graph_def(), graph.as_graph_def())


# Attrs.


@pytest.fixture
def every_kind() -> Iterator[registry.OpDef]:
    """An op with an attr of each kind, for the time of a test."""
    yield registry.op(
        "EveryKind(; t: type, i: int, f: float, b: bool, s: string, sh: shape, te: tensor, "
        "lt: list(type), li: list(int), lf: list(float), lb: list(bool), ls: list(string), lsh: list(shape), "
        "lte: list(tensor), d: int = 7) -> ",
        kernel=lambda k: (),
        samples=untested("tests/graph/test_graphdef.py"),
    )
    del registry._ops["EveryKind"]


def test_attrs_of_every_kind(every_kind: registry.OpDef, graph: Graph) -> None:
    values: dict[str, Any] = {
        "t": dtypes.bfloat16,
        "i": -(2**62),
        "f": 0.5,
        "b": True,
        "s": b"\xff\x00bytes".decode("utf-8", "surrogateescape"),
        "sh": TensorShape([None, 3]),
        "te": np.array([[1, 2]], np.int16),
        "lt": (dtypes.string, dtypes.resource),
        "li": (1, 2),
        "lf": (math.inf, -1.25),
        "lb": (False, True),
        "ls": ("a", "é"),
        "lsh": (TensorShape(None), TensorShape([])),
        "lte": (np.array(1.0), np.array([b"x", b"y"], object)),
    }
    extra = {
        "_class": ("loc:@e",),
        "_i": 3,
        "_empty": (),
        "_b": True,
        "_t": dtypes.float32_ref,
        "_te": np.array([True]),
        "_f": 0.25,
        "_sh": (TensorShape([2]),),
    }
    graph.create_op("EveryKind", [], [], name="e", attrs={**values, **extra})
    graph_def = graph.as_graph_def()
    assert graph_def.node[0].attr["s"].s == b"\xff\x00bytes"
    assert graph_def.node[0].attr["d"].i == 7
    assert graph_def.node[0].attr["_empty"].WhichOneof("value") == "list"
    read = parse_graph_def(text_format.MessageToString(graph_def).encode())
    assert read == graph_def
    other = Graph()
    with other.as_default():
        [op] = import_graph_def(read, return_elements=["e"], name="") or []
    assert other.as_graph_def() == graph_def
    for name, value in {**values, **extra, "d": 7}.items():
        found = op.attrs[name]
        if name in ("te", "_te", "lte"):
            pairs = zip(found, value) if name == "lte" else [(found, value)]
            for a, b in pairs:
                assert a.dtype == b.dtype
                assert a.tolist() == b.tolist()
                assert not a.flags.writeable
        else:
            assert found == value, name
            assert type(found) is type(value), name


def test_empty_lists_and_defaults(every_kind: registry.OpDef, graph: Graph) -> None:
    lists = " ".join(
        f"attr {{key: '{key}' value {{list {{}}}}}}" for key in ("lt", "li", "lf", "lb", "ls", "lsh", "lte")
    )
    scalars = (
        "attr {key: 't' value {type: DT_INT8}} attr {key: 'i' value {i: 1}} attr {key: 'f' value {f: 1}} "
        "attr {key: 'b' value {b: false}} attr {key: 's' value {s: ''}} attr {key: 'sh' value {shape {}}} "
        "attr {key: 'te' value {tensor {dtype: DT_INT8 tensor_shape {}}}}"
    )
    import_graph_def(parsed(f"node {{name: 'e' op: 'EveryKind' {lists} {scalars}}}"), name="")
    attrs = graph.get_operation_by_name("e").attrs
    assert attrs["li"] == attrs["lte"] == ()
    assert attrs["d"] == 7
    assert attrs["b"] is False
    assert attrs["s"] == ""
    assert attrs["sh"] == TensorShape([])
    assert attrs["te"].shape == ()


# What is exported.


def test_from_version_and_shapes(graph: Graph) -> None:
    first = constant([[1.0, 2.0]], name="first")
    version = graph.version
    with graph.control_dependencies([first]), graph.device("/job:ps/cpu:0"):
        raw.Identity(raw.Placeholder(dtype="float32", shape=[None, 3], name="p"), name="second")
    later = graph_to_def(graph, from_version=version, add_shapes=True)
    assert [node.name for node in later.node] == ["p", "second"]
    assert list(later.node[1].input) == ["p"]
    assert list(later.node[0].input) == ["^first"]
    assert later.node[1].device == "/job:ps/device:CPU:0"
    [shape] = later.node[1].attr["_output_shapes"].list.shape
    assert [dim.size for dim in shape.dim] == [-1, 3]
    assert len(graph.as_graph_def().node) == 3
    assert graph.as_graph_def().versions.producer > 0


def test_output_shapes_refine_what_is_inferred(graph: Graph) -> None:
    shaped = A.replace("attr", "attr {key: '_output_shapes' value {list {shape {dim {size: 2}}}}} attr", 1)
    [a, b] = import_graph_def(parsed(shaped + B), return_elements=["A:0", "B:0"]) or []
    assert a.shape.as_list() == b.shape.as_list() == [2]
    wrong = B.replace("attr", "attr {key: '_output_shapes' value {list {shape {dim {size: 3}}}}} attr", 1)
    with pytest.raises(ValueError, match=r"Node 'B'.*_output_shapes.*\(2,\)"):
        import_graph_def(parsed(shaped + wrong))


# Names, maps and returned elements.


def test_scopes_and_unique_names(graph: Graph) -> None:
    graph_def = parsed(A + B)
    assert import_graph_def(graph_def) is None
    import_graph_def(graph_def)
    import_graph_def(graph_def, name="s/t")
    import_graph_def(graph_def, name="")
    with graph.name_scope("outer"):
        import_graph_def(graph_def, name="in")
    assert names(graph) == [
        *(
            "import/A",
            "import/B",
            "import_1/A",
            "import_1/B",
            "s/t/A",
            "s/t/B",
            "A",
            "B",
            "outer/in/A",
            "outer/in/B",
        )
    ]
    assert graph.get_tensor_by_name("outer/in/B:0").op.inputs[0].name == "outer/in/A:0"


def test_taken_names_get_a_number_that_nothing_else_has(graph: Graph) -> None:
    taken = A + B + B.replace("'B'", "'B_1'").replace("'A'", "'B'") + B.replace("'B'", "'b'")
    import_graph_def(parsed(B.replace("'A'", "'a'") + A.replace("'A'", "'a'")), name="")
    [op] = import_graph_def(parsed(taken), return_elements=["B"], name="") or []
    assert op.name == "B_2"
    assert names(graph) == ["a", "B", "A", "B_2", "B_1", "b"]
    assert graph.get_operation_by_name("B_1").inputs[0].name == "B_2:0"
    assert constant(1.0, name="B_2").op.name == "B_2_1"


def test_returned_elements(graph: Graph) -> None:
    found = import_graph_def(parsed(A + B), return_elements=["B", "A:0", "B:0"]) or []
    assert [item.name for item in found] == ["import/B", "import/A:0", "import/B:0"]
    assert import_graph_def(parsed(A), return_elements=[]) == []


@pytest.mark.parametrize("key", ["A", "A:0"])
def test_input_map(graph: Graph, key: str) -> None:
    mine = constant(2.0, name="mine")
    [b, a, waits] = (
        import_graph_def(
            parsed(A + B + "node {name: 'n' op: 'NoOp' input: '^A'}"),
            input_map={key: mine},
            return_elements=["B", "A:0", "n"],
        )
        or []
    )
    assert b.inputs == (mine,)
    assert a is mine
    assert [op.name for op in waits.control_inputs] == ["import/A"]


def test_input_map_for_nodes_that_are_not_there(graph: Graph) -> None:
    mine = constant(2.0, name="mine")
    node = B.replace("input: 'A'", "input: 'gone:1' input: '^lost'")
    [b] = import_graph_def(parsed(node), {"gone:1": mine, "^lost": mine.op}, ["B"]) or []
    assert b.inputs == (mine,)
    assert b.control_inputs == [mine.op]


def test_control_inputs_can_be_mapped_to_tensors(graph: Graph) -> None:
    mine = constant(2.0, name="mine")
    [b] = import_graph_def(parsed(A + B.replace("'A'", "'A' input: '^A'")), {"^A": mine}, ["B"]) or []
    assert b.control_inputs == [mine.op]
    assert b.inputs[0].name == "import/A:0"


def test_mapped_values_are_converted(graph: Graph) -> None:
    import_graph_def(parsed(A + B), input_map={"A:0": 3.0})
    assert "import/_inputs/Const" in names(graph)
    with pytest.raises(ValueError, match="non-empty `name`"):
        import_graph_def(parsed(A + B), input_map={"A:0": 3.0}, name="")


def test_the_graph_of_mapped_tensors_is_where_the_nodes_go(graph: Graph) -> None:
    other = Graph()
    with other.as_default():
        mine = constant(1.0, name="mine")
    import_graph_def(parsed(A + B), {"A": mine})
    assert names(graph) == []
    assert names(other) == ["mine", "import/A", "import/B"]


# Surroundings.


def test_devices(graph: Graph) -> None:
    on_gpu = A.replace("op:", "device: '/gpu:1' op:")
    with graph.device("/job:worker/device:CPU:0"):
        import_graph_def(parsed(on_gpu + B))
    assert graph.get_operation_by_name("import/A").device == "/job:worker/device:GPU:1"
    assert graph.get_operation_by_name("import/B").device == "/job:worker/device:CPU:0"


def test_colocation_follows_the_new_names(graph: Graph) -> None:
    coloc = "attr {key: '_class' value {list {s: 'loc:@A' s: 'other'}}} attr"
    on_gpu = A.replace("op:", "device: '/gpu:1' op:")
    import_graph_def(parsed(on_gpu + B.replace("attr", coloc, 1)))
    b = graph.get_operation_by_name("import/B")
    assert b.attrs["_class"] == ("loc:@import/A", "other")
    assert b.colocation_groups() == [b"loc:@import/A"]
    assert b.device == "/device:GPU:1"
    with pytest.raises(ValueError, match=r"Node 'B'.*colocated with 'A'"):
        import_graph_def(parsed(B.replace("attr", coloc, 1)), {"A": b.outputs[0]})


def test_surrounding_control_dependencies_stay_outside(graph: Graph) -> None:
    with graph.control_dependencies([constant(1.0)]):
        import_graph_def(parsed(A + B))
    assert graph.get_operation_by_name("import/A").control_inputs == []


def test_any_order_of_nodes_and_repeated_control_inputs(graph: Graph) -> None:
    import_graph_def(
        parsed(B.replace("'A'", "'A' input: '^C' input: '^C'") + A + A.replace("'A'", "'C'")), name=""
    )
    assert names(graph) == ["A", "C", "B"]
    assert [op.name for op in graph.get_operation_by_name("B").control_inputs] == ["C"]


LOOP = """
node {name: 'next' op: 'NextIteration' input: 'body' attr {key: 'T' value {type: DT_FLOAT}}}
node {name: 'zero' op: 'Const' attr {key: 'dtype' value {type: DT_FLOAT}}
      attr {key: 'value' value {tensor {dtype: DT_FLOAT tensor_shape {}}}}}
node {name: 'enter' op: 'Enter' input: 'zero' attr {key: 'T' value {type: DT_FLOAT}} attr {key: 'frame_name' value {s: 'f'}}}
node {name: 'merge' op: 'Merge' input: 'enter' input: 'next' attr {key: 'T' value {type: DT_FLOAT}} attr {key: 'N' value {i: 2}}}
node {name: 'body' op: 'Identity' input: 'merge' attr {key: 'T' value {type: DT_FLOAT}}}
"""


def test_loops_are_closed(graph: Graph) -> None:
    import_graph_def(parsed(LOOP), name="s")
    assert sorted(names(graph)) == ["s/body", "s/enter", "s/merge", "s/next", "s/zero"]
    merge, following = (graph.get_operation_by_name(name) for name in ("s/merge", "s/next"))
    assert [tensor.name for tensor in merge.inputs] == ["s/enter:0", "s/next:0"]
    assert following.outputs[0].consumers() == [merge]
    assert graph.get_tensor_by_name("s/enter:0").consumers() == [merge]
    assert merge.outputs[0].shape.ndims is None  # what comes back might have another shape
    assert graph.get_operation_by_name("s/enter").attrs["frame_name"] == "f"


# What cannot be built.


@pytest.mark.parametrize(
    "text, arguments, message",
    [
        (
            A + "node {name: 'x' op: 'Identitty'}",
            {},
            "Node 'x': no op of type 'Identitty'.*'Identity'.*registered by",
        ),
        (
            "node {name: 'x' op: 'Nope'} node {name: 'y' op: 'Nada'}",
            {},
            "'Nope'.*Not registered either: Nada",
        ),
        (B, {}, "Node 'B': its input node 'A' is not in the GraphDef"),
        (A.replace("'A'", "'AA'") + B, {}, "'A' is not.*Did you mean 'AA'"),
        (A + B.replace("'A'", "'^Z'"), {}, "Node 'B': its input node 'Z'"),
        (A + A, {}, "Node 'A' is not unique"),
        (A + B.replace("'A'", "'A:1'"), {}, "Node 'B'.*'A:1' does not exist: 'A' has 1 outputs"),
        (A + B.replace("FLOAT", "INT32"), {}, "Node 'B'.*float32.*int32"),
        (A + B.replace("'T'", "'zz'"), {}, "Node 'B'.*no attr named 'zz'"),
        (A.replace("DT_FLOAT", "DT_QINT8"), {}, "Node 'A'.*attr 'dtype'.*not a dtype"),
        ("node {name: 'A' op: 'Placeholder'}", {}, "Node 'A'.*'dtype'"),
        (A + B.replace("'A'", "'^A'"), {}, "Node 'B'.*inputs"),
        (A + B.replace("'A'", "'A' input: 'A'"), {}, "Node 'B'.*takes 1 inputs, 2"),
        (
            B.replace("'A'", "'C'") + B.replace("'B'", "'C'").replace("'A'", "'B'"),
            {},
            "cycle: [BC] -> [BC] -> [BC]",
        ),
        (B.replace("'A'", "'B'"), {}, "cycle: B -> B"),
        (
            LOOP.replace("input: 'enter' input: 'next'", "input: 'next' input: 'next'"),
            {},
            "Node 'merge'.*ever enters",
        ),
        (A.replace("'A'", "'a b'"), {}, "'a b' is not|a b.*not a valid"),
        (A.replace("op:", "device: '/nowhere:9' op:"), {}, "Node 'A'.*nowhere"),
        (A + B, {"return_elements": ["C"]}, "return_element 'C' not found"),
        (A + B, {"return_elements": ["B:1"]}, "return_element 'B:1' not found.*1 outputs"),
        (A + B, {"return_elements": ["import/B"]}, "return_element 'import/B' not found"),
        (
            A + B,
            {"input_map": {"C:0": 1.0, "A:2": 1.0, "^D": "q"}},
            r"not found in graph_def: 'C:0', 'A:2', '\^D'",
        ),
        (A + B, {"input_map": {"A": 1}}, "Node 'B'.*int32"),
    ],
)
def test_errors_name_the_node_and_leave_no_trace(
    text: str, arguments: dict[str, Any], message: str, graph: Graph
) -> None:
    raw.NoOp(name="q")
    with pytest.raises(ValueError, match=message):
        import_graph_def(parsed(text), **arguments)
    assert names(graph) == ["q"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"graph_def": "text"}, "must be a GraphDef, not str"),
        ({"graph_def": parsed(A), "input_map": ["A"]}, "input_map"),
        ({"graph_def": parsed(A), "input_map": {1: 2}}, "input_map"),
        ({"graph_def": parsed(A), "return_elements": [1]}, "return_elements"),
    ],
)
def test_arguments_of_the_wrong_type(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        import_graph_def(**arguments)


def test_a_failed_import_leaves_existing_tensors_without_consumers(graph: Graph) -> None:
    mine = constant(1.0, name="mine")
    with pytest.raises(ValueError, match="return_element"):
        import_graph_def(parsed(LOOP + B.replace("'A'", "'zero'")), {"zero": mine}, return_elements=["nope"])
    assert names(graph) == ["mine"]
    assert mine.consumers() == []
    import_graph_def(parsed(LOOP), {"zero": mine})
    assert [op.type for op in mine.consumers()] == ["Enter"]


def test_attrs_of_newer_producers(graph: Graph) -> None:
    def producer(default: str) -> Any:
        return text_format.Parse(
            f"op {{name: 'Identity' attr {{name: 'mode' type: 'string' default_value {{s: '{default}'}}}}}}",
            op_def_pb2.OpList(),
        )

    newer = parsed(A + B.replace("attr", "attr {key: 'mode' value {s: 'fast'}} attr", 1))
    import_graph_def(newer, producer_op_list=producer("fast"), name="")
    assert "mode" not in graph.get_operation_by_name("B").attrs
    with pytest.raises(ValueError, match=r"Node 'B'.*'mode'"):
        import_graph_def(newer, producer_op_list=producer("slow"), name="")


def test_other_packages_messages_are_taken(graph: Graph) -> None:
    other = pytest.importorskip("tensorboardX.proto.graph_pb2")
    message = other.GraphDef.FromString(parsed(A + B).SerializeToString())
    import_graph_def(message, name="")
    assert names(graph) == ["A", "B"]


# Files.


@pytest.mark.parametrize("as_text", [True, False])
def test_files(as_text: bool, tmp_path: Path, graph: Graph) -> None:
    import_graph_def(parsed(LOOP), name="")
    path = write_graph(graph, str(tmp_path / "new" / "folder"), "g.pb", as_text)
    assert path == str(tmp_path / "new" / "folder" / "g.pb")
    assert read_graph(path) == graph.as_graph_def()
    assert (b"node {" in Path(path).read_bytes()) == as_text
    assert write_graph(graph.as_graph_def(), str(tmp_path / "new" / "folder"), "g.pb", as_text) == path
    assert [file.name for file in Path(path).parent.iterdir()] == ["g.pb"]
    assert read_graph(write_graph(Graph(), str(tmp_path), "empty", as_text)).versions.producer > 0


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "is empty"),
        (b"  \n", "is empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(200)), "not a GraphDef, neither binary nor text"),
        (b"import engine as tf\nx = tf.constant(1)\n", "not a GraphDef.*as text, line 1"),
        (b"node {\n  nome: 'x'\n}\n", "as text, line 2.*nome"),
        (b'{"node": []}', "not a GraphDef"),
        (b"\x0a\x02\x08\x01", "not a GraphDef"),
        (parsed(A).SerializeToString()[:-3], "not a GraphDef"),
    ],
)
def test_a_file_that_is_neither(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.bin"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message) as caught:
        read_graph(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nothing"):
        read_graph(tmp_path / "nothing.pb")
