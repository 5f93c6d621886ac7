"""MetaGraphDefs: graphs whose loops and branches know what they are after a journey, also from and to TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from meta_graph_program import answers, build, gradients

import engine as tf
from engine.control.context import CondContext, WhileContext
from engine.graph.control_flow_def import messages
from engine.graph.meta_graph import (
    export_meta_graph,
    import_meta_graph,
    prepend_name_scope,
    read_meta_graph_file,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "meta_graph"


def computed(source: str) -> list[Any]:
    with np.load(GOLDEN / "answers.npz") as file:
        return [file[f"{source} {i}"] for i in range(6)]


def check(found: list[Any], wanted: list[Any]) -> None:
    for mine, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


def test_a_graph_that_tensorflow_exported_gives_its_gradients_here() -> None:
    import_meta_graph(GOLDEN / "tensorflow.pb")
    with tf.Session() as session:
        check(answers(tf, session, gradients(tf, tf.get_default_graph())), computed("built"))


def test_tensorflow_computed_the_same_from_what_we_exported() -> None:
    check(computed("ours"), computed("built"))
    build(tf)
    now = export_meta_graph()
    then = read_meta_graph_file(GOLDEN / "ours.pb")
    assert now == then  # what TensorFlow read is what we still write


def test_what_we_export_is_what_tensorflow_exports() -> None:
    build(tf)
    mine, theirs = export_meta_graph(), read_meta_graph_file(GOLDEN / "tensorflow.pb")
    assert {n.name: (n.op, list(n.input)) for n in mine.graph_def.node} == {
        n.name: (n.op, list(n.input)) for n in theirs.graph_def.node
    }
    assert sorted(mine.collection_def) == sorted(theirs.collection_def)
    for key, collection in theirs.collection_def.items():
        if "context" not in key:
            assert mine.collection_def[key] == collection
            continue
        kind = messages().WhileContextDef if key == "while_context" else messages().CondContextDef
        pairs = zip(mine.collection_def[key].bytes_list.value, collection.bytes_list.value, strict=True)
        assert all(kind.FromString(a) == kind.FromString(b) for a, b in pairs)


@pytest.mark.parametrize("scope", [None, "again"])
@pytest.mark.parametrize("text", [False, True])
def test_a_round_trip_through_a_file(tmp_path: Path, scope: str | None, text: bool) -> None:
    build(tf)
    with tf.Session() as session:
        wanted = answers(tf, session, gradients(tf, tf.get_default_graph()))
    export_meta_graph(str(tmp_path / "graph.meta"), as_text=text)
    with tf.Graph().as_default() as graph:
        import_meta_graph(tmp_path / "graph.meta", import_scope=scope)
        prefix = f"{scope}/" if scope else ""
        result, x, v = (graph.get_tensor_by_name(f"{prefix}{name}:0") for name in ("result", "x", "v"))
        grads = tf.gradients(result, [x, v])
        found = []
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            for p in (True, False):
                found.extend(session.run([result, *grads], {x: [0.3, -0.5, 0.8], f"{prefix}p:0": p}))
    check(found, wanted)


def test_one_graph_imported_twice_has_two_of_each_frame() -> None:
    build(tf)
    message = export_meta_graph()
    with tf.Graph().as_default() as graph:
        import_meta_graph(message, import_scope="one")
        import_meta_graph(message, import_scope="two")
        frames = {op.attrs["frame_name"] for op in graph.get_operations() if op.type == "Enter"}
        assert {"one/while/while_context", "two/while/while_context"} <= frames
        results = [graph.get_tensor_by_name(f"{scope}/result:0") for scope in ("one", "two")]
        (grad,) = tf.gradients(results[1], graph.get_tensor_by_name("two/x:0"))
        feeds = {
            f"{scope}/{name}": value
            for scope in ("one", "two")
            for name, value in (("x:0", [0.3, -0.5, 0.8]), ("p:0", True))
        }
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            one, two, slope = session.run([*results, grad], feeds)
    check([one, two, slope], [computed("built")[0], computed("built")[0], computed("built")[1]])


def test_contexts_are_what_they_were() -> None:
    build(tf)
    before = tf.get_default_graph()
    message = export_meta_graph()
    with tf.Graph().as_default() as graph:
        import_meta_graph(message)
        for op in before.get_operations():
            mine, theirs = graph.get_operation_by_name(op.name)._context, op._context
            assert type(mine) is type(theirs)
            if theirs is None:
                continue
            assert mine.name == theirs.name
            assert (mine.outer and mine.outer.name) == (theirs.outer and theirs.outer.name)
            assert {t.name for t in mine.known} == {t.name for t in theirs.known}
            if isinstance(mine, WhileContext):
                assert mine.parallel_iterations == theirs.parallel_iterations
                assert [t.name for t in mine.loop_exits] == [t.name for t in theirs.loop_exits]
            else:
                assert isinstance(mine, CondContext)
                assert (mine.branch, mine.pred.name, mine.pivot.name) == (
                    theirs.branch,
                    theirs.pred.name,
                    theirs.pivot.name,
                )


def test_collections_and_variables() -> None:
    build(tf)
    message = export_meta_graph()
    with tf.Graph().as_default() as graph:
        variables = import_meta_graph(message)
        assert sorted(variables) == ["v", "w"]
        assert tf.global_variables() == [variables["v"], variables["w"]]  # the same objects
        assert tf.trainable_variables() == [variables["v"]]
        assert not variables["w"].trainable
        assert variables["v"].initial_value.name == "v/initial_value:0"
        assert tf.get_collection("results") == [graph.get_tensor_by_name("result:0")]
        assert tf.get_collection("operations") == [graph.get_operation_by_name("result")]
        assert tf.get_collection("numbers") == [3]
        assert tf.get_collection("rates") == [0.25]
        assert tf.get_collection("texts") == [b"a text"]
        assert len(tf.get_collection("while_context")) == 1
        assert len(tf.get_collection("cond_context")) == 2
        with tf.Session() as session:
            session.run(variables["v"].initializer)
            np.testing.assert_array_equal(session.run(variables["v"].assign_add([1.0, 1.0, 1.0])), [2, 3, 4])


def test_a_variable_to_its_message_and_back() -> None:
    v = tf.Variable(2.0, name="v", trainable=False)
    again = tf.Variable.from_proto(v.to_proto())
    assert (again.name, again.initializer, again.trainable) == (v.name, v.initializer, False)


def test_a_context_to_its_message_and_back() -> None:
    tf.while_loop(lambda i: i < 3, lambda i: i + 1, [0], maximum_iterations=5, swap_memory=True)
    (context,) = tf.get_collection("while_context")
    message = context.to_proto()
    assert message.maximum_iterations_name == "while/maximum_iterations:0"
    assert message.swap_memory
    assert WhileContext.from_proto(message).to_proto() == message


def test_some_collections_no_devices_and_other_parts() -> None:
    with tf.device("/device:CPU:0"):
        x = tf.constant(1.0, name="x")
    tf.add_to_collection("mine", x)
    tf.add_to_collection("other", x)
    message = export_meta_graph(collection_list=["mine"])
    assert list(message.collection_def) == ["mine"]
    assert message.graph_def.node[0].device == "/device:CPU:0"
    assert export_meta_graph(clear_devices=True).graph_def.node[0].device == ""
    assert tf.get_default_graph().get_operation_by_name("x").device == "/device:CPU:0"
    with tf.Graph().as_default() as graph:
        import_meta_graph(message, clear_devices=True)
        assert graph.get_operation_by_name("x").device == ""
        assert message.graph_def.node[0].device == "/device:CPU:0"


@pytest.mark.parametrize("items", [[object()], [3, "three"], [0.5, "half"]])
def test_what_no_message_can_hold_is_left_out_with_a_warning(items: list[Any]) -> None:
    for item in items:
        tf.add_to_collection("odd", item)
    tf.add_to_collection("fine", 1)
    with pytest.warns(UserWarning, match="'odd' is left out"):
        message = export_meta_graph()
    assert list(message.collection_def) == ["fine"]


def test_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "nothing.meta"
    path.write_bytes(b"\x89PNG\r\n")
    with pytest.raises(ValueError, match="Cannot parse file .*nothing.meta"):
        import_meta_graph(path)
    with pytest.raises(OSError, match="missing"):
        import_meta_graph(tmp_path / "missing.meta")


def test_names_in_scopes() -> None:
    assert prepend_name_scope("a", None) == "a"
    assert prepend_name_scope("a:0", "s/") == "s/a:0"
    assert prepend_name_scope("^a", "s") == "^s/a"
    assert prepend_name_scope("loc:@a", "s") == "loc:@s/a"
