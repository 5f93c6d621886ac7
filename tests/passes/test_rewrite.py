"""Drafts: edits keep edges whole, names unique, waiting as it was, and lineage complete."""

from __future__ import annotations

import pytest
from optimizing import plain

import engine as tf
from engine.passes.check import check
from engine.passes.facts import Facts
from engine.passes.rewrite import Draft
from engine.passes.stage import Stage


def pruned() -> Stage:
    x = tf.placeholder(tf.float32, [2], name="x")
    a = tf.sqrt(x, name="a")
    b = tf.exp(a, name="b")
    with tf.control_dependencies([b]):
        c = tf.negative(a, name="c")
    with tf.Session(config=plain()) as session:
        return session.stage_for([tf.add(b, c, name="d"), tf.group(c, name="all")], [x])


def draft() -> Draft:
    return Draft(pruned(), "optimized/test")


def test_nothing_changed_is_the_same_stage() -> None:
    stage = pruned()
    assert Draft(stage, "optimized/test").finish() is stage


def test_looking() -> None:
    d = draft()
    assert set(d.consumers("b")) == {"c", "d"}
    assert d.readers(("a", 0)) == [("b", 0), ("c", 0)]
    assert d.waiters("b") == ["c"]
    assert d.is_kept("all") and d.is_kept("_retval_d_0_0") and not d.is_kept("a")


def test_what_stays_is_the_same_object_and_what_changes_says_why() -> None:
    d = draft()
    stage = d.stage
    new = d.add("Tanh", [("a", 0)], {}, like=d.nodes["b"], name="b", sources=["b"], reason="tanh is nicer")
    d.redirect(("b", 0), (new, 0), "reads tanh")
    after = d.finish()
    check(after)
    assert new == "b_1" and list(after.nodes).index(new) == list(after.nodes).index("b") - 1
    node = after.nodes[new]
    assert node.attrs["T"] is tf.float32 and node.output_shapes[0].as_list() == [2]
    assert node.site is stage.nodes["b"].site
    assert after.nodes["a"] is stage.nodes["a"] and after.sources("a") == ("a",)
    assert (
        after.sources(new) == ("b",)
        and after.origin(new) == ("b",)
        and set(after.successors["b"]) == {"b", new}
    )
    assert after.nodes["d"].lineage.reason == "reads tanh"
    assert after.nodes["c"].control_inputs == ("b",)  # control edges stay


def test_removing_hands_on_the_waiting() -> None:
    d = draft()
    d.redirect(("b", 0), ("a", 0), "no exp")
    d.remove("b", "nobody reads it")
    after = d.finish()
    check(after)
    assert after.nodes["c"].control_inputs == ("a",)
    assert after.removed == {"b": "nobody reads it"}


def test_merging_joins_lineages() -> None:
    d = draft()
    d.merge("c", "b", "for a test")
    after = d.finish()
    assert after.sources("b") == ("b", "c") and after.removed == {"c": "for a test"}
    assert after.nodes["d"].inputs == (("b", 0), ("b", 0)) and after.nodes["all"].control_inputs == ("b",)


def test_lineage_over_several_edits_and_stages() -> None:
    d = draft()
    first = d.add("Tanh", [("a", 0)], {}, like=d.nodes["b"], name="t", sources=["b"], reason="one")
    d.redirect(("b", 0), (first, 0), "one")
    second = d.add("Sin", [("a", 0)], {}, like=d.nodes[first], name="s", sources=[first, "c"], reason="two")
    d.redirect((first, 0), (second, 0), "two")
    d.cut([first], "made and gone")
    following = d.then("optimized/test/2")
    middle = following.stage
    assert middle.sources(second) == ("b", "c") and first not in middle.removed
    following.replace(second, attrs=middle.nodes[second].attrs, reason="again")
    last = following.finish()
    check(middle)
    check(last)
    assert (
        last.origin(second) == ("b", "c") and [each.name for each in last.chain()][-1] == "optimized/test/2"
    )


def test_what_must_stay_stays() -> None:
    d = draft()
    for name in ("all", "_retval_d_0_0"):
        with pytest.raises(ValueError, match="stays"):
            d.remove(name, "planted")
    with pytest.raises(ValueError, match="reads it"):
        d.remove("a", "planted")
    with pytest.raises(ValueError, match="uses it"):
        d.cut(["a", "b"], "planted")


def test_a_switch_is_not_waited_for_in_place_of_its_output() -> None:
    p = tf.placeholder(tf.bool, [], name="p")
    y = tf.cond(p, lambda: tf.constant(1.0), lambda: tf.constant(2.0), name="choose")
    with tf.Session(config=plain()) as session:
        d = Draft(session.stage_for(y, [p]), "optimized/test")
    with pytest.raises(ValueError, match="Switch"):
        d.remove("choose/switch_t", "planted")


def test_sweeping_removes_what_leads_nowhere_loops_too() -> None:
    n = tf.placeholder(tf.int32, [], name="n")
    loop = tf.while_loop(lambda i: i < n, lambda i: i + 1, [0], name="loop")
    y = tf.add(loop, n, name="y")
    with tf.Session(config=plain()) as session:
        d = Draft(session.stage_for(y, [n]), "optimized/test")
    d.replace("y", inputs=[d.nodes["y"].inputs[1]] * 2, reason="without the loop")
    d.sweep(lambda name: False, Facts(d).frame)
    after = d.finish()
    check(after)
    assert {node.type for node in after} == {"_Arg", "AddV2", "_Retval"}
    assert "'y' changed" in after.removed["loop/Exit"]
