"""What every node gets when it is made: its name, its place in the program, its inputs."""

from __future__ import annotations

import gc
import inspect
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import engine as tf


def plainly_unique(name: str, used: dict[str, int]) -> str:
    """TensorFlow 1's rule in its own words: count up from what was last given for this name, until nothing has the name."""
    key = name.lower()
    count = used.get(key, 0)
    used[key] = count + 1
    if count == 0:
        return name
    candidate = key
    while candidate in used:
        candidate = f"{key}_{count}"
        count += 1
    used[key] = count
    used[candidate] = 1
    return f"{name}_{count - 1}"


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "A", "a_1", "A_1", "a_1_1", "b", "a/b"]), st.booleans()), max_size=25
    )
)
def test_names_are_unique_by_the_plain_rule(asked: list[tuple[str, bool]]) -> None:
    graph = tf.Graph()
    used: dict[str, int] = {}
    for name, mark in asked:
        mine = used if mark else dict(used)
        assert graph.unique_name(name, mark_as_used=mark) == plainly_unique(name, mine)


@pytest.mark.parametrize("name", [["x"], 5, b"x"])
def test_a_name_that_is_no_string_is_refused(name: Any) -> None:
    with tf.Graph().as_default(), pytest.raises(TypeError, match="name is a string"):
        tf.no_op(name=name)


def test_each_call_of_a_function_in_a_name_scope_has_its_own() -> None:
    graph = tf.Graph()

    @graph.name_scope("part")
    def part() -> Any:
        return tf.constant(1).name

    with graph.as_default():
        assert [part(), part()] == ["part/Const:0", "part_1/Const:0"]


def test_a_scope_s_name_is_chosen_where_it_is_entered() -> None:
    graph = tf.Graph()
    later = graph.name_scope("s")
    with graph.name_scope("s") as first:
        assert first == "s/"
    with later as second:
        assert second == "s_1/"
        assert graph.get_name_scope() == "s_1"
    assert graph.get_name_scope() == ""


def test_a_node_and_the_constants_made_for_it_are_of_one_line() -> None:
    with tf.Graph().as_default():
        frame = inspect.currentframe()
        assert frame is not None
        y, line = tf.placeholder(tf.float32, [2]) * 0.5, frame.f_lineno
    constant = y.op.inputs[1].op
    assert constant.type == "Const"
    for op in (y.op, constant):
        assert op.site is op.site
        assert (op.site.user.file, op.site.user.line) == (__file__, line)


class Half:
    """What becomes a tensor by a function of the user's."""


def half_to_tensor(value: Half, dtype: Any = None, name: Any = None, as_ref: bool = False) -> Any:
    return tf.constant(0.5, dtype, name=name)


tf.register_tensor_conversion_function(Half, half_to_tensor)


def test_what_the_user_s_conversion_makes_is_of_its_line() -> None:
    with tf.Graph().as_default():
        y = tf.placeholder(tf.float32, [2]) * Half()
    frames = y.op.inputs[1].op.site.frames
    here = "test_what_the_user_s_conversion_makes_is_of_its_line"
    assert [frame.function for frame in frames[:2]] == ["half_to_tensor", here]
    assert y.op.site.user.function == here


def test_inputs_change_only_through_the_operation() -> None:
    with tf.Graph().as_default():
        a, b = tf.constant(1.0), tf.constant(2.0)
        y = tf.add(a, b)
        before = y.op.inputs
        y.op._update_input(1, a)
        assert before == (a, b)
        assert y.op.inputs == (a, a)
        assert (a.consumers(), b.consumers()) == ([y.op], [])
        y.op._add_control_inputs([b.op, b.op])
        assert y.op.control_inputs == [b.op]
        assert b.op.control_outputs == [y.op]
        y.op._remove_all_control_inputs()
        assert (y.op.control_inputs, b.op.control_outputs) == ([], [])


def test_a_node_is_few_objects_for_the_garbage_collector() -> None:
    """Its operation, inputs, attrs, outputs, tensor, consumers; the place where it was made is nothing to collect."""
    with tf.Graph().as_default():
        y = tf.placeholder(tf.float32, [2])
        for _ in range(20):
            y = tf.tanh(y)
        gc.collect()
        before = len(gc.get_objects())
        for _ in range(200):
            y = tf.tanh(y)
        gc.collect()
        assert len(gc.get_objects()) - before <= 200 * 6 + 20
