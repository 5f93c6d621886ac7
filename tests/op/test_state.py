"""Variable ops by themselves: assignment, counting, what is initialized, and what happens to reads and writes in one step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import engine as tf
from engine.op.registry import raw


def variable(shape: Any = (2,), dtype: Any = tf.float32, name: str = "v", **attrs: Any) -> Any:
    return raw.VariableV2(shape=shape, dtype=dtype, name=name, **attrs)


def test_a_variables_output_is_a_reference() -> None:
    v = variable()
    assert v.dtype == tf.float32._as_ref
    assert v.shape.as_list() == [2]
    assert raw.Identity(v).dtype == tf.float32
    assert raw.Assign(v, [1.0, 2.0]).dtype == tf.float32._as_ref


@pytest.mark.parametrize(
    "dtype", ["float16", "bfloat16", "float32", "float64", "int8", "uint8", "int32", "int64", "complex64"]
)
def test_assign_add_and_subtract(dtype: str) -> None:
    wanted = tf.as_dtype(dtype)
    v = variable((3,), wanted)
    values = np.array([1, 2, 3]).astype(wanted.np_dtype)
    with tf.Session() as session:
        assert session.run(raw.Assign(v, values)).tolist() == [1, 2, 3]
        assert session.run(raw.AssignAdd(v, values)).tolist() == [2, 4, 6]
        result = session.run(raw.AssignSub(v, np.array([1, 1, 1]).astype(wanted.np_dtype)))
        assert result.tolist() == [1, 3, 5]
        assert result.dtype == wanted.np_dtype


def test_strings_and_bools_can_be_kept() -> None:
    words, flags = variable((2,), tf.string, "words"), variable((2,), tf.bool, "flags")
    with tf.Session() as session:
        session.run([raw.Assign(words, ["a", "bc"]).op, raw.Assign(flags, [True, False]).op])
        assert session.run(words).tolist() == [b"a", b"bc"]
        assert session.run(flags).tolist() == [True, False]


def test_what_is_initialized() -> None:
    v = variable()
    known = raw.IsVariableInitialized(v)
    with tf.Session() as session:
        assert session.run(known) is np.False_ or not session.run(known)
        session.run(raw.Assign(v, [1.0, 2.0]))
        assert session.run(known)
    with tf.Session() as other:
        assert not other.run(known)


def test_reading_before_initializing_names_the_variable_and_the_way_out() -> None:
    v = variable(name="weights")
    with tf.Session() as session:
        for fetch in (v, raw.Identity(v), raw.AssignAdd(v, [1.0, 1.0]), raw.AssignSub(v, [1.0, 1.0])):
            with pytest.raises(
                tf.errors.FailedPreconditionError, match="uninitialized value weights"
            ) as caught:
                session.run(fetch)
            assert "initializer" in str(caught.value)


def test_shapes_are_checked_while_building_and_while_running() -> None:
    v = variable((2,))
    given = tf.placeholder(tf.float32, None)
    with pytest.raises(ValueError):
        raw.Assign(v, [1.0, 2.0, 3.0])
    with pytest.raises(ValueError):
        raw.AssignAdd(v, 1.0)
    with tf.Session() as session:
        with pytest.raises(
            tf.errors.InvalidArgumentError, match=r"shapes of both tensors to match.*\(2,\).*\[3\]"
        ):
            session.run(raw.Assign(v, given), {given: [1, 2, 3]})
        session.run(raw.Assign(v, [1.0, 2.0]))
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"\[2\].*\[3\]"):
            session.run(raw.Assign(v, given), {given: [1, 2, 3]})
        with pytest.raises(tf.errors.InvalidArgumentError, match="same size"):
            session.run(raw.AssignAdd(v, given), {given: 1})
        session.run(raw.Assign(v, given, validate_shape=False), {given: [[1, 2, 3]]})
        assert session.run(v).shape == (1, 3)


def test_dtypes_are_checked_while_building() -> None:
    with pytest.raises(TypeError, match=r"int32.*float32|float32.*int32"):
        raw.Assign(variable(), tf.constant([1, 2]))
    with pytest.raises(TypeError, match="requires a variable"):
        raw.Assign(tf.constant([1.0]), [1.0])


def test_what_is_assigned_later_does_not_reach_back() -> None:
    v = variable(())
    with tf.Session() as session:
        session.run(raw.Assign(v, 1.0))
        before = raw.Identity(v)
        with tf.control_dependencies([before]):
            changed = raw.AssignAdd(v, 10.0)
        with tf.control_dependencies([changed]):
            after = raw.Identity(v)
        assert session.run([before, after]) == [1.0, 11.0]


def test_the_session_keeps_its_own_copy() -> None:
    v = variable()
    given = tf.placeholder(tf.float32, [2])
    mine = np.array([1.0, 2.0], np.float32)
    with tf.Session() as session:
        session.run(raw.Assign(v, given), {given: mine})
        mine[0] = 99
        fetched = session.run(v)
        np.testing.assert_array_equal(fetched, [1, 2])
        fetched[1] = 99
        np.testing.assert_array_equal(session.run(v), [1, 2])


def test_nodes_that_share_a_name_share_the_variable() -> None:
    a, b = variable((), shared_name="kept"), variable((), name="other", shared_name="kept")
    with tf.container("elsewhere"):
        c = variable((), name="third", shared_name="kept")
    with tf.Session() as session:
        session.run(raw.Assign(a, 5.0))
        assert session.run(b) == 5
        assert not session.run(raw.IsVariableInitialized(c))


def test_counting_up_to_a_limit() -> None:
    v = variable((), tf.int64)
    count = raw.CountUpTo(v, limit=3)
    with tf.Session() as session:
        session.run(raw.Assign(v, np.int64(0)))
        assert [session.run(count) for _ in range(3)] == [0, 1, 2]
        for _ in range(2):
            with pytest.raises(tf.errors.OutOfRangeError, match="limit of 3"):
                session.run(count)
        assert session.run(v) == 3


def test_what_changes_a_variable_is_colocated_with_it() -> None:
    v = variable(name="v")
    for made in (raw.Assign(v, [1.0, 2.0]), raw.AssignAdd(v, [1.0, 2.0]), raw.ScatterAdd(v, [0], [1.0])):
        assert made.op.colocation_groups() == [b"loc:@v"]
    with tf.device("/device:CPU:1"):
        w = variable(name="w")
    assert "CPU:1" in raw.Assign(w, [1.0, 2.0]).device.upper()


def test_no_gradient_flows_through_an_assignment() -> None:
    v = variable(())
    x = tf.constant(2.0)
    assert tf.gradients(raw.Assign(v, x * x), x) == [None]
