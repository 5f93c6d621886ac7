"""Random loops over TensorArrays, with gradients and errors, in exact plans: as the interpreter, to the bit and to the word."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from searches import examples

import engine as tf
from engine.native import compiler
from engine.runtime.plan import specials

pytestmark = pytest.mark.skipif(not compiler.available(), reason=compiler.why_not())


@pytest.fixture(autouse=True, scope="module")
def _however_small() -> Iterator[None]:
    """A program of a few ops gets a specialisation, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(specials, "TINY", 0)
        yield


@dataclass(frozen=True)
class Case:
    """Iteration i reads element (i·step + first) mod within of one array and writes (i·stride + offset) mod wrap of another."""

    size: int
    iterations: int
    step: int
    first: int
    within: int
    stride: int
    offset: int
    wrap: int
    clears: bool
    clears_out: bool
    infers: bool
    is_shaped: bool
    branches: bool
    how: str
    gradient: bool
    seed: int


@st.composite
def cases(draw: st.DrawFn) -> Case:
    size, small, flag = draw(st.integers(1, 5)), st.integers(0, 4), st.booleans()
    return Case(
        size=size,
        iterations=draw(st.integers(1, size + 1)),
        step=draw(small),
        first=draw(small),
        within=size + draw(st.sampled_from([0, 0, 0, 1])),
        stride=draw(st.sampled_from([1, 1, 1, 2, 0])),
        offset=draw(small),
        wrap=size + draw(st.sampled_from([0, 0, 0, 1])),
        clears=draw(flag),
        clears_out=draw(flag),
        infers=draw(flag),
        is_shaped=draw(flag),
        branches=draw(flag),
        how=draw(st.sampled_from(["stack", "concat", "gather", "read", "none"])),
        gradient=draw(flag),
        seed=draw(st.integers(0, 99)),
    )


ENDS = {
    "stack": lambda out, size: out.stack(),
    "concat": lambda out, size: out.concat(),
    "gather": lambda out, size: out.gather([0, size - 1]),
    "read": lambda out, size: out.read(0),
}


def make(case: Case) -> list[Any]:
    """The fetches; the placeholders are `x` and `n`, and a variable sums up what successful steps gave."""
    x = tf.placeholder(tf.float32, [case.size, 2], name="x")
    n = tf.placeholder(tf.int32, [], name="n")
    source = tf.TensorArray(tf.float32, case.size, clear_after_read=case.clears).unstack(tf.sin(x))
    shape = [2] if case.is_shaped else None
    out = tf.TensorArray(
        tf.float32, case.size, infer_shape=case.infers, element_shape=shape, clear_after_read=case.clears_out
    )

    def body(i: Any, y: Any, out: Any) -> Any:
        element = source.read((i * case.step + case.first) % case.within)
        y = tf.tanh(y * element + tf.cast(i, tf.float32))
        if case.branches:
            y = tf.cond(tf.reduce_sum(y) > 0, lambda: y * element, lambda: y - 1.0)
        return i + 1, y, out.write((i * case.stride + case.offset) % case.wrap, y)

    _, y, out = tf.while_loop(lambda i, *_: i < n, body, (tf.constant(0), tf.ones([2]), out))
    end = ENDS[case.how](out, case.size) if case.how in ENDS else y
    fetches = [end, y]
    if case.gradient:
        fetches += [g for g in tf.gradients(tf.reduce_sum(end * end), [x]) if g is not None]
    total = tf.Variable(np.zeros(2, np.float32), name="total")
    with tf.control_dependencies(fetches):
        return [*fetches, tf.assign_add(total, y)]


def told(case: Case, plans: str) -> list[Any]:
    """What some steps give: bytes of arrays, or an error's type; behind each the variable's bytes.

    Where several things are wrong, the schedule decides which of them is found first.
    """
    with tf.Graph().as_default() as graph:
        fetches = make(case)
        start = tf.global_variables_initializer()
        (total,) = [each.value() for each in tf.global_variables()]
    x = np.random.default_rng(case.seed).normal(size=(case.size, 2)).astype(np.float32)
    found: list[Any] = []
    with tf.Session(graph=graph, config=tf.ConfigProto(plans=plans, exact=True)) as session:
        session.run(start)
        for count in (case.iterations, case.size, 0, 1):
            feed = {graph.get_tensor_by_name("x:0"): x, graph.get_tensor_by_name("n:0"): np.int32(count)}
            try:
                found.append([each.tobytes() for each in session.run(fetches, feed)])
            except tf.errors.OpError as error:
                found.append(type(error))
            found.append(session.run(total).tobytes())
    return found


def check(case: Case) -> None:
    assert told(case, "always") == told(case, "off")


@given(cases())
@examples(8)
def test_as_the_interpreter(case: Case) -> None:
    check(case)


@pytest.mark.slow
@pytest.mark.deep
@given(cases())
@settings(max_examples=60, deadline=None)
def test_more_as_the_interpreter(case: Case) -> None:
    check(case)
