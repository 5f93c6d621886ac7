"""Random programs through each pass alone and through all: the same results to the bit, fewer nodes, every node accounted for.

The graph checker runs around every pass (`tests/conftest.py`).
"""

from __future__ import annotations

from typing import Any

import control_programs
import numpy as np
import pytest
import random_programs
from hypothesis import given, settings
from hypothesis import strategies as st
from optimizing import CORE, only, plain, same_bits
from searches import examples

import engine as tf
from engine.passes import pipeline
from engine.passes.settings import Settings

PIPELINES = [(name,) for name in CORE] + [CORE]


def accounted_for(stage: Any) -> None:
    """Every node descends from nodes of the graph as written, and every node as written lives on or has a reason to be gone."""
    first = stage.chain()[0]
    for name in stage.nodes:
        origins = stage.origin(name)
        assert origins and all(origin in first.nodes for origin in origins)
    alive = set(first.nodes)
    for before, after in zip(stage.chain(), stage.chain()[1:], strict=False):
        successors = {source for name in after.nodes for source in after.sources(name)}
        for name in before.nodes:
            assert name in successors or after.removed[name]
    assert alive


def at_rest(stage: Any, config: Any) -> None:
    """The same passes find nothing more to do."""
    options = config.graph_options
    assert pipeline.optimize(stage, Settings(options.optimizer_options, options.rewrite_options)) is stage


def check(
    graph: Any,
    fetches: Any,
    feeds: dict[Any, Any],
    names: tuple[str, ...],
    before: Any = None,
    also: Any = None,
) -> None:
    """The program gives what it gives without passes; `before` is run first, `also` after, in the same session."""
    found = []
    for config in (plain(), only(*names)):
        with tf.Session(graph=graph, config=config) as session:
            if before is not None:
                session.run(before)
            results = [*session.run(fetches, feeds), *session.run(fetches, feeds)]
            results += session.run(also) if also else []
            found.append((results, session.stage_for(fetches, list(feeds))))
    (expected, written), (results, stage) = found
    assert all(same_bits(a, b) for a, b in zip(expected, results, strict=True))
    if names != ("invariants",):  # which makes two nodes of one, of which none runs in the loop
        assert len(stage) <= len(written)
    accounted_for(stage)
    at_rest(stage, only(*names))


@pytest.mark.parametrize("names", PIPELINES, ids="+".join)
@given(program=random_programs.programs())
@examples(5)
def test_programs_with_effects(names: tuple[str, ...], program: random_programs.Program) -> None:
    built = random_programs.build(program, tf)
    check(built.graph, built.fetches, built.feeds, names, built.initializer, list(built.variables.values()))


@pytest.mark.parametrize("names", PIPELINES, ids="+".join)
@given(seed=st.integers(0, 1 << 20))
@settings(max_examples=2)
def test_programs_with_gradients(names: tuple[str, ...], seed: int) -> None:
    with tf.Graph().as_default() as graph:
        built = control_programs.Built(tf, control_programs.program(seed))
    feeds = dict(zip(built.inputs, control_programs.inputs(seed), strict=True))
    check(graph, built.wanted, feeds, names)


@given(program=random_programs.programs(depth=2), data=st.data())
@examples(8)
def test_any_tensor_can_be_fetched_and_fed(program: random_programs.Program, data: st.DataObject) -> None:
    """What may be optimized away in one run is there when it is asked for, or given, in another."""
    built = random_programs.build(program, tf)
    graph = built.graph
    tensors = [
        tensor
        for op in graph.get_operations()
        for tensor in op.outputs
        if graph.is_fetchable(tensor) and graph.is_feedable(tensor) and not tensor.dtype._is_ref_dtype
        and tensor.dtype in (tf.int32, tf.float64) and "Initializer" not in op.name and "initial_value" not in op.name
        and not op.name.endswith("/dims")  # another shape than the static one, which others go by
    ]  # fmt: skip
    fetched = data.draw(st.sampled_from(tensors))
    fed = data.draw(st.sampled_from(tensors))
    found = []
    for config in (plain(), only(*CORE)):
        with tf.Session(graph=graph, config=config) as session:
            session.run(built.initializer)
            value = session.run(fed, built.feeds)
            feeds = {**built.feeds, fed: np.asarray(value) + np.asarray(1, fed.dtype.np_dtype)}
            found.append([value, *session.run([fetched, *built.fetches], feeds)])
    assert all(same_bits(a, b) for a, b in zip(*found, strict=True))
