"""Every argument of `gradients` and `hessians`, in and around control flow: values and nodes are TensorFlow's.

The programs are `tests/support/gradient_options.py`, TensorFlow's answers `tests/golden/gradient_options.npz`; how they were
made says `tests/golden/make_gradient_options.py`.
"""

from __future__ import annotations

import json
import lzma
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from control_programs import nodes_of
from gradient_options import PROGRAMS

import engine as tf

ANSWERS = Path(__file__).parents[1] / "golden" / "gradient_options.npz"


@cache
def answers() -> dict[str, Any]:
    with np.load(ANSWERS) as file:
        found: dict[str, Any] = json.loads(lzma.decompress(file["answers"].tobytes()))
    return found


@pytest.mark.parametrize("name", PROGRAMS)
def test_values_and_nodes_are_tensorflows(name: str) -> None:
    fetches, feeds = PROGRAMS[name](tf)
    wanted = answers()["values"][name]
    assert [each is None for each in fetches] == [each is None for each in wanted]
    present = [each for each in fetches if each is not None]
    with tf.Session() as session:
        found = session.run(present, feeds)
    for mine, theirs in zip(found, [each for each in wanted if each is not None], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)
    mine = {name: (op, ins) for name, op, ins in nodes_of(tf.get_default_graph().as_graph_def(), present)}
    theirs = {name: (op, ins) for name, op, ins in answers()["graphs"][name]}
    assert sorted(mine) == sorted(theirs)
    assert {name: (mine[name], theirs[name]) for name in theirs if mine[name] != theirs[name]} == {}
