"""Functions of a graph: `Defun`, calls and their gradients, the library in a GraphDef, and the inlining of bodies."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
from gradient_programs import PROGRAMS
from gradient_stored import stored_graphs, stored_values

import engine as tf
from engine import errors
from engine.autodiff.check import compute_gradient
from engine.function import Defun

# TensorFlow makes a Case op of `switch_case`, and functions of its branches; the engine makes conds.
FUNCTIONS = [name for name, found in stored_graphs().items() if "graph" in found and name != "switched"]


@pytest.fixture(autouse=True)
def _graph() -> Any:
    with tf.Graph().as_default():
        yield


def run(fetches: Any, feeds: Any = None) -> Any:
    with tf.Session() as session:
        return session.run(fetches, feeds)


def round_trip(*fetches: Any) -> list[Any]:
    """The same tensors in another graph, that was made of this one's GraphDef."""
    message = tf.get_default_graph().as_graph_def()
    names = [each.name for each in fetches]
    with tf.Graph().as_default() as graph:
        found = tf.import_graph_def(
            type(message).FromString(message.SerializeToString()), return_elements=names, name=""
        )
        again = graph.as_graph_def()
    assert library(again) == library(message)
    return list(found or ())


def library(message: Any) -> Any:
    """The functions, without the order of their nodes."""
    found = {}
    for function in message.library.function:
        nodes = {node.name: node for node in function.node_def}
        rest = type(function)()
        rest.CopyFrom(function)
        del rest.node_def[:]
        found[function.signature.name] = (nodes, rest)
    return found, list(message.library.gradient)


# GraphDefs, TensorFlow's and ours.


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_graph_with_functions_that_tensorflow_made(name: str) -> None:
    from tensorboard.compat.proto.graph_pb2 import GraphDef

    found = stored_graphs()[name]
    fed = []
    with tf.Graph().as_default():
        fed = list(PROGRAMS[name](tf, Defun)[1].values())
    graph_def = GraphDef.FromString(base64.b64decode(found["graph"]))
    fetches = tf.import_graph_def(graph_def, return_elements=found["fetches"], name="") or []
    initializers = [op for op in tf.get_default_graph().get_operations() if op.type == "Assign"]
    with tf.Session() as session:
        session.run(initializers)
        values = session.run(fetches, dict(zip(found["feeds"], fed)))
    for value, answer in zip(values, stored_values(name), strict=True):
        np.testing.assert_allclose(value, answer, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_graph_with_functions_goes_through_a_graph_def(name: str) -> None:
    fetches, feeds = PROGRAMS[name](tf, Defun)
    fed = {tensor.name: value for tensor, value in feeds.items()}
    initializers = [op.name for op in tf.get_default_graph().get_operations() if op.type == "Assign"]
    again = round_trip(*fetches)
    with tf.Session(graph=again[0].graph) as session:
        session.run(initializers)
        values = session.run(again, fed)
    for value, answer in zip(values, stored_values(name), strict=True):
        np.testing.assert_allclose(value, answer, rtol=2e-5, atol=2e-6)


def test_the_function_def() -> None:
    @Defun(tf.float32, tf.int32, func_name="Named", out_names=["first", "second"])
    def named(x: Any, n: Any) -> Any:
        """What it does."""
        parts = tf.split(x, 2)
        return parts[1], n

    definition = named.definition
    signature = definition.signature
    assert signature.name == "Named" and signature.description == "What it does."
    assert [arg.name for arg in signature.input_arg] == ["x", "n"]
    assert [arg.name for arg in signature.output_arg] == ["first", "second"]
    assert not signature.is_stateful
    assert definition.ret == {"first": "split:output:1", "second": "n"}
    split = next(node for node in definition.node_def if node.name == "split")
    assert list(split.input) == ["split/split_dim:output:0", "x"]


def test_a_library_whose_functions_call_each_other_in_a_circle() -> None:
    @Defun(tf.float32, func_name="Inner")
    def inner(x: Any) -> Any:
        return x + 1.0

    @Defun(tf.float32, func_name="Outer")
    def outer(x: Any) -> Any:
        return inner(x)

    outer(1.0)
    message = tf.get_default_graph().as_graph_def()
    body = next(each for each in message.library.function if each.signature.name == "Inner")
    next(node for node in body.node_def if node.op == "AddV2").op = "Outer"
    with (
        tf.Graph().as_default() as graph,
        pytest.raises(
            ValueError, match="in a circle: Inner -> Outer -> Inner|in a circle: Outer -> Inner -> Outer"
        ),
    ):
        tf.import_graph_def(message)
    assert not graph._functions and not graph.get_operations()


def test_two_functions_of_one_name() -> None:
    @Defun(tf.float32, func_name="Same")
    def first(x: Any) -> Any:
        return x + 1.0

    @Defun(tf.float32, func_name="Same")
    def second(x: Any) -> Any:
        return x + 2.0

    first(1.0)
    with pytest.raises(ValueError, match="Cannot add function 'Same' because a different function"):
        second(1.0)
    tf.import_graph_def(tf.get_default_graph().as_graph_def(), name="again")  # an equal one is no other one


# Gradients of bodies.


def check(function: Any, start: Any, tolerance: float = 1e-6) -> None:
    start = np.asarray(start, np.float64)
    x = tf.placeholder(tf.float64, start.shape)
    y = tf.reduce_sum(function(x))
    with tf.Session():
        symbolic, numeric = compute_gradient(x, start.shape, y, [], start, delta=1e-5)
    np.testing.assert_allclose(symbolic, numeric, rtol=tolerance, atol=tolerance)


def test_the_gradient_of_a_loop_in_a_function() -> None:
    # TensorFlow gives zeros here: its derivative of a body knows nothing of loops.
    @Defun(tf.float64)
    def power(x: Any) -> Any:
        return tf.while_loop(lambda i, v: i < 3, lambda i, v: (i + 1, tf.sin(v) * x), [0, x])[1]

    check(power, [0.3, 1.2])
    check(lambda x: power(power(x)), [0.3, 1.2])


@pytest.mark.parametrize("start", [0.4, -0.4])
def test_the_gradient_of_a_branch_in_a_function(start: float) -> None:
    @Defun(tf.float64)
    def chosen(x: Any) -> Any:
        return tf.cond(x > 0, lambda: x * x * x, lambda: tf.sin(x) * 2)

    check(chosen, start)


def test_the_gradient_of_a_call_in_a_loop_in_a_function() -> None:
    @Defun(tf.float64, shape_func=lambda op: [op.inputs[0].shape])
    def inner(x: Any) -> Any:
        return tf.sin(x) * x

    @Defun(tf.float64)
    def outer(x: Any) -> Any:
        return tf.while_loop(lambda i, v: i < 2, lambda i, v: (i + 1, inner(v) + x), [0, x])[1]

    check(outer, [0.3, 1.2])


def test_the_gradient_of_slices_is_dense() -> None:
    @Defun(tf.float64, tf.int32)
    def pick(table: Any, rows: Any) -> Any:
        return tf.square(tf.gather(table, rows))

    check(lambda x: pick(x, [1, 1, 2]), [[1.0, 2.0], [0.5, 3.0], [-1.0, 0.2]])


def test_a_gradient_inside_a_body_with_respect_to_what_is_outside() -> None:
    scale = tf.constant(3.0)

    @Defun(tf.float32)
    def slope(x: Any) -> Any:
        return tf.gradients(x * scale * scale, scale)[0]

    assert run(slope(5.0)) == 30


def test_a_loop_from_a_graph_def_has_no_gradient() -> None:
    @Defun(tf.float32, func_name="Loop")
    def loop(x: Any) -> Any:
        return tf.while_loop(lambda i, v: i < 3, lambda i, v: (i + 1, v * x), [0, x])[1]

    x = tf.constant(2.0, name="x")
    y = loop(x)
    x, y = round_trip(x, y)
    with x.graph.as_default():
        gradient = tf.gradients(y, x)[0]
        assert run(y) == 16
        with pytest.raises(
            errors.InvalidArgumentError, match="gradient of the function 'Loop' cannot be built.*GraphDef"
        ):
            run(gradient)


def test_a_body_without_a_gradient() -> None:
    @Defun(tf.float32, func_name="Odd")
    def odd(x: Any) -> Any:
        return tf.raw_ops.SparseDenseCwiseAdd([[0]], x, [1], [1.0])

    x = tf.constant([2.0])
    gradient = tf.gradients(odd(x), x)[0]
    with pytest.raises(
        errors.InvalidArgumentError, match="'Odd' cannot be built: No gradient defined.*SparseDenseCwiseAdd"
    ):
        run(gradient)


# Running.


@pytest.mark.usefixtures("as_written")
def test_the_stage_knows_where_inlined_nodes_come_from() -> None:
    @Defun(tf.float32, func_name="Inner")
    def inner(x: Any) -> Any:
        return x * 2.0

    @Defun(tf.float32, func_name="Outer")
    def outer(x: Any) -> Any:
        return inner(x) + 1.0

    y = outer(tf.constant(3.0), name="call")
    with tf.Session() as session:
        stage = session.stage_for(y)
    assert [each.name for each in stage.chain()] == ["built", "pruned", "inlined"]
    product = stage.nodes["call/Inner/mul"]
    assert product.lineage.reason == "inlined from call 'call/Inner' of Inner"
    assert stage.origin("call/Inner/mul") == ("call",)
    assert "return x * 2.0" in product.site.user.source
    assert stage.nodes["call"].type == "IdentityN"
    assert not any(node.type in ("Inner", "Outer") for node in stage)


def test_operations_with_effects_run_and_others_that_nothing_needs_do_not() -> None:
    seen: list[str] = []

    def note(text: str) -> Any:
        return tf.py_func(lambda: seen.append(text), [], [], stateful=True)

    @Defun(tf.float32)
    def noisy(x: Any) -> Any:
        note("always")
        tf.py_func(lambda v: seen.append("pure") or v, [x], tf.float32, stateful=False)
        return x + 1.0

    y = noisy(1.0)
    assert run(y) == 2 and seen == ["always"]
    chosen = tf.cond(tf.constant(False), lambda: noisy(1.0), lambda: tf.constant(0.0))
    assert run(chosen) == 0 and seen == ["always"]
    looped = tf.while_loop(
        lambda i: i < 3,
        lambda i: tf.cast(noisy(tf.cast(i, tf.float32)), tf.int32),
        [0],
        [tf.TensorShape(None)],
    )
    assert run(looped) == 3 and seen == ["always"] * 4


def test_a_function_without_results() -> None:
    seen: list[Any] = []

    @Defun(tf.float32)
    def report(x: Any) -> None:
        tf.py_func(lambda v: seen.append(float(v)), [x], [], stateful=True)

    called = report(tf.constant(4.0))
    assert isinstance(called, tf.Operation)
    with tf.control_dependencies([called]):
        after = tf.py_func(lambda: np.float32(len(seen)), [], tf.float32, stateful=True)
    assert run(after) == 1 and seen == [4.0]


def test_an_error_names_the_operation_and_the_line_in_the_body() -> None:
    @Defun(tf.float32, func_name="Checked")
    def checked(x: Any) -> Any:
        return tf.check_numerics(x, "not finite")

    with pytest.raises(errors.InvalidArgumentError, match="not finite") as caught:
        run(checked(tf.constant(np.nan, tf.float32), name="call"))
    text = str(caught.value)
    assert "'call/CheckNumerics'" in text and 'tf.check_numerics(x, "not finite")' in text


def test_variables_are_made_outside() -> None:
    @Defun(tf.float32)
    def layer(x: Any) -> Any:
        return x * tf.get_variable("w", [], initializer=tf.constant_initializer(2.0))

    with tf.variable_scope("scope"):
        y = layer(3.0)
    assert [each.op.name for each in tf.trainable_variables()] == ["scope/w"]
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        assert session.run(y) == 6


# What is refused.


def test_recursion() -> None:
    @Defun(tf.float32)
    def forever(x: Any) -> Any:
        return forever(x)

    with pytest.raises(ValueError, match="Function 'forever' calls itself"):
        forever(1.0)


@pytest.mark.parametrize(
    "function, message",
    [
        (lambda x, y=1: x, "defaults"),
        (lambda x, **more: x, "keywords"),
        (lambda x, y: x, "takes 2 arguments; Defun has 1"),
    ],
)
def test_functions_that_cannot_be(function: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Defun(tf.float32)(function)


def test_arguments_that_do_not_fit() -> None:
    @Defun(tf.float32, func_name="One")
    def one(x: Any) -> Any:
        return x

    with pytest.raises(ValueError, match="Expected 1 arguments, got 2"):
        one(1.0, 2.0)
    with pytest.raises(TypeError, match="Argument 'x' of function One is float32, and .* is int32"):
        one(1)
    with pytest.raises(ValueError, match="Function nothing can not return None"):
        Defun(tf.float32, func_name="nothing")(lambda x: [x, None])(1.0)
    with pytest.raises(ValueError, match="Unknown keyword arguments: function_name"):
        Defun(tf.float32, function_name="f")


def test_a_variable_cannot_be_assigned_in_a_body() -> None:
    v = tf.Variable(1.0, name="v")

    @Defun(tf.float32)
    def assigns(x: Any) -> Any:
        return tf.assign(v, x)

    with pytest.raises(TypeError, match="requires a variable"):
        assigns(1.0)


@pytest.mark.usefixtures("as_written")
def test_a_recording_of_a_call(tmp_path: Any) -> None:
    import tracing
    from tracing.reader import Run

    @Defun(tf.float32, func_name="Power")
    def power(x: Any) -> Any:
        return tf.while_loop(lambda i, v: i < 3, lambda i, v: (i + 1, v * x), [0, x])[1]

    x = tf.constant([1.0, 2.0])
    y = power(x, name="call")
    gradient = tf.gradients(y, x)[0]
    with tracing.record(tmp_path, "full", "calls") as recorder:
        values = run([y, gradient])
    assert values[0].tolist() == [1, 16] and values[1].tolist() == [4, 32]
    with Run.open(recorder.path) as recorded:
        (step,) = recorded.steps()
        stage = recorded.stage(step.stage_id)
        assert [each.name for each in stage.chain()] == ["built", "pruned", "inlined"]
        assert stage.origin("call/while/mul") == ("call",)
        order = stage.order
        ran = [order[node] for node in recorded.executions(step.id).node.tolist()]
        assert ran.count("call/while/mul") == 4  # three times, and dead once the loop ends
