"""What became of a graph: differences through several stages, chains, histories, of stages made by hand and real ones."""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType
from typing import Any, cast

import numpy as np
import pytest

import engine as tf
from engine.op.registry import OpDef
from engine.passes.stage import Lineage, Stage, StageNode
from engine.types import dtypes
from engine.types.shape import TensorShape
from engine.types.site import Frame, Site
from tracing.stages import RecordedOp
from viz.draw_stages import draw_chain, draw_diff, draw_history
from viz.palette import DARK
from viz.stage_diff import Change, StageDiff, diff, path_between
from viz.stage_model import UnknownName, chain_model, generalized, history
from viz.stage_view import badges, joined, union

CPU = "/job:localhost/replica:0/task:0/device:CPU:"


def node(
    name: str,
    *inputs: str,
    by: str = "built",
    sources: tuple[str, ...] | None = None,
    reason: str = "",
    **more: Any,
) -> StageNode:
    """A node of type Neg, or `type`; its line is that of its name's length."""
    return StageNode(
        name=name,
        opdef=cast(OpDef, RecordedOp(more.get("type", "Neg"))),
        inputs=tuple((text, 0) for text in inputs if not text.startswith("^")),
        control_inputs=tuple(text[1:] for text in inputs if text.startswith("^")),
        attrs=MappingProxyType(more.get("attrs", {})),
        device=more.get("device", ""),
        input_dtypes=(dtypes.float32,) * len(inputs),
        output_dtypes=(dtypes.float32,),
        output_shapes=(TensorShape([2]),),
        site=Site(frames=(Frame("train.py", len(name), "main"),)),
        lineage=Lineage((name,) if sources is None else sources, by, reason),
    )


def stage(
    name: str, *nodes: StageNode, before: Stage | None = None, removed: dict[str, str] | None = None
) -> Stage:
    return Stage(
        name,
        MappingProxyType({each.name: each for each in nodes}),
        before=before,
        removed=MappingProxyType(removed or {}),
    )


@pytest.fixture
def chain() -> Stage:
    """built: a → b → c, a twin of b, and d by itself; cse merges the twin; fuse makes b and c one; then all of it is placed."""
    a, b, c, twin, d = node("a"), node("b", "a"), node("c", "b"), node("twin", "a"), node("d", "twin")
    built = stage("built", a, b, c, twin, d)
    cse = stage(
        "optimized/cse",
        a,
        node("b", "a", by="optimized/cse", sources=("b", "twin"), reason="computes the same as 'b'"),
        c,
        node("d", "b", by="optimized/cse", reason="computes the same as 'b'"),
        before=built,
        removed={"twin": "computes the same as 'b'"},
    )
    fuse = stage(
        "optimized/fuse",
        a,
        node("c", "a", by="optimized/fuse", sources=("c", "b"), reason="Neg + Neg as one node", type="Fused"),
        before=cse,
        removed={"d": "nothing needs it since 'c' changed", "b": "part of 'c'"},
    )
    placed = stage(
        "placed",
        node("a", by="placed", reason="it is first", device=CPU + "0"),
        node("c", "a", by="placed", reason="it finishes sooner there", device=CPU + "1", type="Fused"),
        before=fuse,
    )
    return stage(
        "partitioned",
        placed.nodes["a"],
        node("a/send", "a", by="partitioned", sources=("a",), reason="sends a", device=CPU + "0"),
        node("a/recv", by="partitioned", sources=("a",), reason="receives a", device=CPU + "1"),
        node("c", "a/recv", by="partitioned", reason="receives", device=CPU + "1", type="Fused"),
        before=placed,
    )


def by_name(found: StageDiff) -> dict[str, str]:
    return {change.name: change.letters for change in found.changes.values()}


def test_one_stage_at_a_time(chain: Stage) -> None:
    built, cse, fuse, placed, parts = chain.chain()
    assert by_name(diff(built, cse)) == {
        "twin": "&",
        "d": "~",
    }  # b is as it was, though the twin is part of it now
    assert by_name(diff(cse, fuse)) == {"c": "~", "b": "&", "d": "-"}
    assert by_name(diff(fuse, placed)) == {"a": ">", "c": ">"}
    assert by_name(diff(placed, parts)) == {"a/send": "+", "a/recv": "+", "c": "~"}
    assert diff(built, built).changes == {} and diff(built, built).kept == 5


def test_lineages_are_followed_through_several_stages(chain: Stage) -> None:
    built, *_, parts = chain.chain()
    found = diff(built, parts)
    assert by_name(found) == {
        "a": ">",
        "a/send": "+",
        "a/recv": "+",
        "c": "~>",
        "b": "&",
        "twin": "&",
        "d": "-",
    }
    assert found.counts == {
        Change.ADDED: 2, Change.REMOVED: 1, Change.MERGED: 2, Change.REWRITTEN: 1, Change.MOVED: 2,
    }  # fmt: skip
    assert found.kept == 0
    c = found.changes["c"]
    assert set(c.sources) == {"c", "b", "twin"}
    assert [reason.stage for reason in c.reasons] == ["optimized/fuse", "placed", "partitioned"]
    assert c.details == ("Neg → Fused", "reads a/recv instead of b", "(any) → CPU:1")
    assert c.place == "train.py:1" and c.frame is not None and c.frame.function == "main"
    assert found.changes["twin"].into == ("c",)  # through b, which is part of c by now
    assert found.changes["twin"].reasons[0] == ("optimized/cse", "computes the same as 'b'")
    (gone,) = found.of(Change.REMOVED)
    assert (gone.name, gone.reasons[-1].stage) == ("d", "optimized/fuse")


def test_every_node_is_accounted_for(chain: Stage) -> None:
    stages = chain.chain()
    for i, before in enumerate(stages):
        for after in stages[i:]:
            found = diff(before, after)
            gone = sum(change.is_gone for change in found.changes.values())
            added = found.counts[Change.ADDED]
            changed = len(found.changes) - gone - added
            assert found.kept + changed + added == len(after)
            assert found.kept + changed + gone == len(before)


def test_stages_of_other_chains_are_refused(chain: Stage) -> None:
    built, cse, *_ = chain.chain()
    with pytest.raises(ValueError, match="is no stage before 'built'"):
        diff(cse, built)
    assert [each.name for each in path_between(built, cse)] == ["optimized/cse"]


def test_a_name_that_is_used_again_for_another_node() -> None:
    built = stage("built", node("a"), node("b", "a"))
    later = stage(
        "optimized/x",
        node("b", by="optimized/x", sources=(), reason="made"),
        before=built,
        removed={"a": "gone", "b": "out"},
    )
    found = diff(built, later)
    assert sorted((change.name, change.letters) for change in found.changes.values()) == [
        ("a", "-"), ("b", "+"), ("b", "-"),
    ]  # fmt: skip


def test_history_of_a_node_that_becomes_part_of_another(chain: Stage) -> None:
    model = chain_model(chain)
    rows = history(model, "twin")
    assert [(row.stage, row.names) for row in rows] == [
        ("built", ("twin",)),
        ("optimized/cse", ("b",)),
        ("optimized/fuse", ("c",)),
        ("placed", ("c",)),
        ("partitioned", ("c",)),
    ]
    assert rows[1].changes == (Change.MERGED,) and rows[3].changes == (Change.MOVED,)
    rows = history(model, "d")
    assert [row.stage for row in rows] == ["built", "optimized/cse", "optimized/fuse"]
    assert rows[-1].names == () and rows[-1].changes == (Change.REMOVED,)
    assert history(model, "a/recv")[0].stage == "built"  # what it came from, back to the program


def test_names_that_are_not_there(chain: Stage) -> None:
    model = chain_model(chain)
    assert model.find("fuse").name == "optimized/fuse" and model.find("placed").name == "placed"
    with pytest.raises(UnknownName, match="did you mean 'optimized/fuse'"):
        model.find("fus")
    with pytest.raises(UnknownName, match="there is no stage 'zzz'; the stages: built, optimized/cse"):
        model.find("zzz")
    with pytest.raises(UnknownName, match="there is no node 'twinn'; did you mean 'twin'"):
        history(model, "twinn")


def test_reasons_of_one_kind_are_told_of_together() -> None:
    known = {"w/read": 0, "loss": 0, "a_1": 0}
    assert generalized("its inputs are constants: 'loss', 'w/read'", known) == "its inputs are constants: …"
    assert generalized("sends w/read:0 from CPU:0 to CPU:1", known) == "sends … from CPU:0 to CPU:1"
    assert generalized("dividing by one changes nothing", known) == "dividing by one changes nothing"


def test_drawings_fit_into_eighty_cells(chain: Stage) -> None:
    model = chain_model(chain)
    built, *_, parts = chain.chain()
    drawings = [draw_chain(model, DARK), draw_diff(diff(built, parts), DARK)]
    drawings.append(draw_history("twin", history(model, "twin"), None, DARK))
    for drawing in drawings:
        assert max(map(len, drawing.rows())) <= 80
    text = "\n".join(drawings[1].rows())
    assert (
        "& twin" in text and "is now part of c" in text and "optimized/cse: computes the same as 'b'" in text
    )
    assert "train.py:1" in text


# Laid over each other.


def test_the_union_has_what_is_gone_and_reads_what_came_of_what_it_read(chain: Stage) -> None:
    built, *_, parts = chain.chain()
    found = diff(built, parts)
    both = union(found)
    assert set(both.nodes) == {"a", "b", "c", "twin", "d", "a/send", "a/recv"}
    assert both.nodes["d"].inputs == (("twin", 0),) and both.nodes["twin"].inputs == (("a", 0),)
    assert "twin" in both.consumers["a"] and parts.nodes.keys() == {"a", "a/send", "a/recv", "c"}
    from viz.graph_model import ScopeTree

    tree = ScopeTree(both)
    marks = {
        key: "".join(text for text, _ in line)
        for key, line in badges(tree.level(), tree, found.changes, DARK).items()
    }
    assert marks["d"] == " -" and marks["c"] == " ~ >"
    assert (
        marks["a/"] == " +2 >1"
    )  # the two transfers, and `a` itself, which is shown in the scope of that name


# Real sessions.


@pytest.fixture
def graph() -> Iterator[tf.Graph]:
    with tf.Graph().as_default() as made:
        yield made


def spread_session() -> tuple[Any, Any]:
    """A session over two devices, and a fetch whose two halves are on one each."""
    x = tf.placeholder(tf.float32, [None, 4], name="x")
    with tf.device("/CPU:0"):
        h = tf.nn.relu(tf.matmul(x, tf.ones([4, 3]) * 2.0, name="first"), name="h")
    with tf.device("/CPU:1"):
        y = tf.reduce_sum(h + tf.zeros([3]) * 1.0, name="y")
    return tf.Session(config=tf.ConfigProto(device_count={"CPU": 2})), y


def test_a_real_chain_from_the_program_to_its_partitions(graph: tf.Graph) -> None:
    session, y = spread_session()
    last = session.stage_for(y, ["x:0"])
    model = chain_model(last)
    names = [each.name for each in model.stages]
    assert names[:2] == ["built", "pruned"] and names[-2:] == ["placed", "partitioned"]
    assert any(name.startswith("optimized/") for name in names)
    assert all(summary.why for summary in model.summaries)
    for before in model.stages:
        found = diff(before, last)
        gone = sum(change.is_gone for change in found.changes.values())
        assert len(before) - gone + found.counts[Change.ADDED] == len(last)
        assert all(change.reasons for change in found.changes.values() if change.is_gone)
    whole = diff(model.stages[0], last)
    sends = [change for change in whole.of(Change.ADDED) if change.type == "_Send"]
    assert sends and all(change.place.startswith("test_stages.py:") for change in sends)
    view = joined(last)
    (recv,) = [each for each in view if each.type == "_Recv" and "h" in each.inputs[0][0]]
    assert view.nodes[recv.inputs[0][0]].type == "_Send" and last.nodes[recv.name].inputs == ()
    assert session.run(y, {"x:0": np.ones((2, 4), np.float32)}) == pytest.approx(48.0)


def test_loops_and_conditionals_go_through_too(graph: tf.Graph) -> None:
    x = tf.placeholder_with_default(1.0, [], name="x")
    total = tf.while_loop(lambda i, v: i < 3, lambda i, v: (i + 1, v * 1.0 + x), [0, x], name="loop")[1]
    y = tf.cond(x > 0.0, lambda: total + 0.0, lambda: tf.negative(x), name="if")
    last = tf.Session().stage_for(y)
    for stage_ in last.chain():
        found = diff(stage_, last)
        assert {change.name for change in found.changes.values() if not change.is_gone} <= set(last.nodes)
        for change in found.changes.values():
            assert not change.into or set(change.into) <= set(last.nodes)
