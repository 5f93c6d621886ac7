"""Our passes beside TensorFlow's Grappler, on graphs that TensorFlow built.

What Grappler leaves is recorded in `tests/golden/grappler.json`, made by

    /path/to/python/with/tensorflow benchmarks/grappler.py record
"""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pass_runs import config

import engine as tf
from engine.graph.graphdef import read_graph

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "grappler.py"
spec = importlib.util.spec_from_file_location("grappler", SCRIPT)
assert spec is not None and spec.loader is not None
grappler: Any = importlib.util.module_from_spec(spec)
spec.loader.exec_module(grappler)

MODELS = sorted(grappler.recorded()["models"])


@cache
def ours(name: str) -> dict[str, Any]:
    return grappler.ours(name)


@pytest.mark.parametrize("name", MODELS)
def test_no_more_nodes_than_grappler_leaves(name: str) -> None:
    mine, theirs = ours(name), grappler.recorded()["models"][name]
    assert mine["pruned"] == theirs["pruned"], "not the same graph"
    assert mine["unfused"] <= theirs["all"]
    assert mine["all"] <= mine["unfused"] < mine["pruned"]


@pytest.mark.parametrize("name", MODELS)
def test_each_pass_beside_its_like(name: str) -> None:
    mine, theirs = ours(name)["alone"], grappler.recorded()["models"][name]
    assert mine["remap"] <= theirs["alone"]["remap"]
    assert mine["fuse"] <= theirs["pruned"]
    assert mine["dependencies"] <= theirs["alone"]["dependency"] + 2  # NoOps that join control edges
    assert mine["fold"] <= theirs["alone"]["constfold"]


def test_a_matrix_of_unknown_rows_is_not_reshaped_to_a_matrix() -> None:
    with tf.Graph().as_default():
        logits, labels = tf.placeholder(tf.float32, [None, 3]), tf.placeholder(tf.float32, [None, 3])
        loss = tf.nn.softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        with tf.Session() as session:
            stage = session.stage_for(loss, [logits, labels])
            feeds = {logits: np.log([[0.5, 0.25, 0.25]] * 4), labels: [[1, 0, 0]] * 4}
            np.testing.assert_allclose(session.run(loss, feeds), [np.log(2)] * 4, rtol=1e-6)
    left = [node.type for node in stage if node.type not in ("_Arg", "_Retval")]
    assert left == ["SoftmaxCrossEntropyWithLogits"]


def test_the_layers_of_the_models_are_one_node_each() -> None:
    from engine.passes.pipeline import optimize
    from engine.passes.settings import Settings

    wanted = {"lenet_momentum": ["_FusedConv2D"] * 2, "mlp_adam": ["_FusedMatMul"] * 2}
    for name, fused in wanted.items():
        stage, _ = grappler.stages(name)
        left = optimize(stage, Settings())
        assert sorted(node.type for node in left if node.type in ("_FusedConv2D", "_FusedMatMul")) == fused
        reasons = {node.lineage.reason for node in left if node.type == fused[0]}
        assert any(
            "+ BiasAdd + Relu as one kernel" in each or "+ AddV2 + Relu as one kernel" in each
            for each in reasons
        )


@pytest.mark.parametrize("name", ["lenet_momentum", "mlp_adam", "while_gradient"])
def test_kernel_passes_change_no_bit_of_a_model(name: str) -> None:
    """Training included: with `remap` and `fuse`, the numbers are those of the graph as it was imported."""
    number = grappler.recorded()["models"][name]["run"]
    folder = grappler.GRAPHS / name
    runs = json.loads((folder / "runs.json").read_text())
    values = np.load(folder / "values.npz")
    results = []
    for passes in ((), ("remap", "fuse")):
        graph = tf.Graph()
        with graph.as_default():
            tf.import_graph_def(read_graph(folder / "graph.pb"), name="")
        with tf.Session(graph=graph, config=config(*passes)) as session:
            found = []
            for i, each in enumerate(runs[: number + 2]):
                feeds = {tensor: values[f"{i} feed {tensor}"] for tensor in each["feeds"]}
                found.append(session.run([each["fetches"], each["targets"]], feeds)[0])
        results.append(found)
    for plain, fused in zip(*results, strict=True):
        for a, b in zip(plain, fused, strict=True):
            np.testing.assert_array_equal(a, b)
