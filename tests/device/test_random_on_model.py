"""Random programs with every node on the CPU or on one of two modelled GPUs: the results are those of the CPU alone."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from random_programs import Program, build, programs
from searches import examples

import engine as tf
from engine.device.modelled.parameters import GPUModel


def somewhere(seed: int) -> Callable[[Any], str]:
    """A device function: variables, and what changes them, are on one device drawn for all of them; the rest is anywhere."""
    rng = random.Random(seed)
    names = ("/cpu:0", "/gpu:0", "/gpu:1")
    home = rng.choice(names)
    return lambda op: home if op.type.startswith(("Variable", "Assign")) else rng.choice(names)


@given(programs(), st.integers(0, 1 << 20))
@examples(8)
def test_as_on_the_cpu(program: Program, seed: int) -> None:
    options = tf.GPUOptions(modelled=GPUModel(capacity=2**24, delay_ns=50_000, seed=seed))
    config = tf.ConfigProto(device_count={"GPU": 2}, gpu_options=options, allow_soft_placement=True)
    found = []
    for each, device in ((None, None), (config, somewhere(seed))):
        built = build(program, tf, device=device)
        with tf.Session(graph=built.graph, config=each) as session:
            session.run(built.initializer)
            found.append((session.run(built.fetches, built.feeds), session.run(built.variables)))
            for gpu in session.devices[1:]:
                gpu.synchronize()
    (wanted, variables), (results, other_variables) = found
    for one, other in zip(wanted, results, strict=True):
        np.testing.assert_array_equal(other, one)
    for name, value in variables.items():
        np.testing.assert_array_equal(other_variables[name], value)
