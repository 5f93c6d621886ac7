"""Second derivatives of random programs of nested conds and loops are the slopes of their first ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from control_programs import Built, inputs
from control_programs import program as tree
from hypothesis import Phase, assume, example, given, settings
from hypothesis import strategies as st
from random_programs import Program, build, programs
from searches import examples

import engine as tf

STEP = 1e-5


def along(session: Any, y: Any, feeds: dict[Any, Any], direction: dict[Any, Any]) -> float | None:
    """The slope of the scalar `y` in a direction; None where it has a kink or a jump there."""

    def at(distance: float) -> float:
        return float(
            session.run(y, {x: value + distance * direction.get(x, 0) for x, value in feeds.items()})
        )

    middle = at(0.0)
    found = []
    for step in (STEP, STEP / 4):
        above, below = at(step), at(-step)
        if abs((above - middle) - (middle - below)) > 1e-3 * step + 1e-2 * abs(above - below):
            return None
        found.append((above - below) / (2 * step))
    return found[1] if abs(found[0] - found[1]) < 1e-4 * max(1.0, abs(found[1])) else None


def weighted(gradients: Any, xs: Any, rng: Any) -> Any:
    """One scalar of all gradients, and None if there are none."""
    terms = [
        tf.reduce_sum(tf.convert_to_tensor(gradient) * rng.uniform(-1, 1, x.shape.as_list()))
        for gradient, x in zip(gradients, xs, strict=True)
        if gradient is not None
    ]
    return tf.add_n(terms) if terms else None


def check(y: Any, xs: Any, feeds: dict[Any, Any], order: int, threads: int, **options: Any) -> None:
    rng = np.random.default_rng(0)
    for _ in range(order - 1):
        y = weighted(tf.gradients(y, xs, **options), xs, rng)
        assume(y is not None)
    direction = {x: rng.uniform(-1, 1, x.shape.as_list()) for x in xs}
    found = [
        tf.zeros(x.shape, tf.float64) if gradient is None else tf.convert_to_tensor(gradient)
        for gradient, x in zip(tf.gradients(y, xs, **options), xs, strict=True)
    ]
    with tf.Session(config=tf.ConfigProto(inter_op_parallelism_threads=threads)) as session:
        wanted = along(session, y, feeds, direction)
        assume(wanted is not None)
        slope = sum(
            float(np.sum(value * direction[x]))
            for value, x in zip(session.run(found, feeds), xs, strict=True)
        )
    assert wanted is not None
    np.testing.assert_allclose(slope, wanted, rtol=1e-4, atol=1e-4)


def check_tree(seed: int, order: int, threads: int, gate: bool, method: int) -> None:
    with tf.Graph().as_default():
        built = Built(tf, tree(seed), tf.float64)
        feeds = dict(zip(built.inputs, (each.astype(np.float64) for each in inputs(seed)), strict=True))
        check(
            built.result, built.inputs, feeds, order, threads, gate_gradients=gate, aggregation_method=method
        )


seeds = st.integers(0, 100_000)
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)  # a smaller seed is not a smaller program


@examples(3, phases=PHASES)
@given(
    seeds.filter(
        lambda seed: len(repr(tree(seed))) < 600
    ),  # a graph of a few thousand nodes, not ten times as many
    st.just(2),
    st.sampled_from([1, 4]),
    st.booleans(),
    st.sampled_from([0, 1, 2]),
)
@example(9, 3, 1, False, 0)
def test_derivatives_with_tables_and_arrays(
    seed: int, order: int, threads: int, gate: bool, method: int
) -> None:
    check_tree(seed, order, threads, gate, method)


@pytest.mark.slow
@pytest.mark.deep
@settings(max_examples=15, phases=PHASES)
@given(seeds, st.sampled_from([2, 3]), st.sampled_from([1, 4]), st.booleans(), st.sampled_from([0, 1, 2]))
def test_higher_derivatives_with_tables_and_arrays(
    seed: int, order: int, threads: int, gate: bool, method: int
) -> None:
    check_tree(seed, order, threads, gate, method)


@examples(6)
@given(programs(depth=3, effects=False), st.sampled_from([1, 4]))
def test_second_derivatives_of_programs_with_random_predicates(program: Program, threads: int) -> None:
    built = build(program, tf)
    place = next(tensor for tensor in built.feeds if tensor.op.name == "f0")
    # Away from the numbers that constants have, where max and min would be tied.
    feeds = {**built.feeds, place: np.array([0.31, -0.57])}
    with built.graph.as_default():
        rest = {tensor: value for tensor, value in feeds.items() if tensor is not place}
        with_rest = {tensor: np.asarray(value) for tensor, value in rest.items()}
        check(built.fetches[1], [place], {**with_rest, place: feeds[place]}, 2, threads)
