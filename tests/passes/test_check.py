"""The checker accepts what sessions make, and sees every bug planted in a stage."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import pytest
from optimizing import plain

import engine as tf
from engine.op.registry import lookup
from engine.passes.check import check, problems
from engine.passes.rewrite import Draft
from engine.passes.stage import Lineage, Stage, StageNode
from engine.types import errors
from engine.types.shape import TensorShape


def pruned() -> Stage:
    """A program with a variable, a conditional and a loop."""
    x = tf.placeholder(tf.float32, [2, 3], name="x")
    v = tf.Variable(tf.ones([2, 3]), name="v")
    with tf.control_dependencies([tf.assign_add(v, x, name="update")]):
        y = tf.matmul(x, v, transpose_b=True, name="y")
    z = tf.cond(
        tf.reduce_sum(x) > 0,
        lambda: tf.sqrt(y, name="root"),
        lambda: tf.negative(y, name="negative"),
        name="choose",
    )
    w = tf.while_loop(
        lambda i, a: i < 3, lambda i, a: (i + 1, tf.add(a, z, name="step")), [0, z], name="loop"
    )[1]
    w = tf.identity(w, name="w")
    with tf.Session(config=plain()) as session:
        return session.stage_for([w, tf.no_op(name="done")], [x])


def optimized() -> tuple[Stage, dict[str, StageNode]]:
    """A stage after one honest change, and its nodes to spoil."""
    draft = Draft(pruned(), "optimized/test")
    draft.replace("w", reason="for a test", attrs={**draft.nodes["w"].attrs, "_note": 1})
    stage = draft.finish()
    return stage, dict(stage.nodes)


BUGS: dict[str, tuple[Callable[[dict[str, StageNode]], Any], str]] = {}


def bug(sees: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a planted bug: a function that spoils nodes (or gives fields of the stage), and what the checker must say."""

    def register(plant: Callable[..., Any]) -> Callable[..., Any]:
        BUGS[plant.__name__] = plant, sees
        return plant

    return register


def changed(nodes: dict[str, StageNode], name: str, why: str = "planted", **fields: Any) -> None:
    lineage = Lineage((name,), "optimized/test", why)
    nodes[name] = dataclasses.replace(nodes[name], **{"lineage": lineage, **fields})


@bug("no node 'gone'")
def an_input_that_is_not_there(nodes: dict[str, StageNode]) -> None:
    changed(nodes, "w", inputs=(("gone", 0),))


@bug("has 1 outputs")
def an_output_that_is_not_there(nodes: dict[str, StageNode]) -> None:
    changed(nodes, "w", inputs=(("y", 1),))


@bug("waits for 'gone', which is not there")
def a_control_input_that_is_not_there(nodes: dict[str, StageNode]) -> None:
    changed(nodes, "w", control_inputs=("gone",))


@bug("waits for the same node twice")
def a_control_input_twice(nodes: dict[str, StageNode]) -> None:
    changed(nodes, "w", control_inputs=("y", "y"))


@bug("stands under the name")
def a_name_twice(nodes: dict[str, StageNode]) -> None:
    nodes["other"] = dataclasses.replace(nodes["y"], lineage=Lineage(("y",), "optimized/test", "planted"))


@bug("is float32, and 'loop/Const:0' is int32")
def another_dtype(nodes: dict[str, StageNode]) -> None:
    changed(nodes, "w", inputs=(("loop/Const", 0),))


@bug("has 1 inputs, and its signature says 2")
def an_input_too_few(nodes: dict[str, StageNode]) -> None:
    changed(nodes, "y", inputs=nodes["y"].inputs[:1], input_dtypes=nodes["y"].input_dtypes[:1])


@bug("must be a reference to a variable")
def a_value_for_a_reference(nodes: dict[str, StageNode]) -> None:
    value = next(name for name in nodes if name.startswith("_arg"))
    changed(nodes, "update", inputs=((value, 0), nodes["update"].inputs[1]))


@bug("had shape (2, 2), and has (3, 3)")
def another_shape(nodes: dict[str, StageNode]) -> None:
    changed(nodes, "y", output_shapes=(TensorShape([3, 3]),))


@bug("cannot take inputs of shapes")
def shapes_that_do_not_fit(nodes: dict[str, StageNode]) -> None:
    node = nodes["y"]
    changed(nodes, "y", attrs={**node.attrs, "transpose_b": False})


@bug("a cycle that no NextIteration closes")
def a_cycle(nodes: dict[str, StageNode]) -> None:
    changed(nodes, "y", control_inputs=(*nodes["y"].control_inputs, "w"))


@bug("has inputs from different frames")
def a_tensor_of_a_loop_outside(nodes: dict[str, StageNode]) -> None:
    changed(nodes, "w", control_inputs=("loop/step",))


@bug("is in no loop")
def an_exit_outside_of_a_loop(nodes: dict[str, StageNode]) -> None:
    changed(nodes, "w", opdef=lookup("Exit"), attrs={"T": tf.float32})


@bug("was changed, and its lineage does not say so")
def a_change_in_secret(nodes: dict[str, StageNode]) -> None:
    nodes["y"] = dataclasses.replace(nodes["y"], attrs={**nodes["y"].attrs})


@bug("which was not in 'pruned'")
def a_lineage_that_leads_nowhere(nodes: dict[str, StageNode]) -> None:
    changed(nodes, "y", lineage=Lineage(("nobody",), "optimized/test", "planted"))


@bug("was changed without a reason")
def a_change_without_a_reason(nodes: dict[str, StageNode]) -> None:
    changed(nodes, "w", why="", inputs=(("y", 0),))


@bug("'done' of 'pruned' is gone without a reason")
def a_node_gone_in_secret(nodes: dict[str, StageNode]) -> dict[str, Any]:
    del nodes["done"]
    return {"targets": ()}


@bug("the target 'done' is not there")
def a_target_gone(nodes: dict[str, StageNode]) -> dict[str, Any]:
    del nodes["done"]
    return {"removed": {"done": "planted"}}


@bug("is said to be removed, and is there")
def removed_and_there(nodes: dict[str, StageNode]) -> dict[str, Any]:
    return {"removed": {"done": "planted"}}


@bug("(_Retval) is gone")
def a_fetch_gone(nodes: dict[str, StageNode]) -> dict[str, Any]:
    name = next(name for name in nodes if name.startswith("_retval"))
    del nodes[name]
    return {"removed": {name: "planted"}}


@bug("feeds, fetches or targets have changed")
def other_fetches(nodes: dict[str, StageNode]) -> dict[str, Any]:
    return {"fetches": ("y:0",)}


def test_what_a_session_makes_is_sound() -> None:
    stage, _ = optimized()
    for each in stage.chain():
        assert problems(each) == []
        check(each)


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_seen(name: str) -> None:
    plant, sees = BUGS[name]
    stage, nodes = optimized()
    fields = plant(nodes) or {}
    spoiled = dataclasses.replace(stage, nodes=MappingProxyType(nodes), **fields)
    found = problems(spoiled)
    assert any(sees in problem for problem in found), found
    with pytest.raises(errors.InternalError, match="optimized/test"):
        check(spoiled)
