"""Random nested control flow: values, gradients and graphs are those that TensorFlow gave for the same programs.

The programs are `tests/support/control_programs.py`, TensorFlow's answers `tests/golden/control_flow.npz`; how they were
made says `tests/golden/make_control_flow.py`.
"""

from __future__ import annotations

import json
import lzma
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from control_programs import COUNT, INPUTS, ROWS, SIZE, Built, inputs, nodes_of, program

import engine as tf

ANSWERS = Path(__file__).parents[1] / "golden" / "control_flow.npz"
# In these a branch inside a loop gathers at a constant index.  The index is held back here until the branch is taken; in
# TensorFlow's graph it is not, and gets out of step with the gradient's values.
DIFFERENT = {20, 77}
SHAPES = [(SIZE,)] * INPUTS + [(ROWS, SIZE)]


@cache
def answers() -> dict[str, Any]:
    with np.load(ANSWERS) as file:
        found = dict(file)
    found["graphs"] = json.loads(lzma.decompress(found["graphs"].tobytes()))
    return found


@cache
def offsets() -> list[int]:
    """Where in the stored gradients those of each program begin."""
    sizes = [
        sum(int(np.prod(shape)) for kind, shape in zip(str(kinds), SHAPES, strict=False) if kind in "ds")
        for kinds in answers()["kinds"]
    ]
    return [0, *np.cumsum(sizes).tolist()]


def gradients_of(seed: int) -> list[Any]:
    """TensorFlow's gradients of one program, dense; None where there is none."""
    stored = answers()["gradients"]
    at = offsets()[seed]
    found: list[Any] = []
    for kind, shape in zip(str(answers()["kinds"][seed]), SHAPES, strict=True):
        if kind == "-":
            found.append(None)
            continue
        size = int(np.prod(shape))
        found.append(stored[at : at + size].reshape(shape))
        at += size
    return found


def close(found: Any, wanted: Any) -> None:
    scale = float(np.max(np.abs(wanted), initial=0.0))
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5 * max(scale, 1e-2))


@pytest.mark.parametrize("seed", range(COUNT))
def test_values_and_gradients_are_tensorflows(seed: int) -> None:
    built = Built(tf, program(seed))
    feeds = dict(zip(built.inputs, inputs(seed), strict=True))
    with tf.Session() as session:
        value, found = session.run([built.result, [g for g in built.gradients if g is not None]], feeds)
    close(value, answers()["values"][seed])
    if str(answers()["kinds"][seed]) == "!":
        check_by_differences(built, feeds)
        return
    assert built.kinds == str(answers()["kinds"][seed])
    wanted = [each for each in gradients_of(seed) if each is not None]
    for mine, theirs in zip(found, wanted, strict=True):
        close(mine, theirs)


def check_by_differences(built: Any, feeds: dict[Any, Any]) -> None:
    """Where TensorFlow fails on the gradient that it built: ours against the function's own differences."""
    rng = np.random.default_rng(0)
    with tf.Session() as session:
        found = session.run([g for g in built.gradients if g is not None], feeds)
        given = [x for x, g in zip(built.inputs, built.gradients, strict=True) if g is not None]
        for x, gradient in zip(given, found, strict=True):
            direction = rng.uniform(-1, 1, gradient.shape).astype(np.float32)
            step = np.float32(1e-3)
            up, down = (
                session.run(built.result, {**feeds, x: feeds[x] + sign * step * direction})
                for sign in (1, -1)
            )
            np.testing.assert_allclose(
                np.sum(gradient * direction), (up - down) / (2 * step), rtol=2e-2, atol=2e-2
            )


def with_shapes_from_the_start(nodes: list[Any]) -> dict[str, Any]:
    """TensorFlow's nodes with the one difference that is meant: the dense shape of a loop's sparse gradient begins as the
    invariant's shape, not as that many zeros."""
    begins = re.compile(r"Enter(_\d+)?_grad/zeros_like(_\d+)?$").search
    return {name: ("Identity" if op == "ZerosLike" and begins(name) else op, ins) for name, op, ins in nodes}


@pytest.mark.parametrize("seed", sorted(set(range(COUNT)) - DIFFERENT))
def test_graphs_are_tensorflows(seed: int) -> None:
    built = Built(tf, program(seed))
    graph_def = tf.get_default_graph().as_graph_def()
    mine = {name: (op, ins) for name, op, ins in nodes_of(graph_def, built.wanted)}
    theirs = with_shapes_from_the_start(answers()["graphs"][seed])
    assert sorted(mine) == sorted(theirs)
    different = {name: (mine[name], theirs[name]) for name in theirs if mine[name] != theirs[name]}
    assert different == {}
