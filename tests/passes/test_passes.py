"""What each pass does, on the smallest program in which it does it; and what it must leave alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optimizing import executed, only, plain, reasons, same_bits, types

import engine as tf
from engine.op.registry import raw
from engine.passes import branches, pipeline
from engine.passes.build import Builder
from engine.passes.facts import Facts
from engine.passes.prune import prune
from engine.passes.rewrite import Draft
from engine.passes.settings import OptimizerOptions, RewriterConfig
from engine.types import errors


def run(fetches: Any, feeds: dict[Any, Any], config: Any) -> tuple[Any, Any]:
    """The values, and the stage that ran."""
    with tf.Session(config=config) as session:
        session.run(tf.global_variables_initializer())
        return session.run(fetches, feeds), session.stage_for(fetches, list(feeds))


def compare(fetches: Any, feeds: dict[Any, Any], *names: str) -> Any:
    """The stage that these passes make; its results are those without passes, to the bit."""
    before, _ = run(fetches, feeds, plain())
    after, stage = run(fetches, feeds, only(*names))
    if not isinstance(before, list):
        before, after = [before], [after]
    assert all(same_bits(a, b) for a, b in zip(before, after, strict=True) if a is not None)
    return stage


def of_type(stage: Any, type: str) -> list[Any]:
    return [node for node in stage if node.type == type]


# Folding.


def test_constants_are_folded_under_the_name_of_the_node() -> None:
    y = tf.multiply(tf.constant([1.0, 2.0]) + 3.0, 2.0, name="y")
    stage = compare(y, {}, "fold")
    assert types(stage) == ["Const"]
    np.testing.assert_array_equal(stage.nodes["y"].attrs["value"], [8, 10])
    assert "'add'" in stage.nodes["y"].lineage.reason
    assert stage.before.nodes["y"].site is stage.nodes["y"].site


def test_shapes_that_are_known_are_folded_and_others_are_not() -> None:
    x = tf.placeholder(tf.float32, [2, 3])
    part = tf.placeholder(tf.float32, [None, 3])
    fetches = [
        tf.shape(x)[1] * 2,
        tf.rank(part),
        tf.size(x),
        tf.shape(part)[1],
        tf.shape(part)[0],
        tf.zeros_like(x),
    ]
    stage = compare(fetches, {x: np.zeros([2, 3]), part: np.zeros([4, 3])}, "fold", "dependencies")
    assert types(stage) == ["Const"] * 8 + ["Shape", "StridedSlice"]


def test_a_target_shape_with_one_unknown_dimension_becomes_a_constant() -> None:
    x = tf.placeholder(tf.float32, [None, 2, 3])
    y = tf.reshape(x, tf.stack([tf.shape(x)[0], 6]))
    stage = compare(y, {x: np.arange(24).reshape(4, 2, 3)}, "fold")
    (reshape,) = of_type(stage, "Reshape")
    np.testing.assert_array_equal(stage.nodes[reshape.inputs[1][0]].attrs["value"], [-1, 6])
    assert types(stage) == ["Const", "Reshape"]


def test_operands_of_one_unknown_shape_are_known_to_be_alike() -> None:
    x = tf.placeholder(tf.float32, [None, 3])
    y = tf.tanh(x) * tf.exp(x * 2.0)
    (gradient,) = tf.gradients(y, x)
    stage = compare(gradient, {x: [[1, 2, 3], [4, 5, 6]]}, "fold", "arithmetic", "cse", "dependencies")
    assert not {"BroadcastGradientArgs", "Sum", "Reshape"} & set(types(stage))


def test_folding_has_a_limit() -> None:
    y = tf.reduce_sum(tf.fill([200, 200], 1.0) * tf.ones([200, 200]), name="y")
    small = tf.ConfigProto(
        graph_options=tf.GraphOptions(
            optimizer_options=OptimizerOptions(max_folded_constant_in_bytes=1000),
            rewrite_options=RewriterConfig(
                passes=dict.fromkeys(only("fold").graph_options.rewrite_options.passes, False)
                | {"fold": True}
            ),
        )
    )
    assert "Fill" in types(run(y, {}, small)[1])
    assert "Fill" in types(compare(y, {}, "fold"))  # 160 kB are more than the usual 100 KiB


def test_what_fails_is_not_folded_and_fails_when_it_runs() -> None:
    y = tf.gather(tf.constant([1.0, 2.0]), tf.constant([5]), name="y")
    with tf.Session() as session, pytest.raises(errors.InvalidArgumentError) as caught:
        session.run(y)
    assert caught.value.op is y.op


def test_what_folding_leaves_waits_for_what_the_node_waited_for() -> None:
    v = tf.Variable(1.0, name="v")
    with tf.control_dependencies([tf.assign_add(v, 1.0)]):
        y = tf.constant(2.0) * 3.0
    with tf.control_dependencies([y]):
        z = v.read_value()
    stage = compare([y, z], {}, "fold", "dependencies", "cse", "arithmetic")
    assert run([y, z], {}, only("fold", "dependencies"))[0] == [6.0, 2.0]
    assert "AssignAdd" in types(stage)


def test_several_outputs_are_folded_each() -> None:
    a, b = tf.split(tf.constant([[1.0, 2.0], [3.0, 4.0]]), 2)
    stage = compare([a, tf.sqrt(b)], {}, "fold")
    assert types(stage) == ["Const", "Const"]


# Common subexpressions.


@pytest.mark.parametrize(
    "make",
    [
        lambda x, y: (tf.add(x, y), tf.add(y, x)),
        lambda x, y: (tf.sin(x) * y, y * tf.sin(x)),
        lambda x, y: (tf.reduce_sum(x, 0), tf.reduce_sum(x, 0)),
        lambda x, y: (tf.matmul(x, y), tf.matmul(x, y)),
    ],
)
def test_the_same_is_computed_once(make: Callable[..., Any]) -> None:
    x, y = (tf.placeholder(tf.float32, [2, 2], name=name) for name in "xy")
    first, second = make(x, y)
    stage = compare([first, second], {x: np.eye(2), y: np.ones([2, 2])}, "cse")
    assert first.op.name in stage.nodes and second.op.name not in stage.nodes
    assert set(stage.origin(first.op.name)) >= {first.op.name, second.op.name}
    assert f"computes the same as '{first.op.name}'" in stage.removed[second.op.name]


@pytest.mark.parametrize(
    "make",
    [
        lambda x: (tf.subtract(x, 2.0), tf.subtract(2.0, x)),
        lambda x: (tf.random_uniform([2], seed=1), tf.random_uniform([2], seed=1)),
        lambda x: (tf.matmul([x], [x], transpose_b=True), tf.matmul([x], [x], transpose_a=True)),
        lambda x: (tf.maximum(x, 0.0), tf.maximum(0.0, x)),
    ],
)
def test_what_only_looks_the_same_is_computed_twice(make: Callable[..., Any]) -> None:
    x = tf.placeholder(tf.float32, [2], name="x")
    pair = make(x)
    stage = compare(list(pair), {x: [-0.0, 1]}, "cse")
    assert all(each.op.name in stage.nodes for each in pair)


def test_two_reads_of_a_variable_stay_two() -> None:
    v = tf.Variable(1.0, name="v")
    first = v.read_value()
    with tf.control_dependencies([first]):
        change = tf.assign_add(v, 1.0)
    with tf.control_dependencies([change]):
        second = v.read_value()
    assert run([first, second], {}, only("cse", "dependencies", "arithmetic", "fold"))[0] == [1.0, 2.0]


def test_equal_nodes_of_two_branches_stay_two() -> None:
    p = tf.placeholder(tf.bool, [])
    x = tf.placeholder(tf.float32, [])
    y = tf.cond(p, lambda: tf.sqrt(x) + 1.0, lambda: tf.sqrt(x) - 1.0)
    for value in (True, False):
        stage = compare(y, {p: value, x: 4.0}, "cse")
        assert types(stage).count("Sqrt") == 2


# Dependencies.


def test_identities_and_no_ops_go() -> None:
    x = tf.placeholder(tf.float32, [2])
    y = tf.identity(tf.stop_gradient(tf.identity(x)))
    with tf.control_dependencies([tf.group(tf.group(x), y)]):
        z = tf.sqrt(y)
    stage = compare(z, {x: [1, 4]}, "dependencies")
    assert types(stage) == ["Sqrt"]


def test_an_identity_that_reads_a_variable_is_a_snapshot_and_stays() -> None:
    v = tf.Variable([1.0], name="v")
    old = tf.identity(v)
    with tf.control_dependencies([old]):
        new = tf.assign(v, [5.0])
    with tf.control_dependencies([new]):
        y = old + 0.5
    assert run(y, {}, only("dependencies", "cse", "arithmetic", "fold"))[0] == [1.5]


def test_control_edges_that_say_nothing_go_and_others_stay() -> None:
    x = tf.placeholder(tf.float32, [])
    v = tf.Variable(1.0, name="v")
    with tf.control_dependencies([tf.sqrt(x, name="pointless")]):
        a = tf.exp(x, name="a")
    first = tf.assign_add(v, a, name="first")
    with tf.control_dependencies([first]):
        b = tf.sin(a, name="b")
    with tf.control_dependencies([first, b]):
        c = tf.cos(a, name="c")
    stage = compare([c, b], {x: 0.0}, "dependencies")
    assert "pointless" not in stage.nodes and stage.nodes["a"].control_inputs == ()
    assert stage.nodes["c"].control_inputs == ("b",) and "b" in stage.nodes
    assert "comes after 'first' in any case" in reasons(stage)


def test_an_assertion_still_comes_first() -> None:
    x = tf.placeholder(tf.float32, [], name="x")
    with tf.control_dependencies([tf.Assert(x > 0.0, [x])]):
        y = tf.sqrt(tf.identity(x))
    with tf.Session() as session:
        assert session.run(y, {x: 4.0}) == 2.0
        with pytest.raises(errors.InvalidArgumentError, match="assertion failed"):
            session.run(y, {x: -4.0})


# Branches.


def test_a_branch_that_is_never_taken_goes() -> None:
    x = tf.placeholder(tf.float32, [])
    y = tf.cond(tf.constant(True), lambda: tf.sqrt(x), lambda: tf.exp(x), name="choose")
    stage = compare(y, {x: 4.0}, "branches", "dependencies")
    assert types(stage) == ["Sqrt"]
    gone = {name: why for each in stage.chain() for name, why in each.removed.items()}
    assert gone["choose/Exp"] == "the predicate of 'choose/Exp/Switch' is always True"


def test_a_loop_in_a_branch_that_is_never_taken_goes() -> None:
    x = tf.placeholder(tf.float32, [])
    y = tf.cond(
        tf.less(tf.constant(2), 1),
        lambda: tf.while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, a * x), [0, x])[1],
        lambda: tf.exp(x),
    )
    stage = compare(y, {x: 0.5}, "fold", "branches", "dependencies")
    assert types(stage) == ["Exp"]


def test_the_other_branch_of_a_known_predicate_still_waits_for_effects() -> None:
    v = tf.Variable(1.0, name="v")

    def change() -> Any:
        with tf.control_dependencies([tf.assign_add(v, 1.0)]):
            return tf.identity(3.0)

    y = tf.cond(tf.constant(True), change, lambda: tf.constant(4.0))
    with tf.control_dependencies([y]):
        z = v.read_value()
    assert run([y, z], {}, only("fold", "branches", "dependencies", "cse"))[0] == [3.0, 2.0]


def test_a_loop_that_makes_no_iteration_goes() -> None:
    x = tf.placeholder(tf.float32, [2])
    i, y = tf.while_loop(lambda i, a: i < 5, lambda i, a: (i + 1, tf.sqrt(a)), [7, x])
    stage = compare([i, tf.exp(y)], {x: [1, 2]}, "branches", "dependencies")
    assert types(stage) == ["Const", "Exp"]


def test_a_fetch_in_a_branch_that_is_never_taken_is_still_explained() -> None:
    x = tf.placeholder(tf.float32, [])
    never = tf.exp(raw.Switch(x, tf.constant(True)).output_false, name="never")
    with tf.Session() as session, pytest.raises(errors.InvalidArgumentError, match="is dead") as caught:
        session.run(never, {x: 1.0})
    assert caught.value.op is never.op


def test_the_number_of_the_branch_is_kept() -> None:
    x = tf.placeholder(tf.float32, [])
    switched = raw.Switch(x, tf.constant(True))
    merged = raw.Merge([tf.exp(switched.output_false), tf.sqrt(switched.output_true)])
    stage = compare([merged.output, merged.value_index], {x: 9.0}, "branches")
    assert not of_type(stage, "Merge")


# Loop invariants.


def test_what_does_not_change_is_computed_once() -> None:
    x, a = tf.placeholder(tf.float32, [2, 2]), tf.placeholder(tf.float32, [2, 2])
    y = tf.while_loop(lambda i, s: i < 8, lambda i, s: (i + 1, tf.tanh(s + tf.matmul(x, x) * 0.5)), [0, a])[1]
    feeds = {x: np.eye(2), a: np.ones([2, 2])}
    stage = compare(y, feeds, "invariants")
    (product,) = of_type(stage, "MatMul")
    assert product.name == "while/MatMul/invariant" and stage.origin(product.name) == ("while/MatMul",)
    with tf.Session(config=plain()) as session:
        before = executed(lambda: session.run(y, feeds))
    with tf.Session(config=only("invariants", "dependencies")) as session:
        assert (
            executed(lambda: session.run(y, feeds)) < before - 7 * 3
        )  # product, factor and its constant, in 7 iterations


def test_what_may_fail_is_not_computed_before_the_loop() -> None:
    n, d = tf.placeholder(tf.int32, []), tf.placeholder(tf.int32, [])
    y = tf.while_loop(lambda i, s: i < n, lambda i, s: (i + 1, s + 7 // d), [0, 0])[1]
    for times, divisor in ((0, 0), (3, 2)):
        stage = compare(y, {n: times, d: divisor}, "invariants", "cse", "dependencies")
        assert [node.name for node in of_type(stage, "FloorDiv")] == ["while/floordiv"]


def test_effects_stay_in_the_loop() -> None:
    v = tf.Variable(0.0, name="v")

    def body(i: Any) -> Any:
        with tf.control_dependencies([tf.assign_add(v, 1.0)]):
            return i + 1

    with tf.control_dependencies(tf.while_loop(lambda i: i < 5, body, [0], return_same_structure=True)):
        y = v.read_value()
    assert run(y, {}, only("invariants", "cse", "dependencies", "fold"))[0] == 5.0


def test_random_numbers_are_drawn_in_every_iteration() -> None:
    def body(i: Any, s: Any) -> Any:
        return i + 1, s + tf.random_uniform([4], seed=3)

    y = tf.while_loop(lambda i, s: i < 6, body, [0, tf.zeros([4])])[1]
    stage = compare(y, {}, "invariants", "cse", "dependencies", "fold")
    assert [node.name for node in of_type(stage, "RandomUniform")] == ["while/random_uniform/RandomUniform"]
    assert executed_times(y, "while/random_uniform/RandomUniform") == 6


def executed_times(fetch: Any, name: str) -> int:
    from engine import observe

    class Counter(observe.Observer):
        def __init__(self) -> None:
            self.count = 0

        def executions(self, step: Any, batch: Any) -> None:
            index = step.stage.order.index(name)
            self.count += int(((batch.node == index) & ~batch.dead).sum())

    counter = Counter()
    observe.install(counter)
    try:
        with tf.Session() as session:
            session.run(fetch)
    finally:
        observe.uninstall(counter)
    return counter.count


# Errors.


def test_an_error_in_a_moved_node_names_the_users_line() -> None:
    x = tf.placeholder(tf.float32, [None], name="x")
    y = tf.add(tf.reshape(tf.reshape(x, [-1, 1]), [2]), 1.0, name="y")  # here
    with tf.Session() as session, pytest.raises(errors.InvalidArgumentError) as caught:
        session.run(y, {x: [1.0, 2.0, 3.0]})
    assert caught.value.op.graph is y.graph and "# here" in str(caught.value)


# Settings.


def test_the_settings_choose() -> None:
    x = tf.placeholder(tf.float32, [2])
    y = tf.identity(x) + (tf.constant(1.0) + 2.0)
    options = OptimizerOptions, RewriterConfig

    def left(optimizer: Any = None, rewriter: Any = None) -> list[str]:
        config = tf.ConfigProto(
            graph_options=tf.GraphOptions(
                optimizer_options=optimizer or options[0](), rewrite_options=rewriter or RewriterConfig()
            )
        )
        return types(run(y, {x: [1, 2]}, config)[1])

    written = ["AddV2", "AddV2", "Const", "Const", "Identity"]
    off = RewriterConfig.OFF
    assert left() == ["AddV2", "Const"]
    assert left(OptimizerOptions(opt_level=OptimizerOptions.L0)) == written
    assert left(rewriter=RewriterConfig(disable_meta_optimizer=True)) == written
    assert left(rewriter=RewriterConfig(min_graph_nodes=100)) == written
    assert left(rewriter=RewriterConfig(constant_folding=off)) == ["AddV2", "AddV2", "Const", "Const"]
    assert left(rewriter=RewriterConfig(dependency_optimization=off)) == ["AddV2", "Const", "Identity"]
    assert left(rewriter=RewriterConfig(passes={"fold": False, "dependencies": False})) == written
    with pytest.raises(ValueError, match="There is no pass named 'folding'; the passes: fold, "):
        left(rewriter=RewriterConfig(passes={"folding": True}))


# The page.


def test_the_programs_of_the_page(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "passes.md").read_text(encoding="utf-8")
    stages, fused, options, written, _rule = re.findall(r"```python\n(.*?)```", page, re.S)
    for program in (stages, fused, options):
        with tf.Graph().as_default():
            exec(program, {})
    said = capsys.readouterr().out
    assert "optimized/fold" in said and "('optimized/" in said
    assert "".join(line[2:] + "\n" for line in fused.splitlines() if line.startswith("# t")) in said
    scope: dict[str, Any] = {}
    exec(written, scope)
    monkeypatch.setattr(pipeline, "PASSES", (pipeline.Pass("mine", scope["run"]),))
    x = tf.placeholder(tf.float32, [2])
    values, stage = run(tf.sqrt(tf.square(x)), {x: [-1, 2]}, tf.ConfigProto())
    assert values.tolist() == [1, 2] and types(stage) == ["Abs"] and stage.name == "optimized/mine"


def test_what_was_a_loops_exit_is_not_in_the_loop_any_more() -> None:
    """A loop that makes no iteration: what comes of its Exit is where the loop is, also for who asked before."""
    _, made = tf.while_loop(lambda i, _: i < 0, lambda i, a: (i + 1, a * 2.0), [0, tf.constant(3.0)])
    stage = prune(Builder(tf.get_default_graph()).stage(), [], [made.name], [])
    draft = Draft(stage, "optimized/branches")
    facts = Facts(draft)
    assert facts.frame(made.op.name) == ("while/while_context",)
    branches.run(draft, facts)
    assert draft.nodes[made.op.name].type == "Identity"
    assert facts.frame(made.op.name) == ()
