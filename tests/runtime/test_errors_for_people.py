"""Mistakes that people make, and what they are told: one message with what, where and what to do.

Each case is a small program.  Where the mistake is about an operation, the message must say its name and the line of this file
that made it: the one marked ``# here``.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import engine as tf

Program = Callable[[], Any]
Kind = type[BaseException] | tuple[type[BaseException], ...]


@dataclass(frozen=True)
class Case:
    """A program that must raise `kind` with all of `says` (regular expressions) in the message."""

    program: Program
    kind: Kind
    says: tuple[str, ...]


CASES: list[Case] = []


def raises(kind: Kind, *says: str) -> Callable[[Program], Program]:
    def register(program: Program) -> Program:
        CASES.append(Case(program, kind, says))
        return program

    return register


def run(fetches: Any, feed_dict: Any = None, init: bool = False) -> Any:
    """In a session of its own on the default graph."""
    with tf.Session() as session:
        if init:
            session.run(tf.global_variables_initializer())
        return session.run(fetches, feed_dict)


@pytest.fixture(autouse=True)
def fresh_graph() -> Iterator[None]:
    with tf.Graph().as_default():
        yield


# --- feeding --------------------------------------------------------------------------------------------------------------------


@raises(ValueError, r"\(3, 2\)", r"'x:0'", r"\(\?, 4\)")
def feed_of_a_wrong_shape() -> None:
    x = tf.placeholder(tf.float32, [None, 4], name="x")  # here
    run(x + 1.0, {x: np.zeros((3, 2))})


@raises(ValueError, r"\(2,\)", r"'x:0'", r"\(\)")
def feed_of_a_wrong_rank() -> None:
    x = tf.placeholder(tf.float32, [], name="x")  # here
    run(x + 1.0, {x: [1.0, 2.0]})


@raises((ValueError, TypeError), r"'x:0'", r"float32")
def feed_of_text_for_a_number() -> None:
    x = tf.placeholder(tf.float32, name="x")  # here
    run(x + 1.0, {x: "three"})


@raises((ValueError, TypeError), r"'x:0'", r"int32", r"2\.5")
def feed_of_a_fraction_for_an_integer() -> None:
    x = tf.placeholder(tf.int32, name="x")  # here
    run(x + 1, {x: 2.5})


@raises((ValueError, TypeError), r"'x:0'", r"uint8", r"300")
def feed_of_an_integer_that_does_not_fit() -> None:
    x = tf.placeholder(tf.uint8, name="x")  # here
    run(x, {x: 300})


@raises((ValueError, TypeError), r"'x:0'", r"float32")
def feed_of_a_ragged_list() -> None:
    x = tf.placeholder(tf.float32, name="x")  # here
    run(x, {x: [[1.0, 2.0], [3.0]]})


@raises(TypeError, r"'x:0'", r"Tensor", r"numpy")
def feed_of_a_tensor() -> None:
    x = tf.placeholder(tf.float32, name="x")
    run(x, {x: tf.constant(1.0)})


@raises(TypeError, r"feed_dict key", r"Tensor")
def feed_to_something_that_is_no_tensor() -> None:
    run(tf.constant(1.0), {3: 1.0})


@raises(TypeError, r"feed_dict key", r"'xs:0'", r"Did you mean 'x'")
def feed_to_a_name_that_is_almost_right() -> None:
    tf.placeholder(tf.float32, name="x1_longer_name")
    tf.placeholder(tf.float32, name="x")
    run(tf.constant(1.0), {"xs:0": 1.0})


@raises((ValueError, TypeError), r"another", r"'x:0'")
def feed_to_a_tensor_of_another_graph() -> None:
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, name="x")
    run(tf.constant(1.0), {x: 1.0})


@raises(ValueError, r"'x:0'", r"may not be fed")
def feed_to_what_may_not_be_fed() -> None:
    x = tf.constant(1.0, name="x")
    tf.get_default_graph().prevent_feeding(x)
    run(x, {x: 2.0})


@raises(TypeError, r"feed_dict", r"dict")
def a_feed_that_is_no_dict() -> None:
    x = tf.placeholder(tf.float32, name="x")
    run(x, [x, 1.0])


@raises(tf.errors.InvalidArgumentError, r"[Mm]ust feed.*placeholder", r"'x'", r"float32", r"\[?\(?2")
def a_placeholder_without_a_feed() -> None:
    x = tf.placeholder(tf.float32, [2], name="x")  # here
    run(x * 2.0)


# --- fetching -------------------------------------------------------------------------------------------------------------------


@raises(TypeError, r"None", r"[Ff]etch")
def fetch_of_none() -> None:
    run(None)


@raises(TypeError, r"None", r"[Ff]etch")
def fetch_of_none_in_a_list() -> None:
    run([tf.constant(1.0), None])


@raises(TypeError, r"3\.5", r"[Ff]etch", r"float")
def fetch_of_a_number() -> None:
    run(3.5)


@raises(ValueError, r"'los'", r"Did you mean 'loss'")
def fetch_of_a_name_that_is_almost_right() -> None:
    tf.constant(1.0, name="loss")
    run("los")


@raises(ValueError, r"'losses:0'", r"Did you mean 'loss'")
def fetch_of_a_tensor_name_that_is_almost_right() -> None:
    tf.constant(1.0, name="loss")
    run("losses:0")


@raises(ValueError, r"'loss:1'", r"only has 1 output")
def fetch_of_an_output_that_is_not_there() -> None:
    tf.constant(1.0, name="loss")
    run("loss:1")


@raises(ValueError, r"'far:0'", r"another")
def fetch_from_another_graph() -> None:
    with tf.Graph().as_default():
        far = tf.constant(1.0, name="far")
    run(far)


@raises(ValueError, r"'init'", r"another")
def target_of_another_graph() -> None:
    with tf.Graph().as_default():
        init = tf.no_op(name="init")
    run(init)


@raises(ValueError, r"'cond/only_then:0'", r"not fetchable", r"tf\.cond")
def fetch_from_inside_of_a_branch() -> None:
    found = []

    def then() -> Any:
        found.append(tf.add(1.0, 1.0, name="only_then"))
        return found[0]

    tf.cond(tf.constant(False), then, lambda: tf.constant(0.0))
    run(found[0])


# --- variables ------------------------------------------------------------------------------------------------------------------


@raises(tf.errors.FailedPreconditionError, r"uninitialized", r"weights", r"global_variables_initializer")
def an_uninitialized_variable() -> None:
    w = tf.Variable([1.0, 2.0], name="weights")  # here
    run(w + 1.0)


@raises(tf.errors.FailedPreconditionError, r"uninitialized", r"counter", r"global_variables_initializer")
def an_uninitialized_variable_that_is_changed() -> None:
    counter = tf.Variable(0, name="counter")  # here
    run(tf.assign_add(counter, 1))


@raises(ValueError, r"\(3,\)", r"\(2,\)")
def an_assignment_of_another_shape() -> None:
    w = tf.Variable([1.0, 2.0], name="weights")
    tf.assign(w, [1.0, 2.0, 3.0])


@raises(tf.errors.InvalidArgumentError, r"\[3\]|\(3,\)", r"\[2\]|\(2,\)", r"'Assign|'set")
def an_assignment_of_another_shape_found_while_running() -> None:
    x = tf.placeholder(tf.float32)
    w = tf.Variable([1.0, 2.0], name="weights")
    change = tf.assign(w, x, name="set")  # here
    run(change, {x: [1.0, 2.0, 3.0]}, init=True)


# --- building -------------------------------------------------------------------------------------------------------------------


@raises(ValueError, r"2", r"3", r"5")
def a_product_of_shapes_that_do_not_fit() -> None:
    tf.matmul(tf.zeros([2, 3]), tf.zeros([5, 7]))


@raises(ValueError, r"3", r"4")
def a_sum_of_shapes_that_do_not_fit() -> None:
    tf.add(tf.zeros([3]), tf.zeros([4]))


@raises((TypeError, ValueError), r"float32", r"int32")
def a_sum_of_different_dtypes() -> None:
    tf.add(tf.zeros([3], tf.float32), tf.zeros([3], tf.int32))


@raises((TypeError, ValueError), r"string|str", r"'?x'?|float32")
def text_where_numbers_are_needed() -> None:
    tf.sin("text")


@raises(TypeError, r"'Greater:0'", r"truth value", r"tf\.cond")
def a_tensor_as_a_condition_of_python() -> None:
    if tf.constant(1.0) > 0.5:
        pass


@raises(TypeError, r"iter|for")
def a_loop_over_a_tensor_of_unknown_length() -> None:
    for _ in tf.placeholder(tf.float32, [None]):
        pass


@raises(ValueError, r"graph")
def tensors_of_two_graphs_in_one_operation() -> None:
    with tf.Graph().as_default():
        far = tf.constant(1.0)
    tf.add(tf.constant(2.0), far)


@raises(ValueError, r"not a valid|name", r"a b")
def a_name_with_a_blank() -> None:
    tf.constant(1.0, name="a b")


@raises(RuntimeError, r"finalized")
def an_operation_in_a_finalized_graph() -> None:
    tf.get_default_graph().finalize()
    tf.constant(1.0)


@raises(LookupError, r"gradient", r"RandomShuffle", r"'shuffled'")
def a_gradient_that_nobody_has_written() -> None:
    x = tf.constant([1.0, 2.0])
    y = tf.random_shuffle(x, name="shuffled")
    tf.gradients(y, x)


# --- control flow ---------------------------------------------------------------------------------------------------------------


@raises((ValueError, TypeError), r"pred|scalar|bool")
def a_predicate_that_is_no_scalar() -> None:
    tf.cond(tf.constant([True, False]), lambda: tf.constant(1), lambda: tf.constant(2))


@raises(tf.errors.InvalidArgumentError, r"scalar", r"\(2,\)|\[2\]", r"pred|Switch")
def a_predicate_that_turns_out_to_be_no_scalar() -> None:
    p = tf.placeholder(tf.bool, name="p")
    chosen = tf.cond(p, lambda: tf.constant(1), lambda: tf.constant(2))  # here
    run(chosen, {p: [True, False]})


@raises((ValueError, TypeError), r"bool")
def a_predicate_that_is_no_bool() -> None:
    tf.cond(tf.constant(1.0), lambda: tf.constant(1), lambda: tf.constant(2))


@raises(TypeError, r"true_fn|callable")
def a_branch_that_is_no_function() -> None:
    tf.cond(tf.constant(True), tf.constant(1), lambda: tf.constant(2))


@raises((ValueError, TypeError), r"float32", r"int32")
def branches_of_different_dtypes() -> None:
    tf.cond(tf.constant(True), lambda: tf.constant(1.0), lambda: tf.constant(2))


@raises((ValueError, TypeError), r"true_fn|branch|structure|number")
def branches_with_different_numbers_of_results() -> None:
    tf.cond(tf.constant(True), lambda: (tf.constant(1), tf.constant(2)), lambda: (tf.constant(2),))


@raises(ValueError, r"shape", r"\(1,\)", r"\(2,\)", r"shape_invariants")
def a_loop_that_changes_a_shape() -> None:
    tf.while_loop(
        lambda i, xs: i < 3,
        lambda i, xs: (i + 1, tf.concat([xs, xs], 0)),
        [tf.constant(0), tf.constant([1.0])],
    )


@raises((ValueError, TypeError), r"int32", r"float32")
def a_loop_that_changes_a_dtype() -> None:
    tf.while_loop(lambda i: i < 3, lambda i: tf.cast(i, tf.float32), [tf.constant(0)])


@raises((ValueError, TypeError), r"loop_vars|body|number|structure")
def a_loop_that_loses_a_variable() -> None:
    tf.while_loop(lambda i, j: i < 3, lambda i, j: (i + 1,), [tf.constant(0), tf.constant(1)])


@raises(ValueError, r"loop_vars|variable")
def a_loop_without_variables() -> None:
    tf.while_loop(lambda: tf.constant(False), lambda: (), [])


@raises((TypeError, ValueError), r"cond|predicate|bool")
def a_loop_whose_condition_is_no_bool() -> None:
    tf.while_loop(lambda i: i, lambda i: i + 1, [tf.constant(0)])


@raises((ValueError, tf.errors.InvalidArgumentError), r"loop|frame")
def a_tensor_of_a_loop_used_outside() -> None:
    inside = []

    def body(i: Any) -> Any:
        inside.append(tf.add(i, 1, name="inside"))
        return inside[0]

    outside = tf.while_loop(lambda i: i < 3, body, [tf.constant(0)])
    run(tf.add(inside[0], outside, name="mixed"))


@raises(tf.errors.InvalidArgumentError, r"cycle", r"'?second'?", r"'?first'?")
def a_cycle() -> None:
    x = tf.constant(1.0)
    first = tf.add(x, 1.0, name="first")  # here
    second = tf.add(first, 1.0, name="second")
    first.op._update_input(0, second)
    run(second)


# --- kernels --------------------------------------------------------------------------------------------------------------------


@raises(tf.errors.InvalidArgumentError, r"'picked'", r"\b7\b", r"\b3\b")
def an_index_out_of_range() -> None:
    i = tf.placeholder(tf.int32)
    picked = tf.gather(tf.constant([1.0, 2.0, 3.0]), i, name="picked")  # here
    run(picked, {i: 7})


@raises(tf.errors.InvalidArgumentError, r"'product'", r"\[2, ?3\]|\(2, 3\)", r"\[5, ?7\]|\(5, 7\)")
def a_product_that_turns_out_not_to_fit() -> None:
    a, b = tf.placeholder(tf.float32), tf.placeholder(tf.float32)
    product = tf.matmul(a, b, name="product")  # here
    run(product, {a: np.zeros((2, 3)), b: np.zeros((5, 7))})


@raises(tf.errors.InvalidArgumentError, r"'total'", r"\[3\]|\(3,\)", r"\[4\]|\(4,\)")
def a_sum_that_turns_out_not_to_fit() -> None:
    a, b = tf.placeholder(tf.float32), tf.placeholder(tf.float32)
    total = tf.add(a, b, name="total")  # here
    run(total, {a: np.zeros(3), b: np.zeros(4)})


@raises(tf.errors.InvalidArgumentError, r"'square'", r"\b6\b", r"\[4, ?4\]|\(4, 4\)|16")
def a_reshape_that_does_not_fit() -> None:
    a = tf.placeholder(tf.float32)
    square = tf.reshape(a, [4, 4], name="square")  # here
    run(square, {a: np.zeros(6)})


@raises(tf.errors.InvalidArgumentError, r"division|zero|divide", r"'quotient'")
def an_integer_division_by_zero() -> None:
    d = tf.placeholder(tf.int32)
    quotient = tf.floordiv(7, d, name="quotient")  # here
    run(quotient, {d: 0})


@raises(tf.errors.InvalidArgumentError, r"too large", r"\b5\b")
def an_assertion() -> None:
    x = tf.placeholder(tf.int32)
    check = tf.Assert(x < 3, ["too large", x])  # here
    with tf.control_dependencies([check]):
        y = tf.identity(x)
    run(y, {x: 5})


@raises((tf.errors.UnknownError, tf.errors.InvalidArgumentError), r"ZeroDivisionError|no luck")
def an_error_inside_of_py_func() -> None:
    def fails(_: Any) -> Any:
        raise ZeroDivisionError("no luck")

    y = tf.py_func(fails, [tf.constant(1.0)], tf.float32, name="mine")  # here
    run(y)


# --- sessions -------------------------------------------------------------------------------------------------------------------


@raises(RuntimeError, r"closed [Ss]ession")
def a_closed_session() -> None:
    x = tf.constant(1.0)
    session = tf.Session()
    session.close()
    session.run(x)


@raises((RuntimeError, ValueError), r"[Ee]mpty|no operations|graph")
def an_empty_graph() -> None:
    tf.Session().run("x")


@raises(ValueError, r"session", r"eval")
def eval_without_a_session() -> None:
    tf.constant(1.0).eval()


@raises(TypeError, r"[Gg]raph")
def a_session_on_something_that_is_no_graph() -> None:
    tf.Session(graph="graph")


@raises(tf.errors.DeadlineExceededError, r"[Tt]imed out")
def a_run_that_takes_too_long() -> None:
    forever = tf.while_loop(lambda i: i >= 0, lambda i: (i + 1) % 7, [tf.constant(0)])
    tf.Session().run(forever, options=tf.RunOptions(timeout_in_ms=200))


# --- the test -------------------------------------------------------------------------------------------------------------------


def marked_line(program: Program) -> int | None:
    """The line of this file that is marked ``# here`` in the program."""
    lines, start = inspect.getsourcelines(program)
    return next((start + i for i, line in enumerate(lines) if line.rstrip().endswith("# here")), None)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.program.__name__)
def test_the_message_says_what_and_where(case: Case) -> None:
    with pytest.raises(case.kind) as caught:
        case.program()
    message = str(caught.value)
    for pattern in case.says:
        assert re.search(pattern, message), f"{pattern!r} is not in:\n{message}"
    line = marked_line(case.program)
    if line is not None:
        assert f"{__file__}:{line}" in message, f"line {line} of this file is not in:\n{message}"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.program.__name__)
def test_the_message_is_one(case: Case) -> None:
    """No chain of causes from the engine's inside, and no wall of text."""
    with pytest.raises(case.kind) as caught:
        case.program()
    error = caught.value
    assert len(str(error).splitlines()) <= 8, str(error)
    shown = error.__cause__ if error.__suppress_context__ else error.__cause__ or error.__context__
    allowed = case.program.__name__ in WITH_CAUSE
    assert shown is None or allowed, f"{error!r} drags along {shown!r}"


# Errors in the user's own function are shown with its traceback.
WITH_CAUSE = {"an_error_inside_of_py_func"}
