"""Stacks: last in, first out, one set a step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import engine as tf
from engine.types import errors

raw = tf.raw_ops


def stack(limit: int = -1, dtype: Any = tf.float32) -> Any:
    return raw.StackV2(max_size=limit, elem_type=dtype)


def push(handle: Any, value: Any, after: Any = ()) -> Any:
    with tf.control_dependencies(list(after)):
        return raw.StackPushV2(handle=handle, elem=value)


def pop(handle: Any, after: Any, dtype: Any = tf.float32) -> Any:
    with tf.control_dependencies(list(after)):
        return raw.StackPopV2(handle=handle, elem_type=dtype)


def test_last_in_first_out() -> None:
    handle = stack()
    first = push(handle, [1.0, 2.0])
    second = push(handle, 3.0, [first])
    top = pop(handle, [second])
    bottom = pop(handle, [top])
    with tf.Session() as session:
        for _ in range(2):  # nothing is left over from one step to the next
            got = session.run([first, second, top, bottom])
            np.testing.assert_array_equal(got[0], [1.0, 2.0])
            assert got[1] == got[2] == 3.0
            np.testing.assert_array_equal(got[3], [1.0, 2.0])
        assert list(session.resources) == []


def test_an_empty_stack_a_full_one_and_a_wrong_dtype_are_named() -> None:
    cases = [
        (pop(stack(), []), "Stack 'StackV2/0/0' is empty when calling Pop"),
        (push((full := stack(1)), 1.0, [push(full, 1.0)]), "is full: it holds 1 elements"),
        (pop((mixed := stack()), [push(mixed, 1)]), "holds int32, and float32 was asked for"),
    ]
    with tf.Session() as session:
        for fetch, message in cases:
            with pytest.raises(errors.InvalidArgumentError, match=message):
                session.run(fetch)


def test_closing_empties() -> None:
    handle = stack()
    pushed = push(handle, 1.0)
    with tf.control_dependencies([pushed]):
        closed = raw.StackCloseV2(handle=handle)
    with tf.Session() as session, pytest.raises(errors.InvalidArgumentError, match="empty"):
        session.run(pop(handle, [closed]))


def test_a_stack_made_in_a_loop_is_one_for_each_iteration() -> None:
    def body(i: Any, total: Any) -> Any:
        handle = stack()
        pushed = push(handle, tf.cast(i, tf.float32))
        popped = pop(handle, [pushed])
        popped.set_shape([])
        return i + 1, total + popped

    with tf.Session() as session:
        assert session.run(tf.while_loop(lambda i, _: i < 5, body, [0, 0.0])[1]) == 10.0


def test_a_copy_is_popped_by_itself() -> None:
    handle = stack()
    second = push(handle, 2.0, [push(handle, 1.0)])
    with tf.control_dependencies([second]):
        copy = raw._StackCopy(handle=handle, name="copy")
    popped = [pop(copy, [])]
    popped.append(pop(copy, popped))
    below = pop(handle, popped)
    with tf.Session() as session:
        assert session.run([*popped, below]) == [2.0, 1.0, 2.0]
