"""Memory passes: the estimate against what NumPy really takes, and that both ways to save lower it and change no bit."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pass_runs import config, run, same_bits

import engine as tf
from engine.passes.facts import Facts
from engine.passes.memory import Model
from engine.passes.rewrite import Draft
from engine.passes.settings import RewriterConfig, Settings
from engine.passes.stage import Stage

ONE = 256 * 64 * 4  # bytes of an activation below


def deep(layers: int, rng: np.random.Generator) -> tuple[Any, list[Any]]:
    """A deep network with much to keep between its products: the input, and the loss with its gradients."""
    x = tf.placeholder(tf.float32, [256, 64])
    h, weights = x, []
    for _ in range(layers):
        weights.append(tf.Variable((rng.normal(size=(64, 64)) * 0.12).astype(np.float32)))
        h = tf.matmul(h, weights[-1])
        h = tf.nn.relu(tf.square(tf.sigmoid(h)) * tf.tanh(h) + tf.exp(-tf.square(h)))
    loss = tf.reduce_mean(h)
    return x, [loss, *tf.gradients(loss, weights)]


def estimate(stage: Stage) -> int:
    return Model.of(stage.nodes).peak().nbytes


def measured(fetches: Any, feeds: Any, *passes: str, **options: Any) -> int:
    """The bytes that a run of the executor really takes at most, by Python's own account (NumPy reports to it)."""
    interpreted = replace(config(*passes, **options), plans="off")
    with tf.Session(graph=fetches[0].graph, config=interpreted) as session:
        session.run(tf.global_variables_initializer())
        session.run([fetches[0].op], feeds)
        call = session.make_callable([fetches[0], *(g.op for g in fetches[1:])], list(feeds))
        call(*feeds.values())
        tracemalloc.start()
        call(*feeds.values())
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak


# The estimate.


def test_a_chain_needs_two_tensors_at_once() -> None:
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [256, 64])
        y = x
        for _ in range(5):
            y = tf.exp(y)
        _, stage = run([y], {x: np.zeros((256, 64))})
    assert estimate(stage) == 2 * ONE


def test_what_is_handed_on_shares_and_a_late_reader_keeps() -> None:
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [256, 64])
        early = tf.exp(x)
        seen = tf.reshape(tf.identity(early), [64, 256])
        y = seen
        for _ in range(4):
            y = tf.sin(y)
        _, stage = run([y + tf.reshape(early, [64, 256])], {x: np.zeros((256, 64))})
    assert estimate(stage) == 3 * ONE + 16  # and two shapes, which are constants


def test_the_estimate_is_near_what_is_taken() -> None:
    with tf.Graph().as_default():
        x, fetches = deep(4, np.random.default_rng(0))
        feeds = {x: np.random.default_rng(1).normal(size=(256, 64)).astype(np.float32)}
        _, stage = run(fetches, feeds)
        taken = measured(fetches, feeds)
    assert 0.6 * taken < estimate(stage) < 1.6 * taken


# Recomputing.


@pytest.mark.parametrize("budget", [0, 25 * ONE])
def test_recomputing_lowers_the_peak_and_changes_no_bit(budget: int) -> None:
    with tf.Graph().as_default():
        x, fetches = deep(6, np.random.default_rng(0))
        feeds = {x: np.random.default_rng(1).normal(size=(256, 64)).astype(np.float32)}
        options = {
            "memory_budget_bytes": budget,
            "memory_optimization": RewriterConfig.RECOMPUTATION_HEURISTICS,
        }
        plain, before = run(fetches, feeds)
        again, after = run(fetches, feeds, "recompute", **options)
        fused, _ = run(fetches, feeds, "recompute", "remap", "fuse", **options)
        taken = measured(fetches, feeds), measured(fetches, feeds, "recompute", **options)
    same_bits(again, plain)
    same_bits(fused, plain)
    assert estimate(after) <= max(budget, 0.6 * estimate(before))
    assert taken[1] < 0.8 * taken[0]
    made = [node for node in after if node.name.startswith("Recomputed/")]
    assert made and all(node.control_inputs and after.origin(node.name) for node in made)
    assert "is not kept until then" in made[0].lineage.reason


def test_nothing_is_done_without_need() -> None:
    with tf.Graph().as_default():
        x, fetches = deep(3, np.random.default_rng(0))
        feeds = {x: np.zeros((256, 64))}
        for options in (
            {},
            {"memory_budget_bytes": 1 << 40},
            {"memory_budget_bytes": 1, "memory_optimization": RewriterConfig.NO_MEM_OPT},
        ):
            _, stage = run(fetches, feeds, "recompute", **options)
            assert not any(node.name.startswith("Recomputed/") for node in stage)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.sampled_from(["Square", "Sigmoid", "Tanh", "Exp", "Relu"]), min_size=3, max_size=10),
    st.integers(0, 99),
)
def test_random_chains_recompute_to_the_same_bits(names: list[str], seed: int) -> None:
    rng = np.random.default_rng(seed)
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [16, 16])
        h = x
        for i, name in enumerate(names):
            h = getattr(tf.raw_ops, name)(h)
            if i % 3 == 2:
                h = tf.matmul(h, rng.normal(size=(16, 16)).astype(np.float32) * 0.2)
        fetches = [h, *tf.gradients(h, [x])]
        feeds = {x: rng.normal(size=(16, 16)).astype(np.float32)}
        plain, before = run(fetches, feeds)
        again, after = run(
            fetches, feeds, "recompute", memory_optimization=RewriterConfig.RECOMPUTATION_HEURISTICS
        )
    same_bits(again, plain)
    changed = any(node.name.startswith("Recomputed/") for node in after)
    assert estimate(after) < estimate(before) if changed else estimate(after) == estimate(before)


# Swapping.


class Accelerator:
    """What the pass asks of a device: memory of its own, of that size."""

    on_host = False

    def __init__(self, name: str, memory_limit: int) -> None:
        self.name = name
        self.memory_limit = memory_limit


class Host(Accelerator):
    on_host = True


def test_a_full_device_swaps_to_the_host() -> None:
    """On a stage whose nodes have devices: as placement leaves it."""
    import dataclasses
    from types import MappingProxyType

    from engine.passes import swap
    from engine.passes.check import check

    with tf.Graph().as_default():
        x, fetches = deep(6, np.random.default_rng(0))
        _, stage = run(fetches, {x: np.zeros((256, 64))})
    host, device = Host("/device:CPU:0", 0), Accelerator("/device:X:0", 22 * ONE)
    placed = dataclasses.replace(
        stage,
        nodes=MappingProxyType(
            {name: dataclasses.replace(node, device=device.name) for name, node in stage.nodes.items()}
        ),
    )
    before = Model.of(placed.nodes).peak(device.name).nbytes
    assert before > device.memory_limit
    draft = Draft(placed, "optimized/swap")
    swap.run(draft, Facts(draft, (host, device), Settings()))
    after = draft.finish()
    check(after)
    assert Model.of(after.nodes).peak(device.name).nbytes <= device.memory_limit
    out = [node for node in after if node.name.startswith("swap_out/")]
    back = [node for node in after if node.name.startswith("swap_in/")]
    assert len(out) == len(back) > 0
    assert {node.device for node in out} == {host.name} and {node.device for node in back} == {device.name}
    assert all(node.control_inputs for node in back)
    assert "waits in the host's memory: /device:X:0 would need" in out[0].lineage.reason


def test_what_does_not_fit_a_gpu_runs_on_it() -> None:
    """A modelled GPU raises when its memory is full; with swapping the same graph runs there, to the same bits."""
    from engine.device.modelled.parameters import GPUModel

    with tf.Graph().as_default(), tf.device("/gpu:0"):
        x, fetches = deep(6, np.random.default_rng(0))
    feeds = {x: np.random.default_rng(1).normal(size=(256, 64)).astype(np.float32)}

    def on_gpu(capacity: int, swap: bool) -> tuple[list[Any], Stage]:
        settings = tf.ConfigProto(
            device_count={"GPU": 1},
            allow_soft_placement=True,
            gpu_options=tf.GPUOptions(modelled=GPUModel(capacity=capacity)),
            graph_options=config("swap" if swap else "cse").graph_options,
        )
        with tf.Session(graph=x.graph, config=settings) as session:
            session.run(tf.global_variables_initializer())
            return session.run(fetches, feeds), session.stage_for(fetches, [x])

    with x.graph.as_default():
        roomy, before = on_gpu(1 << 30, swap=True)
        with pytest.raises(tf.errors.ResourceExhaustedError, match="OOM when allocating"):
            on_gpu(30 * ONE, swap=False)
        tight, after = on_gpu(30 * ONE, swap=True)
    same_bits([np.asarray(v) for v in tight], [np.asarray(v) for v in roomy])
    assert "optimized/swap" in [each.name for each in after.chain()]
    assert "optimized/swap" not in [each.name for each in before.chain()]
