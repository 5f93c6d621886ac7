"""Random programs with conditionals, loops and effects, placed greedily: feasible, simulated to the end, and the same results."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from placement_devices import with_gpus
from random_programs import Program, build, evaluate, programs
from searches import examples

import engine as tf
from engine.passes.build import Builder
from engine.passes.prune import prune
from engine.placement.assumptions import Assumptions
from engine.placement.costs import StaticCosts
from engine.placement.place import PlacementOptions, place
from engine.placement.simulate import simulate
from engine.placement.ties import data_ties, reference_ties


def anywhere(seed: int) -> Callable[[Any], str]:
    """A device function that asks for one CPU or the other, or for none."""
    rng = random.Random(seed)
    return lambda op: (
        "" if op.type.startswith(("Variable", "Assign")) else rng.choice(("/cpu:0", "/cpu:1", ""))
    )


@examples(10)
@given(programs(), st.integers(0, 1 << 30), st.integers(0, 2), st.sampled_from(["simple", "greedy"]))
def test_every_program_can_be_placed_and_simulated(
    program: Program, seed: int, iterations: int, placement: str
) -> None:
    built = build(program, tf, device=anywhere(seed))
    stage = prune(
        Builder(built.graph).stage(), [x.name for x in built.feeds], [y.name for y in built.fetches], []
    )
    devices = with_gpus(1, cpus=2)
    costs = StaticCosts(devices, Assumptions(iterations=iterations))
    placed = place(stage, devices, PlacementOptions(placement=placement), costs)
    for a, b in (*reference_ties(stage), *data_ties(stage)):
        assert placed.nodes[a].device == placed.nodes[b].device
    prediction = simulate(placed, costs, devices)
    assert all(span.end_ns >= span.start_ns >= 0 for span in prediction.spans)
    assert {span.node for span in prediction.spans} >= {
        node.name for node in placed if node.type == "_Retval"
    }
    # An executor does one thing at a time.
    for device in devices:
        own = sorted(
            (s.start_ns, s.end_ns)
            for s in prediction.spans
            if s.device == device.name and s.end_ns > s.start_ns
        )
        assert all(first[1] <= second[0] for first, second in itertools.pairwise(own))
        assert prediction.peak_bytes[device.name] >= 0


@examples(6)
@given(programs(), st.sampled_from(["simple", "greedy"]))
def test_a_session_that_places_greedily_computes_the_same(program: Program, placement: str) -> None:
    built, outcome = build(program, tf), evaluate(program)
    config: Any = tf.ConfigProto(device_count={"CPU": 2}, placement=placement)
    with tf.Session(graph=built.graph, config=config) as session:
        session.run(built.initializer)
        results = session.run(built.fetches, built.feeds)
        variables = session.run(built.variables)
    assert results[0] == outcome.results[0]
    np.testing.assert_allclose(results[1], outcome.results[1], rtol=1e-9, atol=1e-12)
    for name, value in variables.items():
        np.testing.assert_allclose(value, outcome.variables[name], rtol=1e-9, atol=1e-12, err_msg=name)
