"""Graphs that TensorFlow built, run here: the same answers.  What is in the folders says tf_graphs/README.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import engine as tf
from engine.graph.graphdef import read_graph

FOLDER = Path(__file__).with_name("tf_graphs")

# What is asked for in tf_graphs/README.md: more where many steps have made something of the rounding of one.
RELATIVE = {
    "batchnorm": 1e-5,
    "embedding_adagrad": 1e-4,
    "lenet_momentum": 1e-4,
    "mlp_adam": 1e-4,
    "nested_control": 1e-5,
    "shapes": 1e-5,
    "tensorarray_rnn": 1e-5,
    "while_gradient": 1e-5,
}


@pytest.mark.parametrize("name", RELATIVE)
def test_answers_are_tensorflows(name: str) -> None:
    folder = FOLDER / name
    runs = json.loads((folder / "runs.json").read_text())
    values = np.load(folder / "values.npz")
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(read_graph(folder / "graph.pb"), name="")
    compared = 0
    with tf.Session(graph=graph) as session:
        for number, run in enumerate(runs):
            feeds = {tensor: values[f"{number} feed {tensor}"] for tensor in run["feeds"]}
            found, _ = session.run([run["fetches"], run["targets"]], feeds)
            for tensor, value in zip(run["fetches"], found, strict=True):
                compare(f"run {number}, {tensor}", value, values[f"{number} fetch {tensor}"], RELATIVE[name])
                compared += 1
    assert compared == sum(" fetch " in key for key in values.files)


def compare(what: str, found: Any, expected: Any, relative: float) -> None:
    """Integers exactly; floats within `relative` of each value, or of the array's greatest where a value is near zero."""
    found = np.asarray(found)
    assert found.dtype == expected.dtype, what
    assert found.shape == expected.shape, what
    if expected.dtype.kind in "fc":
        scale = float(np.max(np.abs(expected), initial=0.0))
        np.testing.assert_allclose(found, expected, rtol=relative, atol=relative * scale * 1e-2, err_msg=what)
    else:
        np.testing.assert_array_equal(found, expected, err_msg=what)
