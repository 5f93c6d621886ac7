"""Random programs over the whole way, from the graph as written to what runs on each device: the same as on one, bit for bit."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import random_programs
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from optimizing import same_bits
from pipeline_programs import FAMILIES, Made, Setup, alone, effects, functions, leaves, run, setups
from searches import examples

import engine as tf
from engine.passes.check import check

SEEDS = st.integers(0, 1 << 20)


def the_same(want: list[Any], got: list[Any], exact: bool) -> None:
    """The same bits; or, where a GPU took part, the same integers, and floats but for the order in which it adds."""
    for number, (one, other) in enumerate(zip(want, got, strict=True)):
        assert (one is None) == (other is None), number
        if one is None:
            continue
        a, b = np.asarray(one), np.asarray(other)
        assert a.dtype == b.dtype and a.shape == b.shape, (number, one, other)
        if exact or a.dtype.kind != "f":
            assert same_bits(a, b), (number, one, other)
        else:
            close = 1e-4 if a.dtype == np.float32 else 1e-10
            np.testing.assert_allclose(a, b, close, close, err_msg=str(number))


def well_formed(stage: Any) -> None:
    """Every stage on the way is a graph, and in the last no edge joins two devices."""
    for each in stage.chain():
        check(each)
    if len(stage.devices) > 1:
        assert stage.name == "partitioned"
        for node in stage:
            for source in [*(name for name, _ in node.inputs), *node.control_inputs]:
                assert stage.nodes[source].device == node.device, (source, node.name)


def compare(made: Made, setup: Setup) -> None:
    # The same graph: gradients are added up by device, so that another one would have another order.
    want, _ = run(made, alone())
    got, stage = run(made, setup.config())
    well_formed(stage)
    the_same(want, got, exact=not setup.gpus)


@given(random_programs.programs(), setups())
@examples(8)
def test_effects(program: random_programs.Program, setup: Setup) -> None:
    compare(effects(program, setup.device), setup)


@given(random_programs.programs(depth=2, effects=False), setups())
@examples(6)
def test_functions(program: random_programs.Program, setup: Setup) -> None:
    compare(functions(program, setup.device), setup)


@pytest.mark.parametrize(("name", "count"), [("sparse", 8), ("learning", 2)])
def test_families(name: str, count: int) -> None:
    # What fails is told by its seed: a smaller seed is no simpler program.
    @given(SEEDS, setups())
    @settings(max_examples=count, phases=[Phase.explicit, Phase.reuse, Phase.generate])
    def one(seed: int, setup: Setup) -> None:
        compare(FAMILIES[name](seed, setup.device), setup)

    one()


@pytest.mark.parametrize(
    ("name", "seed"),
    [
        ("learning", 1005),  # a ControlTrigger in a loop, all of whose inputs were in a branch never taken
        ("learning", 1018),  # an Exit that became a constant, and was taken for one inside of its loop
        ("slopes", 1004),  # pops on another device than the loop's counter
    ],
)
def test_programs_that_found_something(name: str, seed: int) -> None:
    compare(
        FAMILIES[name](seed, (setup := Setup(4, 0, "simple", True, 1, 1, None, None, seed)).device), setup
    )


@pytest.mark.slow
@pytest.mark.deep
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("name", "count"), [("sparse", 150), ("learning", 20), ("slopes", 15)])
def test_more_of_the_families(name: str, count: int) -> None:
    test_families(name, count)


@pytest.mark.slow
@pytest.mark.deep
@pytest.mark.timeout(600)
@given(random_programs.programs(depth=3), setups())
@settings(max_examples=80)
def test_more_effects(program: random_programs.Program, setup: Setup) -> None:
    compare(effects(program, setup.device), setup)


@given(random_programs.programs(depth=2), setups(), st.data())
@examples(6)
def test_any_tensor_can_be_fetched_and_fed(
    program: random_programs.Program, setup: Setup, data: st.DataObject
) -> None:
    made = effects(program, setup.device)
    graph = made.graph
    tensors = [
        tensor
        for op in graph.get_operations()
        for tensor in op.outputs
        if graph.is_fetchable(tensor) and graph.is_feedable(tensor) and not tensor.dtype._is_ref_dtype
        and tensor.dtype in (tf.int32, tf.float64) and "nitial" not in op.name
    ]  # fmt: skip
    fetched, fed = data.draw(st.sampled_from(tensors)), data.draw(st.sampled_from(tensors))
    found = []
    for config in (alone(), setup.config()):
        with tf.Session(graph=graph, config=config) as session:
            session.run(made.initializer)
            value = session.run(fed, made.feeds)
            feeds = {**made.feeds, fed: np.asarray(value) + np.asarray(1, fed.dtype.np_dtype)}
            found.append([value, *session.run([fetched, *made.fetches], feeds)])
    the_same(*found, exact=not setup.gpus)


@given(random_programs.programs(effects=False), setups(gpus=1))
@examples(4)
def test_threads_that_run_steps_of_one_session_at_once(
    program: random_programs.Program, setup: Setup
) -> None:
    made = effects(program, setup.device)
    want, _ = run(made, alone(), runs=1)
    with tf.Session(graph=made.graph, config=setup.config()) as session, ThreadPoolExecutor(4) as pool:
        session.run(made.initializer)
        found = [pool.submit(session.run, made.fetches, made.feeds) for _ in range(12)]
        for each in found:
            the_same(want, leaves([each.result(), []]), exact=not setup.gpus)
        assert not [each for each in session.resources if each.kind == "rendezvous"]
