"""Random programs through the interpreter and through plans: the same results and variables, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_programs import Program, build, programs
from searches import examples

import engine as tf
from engine.passes.settings import Level, OptimizerOptions

SEEDS = st.integers(0, 1 << 30)
NO_FORM = "it may run where the loop around it is not entered"


def run(
    program: Program, plans: str, optimized: bool, native: bool = True, exact: bool = True, runs: int = 4
) -> list[Any]:
    """What some runs of `program` give, one after the other, each with the variables after it."""
    level = OptimizerOptions() if optimized else OptimizerOptions(opt_level=Level.L0)
    options = tf.GraphOptions(optimizer_options=level)
    config = tf.ConfigProto(plans=plans, native=native, exact=exact, graph_options=options)
    built = build(program, tf)
    given: list[Any] = []
    with tf.Session(graph=built.graph, config=config) as session:
        session.run(built.initializer)
        for _ in range(runs):
            given.append(session.run(built.fetches, built.feeds))
            given.append(session.run(built.variables))
        executable = next(
            each
            for signature, each in session._executables.items()
            if len(signature.fetches) == len(built.fetches)
        )
        if plans == "always":
            plan = executable.choice.plan
            if plan is None:  # a few graphs have no such form, and are interpreted
                assert executable.choice.reason is not None and executable.choice.reason.reason == NO_FORM
                return given
            assert plan.specials is None or plan.specials.failed is None
    return given


def same(one: Any, other: Any) -> None:
    """Raise AssertionError unless two nests of arrays are equal bit for bit."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        one, other = list(one.values()), list(other.values())
    if isinstance(one, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            same(a, b)
        return
    a, b = np.asarray(one), np.asarray(other)
    assert a.dtype == b.dtype and a.shape == b.shape
    assert a.tobytes() == b.tobytes(), (a, b)


BACKENDS = st.sampled_from(["python", "tape"])


def check(program: Program, optimized: bool, backend: str) -> None:
    same(run(program, "off", optimized), run(program, "always", optimized, native=backend == "tape"))


@given(programs(), st.booleans(), BACKENDS)
@examples(15)
def test_as_the_interpreter(program: Program, optimized: bool, backend: str) -> None:
    check(program, optimized, backend)


@pytest.mark.slow
@pytest.mark.deep
@given(programs(depth=4), st.booleans(), BACKENDS)
@settings(max_examples=40)
def test_deeper_programs(program: Program, optimized: bool, backend: str) -> None:
    check(program, optimized, backend)
